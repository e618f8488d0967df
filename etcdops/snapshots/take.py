"""Taking a snapshot: saved on a member's host, streamed to this machine, proven on both ends (etcd-operations 3.3)."""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from etcdops import __version__, layout
from etcdops.errors import Damaged, HostError, OpsError
from etcdops.etcd import parse_view
from etcdops.snapshots import content, throwaway
from etcdops.snapshots.content import Content
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import Proof, RecordedMember, Sum, newest_revision, prove
from etcdops.snapshots.store import create, failed
from etcdops.snapshots.wal import Log
from etcdops.ssh import Completed, Host

SECONDS = 3600  # that saving and sending may take; a member that hangs is found by then
ROOM = 64 << 20  # bytes that stay free on this machine
SYNC = 0.2  # seconds between two times that what has come is brought to the disk
SIZE = re.compile(rb"^size\t(\d+)$", re.MULTILINE)
T = TypeVar("T")


def take(host: Host, cluster: str, target: Path, *, quorum: bool, advance: Callable[[int], None]) -> Manifest:
    """Write a snapshot of the member on ``host`` to ``target``, a new file, and say what it is.

    With ``quorum`` it holds everything that the cluster had acknowledged when this began, or it is an error; without,
    what this one member has.  ``advance`` hears how many bytes have come.  ``HostError`` when the host's side failed
    (another member may do), any other ``OpsError`` when this machine's did.
    """
    taken = datetime.now(UTC)
    script = layout.script("client", "snapshot")
    work = partial(host.client, script, "l" if quorum else "s")
    report, (proof, held) = _fetch(host, target, advance, work, lambda total: _prove(host, target, total))
    if proof.revision < int(report["asked"]):
        raise HostError(
            f"its snapshot is stale: revision {proof.revision}, while the cluster was at {report['asked']}",
            host=host.name,
        )
    return _manifest(host, cluster, taken, report, proof, held)


def salvage(host: Host, cluster: str, target: Path, start: int, log: Log, at: int) -> Manifest:
    """The same from the data of a member that does not run, and must not: with all that is in its write-ahead ``log``.

    ``start``: seconds that a copy of it may take to start; ``at``: where in its last file the log ends.
    """
    taken = datetime.now(UTC)
    record = "".join(f"\\{byte:03o}" for byte in log.all_agreed())
    arguments = (str(start), str(at), record)
    script, stdin = layout.script("throwaway", "salvage"), throwaway.certificates()
    work = partial(host.run, script, *arguments, stdin=stdin)
    report, proof = _fetch(host, target, lambda done: None, work, lambda total: prove(target, sum_=total))
    held = content.of(report) if report["revision"] == str(proof.revision) else Content()
    return _manifest(host, cluster, taken, report, proof, held)


def _fetch(
    host: Host, target: Path, advance: Callable[[int], None], work: Callable[..., Completed], then: Callable[[Sum], T]
) -> tuple[dict[str, str], T]:
    """Run a script that sends a snapshot: what it says about it, and what ``then`` makes of it.

    That is called, with the sum of what has come, once all of it is in ``target``: while the host still proves its own.
    """
    said: list[bytes] = []
    total = Sum()
    turn = threading.Lock()  # the bytes, and how many they are, come on two threads
    later: list[Future[T]] = []
    with ThreadPoolExecutor(1) as pool, Sink(target, advance) as sink:

        def receive(chunk: bytes) -> None:
            with turn:
                sink.write(chunk)
                total.update(chunk)
                look()

        def hear(chunk: bytes) -> None:
            with turn:
                said.append(chunk)
                look()

        def look() -> None:
            size = SIZE.search(b"".join(said))
            if size and sink.done == int(size[1]) and not later:
                sink.flush()
                later.append(pool.submit(then, total))

        done = work(relay=(receive, hear), timeout=SECONDS, check=False)
    lines = b"".join(said).decode(errors="replace").splitlines()
    if done.rc != 0:
        words = "; ".join([line for line in lines if line.strip() and not line.startswith("size\t")][-2:])
        raise HostError(words or f"exit status {done.rc}, without a word", host=host.name)
    report = dict(line.split("\t", 1) for line in lines if "\t" in line)
    if not later:
        raise HostError(f"sent {sink.done} bytes of a snapshot of {report['size']}", host=host.name)
    try:
        return report, later[0].result()
    except Damaged as error:  # etcd copies its pages as they are, and makes the SHA-256 of what it has copied
        what = error.message.removeprefix(f"{target}: ")
        raise HostError(f"its snapshot {what}; so its own database is", host=host.name) from None


def _prove(host: Host, path: Path, total: Sum) -> tuple[Proof, Content]:
    with ThreadPoolExecutor(1) as pool:  # the member is asked while its snapshot is proven here
        asked = pool.submit(_still_held, host, path)
        return prove(path, sum_=total), asked.result()


def _still_held(host: Host, path: Path) -> Content:
    """What the live member holds at the snapshot's revision, with which a drill compares; a compaction may be ahead."""
    try:
        return content.ask(host, newest_revision(path))
    except OpsError:  # the file is damaged, which is for the proof to say; or the host is gone, which is no matter now
        return Content()


def _manifest(
    host: Host, cluster: str, taken: datetime, report: dict[str, str], proof: Proof, held: Content
) -> Manifest:
    return Manifest(
        cluster=cluster,
        cluster_id=f"{int(report['cluster_id']):x}",
        token=report["token"],
        member=host.name,
        member_id=f"{int(report['member_id']):x}",
        etcd_version=report["version"],
        taken=taken,
        revision=proof.revision,
        keys=held.keys,
        hash=held.hash,
        compact_revision=held.compact_revision,
        members=tuple(_members(report["members"])) or proof.members,
        size=proof.size,
        sha256=proof.sha256,
        tool_version=__version__,
        stored_size=proof.size,
        stored_sha256=proof.sha256,
    )


def _members(encoded: str) -> Iterable[RecordedMember]:
    text = base64.b64decode(encoded).decode(errors="replace")
    for each in parse_view({"members": text}, {}).members or ():
        yield RecordedMember(f"{each.id:x}", each.name, each.peer_urls, each.client_urls, each.learner)


class Sink:
    """A file that a host's stream goes to, and to the disk as it comes: what is left to sync in the end is little.

    Its own trouble goes before what the connection makes of it, which ends by it: that is no fault of the host's.
    """

    def __init__(self, path: Path, advance: Callable[[int], None] = lambda done: None) -> None:
        self._error: OpsError | None = None
        self._path = path
        self._advance = advance
        self._ending = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="sync", daemon=True)
        self.done = 0  # bytes

    def __enter__(self) -> Self:
        try:
            self._stream = create(self._path)
        except OSError as error:
            raise failed(self._path, "written", error) from None
        self._syncing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._syncing.join()
        try:
            self._stream.close()
        except OSError as error:
            self._failed(error)
        if self._error:
            raise self._error from None

    def write(self, chunk: bytes) -> None:
        try:
            self._stream.write(chunk)
        except OSError as error:
            raise self._failed(error) from None
        self.done += len(chunk)
        self._advance(self.done)

    def flush(self) -> None:
        """All that was written can be read from the file."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from None

    def _sync(self) -> None:
        try:
            while not self._ending.wait(SYNC):
                os.fdatasync(self._stream.fileno())
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> OpsError:
        self._error = self._error or failed(self._path, "written", error)
        return self._error
