"""Host: one member's machine, where shell scripts run as root, in an environment that is always the same."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from etcdops import layout
from etcdops.credentials import Credentials
from etcdops.errors import HostError, Lost, OpsError
from etcdops.ssh.session import Session, become_root, last_words, saying

if TYPE_CHECKING:
    from etcdops.ssh.link import Link, Output, Relay

T = TypeVar("T")

FENCED = 75  # how a script ends that finds the lock in other hands (files/fence.sh)
AGAIN = 1.0  # seconds for which a host that could not be reached is not tried again


@dataclass(frozen=True)
class Completed:
    """What a script gave back: exit status, output (what is not UTF-8 replaced), and how long it took."""

    rc: int
    stdout: str
    stderr: str
    seconds: float


@dataclass
class Outcome:
    """How a remote call ended; ``rc`` None: nobody knows."""

    rc: int | None = None


class Envelope(Protocol):
    """What a changing run has around each command on a host: its lock and its record."""

    @property
    def fence(self) -> str:
        """Goes before each script: it ends with ``FENCED`` on a host that another run has taken."""

    def enter(self, host: Host, session: Session) -> None:
        """Called before each command: the lock is held on this host, or an error says why not."""

    def lost(self, host: Host, told: list[str]) -> OpsError:
        """What a run whose script the fence has ended there dies of; ``told``: by whose lock, as the fence says it."""

    def call(self, host: str, what: str, args: Sequence[str] = ()) -> AbstractContextManager[Outcome]:
        """Around each remote call: ``what`` is called there, a script or something else."""

    def saw(self, host: str, digest: str) -> None:
        """What was gathered about a host."""

    def safe_point(self) -> None:
        """Called between two rounds of commands; raises where the run is to stop."""


class Stream(Protocol):
    """A connection, as a socket is one."""

    def recv(self, nbytes: int, /) -> bytes:
        """Up to so many bytes; none at its end."""

    def sendall(self, s: bytes, /) -> None:
        """All of the bytes."""

    def close(self) -> None:
        """End it."""


class Host:
    """One SSH endpoint of a member.  It connects when first used, and again if the connection was lost since."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Link],
        password: Callable[[str], str],
        limit: float,
        credentials: Credentials = Credentials(),  # noqa: B008 - frozen
        envelope: Envelope | None = None,
        key: str = "",
    ) -> None:
        """``key`` tells the machine, whatever its name."""
        self.name = name
        self.credentials = credentials
        self._connect = connect
        self._password = password
        self._limit = limit
        self._envelope = envelope
        self.key = key or name
        self._lock = threading.Lock()
        self._open: Session | None = None
        self._failed: tuple[float, HostError] | None = None  # when it could not be reached, and why

    def run(
        self,
        script: str,
        *args: str,
        stdin: bytes | Iterable[bytes] = b"",
        timeout: float | None = None,
        check: bool = True,
        relay: Relay | None = None,
    ) -> Completed:
        """Run ``sh -c SCRIPT etcdops ARGS...`` as root and wait for its end.

        ``stdin`` is streamed while output is taken, so neither can block the other; an iterable is read on another
        thread.  A script must not take the end of its stdin for the end of the data: when the connection breaks, it
        sees the same.  It should know how much to expect, or check a digest, before it puts a file in place.

        ``relay`` takes stdout and stderr as they come; the result holds none of them then.

        ``timeout`` is in seconds (else ssh.command_timeout); the host ends the script then, with all its children.
        ``HostError``: not reachable, not root, connection lost, out of time, and with ``check`` any exit status but
        0, told in the script's own last words.  Interrupted here, a script runs on there, until its time is up.
        """
        try:
            return self._run(script, args, stdin, timeout or self._limit, check, relay)
        except HostError as error:
            error.host = error.host or self.name
            raise

    def enter(self) -> None:
        """Connect, and have the lock of a changing run here."""
        session = self._opened()
        if self._envelope:
            self._envelope.enter(self, session)

    def client(
        self,
        script: str,
        *args: str,
        stdin: bytes | Iterable[bytes] = b"",
        timeout: float | None = None,
        check: bool = True,
        relay: Relay | None = None,
    ) -> Completed:
        """``run`` for a script with files/client.sh in it: who we are to etcd goes before its ``stdin``."""
        whole = self.credentials.before(stdin)
        return self.run(script, *args, stdin=whole, timeout=timeout, check=check, relay=relay)

    def open(self) -> None:
        """Connect, unless that is done: what is timed afterwards is the host's own time."""
        self._opened()

    def connect(self, address: str, port: int, timeout: float) -> Stream:
        """A connection to ``address`` from this host, such as to a port of its loopback interface.

        No wait on it takes longer than ``timeout`` seconds.  ``HostError`` where none can be made.
        """
        link = self._opened().link
        try:
            with self._call(f"tunnel {address}:{port}") as outcome:
                stream = link.tunnel(address, port, timeout)
                outcome.rc = 0
            return stream
        except HostError as error:
            error.host = error.host or self.name
            raise

    def close(self) -> None:
        """Close the connection; the next ``run`` opens another."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.link.close()

    def _run(
        self,
        script: str,
        args: tuple[str, ...],
        stdin: bytes | Iterable[bytes],
        limit: float,
        check: bool,
        relay: Relay | None,
    ) -> Completed:
        session = self._opened()
        output = self._enveloped(session, script, args, stdin, limit, relay)
        stdout, stderr = output.stdout.decode(errors="replace"), output.stderr.decode(errors="replace")
        if output.status in {124, 137, None} and output.seconds >= limit:
            raise HostError(
                f"stopped, for it took longer than {limit:g} s{saying(stderr)}",
                hint="ssh.command_timeout in config.yaml is the limit for a command",
            )
        if output.status is None:
            raise HostError(f"the command was killed by a signal{saying(stderr)}", hint="see the host's journal")
        if check and output.status != 0:
            raise HostError(last_words(stderr) or last_words(stdout) or f"exit status {output.status}, without a word")
        return Completed(output.status, stdout, stderr, output.seconds)

    def _enveloped(
        self,
        session: Session,
        script: str,
        args: Sequence[str],
        stdin: bytes | Iterable[bytes],
        limit: float,
        relay: Relay | None,
    ) -> Output:
        """``Session.execute``, within the lock and the record of a changing run."""
        envelope = self._envelope
        if envelope is None:
            return session.execute(script, args, stdin, limit, relay)
        envelope.enter(self, session)
        with envelope.call(self.name, layout.called(script), args) as outcome:
            output = session.execute(f"{envelope.fence}\n{script}", args, stdin, limit, relay)
            outcome.rc = output.status
        if output.status == FENCED and output.stderr.startswith(b"lock\t"):
            raise envelope.lost(self, output.stderr.decode(errors="replace").split("\t")[1:])
        return output

    def saw(self, digest: str) -> None:
        """What was gathered here goes on record, where there is one."""
        if self._envelope:
            self._envelope.saw(self.name, digest)

    def _call(self, what: str) -> AbstractContextManager[Outcome]:
        return self._envelope.call(self.name, what) if self._envelope else nullcontext(Outcome())

    def _opened(self) -> Session:
        with self._lock:
            if self._open is None or not self._open.link.alive:
                if self._failed and time.monotonic() - self._failed[0] < AGAIN:
                    raise copy.copy(self._failed[1])
                self._open, self._failed = self._connected(), None
            return self._open

    def _connected(self) -> Session:
        try:
            with self._call("connect") as outcome:
                link = self._connect()
                outcome.rc = 0
        except HostError as error:
            self._failed = time.monotonic(), error
            raise
        try:
            return Session(link, become_root(link, self._password, self._limit))
        except BaseException:
            link.close()
            raise


def again(work: Callable[[], T]) -> T:
    """``work``, which may be done twice; once more where the connection was lost in the midst of it."""
    try:
        return work()
    except Lost:
        return work()
