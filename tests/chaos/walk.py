"""A random walk over tasks and faults: what may come next, what must come of it, and what it costs clients.

The walk takes down one member at a time at most, so that the cluster must serve all along, but for a restore.  What a
fault makes legitimate is a table: a task that cannot be while a host is away has to say so, and to change nothing.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos import leftovers
from tests.chaos.clients import Clients, Origin, longest
from tests.hosts import BARE, Done, Hosts, Project
from tests.lab import kept
from tests.lab.members import FIVE, address, listed, reread

OLD, NEW = "3.5.16", "3.5.30"
PATIENCE = 90.0  # seconds within which a cluster is healthy again once its fault is gone
LONGEST = 600.0  # seconds for one task
# None is etcd's own, to which a deploy would bring nothing.
SETTINGS = {
    "snapshot-count": (5000, 20000),
    "heartbeat-interval": (110, 120),
    "max-snapshots": (4, 6),
}
ROOM = 900  # MiB of the small disk
DATA = "/var/lib/etcd"


@dataclass(frozen=True)
class Event:
    """One move: what was done, what came of it, and when, by the clock of this machine."""

    name: str
    outcome: str
    began: float
    ended: float


@dataclass(frozen=True)
class Fault:
    """Something bad that happens to one host, and how it goes away again.

    ``silent``: SSH does not reach the host; ``down``: its member cannot be one of those that commit.
    """

    name: str
    happen: Callable[[Walk, str], None]
    pass_: Callable[[Walk, str], None]
    silent: bool = False
    down: bool = True


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
    def backups(self) -> list[dict[str, object]]:
        """Newest first."""
        found: list[dict[str, object]] = self.inv("snapshot.list", "--json").ok().json()["backups"]
        return [each for each in found if "rescue" not in str(each["name"])]

    def inv(self, *words: str) -> Done:
        """./inv to its end; config.yaml may be another afterwards."""
        done = self.project.start(*words).end(LONGEST)
        assert "Traceback" not in done.stderr, done
        reread(self.project)
        return done

    def choose(self, names: Sequence[str]) -> str:
        """One of them."""
        return self.chance.choice(list(names))

    # Moves

    def go(self, seconds: float) -> None:
        """Walk for so long, and look at everything now and then; what was often done already is done less."""
        until, done = time.monotonic() + seconds, Counter[str]()
        while time.monotonic() < until:
            able = [each for each in MOVES if each.may(self)]
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
        self.events.append(Event(name, outcome, began, time.monotonic()))
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
        faults = sum(" while " in each.name or each.name in HARM for each in self.events)
        lost = sum(map(len, self.clients.lost().values()))
        lines.append(
            f"{len(self.events)} moves, {faults} of them with a fault; {len(times)} writes acknowledged, {lost} lost"
        )
        return lines


@dataclass(frozen=True)
class Move:
    """What may come next.  ``make`` gives what it has become (with the task of a fault) and how it ended."""

    name: str
    weight: float
    make: Callable[[Walk], tuple[str, str]]
    may: Callable[[Walk], bool] = lambda walk: True


# Tasks on a whole cluster


def simple(name: str, *words: str) -> Callable[[Walk], tuple[str, str]]:
    """A task that must end well."""

    def make(walk: Walk) -> tuple[str, str]:
        walk.inv(*words).ok()
        return name, "done"

    return make


def another_setting(walk: Walk) -> None:
    """config.yaml with one setting changed."""
    key = walk.choose(sorted(SETTINGS))
    settings = walk.project.config["cluster"].setdefault("settings", {})
    settings[key] = walk.chance.choice([each for each in SETTINGS[key] if each != settings.get(key)])
    walk.project.write()


def deploy(walk: Walk) -> tuple[str, str]:
    another_setting(walk)
    done = walk.inv("deploy").ok()
    assert "nothing to do" not in done.stdout, done
    return "deploy with a changed setting", "done"


def backup(walk: Walk) -> tuple[str, str]:
    name = walk.inv("backup", "--json").ok().json()["name"]
    walk.inv("snapshot.verify", name, *(["--drill"] if walk.chance.random() < 0.3 else [])).ok()
    return "backup and snapshot.verify", "done"


def restore(walk: Walk) -> tuple[str, str]:
    chosen = walk.chance.choice(walk.backups[:3])
    walk.inv("restore", str(chosen["name"]), "--yes").ok()
    note_restore(walk, chosen)
    drop_old_data(walk)
    return "restore", "done"


def note_restore(walk: Walk, chosen: dict[str, object]) -> None:
    """The cluster is one that began with this backup."""
    manifest = json.loads((walk.project.folder / "backups" / f"{chosen['name']}.json").read_text())
    origin = Origin(str(int(manifest["cluster_id"], 16)), manifest["revision"])
    walk.clients.restored(str(kept.cluster_id(walk.project, walk.names[0])), origin)


def drop_old_data(walk: Walk) -> None:
    """This machine's disk has an end."""
    walk.hosts.each(f"rm -rf {DATA}/aside-*", FIVE)


def add(walk: Walk) -> tuple[str, str]:
    name = walk.choose(walk.spare)
    walk.inv("add-member", name, f"--address={address(name)}").ok()
    return "add-member", "done"


def remove(walk: Walk) -> tuple[str, str]:
    walk.inv("remove-member", walk.choose(walk.names), "--yes").ok()
    return "remove-member", "done"


def lead(walk: Walk) -> tuple[str, str]:
    walk.inv("move-leader", f"--to={walk.choose(walk.names)}").ok()
    return "move-leader", "done"


def release(walk: Walk) -> tuple[str, str]:
    words = ("upgrade", f"--to={NEW}") if walk.version == OLD else ("downgrade", f"--to={OLD}")
    walk.inv(*words).ok()
    return f"{words[0]} {OLD} and {NEW}", "done"


# Harm that is for good, and the way out of it


def lost_disk(walk: Walk) -> tuple[str, str]:
    name = walk.choose(walk.names)
    walk.hosts.sh(name, f"systemctl kill --signal=KILL etcd; rm -rf {DATA}/default.etcd")
    walk.clients.go_on()
    walk.inv("replace-member", name, "--yes").ok()
    return "disk lost, replace-member", "done"


def lost_host(walk: Walk) -> tuple[str, str]:
    name, new = walk.choose(walk.names), walk.choose(walk.spare)
    walk.hosts.lab.off(name)
    try:
        walk.clients.go_on()
        walk.inv("replace-member", name, f"--with={new}", f"--address={address(new)}", "--yes").ok()
    finally:
        walk.hosts.lab.on(name)
    walk.hosts.eventually(lambda: walk.hosts.sh(name, "systemctl is-active etcd; true") == "inactive", PATIENCE)
    walk.hosts.sh(name, BARE)  # it comes back as another machine
    return "host lost, replace-member --with", "done"


HARM = ("disk lost, replace-member", "host lost, replace-member --with", "controller killed")


def killed(walk: Walk) -> tuple[str, str]:
    """The controller dies in the middle; the same command goes on."""
    task = walk.choose(["deploy", "restart", "backup", "defrag", "restore", "add-member"])
    words: list[str] = [task]
    chosen: dict[str, object] = {}
    if task == "deploy":
        another_setting(walk)
    elif task == "defrag":
        words.append("--force")
    elif task == "restore":
        chosen = walk.chance.choice(walk.backups[:3])
        words += [str(chosen["name"]), "--yes"]
    elif task == "add-member":
        if not walk.spare:
            return killed(walk)
        name = walk.choose(walk.spare)
        words += [name, f"--address={address(name)}"]
    run = walk.project.start(*words)
    run.ends_within(walk.chance.uniform(0.3, 8))
    with contextlib.suppress(ProcessLookupError):
        run.signal(signal.SIGKILL)
    first = run.end()
    reread(walk.project)
    if first.code == 0 and task == "add-member":
        return "controller killed", f"too late for {task}"
    walk.inv(*words).ok()
    if chosen:
        note_restore(walk, chosen)
        drop_old_data(walk)
    return "controller killed", f"{task} ended by the same again"


# Faults that pass, and a task meanwhile


def power_off(walk: Walk, name: str) -> None:
    walk.hosts.lab.off(name)


def power_on(walk: Walk, name: str) -> None:
    walk.hosts.lab.on(name)


def cut(walk: Walk, name: str) -> None:
    walk.hosts.lab.cut(name)


def heal(walk: Walk, name: str) -> None:
    walk.hosts.lab.heal(name)


def stop(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=STOP etcd")


def go_on(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=CONT etcd")


def kill(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=KILL etcd")


def nothing(walk: Walk, name: str) -> None:
    """It passes by itself."""


def fill(walk: Walk, name: str) -> None:
    """Its data on a disk of its own, and that as good as full."""
    move = "cp -a {0} /root/copy && {1} && cp -a /root/copy/. {0} && rm -rf /root/copy"
    mount = f"mount -t tmpfs -o size={ROOM}M,mode=700 tmpfs {DATA} && chown etcd: {DATA}"
    walk.hosts.sh(
        name, f"rm -rf {DATA}/aside-*; systemctl stop etcd && {move.format(DATA, mount)} && systemctl start etcd"
    )
    walk.hosts.sh(name, f"cat /dev/zero >{DATA}/filler 2>/dev/null; truncate -s -2M {DATA}/filler")


def empty(walk: Walk, name: str) -> None:
    move = "cp -a {0} /root/copy && {1} && cp -a /root/copy/. {0} && rm -rf /root/copy"
    back = f"umount {DATA} && rm -rf {DATA} && mkdir -m 700 {DATA} && chown etcd: {DATA}"
    walk.hosts.sh(name, f"rm {DATA}/filler; systemctl stop etcd; {move.format(DATA, back)} && systemctl start etcd")


FAULTS = (
    Fault("power is off", power_off, power_on, silent=True),
    Fault("the cable is cut", cut, heal, silent=True),
    Fault("etcd is stopped", stop, go_on),
    Fault("etcd was killed", kill, nothing, down=False),
    Fault("a disk is full", fill, empty, down=False),
)


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


def say(*words: str) -> Callable[[Walk, str], Sequence[str]]:
    return lambda walk, name: words


def change_a_setting(walk: Walk, name: str) -> Sequence[str]:
    another_setting(walk)
    return ["deploy"]


def another_release(walk: Walk, name: str) -> Sequence[str]:
    return ["upgrade", f"--to={NEW}"] if walk.version == OLD else ["downgrade", f"--to={OLD}"]


def a_backup(walk: Walk, name: str) -> Sequence[str]:
    return ["restore", str(walk.backups[0]["name"]), "--yes"]


def another_member(walk: Walk, name: str) -> Sequence[str]:
    return ["remove-member", walk.choose([each for each in walk.names if each != name]), "--yes"]


def to_another(walk: Walk, name: str) -> Sequence[str]:
    return ["move-leader", f"--to={walk.choose([each for each in walk.names if each != name])}"]


ANY = frozenset({0, 3, 4, 5})
MEANWHILE = (
    Meanwhile("status", say("status"), frozenset({4}), frozenset({5}), frozenset({0, 5}), again=False),
    Meanwhile("doctor", say("doctor"), frozenset({4, 5}), frozenset({5}), frozenset({0, 5}), again=False),
    Meanwhile("backup", say("backup"), frozenset({0}), frozenset({0}), frozenset({0})),
    Meanwhile("deploy", change_a_setting, frozenset({4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("restart", say("restart"), frozenset({4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("defrag", say("defrag", "--force"), frozenset({3, 4, 5}), frozenset({3, 4, 5}), ANY),
    Meanwhile("compact", say("compact"), frozenset({0, 4}), frozenset({0, 5}), ANY),
    Meanwhile("change of release", another_release, frozenset({3, 4}), frozenset({3, 4, 5}), ANY),
    Meanwhile("move-leader", to_another, ANY, ANY, ANY, again=False),
    Meanwhile("restore", a_backup, frozenset({4}), ANY, ANY, again=False),
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
    chosen = walk.backups[0] if task.name == "restore" else {}
    with suffering(walk, fault, name):
        walk.clients.go_on()
        words = task.words(walk, name)
        done = walk.inv(*words)
        if done.code:
            walk.say(f"     {done.code}: {' | '.join(done.stderr.splitlines()[-2:])}")
        assert done.code in task.codes(fault), (what, words, done)
        walk.clients.go_on()
    outcome = {0: "done", 3: "refused", 4: "not reached", 5: "unhealthy"}[done.code]
    if task.name == "restore" and done.code == 0:
        note_restore(walk, chosen)
    walk.hosts.eventually(lambda: walk.inv("health").code == 0, PATIENCE)
    if done.code and task.again:
        walk.inv(*words).ok()
    drop_old_data(walk)
    return what, outcome


MOVES = (
    Move("restart", 3, simple("restart", "restart", "--canary")),
    Move("deploy with a changed setting", 3, deploy),
    Move("deploy", 1, simple("deploy with nothing to do", "deploy")),
    Move("defrag", 3, simple("defrag", "defrag", "--force")),
    Move("compact", 2, simple("compact", "compact")),
    Move("backup", 3, backup),
    Move("restore", 2, restore, lambda walk: bool(walk.backups)),
    Move("add-member", 4, add, lambda walk: bool(walk.spare)),
    Move("remove-member", 3, remove, lambda walk: len(walk.names) > 3),
    Move("move-leader", 2, lead),
    Move("upgrade or downgrade", 2, release),
    Move("disk lost", 2, lost_disk),
    Move("host lost", 2, lost_host, lambda walk: bool(walk.spare)),
    Move("controller killed", 4, killed, lambda walk: bool(walk.backups)),
    Move("a fault", 14, meanwhile),
)
