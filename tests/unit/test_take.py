"""How long files/snapshot.sh waits while etcdctl saves; shell functions stand for the programs."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from etcdops import layout

SIZE = 4096  # of the database
CONTENT = bytes(SIZE)
SNAPSHOT = CONTENT + hashlib.sha256(CONTENT).digest()

# etcdctl writes $bytes of the snapshot, then waits for the fifo, which `sleep`, of 50 ms, opens after $pauses of them.
# `kill` is left as it is, so that what is watched is watched; `stat` of the growing file answers without a process.
HARNESS = r"""
systemctl() { echo $$; }
mktemp() { mkdir "$FAKE/work" && echo "$FAKE/work"; }
find() { :; }
sync() { exit; } # which is beside what is tested
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
    */dev/fd/3) if [ -s "$work/db.part" ]; then echo "$bytes"; else echo 0; fi ;;
    -f*) echo '1000000 * 4096' ;;
    *) command stat "$@" ;;
    esac
}
"""


def saved(folder: Path, bytes_: int, pauses: int) -> subprocess.CompletedProcess[bytes]:
    """The script, with an etcdctl that stands still for so many pauses after so many bytes."""
    (folder / "snapshot").write_bytes(SNAPSHOT)
    subprocess.run(["mkfifo", folder / "fifo"], check=True)
    script = f"FAKE={folder} bytes={bytes_} pauses={pauses}\n{HARNESS}\n{layout.script('client', 'snapshot')}"
    return subprocess.run(["sh", "-c", script, "snapshot", "l"], capture_output=True, timeout=120)


@pytest.mark.parametrize(("bytes_", "pauses"), [(1024, 2300), (len(SNAPSHOT), 3000)])
def test_etcd_that_stands_still_for_a_while(tmp_path: Path, bytes_: int, pauses: int) -> None:
    """Two minutes in the midst of it; longer at the end, when it is all there and goes to the disk."""
    done = saved(tmp_path, bytes_, pauses)
    assert (done.returncode, done.stdout) == (0, SNAPSHOT), done.stderr
    assert b"size\t4128\nasked\t7\n" in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("bytes_", "pauses"), [(0, 3000), (4095, 3000)])
def test_etcd_that_stands_still_for_ever(tmp_path: Path, bytes_: int, pauses: int) -> None:
    done = saved(tmp_path, bytes_, pauses)
    assert (done.returncode, done.stdout) == (1, SNAPSHOT[:bytes_])
    assert f"etcd stopped giving the snapshot after {bytes_} bytes" in done.stderr.decode()
    assert not (tmp_path / "work").exists()
