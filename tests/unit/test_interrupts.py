"""Ctrl-C: what it stops, and when; what is said then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from etcdops.operation.interrupts import Interrupted, Interrupts


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
