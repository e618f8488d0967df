"""Which of the backups of a name are one cluster's: several may have the same name in one store.  Pure.

A restore or a recovery makes a cluster of another id on hosts of the same addresses.  So backups of one id belong
together, and those of two ids where a member had the same address and the one ended before the other began: of two
clusters that live side by side, such as in two labs with the same addresses, the backups alternate.  All of one between
two neighbours of another is what a restore made that was undone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from etcdops.snapshots.manifest import Manifest


@dataclass(frozen=True)
class Life:
    """The backups of one cluster id, newest first."""

    manifests: Sequence[Manifest]

    @property
    def addresses(self) -> frozenset[str]:
        """Where its members have been."""
        return frozenset(address for each in self.manifests for address in addresses(each))

    def overlaps(self, other: Life) -> bool:
        """Whether it began before the other's end, and ended after its beginning."""
        return self._first < other._last and other._first < self._last

    def precedes(self, other: Life) -> bool:
        """Whether it ended before the other began."""
        return self._last <= other._first

    def interrupts(self, other: Life) -> bool:
        """Whether all of it was while the other paused: between two of its backups that are neighbours."""
        pauses = pairwise(map(_moment, reversed(other.manifests)))
        return any(before < self._first and self._last < after for before, after in pauses)

    @property
    def _first(self) -> tuple[object, ...]:
        return _moment(self.manifests[-1])

    @property
    def _last(self) -> tuple[object, ...]:
        return _moment(self.manifests[0])


def own(manifests: Iterable[Manifest], ours: Collection[str], id_: str = "", *, sure: bool = False) -> list[Manifest]:
    """The backups, newest first, of the cluster whose members have the addresses ``ours``, and now the id ``id_``.

    ``manifests``: all of its name; ``id_``: '' where nobody tells.  Where there is but one cluster of the name, all are
    its own, wherever its members were; and one that only interrupts another is none: enough for a restore, but not for
    whoever deletes, so ``sure`` asks for the id, or an address that is no other's.  None, where they are of several and
    nothing tells which it is.
    """
    lives = _lives(manifests)
    found = [life for life in lives if id_ and life.manifests[0].cluster_id == id_]
    if found:
        lives = [life for life in lives if life.precedes(found[0])]
    else:
        found = [life for life in lives if life.addresses & set(ours)]
        if not sure:  # the other may be a cluster of which somebody has made but one backup
            found = [life for life in found if not any(map(life.interrupts, found))]
        if any(a.overlaps(b) for a in found for b in found if a is not b):
            return []
    known = bool(found)
    if sure and not known:
        return []
    found = _family(found or lives[:1], lives)
    if not known and len(found) < len(lives):
        return []
    return sorted((each for life in found for each in life.manifests), key=_age, reverse=True)


def addresses(manifest: Manifest) -> set[str]:
    """Those of the members that a backup names."""
    return {urlsplit(url).hostname or "" for member in manifest.members for url in member.peer_urls}


def _lives(manifests: Iterable[Manifest]) -> list[Life]:
    """The newest first."""
    lives: dict[str, list[Manifest]] = {}
    for each in sorted(manifests, key=_age, reverse=True):
        lives.setdefault(each.cluster_id, []).append(each)
    return [Life(each) for each in lives.values()]


def _family(seeds: list[Life], lives: Iterable[Life]) -> list[Life]:
    """The seeds, and all that was the same cluster before or after, one by one."""
    family, rest = list(seeds), [life for life in lives if life not in seeds]
    while kin := [
        life
        for life in rest
        if any(life.addresses & each.addresses for each in family) and not any(map(life.overlaps, family))
    ]:
        family.append(kin[0])
        rest.remove(kin[0])
    return family


def _moment(manifest: Manifest) -> tuple[object, ...]:
    return manifest.taken, manifest.revision


def _age(manifest: Manifest) -> tuple[object, ...]:
    return *_moment(manifest), manifest.name
