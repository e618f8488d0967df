"""The lock of a changing run, on hosts that are folders here: the scripts are the real ones, and so is flock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops import layout
from etcdops.errors import HostError, LockLost, OpsError, Refused, Unreachable
from etcdops.operation import Controller, Held, Lock, Operation, Owner, record
from etcdops.operation import hold as hold_module
from etcdops.operation.owner import LATE, minority, refusal
from etcdops.ssh import Fleet, Host, Session
from etcdops.ui import Reporter

HERE = Controller("laptop", "boot-1")
ALICE = Owner("R1-restart", "alice@laptop", "boot-1", 4711, "restart")


def owner(run: str, **other: Any) -> Owner:
    return Owner(run, **{"who": "bob@desk", "boot": "boot-2", "pid": 99, "task": "deploy", **other})


# What a host says


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"held\tR1-restart\tyes\t125\t3\t{ALICE.line}", Held(ALICE, True, 125, 3)),
        (f"held\tR1-restart\tno\t0\t0\t{ALICE.line}", Held(ALICE, False, 0, 0)),
        ("held\t?\tno\t0\t0\t?", Held(Owner("?"), False, 0, 0)),
        ("held\tR\tyes\t1\t1\tsomebody\tboot\tx\ttask", Held(Owner("R"), True, 1, 1)),
    ],
    ids=["held", "not for good yet", "not written yet", "another version's"],
)
def test_what_a_host_says_of_it(line: str, expected: Held) -> None:
    assert Held.parse(line) == expected


def test_a_hostile_name_breaks_no_line() -> None:
    strange = owner("R", who="a\tb\nc\x1b[2J@d")
    assert strange.line.count("\t") == 4 and strange.line.isprintable() is False  # the tabs alone
    assert Owner.parse("R", strange.line.split("\t")).who == "a?b?c?[2J@d"


@pytest.mark.parametrize(
    ("who", "silence", "alive", "ending"),
    [
        (ALICE, 1.0, {4711}, False),
        (ALICE, 1.0, set(), True),
        (ALICE, LATE + 1, {4711}, True),
        (owner("R2"), 1.0, set(), False),
        (owner("R2"), LATE + 1, set(), True),
        (owner("R2", boot=""), 1.0, set(), False),
    ],
    ids=["alive", "its process is dead", "silent", "elsewhere", "silent elsewhere", "nobody knows where"],
)
def test_who_is_gone(who: Owner, silence: float, alive: set[int], ending: bool) -> None:
    assert Held(who, True, 60, silence).is_ending(HERE, frozenset(alive)) is ending
    assert not Held(owner("R", boot=""), True, 60, 1).is_ending(Controller("x", ""), frozenset())


def test_the_one_line_for_who_comes_second() -> None:
    error = refusal({"etcd01": Held(ALICE, True, 125, 3), "etcd02": Held(ALICE, True, 125, 3)}, "inv deploy")
    assert isinstance(error, Refused) and error.exit_code == 3
    assert error.message == ("alice@laptop runs inv restart (process 4711), for 2 min: the lock on etcd01, etcd02")
    assert error.hint == "wait for its end; if it hangs: inv deploy --break-lock"
    assert "last heard of 15 s ago" in refusal({"etcd01": Held(ALICE, True, 125, 15)}, "").message
    assert "another run is about to" in refusal({"etcd01": Held(Owner("?"), False, 0, 0)}, "").message


THREE, SURE = ["etcd01", "etcd02", "etcd03"], "make sure that nobody else changes this cluster"
NO_FLOCK = HostError("there is no flock here", host="etcd02")


def silent(*names: str) -> dict[str, OpsError]:
    return {name: Unreachable("no answer within 10 s", host=name) for name in names}


@pytest.mark.parametrize(
    ("names", "away", "words"),
    [
        (THREE, {}, ""),
        (THREE, silent("etcd02"), ""),
        (THREE, silent("etcd02", "etcd03"), "1 of 3 hosts only (etcd02, etcd03 do not answer)"),
        (THREE, {"etcd02": NO_FLOCK, **silent("etcd01")},
         "1 of 3 hosts only (etcd01 does not answer; etcd02: there is no flock here)"),
        (THREE[:2], silent("etcd01"), "1 of 2 hosts only (etcd01 does not answer)"),
        ([*THREE, "etcd04"], silent("etcd01", "etcd04"), "2 of 4 hosts only (etcd01, etcd04 do not answer)"),
        (THREE, silent(*THREE), ""),
        (["etcd01"], silent("etcd01"), ""),
    ],
    ids=["all", "a majority", "a minority", "why not", "half of two", "half of four", "nobody", "its only one"],
)  # fmt: skip
def test_a_minority_is_told(names: list[str], away: dict[str, OpsError], words: str) -> None:
    assert minority(names, away) == (f"the lock could be taken on {words}: {SURE}" if words else "")


def test_a_run_with_a_minority_says_so_and_goes_on(
    machines: dict[str, Machine], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr and on record."""
    operation = Operation("restart", "inv restart", tmp_path / "config.yaml", Reporter(), cluster=lambda: "c")
    machines["etcd02"].up = machines["etcd03"].up = False
    ways = Ways(machines, operation.lock)
    operation.take(cast(Fleet, ways), list(ways.of))
    operation.close(0, None)
    said = f"warning: the lock could be taken on 1 of 3 hosts only (etcd02, etcd03 do not answer): {SURE}"
    assert capsys.readouterr().err == f"{said}\n"
    (path,) = (tmp_path / ".etcdops" / "runs").iterdir()
    events = list(record.events(path))
    assert [each["text"] for each in events if each["event"] == "said"] == [said]
    assert [each["hosts"] for each in events if each["event"] == "locked"] == [["etcd01"]]


# Hosts


@dataclass
class Machine:
    """A host: its /run is a folder, its commands run here."""

    folder: Path
    up: bool = True
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def script(self, text: str) -> str:
        logger = self.folder / "logger"
        if not logger.exists():
            logger.write_text(f'#!/bin/sh\nshift 3\necho "$*" >>{self.folder}/journal\n')
            logger.chmod(0o700)
        return f"PATH={self.folder}:$PATH\n" + text.replace("/run/etcdops", f"{self.folder}/run")

    @property
    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def told(self, name: str) -> str:
        """What a file in /run/etcdops says."""
        path = self.folder / "run" / name
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """What a reboot, or the end of a connection, does to what runs on it."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()


class Line:
    """A connection."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.alive = True
        self.mine: list[subprocess.Popen[bytes]] = []
        self.deaf: list[subprocess.Popen[bytes]] = []  # whose answers are stuck on the way

    def close(self) -> None:
        """As sshd ends it: whoever reads from it sees the end."""
        self.alive = False
        for process in self.mine:
            assert process.stdin
            process.stdin.close()

    def execute(
        self, script: str, args: Sequence[str], stdin: bytes | Iterable[bytes], limit: float, relay: Any
    ) -> SimpleNamespace:
        process = subprocess.Popen(
            ["sh", "-c", self.machine.script(script), "etcdops", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.machine.processes.append(process)
        self.mine.append(process)
        assert process.stdin and process.stdout and process.stderr

        def feed() -> None:
            try:
                for chunk in (stdin,) if isinstance(stdin, bytes) else stdin:
                    process.stdin.write(chunk)  # type: ignore[union-attr]
                    process.stdin.flush()  # type: ignore[union-attr]
                process.stdin.close()  # type: ignore[union-attr]
            except (OSError, ValueError):
                pass

        threading.Thread(target=feed, daemon=True).start()
        while chunk := process.stdout.read1(4096):  # type: ignore[attr-defined]
            if process not in self.deaf:
                relay[0](chunk)
        relay[1](process.stderr.read())
        return SimpleNamespace(status=process.wait())


class Way:
    """What a Host is to a lock, and a Fleet: the way of one run to a machine."""

    def __init__(self, name: str, machine: Machine, lock: Lock) -> None:
        self.name = self.key = name
        self.machine = machine
        self.lock = lock
        self.line = Line(machine)

    def enter(self) -> None:
        if not self.machine.up:
            raise Unreachable("no answer", host=self.name)
        if not self.line.alive:
            self.line = Line(self.machine)
        self.lock.enter(cast(Host, self), cast(Session, SimpleNamespace(link=self.line, execute=self.line.execute)))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """A command of the run, as it reaches the host."""
        text = self.machine.script(f"{self.lock.fence}\n{script}")
        return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)


class Ways:
    """All of them."""

    def __init__(self, machines: dict[str, Machine], lock: Lock) -> None:
        self.of = {name: Way(name, machine, lock) for name, machine in machines.items()}
        self.lock = lock

    def take(self) -> None:
        self.lock.take(cast(Fleet, self), list(self.of))

    def map(self, work: Callable[[Any], Any], names: Sequence[str]) -> dict[str, Any]:
        results: dict[str, Any] = {}

        def one(name: str) -> None:
            try:
                results[name] = work(self.of[name])
            except OpsError as error:
                results[name] = error

        threads = [threading.Thread(target=one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results.values():
            if isinstance(result, LockLost):
                raise result
        return {name: results[name] for name in names}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    made = {}
    for name in ("etcd01", "etcd02", "etcd03"):
        (tmp_path / name).mkdir()
        made[name] = Machine(tmp_path / name)
    before = set(threading.enumerate())
    yield made
    for machine in made.values():
        machine.kill()
    for thread in set(threading.enumerate()) - before:  # tests of stores and of real hosts must be alone
        thread.join(30)
        assert not thread.is_alive(), thread


@pytest.fixture
def run(machines: dict[str, Machine]) -> Iterator[Callable[..., Ways]]:
    locks: list[Lock] = []

    def make(name: str, only: Sequence[str] = (), **options: Any) -> Ways:
        lock = Lock(owner(name), HERE, **{"linger": 5.0, **options})
        locks.append(lock)
        return Ways({each: machine for each, machine in machines.items() if not only or each in only}, lock)

    yield make
    for lock in locks:
        lock.release("the test is over")


Make = Callable[..., Ways]


def take_soon(ways: Ways) -> None:
    """Once the hosts have noticed that the other run has ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            ways.take()
            return
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_one_has_it_the_other_is_told_who_and_then_gets_it(machines: dict[str, Machine], run: Make) -> None:
    first, second = run("A"), run("B")
    first.take()
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    began = time.monotonic()
    with pytest.raises(
        Refused, match=r"bob@desk runs inv deploy \(process 99\), for . s: the lock on etcd01, etcd02, etcd03"
    ):
        second.take()
    assert time.monotonic() - began < 3
    assert second.lock.hosts == []
    first.lock.release("ended with 0 after 1.0 s")
    second.take()
    second.lock.release("ended with 1 after 2.0 s")
    ends = ["(A): ended with 0 after 1.0 s", "(B): ended with 1 after 2.0 s"]
    for machine in machines.values():
        assert machine.journal == [f"inv deploy by bob@desk {end}" for end in ends]


def test_a_machine_that_has_two_addresses_is_held_once(machines: dict[str, Machine], run: Make) -> None:
    ways = run("A")
    ways.take()
    other = Way("etcd01-by-another-address", machines["etcd01"], ways.lock)
    other.enter()
    other.enter()
    assert other.run("echo here").stdout == "here\n"
    with pytest.raises(Refused):
        run("B").take()
    ways.lock.release()
    take_soon(run("B"))


def test_of_many_that_begin_at_once_exactly_one_goes_on(run: Make) -> None:
    for attempt in range(5):
        runs = [run(f"{attempt}{letter}") for letter in "ABC"]
        won: list[Ways] = []
        errors: list[OpsError] = []

        def start(each: Ways, won: list[Ways] = won, errors: list[OpsError] = errors) -> None:
            try:
                each.take()
                won.append(each)
            except Refused as error:
                errors.append(error)

        threads = [threading.Thread(target=start, args=(each,)) for each in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (len(won), len(errors)) == (1, 2)
        assert won[0].lock.hosts == ["etcd01", "etcd02", "etcd03"]
        won[0].lock.release()


def test_a_run_whose_connections_end_has_it_no_more(machines: dict[str, Machine], run: Make) -> None:
    first, second = run("A"), run("B")
    first.take()
    for way in first.of.values():
        way.line.close()
    take_soon(second)
    assert {line for machine in machines.values() for line in machine.journal} <= {
        "inv deploy by bob@desk (A): its controller was heard of no more"
    }


def test_a_host_that_was_off_is_done_without_but_not_one_that_is_anothers(
    machines: dict[str, Machine], run: Make
) -> None:
    machines["etcd01"].up = machines["etcd02"].up = False
    alone = run("A")
    alone.take()
    assert alone.lock.hosts == ["etcd03"]
    machines["etcd01"].up = machines["etcd02"].up = True
    second = run("B")
    with pytest.raises(Refused, match="the lock on etcd03"):
        second.take()
    assert second.lock.hosts == []


def test_a_silent_run_has_it_until_its_time_is_up(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it comes back, its next command is refused on each host, whether it asks or not."""
    monkeypatch.setattr(hold_module, "SILENCE", 1.0)
    monkeypatch.setattr(hold_module, "BEAT", 3600.0)  # it sleeps
    first = run("A")
    first.take()
    assert first.of["etcd01"].run("echo done").stdout == "done\n"
    second = run("B")
    take_soon(second)
    assert second.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    done = first.of["etcd02"].run("echo done")
    assert (done.returncode, done.stdout, done.stderr) == (75, "", f"lock\tB\t{second.lock.owner.line}")
    monkeypatch.setattr(hold_module, "BEAT", 0.5)
    with pytest.raises(LockLost, match=r"etcd02 has been taken by inv deploy by bob@desk \(B\), by --break-lock or"):
        first.of["etcd02"].enter()
    with pytest.raises(LockLost):
        first.of["etcd03"].enter()
    second.lock.release()
    with pytest.raises(LockLost):
        first.of["etcd01"].enter()  # over is over
    assert run("A").lock.hosts == []


def test_it_goes_on_after_a_silence_that_nobody_used(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "SILENCE", 1.0)
    monkeypatch.setattr(hold_module, "BEAT", 3600.0)
    first = run("A")
    first.take()
    deadline = time.monotonic() + 10
    while first.lock.hosts and time.monotonic() < deadline:
        time.sleep(0.1)
    monkeypatch.setattr(hold_module, "BEAT", 0.3)
    for way in first.of.values():
        way.enter()
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]


def test_what_an_earlier_run_left_running_is_waited_for(machines: dict[str, Machine], run: Make) -> None:
    first = run("A")
    first.take()
    text = machines["etcd02"].script(f"{first.lock.fence}\nsleep 1.5; echo over")
    left = subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    for way in first.of.values():
        way.line.close()
    said: list[str] = []
    second = run("B", say=said.append)
    take_soon(second)
    assert left.poll() is not None, "the lock was taken beneath a command of the run before"
    assert said == ["waiting: on etcd02 a command of an earlier run still runs"]


def test_what_does_not_end_is_named(machines: dict[str, Machine], run: Make) -> None:
    first = run("A")
    first.take()
    text = machines["etcd02"].script(f"{first.lock.fence}\nsleep 600 & echo $$ $!; wait")
    left = subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, text=True)
    assert left.stdout
    shell, child = left.stdout.readline().split()
    first.lock.release()
    try:
        second = run("B", linger=0.5)
        found = second.lock.take(cast(Fleet, second), list(second.of))
        said, _, pids = found["etcd02"].message.partition(": kill ")
        assert said == "a command of an earlier run still runs here, and may for as long as its time is"
        assert sorted(pids.removesuffix(" there ends it").split()) == sorted([shell, child])
    finally:
        for pid in (shell, child):
            os.kill(int(pid), signal.SIGTERM)
        left.wait()


def test_what_was_taken_already_does_not_expire_meanwhile(
    machines: dict[str, Machine], run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_module, "SILENCE", 1.0)
    monkeypatch.setattr(hold_module, "BEAT", 0.3)
    first = run("A")
    first.take()
    text = machines["etcd02"].script(f"{first.lock.fence}\nexec sleep 3")
    left = subprocess.Popen(["sh", "-c", text])
    time.sleep(0.3)
    first.lock.release()
    second = run("B")
    second.take()
    assert left.wait() == 0
    assert second.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    assert [bool(second.of[name].line.mine[1:]) for name in second.of] == [False] * 3, "one was taken twice"


def test_a_canary_keeps_nobody_off_its_host(machines: dict[str, Machine], run: Make) -> None:
    first = run("A")
    first.take()
    text = f"{first.lock.fence}\nCLIENT=false\nnumber() {{ cat; }}\n{layout.script('canary')}"
    canary = subprocess.Popen(
        ["sh", "-c", machines["etcd02"].script(text), "etcdops", "http://192.0.2.1:2379", "key", "0.05", ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        first.lock.release()
        said: list[str] = []
        second = run("B", say=said.append)
        second.take()
        assert (second.lock.hosts, said, canary.poll()) == (["etcd01", "etcd02", "etcd03"], [], None)
    finally:
        canary.communicate(timeout=10)


@pytest.mark.parametrize("breaks", [False, True])
def test_a_journal_that_hangs_keeps_no_lock(machines: dict[str, Machine], run: Make, *, breaks: bool) -> None:
    for machine in machines.values():
        machine.script("")
        (machine.folder / "logger").write_text("#!/bin/sh\nexec sleep 8\n")
    first, second = run("A"), run("B", breaks=breaks)
    first.take()
    until(lambda: {machine.told("beat") for machine in machines.values()} == {"A\n"})
    if not breaks:
        for way in first.of.values():
            way.line.close()
    began = time.monotonic()
    take_soon(second)
    assert time.monotonic() - began < 6
    assert second.lock.hosts == ["etcd01", "etcd02", "etcd03"]


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(ways: Ways) -> bool:
    with pytest.raises(Refused):
        ways.take()
    return True


def test_who_was_refused_elsewhere_takes_nothing_from_its_run(machines: dict[str, Machine], run: Make) -> None:
    """One line of A is cut for longer than the silence; B gets that host, and none of the others."""
    first, second = run("A"), run("B")
    first.take()
    until(lambda: machines["etcd02"].told("beat") == "A\n")
    first.of["etcd02"].line.close()
    until(lambda: refused(second) and machines["etcd02"].told("owner").startswith("B\t"))
    first.of["etcd02"].enter()
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    assert first.of["etcd02"].run("echo done").stdout == "done\n"


def test_who_had_it_meanwhile_is_not_hidden_by_one_who_was_refused(machines: dict[str, Machine], run: Make) -> None:
    first, second, third = run("A"), run("B", only=("etcd02",)), run("C")
    first.take()
    until(lambda: machines["etcd02"].told("beat") == "A\n")
    first.of["etcd02"].line.close()
    take_soon(second)
    until(lambda: machines["etcd02"].told("beat") == "B\n")
    second.lock.release()
    assert refused(third)
    assert machines["etcd02"].told("owner").startswith("C\t")
    with pytest.raises(LockLost, match=r"etcd02 has been taken by .*\(B\), by --break-lock or"):
        first.of["etcd02"].enter()


def test_a_connection_whose_answers_are_stuck_gives_way_to_the_next(
    machines: dict[str, Machine], run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host hears of the run all the while, so the lock stays the old connection's until that is ended."""
    monkeypatch.setattr(hold_module, "SILENCE", 2.0)
    monkeypatch.setattr(hold_module, "BEAT", 0.3)
    first = run("A")
    first.take()
    line = first.of["etcd02"].line
    line.deaf += line.mine
    time.sleep(2.5)
    first.of["etcd02"].enter()
    assert len(line.mine) == 2 and line.mine[0].wait(5) == 0
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    assert machines["etcd02"].journal == ["inv deploy by bob@desk (A): its connection stalled, and it is taken again"]


def test_one_that_cannot_be_ended_is_no_other_run(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "SILENCE", 1.0)
    monkeypatch.setattr(hold_module, "BEAT", 0.3)
    first = run("A")
    first.take()
    line = first.of["etcd02"].line
    line.deaf += line.mine
    monkeypatch.setattr(hold_module.Hold, "end", lambda hold, how: None)
    time.sleep(1.5)
    with pytest.raises(HostError, match="an older connection of this run has the lock") as error:
        first.of["etcd02"].enter()
    assert not isinstance(error.value, LockLost)


def test_what_does_not_end_in_time_keeps_others_out(machines: dict[str, Machine], run: Make) -> None:
    first = run("A")
    first.take()
    text = machines["etcd02"].script(f"{first.lock.fence}\nexec sleep 30")
    left = subprocess.Popen(["sh", "-c", text])
    time.sleep(0.3)
    first.lock.release()
    try:
        found = run("B", linger=0.5)
        away = found.lock.take(cast(Fleet, found), list(found.of))
        assert isinstance(away["etcd02"], HostError)
        assert "still runs here" in str(away["etcd02"])
    finally:
        left.kill()
        left.wait()


def test_a_reboot_takes_nothing_away_from_its_run(machines: dict[str, Machine], run: Make) -> None:
    first = run("A")
    first.take()
    machines["etcd03"].kill()
    for file in (machines["etcd03"].folder / "run").iterdir():
        file.unlink()
    first.of["etcd03"].line.alive = False
    first.of["etcd03"].enter()
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    with pytest.raises(Refused, match="etcd01, etcd02, etcd03"):
        run("B").take()


def test_breaking_it(run: Make, machines: dict[str, Machine]) -> None:
    first, second = run("A"), run("B", breaks=True)
    first.take()
    second.take()
    assert second.lock.hosts == ["etcd01", "etcd02", "etcd03"]
    assert first.of["etcd01"].run("echo done").returncode == 75
    first.of["etcd01"].line.alive = False  # it notices when its process there has ended, or it asks
    with pytest.raises(LockLost):
        first.of["etcd01"].enter()
    assert machines["etcd01"].journal == [
        "inv deploy by bob@desk (A): its lock was broken by inv deploy by bob@desk (B)"
    ]


def test_a_host_that_is_new_to_the_run_must_be_nobodys(run: Make) -> None:
    """add-member: the new one's host is no host of the cluster yet."""
    first, other = run("A", only=("etcd01", "etcd02")), run("B", only=("etcd03",))
    other.take()
    first.take()
    late = Way("etcd03", other.of["etcd03"].machine, first.lock)
    with pytest.raises(Refused, match="the lock on etcd03"):
        late.enter()
    other.lock.release()
    late.enter()
    assert first.lock.hosts == ["etcd01", "etcd02", "etcd03"]
