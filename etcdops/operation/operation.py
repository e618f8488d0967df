"""Operation: the envelope of one changing run, around each of its commands on a host."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etcdops.operation.lock import Lock
from etcdops.operation.owner import Controller, Owner
from etcdops.ui import Reporter

if TYPE_CHECKING:
    from etcdops.ssh import Fleet, Host, Session


class Operation:
    """One run that changes hosts or the cluster: ``id`` names it here, on the hosts and in their journals."""

    def __init__(self, task: str, command: str, ui: Reporter, *, breaks: bool = False) -> None:
        """``breaks``: the lock is taken from whoever has it."""
        began = datetime.now(UTC)
        self.id = f"{began:%Y%m%dT%H%M%SZ}-{task}-{secrets.token_hex(2)}"
        here = controller()
        self.owner = Owner(self.id, f"{user()}@{here.name}", here.boot, os.getpid(), task)
        self.lock = Lock(self.owner, here, command=command, say=ui.line, breaks=breaks, alive=_lives)
        self._began = began

    def take(self, fleet: Fleet, names: Sequence[str]) -> None:
        """Have the lock on every host of ``fleet`` that answers; ``Refused`` where another run has it."""
        self.lock.take(fleet, list(names))

    @property
    def fence(self) -> str:
        """See ``ssh.Envelope``."""
        return self.lock.fence

    def enter(self, host: Host, session: Session) -> None:
        """See ``ssh.Envelope``."""
        self.lock.enter(host, session)

    def begins(self, host: str, script: str, args: Sequence[str]) -> int:
        """See ``ssh.Envelope``."""
        return 0

    def ended(self, number: int, *, rc: int | None, seconds: float, error: str = "") -> None:
        """See ``ssh.Envelope``."""

    def close(self, code: int) -> None:
        """The run has come to its end: the lock is given back, and the hosts note with which exit code."""
        seconds = (datetime.now(UTC) - self._began).total_seconds()
        self.lock.release(f"ended with {code} after {seconds:.1f} s")


def controller() -> Controller:
    """This machine, in this boot."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        boot += f"-{Path('/proc/self/ns/pid').readlink()}"  # numbers of processes mean the same only in there
    return Controller(socket.gethostname(), boot)


def user() -> str:
    """Who started this, behind sudo as well; '?' where nobody knows."""
    with suppress(OSError, KeyError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return "?"


def _lives(pid: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
