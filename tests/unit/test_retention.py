"""Which backups may go: by examples, and what must hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdops.config import KeepSection
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.retention import expired, reasons
from tests.unit.snapshots import NOW, manifest

NONE = KeepSection()


def at(text: str, cluster: str = "prod", id_: str = "") -> Manifest:
    """A backup of ``MONTH-DAY HOUR`` in 2026."""
    taken = datetime.strptime(f"2026-{text}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    return manifest(taken=taken, cluster=cluster, cluster_id=id_)


# 2026-11-22 is a Sunday, 20 h UTC is now.
DAYS = [at(f"11-{day:02} {hour:02}") for day in range(1, 23) for hour in (2, 14)]

EXAMPLES: dict[str, tuple[KeepSection, list[Manifest], list[str]]] = {
    "nothing said": (NONE, DAYS, [f"{each.taken:%m-%d %H}" for each in reversed(DAYS)]),
    "last": (KeepSection(last=3), DAYS, ["11-22 14", "11-22 02", "11-21 14"]),
    "daily: the newest of each day": (KeepSection(daily=3), DAYS, ["11-22 14", "11-21 14", "11-20 14"]),
    "weekly: up to and with Sunday": (KeepSection(weekly=3), DAYS, ["11-22 14", "11-15 14", "11-08 14"]),
    "all three": (
        KeepSection(last=2, daily=2, weekly=2),
        DAYS,
        ["11-22 14", "11-22 02", "11-21 14", "11-15 14"],
    ),
    "days without one do not count": (
        KeepSection(daily=2),
        [at("03-01 02"), at("07-01 02"), at("07-01 14"), at("11-22 02")],
        ["11-22 02", "07-01 14"],
    ),
    "the newest stays, however old": (KeepSection(weekly=1), [at("01-01 02"), at("01-02 02")], ["01-02 02"]),
    "one from the future counts for nothing, and stays": (
        KeepSection(last=1),
        [at("11-22 02"), at("11-21 02"), at("12-24 02")],
        ["12-24 02", "11-22 02"],
    ),
    "each cluster by itself": (
        KeepSection(last=1),
        [at("11-22 02"), at("11-21 02"), at("01-01 02", "other"), at("01-02 02", "other")],
        ["11-22 02", "01-02 02"],
    ),
    "the last one of each id": (
        KeepSection(last=2),
        [*(at(f"11-{day} 02", id_=id_) for day, id_ in ((10, "a"), (11, "a"), (20, "b"), (21, "b"), (22, "b")))],
        ["11-22 02", "11-21 02", "11-11 02"],
    ),
}


@pytest.mark.parametrize(("keep", "manifests", "stay"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_example(keep: KeepSection, manifests: list[Manifest], stay: list[str]) -> None:
    kept = [each for each, _ in reasons(manifests, keep, NOW)]
    gone = expired(manifests, keep, NOW)
    assert [f"{each.taken:%m-%d %H}" for each in kept] == stay
    assert sorted(each.name for each in [*kept, *gone]) == sorted(each.name for each in manifests)
    assert gone == sorted(gone, key=lambda each: each.taken)


def test_says_why() -> None:
    keep = KeepSection(last=1, daily=2, weekly=3)
    manifests = [*DAYS, at("12-24 02")]
    assert [why for _, why in reasons(manifests, keep, NOW)] == [
        "in the future",
        "last",
        "of 2026-11-21",
        "of week 2026-W46",
        "of week 2026-W45",
    ]


many = st.lists(
    st.builds(
        lambda hours, revision, cluster, id_: manifest(
            age=timedelta(hours=hours), revision=revision, cluster=cluster, cluster_id=id_
        ),
        st.integers(-30, 3000),
        st.integers(1, 3),
        st.sampled_from(["prod", "prod-eu"]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=40,
    unique_by=lambda each: each.name,
)
count = st.integers(0, 9)
keeps = st.builds(lambda last, daily, weekly: KeepSection(last=last, daily=daily, weekly=weekly), count, count, count)


def gone(manifests: list[Manifest], keep: KeepSection) -> set[str]:
    return {each.name for each in expired(manifests, keep, NOW)}


@given(many, keeps)
@settings(deadline=None)
def test_the_newest_of_each_cluster_stays(manifests: list[Manifest], keep: KeepSection) -> None:
    for cluster in {(each.cluster, each.cluster_id) for each in manifests}:
        past = [each for each in manifests if (each.cluster, each.cluster_id) == cluster and each.taken <= NOW]
        if past:
            newest = max(past, key=lambda each: (each.taken, each.revision))
            assert newest.name not in gone(manifests, keep)


@given(many, keeps)
@settings(deadline=None)
def test_a_second_time_deletes_nothing(manifests: list[Manifest], keep: KeepSection) -> None:
    first = gone(manifests, keep)
    assert not gone([each for each in manifests if each.name not in first], keep)


@given(many, keeps.filter(lambda keep: keep != NONE), count, count, count)
@settings(deadline=None)
def test_who_keeps_more_deletes_no_more(
    manifests: list[Manifest], keep: KeepSection, last: int, daily: int, weekly: int
) -> None:
    larger = KeepSection(last=keep.last + last, daily=keep.daily + daily, weekly=keep.weekly + weekly)
    assert gone(manifests, larger) <= gone(manifests, keep)


@given(many, keeps, st.randoms())
@settings(deadline=None)
def test_the_order_does_not_matter(manifests: list[Manifest], keep: KeepSection, chance: object) -> None:
    before = gone(manifests, keep)
    chance.shuffle(manifests)  # type: ignore[attr-defined]
    assert gone(manifests, keep) == before


@given(many)
@settings(deadline=None)
def test_nothing_goes_where_nothing_is_said(manifests: list[Manifest]) -> None:
    assert not gone(manifests, NONE)
