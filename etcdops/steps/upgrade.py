"""upgrade and downgrade: another release on every member, one at a time, with what each minor asks for around it.

Each hop is a rolling change from one release to the next stop.  All that can be asked is asked before any member
stops; a member that does not come back gets its old release again, and the run ends there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from etcdops import apply, configedit, configfile, desired, gate, guards, layout
from etcdops.config import Config
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, Refused, UsageError
from etcdops.etcd import release
from etcdops.facts import HostFacts, gather
from etcdops.flaws import flaws
from etcdops.plan import Change, File, Release, diff
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import backup, canary, delivery, log
from etcdops.steps.restart import restart_member
from etcdops.translate import Translation, translate
from etcdops.values import Version
from etcdops.versions import Hop, down, minor, up

STEPS = ("install", "configure")
FLIP = 30.0  # seconds within which the members agree on the version of the cluster; etcd looks every 4


def upgrade(run: Run, to: str, *, plan: bool) -> None:
    """Bring every member to release ``to``, by way of each minor between; with ``plan`` say how, and do nothing."""
    target = _version(to)
    facts = _survey(run)
    running = sorted(_running(facts).values(), key=release)
    if release(running[-1]) > release(target) and running[0] != running[-1]:
        ahead = ", ".join(name for name, version in _running(facts).items() if version == running[-1])
        raise Refused(f"{ahead} runs {running[-1]} already", hint=f"inv upgrade --to={running[-1]}, or inv downgrade")
    _change(run, facts, target, up(running[0], target), plan=plan)


def downgrade(run: Run, to: str, *, plan: bool) -> None:
    """Bring every member back to release ``to``, as far as etcd has a way; with ``plan`` say how, and do nothing."""
    target = _version(to)
    facts = _survey(run)
    start = max(_running(facts).values(), key=release)
    _change(run, facts, target, down(start, target), plan=plan)


def _version(text: str) -> str:
    try:
        found: str = TypeAdapter(Version).validate_python(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--to={text}: {reason}", hint="as in --to=3.6.16") from None
    return found


def _survey(run: Run) -> dict[str, HostFacts]:
    """The facts of every host; ``Refused`` with everything that speaks against any change."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = run.fleet.all(gather)
    guards.refuse(guards.beneath_an_upgrade(run.config, facts))
    if not all(fact.has_data for fact in facts.values()):
        raise Refused("there is no cluster here that could get another release", hint="inv deploy makes one")
    return facts


def _running(facts: Mapping[str, HostFacts]) -> dict[str, str]:
    """The release of each member: that of its process, or of its next start where none runs."""
    current = {name: fact.paths.get(layout.CURRENT) for name, fact in facts.items()}
    return {name: fact.running_version or getattr(current[name], "target", "") for name, fact in facts.items()}


def _change(run: Run, facts: Mapping[str, HostFacts], target: str, hops: Sequence[Hop], *, plan: bool) -> None:
    began = time.monotonic()
    _obtainable(run.config, hops)
    for hop in hops:  # what nothing can be said for in other words, before the first hop
        _under(run.config, hop.end)
    if plan or run.dry_run:
        _show(run, facts, hops, plan=plan)
        return
    done: list[dict[str, Any]] = []
    with canary.alongside(run) as bird:
        _call_off(run, target)
        for hop in hops:
            run.ui.step(f"etcd {hop}")
            Rolling(run, hop).carry_out()
            done.append(_document(run.config, hop))
    if not hops:
        _record(run, target)
    seconds = time.monotonic() - began
    what = " -> ".join([hops[0].start, *(hop.end for hop in hops)]) if hops else f"nothing to do: {target}"
    run.emit(
        {"hops": done, "seconds": round(seconds, 1), "canary": bird.report().document if bird else None},
        lambda: run.ui.result(f"etcd {what} on {len(run.names)} members, in {seconds:.1f} s"),
    )


def _obtainable(config: Config, hops: Sequence[Hop]) -> None:
    """``Refused`` where config.yaml names one archive, and several or another are needed."""
    others = [hop.end for hop in hops if hop.end != config.cluster.version]
    if not others:
        return
    if config.release.sha256:
        raise Refused(
            f"release.sha256 in {config.path.name} is of one archive, and {', '.join(others)} is needed",
            hint="take it out (the published sum is compared all the same), or correct it for one stop at a time",
        )
    if config.release.archive and "{version}" not in config.release.archive:
        raise Refused(
            f"release.archive in {config.path.name} names one archive, and {', '.join(others)} is needed",
            hint="write {version} where it has the version, and put the archives there",
        )


def _translated(config: Config, version: str) -> Translation:
    """The settings in the words of ``version``; within a minor they stay as they are."""
    if minor(version) == config.cluster.minor:
        return Translation(dict(config.cluster.settings))
    found = translate(config.cluster.settings, version)
    if found.problems:
        findings = [Refused(each, hint="take it out of config.yaml, if you can do without") for each in found.problems]
        raise Refused("nothing was changed", findings=findings)
    return found


def _under(config: Config, version: str) -> Config:
    """``config`` for this release."""
    settings = _translated(config, version).settings
    return config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"version": version, "settings": settings})}
    )


def _show(run: Run, facts: Mapping[str, HostFacts], hops: Sequence[Hop], *, plan: bool) -> None:
    def lines() -> None:
        for hop in hops:
            run.ui.result(str(hop))
            for line in _notes(run.config, hop):
                run.ui.result(f"    {line}")
        if not hops:
            run.ui.result("nothing to do")

    run.emit({"hops": [_document(run.config, hop) for hop in hops]}, lines)
    if hops and not plan:
        first = Rolling(run, hops[0])
        for name, changes in first.changes(facts).items():
            for change in changes:
                run.ui.result(f"{name}  {change}")
            if changes:
                run.ui.result(f"{name}  systemctl restart etcd  (etcd {hops[0]})")


def _notes(config: Config, hop: Hop) -> list[str]:
    """What a person should know of a hop, a line each."""
    lines = ["a backup first; then one member at a time, the leader last"]
    if hop.renews_log:
        lines.append("before, each member restarts once to begin its log anew, where it has not done so of late")
    if hop.down and hop.crosses:
        lines.append(f"etcdctl downgrade enable {minor(hop.end)}")
    lines += _translated(config, hop.end).lines
    lines += [f"{hop.end} {flaw.what}; {flaw.way_out} does not" for flaw in flaws(hop.end)]
    return [*lines, f"the way back, once all run it: {hop.way_back}"]


def _document(config: Config, hop: Hop) -> dict[str, Any]:
    return {"from": hop.start, "to": hop.end, "way_back": hop.way_back, "notes": _notes(config, hop)}


def _call_off(run: Run, target: str) -> None:
    """End a downgrade that was begun and is not wanted any more."""
    views = run.fleet.map(gate.ask)
    statuses = gate.voters(views)
    pending = {status.downgrade for status in statuses.values()} - {""}
    if pending and {status.version for status in statuses.values()} == {target}:
        run.ui.step(f"Call off the downgrade to {', '.join(pending)}")
        _client(run, next(iter(statuses)), "downgrade", "cancel")


def _client(run: Run, name: str, *words: str) -> str:
    """An etcdctl command on one host; ``HostError`` with its last words."""
    script = layout.script("client") + '\nclient --command-timeout=10s "$@"'
    done = run.fleet.all(lambda host: host.client(script, *words, check=False), [name])[name]
    if done.rc != 0:
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
        why = said[-1].removeprefix("Error: ") if said else f"etcdctl ended with {done.rc}"
        raise HostError(f"etcdctl {' '.join(words)}: {why}", host=name, hint="inv status")
    return done.stdout


def _record(run: Run, version: str) -> None:
    """config.yaml says what runs."""
    if run.config.cluster.version == version:
        return
    replaced = _translated(run.config, version).replaced
    configedit.change_release(run.config, _under(run.config, version), replaced).write()
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
        return self.run.under(_under(self.run.config, self.hop.end))

    @property
    def old(self) -> Run:
        """The run as it was for the release before."""
        return self.run.under(_under(self.run.config, self.hop.start))

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
        early = {
            name: [each for each in found if isinstance(each.resource, Release)] for name, found in changes.items()
        }
        delivery.push(new, early, delivery.archives(new, facts, early))
        self._ask(changes)
        views = gate.pass_through(run)
        self._preconditions(views, due)
        self._save(views)
        if hop.renews_log:
            log.renew(self.run)
        if hop.down and hop.crosses:
            self._enable()
        views = gate.pass_through(run)
        order = sorted(due, key=lambda name: views[name].leads)
        for name in order:
            if hop.crosses and name == order[-1]:
                run.ui.line(f"{name} is the last one; the way back after it: {hop.way_back}")
            run.ui.step(f"Restart {name} ({hop})")
            late = [each for each in changes[name] if each not in early[name]]
            self._turn(name, late, order[order.index(name) + 1 :])
        self._settle()
        _record(run, hop.end)

    def _recovered(self, facts: Mapping[str, HostFacts]) -> Mapping[str, HostFacts]:
        """The facts, once a member that a run has left half-way, down with the new release, runs with the old one."""
        fallen = [
            name
            for name, fact in facts.items()
            if not fact.view.healthy and self.hop.end in {fact.running_version, _running(facts)[name]}
        ]
        for name in fallen[:1]:
            self.run.ui.step(f"{name} is down with {self.hop.end}: put {self.hop.start} back there")
            self._put_back(name)
        reasons = gate.judge(self.run.config, self.run.fleet.map(gate.ask)).reasons
        if reasons:
            raise Refused(f"the cluster is not healthy: {'; '.join(reasons)}", hint="inv status; inv start")
        return self.run.fleet.all(gather) if fallen else facts

    def _ask(self, changes: Mapping[str, Sequence[Change]]) -> None:
        """The new etcd, on each host, about the configuration that it is going to get."""
        confs = {
            name: change.resource.content
            for name, each in changes.items()
            for change in each
            if isinstance(change.resource, File) and change.resource.path == layout.CONF
        }
        program = f"{layout.RELEASES}/{self.hop.end}/etcd"

        def ask(host: Host) -> str:
            return host.run(layout.script("accepts"), program, stdin=confs[host.name] or b"").stdout.strip()

        said = self.run.fleet.all(ask, list(confs))
        bad = [
            Refused(f"etcd {self.hop.end} does not take the configuration: {apply.explain(text)}", host=name)
            for name, text in said.items()
            if text
        ]
        if bad:
            raise Refused("no member was changed", findings=bad)

    def _preconditions(self, views: Mapping[str, Any], due: Sequence[str]) -> None:
        """What would make a member, or the cluster, unusable under the new release."""
        run, hop = self.run, self.hop
        if due and (unsafe := gate.may_take_down(run.config, views, due[0])):
            raise Refused(
                unsafe, host=due[0], hint="with two members: inv stop, and restore a backup under the other release"
            )
        if hop.crosses and minor(hop.start) == "3.4" and not hop.down and log.auth_enabled(run):
            raise Refused(
                "auth is enabled, and 3.4 and 3.5 cannot read each other's log of it: no rolling upgrade",
                hint="inv backup, cluster.version in config.yaml, and inv restore latest: seconds without service",
            )
        if hop.crosses and not hop.down and minor(hop.end) in {"3.6", "3.7"}:
            ids = {status.member_id for status in gate.voters(views).values()}
            guards.refuse(log.doomed(run, ids))

    def _save(self, views: Mapping[str, Any]) -> None:
        """A backup of the cluster as it is, proven."""
        manifest = backup.keep(self.run, views)
        self.run.ui.line(f"{manifest.file}: the backup from before")

    def _enable(self) -> None:
        """Tell the cluster, whose members then write what the older release can read."""
        run, wanted = self.run, f"{minor(self.hop.end)}.0"
        statuses = gate.voters(run.fleet.map(gate.ask))
        if any(minor(status.version) == minor(self.hop.end) for status in statuses.values()):
            return  # it is under way, or the cluster has never gone up
        if not any(status.downgrade for status in statuses.values()):
            self._flipped(f"{minor(self.hop.start)}.0")
            name = next(iter(statuses))
            run.ui.step(f"Enable the downgrade to {minor(self.hop.end)}")
            for verb in ("validate", "enable"):
                _client(run, name, "downgrade", verb, minor(self.hop.end))
        self._flipped(wanted)

    def _flipped(self, wanted: str) -> None:
        """Wait until the data of every member is of the version ``wanted``."""

        def missing(views: gate.Views) -> Sequence[str]:
            found = {name: status.storage for name, status in gate.voters(views).items()}
            return [
                f"{name}: its data is of {storage}, not {wanted}"
                for name, storage in found.items()
                if storage != wanted
            ]

        gate.until(self.run, lambda: self.run.fleet.map(gate.ask), missing, seconds=FLIP)

    def _turn(self, name: str, late: Sequence[Change], rest: Sequence[str]) -> None:
        """One member gets the new release; if it does not come back with it, the old one again."""
        begun = False

        def prepare() -> None:
            nonlocal begun
            begun = True
            log.end(self.run, name)
            delivery.push(self.new, {name: late}, {})

        try:
            restart_member(self.new, name, prepare)
            self._came_back(name)
        except OpsError as error:
            if not begun:
                raise
            inner = next(iter(getattr(error, "errors", ())), error)
            raise self._given_up(name, inner.message, rest) from None

    def _came_back(self, name: str) -> None:
        view = gate.ask(self.run.fleet[name])
        if view.status is None or view.status.version != self.hop.end:
            raise HostError(f"it runs {view.status.version if view.status else 'not'}, not {self.hop.end}")
        if unknown := log.look(self.run.fleet[name]).unknown:
            raise HostError(f"it does not know {unknown}")

    def _given_up(self, name: str, why: str, rest: Sequence[str]) -> OpsError:
        others = f"; {', '.join(rest)} not touched after it" if rest else ""
        message = f"did not come back with etcd {self.hop.end}: {why}"
        try:
            self.run.ui.step(f"Put {self.hop.start} back on {name}")
            self._put_back(name)
        except OpsError as error:
            inner = next(iter(getattr(error, "errors", ())), error)
            return HostError(
                f"{message}; and {self.hop.start}, which was put back, does not run either: {inner.message}{others}",
                host=name,
                hint="inv status; on the host: journalctl -u etcd -e",
            )
        off = f"; inv upgrade --to={self.hop.start} calls it off" if self.hop.down else ""
        return HostError(
            f"{message}; it runs {self.hop.start} again{others}",
            host=name,
            hint=f"on the host: journalctl -u etcd -e; once that is mended: {self.run.command}{off}",
        )

    def _put_back(self, name: str) -> None:
        """The release and the configuration from before on one member."""
        run = self.old
        facts = run.fleet.all(gather)
        changes = {name: self.changes(facts, run)[name]}
        delivery.push(run, changes, delivery.archives(run, facts, changes))
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


def _going_down(views: gate.Views) -> Sequence[str]:
    return [
        f"{name}: the downgrade to {status.downgrade} goes on"
        for name, status in gate.voters(views).items()
        if status.downgrade
    ]
