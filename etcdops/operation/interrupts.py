"""Ctrl-C while something is being changed: the first one stops at the next safe point, the second at once.

Safe is the time between two rounds of commands, when nothing of ours runs on any host, and outside of a member's turn.
As long as nothing has been decided, nothing was changed, and the first one stops at once, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TOLD = b"\nstopping at the next safe point; once more stops at once\n"


class Interrupted(KeyboardInterrupt):
    """The run stops at a safe point."""


class Interrupts:
    """Those of one run; a context manager, on the main thread."""

    def __init__(self) -> None:
        self.standing = ""  # how far the run has come, in words
        self.decided = False
        self.touched = False  # a command ran on a host since
        self._asking = False
        self._turns = 0
        self._asked = False
        self._stopped = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or `&` in a script: it stays ignored
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def safe_point(self) -> None:
        """Nothing of ours runs anywhere: ``Interrupted``, once, if the run is to stop."""
        if self._asked and not self._stopped and not self._turns:
            self._stopped = True
            raise Interrupted

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Meanwhile no point is safe: a member is being changed, and is to be healthy first."""
        self._turns += 1
        try:
            yield
        finally:
            self._turns -= 1

    @contextlib.contextmanager
    def unbroken(self, standing: str) -> Iterator[None]:
        """A turn that takes back or puts right; ``standing``: what a second Ctrl-C cuts short, in words."""
        before, self.standing = self.standing, standing
        with self.turn():
            yield
        self.standing = before

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Somebody is being asked: that is as safe as it gets, and nobody waits for an answer after Ctrl-C."""
        self.safe_point()
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def words(self, error: BaseException, command: str) -> tuple[str, str]:
        """What to say of it, and what to do next."""
        if not self.decided:
            return "interrupted", "the same command goes on from what is there"
        if not self.touched:
            return "interrupted", "nothing was changed"
        how = "interrupted" if isinstance(error, Interrupted) else "interrupted in the midst of it"
        left = "" if isinstance(error, Interrupted) else "what still runs on a host comes to its end there; "
        standing = f": {self.standing}" if self.standing else ""
        return f"{how}{standing}", f"{left}{command or 'the same command'} goes on from what is there"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        if self._asked:
            self._stopped = True  # it stops here: what takes things back now goes on past every safe point
            raise KeyboardInterrupt
        if self._asking or not (self.decided or self._turns):
            raise KeyboardInterrupt
        self._asked = True
        with contextlib.suppress(OSError):
            os.write(2, TOLD)  # not by way of print, which this may have interrupted


def _leave_terminal() -> None:
    """The terminal has gone: what is told from now on goes nowhere, and is no reason to fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    for handle in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(handle):
                os.dup2(null, handle)
