"""Hold: the lock of a cluster on one of its hosts, a process there (files/lock.sh) for as long as it hears of us."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etcdops import layout
from etcdops.errors import HostError
from etcdops.operation.owner import BEAT, SILENCE, Owner

if TYPE_CHECKING:
    from etcdops.ssh import Host, Session

LONGEST = 7 * 86400.0  # seconds that a run may last


class Hold:
    """The lock on one host: a process there, and what it hears of us."""

    def __init__(self, host: Host, session: Session, owner: Owner, how: str, linger: float) -> None:
        self.host = host.name
        self._session = session
        self._words: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._sent: deque[float] = deque()
        self._rest = b""
        self._heard = now()  # when the last sign of life went out that the host has answered
        self._news = threading.Condition()
        self._error = b""
        self._over = False
        args = (owner.run, f"{SILENCE:g}", f"{linger:g}", how)
        self._thread = threading.Thread(target=self._stay, args=(owner, args), name=f"lock-{host.name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is known that it is held no more."""
        return self._over or not self._session.link.alive

    @property
    def trouble(self) -> str:
        """What the host complained of."""
        return " ".join(self._error.decode(errors="replace").split())

    def answer(self, seconds: float) -> list[str]:
        """The next line that the host says, its fields; none when it has ended."""
        with contextlib.suppress(queue.Empty):
            return self._answers.get(timeout=seconds)
        return []

    def confirm(self) -> None:
        """It is ours for good; the host notes that with each sign of life from here on."""
        self._words.put(b".")

    def stands(self) -> bool:
        """Whether the host heard of us in time, and so holds it still; asks, where that is not known."""
        if self.ended:
            return False
        if now() - self._heard < SILENCE - BEAT:
            return True
        before = self._heard
        self._words.put(b",")
        with self._news:
            self._news.wait_for(lambda: self.ended or self._heard > before, timeout=BEAT)
        return not self.ended and self._heard > before

    def end(self, how: str) -> None:
        """Have it end."""
        self._words.put(b"e" + how.encode())

    def wait(self, seconds: float) -> None:
        """Until it has ended, for so long at most."""
        self._thread.join(max(0.0, seconds))

    def _stay(self, owner: Owner, args: tuple[str, ...]) -> None:
        try:
            self._session.execute(
                layout.script("lock"), args, self._speak(owner), LONGEST, (self._hear, self._complain)
            )
        except HostError as error:
            self._error = self._error or str(error).encode()
        finally:
            self._over = True
            self._answers.put([])
            with self._news:
                self._news.notify_all()

    def _speak(self, owner: Owner) -> Iterator[bytes]:
        yield f"{owner.line}\n".encode()
        usual = b","  # until it is confirmed: another host may take longer to say whether it is free
        while True:
            try:
                word = self._words.get(timeout=BEAT)
            except queue.Empty:
                word = usual
            if word == b".":
                usual = word
            if word in (b".", b","):
                self._sent.append(now())
            yield word
            if word not in (b".", b","):
                return

    def _hear(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line:
                fields = line.decode(errors="replace").split("\t")
                self._answers.put(fields)
                if fields[0] in ("held", "lost"):
                    self._words.put(b"")  # nobody listens there any more
            elif self._sent:
                with self._news:
                    self._heard = self._sent.popleft()
                    self._news.notify_all()

    def _complain(self, chunk: bytes) -> None:
        self._error = (self._error + chunk)[-400:]


def now() -> float:
    """Seconds by a clock that goes on while this machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
