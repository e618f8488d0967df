"""A task while one host has a fault: how it may end then, and that it ends well once the fault is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.walk import PATIENCE, Walk
from tests.chaos.words import a_backup, a_setting, another_release
from tests.lab import kept


@dataclass(frozen=True)
class Meanwhile:
    """A task while one host has a fault, and with what it may end: where SSH does not reach the host, where its
    member does not answer, and where either may be.  ``again``: it must end well once the fault is gone."""

    name: str
    words: Callable[[Walk, str], Sequence[str]]
    silent: frozenset[int]
    down: frozenset[int]
    perhaps: frozenset[int]
    again: bool = True

    def codes(self, fault: Fault) -> frozenset[int]:
        """How it may end."""
        return self.silent if fault.silent else self.down if fault.down else self.perhaps


def fixed(*words: str) -> Callable[[Walk, str], Sequence[str]]:
    return lambda walk, name: words


def to_another(walk: Walk, name: str) -> Sequence[str]:
    return ["move-leader", f"--to={walk.choose([each for each in walk.names if each != name])}"]


def whoever(words: Callable[[Walk], Sequence[str]]) -> Callable[[Walk, str], Sequence[str]]:
    """The same, whichever host it is that has the fault."""
    return lambda walk, name: words(walk)


ANY = frozenset({0, 3, 4, 5})
MEANWHILE = (
    Meanwhile("status", fixed("status"), frozenset({4}), frozenset({5}), frozenset({0, 5}), again=False),
    Meanwhile("doctor", fixed("doctor"), frozenset({4, 5}), frozenset({5}), frozenset({0, 5}), again=False),
    Meanwhile("backup", fixed("backup"), frozenset({0}), frozenset({0}), frozenset({0})),
    Meanwhile("deploy", whoever(a_setting), frozenset({4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("restart", fixed("restart"), frozenset({4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("defrag", fixed("defrag", "--force"), frozenset({3, 4, 5}), frozenset({3, 4, 5}), ANY),
    Meanwhile("compact", fixed("compact"), frozenset({0, 4}), frozenset({0, 5}), ANY),
    Meanwhile("change of release", whoever(another_release), frozenset({3, 4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("move-leader", to_another, ANY, ANY, ANY, again=False),
    Meanwhile("restore", whoever(a_backup), frozenset({4}), ANY, ANY, again=False),
)


@contextlib.contextmanager
def suffering(walk: Walk, fault: Fault, name: str) -> Iterator[None]:
    fault.happen(walk, name)
    try:
        yield
    finally:
        fault.pass_(walk, name)


def meanwhile(walk: Walk) -> tuple[str, str]:
    """A fault of one host, a task while it lasts, and that task again where it did not end well."""
    fault, name = walk.chance.choice(FAULTS), walk.choose(walk.names)
    task = walk.chance.choice([each for each in MEANWHILE if each.name != "restore" or walk.backups])
    what = f"{task.name} while {fault.name}"
    walk.say(f"     {what} on {name}")
    before = kept.cluster_id(walk.project, walk.names[0])
    with suffering(walk, fault, name):
        walk.clients.go_on()
        words = task.words(walk, name)
        done = walk.inv(*words)
        if done.code:
            walk.say(f"     {done.code}: {' | '.join(done.stderr.splitlines()[-2:])}")
        assert done.code in task.codes(fault), (what, words, done)
        walk.clients.go_on()
    outcome = {0: "done", 3: "refused", 4: "not reached", 5: "unhealthy"}[done.code]
    walk.hosts.eventually(lambda: walk.inv("health").code == 0, PATIENCE)
    if task.name == "restore" and kept.cluster_id(walk.project, walk.names[0]) != before:
        walk.restored(words[1])
    if done.code and task.again:
        walk.inv(*words).ok()
    return what, outcome
