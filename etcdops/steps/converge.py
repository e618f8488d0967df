"""Gather, decide, act: the one road that deploy and each of its steps take, as far as each is to go.

A run is a loop of rounds.  The first brings the hosts to what config.yaml asks for; a member that joined in it
is recorded in a second one.  Killed anywhere and run again, it ends in the same place, since every decision comes
from what the hosts say.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from etcdops import desired, gate, guards, layout, transport
from etcdops.desired import Want
from etcdops.errors import Refused, Unhealthy
from etcdops.facts import HostFacts, gather
from etcdops.judgement import Views, judge
from etcdops.keystore import Item
from etcdops.plan import Change, Directory, File, Release, diff
from etcdops.rollout import Rollout, rollout, token
from etcdops.run import Run
from etcdops.steps import canary, delivery, turn
from etcdops.steps.service import start_members

ALL_STEPS = ("install", "distribute", "configure", "start")


@dataclass(frozen=True)
class Decision:
    """What a run is going to do: on each host, then to the members as a whole."""

    facts: Mapping[str, HostFacts]
    token: str
    changes: Mapping[str, Sequence[Change]]
    rollout: Rollout
    certificates: Sequence[Item] = field(default_factory=tuple)
    joins: Sequence[str] = ()
    restart_due: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[str]:
        """The hosts on which something is put in place."""
        return [name for name, changes in self.changes.items() if changes]

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.hosts or self.rollout.start or self.rollout.restart or self.certificates)

    def lines(self) -> dict[str, list[str]]:
        """What happens on each host, a line each; the same for --dry-run and for a real run."""
        lines: dict[str, list[str]] = {name: [str(each) for each in changes] for name, changes in self.changes.items()}
        for name, verb in self.rollout.start.items():
            lines[name].append(f"systemctl {verb} etcd")
        for name, why in self.rollout.restart.items():
            lines[name].append(f"systemctl restart etcd  ({why})")
        for name in self.joins:
            lines[name].append("once it has joined: /etc/etcd/identity.json, and initial-cluster-state existing")
        return lines

    def told(self, pki: str) -> list[str]:
        """All of it, with where it happens; ``pki``: the folder of the keys here, as config.yaml has it."""
        here = [f"here  {item.action} {pki}/{item.path}  ({item.why})" for item in self.certificates]
        return [*here, *(f"{name}  {line}" for name, lines in self.lines().items() for line in lines)]


def converge(run: Run, steps: tuple[str, ...]) -> None:
    """Bring every host to what ``steps`` ask for, and say what was done."""
    began = time.monotonic()
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = survey(run)
    decision = decide(run, facts, steps)
    if run.dry_run:
        rehearse(run, decision)
        return
    if "distribute" in steps and transport.certified(facts.values(), run.config.cluster.tls):
        delivery.issue(delivery.secured(run))
        decision = decide(run, facts, steps)
    run.decided(decision.told(run.config.pki.dir))
    _act(run, decision)
    views = _views(decision.facts)
    if "start" in steps:
        views = _settle(run, decision, steps)
    _close(run, decision, steps, views, time.monotonic() - began)


def survey(run: Run) -> dict[str, HostFacts]:
    """The facts of every host, all at once; ``HostsFailed`` when any cannot be asked, ``Refused`` when unsafe."""
    facts = run.fleet.all(gather)
    guards.check(run.config, facts)
    return facts


def decide(run: Run, facts: Mapping[str, HostFacts], steps: tuple[str, ...]) -> Decision:
    """What to do on each host and to the cluster.  Reads the PKI folder; changes nothing."""
    certificates: Sequence[Item] = ()
    if "distribute" in steps and transport.certified(facts.values(), run.config.cluster.tls):
        certificates = [item for item in _planned(run) if item.action != "keep"]
    incarnation = token(run.config, facts)
    wants = delivery.wants(run, facts, incarnation)
    _refuse_strangers(wants)
    changes = {name: diff(desired.resources(want, steps), facts[name]) for name, want in wants.items()}
    stale = {name: desired.needs_restart(want) if facts[name].is_running else "" for name, want in wants.items()}
    if steps != ALL_STEPS:
        guards.refuse(finding for fact in facts.values() for finding in guards.adopted(fact))
    if steps == ("start",):
        guards.refuse(finding for fact in facts.values() for finding in guards.unready(run.config, fact))
    if steps != ALL_STEPS:  # a step alone never restarts; it says that a restart is due
        due = {name: why for name, why in stale.items() if why and "configure" in steps}
        start = rollout(facts, {}).start if "start" in steps else {}
        return Decision(facts, incarnation, changes, Rollout(start, {}), certificates, _joins(facts, start), due)
    roll = rollout(facts, stale)
    return Decision(facts, incarnation, changes, roll, certificates, _joins(facts, roll.start))


def _refuse_strangers(wants: Mapping[str, Want]) -> None:
    """Keep a lost or foreign pki.dir from replacing the CA under a running cluster."""
    found: list[Refused] = []
    for want in wants.values():
        if want.pki:
            found += [*guards.strangers(want.facts, want.pki), *guards.unread(want.facts, want.pki)]
    guards.refuse(found)


def _joins(facts: Mapping[str, HostFacts], start: Iterable[str]) -> list[str]:
    return [name for name in start if not facts[name].identity]


def _planned(run: Run) -> list[Item]:
    now = datetime.now(UTC)
    return [*run.keystore.plan_ca(now), *run.keystore.plan_leaves(run.config.members, now)]


def rehearse(run: Run, decision: Decision) -> None:
    """Say what would be done."""
    run.decided(decision.told(run.config.pki.dir))
    if decision.empty:
        run.ui.result("nothing to do")
    delivery.look_for_archives(run, decision.facts, decision.changes)


def _act(run: Run, decision: Decision) -> None:
    """Put the changes in place; start what does not run, restart what runs with something old."""
    turns = decision.rollout.restart
    # Whoever runs the release already is asked before anything is changed; else once it lies ready.
    running = {name: each for name, each in decision.changes.items() if decision.facts[name].is_running}
    ready = [name for name in running if run.config.cluster.version in decision.facts[name].releases]
    delivery.ask(run, {name: running[name] for name in ready})
    archives = delivery.archives(run, decision.facts, decision.changes)
    lines = {name: each for name, each in decision.lines().items() if each}
    if lines:
        run.ui.step(f"Change {', '.join(lines)}")
        run.ui.changes(lines)
    # What a running member would only take up at its restart reaches its host in its turn, so that a mistake
    # meets one member and not all; a release may lie ready before.
    early = {
        name: [each for each in changes if name not in turns or _harmless(each, changes, decision.facts[name].adopted)]
        for name, changes in decision.changes.items()
    }
    delivery.push(run, early, archives)
    delivery.ask(run, {name: each for name, each in running.items() if name in turns and name not in ready})
    if decision.rollout.start:
        run.ui.step(f"Start {', '.join(decision.rollout.start)}")
        start_members(run, decision.rollout.start, [name for name, fact in decision.facts.items() if fact.has_data])
    if not turns:
        return
    with canary.alongside(run):
        for name, rest in turn.turns(run, list(turns)):
            run.ui.step(f"Restart {name} ({turns[name]})")
            late = {name: [each for each in decision.changes[name] if each not in early[name]]}
            turn.turn(run, name, rest, partial(delivery.push, run, late, {}))


def _harmless(change: Change, changes: Sequence[Change], adopted: Collection[str]) -> bool:
    """Whether a running member may get this before its turn: a release that lies ready, or pairs from the same CAs.

    Pairs must not wait: expired ones keep the gate shut that every turn begins with.  One that is still to be taken
    over has, in the same place, a certificate and a key that are two files, and changed one by one do not match.
    """
    if adopted:
        return isinstance(change.resource, Release) or change.resource == Directory(layout.RELEASES, 0o755)
    paths = {each.resource.path for each in changes if isinstance(each.resource, File)}
    pair = isinstance(change.resource, File) and change.resource.path in {layout.SERVER, layout.PEER, layout.CLIENT}
    return isinstance(change.resource, Release) or (pair and not paths & {layout.CLIENT_CA, layout.PEER_CA})


def _settle(run: Run, decision: Decision, steps: tuple[str, ...]) -> Views:
    """The whole cluster healthy; members that joined in this run recorded and so guarded."""
    views = _views(decision.facts)
    if decision.rollout.start or decision.rollout.restart or not judge(run.config, views):
        run.ui.step("Check the cluster")
        views = gate.pass_through(run)
    if decision.rollout.restart:
        gate.same_data(run, views)
    if decision.joins:
        delivery.record(run, decision.facts, views, decision.token, decision.joins, steps)
    return views


def _views(facts: Mapping[str, HostFacts]) -> Views:
    return {name: fact.view for name, fact in facts.items()}


def _close(run: Run, decision: Decision, steps: tuple[str, ...], views: Views, seconds: float) -> None:
    """The last line: what is true now."""
    done = "nothing to do" if decision.empty else "done"
    text = f"{done} in {seconds:.1f} s"
    if "start" in steps:
        verdict = judge(run.config, views)
        if not verdict:
            raise Unhealthy("; ".join(verdict.reasons), hint="inv status")
        text += f": {len(views)} members healthy, etcd {run.config.cluster.version}"
    run.ui.result(text)
    stages = {name: transport.stage(fact) for name, fact in decision.facts.items()}
    if standing := transport.standing(stages, run.config.cluster.tls):
        run.ui.line(str(standing))
    for name, why in decision.restart_due.items():
        run.ui.warn(f"{name} runs with the old configuration still ({why}); inv restart")
