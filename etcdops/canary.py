"""What a client noticed of a change: the lines of files/canary.sh, and what they add up to.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

HUNDRED = 100  # ticks a second of the clock of a host that costs no process


@dataclass(frozen=True)
class Write:
    """One write that came to its end: ``at`` seconds since its host's boot, after ``took`` seconds and ``tries``.

    ``why``: what the last try but the successful one failed with, '' when the first one succeeded.
    """

    acknowledged: bool
    at: float
    took: float
    tries: int
    why: str = ""

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """A line of the script; None where it is no write."""
        outcome, *rest = line.rstrip("\n").split("\t")
        if outcome not in {"ok", "failed"} or len(rest) != 4:
            return None
        at, took, tries, why = rest
        return cls(outcome == "ok", int(at) / HUNDRED, int(took) / HUNDRED, int(tries), why)


@dataclass(frozen=True)
class Report:
    """What a canary has to report.  Seconds; ``gap`` is the longest time in which no write was acknowledged.

    ``blind``: how long nobody wrote, for the host that did was lost: that says nothing of the cluster.
    ``lost``: acknowledged writes that the cluster does not know of, at least.  ``p99``: what 99 of 100 writes took at
    most, the start of etcdctl and its way to the cluster included.
    """

    writes: int
    failed: int
    retried: int
    lost: int
    gap: float
    p99: float
    blind: float = 0.0
    why: str = ""

    @classmethod
    def of(cls, flights: Sequence[Sequence[Write]], *, silence: float = 0.0, lost: int = 0, blind: float = 0.0) -> Self:
        """What ``flights``, the writes of one host each, come to; ``silence``: since when the last one is not heard of.

        The clocks of two hosts are not compared.
        """
        writes = [write for flight in flights for write in flight]
        acknowledged = [each for each in writes if each.acknowledged]
        times = sorted(each.took for each in acknowledged)
        return cls(
            writes=len(acknowledged),
            failed=len(writes) - len(acknowledged),
            retried=sum(each.tries > 1 for each in acknowledged),
            lost=lost,
            gap=max([silence, *map(longest_gap, flights)]),
            p99=times[math.ceil(0.99 * len(times)) - 1] if times else 0.0,
            blind=blind,
            why=next((each.why for each in writes if not each.acknowledged), ""),
        )

    @property
    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            "writes": self.writes,
            "failed": self.failed,
            "retried": self.retried,
            "lost": self.lost,
            "longest_gap_s": round(self.gap, 2),
            "p99_s": round(self.p99, 2),
            "unwatched_s": round(self.blind, 2),
        }

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        lost = f", at least {self.lost} LOST" if self.lost else ""
        blind = f"; nobody wrote for {self.blind:.1f} s, while the host that did was away" if self.blind >= 1 else ""
        return (
            f"{self.writes} writes, {self.failed} failed{why}, {self.retried} tried again{lost}; "
            f"longest gap {self.gap:.2f} s, p99 {self.p99:.2f} s{blind}"
        )


def longest_gap(writes: Sequence[Write]) -> float:
    """The longest time from one acknowledged write to the next; of one that failed at the end, to there."""
    gap, last = 0.0, None
    for each in writes:
        if last is not None:
            gap = max(gap, each.at - last)
        if each.acknowledged or last is None:
            last = each.at if each.acknowledged else each.at - each.took
    return gap
