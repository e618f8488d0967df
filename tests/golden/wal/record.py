"""Makes the write-ahead logs of this folder anew: record.py FOLDER, where FOLDER/VERSION holds a release's programs.

Beside each log, which is without the zeros at its end: what `endpoint status` said of its member before it was killed.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
URLS = {
    name: (f"http://127.0.0.1:{23890 + 2 * n}", f"http://127.0.0.1:{23891 + 2 * n}") for n, name in enumerate("abc")
}


class Members:
    """Members of one cluster, each of which can be killed and started again."""

    def __init__(self, programs: Path, work: Path, names: str, *flags: str) -> None:
        self._programs, self._work, self._flags = programs, work, flags
        self._names = names
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names:
            client, peer = URLS[name]
            cluster = ",".join(f"{each}={URLS[each][1]}" for each in self._names)
            self._running[name] = subprocess.Popen(
                [
                    self._programs / "etcd", "--name", name, "--data-dir", self._work / name,
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", cluster, *self._flags,
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        for name in names:
            self._until(name, "get", "x", "--write-out=json")

    def kill(self, *names: str) -> None:
        for name in names:
            self._running[name].kill()
            self._running.pop(name).wait()

    def ctl(self, name: str, *words: str, stdin: bytes = b"") -> str:
        """etcdctl through one member; '' when it failed."""
        argv: list[str | Path] = [
            self._programs / "etcdctl",
            "--endpoints",
            URLS[name][0],
            "--command-timeout=2s",
            *words,
        ]
        env = {"ETCDCTL_API": "3"}
        done = subprocess.run(argv, env=env, input=stdin, capture_output=True, check=False, timeout=30)
        return done.stdout.decode() if done.returncode == 0 else ""

    def fill(self, name: str, count: int, value: bytes = b"v") -> None:
        for n in range(count):
            self.ctl(name, "put", f"key{n}", stdin=value)

    def save(self, file: str, name: str) -> None:
        """The log of ``name``, once it has all that it was sent, and what it said of itself."""
        status = json.loads(self._until(name, "endpoint", "status", "--write-out=json"))[0]["Status"]
        self.kill(name)
        segments = [path.read_bytes() for path in sorted((self._work / name / "member/wal").glob("*.wal"))]
        (HERE / f"{file}.wal.xz").write_bytes(lzma.compress(b"".join(segments).rstrip(b"\0"), preset=9))
        said: dict[str, Any] = {"term": status["raftTerm"], "index": status["raftIndex"], "segments": len(segments)}
        (HERE / f"{file}.json").write_text(f"{json.dumps(said)}\n")
        print(file, said)

    def _until(self, name: str, *words: str) -> str:
        until = time.monotonic() + 20
        while not (said := self.ctl(name, *words)):
            assert time.monotonic() < until, (name, words)
            time.sleep(0.1)
        return said


@contextlib.contextmanager
def members(programs: Path, names: str, *flags: str) -> Iterator[Members]:
    with tempfile.TemporaryDirectory() as work:
        made = Members(programs, Path(work), names, *flags)
        try:
            made.start(*names)
            yield made
        finally:
            made.kill(*made._running)


def main(folder: Path) -> None:
    for version in ("3.4.23", "3.5.30", "3.6.16", "3.7.3"):
        with members(folder / version, "a") as one:
            one.fill("a", 20)
            one.kill("a")
            one.start("a")
            one.fill("a", 3)
            one.save(version, "a")
    newest = folder / "3.6.16"
    with members(newest, "a") as one:  # 64 MB and a little
        one.fill("a", 55, b"x" * 1_300_000)
        one.save("segments", "a")
    with members(newest, "abc") as three:  # a leader's entries that nobody else got, and that the next one's replace
        three.fill("a", 3)
        leader = next(name for name in "abc" if _leads(three, name))
        others = [name for name in "abc" if name != leader]
        three.kill(*others)
        three.fill(leader, 5)
        three.kill(leader)
        three.start(*others)
        three.ctl(others[0], "put", "after", "all")
        three.start(leader)
        three.save("overwritten", leader)
    few = ("--snapshot-count=10", "--snapshot-catchup-entries=5")
    with members(newest, "abc", *few) as three:  # a member that was away so long that it was sent a snapshot
        three.kill("c")
        three.fill("a", 60)
        three.start("c")
        three.fill("a", 2)
        three.save("snapshot", "c")


def _leads(three: Members, name: str) -> bool:
    status = json.loads(three.ctl(name, "endpoint", "status", "--write-out=json"))[0]["Status"]
    return bool(status["leader"] == status["header"]["member_id"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
