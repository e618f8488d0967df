"""Backups that the members make on a schedule: when they are due, and whether the newest is as new as it should be.

Pure.  Who of the members makes one is decided on the hosts, by files/backup.sh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from etcdops.errors import OpsError
from etcdops.etcd import View
from etcdops.snapshots.manifest import Manifest

DAY = 24 * 60  # minutes
DAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # as time began: 1 January 1970 was a Thursday
LONGEST_RUN = timedelta(hours=1)  # of one backup
MARGIN = timedelta(hours=1)  # that a backup may be late: as long as it may take


def offset(cluster: str, every: timedelta) -> timedelta:
    """When, in each period since the beginning of 1970, the backup is due: by the cluster's name, so that several
    clusters on the same machines do not all begin at once."""
    digest = hashlib.sha256(cluster.encode()).digest()
    return timedelta(minutes=int.from_bytes(digest[:8]) % _minutes(every))


def calendar(every: timedelta, shift: timedelta) -> list[str]:
    """The instants as systemd's OnCalendar has them, in UTC whatever the host's time zone is.

    ``every`` must divide a day, or be seven: a calendar knows nothing else that is the same on all hosts.
    """
    period, first = _minutes(every), _minutes(shift)
    if period > DAY:
        return [f"{DAYS[first // DAY]} *-*-* {first % DAY // 60:02}:{first % 60:02}:00 UTC"]
    hours_of: dict[int, list[int]] = {}
    for minute in range(first % period, DAY, period):
        hours_of.setdefault(minute % 60, []).append(minute // 60)
    minutes_of: dict[tuple[int, ...], list[int]] = {}
    for minute, hours in sorted(hours_of.items()):
        minutes_of.setdefault(tuple(hours), []).append(minute)
    return [f"*-*-* {_listed(hours, 24)}:{_listed(minutes, 60)}:00 UTC" for hours, minutes in minutes_of.items()]


def next_due(every: timedelta, shift: timedelta, now: datetime) -> datetime:
    """The first instant after ``now``."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + shift
    return start + ((now - start) // every + 1) * every


def _listed(numbers: list[int] | tuple[int, ...], all_of: int) -> str:
    return "*" if len(numbers) == all_of else ",".join(f"{number:02}" for number in numbers)


def _minutes(span: timedelta) -> int:
    return span // timedelta(minutes=1)


@dataclass(frozen=True)
class Installed:
    """The schedule as a host has it.  ``since``: how long it has been as it is; ``age``: of the ``newest`` backup.

    ``future``: the name of a backup there that is dated later than now, by the same clock; it is never the newest.
    """

    every: timedelta
    since: timedelta
    armed: bool
    failed: bool
    newest: Manifest | None
    age: timedelta
    future: str


def installed(view: View) -> Installed | None:
    """What files/schedule.sh said of the host, ``None`` when no schedule is installed there."""
    if not view.schedule:
        return None
    head, *units = view.schedule.replace("\nId=", "\n\nId=").split("\n\n")
    told = _properties(head)
    unit = {each.get("Id", ""): each for each in map(_properties, units)}
    now = datetime.fromtimestamp(int(told["now"]), UTC)
    written = max(int(line[6:]) for line in head.splitlines() if line.startswith("since="))  # of both units
    newest = _manifest(view.backup)
    return Installed(
        every=timedelta(seconds=int(told.get("every") or 0)),
        since=now - datetime.fromtimestamp(written, UTC),
        armed=unit.get("etcdops-backup.timer", {}).get("ActiveState") == "active",
        failed=unit.get("etcdops-backup.service", {}).get("ActiveState") == "failed",
        newest=newest,
        age=now - newest.taken if newest else timedelta(),
        future=told.get("future", ""),
    )


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _manifest(text: str) -> Manifest | None:
    try:
        return Manifest.load(text.encode(), "the newest backup") if text else None
    except OpsError:
        return None  # what cannot be read is no backup


@dataclass(frozen=True)
class Report:
    """The scheduled backups of a cluster.  ``reasons``: what is wrong with them, one line each."""

    every: timedelta
    newest: Manifest | None
    age: timedelta
    overdue: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        if self.newest is None:
            return f"backup: none yet, one is due every {span(self.every)}"
        return f"backup: {span(self.age)} ago on {self.newest.member}, revision {self.newest.revision}"


def judge(views: Mapping[str, View]) -> Report | None:
    """The newest backup on any host, and whether the schedule is kept; ``None`` where none is installed."""
    known = {name: installed(view) for name, view in views.items()}
    scheduled = {name: each for name, each in known.items() if each}
    if not scheduled:
        return None
    newest = min((each for each in scheduled.values() if each.newest), key=lambda each: each.age, default=None)
    every = max(each.every for each in scheduled.values())
    limit = every + min(MARGIN, every / 4)
    # What was scheduled a moment ago has missed nothing yet.
    overdue = min(each.since for each in scheduled.values()) > limit and (newest is None or newest.age > limit)
    reasons = list(_faults(known))
    if overdue:
        late = f"the newest backup is {span(newest.age)} old" if newest else "there is no backup"
        reasons.append(
            f"{late}, and one is due every {span(every)}; journalctl -u etcdops-backup on the hosts says why"
        )
    return Report(
        every, newest.newest if newest else None, newest.age if newest else timedelta(), overdue, tuple(reasons)
    )


def _faults(known: Mapping[str, Installed | None]) -> Iterator[str]:
    for name, each in known.items():
        if each is None:
            yield f"{name}: makes no backups, while others do; inv snapshot.schedule"
            continue
        if each.future:
            yield f"{name}: {each.future} is dated in the future: is the clock of {name} right? Then delete that backup"
        if not each.armed:
            yield f"{name}: the timer of its backups does not run; inv snapshot.schedule"
        elif each.failed:
            yield f"{name}: its last backup failed; journalctl -u etcdops-backup on the host says why"


def span(time: timedelta) -> str:
    """A length of time in its largest unit: ``45 s``, ``5 min``, ``2 h``, ``3 d``."""
    seconds = max(0, int(time.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
