"""A member's database as a matter of room: what it takes, what it may take, and what a defragmentation would free.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 << 20
WORTH = 100 * MIB  # bytes: less to free than this is not worth a stall
ROOM = 64 * MIB  # bytes that stay free on the host's disk
DEFAULT_QUOTA = 2 << 30  # etcd's own, in bytes
FULL = 0.95  # of the quota: etcd's own alert calls this critical


@dataclass(frozen=True)
class Database:
    """Of one member, in bytes: ``quota`` is what its size may reach (0: anything), ``free`` what its disk has left."""

    size: int
    used: int
    quota: int
    free: int

    @property
    def gain(self) -> int:
        """What a defragmentation could free."""
        return self.size - self.used

    @property
    def worth(self) -> bool:
        """Whether it pays: less than half is in use, as in etcd's own alert, and it is not about a trifle."""
        return self.used < self.size / 2 and self.gain > WORTH

    @property
    def need(self) -> int:
        """What its disk must have free for it: etcd writes the new database beside the old one."""
        return self.used + self.used // 10 + ROOM

    @property
    def full(self) -> bool:
        """Whether there is no room left below the quota."""
        return bool(self.quota) and self.size > FULL * self.quota

    def __str__(self) -> str:
        return f"{self.size / MIB:.1f} MiB, {self.gain / MIB:.1f} MiB of it unused"


def quota(started_with: str) -> int:
    """What a member's quota-backend-bytes means: its own if it is not set, none if it is negative."""
    return max(0, int(started_with or 0) or DEFAULT_QUOTA)


def too_full(found: Mapping[str, Database]) -> list[str]:
    """The members whose database has no room below its quota, one line each."""
    return [
        f"{name} takes {each.size / MIB:.1f} MiB of its quota of {each.quota / MIB:.1f} MiB"
        for name, each in found.items()
        if each.full
    ]
