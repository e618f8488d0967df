"""Taking a snapshot: saved on a member's host, streamed to this machine, proven on both ends (etcd-operations 3.3)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from etcdops import __version__, layout
from etcdops.errors import HostError, OpsError
from etcdops.etcd import parse_hashkv, parse_view
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import Proof, RecordedMember, prove
from etcdops.snapshots.store import create, failed
from etcdops.snapshots.wal import Log
from etcdops.ssh import Host

SECONDS = 3600  # that saving and sending may take; a member that hangs is found by then
ROOM = 64 << 20  # bytes that stay free on this machine


def take(host: Host, cluster: str, target: Path, *, quorum: bool, advance: Callable[[int], None]) -> Manifest:
    """Write a snapshot of the member on ``host`` to ``target``, a new file, and say what it is.

    With ``quorum`` it holds everything that the cluster had acknowledged when this began, or it is an error; without,
    what this one member has.  ``advance`` hears how many bytes have come.  ``HostError`` when the host's side failed
    (another member may do), any other ``OpsError`` when this machine's did.
    """
    return _take(host, cluster, target, advance, layout.script("client", "snapshot"), "l" if quorum else "s")


def salvage(host: Host, cluster: str, target: Path, start: int, log: Log, at: int) -> Manifest:
    """The same from the data of a member that does not run, and must not: with all that is in its write-ahead ``log``.

    ``start``: seconds that a copy of it may take to start; ``at``: where in its last file the log ends.
    """
    record = "".join(f"\\{byte:03o}" for byte in log.all_agreed())
    arguments = (str(start), str(at), record)
    return _take(host, cluster, target, lambda done: None, layout.script("throwaway", "salvage"), *arguments)


def _take(
    host: Host, cluster: str, target: Path, advance: Callable[[int], None], script: str, *arguments: str
) -> Manifest:
    taken = datetime.now(UTC)
    said: list[bytes] = []
    with Sink(target, advance) as sink:
        done = host.run(script, *arguments, relay=(sink.write, said.append), timeout=SECONDS, check=False)
    lines = b"".join(said).decode(errors="replace").splitlines()
    if done.rc != 0:
        words = "; ".join([line for line in lines if line.strip()][-2:])
        raise HostError(words or f"exit status {done.rc}, without a word", host=host.name)
    report = dict(line.split("\t", 1) for line in lines if "\t" in line)
    proof = prove(target)
    _check(host, report, proof)
    return _manifest(host.name, cluster, taken, report, proof)


def _check(host: Host, report: dict[str, str], proof: Proof) -> None:
    if proof.size != int(report["size"]):
        raise HostError(f"sent {proof.size} bytes of a snapshot of {report['size']}", host=host.name)
    if proof.revision < int(report["asked"]):
        raise HostError(
            f"its snapshot is stale: revision {proof.revision}, while the cluster was at {report['asked']}",
            host=host.name,
        )


def _manifest(member: str, cluster: str, taken: datetime, report: dict[str, str], proof: Proof) -> Manifest:
    same = report["revision"] == str(proof.revision)  # they were asked for at that one
    hashed = parse_hashkv(report["hash"]) if same else {}
    return Manifest(
        cluster=cluster,
        cluster_id=f"{int(report['cluster_id']):x}",
        token=report["token"],
        member=member,
        member_id=f"{int(report['member_id']):x}",
        etcd_version=report["version"],
        taken=taken,
        revision=proof.revision,
        keys=int(report["keys"]) if same and report["keys"] else None,
        hash=hashed.get("hash"),
        compact_revision=hashed.get("compact_revision"),
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
    """A file that a host's stream goes to.  Its own trouble goes before what the connection makes of it, which ends
    by it: that is no fault of the host's."""

    def __init__(self, path: Path, advance: Callable[[int], None] = lambda done: None) -> None:
        self._error: OpsError | None = None
        self._path = path
        self._advance = advance
        self._done = 0

    def __enter__(self) -> Self:
        try:
            self._stream = create(self._path)
        except OSError as error:
            raise failed(self._path, "written", error) from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stream.close()
        except OSError as error:
            self._error = self._error or failed(self._path, "written", error)
        if self._error:
            raise self._error from None

    def write(self, chunk: bytes) -> None:
        try:
            self._stream.write(chunk)
        except OSError as error:
            self._error = failed(self._path, "written", error)
            raise self._error from None
        self._done += len(chunk)
        self._advance(self._done)
