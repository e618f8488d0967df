"""What is true of one snapshot file: proved from its bytes, whatever its name or anybody's exit code says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RecordedMember:
    """A member as the snapshot, and the manifest, have it on record; ``id`` is hexadecimal."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    learner: bool = False


@dataclass(frozen=True)
class Proof:
    """A file that is a whole etcd database.  Versions are "" where etcd has not stored them (before 3.5, 3.6)."""

    size: int  # bytes, trailer included
    sha256: str  # of the file, trailer included
    revision: int
    compact_revision: int | None  # None: never compacted
    members: tuple[RecordedMember, ...]
    cluster_version: str
    storage_version: str
    auth_enabled: bool
    consistent_index: int
    term: int


def prove(path: Path, *, raw: bool = False) -> Proof:
    """Read all of ``path`` and check it; ``OpsError`` says what is wrong.

    ``raw``: a database copied off a member's disk, which has no trailer, so that only its structure can be checked.
    """
    raise NotImplementedError


def count_keys(path: Path) -> int:
    """How many live keys a proven snapshot has."""
    raise NotImplementedError
