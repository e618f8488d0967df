"""The proof of a change of certificates, by fresh handshakes: what the ports of a member show, and whom they let in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from etcdops import atomic, gate, handshake, layout
from etcdops.certificate import PemError, inspect
from etcdops.config import Member
from etcdops.errors import Refused
from etcdops.handshake import Served
from etcdops.pkifolder import CLIENTS, PEERS
from etcdops.run import Run
from etcdops.ssh import Host

if TYPE_CHECKING:  # see keystore
    from etcdops.pki import CA

PORTS = {CLIENTS: layout.CLIENT_PORT, PEERS: layout.PEER_PORT}  # by the CA whose certificates count there
AT_ONCE = 10.0  # seconds within which a member shows what lies on its disk: it reads that at each handshake
VISIT = timedelta(hours=1)  # that a certificate is good for which is only to be shown at a port
FORWARD = "AllowTcpForwarding local in its sshd_config"


def prove(run: Run, look: Callable[[Host], list[str]], *names: str) -> None:
    """Wait until ``look`` finds nothing amiss on any of these members, else all; ``Unhealthy`` with what it finds."""
    gate.until(
        run,
        lambda: run.fleet.all(look, names or None),
        lambda found: [line for lines in found.values() for line in lines],
        seconds=AT_ONCE,
    )


def unseen(run: Run) -> list[Refused]:
    """The hosts that do not let us see what their ports show."""

    def peep(host: Host) -> Served:
        address = run.config.member(host.name).address
        return handshake.look(host, address, layout.CLIENT_PORT, run.keystore.folder / "client")

    found = {name: served.unseen for name, served in run.fleet.all(peep).items() if served.unseen}
    return [
        Refused(f"what its ports show cannot be seen: {why}", host=name, hint=FORWARD) for name, why in found.items()
    ]


def amiss(run: Run, host: Host, trust: Mapping[str, bytes] | None = None) -> list[str]:
    """What is amiss with what a member shows, which is to be what pki.dir has for it, to one who comes with a pair of
    pki.dir: the operator's, and the member's own.

    ``trust``: the CAs of clients and of peers that it has to chain to, where not just any that pki.dir has.
    """
    folder, member = run.keystore.folder, run.config.member(host.name)
    pki = run.keystore.member_files(member, datetime.now(UTC))
    cas = trust or {CLIENTS: pki.client_ca or b"", PEERS: pki.peer_ca or b""}
    found = []
    for stem, pair, mine in (
        (CLIENTS, folder / "client", pki.server),
        (PEERS, folder / "members" / member.name / "peer", pki.peer),
    ):
        served = handshake.enter(host, member.address, PORTS[stem], pair, cas[stem].decode())
        if why := _why(served, mine.cert_pem if mine else b""):
            found.append(f"{member.name}: port {PORTS[stem]} {why}")
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


def comes_in(member: Member, host: Host, stem: str, ca: CA) -> list[str]:
    """What is amiss: a port does not let in who comes with a certificate of ``ca``."""
    served = _visit(member, host, stem, ca)
    why = served.trouble or served.unseen or served.refusal
    return [f"{member.name}: port {PORTS[stem]} does not let in a certificate of the new CA: {why}"] if why else []


def stays_out(member: Member, host: Host, stem: str, ca: CA | None) -> list[str]:
    """What is amiss: a port does not refuse who comes with a certificate of ``ca``.

    Where its key is elsewhere, or it has ended, none can be made to try, and nothing is found.
    """
    if ca is None or not _issues(ca):
        return []
    served = _visit(member, host, stem, ca)
    why = served.trouble or served.unseen or "it lets it in"
    return [] if served.refusal else [f"{member.name}: port {PORTS[stem]} and a certificate of the old CA: {why}"]


def _visit(member: Member, host: Host, stem: str, ca: CA) -> Served:
    with _pair(ca, member, stem) as pair:
        return handshake.enter(host, member.address, PORTS[stem], pair)


def _issues(ca: CA) -> bool:
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
