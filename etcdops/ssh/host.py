"""Host: one member's machine, where shell scripts run as root, in an environment that is always the same."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from etcdops.credentials import Credentials
from etcdops.errors import HostError

if TYPE_CHECKING:
    from etcdops.ssh.link import Link, Relay

# Nothing is inherited: a proxy variable sends etcdctl's requests astray, an ETCD_* variable changes what etcd does.
ENVIRONMENT = (
    "env",
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C",
)
KILL_AFTER = 5  # seconds between SIGTERM and SIGKILL, where a script does not heed the first
GRACE = 2.0  # seconds longer that we wait than the host does, for its word that time is up
LONGEST = 128 * 1024 - 1  # bytes: Linux takes no longer single argument (MAX_ARG_STRLEN), and sshd makes it one

SUDO = ("env", "LC_ALL=C", "sudo")
PROBE = "id -u; command -v sudo >/dev/null || exit 127; LC_ALL=C sudo -n -- env true"


@dataclass(frozen=True)
class Completed:
    """What a script gave back: exit status, output (what is not UTF-8 replaced), and how long it took."""

    rc: int
    stdout: str
    stderr: str
    seconds: float


class NoForwarding(HostError):
    """The host's sshd makes no connections for us."""


class Stream(Protocol):
    """A connection, as a socket is one."""

    def recv(self, nbytes: int, /) -> bytes:
        """Up to so many bytes; none at its end."""

    def sendall(self, s: bytes, /) -> None:
        """All of the bytes."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Root:
    """How a command becomes root's: what stands before it, and the password that sudo reads first."""

    prefix: tuple[str, ...] = ()
    password: bytes = b""

    def feed(self, stdin: bytes | Iterable[bytes]) -> bytes | Iterable[bytes]:
        """``stdin`` with the password before it, where there is one."""
        if not self.password:
            return stdin
        return _chain(self.password, (stdin,) if isinstance(stdin, bytes) else stdin)


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class Host:
    """One SSH endpoint of a member.  It connects when first used, and again if the connection was lost since."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Link],
        password: Callable[[str], str],
        limit: float,
        credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    ) -> None:
        self.name = name
        self.credentials = credentials
        self._connect = connect
        self._password = password
        self._limit = limit
        self._lock = threading.Lock()
        self._open: tuple[Link, Root] | None = None

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
        link, _ = self._opened()
        try:
            return link.tunnel(address, port, timeout)
        except HostError as error:
            error.host = error.host or self.name
            raise

    def close(self) -> None:
        """Close the connection; the next ``run`` opens another."""
        opened, self._open = self._open, None
        if opened is not None:
            opened[0].close()

    def _run(
        self,
        script: str,
        args: tuple[str, ...],
        stdin: bytes | Iterable[bytes],
        limit: float,
        check: bool,
        relay: Relay | None,
    ) -> Completed:
        tail = [*ENVIRONMENT, "timeout", "-k", str(KILL_AFTER), f"{limit:.3f}", "sh", "-c", script, "etcdops", *args]
        link, root = self._opened()
        command = f"exec {shlex.join([*root.prefix, *tail])}".encode("utf-8", "surrogateescape")  # as os.fsencode
        if b"\0" in command or len(command) > LONGEST:
            raise ValueError(f"a script and its arguments hold no NUL and take {LONGEST} bytes; data goes to stdin")
        output = link.execute(command, root.feed(stdin), limit + GRACE, relay)
        stdout, stderr = output.stdout.decode(errors="replace"), output.stderr.decode(errors="replace")
        if output.status in {124, 137, None} and output.seconds >= limit:
            raise HostError(
                f"stopped, for it took longer than {limit:g} s{_said(stderr)}",
                hint="ssh.command_timeout in config.yaml is the limit for a command",
            )
        if output.status is None:
            raise HostError(f"the command was killed by a signal{_said(stderr)}", hint="see the host's journal")
        if check and output.status != 0:
            raise HostError(_words(stderr) or _words(stdout) or f"exit status {output.status}, without a word")
        return Completed(output.status, stdout, stderr, output.seconds)

    def _opened(self) -> tuple[Link, Root]:
        with self._lock:
            if self._open is None or not self._open[0].alive:
                link = self._connect()
                try:
                    self._open = link, self._become_root(link)
                except BaseException:
                    link.close()
                    raise
            return self._open

    def _become_root(self, link: Link) -> Root:
        if link.user == "root":
            return Root()
        probe = link.execute(f"exec sh -c {shlex.quote(PROBE)}", b"", self._limit)
        words, errors = probe.stdout.split(), probe.stderr.decode(errors="replace")
        if not words or not words[-1].isdigit():
            raise HostError(
                f"{link.user} cannot run commands here{_said(errors or probe.stdout.decode(errors='replace'))}",
                hint="the user needs a shell such as /bin/sh; ssh.user in config.yaml names another",
            )
        if words[-1] == b"0":
            return Root()
        if probe.status == 0:
            return Root((*SUDO, "-n", "--"))
        if probe.status == 127:
            raise HostError(
                f"{link.user} is not root, and there is no sudo",
                hint="install sudo on the host and allow it to the user, or set ssh.user to root",
            )
        _refuse_sudo(link.user, errors, asked=False)
        root = Root((*SUDO, "-k", "-S", "-p", "", "--"), self._password(link.user).encode() + b"\n")
        # Tried on its own: sudo would take the first lines of a payload for further attempts at the password.
        trial = link.execute(f"exec {shlex.join([*root.prefix, 'env', 'true'])}", root.feed(b""), self._limit)
        if trial.status != 0:
            _refuse_sudo(link.user, trial.stderr.decode(errors="replace"), asked=True)
        return root


def _refuse_sudo(user: str, said: str, *, asked: bool) -> None:
    """Raise what sudo's refusal means; before a password was ``asked`` for, that it wants one is not a refusal."""
    if "sudoers" in said or "not allowed" in said or "may not run" in said:
        raise HostError(
            f"{user} may not use sudo for every command{_said(said, lines=1)}",
            hint="allow it with visudo on the host, or set ssh.user to root",
        )
    if "tty" in said:
        raise HostError(
            f"sudo wants a terminal{_said(said, lines=1)}", hint="take 'requiretty' out of the host's /etc/sudoers"
        )
    if asked:
        raise HostError(
            f"sudo does not take the password of {user}{_said(said, lines=1)}",
            hint="run the task again with the right one; ETCDOPS_SUDO_PASSWORD goes before the prompt",
        )


def _words(text: str, lines: int = 3) -> str:
    """The last ``lines`` that say something, as one line."""
    said = [line.strip() for line in text[-4000:].splitlines()]
    return "; ".join([line for line in said if line][-lines:])


def _said(text: str, lines: int = 3) -> str:
    words = _words(text, lines)
    return f": {words}" if words else ""
