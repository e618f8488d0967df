"""A run that changes something, and whose output cannot be written any more: it goes on, and ends as it would have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A task with a flag of those that change something, and all that it can do with its output.
PROGRAM = """
import sys, types
from invoke import Collection
from etcdops.cli import main
from etcdops.errors import Refused
from etcdops.task import task
from etcdops.ui import LARGE

@task("yes")
def changes(run):
    run.ui.step("Begin")
    print("begun", file=open(3, "w"), flush=True)
    sys.stdin.readline()
    for _ in range(2):
        with run.ui.transfer("send to") as progress:
            progress("etcd01", LARGE, LARGE)
            run.ui.line("a detail")
        run.ui.result("a result")
        run.ui.table(["member"], [["etcd01"]])
    raise Refused("the true end")

sys.modules["tasks"] = types.SimpleNamespace(ns=Collection(changes))
main()
"""


@pytest.fixture(params=["its reader goes", "its terminal goes", "the disk is full", "closed from the beginning"])
def output(request: pytest.FixtureRequest) -> Iterator[tuple[int | None, int | None]]:
    """Both streams in one, as after 2>&1, and who reads it: each None where there is none."""
    match request.param:
        case "its reader goes":
            read, write = os.pipe()
        case "its terminal goes":
            read, write = os.openpty()
        case "the disk is full":
            read, write = None, os.open("/dev/full", os.O_WRONLY)
        case _:
            read = write = None
    yield write, read


def run(folder: Path, environment: dict[str, str], write: int | None, read: int | None) -> int:
    """Its exit code; once it has begun, nobody reads any more."""
    told, tell = os.pipe()
    shell = f"exec 3>&{tell}; " + ("exec >&- 2>&-; " if write is None else "") + 'exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", sys.executable, "-c", PROGRAM, "changes"],
        cwd=ROOT,
        env={**environment, "ETCDOPS_CONFIG": str(folder / "config.yaml"), "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=write,
        pass_fds=[tell],
        start_new_session=True,
    )
    for each in (tell, write):
        if each is not None:
            os.close(each)
    try:
        with open(told, "rb") as begun:
            assert begun.readline() == b"begun\n"
        if read is not None:
            assert b"==> Begin" in os.read(read, 100)
            os.close(read)
        process.communicate(b"\n", timeout=30)
        return process.returncode
    finally:
        process.kill()
        process.wait()


def test_it_goes_on_to_its_end(
    output: tuple[int | None, int | None], tmp_path: Path, environment: dict[str, str]
) -> None:
    assert run(tmp_path, environment, *output) == 3
    (path,) = (tmp_path / ".etcdops" / "runs").iterdir()
    events: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    said = [each["text"] for each in events if each["event"] == "said"]
    assert said == ["==> Begin", *(2 * ["    a detail", "a result"])]
    assert (events[-1]["event"], events[-1]["code"]) == ("end", 3)
