"""One hop of an upgrade or downgrade: every member, one at a time, from one release to the next stop.

All that can be asked is asked before any member stops; a member that does not come back gets its old release again,
and the run ends there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etcdops import apply, configedit, configfile, desired, gate, guards, judgement, layout
from etcdops.config import Config
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, Refused
from etcdops.etcd import View, reason
from etcdops.facts import HostFacts, gather
from etcdops.guards.release import installed
from etcdops.judgement import Views, judge
from etcdops.plan import Change, Release, diff
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.steps import auth, backup, delivery, log
from etcdops.steps.service import all_run
from etcdops.steps.turn import Retreat, turn, turns
from etcdops.translate import Translation, translate
from etcdops.versions import Hop, minor

STEPS = ("install", "configure")
FLIP = 30.0  # seconds within which the members agree on the version of the cluster; etcd looks every 4


def translated(config: Config, version: str) -> Translation:
    """The settings in the words of ``version``; within a minor they stay as they are."""
    if minor(version) == config.cluster.minor:
        return Translation(dict(config.cluster.settings))
    found = translate(config.cluster.settings, version)
    if found.problems:
        findings = [Refused(each, hint="take it out of config.yaml, if you can do without") for each in found.problems]
        raise Refused("nothing was changed", findings=findings)
    return found


def under(config: Config, version: str) -> Config:
    """``config`` for this release."""
    settings = translated(config, version).settings
    return config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"version": version, "settings": settings})}
    )


def client(run: Run, name: str, *words: str) -> str:
    """An etcdctl command on one host; ``HostError`` with its last words."""
    script = layout.script("client") + '\nclient --command-timeout=10s "$@"'
    done = run.fleet.all(lambda host: host.client(script, *words, check=False), [name])[name]
    if done.rc != 0:
        why = reason(done.stderr, done.rc)
        raise HostError(f"etcdctl {' '.join(words)}: {why}", host=name, hint="inv status")
    return done.stdout


def record(run: Run, version: str) -> None:
    """config.yaml says what runs."""
    if run.config.cluster.version == version:
        return
    replaced = translated(run.config, version).replaced
    configedit.change_release(run.config, under(run.config, version), replaced).write()
    run.__dict__["config"] = configfile.load(run.path)
    run.ui.line(f"{run.path.name} says {version} now")


@dataclass(frozen=True)
class Rolling:
    """One hop of this run."""

    run: Run
    hop: Hop

    @property
    def new(self) -> Run:
        """The run as it is for the release that comes."""
        return self.run.under(under(self.run.config, self.hop.end))

    @property
    def old(self) -> Run:
        """The run as it was for the release before."""
        return self.run.under(under(self.run.config, self.hop.start))

    def wants(self, run: Run, facts: Mapping[str, HostFacts]) -> dict[str, Want]:
        """What should be on the hosts under ``run``."""
        return delivery.wants(run, facts, token(run.config, facts))

    def changes(self, facts: Mapping[str, HostFacts], run: Run | None = None) -> dict[str, Sequence[Change]]:
        """What differs from that, in release, configuration and unit."""
        wants = self.wants(run or self.new, facts)
        return {name: diff(desired.resources(want, STEPS), facts[name]) for name, want in wants.items()}

    def carry_out(self) -> None:
        """All of it; ends with every member on the new release, and config.yaml saying so."""
        run, new, hop = self.run, self.new, self.hop
        facts = self._recovered(run.fleet.all(gather))
        changes = self.changes(facts)
        due = [name for name, fact in facts.items() if changes[name] or fact.running_version != hop.end]
        members = run.config.members
        guards.refuse(each for member in members for each in guards.room(new.config, member, facts[member.name]))
        early = {
            name: [each for each in found if isinstance(each.resource, Release)] for name, found in changes.items()
        }
        delivery.push(new, early, delivery.archives(new, facts, early))
        delivery.ask(new, changes)
        guards.refuse(self._pending(facts))
        views = gate.pass_through(run)
        self._preconditions(views, due)
        self._save(views)
        with log.renewed(run, due) if hop.renews_log else contextlib.nullcontext():
            if hop.down and hop.crosses:
                self._enable()
            views = gate.pass_through(run)
            order = sorted(due, key=lambda name: views[name].leads)
            for name, rest in turns(run, order, f"with {hop.end}"):
                holding = [each for each in rest if minor(installed(facts[each])) == minor(hop.start)]
                if hop.crosses and not holding:
                    run.ui.line(f"{name} is the last one; the way back after it: {hop.way_back}")
                run.ui.step(f"Restart {name} ({hop})")
                late = [each for each in changes[name] if each not in early[name]]
                self._turn(name, late, rest, holding)
        self._settle()
        record(run, hop.end)

    def _recovered(self, facts: Mapping[str, HostFacts]) -> Mapping[str, HostFacts]:
        """The facts, once a member that a run has left half-way, down with the new release, runs with the old one."""
        # A full quota makes none of them fallen; and of two that are down, neither may be tried on.
        down = [name for name, fact in facts.items() if not fact.view.but_for_nospace().healthy]
        alone = down if len(down) == 1 else []
        fallen = [name for name in alone if self.hop.end in {facts[name].running_version, installed(facts[name])}]
        for name in fallen:
            self.run.ui.step(f"{name} is down with {self.hop.end}: put {self.hop.start} back there")
            self._put_back(name)
        mixed = len({minor(installed(fact)) for fact in facts.values()}) > 1  # `inv start` refuses then, too
        if not fallen and (mixed or self.run.config.cluster.version != self.hop.start):
            all_run(self.run, facts, self.hop.start)
        verdict = judge(self.run.config, self.run.fleet.map(gate.ask))
        if not verdict:
            reasons = "; ".join(verdict.reasons)
            raise Refused(f"the cluster is not healthy: {reasons}", hint=verdict.ways("inv start", "inv status"))
        return self.run.fleet.all(gather) if fallen else facts

    def _pending(self, facts: Mapping[str, HostFacts]) -> Iterator[Refused]:
        """Before the first turn, what a way back would not take back."""
        if any(fact.running_version == self.hop.end for fact in facts.values()):
            return  # it is under way, and may have had to be mended to go on
        for name, want in self.wants(self.old, facts).items():
            why = desired.needs_restart(want) if facts[name].is_running else ""
            if why and why != "snapshot-count":  # which begins a log anew
                message = f"a restart would bring more than the release: {why}"
                yield Refused(message, host=name, hint="inv deploy first")

    def _preconditions(self, views: Mapping[str, Any], due: Sequence[str]) -> None:
        """What would make a member, or the cluster, unusable under the new release."""
        run, hop = self.run, self.hop
        if due and (unsafe := judgement.may_take_down(run.config, views, due[0])):
            raise Refused(
                unsafe, host=due[0], hint="with two members: inv stop, and restore a backup under the other release"
            )
        if hop.crosses and minor(hop.start) == "3.4" and not hop.down and auth.is_on(run):
            raise Refused(
                "auth is enabled, and 3.4 and 3.5 cannot read each other's log of it: no rolling upgrade",
                hint="stop all writers; inv backup, cluster.version in config.yaml, and inv restore latest",
            )
        if hop.crosses and not hop.down and minor(hop.end) in {"3.6", "3.7"}:
            ids = {status.member_id for status in judgement.voters(views).values()}
            guards.refuse(log.doomed(run, ids))

    def _save(self, views: Mapping[str, Any]) -> None:
        """A backup of the cluster as it is, proven."""
        manifest = backup.keep(self.run, views)
        self.run.ui.line(f"{manifest.file}: the backup from before")

    def _enable(self) -> None:
        """Tell the cluster, whose members then write what the older release can read."""
        run, wanted = self.run, f"{minor(self.hop.end)}.0"
        statuses = judgement.voters(run.fleet.map(gate.ask))
        if any(minor(status.version) == minor(self.hop.end) for status in statuses.values()):
            return  # it is under way, or the cluster has never gone up
        if not any(status.downgrade for status in statuses.values()):
            self._flipped(f"{minor(self.hop.start)}.0")
            name = next(iter(statuses))
            run.ui.step(f"Enable the downgrade to {minor(self.hop.end)}")
            for verb in ("validate", "enable"):
                client(run, name, "downgrade", verb, minor(self.hop.end))
        self._flipped(wanted)

    def _flipped(self, wanted: str) -> None:
        """Wait until the data of every member is of the version ``wanted``."""

        def missing(views: Views) -> Sequence[str]:
            found = {name: status.storage for name, status in judgement.voters(views).items()}
            return [
                f"{name}: its data is of {storage}, not {wanted}"
                for name, storage in found.items()
                if storage != wanted
            ]

        gate.until(self.run, lambda: self.run.fleet.map(gate.ask), missing, seconds=FLIP)

    def _turn(self, name: str, late: Sequence[Change], rest: Sequence[str], holding: Sequence[str]) -> None:
        """One member gets the new release; if it does not come back with it, the old one again.

        ``holding``: who of those that come after it has the minor from before, and so holds the version of the cluster.
        """
        start, end = self.hop.start, self.hop.end
        back = Retreat(
            brought=f"etcd {end}",
            before=f"etcd {start}",
            serves=lambda: self._serves(name, end),
            put_back=lambda: self._put_back(name),
            proof=lambda: self._came_back(name),
            stays=lambda: "" if holding else self._holds(name),
            otherwise=f"inv upgrade --to={start} calls it off" if self.hop.down else "",
        )
        turn(self.new, name, rest, lambda: delivery.push(self.new, {name: late}, {}), back)

    def _serves(self, name: str, version: str) -> bool:
        """Whether it commits, with this release."""
        view = self.run.fleet.map(gate.ask, [name])[name]
        return isinstance(view, View) and view.commits and bool(view.status and view.status.version == version)

    def _came_back(self, name: str) -> None:
        view = gate.ask(self.run.fleet[name])
        if view.status is None or view.status.version != self.hop.end:
            raise HostError(f"it runs {view.status.version if view.status else 'not'}, not {self.hop.end}")
        if unknown := log.look(self.run.fleet[name]).unknown:
            raise HostError(f"it does not know {unknown}")

    def _holds(self, name: str) -> str:
        """Why the last member may not have the old release again, '' where it may: a moment with the new one may have
        raised the cluster's version.

        An older release does not start in it ("invalid downgrade").  Certain is only what the others say of the version
        while ``name`` is stopped: their leader raises it once it has seen the new release on every member.
        """
        if self.hop.down or not self.hop.crosses or self._serves(name, self.hop.start):
            return ""
        run, others = self.run, [each for each in self.run.names if each != name]
        run.ui.step(f"Stop {name}, and ask the others whether {self.hop.end} has the cluster")
        stopped = run.fleet.map(lambda host: apply.service(host, "stop", seconds=run.patience), [name])[name]
        logs = run.fleet.map(log.look, others)
        old = [each for each in logs.values() if isinstance(each, log.Log) and each.cluster == minor(self.hop.start)]
        if others and len(old) == len(others) and not isinstance(stopped, OpsError):
            return ""
        run.fleet.map(lambda host: apply.service(host, "start", seconds=run.patience), [name])  # as it can
        return f"the cluster is one of {minor(self.hop.end)}, or may be"

    def _put_back(self, name: str) -> None:
        """The release and the configuration from before on one member."""
        run = self.old
        facts = run.fleet.all(gather)
        changes = {name: self.changes(facts, run)[name]}
        delivery.push(run, changes, delivery.archives(run, facts, changes))
        if not self._serves(name, self.hop.start):  # it was not restarted yet, where it does
            run.fleet.all(lambda host: apply.service(host, "restart", seconds=run.patience), [name])
        gate.pass_through(run, settle=gate.SETTLE)

    def _settle(self) -> None:
        """Every member on the new release, with the same data, and the cluster of its version."""
        run, hop = self.run, self.hop
        views = gate.pass_through(self.new, settle=gate.SETTLE)
        gate.same_data(run, views)
        if hop.crosses:
            log.agreed(run, minor(hop.end), FLIP)
        if hop.down:
            gate.until(run, lambda: run.fleet.map(gate.ask), _going_down, seconds=FLIP)


def _going_down(views: Views) -> Sequence[str]:
    return [
        f"{name}: the downgrade to {status.downgrade} goes on"
        for name, status in judgement.voters(views).items()
        if status.downgrade
    ]
