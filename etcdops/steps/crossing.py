"""The way of a cluster from one stage of its transport to another: each pass restarts every member once, in its turn.

Where a member is, its own process tells, and how the others dial it, the member list: so a run goes on from wherever
another has ended, and a member that does not come back is put to where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from etcdops import apply, configedit, configfile, desired, gate, guards, layout, succession, transport
from etcdops.checkup import doors
from etcdops.desired import Want
from etcdops.errors import NoForwarding, Refused
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts, gather
from etcdops.judgement import judge
from etcdops.keystore import Item
from etcdops.plan import Change, diff
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import canary, delivery, schedule
from etcdops.steps import membership as cluster
from etcdops.steps.canary import Canary
from etcdops.steps.turn import Retreat, turn, turns
from etcdops.transport import HTTP, HTTPS, Pass, Stage

Facts = Mapping[str, HostFacts]


@dataclass(frozen=True)
class Outcome:
    """What has come of it: where the members are, how many restarts it took, and what a canary has to report."""

    stages: Mapping[str, Stage]
    restarts: int = 0
    seconds: float = 0.0
    canary: dict[str, object] | None = None


@dataclass(frozen=True)
class Crossing:
    """The way of this run's cluster to ``goal``, from where its hosts are."""

    run: Run
    goal: Stage
    facts: Facts
    fallen: str = ""  # the member that a run has left down, half-way

    @classmethod
    def plan(cls, run: Run, goal: Stage) -> Crossing:
        """Look at every host; ``Refused`` with all that speaks against any change."""
        run.ui.step(f"Look at {', '.join(run.names)}")
        facts = _gather(run)
        guards.refuse(guards.beneath_a_crossing(run.config, facts))
        crossing = cls(run, goal, facts, _fallen(run, facts))
        guards.refuse([*crossing._chancy(), *crossing._rotating(), *crossing._pending(), *crossing._strangers()])
        if run.config.cluster.tls != crossing.tls:
            configedit.change_tls(run.config, crossing.tls)  # says now what would keep it from being written
        if len(run.names) == 2 and crossing.passes:
            raise Refused(
                "of two members none can be restarted while the other serves",
                hint="stop all writers; inv backup, the other cluster.tls in config.yaml, inv restore latest",
            )
        return crossing

    @property
    def tls(self) -> bool:
        """What config.yaml says in the end."""
        return self.goal >= Stage.PEERS

    @property
    def stages(self) -> dict[str, Stage]:
        """Where each member is."""
        found = {name: transport.stage(fact) for name, fact in self.facts.items()}
        return {name: stage for name, stage in found.items() if stage is not None}

    @property
    def passes(self) -> list[Pass]:
        """What is still to be done."""
        return transport.way(self.stages, self.goal)

    def make(self) -> Outcome | None:
        """All of it; None where it was only to be shown."""
        began = time.monotonic()
        if self.run.decided(self._lines() or ["nothing to do"]):
            return None
        here = self._recovered()._mended()
        if here._done:
            return Outcome(here.stages)
        here._certify()
        restarts = 0
        with canary.alongside(here.run, (_spoken(here.stages, here.tls), HTTPS if here.tls else HTTP)) as bird:
            for stage in dict.fromkeys((Stage.BOTH, here.goal)):
                here = here._again()
                order = here._order(next((each.due for each in here.passes if each.stage is stage), ()))
                for name, rest in turns(here.run, order, f"with {stage}"):
                    here._turn(name, stage, rest)
                if order or stage is here.goal:
                    here = here._again()
                    here._prove()
                if stage is Stage.BOTH:
                    here._turn_over(bird)
                restarts += len(order)
            gate.same_data(here.run, gate.pass_through(here.run))
        seconds = time.monotonic() - began
        return Outcome(here.stages, restarts, seconds, bird.report().document if bird else None)

    def _again(self) -> Crossing:
        """The same from where the hosts are now."""
        return replace(self, facts=_gather(self.run))

    # Before

    def _chancy(self) -> Iterator[Refused]:
        """A release that cannot be between plain http and TLS."""
        version = self.run.config.cluster.version
        if any(each.stage in {Stage.BOTH, Stage.PEERS} for each in self.passes) and not transport.serves_both(version):
            yield Refused(
                f"with etcd {version} each start of a member decides by chance whether it answers by http beside https",
                hint="inv upgrade first: 3.4.25, 3.5.8 and newer ones do; or stop all writers; inv "
                "backup, the other cluster.tls in config.yaml, inv restore latest",
            )

    def _rotating(self) -> Iterator[Refused]:
        """One change of what members trust at a time."""
        if succession.stage(self.run.config.resolve(self.run.config.pki.dir)):
            yield Refused("a rotation of the CAs is under way", hint="inv rotate-ca finishes it")

    def _pending(self) -> Iterator[Refused]:
        """Members that run with something older than config.yaml has: one change at a time, or none is taken back."""
        for name, stage in self.stages.items():
            want = self._want(name, stage)
            if self.facts[name].is_running and (why := desired.needs_restart(want)):
                yield Refused(
                    f"a restart would bring more than the transport: {why}", host=name, hint="inv deploy first"
                )

    def _strangers(self) -> Iterator[Refused]:
        """A pki.dir of another cluster; what lies unused on the hosts of a plain one is replaced."""
        if self.tls:
            for want in (self._want(name, stage) for name, stage in self.stages.items() if stage):
                yield from guards.strangers(want.facts, want.pki) if want.pki else ()

    @property
    def _done(self) -> bool:
        run = self.run
        return not self.passes and run.config.cluster.tls == self.tls and not self._reschedules()

    def _lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        run, now = self.run, dict(self.stages)
        lines = [f"here  {item.action} {run.config.pki.dir}/{item.path}  ({item.why})" for item in self._items()]
        lines += [f"{name}  {change}" for name, changes in self._certificates().items() for change in changes]
        if self.fallen:
            lines.append(f"{self.fallen}  is down half-way, and goes back first")
        for each in self.passes:
            for name in self._order(each.due):
                if each.stage.peers != now[name].peers:
                    lines.append(f"{name}  etcdctl member update --peer-urls={self._url(name, each.stage)}")
                lines.append(f"{name}  {layout.CONF}  ({each.stage})")
                lines.append(f"{name}  systemctl restart etcd")
                now[name] = each.stage
        lines += [f"{name}  {change}" for name, changes in self._reschedules().items() for change in changes]
        if run.config.cluster.tls != self.tls:
            lines.append(f"here  {run.path.name}: cluster.tls: {str(self.tls).lower()}")
        return lines

    def _recovered(self) -> Crossing:
        """With a member up again that a run has left down, at the stage that it came from."""
        if not self.fallen:
            return self
        others = [fact for name, fact in self.facts.items() if name != self.fallen]
        back = transport.origin(self.facts[self.fallen], others)
        assert back is not None  # or it would not be the one
        self.run.ui.step(f"{self.fallen} is down half-way: put it back to {back}")
        self._put_back(self.fallen, back)
        return replace(self._again(), fallen="")

    def _mended(self) -> Crossing:
        """With every member dialled as it listens, and what it runs with on its disk: a run may have ended between."""
        torn = [name for name, fact in self.facts.items() if transport.is_torn(fact)]
        for name in torn:
            self._announce(name, self.stages[name])
        changes = {
            name: self._changes(name, stage)
            for name, stage in self.stages.items()
            if transport.of_settings(self.facts[name].conf) != stage
        }
        delivery.push(self.run, changes, {})
        return self._again() if torn or changes else self

    def _items(self) -> list[Item]:
        if not self.tls:
            return []
        now, keystore = datetime.now(UTC), self.run.keystore
        items = [*keystore.plan_ca(now), *keystore.plan_leaves(self.run.config.members, now)]
        return [item for item in items if item.action != "keep"]

    def _certificates(self) -> dict[str, tuple[Change, ...]]:
        """What each host needs before it can speak https; nothing of it concerns who speaks http alone."""
        if not self.tls:
            return {}
        wants = {name: self._want(name, Stage.BOTH) for name in self.facts}
        return {name: diff(desired.resources(want, ("distribute",)), want.facts) for name, want in wants.items()}

    def _certify(self) -> None:
        if self.tls:
            delivery.issue(delivery.secured(self.run))
        changes = self._certificates()
        if names := [name for name, each in changes.items() if each]:
            self.run.ui.step(f"Copy certificates to {', '.join(names)}")
            delivery.push(self.run, changes, {})

    # One member

    def _order(self, due: Sequence[str]) -> list[str]:
        return sorted(due, key=lambda name: self.facts[name].view.leads)

    def _turn(self, name: str, stage: Stage, rest: Sequence[str]) -> None:
        """Bring one member to ``stage``; if it does not come back, to where it was, and end there."""
        before, changes = self.stages[name], self._changes(name, stage)

        def prepare() -> None:
            self._announce(name, stage)
            delivery.push(self.run, {name: changes}, {})

        back = Retreat(
            brought=str(stage),
            before=str(before),
            serves=lambda: self._serves(name, stage),
            put_back=lambda: self._put_back(name, before),
        )
        self.run.ui.step(f"Restart {name} ({stage})")
        turn(self.run, name, rest, prepare, back)

    def _serves(self, name: str, stage: Stage) -> bool:
        """Whether it commits, with the transport ``stage``."""
        fact = self.run.fleet.map(_look, [name])[name]
        return isinstance(fact, HostFacts) and fact.view.commits and transport.stage(fact) is stage

    def _put_back(self, name: str, stage: Stage) -> None:
        alone = len(self.run.names) == 1
        if not alone:
            self._announce(name, stage)
        facts = self.run.fleet.all(_look, [name])
        changes = replace(self, facts={**self.facts, **facts})._changes(name, stage)
        delivery.push(self.run, {name: changes}, {})
        if not self._serves(name, stage):  # it was not restarted yet, where it does
            self.run.fleet.all(lambda host: apply.service(host, "restart", seconds=self.run.patience), [name])
        if alone:
            self._announce(name, stage)
        gate.pass_through(self.run, look=gate.ask_but_for_nospace, settle=gate.SETTLE)

    def _announce(self, name: str, stage: Stage) -> None:
        """Tell the members how to dial ``name``."""
        url, id_ = self._url(name, stage), int(self.facts[name].identity["member_id"], 16)
        done = lambda members: _listed(members, id_) == (url,)  # noqa: E731
        others = [each for each in self.run.names if each != name] or [name]
        words = ("update", f"{id_:x}", f"--peer-urls={url}")
        cluster.change(self.run, others, words, done, f"does not take {url} for {name}")

    def _url(self, name: str, stage: Stage) -> str:
        return self.run.config.member(name).url(stage.peers, layout.PEER_PORT)

    def _want(self, name: str, stage: Stage) -> Want:
        run, facts = delivery.secured(self.run), {name: self.facts[name]}
        pki = bool(stage) or self.tls
        known = delivery.wants(run if pki else self.run, facts, token(run.config, self.facts))
        return replace(known[name], stage=stage)

    def _changes(self, name: str, stage: Stage) -> tuple[Change, ...]:
        return diff(desired.resources(self._want(name, stage), ("configure",)), self.facts[name])

    # All of them

    def _turn_over(self, bird: Canary | None) -> None:
        """All speak both: from here on config.yaml, the members' own backups and the canary speak the new one."""
        run = self.run
        delivery.push(run, self._reschedules(), {})
        if run.config.cluster.tls != self.tls:
            configedit.change_tls(run.config, self.tls).write()
            run.__dict__["config"] = configfile.load(run.path)
            run.ui.line(f"{run.path.name} says cluster.tls: {str(self.tls).lower()} now")
        if bird:
            bird.change_over()

    def _reschedules(self) -> dict[str, tuple[Change, ...]]:
        """The members' own backups, where there are any, by the scheme that is to be."""
        wanted = schedule.resources(delivery.secured(self.run, self.tls).config)
        units = [each for each in wanted if getattr(each, "path", "") == layout.BACKUP_SERVICE]
        scheduled = {name: fact for name, fact in self.facts.items() if layout.BACKUP_SERVICE in fact.paths}
        found = {name: diff(units, fact) for name, fact in scheduled.items()}
        return {name: changes for name, changes in found.items() if changes}

    def _prove(self) -> None:
        """Each port lets in whom it should, and nobody else; a busy one is given time to answer."""
        run, config = self.run, self.run.config
        run.ui.step("Knock at every port: with a certificate, without one, by plain http")
        mute: dict[str, str] = {}

        def knock(host: Host) -> list[str]:
            try:
                return [*doors.wrong(host, config, config.member(host.name), self.stages[host.name])]
            except NoForwarding as error:
                mute[host.name] = error.message
                return []

        def bad(said: Mapping[str, list[str]]) -> Sequence[str]:
            return [f"{name}: {each}" for name, found in said.items() for each in found]

        gate.until(run, lambda: run.fleet.all(knock), bad)
        for name, why in mute.items():
            run.ui.warn(f"{name}: its ports could not be tried: {why}")


def _spoken(stages: Mapping[str, Stage], tls: bool) -> str:
    """What the canary speaks first: the old scheme, until all members speak the new one, or that."""
    new, old = (HTTPS, HTTP) if tls else (HTTP, HTTPS)
    return new if all(new in stage.clients for stage in stages.values()) else old


def _gather(run: Run) -> dict[str, HostFacts]:
    return run.fleet.all(_look)


def _look(host: Host) -> HostFacts:
    return gather(host, layout.BACKUP_SERVICE)


def _fallen(run: Run, facts: Facts) -> str:
    """The one member that is down because a run has left it half-way, '' for none; ``Refused`` where any is down
    for another reason, or the cluster cannot spare it."""
    views = {name: fact.view.but_for_nospace() for name, fact in facts.items()}
    verdict = judge(run.config, views)
    if verdict:
        return ""
    down = [name for name, view in views.items() if not view.healthy]
    if len(down) == 1:
        others = [fact for name, fact in facts.items() if name not in down]
        if transport.origin(facts[down[0]], others) is not None:
            return down[0]
    raise Refused(f"the cluster is not healthy: {'; '.join(verdict.reasons)}", hint="inv status; inv start")


def _listed(members: Sequence[ClusterMember], id_: int) -> tuple[str, ...]:
    return next((each.peer_urls for each in members if each.id == id_), ())
