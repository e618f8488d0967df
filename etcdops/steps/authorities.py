"""rotate-ca: new CAs in the place of the old ones, in three stages, while clients write; each stage is proven."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcdops import atomic, desired, gate, guards, handshake, layout, rollout, rotation
from etcdops.config import Member
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, Refused
from etcdops.facts import HostFacts, gather
from etcdops.handshake import Served
from etcdops.pkifolder import CLIENTS, PEERS
from etcdops.plan import Change, diff
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import canary, delivery, leaves
from etcdops.steps.certificates import require_tls
from etcdops.steps.converge import survey
from etcdops.steps.restart import restart_member
from etcdops.steps.service import start_members
from etcdops.succession import STAGES, Stage, Succession

if TYPE_CHECKING:  # see keystore
    from etcdops.pki import CA

VISIT = timedelta(hours=1)  # that a certificate is good for which is only to be shown at a port


def rotate_ca(run: Run) -> None:
    """Two new CAs, one for clients and one for peers, in the place of those in pki.dir."""
    began = time.monotonic()
    require_tls(run)
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = survey(run)
    work = Work(run)
    work.look(facts)
    if run.dry_run:
        work.rehearse(facts)
        return
    if not work.files.stage:
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
    """One run of it.  ``done``: the stages that it has brought to their end, as documents."""

    run: Run
    done: list[dict[str, Any]] = field(default_factory=list)

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
        for want in self.wants(facts).values():
            if want.pki:
                guards.refuse([*guards.strangers(want.facts, want.pki), *guards.unread(want.facts, want.pki)])
        if not any(fact.is_running for fact in facts.values()):
            return  # inv stop, which two members need: they have no quorum without each other
        verdict = gate.judge(run.config, {name: fact.view for name, fact in facts.items()})
        if not verdict:
            raise Refused(
                f"nothing was changed: {'; '.join(verdict.reasons)}",
                hint="inv status; where certificates have ended: inv rotate-certs",
            )
        blind = {name: each.unseen for name, each in run.fleet.all(self._peep).items() if each.unseen}
        guards.refuse(
            Refused(f"what its ports show cannot be seen: {why}", host=name, hint=leaves.FORWARD)
            for name, why in blind.items()
        )

    def _peep(self, host: Host) -> Served:
        address = self.run.config.member(host.name).address
        return handshake.look(host, address, layout.CLIENT_PORT, self.run.keystore.folder / "client")

    def wants(self, facts: Mapping[str, HostFacts]) -> dict[str, Want]:
        """What should be on each host now."""
        return delivery.wants(self.run, facts, rollout.token(self.run.config, facts))

    def rehearse(self, facts: Mapping[str, HostFacts]) -> None:
        """Say what would be done, from where it stands."""
        run, stage = self.run, self.files.stage
        show = run.ui.result
        if not stage:
            for stem in (CLIENTS, PEERS):
                show(f"here  make {run.config.pki.dir}/next/{stem}.pem, and have {stem}.pem hold it beside the old one")
        order = sorted(facts, key=lambda name: facts[name].view.leads)
        for each in STAGES[STAGES.index(stage) if stage else 0 :]:
            show(f"stage {STAGES.index(each) + 1} of {len(STAGES)}: {rotation.MEANING[each]}")
            left = rotation.standing(each, self.wants(facts)).behind if each == stage else dict.fromkeys(order, "")
            for name in order:
                if name in left and each == "leaves":
                    show(f"{name}  {layout.SERVER}, {layout.PEER}, {layout.CLIENT}")
                elif name in left:
                    show(f"{name}  {layout.CLIENT_CA}, {layout.PEER_CA}; systemctl restart etcd")

    def carry_out(self) -> Path:
        """All stages from where it stands; where the old CAs are kept now."""
        run, files, now = self.run, self.files, datetime.now(UTC)
        if files.stage in {"", "trust"}:
            delivery.show_items(run, files.begin(now))
            self._watched("trust", self._trust)
            self._ask(f"every client has to trust both CAs from here on, and {self.shown} holds them")
            files.switch()
        if files.stage == "leaves":
            self._watched("leaves", self._leaves)
            self._ask(
                "every client has to show a certificate of the new CA from here on, and "
                f"{run.config.pki.dir}/client.pem is one"
            )
            files.drop()
        self._watched("retire", self._retire)
        return files.finish(datetime.now(UTC))

    def _ask(self, what: str) -> None:
        """Before a stage that shuts out clients which are not ready for it."""
        self.run.ui.line(f"clients: {what}")
        self.run.confirm(what)

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
        self._roll("both CAs")
        self._prove(lambda host: self._visits(host, new=True))

    def _leaves(self) -> None:
        run = self.run
        delivery.issue(run)
        facts = run.fleet.all(gather)
        changes = {name: diff(desired.distribute(want), facts[name]) for name, want in self.wants(facts).items()}
        leaves.hand_out(run, facts, changes)
        self._prove(self._chains)

    def _retire(self) -> None:
        self._roll("the new CAs alone")
        self._prove(lambda host: [*self._chains(host), *self._visits(host, new=False)])
        gate.same_data(self.run, gate.pass_through(self.run))

    def _roll(self, what: str) -> None:
        """Have every member read the CA files of pki.dir: one at a time, the leader last."""
        run = self.run
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
        for name in due:
            run.ui.step(f"Restart {name} ({what})")
            self._turn(name, changes[name], due[due.index(name) + 1 :])
        wants = self.wants(run.fleet.all(gather))
        lacking = {name: left for name, want in wants.items() if (left := rotation.behind(want))}
        if lacking:
            raise HostError("; ".join(f"{name}: {left}" for name, left in lacking.items()), hint=gate.resume(run))

    def _turn(self, name: str, changes: Sequence[Change], rest: Sequence[str]) -> None:
        """One member; one that stays away ends the run."""
        run, begun = self.run, False

        def prepare() -> None:
            nonlocal begun
            begun = True
            delivery.push(run, {name: changes}, {})

        try:
            restart_member(run, name, prepare)
        except OpsError as error:
            if not begun:  # the gate before it stayed shut: nothing was done to this member
                raise
            inner = next(iter(getattr(error, "errors", ())), error)
            others = f"; {', '.join(rest)} not touched after it" if rest else ""
            raise HostError(
                f"{inner.message}{others}",
                host=name,
                hint=f"the others serve, with both CAs; journalctl -u etcd -e there, then {run.command}",
            ) from None

    def _prove(self, look: Callable[[Host], list[str]]) -> None:
        """Wait until nothing is amiss on any member; ``Unhealthy`` with what is."""
        gate.until(
            self.run,
            lambda: self.run.fleet.all(look),
            lambda found: [line for lines in found.values() for line in lines],
            seconds=leaves.AT_ONCE,
        )

    def _chains(self, host: Host) -> list[str]:
        """What is amiss with what a member shows to one who trusts the new CAs alone, and comes with their pair."""
        trust = {stem: self.files.new(stem).cert_pem for stem in (CLIENTS, PEERS)}
        return leaves.amiss(self.run, self.run.config.member(host.name), host, trust)

    def _visits(self, host: Host, *, new: bool) -> list[str]:
        """What is amiss with whom a member lets in: who comes with a certificate of the new CAs, and nobody with one of
        the old.  Where the key of an old CA is elsewhere, none can be made to try."""
        member = self.run.config.member(host.name)
        found = []
        for stem, port in ((CLIENTS, layout.CLIENT_PORT), (PEERS, layout.PEER_PORT)):
            ca = self.files.new(stem) if new else self.files.old(stem)
            if ca is None or not _issues(ca):
                continue
            with _pair(ca, member, stem) as pair:
                served = handshake.enter(host, member.address, port, pair)
            if not served.certificate or (new and served.refusal):
                found.append(f"{member.name}: port {port}: {served.trouble or served.unseen or served.refusal}")
            elif not new and not served.refusal:
                found.append(f"{member.name}: port {port} lets in who comes with a certificate of the old CA")
        return found


def _issues(ca: CA) -> bool:
    from etcdops.certificate import PemError

    try:
        ca.issuer(datetime.now(UTC))
    except PemError:
        return False
    return True


@contextmanager
def _pair(ca: CA, member: Member, stem: str) -> Iterator[Path]:
    """The stem of the files of a certificate that is good for nothing but to be shown, for a moment."""
    from etcdops.pki import LeafRequest

    request = LeafRequest("peer", member.name, (member.address,)) if stem == PEERS else LeafRequest("client", "nobody")
    leaf = ca.issue(request, "ecdsa-p256", VISIT, datetime.now(UTC))
    with tempfile.TemporaryDirectory(prefix="etcdops-") as folder:
        path = Path(folder) / "visitor"
        atomic.write(
            [
                atomic.NewFile(path.with_name("visitor.pem"), leaf.cert_pem, 0o600),
                atomic.NewFile(path.with_name("visitor-key.pem"), leaf.key_pem, 0o600),
            ]
        )
        yield path
