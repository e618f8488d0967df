"""Which backups may go: decided from their manifests alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime

from etcdops.config import KeepSection
from etcdops.snapshots.manifest import Manifest


def expired(manifests: Iterable[Manifest], keep: KeepSection, now: datetime) -> list[Manifest]:
    """The backups that ``keep`` lets go, oldest first; those of one cluster never count for another.

    None if ``keep`` is empty.  Never a cluster's newest, nor the last one of an id that it had before (it may have been
    built anew, empty, and that is what was in it); nor one from the future (``now`` or the clock that dated it is
    wrong, and nobody knows which).
    """
    manifests = list(manifests)
    kept = {each.name for each, _ in reasons(manifests, keep, now)}
    return sorted((each for each in manifests if each.name not in kept), key=_age)


def reasons(manifests: Iterable[Manifest], keep: KeepSection, now: datetime) -> list[tuple[Manifest, str]]:
    """The backups that stay, newest first, each with why."""
    clusters: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in sorted(manifests, key=_age, reverse=True):
        clusters[manifest.cluster].append(manifest)
    return [pair for own in clusters.values() for pair in _stay(own, keep, now)]


def _stay(newest_first: list[Manifest], keep: KeepSection, now: datetime) -> list[tuple[Manifest, str]]:
    if not (keep.last or keep.daily or keep.weekly):
        return [(each, "nothing is ever deleted") for each in newest_first]
    future = [each for each in newest_first if each.taken > now]
    past = [each for each in newest_first if each.taken <= now]
    why: dict[str, str] = {each.name: "in the future" for each in future}
    for each in past[: keep.last]:
        why.setdefault(each.name, "last")
    for each in _newest_of_each(past, keep.daily, lambda taken: (taken.date().toordinal(),)):
        why.setdefault(each.name, f"of {each.taken:%F}")
    for each in _newest_of_each(past, keep.weekly, lambda taken: taken.isocalendar()[:2]):
        why.setdefault(each.name, f"of week {each.taken:%G-W%V}")
    for each in {each.cluster_id: each for each in reversed(past)}.values():
        why.setdefault(each.name, f"the last of cluster {each.cluster_id or 'unknown'}")
    return [(each, why[each.name]) for each in newest_first if each.name in why]


def _newest_of_each(
    newest_first: list[Manifest], count: int, period: Callable[[datetime], tuple[int, ...]]
) -> list[Manifest]:
    newest: dict[tuple[int, ...], Manifest] = {}
    for manifest in newest_first:
        newest.setdefault(period(manifest.taken), manifest)
    return list(newest.values())[:count]


def _age(manifest: Manifest) -> tuple[datetime, int, str]:
    return manifest.taken, manifest.revision, manifest.name
