"""Rules about a member's figures since its start: how fast its disk and the way to its peers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from etcdops.checkup.findings import Finding, Level, Picture
from etcdops.checkup.metrics import ENOUGH, Histogram, Metrics

# Seconds within which 99 of 100 should end, and beyond which etcd's own alerts begin (its tuning guide; its mixin).
FSYNC = (0.010, 0.500)
COMMIT = (0.025, 0.250)
ROUND_TRIP = (0.050, 0.150)  # half a heartbeat
TOO_FEW = f"too little has happened yet to tell: fewer than {ENOUGH} events"
FILES = 0.8  # of those that the process may open
DISK_HINT = "a faster disk, or one that it does not share with something busy"


def disk(picture: Picture) -> Iterator[Finding]:
    """Members whose log or database is slow to reach the disk."""
    for name, exam in picture.running.items():
        if exam.metrics is None:
            hint = "AllowTcpForwarding in its sshd_config, and listen-metrics-urls in cluster.settings, decide that"
            yield Finding("note", f"its figures could not be seen: {exam.unseen}", name, hint)
            continue
        yield from _slow(name, "wal fsync", exam.metrics.fsync, FSYNC, DISK_HINT)
        yield from _slow(name, "backend commit", exam.metrics.commit, COMMIT, DISK_HINT)


def disk_well(picture: Picture) -> str:
    fsync = _worst(picture, lambda metrics: metrics.fsync)
    commit = _worst(picture, lambda metrics: metrics.commit)
    if not (fsync or commit):
        return TOO_FEW if picture.running else ""
    return ", ".join(f"p99 of {what} {p99}" for what, p99 in (("wal fsync", fsync), ("backend commit", commit)) if p99)


def peers(picture: Picture) -> Iterator[Finding]:
    """Members that are far from their peers, or short of files for their connections."""
    for name, exam in picture.running.items():
        if exam.metrics is None:
            continue
        hint = "raise heartbeat-interval and election-timeout in cluster.settings, then inv deploy"
        yield from _slow(name, "round trip to its peers", exam.metrics.round_trip, ROUND_TRIP, hint)
        if exam.metrics.most_files and exam.metrics.open_files > FILES * exam.metrics.most_files:
            text = f"has {exam.metrics.open_files} of {exam.metrics.most_files} files open"
            yield Finding(
                "warning", text, name, "who connects so often? Else LimitNOFILE in cluster.unit, then inv deploy"
            )


def peers_well(picture: Picture) -> str:
    slowest = _worst(picture, lambda metrics: metrics.round_trip)
    return f"p99 of a round trip {slowest}" if slowest else TOO_FEW if picture.running else ""


def _slow(name: str, what: str, of: Histogram, limits: tuple[float, float], hint: str) -> Iterator[Finding]:
    p99 = of.quantile(0.99)
    if p99 is None or p99 <= limits[0]:
        return
    level: Level = "warning" if p99 > limits[1] else "note"
    text = f"p99 of {what} is {1000 * p99:.0f} ms since its start, {1000 * limits[0]:.0f} ms or less is good"
    yield Finding(level, text, name, hint)


def _worst(picture: Picture, of: Callable[[Metrics], Histogram]) -> str:
    known = [of(exam.metrics).quantile(0.99) for exam in picture.running.values() if exam.metrics]
    told = [each for each in known if each is not None]
    return f"{1000 * max(told):.1f} ms or less" if told else ""
