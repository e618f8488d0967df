"""What files/snapshot.sh makes of what etcdctl saves, where shell functions stand for the programs; and what is made of
that here."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from etcdops import layout
from etcdops.errors import HostError, OpsError
from etcdops.snapshots.proof import Sum, prove
from etcdops.snapshots.take import _fetch
from etcdops.ssh import Completed, Host
from tests.unit import snapshots

SIZE = 4096  # of the database
CONTENT = bytes(SIZE)
SNAPSHOT = CONTENT + hashlib.sha256(CONTENT).digest()

# etcdctl writes $bytes of the snapshot, then waits for the fifo, which `sleep`, of 50 ms, opens after $pauses of them.
# `kill` is left as it is, so that what is watched is watched; `stat` of the growing file answers without a process.
HARNESS = r"""
systemctl() { echo $$; }
mktemp() { echo "$2" >"$FAKE/place" && mkdir "$FAKE/work" && echo "$FAKE/work"; }
find() { :; }
etcdctl() {
    case "$*" in
    *'endpoint status'*) echo '{"dbSize":4096,"cluster_id":1,"member_id":2,"version":"3.6.16"}' ;;
    *'snapshot save'*)
        head -c "$bytes" "$FAKE/snapshot" >"$work/db.part"
        read -r _ <"$FAKE/fifo"
        tail -c "+$((bytes + 1))" "$FAKE/snapshot" >>"$work/db.part"
        mv "$work/db.part" "$work/db"
        ;;
    *' get etcdops'*|*--consistency=*) echo '{"revision":7}' ;;
    *) echo '[]' ;;
    esac
}
slept=0
sleep() {
    slept=$((slept + 1))
    [ $slept != "$pauses" ] || echo >"$FAKE/fifo"
}
stat() {
    case "$*" in
    */dev/fd/3)
        if [ -s "$work/db.part" ]; then echo "$bytes"
        elif [ -e "$work/db.part" ]; then echo 0
        else command stat "$@"; fi
        ;;
    -f*) echo '1000000 * 4096' ;;
    *) command stat "$@" ;;
    esac
}
"""


def saved(
    folder: Path, bytes_: int, pauses: int, snapshot: bytes = SNAPSHOT, fakes: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """The script, with an etcdctl that stands still for so many pauses after so many bytes."""
    (folder / "snapshot").write_bytes(snapshot)
    subprocess.run(["mkfifo", folder / "fifo"], check=True)
    script = f"FAKE={folder} bytes={bytes_} pauses={pauses}\n{HARNESS}\n{fakes}\n{layout.script('client', 'snapshot')}"
    return subprocess.run(["sh", "-c", script, "snapshot", "l"], capture_output=True, timeout=120)


@pytest.mark.parametrize(("bytes_", "pauses"), [(1024, 1000), (len(SNAPSHOT), 3000)])
def test_etcd_that_stands_still_for_a_while(tmp_path: Path, bytes_: int, pauses: int) -> None:
    """Two minutes would do in the midst of it; longer at the end, when it is all there and goes to the disk."""
    done = saved(tmp_path, bytes_, pauses)
    assert (done.returncode, done.stdout) == (0, SNAPSHOT), done.stderr
    assert b"size\t4128\nasked\t7\n" in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("bytes_", "pauses"), [(0, 3000), (4095, 3000)])
def test_etcd_that_stands_still_for_ever(tmp_path: Path, bytes_: int, pauses: int) -> None:
    done = saved(tmp_path, bytes_, pauses)
    assert (done.returncode, done.stdout) == (1, SNAPSHOT[: max(0, bytes_ - 32)])  # the digest would be the last 32
    assert f"etcd stopped giving the snapshot after {bytes_} bytes" in done.stderr.decode()
    assert not (tmp_path / "work").exists()


FREE = """
sed() { case "$*" in */proc/meminfo) echo MEMORY ;; *) command sed "$@" ;; esac; }
stat() {
    case "$*" in
    '-f -c %a * %S -- /dev/shm') echo 'SHM * 1048576' ;;
    '-f -c %a * %S -- /var/tmp') echo 'TMP * 1048576' ;;
    '-f -c %a * %S -- /var/lib/etcd') echo 'DATA * 1048576' ;;
    *) command stat "$@" ;;
    esac
}
"""
NEED = 65  # MiB, for a database of a page
PLACES = {  # MiB of memory, and of room in /dev/shm, /var/tmp and /var/lib/etcd
    "memory": ((4 * NEED, NEED, NEED, NEED), "/dev/shm"),
    "more than a quarter of the memory": ((4 * NEED - 5, NEED, NEED, NEED), "/var/tmp"),
    "memory, of which /dev/shm may not have as much": ((4 * NEED, NEED - 2, NEED, NEED), "/var/tmp"),
    "etcd's own disk alone has the room": ((0, NEED, NEED - 2, NEED), "/var/lib/etcd"),
    "none": ((4 * NEED - 5, NEED, NEED - 2, NEED - 2), ""),
}


@pytest.mark.parametrize(("free", "place"), PLACES.values(), ids=PLACES.keys())
def test_where_it_is_kept_meanwhile(tmp_path: Path, free: tuple[int, int, int, int], place: str) -> None:
    memory, shm, tmp, data = map(str, free)
    fakes = (
        FREE.replace("MEMORY", f"{int(memory) * 1024}").replace("SHM", shm).replace("TMP", tmp).replace("DATA", data)
    )
    done = saved(tmp_path, 1024, 1, fakes=fakes)
    if place:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "place").read_text() == f"{place}/.etcdops-snapshot.XXXXXXXX\n"
    else:
        assert "no room for a snapshot of 64 MiB in /var/tmp or /var/lib/etcd" in done.stderr.decode()


def test_what_has_been_sent_takes_no_room(tmp_path: Path) -> None:
    """Half of it stands there for a while, and is gone then from the disk, if not from the file."""
    content = bytes(range(1, 256)) * 4096
    whole = content[: 1 << 20] + hashlib.sha256(content[: 1 << 20]).digest()
    look = 'fallocate() { command fallocate "$@"; command stat -L -c "%s %b" /dev/fd/3 >>"$FAKE/room"; }'
    done = saved(tmp_path, 600_000, 1000, whole, look)
    assert (done.returncode, done.stdout) == (0, whole), done.stderr
    looks = [tuple(map(int, line.split())) for line in (tmp_path / "room").read_text().splitlines()]
    assert [size for size, _ in looks] == [600_000, len(whole)]
    assert all(blocks * 512 <= 2 * 4096 for _, blocks in looks)  # the pages that its last bytes are in


FLIPPED = bytes(100) + b"\1" + SNAPSHOT[101:]
NOT_ITS = "the snapshot is damaged here already: its digest is not that of its content"
DAMAGED = {
    "a flipped bit": (FLIPPED, NOT_ITS),
    "one more byte": (SNAPSHOT + b"\n", "the snapshot has 4129 bytes, which is"),
}


@pytest.mark.parametrize(("snapshot", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_found_on_the_host(tmp_path: Path, snapshot: bytes, words: str) -> None:
    done = saved(tmp_path, 1024, 1, snapshot)
    assert (done.returncode, done.stdout) == (1, snapshot)
    assert words in done.stderr.decode()
    assert not (tmp_path / "work").exists()


# Here


def fetched(path: Path, script: Callable[[Any, Any], int], then: Callable[[Sum], object]) -> tuple[dict[str, str], Any]:
    """What is made of a host's script, that is given where its output and what it says go to."""

    def work(*, relay: tuple[Any, Any], **_: object) -> Completed:
        return Completed(script(*relay), "", "", 0)

    host = cast(Host, type("", (), {"name": "etcd01"}))
    return _fetch(host, path, lambda done: None, work, then)


SIZE_TOLD = f"size\t{len(SNAPSHOT)}\n".encode()


@pytest.mark.parametrize("first", ["the bytes", "their number", "half of it"])
def test_proof_begins_when_all_has_come(tmp_path: Path, first: str) -> None:
    """And the host need not have come to its end; whichever of its two streams is faster."""
    path, begun = tmp_path / "db", threading.Event()

    def script(out: Callable[[bytes], None], err: Callable[[bytes], None]) -> int:
        pieces: list[tuple[Callable[[bytes], None], bytes]] = [
            (out, SNAPSHOT[:1000]),
            (out, SNAPSHOT[1000:]),
            (err, SIZE_TOLD[:6]),
            (err, SIZE_TOLD[6:]),
        ]
        order = {"the bytes": (0, 1, 2, 3), "their number": (2, 3, 0, 1), "half of it": (0, 2, 1, 3)}[first]
        for n in order:
            assert not begun.is_set()
            pieces[n][0](pieces[n][1])
        assert begun.wait(10)
        err(b"asked\t7\n")
        return 0

    def then(total: Sum) -> tuple[bytes, bool]:
        begun.set()
        return path.read_bytes(), total.result()[1]

    report, found = fetched(path, script, then)
    assert report == {"size": str(len(SNAPSHOT)), "asked": "7"}
    assert found == (SNAPSHOT, True)


FAILURES: dict[str, tuple[bytes, bytes, int, str]] = {
    "it says why": (SNAPSHOT, SIZE_TOLD + NOT_ITS.encode() + b"\n", 1, NOT_ITS),
    "it says nothing": (SNAPSHOT, SIZE_TOLD, 1, "exit status 1, without a word"),
    "less came": (SNAPSHOT[:-1], SIZE_TOLD, 0, f"sent {len(SNAPSHOT) - 1} bytes of a snapshot of {len(SNAPSHOT)}"),
    "more came": (SNAPSHOT + b"x", SIZE_TOLD, 0, f"sent {len(SNAPSHOT) + 1} bytes of a snapshot of {len(SNAPSHOT)}"),
}


@pytest.mark.parametrize(("data", "said", "rc", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_host_that_fails(tmp_path: Path, data: bytes, said: bytes, rc: int, words: str) -> None:
    """Its word goes before that of the proof."""

    def script(out: Callable[[bytes], None], err: Callable[[bytes], None]) -> int:
        out(data)
        err(said)
        return rc

    def then(total: Sum) -> None:
        raise AssertionError("the file is damaged")

    with pytest.raises(HostError) as caught:
        fetched(tmp_path / "db", script, then)
    assert caught.value.message == words


def sent(path: Path, data: bytes) -> object:
    """The proof of what a member has sent."""

    def script(out: Callable[[bytes], None], err: Callable[[bytes], None]) -> int:
        out(data)
        err(f"size\t{len(data)}\n".encode())
        return 0

    return fetched(path, script, lambda total: prove(path, sum_=total))[1]


def test_damage_of_a_member_is_no_trouble_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad page under a right SHA-256: another member may do.  What cannot be read here is this machine's."""
    whole = snapshots.content(snapshots.NAMES[0])
    page = 4096 * 2  # beyond both metas
    bad = snapshots.signed(whole[:page] + b"\xff" * 4096 + whole[page + 4096 : -32])
    with pytest.raises(HostError, match=r"^etcd01: its snapshot is damaged: page 2 .*; so its own database is$"):
        sent(tmp_path / "bad", bad)
    sent(tmp_path / "whole", whole)

    def fails(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("etcdops.snapshots.bolt.os.pread", fails)
    with pytest.raises(OpsError, match="cannot be read: Input/output error") as caught:
        sent(tmp_path / "unreadable", whole)
    assert not isinstance(caught.value, HostError)
