"""What a member's /metrics say: Prometheus' text format, as far as a check-up reads it.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLE = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)")
ENOUGH = 100  # events; of fewer, nobody can tell the slowest in a hundred


@dataclass(frozen=True)
class Histogram:
    """``buckets``: how many events took at most so many seconds, in rising order; the last one is of all events."""

    buckets: tuple[tuple[float, float], ...]

    @property
    def count(self) -> int:
        """How many events there were."""
        return int(self.buckets[-1][1]) if self.buckets else 0

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share of the events ended, as Prometheus estimates it: evenly spread within a
        bucket.  None where there were too few.  Beyond the last limit: that limit."""
        if self.count < ENOUGH:
            return None
        rank, before, limit = share * self.count, 0.0, 0.0
        for upper, count in self.buckets:
            if count >= rank:
                if upper == float("inf"):
                    return limit
                return limit + (upper - limit) * (rank - before) / (count - before)
            before, limit = count, upper
        return None


@dataclass(frozen=True)
class Metrics:
    """Of one etcd process, since its start.  Seconds; ``uptime`` is 0 where it does not tell."""

    fsync: Histogram = Histogram(())
    commit: Histogram = Histogram(())
    round_trip: Histogram = Histogram(())  # to all peers
    leader_changes: int = 0
    failed_proposals: int = 0
    uptime: float = 0.0
    open_files: int = 0
    most_files: int = 0


@dataclass(frozen=True)
class _Samples:
    values: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)

    def histogram(self, name: str) -> Histogram:
        return Histogram(tuple(sorted(self.buckets.get(name, {}).items())))

    def value(self, name: str) -> float:
        return self.values.get(name, 0.0)


def parse(text: str, now: float) -> Metrics:
    """``now`` is the host's clock, in seconds since 1970."""
    samples = _samples(text)
    started = samples.value("process_start_time_seconds")
    return Metrics(
        fsync=samples.histogram("etcd_disk_wal_fsync_duration_seconds"),
        commit=samples.histogram("etcd_disk_backend_commit_duration_seconds"),
        round_trip=samples.histogram("etcd_network_peer_round_trip_time_seconds"),
        leader_changes=int(samples.value("etcd_server_leader_changes_seen_total")),
        failed_proposals=int(samples.value("etcd_server_proposals_failed_total")),
        uptime=max(0.0, now - started) if started else 0.0,
        open_files=int(samples.value("process_open_fds")),
        most_files=int(samples.value("process_max_fds")),
    )


def _samples(text: str) -> _Samples:
    """Samples by name; those that differ in their labels alone are added up, such as of several peers."""
    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    for line in text.splitlines():
        match = SAMPLE.fullmatch(line)
        if not match:
            continue
        name, labels, value = match[1], match[2] or "", float(match[3])
        limit = re.search(r'\ble="([^"]*)"', labels)
        if limit and name.endswith("_bucket"):
            of = buckets.setdefault(name.removesuffix("_bucket"), {})
            of[float(limit[1])] = of.get(float(limit[1]), 0.0) + value
        else:
            values[name] = values.get(name, 0.0) + value
    return _Samples(values, buckets)
