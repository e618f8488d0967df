"""Operation: the envelope of one changing run, around each of its commands on a host."""

from __future__ import annotations

import getpass
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcdops import __version__
from etcdops.errors import OpsError
from etcdops.operation.interrupts import Interrupts
from etcdops.operation.lock import Lock
from etcdops.operation.owner import Controller, Owner, minority
from etcdops.operation.record import Record, folder_of, shortened
from etcdops.ssh import Outcome
from etcdops.ui import Reporter, error_lines

if TYPE_CHECKING:
    from etcdops.ssh import Fleet, Host, Session


class Operation:
    """One run that changes something: ``id`` names it here, on the hosts and in their journals."""

    def __init__(
        self, task: str, command: str, config: Path, ui: Reporter, *, cluster: Callable[[], str], breaks: bool = False
    ) -> None:
        """``cluster`` tells its name; ``breaks``: the lock is taken from whoever has it."""
        began = datetime.now(UTC)
        self.id = f"{began:%Y%m%dT%H%M%SZ}-{task}-{secrets.token_hex(2)}"
        here = controller()
        self.owner = Owner(self.id, f"{user()}@{here.name}", here.boot, os.getpid(), task)
        head = {
            "at": round(began.timestamp(), 3),
            "run": self.id,
            "task": task,
            "command": command,
            "who": self.owner.who,
            "pid": os.getpid(),
            "config": str(config),
            "etcdops": __version__,
        }
        self.interrupts = Interrupts()
        self._ui = ui
        self._began = time.monotonic()
        self.record = Record(folder_of(config), self.id, lambda: {**head, "cluster": cluster()}, self._warn)
        ui.tap = lambda text: self.record.write("said", text=text)
        self.lock = Lock(
            self.owner,
            here,
            command=command,
            say=ui.line,
            breaks=breaks,
            alive=_lives,
            call=lambda name: self.call(name, "lock"),
        )

    def take(self, fleet: Fleet, names: Sequence[str]) -> None:
        """Have the lock on every host of ``fleet`` that answers; ``Refused`` where another run has it."""
        away = self.lock.take(fleet, list(names))
        self.record.write("locked", hosts=self.lock.hosts, away={name: error.message for name, error in away.items()})
        if words := minority(names, away):  # another run may have the others
            self._ui.warn(words)

    def decided(self, lines: Iterable[str]) -> None:
        """What is to be done, as a dry run shows it; from here on it may be under way."""
        self.record.write("decided", lines=list(lines))
        self.interrupts.decided = True

    def turns(self, names: Sequence[str], done: str) -> Iterator[str]:
        """Each of ``names`` in turn, which an interrupt does not cut short; ``done``: what each is then."""
        for number, name in enumerate(names):
            before, rest = ", ".join(names[:number]), ", ".join(names[number:])
            self.interrupts.standing = f"{before} {done}, {rest} not" if before else f"{rest} not {done} yet"
            self.interrupts.safe_point()
            with self.interrupts.turn():
                yield name
        if names:
            self.interrupts.standing = f"{', '.join(names)} {done}"

    def safe_point(self) -> None:
        """See ``ssh.Envelope``."""
        if threading.current_thread() is threading.main_thread():
            self.interrupts.safe_point()

    @property
    def fence(self) -> str:
        """See ``ssh.Envelope``."""
        return self.lock.fence

    def enter(self, host: Host, session: Session) -> None:
        """See ``ssh.Envelope``."""
        self.lock.enter(host, session)

    def lost(self, host: Host, told: list[str]) -> OpsError:
        """See ``ssh.Envelope``."""
        return self.lock.lost(host, told)

    @contextmanager
    def call(self, host: str, what: str, args: Sequence[str] = ()) -> Iterator[Outcome]:
        """See ``ssh.Envelope``."""
        if self.interrupts.decided and what not in {"connect", "lock"}:
            self.interrupts.touched = True
        fields = {"args": shortened(shlex.join(args))} if args else {}
        number, began, outcome = self.record.call(host=host, what=what, **fields), time.monotonic(), Outcome()
        error: dict[str, Any] = {}
        try:
            yield outcome
        except BaseException as trouble:
            error = {"error": str(trouble) or type(trouble).__name__}
            raise
        finally:
            self.record.done(number, host=host, rc=outcome.rc, took=round(time.monotonic() - began, 3), **error)

    def saw(self, host: str, digest: str) -> None:
        """See ``ssh.Envelope``."""
        self.record.write("saw", host=host, digest=digest)

    def close(self, code: int, error: BaseException | None) -> None:
        """The run has come to its end: the lock is given back, and the hosts note with which exit code."""
        seconds = time.monotonic() - self._began
        self.lock.release(f"ended with {code} after {seconds:.1f} s")
        self._ui.tap = lambda text: None
        known = {} if error is None else {"error": error_lines(error) if isinstance(error, OpsError) else [repr(error)]}
        self.record.close(code=code, **known)

    def _warn(self, text: str) -> None:
        self._ui.tap = lambda text: None
        self._ui.warn(text)


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
