"""Record what real etcd releases answer: python tests/golden/etcd/record.py FOLDER VERSION...

FOLDER/VERSION holds etcd and etcdctl.  Writes beside this file VERSION.flags, the names of etcd's flags, and
VERSION.json: for each situation the answers and complaints that files/etcd.sh would bring, as ``etcd.parse_view``
takes them.  Runs on loopback addresses only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

QUERIES = {"health": "endpoint health", "status": "endpoint status", "members": "member list"}
NET = "127.77.0"
ENV = {"PATH": os.environ["PATH"]}
WAIT = 2
QUOTA = 1 << 20


class Cluster:
    """Members 1 to 4 of one cluster, each on an address of its own; 4 is the learner that comes later."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *numbers: int, members: tuple[int, ...] = (1, 2, 3), state: str = "new") -> None:
        for number in numbers:
            client, peer = f"http://{NET}.{number}:2379", f"http://{NET}.{number}:2380"
            flags = {
                "name": f"etcd0{number}",
                "data-dir": self.folder / str(number),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": ",".join(f"etcd0{each}=http://{NET}.{each}:2380" for each in members),
                "initial-cluster-state": state,
                "initial-cluster-token": self.folder.name,
                "quota-backend-bytes": QUOTA,
                "logger": "zap",
            }
            log = (self.folder / f"{number}.log").open("ab")
            argv = [str(self.programs / "etcd"), *(f"--{name}={value}" for name, value in flags.items())]
            self.running[number] = subprocess.Popen(argv, stdout=log, stderr=log, env=ENV)

    def stop(self, *numbers: int) -> None:
        for number in numbers:
            process = self.running.pop(number)
            process.kill()
            process.wait()

    def ctl(self, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        options = [f"--dial-timeout={WAIT}s", f"--command-timeout={WAIT}s", "--write-out=json"]
        argv = [str(self.programs / "etcdctl"), f"--endpoints=http://{NET}.{number}:2379", *options, *words]
        return subprocess.run(argv, capture_output=True, text=True, env=ENV, timeout=60)

    def ask(self, number: int) -> dict[str, dict[str, str]]:
        done = {query: self.ctl(number, *words.split()) for query, words in QUERIES.items()}
        return {
            "answers": {query: each.stdout for query, each in done.items()},
            "complaints": {query: shortened(each.stderr) for query, each in done.items()},
        }

    def status(self, number: int) -> dict[str, int]:
        entries = json.loads(self.ctl(number, "endpoint", "status").stdout or "[]")
        return {**entries[0]["Status"], "id": entries[0]["Status"]["header"]["member_id"]} if entries else {}


def shortened(text: str) -> str:
    """Without all but the last of the retries that etcdctl logs, of which there can be 80."""
    return "".join(text.splitlines(keepends=True)[-2:])


def wait(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not question():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


def record(cluster: Cluster) -> dict[str, dict[str, dict[str, str]]]:
    seen = {"down": cluster.ask(1)}
    cluster.start(1)
    wait(lambda: b"became pre-candidate" in log(cluster, 1) or b"became candidate" in log(cluster, 1))
    seen["alone"] = cluster.ask(1)
    cluster.start(2, 3)
    wait(lambda: all(cluster.ctl(each, "endpoint", "health").returncode == 0 for each in (1, 2, 3)))
    leader = next(each for each in (1, 2, 3) if cluster.status(each)["id"] == cluster.status(each)["leader"])
    follower = next(each for each in (1, 2, 3) if each != leader)
    seen["leader"], seen["follower"] = cluster.ask(leader), cluster.ask(follower)
    add = ("member", "add", "etcd04", "--learner", f"--peer-urls=http://{NET}.4:2380")
    wait(lambda: cluster.ctl(leader, *add).returncode == 0)  # refused until all have been connected for 5 s
    seen["member added"] = cluster.ask(leader)
    cluster.start(4, members=(1, 2, 3, 4), state="existing")
    wait(lambda: bool(cluster.status(4).get("isLearner")))
    seen["learner"] = cluster.ask(4)
    value = "x" * 100_000
    wait(lambda: cluster.ctl(leader, "put", "key", value).returncode != 0)
    wait(lambda: '"alarm":1' in cluster.ctl(leader, "alarm", "list").stdout)
    seen["no space"] = cluster.ask(leader)
    cluster.stop(4, *(each for each in (1, 2, 3) if each != leader))
    wait(lambda: not cluster.status(leader).get("leader"))
    seen["no quorum"] = cluster.ask(leader)
    return seen


def log(cluster: Cluster, number: int) -> bytes:
    return (cluster.folder / f"{number}.log").read_bytes()


def flags(program: Path) -> str:
    """The names of the flags, as files/apply.sh finds them in the help."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, env=ENV)
    names = re.findall(r"^\s+--([a-z0-9-]+)", done.stdout + done.stderr, re.MULTILINE)
    return "".join(f"{name}\n" for name in sorted(set(names)))


def main(folder: str, *versions: str) -> None:
    for version in versions:
        Path(__file__).with_name(f"{version}.flags").write_text(flags(Path(folder) / version / "etcd"))
        with tempfile.TemporaryDirectory() as scratch:
            cluster = Cluster(Path(folder) / version, Path(scratch))
            try:
                seen = record(cluster)
            finally:
                cluster.stop(*list(cluster.running))
        Path(__file__).with_name(f"{version}.json").write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
