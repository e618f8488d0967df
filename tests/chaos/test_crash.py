"""The crash matrix: each changing task, killed at each of its boundaries, and the same command again.

The cluster goes on serving, the second run ends well and where an undisturbed one does, no acknowledged write is lost,
and nothing is left over, here or on a host.  A task with more than ETCDOPS_CRASH_SAMPLE boundaries (40) has as many of
them tried, others each time; ETCDOPS_CRASH_SEED is which, and is printed.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.chaos import leftovers
from tests.chaos.crash import Matrix, Task
from tests.chaos.states import State
from tests.hosts import Hosts, Project
from tests.lab import kept
from tests.lab.members import FIVE, address
from tests.lab.test_upgrade import archives

SAMPLE = int(os.environ.get("ETCDOPS_CRASH_SAMPLE") or 40)
SEED = int(os.environ.get("ETCDOPS_CRASH_SEED") or random.SystemRandom().randrange(10**6))
OLD, NEW = "3.6.16", "3.7.3"


def change_a_setting(project: Project) -> None:
    project.config["cluster"]["settings"] = {"snapshot-count": 5000}
    project.write()


def lose_a_disk(project: Project) -> None:
    project.hosts.sh("etcd02", "systemctl kill --signal=KILL etcd; rm -rf /var/lib/etcd/default.etcd")


TASKS = {
    "deploy": Task("bare", ("deploy",)),
    "deploy with a changed setting": Task("deployed", ("deploy",), change_a_setting),
    "restart": Task("deployed", ("restart",)),
    "defrag": Task("deployed", ("defrag", "--force")),
    "backup": Task("deployed", ("backup",)),
    "restore": Task("deployed", ("restore", "latest", "--yes"), interrupts=True),
    "add-member": Task("deployed", ("add-member", "etcd04", f"--address={address('etcd04')}")),
    "remove-member": Task("deployed", ("remove-member", "etcd03", "--yes")),
    "replace-member": Task(
        "deployed", ("replace-member", "etcd02", "--with=etcd04", f"--address={address('etcd04')}", "--yes")
    ),
    "replace-member after a lost disk": Task("deployed", ("replace-member", "etcd02", "--yes"), lose_a_disk),
    "upgrade": Task("deployed", ("upgrade", f"--to={NEW}")),
    "rotate-certs": Task("deployed", ("rotate-certs",)),
    "rotate-ca": Task("deployed", ("rotate-ca", "--yes")),
    "enable-tls": Task("plain", ("enable-tls", "--close-http", "--yes")),
    "disable-tls": Task("deployed", ("disable-tls", "--close-https", "--yes")),
}


@pytest.fixture(scope="module")
def place(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose hosts come back to any state that was saved."""
    folder = tmp_path_factory.mktemp("crash") / "project"
    folder.mkdir()
    with hosts.more(len(FIVE)):
        hosts.bare()
        project = Project(hosts, folder, version=OLD, release=archives(hosts, OLD, NEW), ssh={"connect_timeout": 5})
        leftovers.temporary(project)
        yield project


@pytest.fixture(scope="module")
def state(place: Project) -> Callable[[str], State]:
    """Each state that a task asks for, made when one first does."""
    bare = State.save(place, "bare")

    @functools.cache
    def made(name: str) -> State:
        if name == "bare":
            return bare
        bare.come_back(place)
        place.config["cluster"]["tls"] = name == "deployed"
        place.write()
        place.inv("deploy").ok()
        kept.fill(place, "before")
        place.inv("backup").ok()
        kept.fill(place, "after")
        return State.save(place, name)

    return made


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints at once, also from a worker of pytest-xdist, whose standard output nobody sees."""

    def print_(text: str) -> None:
        with capfd.disabled():
            print(text, file=sys.stderr, flush=True)

    return print_


@pytest.mark.timeout(900 + SAMPLE * 300)
@pytest.mark.parametrize("name", TASKS)
def test_killed_anywhere_the_same_command_ends_it(
    place: Project, state: Callable[[str], State], say: Callable[[str], None], name: str
) -> None:
    task = TASKS[name]
    matrix = Matrix(name, task, place, state(task.state), say)
    say(f"\nETCDOPS_CRASH_SEED={SEED} ETCDOPS_CRASH_SAMPLE={SAMPLE}")
    matrix.run(SAMPLE, random.Random(f"{SEED} {name}"))
    wrong = matrix.wrong
    assert not wrong, "\n".join([f"{len(wrong)} of {len(matrix.results)} boundaries:", *wrong])
