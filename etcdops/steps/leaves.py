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
from etcdops.pkifolder import CLIENTS, PEERS
from etcdops.plan import Change
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import delivery
from etcdops.steps.certificates import require_tls
from etcdops.steps.converge import decide, rehearse, survey

STEPS = ("distribute",)
FORWARD = "AllowTcpForwarding local in its sshd_config"
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
    keystore.rotated()
    run.ui.result(
        f"done in {time.monotonic() - began:.1f} s: every certificate is new, and both ports of "
        f"{len(facts)} members show theirs"
    )


def hand_out(run: Run, facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> None:
    """Put each member's leaves on its host; done when each shows them.

    One member after the other where the cluster is healthy, and it has to be so in between.  One that is not may be so
    for want of these very leaves, and a member without a leader answers no client: all get theirs, and are seen then.
    """
    turns = [[name] for name in changes]
    if not gate.judge(run.config, {name: fact.view.but_for_nospace() for name, fact in facts.items()}):
        turns = [list(changes)]
    for names in turns:
        due = {name: changes[name] for name in names if changes[name]}
        if due:
            run.safe_point()
            run.ui.step(f"Change {', '.join(due)}")
            run.ui.changes(due)
            delivery.push(run, due, {})
        idle = [name for name in names if not facts[name].is_running]
        if idle:
            raise Unhealthy(
                f"the certificates are in place, and not proven: etcd does not run on {', '.join(idle)}",
                hint=f"inv start; then {run.command}, which proves them and issues no others",
            )
        gate.pass_through(run, look=gate.ask_but_for_nospace)
        for name in names:
            shown(run, run.config.member(name))


def shown(run: Run, member: Member) -> None:
    """Wait until both ports of ``member`` show, in a fresh handshake, what pki.dir has for them, and let us in.

    ``Unhealthy`` with what is amiss when they do not.
    """
    gate.until(
        run,
        lambda: run.fleet.all(lambda host: amiss(run, member, host), [member.name])[member.name],
        lambda found: found,
        seconds=AT_ONCE,
    )


def amiss(run: Run, member: Member, host: Host, trust: Mapping[str, bytes] | None = None) -> list[str]:
    """What is amiss with what the ports of ``member`` show to one who comes with a pair of pki.dir: the operator's, and
    the member's own; ``trust``: the CAs of clients and of peers, where not all that pki.dir has."""
    pki = run.keystore.member_files(member, datetime.now(UTC))
    folder = run.keystore.folder
    cas = trust or {CLIENTS: pki.client_ca or b"", PEERS: pki.peer_ca or b""}
    found = []
    for port, pair, mine, stem in (
        (layout.CLIENT_PORT, folder / "client", pki.server, CLIENTS),
        (layout.PEER_PORT, folder / "members" / member.name / "peer", pki.peer, PEERS),
    ):
        served = handshake.enter(host, member.address, port, pair, cas[stem].decode())
        if why := _why(served, mine.cert_pem if mine else b""):
            found.append(f"{member.name}: port {port} {why}")
    return found


def _why(served: Served, mine: bytes) -> str:
    """What is amiss with what a port has shown, '' when it is ``mine`` and lets us in."""
    if served.unseen:
        return f"cannot be seen: {served.unseen}; {FORWARD}"
    if served.trouble:
        return f"shows no certificate that holds: {served.trouble}"
    if served.refusal:
        return f"does not let us in: {served.refusal}"
    if not mine or inspect(served.certificate.encode()).serial != inspect(mine).serial:
        return "shows another certificate than pki.dir has for it"
    return ""
