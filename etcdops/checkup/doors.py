"""Who is let in at a member's ports: by plain http, with a certificate of the right CA, with none.

Asked as a client would, through the SSH connection of its host: what a configuration says and what a port does are two
things (etcd-operations 3.2, negative tests).
"""

from __future__ import annotations

from collections.abc import Iterator

from etcdops import handshake, layout
from etcdops.config import Config, Member
from etcdops.errors import HostError, NoForwarding
from etcdops.ssh import Host
from etcdops.transport import HTTP, HTTPS, Stage

ASK = b"GET /version HTTP/1.0\r\n\r\n"  # answered on both ports, without authentication as well


def wrong(host: Host, config: Config, member: Member, stage: Stage) -> Iterator[str]:
    """Who is let in at a member at ``stage`` and should not be, or the other way round, a line each.

    ``NoForwarding`` where nobody can knock.
    """
    folder = config.resolve(config.pki.dir)
    ports = (
        (layout.CLIENT_PORT, stage.clients, ("ca.pem",), folder / "client"),
        (layout.PEER_PORT, (stage.peers,), ("peer-ca.pem", "ca.pem"), folder / "members" / member.name / "peer"),
    )
    for port, schemes, authorities, pair in ports:
        got = {"plain http": _plainly(host, member.address, port)}
        right = {"plain http": HTTP in schemes}
        # One CA that the user has brought is that of both; without any, nothing here ever spoke https.
        ca = next((folder / each for each in authorities if (folder / each).exists()), None)
        if ca:
            for what, stem in (("a certificate", pair), ("TLS and no certificate", folder / "none")):
                got[what] = _answered(handshake.ask(host, member.address, port, stem, ca.read_text(), ASK))
                right[what] = HTTPS in schemes and stem == pair
        for who, let_in in got.items():
            if let_in != right[who]:
                yield f"port {port} {'lets' if let_in else 'does not let'} in who comes with {who}"


def _plainly(host: Host, address: str, port: int) -> bool:
    try:
        with handshake.stream(host, address, port) as line:
            line.sendall(ASK)
            answer = line.recv(65536)  # and no more: the port of peers may take 5 s to hang up
    except NoForwarding:
        raise
    except (HostError, OSError):
        return False
    return _answered(answer)


def _answered(text: bytes) -> bool:
    return text.startswith(b"HTTP/1.") and text.split(b" ", 2)[1:2] == [b"200"]
