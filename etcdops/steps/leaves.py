"""rotate-certs: every leaf anew, whatever its age, without a restart; and how new leaves reach members that serve."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from etcdops import gate, handshake, layout
from etcdops.certificate import inspect
from etcdops.config import Member
from etcdops.errors import Refused, Unhealthy
from etcdops.facts import HostFacts
from etcdops.handshake import Served
from etcdops.plan import Change
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import delivery
from etcdops.steps.certificates import require_tls
from etcdops.steps.converge import decide, rehearse, survey

STEPS = ("distribute",)
AT_ONCE = 10.0  # seconds within which a member shows what lies on its disk: it reads that at each handshake


def rotate_certs(run: Run) -> None:
    """A new leaf for each role of each member, and for the operator; done when every port shows the new one.

    What says that it is under way is in pki.dir, until then: any run goes on from there, and issues none twice.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    require_tls(run)
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = survey(run)
    if not any(fact.has_data for fact in facts.values()):
        raise Refused("there is no cluster here yet", hint="inv deploy makes one, and its certificates")
    keystore = run.__dict__["keystore"] = run.keystore.to_rotate(now)
    decision = decide(run, facts, STEPS)
    if run.dry_run:
        rehearse(run, decision)
        return
    keystore.rotate(run.config.members, now)
    delivery.issue(run)
    hand_out(run, facts, decide(run, facts, STEPS).changes)
    idle = [name for name, fact in facts.items() if not fact.is_running]
    if idle:
        raise Unhealthy(
            f"the certificates are in place, and not proven: etcd does not run on {', '.join(idle)}",
            hint=f"inv start; then {run.command}, which proves them and issues no others",
        )
    keystore.rotated()
    gate.pass_through(run)
    run.ui.result(
        f"done in {time.monotonic() - began:.1f} s: every certificate is new, and both ports of "
        f"{len(facts)} members show theirs"
    )


def hand_out(run: Run, facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> None:
    """Put each member's leaves on its host, one member after the other, and see what it shows before the next one.

    A cluster that is healthy has to be so in between; one that is not may be so for want of these very leaves.
    """
    healthy = bool(gate.judge(run.config, {name: fact.view for name, fact in facts.items()}))
    for member in run.config.members:
        found = changes[member.name]
        if found:
            run.ui.step(f"Change {member.name}")
            run.ui.changes({member.name: found})
            delivery.push(run, {member.name: found}, {})
        if facts[member.name].is_running:
            shown(run, member)
        if healthy and found:
            gate.pass_through(run)


def shown(run: Run, member: Member) -> None:
    """Wait until both ports of ``member`` show, in a fresh handshake, what pki.dir has for them, and let us in.

    ``Unhealthy`` with what is amiss when they do not.
    """
    gate.until(
        run,
        lambda: run.fleet.all(lambda host: _amiss(run, member, host), [member.name])[member.name],
        lambda found: found,
        seconds=AT_ONCE,
    )


def _amiss(run: Run, member: Member, host: Host) -> list[str]:
    pki = run.keystore.member_files(member, datetime.now(UTC))
    folder = run.keystore.folder
    found = []
    for port, pair, mine, ca in (
        (layout.CLIENT_PORT, folder / "client", pki.server, pki.client_ca),
        (layout.PEER_PORT, folder / "members" / member.name / "peer", pki.peer, pki.peer_ca),
    ):
        served = handshake.enter(host, member.address, port, pair, (ca or b"").decode())
        if why := _why(served, mine.cert_pem if mine else b""):
            found.append(f"{member.name}: port {port} {why}")
    return found


def _why(served: Served, mine: bytes) -> str:
    """What is amiss with what a port has shown, '' when it is ``mine`` and lets us in."""
    if served.unseen:
        return f"cannot be seen: {served.unseen}; AllowTcpForwarding local in its sshd_config"
    if served.trouble:
        return f"shows no certificate that holds: {served.trouble}"
    if served.refusal:
        return f"does not let us in: {served.refusal}"
    if inspect(served.certificate.encode()).serial != inspect(mine).serial:
        return "shows another certificate than pki.dir has for it"
    return ""
