"""Runs of ./inv that die at one exact boundary: which there are, which to try, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import leftovers
from tests.chaos.clients import Clients, Origin
from tests.chaos.states import Portrait, State, commit, differences, members_of, portrait
from tests.hosts import Process, Project
from tests.lab import kept
from tests.lab.members import FIVE, address, host_at, reread

HOOK = Path(__file__).parent / "hook"
LONGEST = 600.0  # seconds for one run
TRIES = 3  # runs that are to die at one boundary, until one does
LONG = 0.15  # seconds from which on a command is killed in its middle, too


@dataclass(frozen=True)
class Boundary:
    """Where a run is killed: ``phase`` of command ``number``, which is the ``nth`` of its step; ``name`` is who does
    what there."""

    number: int
    nth: int
    phase: str  # before | after | within
    name: str
    delay: float = 0.0

    @property
    def words(self) -> str:
        """For ETCDOPS_CRASH_AT."""
        delay = f" {self.delay:.3f}" if self.phase == "within" else ""
        return f"{self.phase} {self.nth}{delay} {self.what}"

    @property
    def what(self) -> str:
        """The step, on whatever host; here where a name changes."""
        return self.name.partition(" ")[2]

    @property
    def kind(self) -> str:
        """What it has in common with others: the step, on whatever host; here the folder, whatever file."""
        return f"{self.phase} {self.what}"

    def __str__(self) -> str:
        return f"{self.phase} {self.number} ({self.name})"


def boundaries(log: str, chance: random.Random) -> list[Boundary]:
    """Every boundary of the run that has written ``log``; one in the middle of each command that takes its time."""
    rows = [line.split("\t") for line in log.splitlines()]
    took = {int(row[0]): float(row[2]) for row in rows if row[1] == "took"}
    found = []
    seen: Counter[str] = Counter()
    for number, where, what in [(int(row[0]), *row[1:]) for row in rows if row[1] != "took"]:
        name = f"{where} {what}"
        seen[what] += 1
        nth = seen[what]
        found.append(Boundary(number, nth, "before", name))
        if where != "here":
            found.append(Boundary(number, nth, "after", name))
            if took.get(number, 0.0) > LONG:
                found.append(Boundary(number, nth, "within", name, chance.uniform(0.05, took[number])))
    return found


def sample(found: Sequence[Boundary], count: int, chance: random.Random) -> list[Boundary]:
    """So many of them, in their order: each kind once before any kind twice, for most commands only look."""
    if len(found) <= count:
        return list(found)
    kinds: dict[str, list[Boundary]] = {}
    for each in chance.sample(list(found), len(found)):
        kinds.setdefault(each.kind, []).append(each)
    chosen: list[Boundary] = []
    while len(chosen) < count:
        turn = [each.pop() for each in kinds.values() if each]
        chance.shuffle(turn)
        chosen += turn[: count - len(chosen)]
    return sorted(chosen, key=lambda each: (each.number, each.phase))


def instead(at: Boundary, rest: Sequence[Boundary]) -> list[Boundary]:
    """Where to kill a run that is to die at ``at``, until one does: there, at others of its kind, there once more.

    Each time sooner in the middle of a command: on a machine that was busy it took longer than it does now.
    """
    others = [each for each in rest if each.kind == at.kind]
    turns = [at, *others, *[at] * TRIES][:TRIES]
    return [dataclasses.replace(each, delay=each.delay / 10**n) for n, each in enumerate(turns)]


def death(at: Boundary, log: str) -> Boundary | None:
    """Where the run that has written ``log`` died, if that was ``at``: which host had the command may differ."""
    rows = [line.split("\t") for line in log.splitlines()]
    mine = [row for row in rows if row[1] != "took" and row[2] == at.what]
    if len(mine) < at.nth:
        return None
    number, where, _ = mine[at.nth - 1]
    if at.phase == "within" and any(row[:2] == [number, "took"] for row in rows):
        return None  # it had come to its end before
    return dataclasses.replace(at, name=f"{where} {at.what}")


@dataclass(frozen=True)
class Task:
    """A changing task: its ``words``, and the state that it is run in, by name.

    ``before`` is done to that state each time, such as changing a setting.  ``interrupts``: it stops the cluster on
    purpose, so that a run that is killed may leave it down.
    """

    state: str
    words: tuple[str, ...]
    before: Callable[[Project], object] = lambda project: None
    interrupts: bool = False


@dataclass
class Matrix:
    """The trials of one task: an undisturbed run first, then one for each boundary."""

    name: str
    task: Task
    project: Project
    state: State
    say: Callable[[str], None]
    results: list[tuple[Boundary, str]] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)  # how often a run died at each kind of boundary

    def run(self, count: int, chance: random.Random) -> None:
        """``count`` boundaries, or all if there are no more; what came of them is in ``results``.

        No two runs are quite alike, so one may miss its boundary: then it is the turn of others of that kind.
        """
        self._prepare()
        before = portrait(self.project)
        log = self.project.folder.parent / "boundaries"
        log.unlink(missing_ok=True)
        with self._writing() as clients:
            clean = self._start(log).end(LONGEST).ok()
        end = self._end(before, clients)
        deploy = self.project.inv("deploy").ok().stdout  # so nothing is left to do wherever the end is the same
        assert deploy.startswith("nothing to do in "), deploy
        found = boundaries(log.read_text(), chance)
        chosen = sample(found, count, chance)
        self.say(
            f"{self.name}: {clean.seconds:.1f} s undisturbed, {len(found)} boundaries, {len(chosen)} of them tried"
        )
        rest = [each for each in found if each not in chosen]
        for each in chosen:
            for one in instead(each, rest):
                hits = self.hits[each.kind]
                if self._try(one, before, end).startswith("WRONG") or self.hits[each.kind] > hits:
                    break
        self.say(
            f"{self.name}: {self.hits.total()} of {len(self.results)} runs hit; kinds of boundaries, and how often:"
        )
        for kind in sorted({*self.hits, *self._tried}):
            self.say(f"{self.name}: {self.hits[kind]:5} {kind}")

    def _try(self, at: Boundary, before: Portrait, end: Mapping[str, str]) -> str:
        """One trial, and what came of it, which is noted."""
        began = time.monotonic()
        self._prepare()
        try:
            result = self._trial(at, before, end)
        except AssertionError as error:
            result = f"WRONG: {error}"
        self.results.append((at, result))
        self.say(f"{self.name}: {at}: {result} ({time.monotonic() - began:.0f} s)")
        return result

    @property
    def wrong(self) -> list[str]:
        """The boundaries at which a run must not be killed, and kinds of them at which none was."""
        killed = [f"{each}: {result}" for each, result in self.results if result.startswith("WRONG")]
        return killed + [f"{kind}: never hit" for kind in sorted(self._tried) if not self.hits[kind]]

    @property
    def _tried(self) -> set[str]:
        return {each.kind for each, _ in self.results}

    def _prepare(self) -> None:
        self.state.come_back(self.project)
        self.task.before(self.project)
        reread(self.project)

    def _start(self, log: Path, at: str = "") -> Process:
        hook = {"PYTHONPATH": str(HOOK), "ETCDOPS_CRASH_LOG": str(log), "ETCDOPS_CRASH_AT": at}
        self.project.env |= hook
        try:
            return self.project.start(*self.task.words)
        finally:
            for name in hook:
                del self.project.env[name]

    def _trial(self, at: Boundary, before: Portrait, end: Mapping[str, str]) -> str:
        """One run that is killed ``at``, and the same again; what came of it."""
        log = self.project.folder.parent / "killed"
        log.unlink(missing_ok=True)
        with self._writing() as clients:
            killed = self._start(log, at.words).end(LONGEST)
            assert killed.code in {0, -signal.SIGKILL}, ("was not killed", killed)
            died = death(at, log.read_text()) if killed.code else None
            self.hits.update([died.kind] if died else [])
            if clients and not (self.task.interrupts and self._is_down_on_purpose()):
                clients.go_on()
            again = self.project.start(*self.task.words).end(LONGEST)
            assert again.code == 0, ("the same again", again)
            reread(self.project)
            if clients:
                clients.go_on()
        wrong = differences(end, self._end(before, clients))
        assert not wrong, ("another end than undisturbed", wrong)
        how = ("killed" if died else "killed after it") if killed.code else "not reached"
        return f"{how}, the same again took {again.seconds:.1f} s"

    def _end(self, before: Portrait, clients: Clients | None) -> dict[str, str]:
        """What the end is like, once it is whole, with nothing lost and nothing left over."""
        project = self.project
        reread(project)
        names = [host_at(each["address"]) for each in project.config["members"]]
        commit(project, names)
        if clients:
            self._tell_restored(clients)
            lost = clients.lost()
            assert not lost, {name: (len(keys), keys[:3]) for name, keys in lost.items()}
        left = leftovers.left(project, FIVE)
        assert not left, ("left over", left)
        lists = {str(members_of(project, name)) for name in names}
        return portrait(project).lines(before) | {"members": "\n".join(sorted(lists))}

    def _writing(self) -> contextlib.AbstractContextManager[Clients | None]:
        if not self.state.members:
            return contextlib.nullcontext()
        return Clients(self.project, {name: address(name) for name in FIVE}, pause=0.2)

    def _tell_restored(self, clients: Clients) -> None:
        """A cluster that a restore has begun goes on from the backup of the state."""
        now, first = kept.cluster_id(self.project, self.state.members[0]), self.state.folder / "backups"
        for path in first.glob("*.json"):
            manifest = json.loads(path.read_text())
            if int(manifest["cluster_id"], 16) != now:
                clients.restored(str(now), Origin(str(int(manifest["cluster_id"], 16)), manifest["revision"]))

    def _is_down_on_purpose(self) -> bool:
        """Whether the task was between its stop and its start of the cluster."""
        mark = "ls -d /var/lib/etcd/restoring /var/lib/etcd/restore-*/swapping 2>/dev/null; true"
        return any(self.project.hosts.each(mark, FIVE).values())
