"""What is true of one snapshot file: proved from its bytes, whatever its name or anybody's exit code says."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import Damaged, OpsError
from etcdops.snapshots.bolt import Bolt

AGE = b"age-encryption.org/v1\n"
ANOTHER = "take another backup; inv snapshot.list"
CHUNK = 8 << 20  # bytes; smaller ones would wait for the interpreter more than they are worked on
REVISION = 17  # bytes: main, '_', sub; one more for a deletion
SHORTEST = 4 * 1024  # bytes: the four pages of an empty database, at the least page size
SUM = 32  # bytes of the SHA-256 at a snapshot's end


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

    size: int  # bytes, the 32 of the trailer included
    sha256: str  # of the file, trailer included
    raw: bool  # copied off a disk: nothing vouches for the content
    revision: int  # that etcd goes on from after a restore; never below that of `snapshot status`
    stored_revision: int  # the newest that it has, from which `--bump-revision` counts; 0: it has no key at all
    compact_revision: int | None  # None: never compacted
    members: tuple[RecordedMember, ...]
    cluster_version: str
    storage_version: str
    auth_enabled: bool
    consistent_index: int
    term: int


class Sum:
    """The SHA-256 of a snapshot, made as its bytes come by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._end = b""

    def update(self, chunk: bytes) -> None:
        """The next bytes; the last 32 are held back, for they may be the trailer."""
        if len(chunk) < SUM:
            chunk = self._end + chunk
        else:
            self._digest.update(self._end)
        self._digest.update(memoryview(chunk)[:-SUM])
        self._end = chunk[-SUM:]

    def result(self) -> tuple[str, bool]:
        """That of all bytes, and whether the last 32 are that of all before.  Nothing comes after this."""
        inner = self._digest.digest()
        self._digest.update(self._end)
        return self._digest.hexdigest(), inner == self._end


def prove(path: Path, *, raw: bool = False, sum_: Sum | None = None) -> Proof:
    """Read all of ``path`` and check it; ``Damaged`` says what is wrong, another ``OpsError`` why it cannot be read.

    A snapshot is a bbolt database and the SHA-256 of it, 32 bytes (etcd, server/etcdserver/api/v3rpc/maintenance.go).
    ``raw``: a database copied off a member's disk, which has no such end, so that only its structure can be checked.
    ``sum_``: of the bytes that were written there just now, so that they need not be read for it again.
    """
    size = _size(path)
    with Bolt(path) as db:
        if not raw:
            _check_end(path, size, db)
        with ThreadPoolExecutor(1) as pool:  # the sum is made beside the walk, on another core
            sums = pool.submit(lambda: (sum_ or _sum(path)).result())
            try:
                db.check()
                problem = None
            except OpsError as error:
                problem = error
            sha256, trusted = sums.result()
        if not raw and not trusted:
            raise Damaged(f"{path}: is damaged: the SHA-256 at its end is not that of its content", hint=ANOTHER)
        if problem:
            raise problem
        return _read(path, db, size, sha256, raw)


def newest_revision(path: Path) -> int:
    """The revision that etcd goes on from after a restore of ``path``, of which nothing has been proven."""
    with Bolt(path) as db:
        return _revision(db, dict(db.bucket(b"meta")))


def count_keys(path: Path) -> int:
    """How many live keys a proven snapshot has, as a get of everything would; about 2 s for a million revisions."""
    with Bolt(path) as db:
        meta = dict(db.bucket(b"meta"))
        finished, scheduled = _compaction(meta)
        # Compaction leaves one revision of each key that lives, unless it has not come to its end.  What is newer is
        # all there: each key that was made since, and each that was deleted, has one revision that says so.
        settled = finished if finished >= scheduled else 0
        unsettled: dict[bytes, bool] = {}
        count = 0
        for revision, value in db.bucket(b"key"):
            main, deleted = int.from_bytes(revision[:8]), len(revision) > REVISION
            key, version = _key_value(value)
            if not key:  # what `snapshot restore --bump-revision` writes
                continue
            if main <= settled:
                count += not deleted
            elif main <= scheduled:
                unsettled[key] = not deleted
            elif deleted or version == 1:
                count += -1 if deleted else 1
        return count + sum(unsettled.values())


def _size(path: Path) -> int:
    try:
        if not path.is_file():
            raise OpsError(f"{path}: {'is not a file' if path.exists() else 'No such file or directory'}")
        with path.open("rb") as stream:
            start = stream.read(len(AGE))
        size = path.stat().st_size
    except OSError as error:
        raise OpsError(f"{path}: {error.strerror or error}") from None
    if start == AGE:
        raise OpsError(f"{path}: is encrypted", hint="its manifest must lie beside it, and backup.age.identity be set")
    if size < SHORTEST:
        raise Damaged(f"{path}: is too short for a snapshot: {size} bytes", hint=ANOTHER)
    return size


def _check_end(path: Path, size: int, db: Bolt) -> None:
    beyond = size - db.size
    if beyond == SUM:
        return
    if beyond < SUM and beyond:
        raise Damaged(f"{path}: is truncated: {beyond} bytes of {SUM} are left of the SHA-256 at its end", hint=ANOTHER)
    if beyond % db.meta.page_size == 0:
        raise Damaged(
            f"{path}: has no SHA-256 at its end: it was cut off, or this is a member's own database and no snapshot",
            hint="what etcdctl snapshot save wrote has one; without it nobody can tell whether a byte was changed, and "
            "inv restore wants --raw for it",
        )
    raise Damaged(f"{path}: is damaged: {beyond - SUM} bytes follow after its end", hint=ANOTHER)


def _sum(path: Path) -> Sum:
    total = Sum()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                total.update(chunk)
    except OSError as error:
        raise OpsError(f"{path}: {error.strerror or error}") from None
    return total


def _read(path: Path, db: Bolt, size: int, sha256: str, raw: bool) -> Proof:
    missing = {b"key", b"meta", b"members"}.difference(db.buckets())
    if missing:
        names = ", ".join(sorted(name.decode() for name in missing))
        raise Damaged(f"{path}: is a bbolt database, but not etcd's: it has no bucket {names}")
    meta, cluster, auth = (dict(db.bucket(name)) for name in (b"meta", b"cluster", b"auth"))
    compacted = max(_compaction(meta))
    return Proof(
        size=size,
        sha256=sha256,
        raw=raw,
        revision=_revision(db, meta),
        stored_revision=_stored(db),
        compact_revision=compacted or None,
        members=tuple(_member(path, key, value) for key, value in db.bucket(b"members")),
        cluster_version=cluster.get(b"clusterVersion", b"").decode(errors="replace"),
        storage_version=meta.get(b"storageVersion", b"").decode(errors="replace"),
        auth_enabled=auth.get(b"authEnabled") == b"\x01",
        consistent_index=int.from_bytes(meta.get(b"consistent_index", b"")),
        term=int.from_bytes(meta.get(b"term", b"")),
    )


def _revision(db: Bolt, meta: dict[bytes, bytes]) -> int:
    # Where compaction has removed the newest revisions, all of them deletions, etcd goes on from its own.
    return max(_stored(db), *_compaction(meta), 1)


def _stored(db: Bolt) -> int:
    return int.from_bytes((db.last(b"key") or b"")[:8])


def _compaction(meta: dict[bytes, bytes]) -> tuple[int, int]:
    """The revisions to which compaction has come, and to which it was asked to; 0: never."""
    finished, scheduled = (meta.get(name, b"") for name in (b"finishedCompactRev", b"scheduledCompactRev"))
    return int.from_bytes(finished[:8]), int.from_bytes(scheduled[:8])


def _member(path: Path, key: bytes, value: bytes) -> RecordedMember:
    try:
        data = json.loads(value)
        return RecordedMember(
            id=f"{int(key, 16):x}",
            name=str(data.get("name", "")),
            peer_urls=tuple(map(str, data.get("peerURLs") or ())),
            client_urls=tuple(map(str, data.get("clientURLs") or ())),
            learner=bool(data.get("isLearner")),
        )
    except (ValueError, AttributeError, TypeError):
        raise Damaged(f"{path}: is damaged: a member in it cannot be read", hint=ANOTHER) from None


def _key_value(data: bytes) -> tuple[bytes, int]:
    """Key and version of an mvccpb.KeyValue: its fields 1 and 4; 2 and 3, between them, are numbers."""
    key, at = b"", 0
    while at < len(data):
        tag, at = data[at], at + 1
        number, at = _varint(data, at)
        if tag == 0x0A:
            key, at = data[at : at + number], at + number
        elif tag == 0x20:
            return key, number
        elif tag > 0x20:
            break
    return key, 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            break
        shift += 7
    return number, at
