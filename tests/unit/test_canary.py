"""What a canary's lines add up to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops.canary import Report, Write, longest_gap
from etcdops.errors import Unhealthy
from etcdops.steps import canary as steps_canary
from etcdops.steps.canary import Canary, Flight

# at, took, tries of acknowledged writes; a negative time: failed
WRITES: dict[str, tuple[list[tuple[float, float, int]], float, Report]] = {
    "none": ([], 0.0, Report(0, 0, 0, 0, 0.0, 0.0)),
    "one": ([(10.0, 0.02, 1)], 0.0, Report(1, 0, 0, 0, 0.0, 0.02)),
    "even": ([(10.0, 0.02, 1), (10.5, 0.02, 1), (11.0, 0.02, 1)], 0.5, Report(3, 0, 0, 0, 0.5, 0.02)),
    "one was tried again": ([(10.0, 0.02, 1), (12.0, 1.9, 3)], 2.0, Report(2, 0, 1, 0, 2.0, 1.9)),
    "one failed in the middle": (
        [(10.0, 0.02, 1), (-21.0, 10.0, 9), (21.5, 0.02, 1)],
        11.5,
        Report(2, 1, 0, 0, 11.5, 0.02, why="no"),
    ),
    "the first one failed": ([(-21.0, 10.0, 9), (21.5, 0.02, 1)], 10.5, Report(1, 1, 0, 0, 10.5, 0.02, why="no")),
    "all failed": ([(-21.0, 10.0, 9), (-31.0, 10.0, 9)], 20.0, Report(0, 2, 0, 0, 20.0, 0.0, why="no")),
}


@pytest.mark.parametrize(("rows", "gap", "report"), WRITES.values(), ids=WRITES.keys())
def test_report(rows: list[tuple[float, float, int]], gap: float, report: Report) -> None:
    writes = [Write(at > 0, abs(at), took, tries, "" if at > 0 else "no") for at, took, tries in rows]
    assert longest_gap(writes) == pytest.approx(gap)
    assert Report.of([writes]) == report


def test_one_slow_write_of_a_hundred_is_not_the_p99_and_two_are() -> None:
    usual = [Write(True, n / 10, 0.02, 1) for n in range(1, 100)]
    assert Report.of([[*usual, Write(True, 10.0, 3.0, 1)]]).p99 == 0.02
    assert Report.of([[*usual[1:], Write(True, 10.0, 3.0, 1), Write(True, 10.1, 3.0, 1)]]).p99 == 3.0


LINES: dict[str, tuple[str, Write | None]] = {
    "acknowledged": ("ok\t123456\t3\t1\t", Write(True, 1234.56, 0.03, 1)),
    "tried again": ("ok\t123456\t203\t2\ttransport is closing", Write(True, 1234.56, 2.03, 2, "transport is closing")),
    "failed": (
        "failed\t123456\t1001\t7\tetcdserver: no leader",
        Write(False, 1234.56, 10.01, 7, "etcdserver: no leader"),
    ),
    "the count": ("version\t17", None),
    "cut short": ("ok\t1234", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("line", "write"), LINES.values(), ids=LINES.keys())
def test_lines(line: str, write: Write | None) -> None:
    assert Write.parse(line) == write


def bird(max_gap: float = 1.0) -> Canary:
    return Canary(cast(Any, SimpleNamespace(max_gap=max_gap, command="inv restart --canary")))


def test_lines_come_in_any_pieces_and_lost_writes_are_counted() -> None:
    canary = bird()
    flight = Flight(canary)
    for piece in (b"ok\t100\t2\t1\t\nok\t15", b"0\t2\t1\t\n", b"version\t1\n"):
        flight.take(piece)
    assert canary.report() == Report(2, 0, 0, 1, 0.5, 0.02)


def test_clocks_of_two_hosts_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(steps_canary, "time", SimpleNamespace(monotonic=lambda: now[0]))
    canary = bird()
    Flight(canary).take(b"ok\t100\t2\t1\t\n")
    now[0] = 53.0
    Flight(canary).take(b"ok\t999900\t2\t1\t\n")  # another host, up for longer
    found = canary.report()
    assert (found.gap, found.blind) == (0.0, pytest.approx(2.98))


def test_silence_counts_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(steps_canary, "time", SimpleNamespace(monotonic=lambda: now[0]))
    canary = bird(max_gap=1.0)
    Flight(canary).take(b"ok\t100\t2\t1\t\n")
    now[0] = 50.9
    canary.check()
    now[0] = 51.1
    with pytest.raises(Unhealthy) as caught:
        canary.check()
    assert "writes waited 1.1 s" in str(caught.value)
    assert caught.value.hint.endswith("then inv restart --canary")


def test_report_in_words() -> None:
    assert (
        str(Report(41, 0, 2, 0, 0.1234, 0.05)) == "41 writes, 0 failed, 2 tried again; longest gap 0.12 s, p99 0.05 s"
    )
    lost = Report(41, 1, 2, 3, 12.0, 0.05, 2.5, "no leader")
    assert str(lost) == (
        "41 writes, 1 failed (no leader), 2 tried again, at least 3 LOST; longest gap 12.00 s, p99 0.05 s; "
        "nobody wrote for 2.5 s, while the host that did was away"
    )
    assert lost.document == {
        "writes": 41, "failed": 1, "retried": 2, "lost": 3, "longest_gap_s": 12.0, "p99_s": 0.05, "unwatched_s": 2.5,
    }  # fmt: skip


def test_a_canary_that_changes_over_is_told_so_once() -> None:
    flown = bird()
    words = flown._until_stopped()
    assert [next(words) for _ in range(2)] == [b"", b""]
    flown.change_over()
    assert [next(words) for _ in range(3)] == [b"over\n", b"", b""]
    flown._stop.set()
    assert list(words) == []
