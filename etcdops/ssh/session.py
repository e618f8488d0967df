"""Session: a connection on which commands are root's, in an environment that is always the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdops.errors import HostError

if TYPE_CHECKING:
    from etcdops.ssh.link import Link, Output, Relay

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


@dataclass(frozen=True)
class Session:
    """An open connection, and how commands on it become root's."""

    link: Link
    root: Root

    def execute(
        self,
        script: str,
        args: Sequence[str],
        stdin: bytes | Iterable[bytes],
        limit: float,
        relay: Relay | None = None,
    ) -> Output:
        """``sh -c SCRIPT etcdops ARGS...``, for at most ``limit`` seconds there, and a bit more here."""
        tail = [*ENVIRONMENT, "timeout", "-k", str(KILL_AFTER), f"{limit:.3f}", "sh", "-c", script, "etcdops", *args]
        command = f"exec {shlex.join([*self.root.prefix, *tail])}".encode("utf-8", "surrogateescape")  # as os.fsencode
        if b"\0" in command or len(command) > LONGEST:
            raise ValueError(f"a script and its arguments hold no NUL and take {LONGEST} bytes; data goes to stdin")
        return self.link.execute(command, self.root.feed(stdin), limit + GRACE, relay)


def become_root(link: Link, password: Callable[[str], str], limit: float) -> Root:
    """How commands on ``link`` become root's; ``HostError`` says what is in the way."""
    if link.user == "root":
        return Root()
    probe = link.execute(f"exec sh -c {shlex.quote(PROBE)}", b"", limit)
    words, errors = probe.stdout.split(), probe.stderr.decode(errors="replace")
    if not words or not words[-1].isdigit():
        raise HostError(
            f"{link.user} cannot run commands here{saying(errors or probe.stdout.decode(errors='replace'))}",
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
    root = Root((*SUDO, "-k", "-S", "-p", "", "--"), password(link.user).encode() + b"\n")
    # Tried on its own: sudo would take the first lines of a payload for further attempts at the password.
    trial = link.execute(f"exec {shlex.join([*root.prefix, 'env', 'true'])}", root.feed(b""), limit)
    if trial.status != 0:
        _refuse_sudo(link.user, trial.stderr.decode(errors="replace"), asked=True)
    return root


def _refuse_sudo(user: str, said: str, *, asked: bool) -> None:
    """Raise what sudo's refusal means; before a password was ``asked`` for, that it wants one is not a refusal."""
    if "sudoers" in said or "not allowed" in said or "may not run" in said:
        raise HostError(
            f"{user} may not use sudo for every command{saying(said, lines=1)}",
            hint="allow it with visudo on the host, or set ssh.user to root",
        )
    if "tty" in said:
        raise HostError(
            f"sudo wants a terminal{saying(said, lines=1)}", hint="take 'requiretty' out of the host's /etc/sudoers"
        )
    if asked:
        raise HostError(
            f"sudo does not take the password of {user}{saying(said, lines=1)}",
            hint="run the task again with the right one; ETCDOPS_SUDO_PASSWORD goes before the prompt",
        )


def last_words(text: str, lines: int = 3) -> str:
    """The last ``lines`` that say something, as one line."""
    said = [line.strip() for line in text[-4000:].splitlines()]
    return "; ".join([line for line in said if line][-lines:])


def saying(text: str, lines: int = 3) -> str:
    words = last_words(text, lines)
    return f": {words}" if words else ""
