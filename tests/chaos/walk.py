"""A random walk over tasks and faults: how it goes, what must be true after each move, and what it costs clients.

Where it may go is a table (``moves.py``).  It takes down one member at a time at most, so that the cluster must serve
all along, but for a restore and for hosts that are lost until the rest is no quorum.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos import leftovers
from tests.chaos.clients import Clients, Origin, longest
from tests.hosts import Done, Hosts, Project
from tests.lab import kept
from tests.lab.members import FIVE, listed, reread

OLD, NEW = "3.5.16", "3.5.30"
PATIENCE = 90.0  # seconds within which a cluster is healthy again once its fault is gone
LONGEST = 600.0  # seconds for one task
DATA = "/var/lib/etcd"


@dataclass(frozen=True)
class Event:
    """One move: what was done, what came of it, and when, by the clock of this machine."""

    name: str
    outcome: str
    began: float
    ended: float
    harm: bool


@dataclass
class Walk:
    """The cluster that is walked on, and what has happened so far."""

    hosts: Hosts
    project: Project
    clients: Clients
    chance: random.Random
    say: Callable[[str], None]
    events: list[Event] = field(default_factory=list)

    # What is true now

    @property
    def names(self) -> list[str]:
        """The members, each called as its host."""
        return [each["name"] for each in self.project.config["members"]]

    @property
    def spare(self) -> list[str]:
        """Hosts that are no members."""
        return [name for name in FIVE if name not in self.names]

    @property
    def version(self) -> str:
        """What config.yaml asks for."""
        return str(self.project.config["cluster"]["version"])

    @property
    def backups(self) -> list[str]:
        """Their names, newest first."""
        found = self.inv("snapshot.list", "--json").ok().json()["backups"]
        return [each["name"] for each in found if each["purpose"] == "backup"]

    def inv(self, *words: str) -> Done:
        """./inv to its end; config.yaml may be another afterwards."""
        done = self.project.start(*words).end(LONGEST)
        assert "Traceback" not in done.stderr, done
        reread(self.project)
        return done

    def choose(self, names: Sequence[str]) -> str:
        """One of them."""
        return self.chance.choice(list(names))

    def restored(self, backup: str) -> None:
        """The cluster is one that began with this backup."""
        manifest = json.loads((self.project.folder / "backups" / f"{backup}.json").read_text())
        origin = Origin(str(int(manifest["cluster_id"], 16)), manifest["revision"])
        self.clients.restored(str(kept.cluster_id(self.project, self.names[0])), origin)

    # Moves

    def go(self, seconds: float, moves: Sequence[Move]) -> None:
        """Walk for so long, and look at everything now and then; what was often done already is done less."""
        until, done = time.monotonic() + seconds, Counter[str]()
        while time.monotonic() < until:
            able = [each for each in moves if each.may(self)]
            move = self.chance.choices(able, [each.weight / (1 + done[each.name]) for each in able])[0]
            done[move.name] += 1
            self.make(move)
            if len(self.events) % 5 == 0:
                self.nothing_lost()

    def make(self, move: Move) -> None:
        """Make one move; afterwards the cluster is whole and serves."""
        began = time.monotonic()
        self.say(f"{len(self.events) + 1:3}  {move.name} ...")
        name, outcome = move.make(self)
        self.whole()
        self.hosts.each(f"rm -rf {DATA}/aside-*", FIVE)  # this machine's disk has an end
        self.events.append(Event(name, outcome, began, time.monotonic(), move.harm))
        gap = longest(self.clients.times, began, time.monotonic())
        self.say(
            f"{len(self.events):3}  {name}: {outcome}; {time.monotonic() - began:.1f} s, "
            f"{len(self.names)} members of {self.version}, longest wait {gap:.1f} s"
        )

    def whole(self) -> None:
        """Every member healthy, all of config.yaml and nobody else, and clients are served."""
        self.hosts.eventually(lambda: self.inv("health").code == 0, PATIENCE)
        known = {name: listed(self.project, name) for name in self.names}
        assert set(map(frozenset, known.values())) == {frozenset(self.names)}, (known, self.names)
        self.clients.go_on()
        left = leftovers.left(self.project, FIVE)
        assert not left, left

    def nothing_lost(self) -> None:
        """Every member has all that was acknowledged, and nothing that a restore has taken back."""
        wrong = self.clients.lost()
        assert not wrong, {name: (len(keys), keys[:5]) for name, keys in wrong.items()}

    def full_check(self) -> None:
        """At the end: nothing lost, of one mind, nothing left to do, nothing left over."""
        self.nothing_lost()
        self.inv("check-data").ok()
        done = self.inv("deploy").ok()
        assert done.stdout.startswith("nothing to do in "), done
        doctor = self.inv("doctor")
        assert doctor.code in {0, 5}, doctor
        self.say("\n".join(line for line in doctor.stdout.splitlines() if line.strip() and line.split()[0] != "ok"))

    # What it came to

    def table(self) -> list[str]:
        """Each kind of move: how often, how long, and what clients waited at most; then the sums."""
        times = self.clients.times
        lines = [f"{'move':<44} {'times':>5}  {'median':>7}  {'longest wait':>12}  outcomes"]
        for name in sorted({each.name for each in self.events}):
            events = [each for each in self.events if each.name == name]
            seconds = statistics.median(each.ended - each.began for each in events)
            gap = max(longest(times, each.began, each.ended) for each in events)
            outcomes = sorted({each.outcome for each in events})
            shown = ", ".join(f"{sum(each.outcome == one for each in events)} {one}" for one in outcomes)
            lines.append(f"{name:<44} {len(events):>5}  {seconds:>5.1f} s  {gap:>10.2f} s  {shown}")
        faults = sum(each.harm for each in self.events)
        lost = sum(map(len, self.clients.lost().values()))
        lines.append(
            f"{len(self.events)} moves, {faults} of them with a fault; {len(times)} writes acknowledged, {lost} lost"
        )
        return lines


@dataclass(frozen=True)
class Move:
    """What may come next.  ``make`` gives what it has become (with the task of a fault) and how it ended; ``harm``:
    something bad happens in it."""

    name: str
    weight: float
    make: Callable[[Walk], tuple[str, str]]
    may: Callable[[Walk], bool] = lambda walk: True
    harm: bool = False
