"""rotate-ca: new CAs in the place of the old ones, in three stages, while clients write; each stage is proven."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from etcdops import desired, gate, guards, layout, rollout, rotation
from etcdops.desired import Want
from etcdops.errors import HostError, Refused
from etcdops.facts import HostFacts, gather
from etcdops.judgement import judge
from etcdops.pkifolder import CLIENTS, PEERS
from etcdops.plan import diff
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import canary, delivery, leaves, ports
from etcdops.steps.certificates import require_tls
from etcdops.steps.converge import survey
from etcdops.steps.service import start_members
from etcdops.steps.turn import turn, turns
from etcdops.succession import NEXT, STAGES, Stage, Succession


def rotate_ca(run: Run) -> None:
    """Two new CAs, one for clients and one for peers, in the place of those in pki.dir."""
    began = time.monotonic()
    require_tls(run)
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = survey(run)
    work = Work(run)
    work.look(facts)
    lines = work.plan(facts)
    if run.dry_run:
        run.emit({"stage": work.files.stage, "plan": lines}, lambda: run.ui.result("\n".join(lines)))
        return
    run.decided(lines)
    if work.ended:
        run.confirm(
            f"the CAs of cluster {run.config.cluster.name} have ended, and nobody is let in any more: its members get "
            "new ones, and restart, all at once"
        )
    elif not work.files.stage:
        run.confirm(
            f"cluster {run.config.cluster.name} gets new CAs: its members restart twice, one at a time; every client "
            "needs the new ca.pem before the second stage, and a certificate of the new CA before the third"
        )
    retired = work.carry_out()
    seconds = time.monotonic() - began
    run.emit(
        {"stages": work.done, "retired": str(retired), "seconds": round(seconds, 1)},
        lambda: run.ui.result(
            f"done in {seconds:.1f} s: {len(run.names)} members trust the new CAs alone; the old ones are kept in "
            f"{run.config.pki.dir}/{retired.name}"
        ),
    )
    run.ui.line(
        f"clients may forget the old CA: {work.shown} holds the new one; make a new copy of {run.config.pki.dir}/"
    )


@dataclass
class Work:
    """One run of it.  ``done``: the stages that it has brought to their end, as documents.

    ``ended``: whether nobody is let in any more, for the CAs from before have ended; ``look`` finds out.
    """

    run: Run
    done: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    @cached_property
    def files(self) -> Succession:
        """Old and new CAs in pki.dir."""
        return Succession(self.run.keystore.folder, self.run.keystore.settings)

    @property
    def shown(self) -> str:
        """The file that clients get, as a person calls it."""
        return f"{self.run.config.pki.dir}/{CLIENTS}.pem"

    def look(self, facts: Mapping[str, HostFacts]) -> None:
        """``Refused`` with everything that speaks against any change."""
        run = self.run
        if not any(fact.has_data for fact in facts.values()):
            raise Refused("there is no cluster here yet", hint="inv deploy makes one, and its CAs")
        guards.refuse(finding for fact in facts.values() for finding in guards.adopted(fact))
        guards.refuse(finding for fact in facts.values() for finding in guards.plain_peers(fact))
        self.ended = self._ended(facts)
        if self.ended:
            return
        for want in self.wants(facts).values():
            if want.pki:
                guards.refuse([*guards.strangers(want.facts, want.pki), *guards.unread(want.facts, want.pki)])
        if not any(fact.is_running for fact in facts.values()):
            return  # inv stop, which two members need: they have no quorum without each other
        verdict = judge(run.config, {name: fact.view for name, fact in facts.items()})
        if not verdict:
            raise Refused(
                f"nothing was changed: {'; '.join(verdict.reasons)}",
                hint="inv status; where certificates have ended: inv rotate-certs",
            )
        guards.refuse(ports.unseen(run))

    def _ended(self, facts: Mapping[str, HostFacts]) -> bool:
        """Whether the CAs from before have ended, and the cluster does not live by the new ones yet.

        In stage 2 it may: where every member has what the new ones have issued, the end of the old ones is no matter.
        """
        if self.files.stage == "retire" or not self.files.ended(datetime.now(UTC)):
            return False
        return self.files.stage != "leaves" or bool(rotation.standing("leaves", self.wants(facts)).behind)

    def wants(self, facts: Mapping[str, HostFacts]) -> dict[str, Want]:
        """What should be on each host now."""
        return delivery.wants(self.run, facts, rollout.token(self.run.config, facts))

    def plan(self, facts: Mapping[str, HostFacts]) -> list[str]:
        """What would be done, from where it stands, a line each."""
        run, stage = self.run, self.files.stage
        pairs, cas = ", ".join((layout.SERVER, layout.PEER, layout.CLIENT)), f"{layout.CLIENT_CA}, {layout.PEER_CA}"
        order = sorted(facts, key=lambda name: facts[name].view.leads)
        lines = []
        if not stage:
            lines += [
                f"here  make {run.config.pki.dir}/{NEXT}/{stem}.pem, and have {stem}.pem hold it beside the old one"
                for stem in (CLIENTS, PEERS)
            ]
        if self.ended:
            lines += [f"{name}  {cas}, {pairs}; systemctl restart etcd" for name in order]
            stage = "retire"
        for each in STAGES[STAGES.index(stage) if stage else 0 :]:
            lines.append(f"stage {STAGES.index(each) + 1} of {len(STAGES)}: {rotation.MEANING[each]}")
            begun = each == self.files.stage and not self.ended
            left = rotation.standing(each, self.wants(facts)).behind if begun else facts
            what = pairs if each == "leaves" else f"{cas}; systemctl restart etcd"
            lines += [f"{name}  {what}" for name in order if name in left]
        return lines

    def carry_out(self) -> Path:
        """All stages from where it stands; where the old CAs are kept now."""
        run, files = self.run, self.files
        if self.ended:
            self._at_once()
        if files.stage in {"", "trust"}:
            self._watched("trust", self._trust)
            self._ask("leaves", f"every client has to trust both CAs from here on, and {self.shown} holds them")
            files.switch()
        if files.stage == "leaves":
            self._watched("leaves", self._leaves)
            self._ask(
                "retire",
                "every client has to show a certificate of the new CA from here on, and "
                f"{run.config.pki.dir}/client.pem is one; to issue others: openssl x509 -CA "
                f"{run.config.pki.dir}/{NEXT}/{CLIENTS}.pem -CAkey {run.config.pki.dir}/{CLIENTS}-key.pem",
            )
            files.drop()
        self._watched("retire", self._retire)
        return files.finish(datetime.now(UTC))

    def _ask(self, stage: Stage, what: str) -> None:
        """Before a stage that shuts out clients which are not ready for it."""
        run, number = self.run, STAGES.index(stage)
        if run.yes:
            run.ui.line(f"clients: {what}")
        run.confirm(what, otherwise=f"stage {number} of {len(STAGES)} is done, and {run.command} goes on from there")
        # The answer may have taken hours, and the lock may be another's by now: what follows is done here alone.
        if behind := rotation.standing(self.files.stage, self.wants(run.fleet.all(gather))).behind:
            raise HostError("; ".join(f"{name}: {why}" for name, why in behind.items()), hint=gate.resume(run))

    def _at_once(self) -> None:
        """The old CAs have ended: nothing that they have signed is let in, and nobody can be asked to wait for that."""
        run, files = self.run, self.files
        run.ui.step(f"New CAs for {', '.join(run.names)} at once, for the old ones have ended")
        delivery.show_items(run, files.begin(datetime.now(UTC)))
        files.switch()
        delivery.issue(run)
        facts = run.fleet.all(gather)
        wants = self.wants(facts)
        due = {name: "restart" if facts[name].is_running else "start" for name in wants if rotation.behind(wants[name])}
        delivery.push(run, {name: diff(desired.distribute(wants[name]), facts[name]) for name in due}, {})
        if due:
            run.ui.step(f"Restart {', '.join(due)}")
            start_members(run, due, [name for name in due if facts[name].has_data])
        gate.pass_through(run)
        ports.prove(run, self._chains)
        files.drop()

    def _watched(self, stage: Stage, work: Callable[[], None]) -> None:
        began, run = time.monotonic(), self.run
        run.ui.step(f"Stage {STAGES.index(stage) + 1} of {len(STAGES)}: {rotation.MEANING[stage]}")
        if not any(fact.is_running for fact in run.fleet.all(gather).values()):
            work()  # nobody could write
            bird = None
        else:
            with canary.alongside(run) as bird:
                work()
        seen = bird.report().document if bird else None
        self.done.append({"stage": stage, "seconds": round(time.monotonic() - began, 1), "canary": seen})

    def _trust(self) -> None:
        delivery.show_items(self.run, self.files.begin(datetime.now(UTC)))
        self._roll("both CAs")
        ports.prove(self.run, self._comes_in)

    def _leaves(self) -> None:
        run = self.run
        delivery.issue(run)
        facts = run.fleet.all(gather)
        changes = {name: diff(desired.distribute(want), facts[name]) for name, want in self.wants(facts).items()}
        leaves.hand_out(run, facts, changes)
        ports.prove(run, self._chains)

    def _retire(self) -> None:
        self._roll("the new CAs alone")
        ports.prove(self.run, lambda host: [*self._chains(host), *self._stays_out(host)])
        gate.same_data(self.run, gate.pass_through(self.run))

    def _roll(self, what: str) -> None:
        """Have every member read the CA files of pki.dir: one at a time, the leader last."""
        run = self.run
        delivery.issue(run)  # what else is due goes along
        facts = run.fleet.all(gather)
        wants = self.wants(facts)
        changes = {name: diff(desired.distribute(want), facts[name]) for name, want in wants.items()}
        stopped = [name for name, fact in facts.items() if not fact.is_running]
        if stopped:
            delivery.push(run, {name: changes[name] for name in stopped}, {})
            run.ui.step(f"Start {', '.join(stopped)}")
            start_members(run, dict.fromkeys(stopped, "start"), [name for name in stopped if facts[name].has_data])
        due = [name for name, want in wants.items() if name not in stopped and rotation.behind(want)]
        due.sort(key=lambda name: facts[name].view.leads)
        for name, rest in turns(run, due):
            run.ui.step(f"Restart {name} ({what})")
            turn(run, name, rest, partial(delivery.push, run, {name: changes[name]}, {}))
        wants = self.wants(run.fleet.all(gather))
        lacking = {name: left for name, want in wants.items() if (left := rotation.behind(want))}
        if lacking:
            raise HostError("; ".join(f"{name}: {left}" for name, left in lacking.items()), hint=gate.resume(run))

    def _chains(self, host: Host) -> list[str]:
        """What is amiss with what a member shows to one who trusts the new CAs alone, and comes with their pair."""
        return ports.amiss(self.run, host, {stem: self.files.new(stem).cert_pem for stem in ports.PORTS})

    def _comes_in(self, host: Host) -> list[str]:
        """What is amiss with a member that is to trust the new CAs already."""
        member = self.run.config.member(host.name)
        return [line for stem in ports.PORTS for line in ports.comes_in(member, host, stem, self.files.new(stem))]

    def _stays_out(self, host: Host) -> list[str]:
        """What is amiss with a member that is to trust the old CAs no more."""
        member = self.run.config.member(host.name)
        return [line for stem in ports.PORTS for line in ports.stays_out(member, host, stem, self.files.old(stem))]
