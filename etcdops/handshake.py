"""A fresh TLS handshake with a port of etcd: what it shows, and whether it lets one in.

What lies on a disk proves little: a process reads its CAs at its start only, and its certificate from where it was
told to.  The connection is made by the member's own host, through SSH, so that no port but 22 has to be open from here.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from etcdops import layout
from etcdops.errors import HostError, NoForwarding
from etcdops.ssh import Host, Stream

LIMIT = 5.0  # seconds for one look at a port of etcd
# What is answered by every release: on the clients' port the greeting of HTTP/2, also where listen-client-http-urls has
# taken HTTP/1 away from it; on the peers' port, which has no answer to that before 3.6, HTTP/1.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
QUESTION = b"GET /version HTTP/1.0\r\n\r\n"

HUNG_UP = "it hung up"

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """The certificate (PEM) that a port shows; where there is none, the ``trouble``; ``unseen``: why none can tell.

    ``refusal``: how it does not let in who came, by an alert or by hanging up; '' where it does, or was not asked to.
    """

    certificate: str = ""
    trouble: str = ""
    unseen: str = ""
    refusal: str = ""


def look(host: Host, address: str, port: int, pair: Path) -> Served:
    """What a port shows to one who comes with ``pair``, the stem of a certificate's and its key's file."""
    return _served(host, address, port, _context(pair), enter=False)


def enter(host: Host, address: str, port: int, pair: Path, trust: str = "") -> Served:
    """The same, and whether it lets that one in; with ``trust``, PEM, what it shows must chain to a CA in there and be
    for ``address``."""
    context = _context(pair)
    if port != layout.PEER_PORT:
        context.set_alpn_protocols(["h2"])
    if trust:
        # A CA that the user brought may be an intermediate: etcd takes whatever stands in the file as a root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trust)
    return _served(host, address, port, context, enter=True)


def ask(host: Host, address: str, port: int, pair: Path, trust: str, question: bytes) -> bytes:
    """What it answers to ``question`` from one who comes with ``pair`` and trusts ``trust``; b'' where it does not.

    ``NoForwarding`` where nobody can come.  For HTTP/1, which every port of every release answers; the peers' port of
    3.5 has none for the greeting of HTTP/2.
    """
    context = _context(pair)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trust)
    try:
        with stream(host, address, port) as opened:
            tls = _Tls(opened, context, None)
            tls.step(tls.object.do_handshake)
            tls.step(lambda: tls.object.write(question))
            return tls.step(lambda: tls.object.read(65536))
    except NoForwarding:
        raise
    except (HostError, EOFError, OSError):
        return b""


@contextlib.contextmanager
def stream(host: Host, address: str, port: int) -> Iterator[Stream]:
    """A connection from the host to one of its ports."""
    opened = host.connect(address, port, LIMIT)
    try:
        yield opened
    finally:
        opened.close()


def words(error: Exception) -> str:
    """What went wrong with a connection."""
    if isinstance(error, HostError):
        return error.message
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return f"no answer within {LIMIT:g} s" if isinstance(error, TimeoutError) else str(error)


def _context(pair: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, whatever it is
    with contextlib.suppress(OSError):  # by TLS 1.3 a server shows its certificate before it asks for ours
        context.load_cert_chain(f"{pair}.pem", f"{pair}-key.pem")
    return context


def _served(host: Host, address: str, port: int, context: ssl.SSLContext, *, enter: bool) -> Served:
    shown = ""
    try:
        with stream(host, address, port) as opened:
            tls = _Tls(opened, context, address if context.check_hostname else None)
            tls.step(tls.object.do_handshake)
            shown = ssl.DER_cert_to_PEM_cert(tls.object.getpeercert(binary_form=True) or b"")
            # By TLS 1.3 the other side judges our certificate after the handshake has ended for us; a peer's is judged
            # by the address that it comes from, too, and etcd hangs up without a word.
            hello = QUESTION if port == layout.PEER_PORT else GREETING
            if enter and tls.step(lambda: tls.object.write(hello)) and not tls.step(lambda: tls.object.read(1)):
                return Served(shown, refusal=HUNG_UP)
            return Served(shown)
    except NoForwarding as error:
        return Served(unseen=error.message)
    except ssl.SSLError as error:
        if "_ALERT_" in (error.reason or ""):
            said = error.reason.partition("_ALERT_")[2].lower().replace("_", " ")
            return Served(shown, "" if shown else f"it refuses us: {said}", refusal=said)
        return Served(shown, words(error))
    except (HostError, EOFError, OSError) as error:
        if shown and not isinstance(error, TimeoutError):
            return Served(shown, refusal=HUNG_UP)
        return Served(shown, f"{HUNG_UP} in the TLS handshake" if isinstance(error, EOFError) else words(error))


class _Tls:
    """The client's side of a connection that is no socket."""

    def __init__(self, stream: Stream, context: ssl.SSLContext, name: str | None) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def step(self, work: Callable[[], T]) -> T:
        """Do ``work``, and carry bytes to and fro until it is done; ``EOFError`` where the other side hangs up."""
        while True:
            try:
                done = work()
            except ssl.SSLWantReadError:
                self._stream.sendall(self._outgoing.read())
                chunk = self._stream.recv(65536)
                if not chunk:
                    raise EOFError from None
                self._incoming.write(chunk)
            else:
                self._stream.sendall(self._outgoing.read())
                return done
