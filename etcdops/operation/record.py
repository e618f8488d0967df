"""The record of a run, here: JSON lines of what it saw, decided, did and found, each written before the next happens.

For people, and for whoever wants to know what a run that was killed was about to do.  No decision depends on it: it may
be deleted, and a run goes on where it cannot be written.  It holds no secret: none is in an argument (ps shows those to
everybody), and what travels on standard input and output is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etcdops import atomic
from etcdops.errors import OpsError

KEPT = 500  # runs
ROOM = 64 << 20  # bytes that all records may take
LARGE = 8 << 20  # bytes of one record, from which on it leaves the calls out: a run may poll for hours
TAIL = 1 << 16  # bytes at the end of a record, which have its last lines
TOLD = 200  # letters of a call's arguments

Event = dict[str, Any]


def folder_of(config: Path) -> Path:
    """Where the records of the runs with this config.yaml are."""
    return config.parent / ".etcdops" / "runs"


class Record:
    """One run's, in ``folder``; the file is made at the first event, and kept locked while the run lives."""

    def __init__(
        self, folder: Path, run: str, head: Callable[[], Mapping[str, Any]], warn: Callable[[str], None]
    ) -> None:
        self._path = folder / f"{run}.jsonl"
        self._head = head
        self._warn = warn
        self._began = time.monotonic()
        self._lock = threading.RLock()
        self._handle: int | None = None
        self._dead = False
        self._size = 0
        self._calls = 0

    @property
    def is_open(self) -> bool:
        """Whether anything has been written."""
        return self._handle is not None

    def write(self, event: str, **fields: Any) -> None:
        """One line, now."""
        with self._lock:
            if self._dead:
                return
            try:
                if self._handle is None:
                    self._open()
                self._line(event, fields)
            except (OSError, OpsError) as error:
                self._dead = True
                why = error.strerror if isinstance(error, OSError) and error.strerror else error
                self._warn(f"this run goes on without a record in {self._path.parent}: {why}")

    def call(self, **fields: Any) -> int:
        """A remote call is about to be made; its number."""
        with self._lock:
            self._calls += 1
            if self._size < LARGE:
                self.write("call", n=self._calls, **fields)
            return self._calls

    def done(self, number: int, **fields: Any) -> None:
        """It has come to its end."""
        if self._size < LARGE:
            self.write("done", n=number, **fields)

    def close(self, **fields: Any) -> None:
        """The end of the run; nothing where nothing was written."""
        with self._lock:
            if self._handle is None:
                return
            self.write("end", calls=self._calls, **fields)
            os.close(self._handle)
            self._handle, self._dead = None, True

    def _open(self) -> None:
        atomic.private_folder(self._path.parent)
        self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._line("begin", self._head())
        drop_old(self._path.parent)

    def _line(self, event: str, fields: Mapping[str, Any]) -> None:
        assert self._handle is not None
        seconds = round(time.monotonic() - self._began, 3)
        line = f"{json.dumps({'event': event, 's': seconds, **fields})}\n".encode()
        if os.write(self._handle, line) != len(line):
            raise OSError(None, "the disk is full")
        self._size += len(line)


def drop_old(folder: Path) -> None:
    """Delete the oldest records, beyond what is kept."""
    taken = 0
    for number, path in enumerate(sorted(folder.glob("*.jsonl"), reverse=True)):
        with contextlib.suppress(OSError):
            taken += path.stat().st_size
            if number >= KEPT or (taken > ROOM and number > 0):
                path.unlink()


@dataclass(frozen=True)
class Past:
    """A run, as its record has it.  ``code``: its exit code; None while it runs (``alive``), and where it was cut
    short."""

    run: str
    task: str
    command: str
    who: str
    cluster: str
    began: datetime
    seconds: float
    code: int | None
    alive: bool

    @property
    def end(self) -> str:
        """How it ended, in a word."""
        return str(self.code) if self.code is not None else "runs" if self.alive else "cut short"

    @property
    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run": self.run,
            "task": self.task,
            "command": self.command,
            "who": self.who,
            "cluster": self.cluster,
            "began": f"{self.began:%Y-%m-%dT%H:%M:%SZ}",
            "seconds": self.seconds,
            "exit": self.code,
            "state": "ended" if self.code is not None else "running" if self.alive else "cut short",
        }


def runs(folder: Path) -> list[Past]:
    """Every run that has a record, the newest first."""
    found = (past(path) for path in sorted(folder.glob("*.jsonl"), reverse=True))
    return [each for each in found if each]


def past(path: Path) -> Past | None:
    """What the first and the last lines of a record say; None where it is none."""
    try:
        with path.open("rb") as file:
            first = _event(file.readline())
            file.seek(max(0, path.stat().st_size - TAIL))
            last = next((event for line in reversed(file.readlines()) if (event := _event(line))), {})
            alive = _is_locked(file.fileno())
        began = datetime.fromtimestamp(first["at"], UTC)
        task, command, who, cluster = (str(first.get(key) or "?") for key in ("task", "command", "who", "cluster"))
        code = last.get("code") if last.get("event") == "end" else None
        return Past(path.stem, task, command, who, cluster, began, float(last.get("s", 0)), code, alive)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def events(path: Path) -> Iterator[Event]:
    """The lines of a record; one that was half written when the run was killed is none."""
    with path.open("rb") as file:
        for line in file:
            if event := _event(line):
                yield event


def _event(line: bytes) -> Event:
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict):
            return value
    return {}


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def shortened(text: str) -> str:
    """As much of it as tells anything."""
    return text if len(text) <= TOLD else f"{text[:TOLD]}..."
