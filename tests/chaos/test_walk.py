"""Endurance: tasks and faults in random order, clients writing all along, and no acknowledged write lost.

``moves.py`` says which.  Full quotas (tests/lab/test_space.py), auth and adopt are not among them.

ETCDOPS_WALK_SECONDS is for how long (600), ETCDOPS_WALK_SEED which walk: the one that is printed, to walk it again.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import leftovers
from tests.chaos.clients import Clients
from tests.chaos.moves import MOVES, elsewhere
from tests.chaos.walk import NEW, OLD, Walk
from tests.hosts import Hosts, Project
from tests.lab.members import FIVE, address
from tests.lab.test_upgrade import archives

SECONDS = float(os.environ.get("ETCDOPS_WALK_SECONDS") or 600)
SEED = int(os.environ.get("ETCDOPS_WALK_SEED") or random.SystemRandom().randrange(10**6))


def known(hosts: Hosts, file: Path) -> Path:
    """The hosts' keys, at the other address of each too."""
    text = (hosts.folder / "lab/known_hosts").read_text()
    there = text
    for name in FIVE:
        there = there.replace(address(name), elsewhere(name))
    file.write_text(text + there)
    return file


@pytest.fixture
def walk(hosts: Hosts, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Walk]:
    began = time.monotonic()

    def say(text: str) -> None:
        with capfd.disabled():  # also from a worker of pytest-xdist, whose standard output nobody sees
            print(f"{time.monotonic() - began:6.1f}  {text}", file=sys.stderr, flush=True)

    folder = tmp_path / "project"
    folder.mkdir()
    with hosts.more(len(FIVE)):
        hosts.bare()
        project = Project(
            hosts,
            folder,
            version=OLD,
            release=archives(hosts, OLD, NEW),
            ssh={"connect_timeout": 1, "known_hosts": str(known(hosts, tmp_path / "known_hosts"))},
            backup={"keep": {"last": 5}},
        )
        leftovers.temporary(project)
        say(f"ETCDOPS_WALK_SEED={SEED} ETCDOPS_WALK_SECONDS={SECONDS:.0f}")
        project.inv("deploy").ok()
        with Clients(project, {name: address(name) for name in FIVE}) as clients:
            yield Walk(hosts, project, clients, random.Random(SEED), say)


@pytest.mark.walk
@pytest.mark.timeout(SECONDS + 1200)
def test_nothing_is_lost_on_a_random_walk(walk: Walk) -> None:
    try:
        walk.go(SECONDS, MOVES)
        walk.full_check()
    finally:
        for line in walk.table():
            walk.say(line)
