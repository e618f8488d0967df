"""Pipe: what a channel has received and nobody has taken yet."""

from __future__ import annotations

import threading

from paramiko.buffered_pipe import PipeTimeout


class Pipe:
    """Keeps the pieces as they came, and copies them once, when they are taken.

    It stands in for paramiko's ``BufferedPipe``, which copies all bytes three times, and megabytes at a time, which no
    cache holds: a quarter of what it costs to receive half a gigabyte, sum it up and write it.  ``Channel.fileno``
    would want a ``set_event``, too; nobody here uses it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._closed = False

    def feed(self, data: bytes) -> None:
        """What has just come."""
        with self._changed:
            if data:  # a piece of nothing would pass for the end
                self._pieces.append(data)
                self._changed.notify_all()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read_ready(self) -> bool:
        """Whether anything can be taken."""
        return bool(self._pieces)

    def empty(self) -> bytes:
        """All that has come."""
        with self._changed:
            return self._take(len(self._pieces))

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """Up to ``nbytes``, once there is anything; nothing at the end; ``PipeTimeout`` after ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._pieces or self._closed, timeout):
                raise PipeTimeout
            count, room = 0, nbytes
            for piece in self._pieces:
                if len(piece) > room:
                    break
                count, room = count + 1, room - len(piece)
            if self._pieces and not count:
                first = self._pieces[0]
                self._pieces[:1] = [first[:nbytes], first[nbytes:]]
                count = 1
            return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = b"".join(self._pieces[:count])
        del self._pieces[:count]
        return taken
