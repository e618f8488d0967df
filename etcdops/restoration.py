"""The hosts' part of a restore: stage beside the old data, swap, and the way back (files/restore.sh).

Every state that a run can leave behind is told by the hosts themselves, so that the next run knows what to do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from etcdops import etcd, layout, report
from etcdops.config import Member
from etcdops.snapshots.store import chunks_of
from etcdops.ssh import Host

SECONDS = 3600  # that sending and restoring may take on one host
BUMP = 1_000_000_000  # revisions; etcd's documentation: a week's worth at 1500 writes a second


def bump(version: str, restored: int, live: int) -> int:
    """By how much to raise revisions so that none that a client has seen comes again: beyond the ``live`` cluster's,
    0 if that is not known.  0 where the release cannot do it."""
    return BUMP + max(0, live - restored) if _can_bump(version) else 0


def _can_bump(version: str) -> bool:
    """Whether this release can raise revisions in a restore, so that no watcher sees one twice (CHANGELOG)."""
    number = etcd.release(version)
    return number >= (3, 5, 10) or (3, 4, 27) <= number < (3, 5)


@dataclass(frozen=True)
class Side:
    """What is on one host of restores.  ``swapped``: begun there and neither committed nor undone; ``sealed``: of a
    restore that has come to its good end on every host."""

    swapped: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    barred: str = ""  # the id of the restore for which no etcd may start
    mounted: str = ""  # a data directory that is a mount point, and so cannot be renamed
    aside: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)  # id to bytes and time
    clients: frozenset[str] = frozenset()  # addresses connected to the client port, but for the host's own

    @property
    def unfinished(self) -> str:
        """The id of a restore that was cut short after its first change, else ''."""
        return next(iter(self.swapped + self.sealed), self.barred)


def look(host: Host) -> Side:
    """What is on the host of restores; reads only."""
    return parse(_run(host, "look"))


def parse(text: str) -> Side:
    """The answer of ``look``."""
    rows = report.rows(text)
    kinds = ("swapped", "staged", "sealed", "restoring", "mounted")
    values = {kind: tuple(row[1] for row in rows if row[0] == kind) for kind in kinds}
    aside = {}
    for row in rows:
        if row[0] == "aside":
            size, seconds = row[2].split()
            aside[row[1]] = int(size), datetime.fromtimestamp(int(seconds), UTC)
    return Side(
        swapped=values["swapped"],
        staged=values["staged"],
        sealed=values["sealed"],
        barred=next(iter(values["restoring"]), ""),
        mounted=next(iter(values["mounted"]), ""),
        aside=aside,
        clients=frozenset(_address(row[2]) for row in rows if row[0] == "client" and row[1] != row[2]),
    )


def _address(text: str) -> str:
    """An address of /proc/net/tcp: words in the byte order of the machine, little-endian on amd64 and arm64."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@dataclass(frozen=True)
class Restoration:
    """One restore: its ``id`` is in its folder's name on every host, its ``token`` is the new incarnation's."""

    id: str
    token: str
    version: str
    scheme: str
    members: Sequence[Member]
    size: int
    sha256: str
    raw: bool
    bump: int  # by how much revisions are raised; 0: not at all

    def stage(self, host: Host, path: Path, advance: Callable[[int], None]) -> None:
        """Send the snapshot and restore it beside the old data.  Nothing that runs is touched."""
        member = next(member for member in self.members if member.name == host.name)
        flags = [
            f"--name={member.name}",
            f"--initial-cluster={','.join(f'{each.name}={self._url(each)}' for each in self.members)}",
            f"--initial-cluster-token={self.token}",
            f"--initial-advertise-peer-urls={self._url(member)}",
            *(["--skip-hash-check"] if self.raw else []),
            *([f"--bump-revision={self.bump}", "--mark-compacted"] if self.bump else []),
        ]
        tool = "etcdctl" if self.version.startswith("3.4.") else "etcdutl"
        program = f"{layout.RELEASES}/{self.version}/{tool}"
        stdin = _counted(chunks_of(path), advance)
        _run(host, "stage", self.id, str(self.size), self.sha256, program, *flags, stdin=stdin, timeout=SECONDS)

    def discard(self, host: Host) -> None:
        """Delete what ``stage`` made."""
        _run(host, "undo", self.id)

    def halt(self, host: Host) -> None:
        """Stop etcd, and let none start until ``release``; proves that none runs."""
        halt(host, self.id)

    def swap(self, host: Host) -> None:
        """The old data directory out, the restored one in: two renames."""
        _run(host, "swap", self.id)

    def release(self, host: Host) -> None:
        """etcd may start again."""
        _run(host, "release")

    def _url(self, member: Member) -> str:
        return member.url(self.scheme, layout.PEER_PORT)


def halt(host: Host, id_: str) -> None:
    """Stop etcd, and let none start, in the name of ``id_``; proves that none runs."""
    _run(host, "halt", id_)


def undo(host: Host, id_: str) -> None:
    """Put the old data and configuration of restore ``id_`` back.  No etcd runs afterwards, none is kept from it."""
    _run(host, "undo", id_)


def seal(host: Host, id_: str) -> None:
    """Restore ``id_`` has come to its good end on every host: from here on it is completed, never undone."""
    _run(host, "seal", id_)


def commit(host: Host, id_: str) -> None:
    """Once every host is sealed: the data that restore ``id_`` has replaced is set aside under its id."""
    _run(host, "commit", id_)


def drop(host: Host, id_: str) -> None:
    """Delete the data that restore ``id_`` had set aside."""
    _run(host, "drop", id_)


def _run(host: Host, *words: str, stdin: bytes | Iterable[bytes] = b"", timeout: float | None = None) -> str:
    return host.run(layout.script("restore"), *words, stdin=stdin, timeout=timeout).stdout


def _counted(chunks: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        advance(done)
