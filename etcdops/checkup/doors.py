"""Who is let in at a member's ports: by plain http, with a certificate of the right CA, with none.

Asked as a client would, through the SSH connection of its host: what a configuration says and what a port does are two
things (etcd-operations 3.2, negative tests).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etcdops import layout
from etcdops.checkup.exam import stream
from etcdops.config import Config, Member
from etcdops.errors import HostError
from etcdops.ssh import Host, NoForwarding, Stream
from etcdops.transport import HTTP, HTTPS, Stage

ASK = b"GET /version HTTP/1.0\r\n\r\n"  # answered on both ports, without authentication as well


@dataclass(frozen=True)
class Caller:
    """Somebody who knocks: ``what`` he comes with, and whether he should be let in."""

    port: int
    what: str
    expected: bool
    context: ssl.SSLContext | None = None  # None: plain http


def callers(config: Config, member: Member, stage: Stage) -> list[Caller]:
    """Everybody who is to be tried on a member at ``stage``, with the certificates of pki.dir."""
    folder = config.resolve(config.pki.dir)
    ports = (
        (layout.CLIENT_PORT, stage.clients, folder / "ca.pem", folder / "client"),
        (layout.PEER_PORT, (stage.peers,), folder / "peer-ca.pem", folder / "members" / member.name / "peer"),
    )
    found = []
    for port, schemes, ca, pair in ports:
        found.append(Caller(port, "plain http", HTTP in schemes))
        if (folder / "ca.pem").exists():  # a CA that the user has brought is that of both
            trusted = ca if ca.exists() else folder / "ca.pem"
            found.append(Caller(port, "a certificate", HTTPS in schemes, _context(trusted, pair)))
            found.append(Caller(port, "TLS and no certificate", False, _context(trusted, None)))
    return found


def wrong(host: Host, config: Config, member: Member, stage: Stage) -> Iterator[str]:
    """Who is let in and should not be, or the other way round, a line each; ``NoForwarding``: nobody can knock."""
    for caller in callers(config, member, stage):
        got = _lets_in(host, member.address, caller)
        if got != caller.expected:
            yield f"port {caller.port} {'lets' if got else 'does not let'} in who comes with {caller.what}"


def _lets_in(host: Host, address: str, caller: Caller) -> bool:
    try:
        with stream(host, address, caller.port) as line:
            answer = _plainly(line) if caller.context is None else _securely(line, caller.context)
    except NoForwarding:
        raise
    except (HostError, OSError):  # ssl.SSLError is one
        return False
    return answer.startswith(b"HTTP/1.") and answer.split(b" ", 2)[1] == b"200"


def _plainly(line: Stream) -> bytes:
    line.sendall(ASK)
    return line.recv(65536)  # and no more: the port of peers may take 5 s to hang up


def _securely(line: Stream, context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    asked = False
    while True:
        try:
            if not asked:
                tls.do_handshake()
                tls.write(ASK)
                asked = True
            return tls.read(65536)
        except ssl.SSLWantReadError:
            line.sendall(outgoing.read())
            chunk = line.recv(65536)
            if not chunk:
                raise OSError("it hung up") from None
            incoming.write(chunk)


def _context(ca: Path, pair: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False  # which names a certificate has is doctor's matter
    if pair:
        context.load_cert_chain(f"{pair}.pem", f"{pair}-key.pem")
    return context
