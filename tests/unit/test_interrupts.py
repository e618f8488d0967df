"""Ctrl-C: what it stops, and when; what is said then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdops.errors import OpsError, Refused
from etcdops.operation.interrupts import Interrupted, Interrupts
from etcdops.restoration import Side
from etcdops.run import Run
from etcdops.steps import restore
from etcdops.steps.before import Cluster
from tests.unit.build import NAMES, cut_short


@pytest.fixture
def press(capfd: pytest.CaptureFixture[str]) -> Iterator[Interrupts]:
    with Interrupts() as interrupts:
        yield interrupts


def ctrl_c(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_while_nothing_is_decided_it_stops_at_once(press: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        ctrl_c()
    assert press.words(caught.value, "inv deploy") == ("interrupted", "the same command goes on from what is there")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_waits_for_a_safe_point(press: Interrupts, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    press.decided = press.touched = True
    press.safe_point()
    ctrl_c(number)
    assert capfd.readouterr().err == "\nstopping at the next safe point; once more stops at once\n"
    press.standing = "etcd02 restarted, etcd03, etcd01 not"
    with press.turn():
        press.safe_point()
        with press.turn():
            press.safe_point()
        press.safe_point()
    with pytest.raises(Interrupted) as caught:
        press.safe_point()
    press.safe_point()  # what takes things back goes on
    assert press.words(caught.value, "inv restart") == (
        "interrupted: etcd02 restarted, etcd03, etcd01 not", "inv restart goes on from what is there"
    )  # fmt: skip


def test_the_second_stops_at_once(press: Interrupts) -> None:
    press.decided = press.touched = True
    with press.turn(), pytest.raises(KeyboardInterrupt) as caught:
        ctrl_c()
        ctrl_c()
    assert press.words(caught.value, "") == (
        "interrupted in the midst of it",
        "what still runs on a host comes to its end there; the same command goes on from what is there",
    )


def test_what_takes_back_goes_on_after_the_second(press: Interrupts) -> None:
    press.decided = press.touched = True
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
        ctrl_c()
    press.safe_point()
    with press.unbroken("the old data was being put back"):
        press.safe_point()


@pytest.mark.parametrize("decided", [True, False])
def test_what_an_error_began_to_take_back_goes_through(press: Interrupts, decided: bool) -> None:
    press.decided = press.touched = decided
    with press.unbroken("the old data was being put back"):
        ctrl_c()
        press.safe_point()
    assert press.standing == ""


def test_the_second_cuts_short_what_takes_back_and_says_so(press: Interrupts) -> None:
    press.decided = press.touched = True
    with pytest.raises(KeyboardInterrupt) as caught, press.unbroken("the old data was being put back"):
        ctrl_c()
        ctrl_c()
    assert press.words(caught.value, "inv restore latest") == (
        "interrupted in the midst of it: the old data was being put back",
        "what still runs on a host comes to its end there; inv restore latest goes on from what is there",
    )


def test_nobody_waits_for_an_answer_after_it(press: Interrupts) -> None:
    press.decided = True
    with pytest.raises(KeyboardInterrupt) as caught, press.asking():
        ctrl_c()
    assert press.words(caught.value, "inv deploy") == ("interrupted", "nothing was changed")


def test_it_is_not_asked_what_was_interrupted_before(press: Interrupts) -> None:
    press.decided = True
    ctrl_c()
    with pytest.raises(Interrupted), press.asking():
        pytest.fail("asked")


def test_what_was_before_comes_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_ignored_stays_so() -> None:
    """As after nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            interrupts.decided = True
            ctrl_c(signal.SIGHUP)
            ctrl_c(signal.SIGHUP)
            interrupts.safe_point()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


ID = "20261128T160450Z-0badcafe"
TEXT = "cluster: {name: c, version: 3.6.16}\nmembers: [{name: etcd01, address: 192.0.2.11}]\n"


@pytest.fixture
def undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run for ``restore.undo``, to whose hosts nothing goes."""
    run = Run(tmp_path / "config.yaml", yes=True, command="inv restore-undo")
    run.path.write_text(TEXT)
    monkeypatch.setattr(restore, "look", lambda run: Cluster({}, {NAMES[0]: Side(swapped=(ID,), barred=ID)}))
    return run


@pytest.mark.parametrize("presses", [1, 2])
def test_members_whose_data_is_back_are_started_whatever_comes(
    undo: Run, monkeypatch: pytest.MonkeyPatch, presses: int
) -> None:
    done = []

    def put_back(run: Run, id_: str) -> tuple[list[str], list[OpsError]]:
        assert run.operation
        done.append(f"{id_} back")
        run.operation.interrupts.touched = True
        for _ in range(presses):
            ctrl_c()
        return [*NAMES], []

    def revive(run: Run, names: list[str]) -> list[str]:
        assert run.operation
        run.operation.safe_point()
        done.append("started")
        return names

    monkeypatch.setattr(restore, "put_back", put_back)
    monkeypatch.setattr(restore, "_revive", revive)
    if presses == 1:
        with undo.changing("restore-undo"):
            restore.undo(undo)
        assert done == [f"{ID} back", "started"]
    else:
        with pytest.raises(KeyboardInterrupt) as caught, undo.changing("restore-undo"):
            restore.undo(undo)
        assert "where it is back already, inv start does the rest" in str(undo.interrupted(caught.value))


def test_what_was_put_back_and_not_started_is_told(undo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        restore,
        "look",
        lambda run: Cluster({each: cut_short(each) for each in NAMES}, {each: Side() for each in NAMES}),
    )
    with pytest.raises(Refused) as caught:
        restore.undo(undo)
    assert caught.value.hint == f"etcd does not run on {', '.join(NAMES)}: inv start"
