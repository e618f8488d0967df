"""From one release of etcd to another: by which stops, and what forbids it.  Pure.

Sources: etcd's upgrade and downgrade guides and CHANGELOG (etcd-operations 2.2), and what was tried on real clusters
(docs/etcd-versions.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from etcdops.errors import Refused, UsageError
from etcdops.etcd import release
from etcdops.flags import NEWEST
from etcdops.flaws import known_bad
from etcdops.values import SUPPORTED_MINORS

# The least patch from which a rolling upgrade to this minor works: below it, members that were removed once come back,
# and voters become learners (3.6); the two releases do not understand each other (3.7).
LEAST = {"3.6": "3.5.26", "3.7": "3.6.11"}
CLEARS_ZOMBIES = (3, 5, 26)  # the first that does so on its own
BACK = {"3.6": "3.5", "3.7": "3.6"}  # etcd's own way back, while and after the members change


@dataclass(frozen=True)
class Hop:
    """One rolling change of all members from one release to the next stop."""

    start: str
    end: str

    @property
    def down(self) -> bool:
        """Whether it leads to an older release."""
        return release(self.end) < release(self.start)

    @property
    def crosses(self) -> bool:
        """Whether it changes the minor, and so the version of the cluster."""
        return minor(self.start) != minor(self.end)

    @property
    def renews_log(self) -> bool:
        """Whether each member's write-ahead log must begin anew before: the newer etcd must not read the older one's.

        3.5.26 and newer take the members in a log of 3.4 for removed ones, and 3.6 ends them for it; 3.7 ends at the
        first entry that 3.5 has written.
        """
        clears = release(self.start) < CLEARS_ZOMBIES <= release(self.end)
        return clears or (not self.down and self.crosses and minor(self.end) == "3.7")

    @property
    def way_back(self) -> str:
        """How to come back once every member runs the new release."""
        if known_bad(self.start):
            return "none that is safe"
        if not self.crosses:
            return f"inv {'upgrade' if self.down else 'downgrade'} --to={self.start}"
        if self.down:
            return f"inv upgrade --to={self.start}"
        if minor(self.end) in BACK:
            return f"inv downgrade --to={self.start}"
        return "only the backup from before: inv restore"

    def __str__(self) -> str:
        return f"{self.start} -> {self.end}"


def minor(version: str) -> str:
    """The release line, such as ``3.6``."""
    return version.rpartition(".")[0]


def up(start: str, to: str) -> list[Hop]:
    """The stops of an upgrade: one minor at a time, each from a patch that allows it."""
    _sound(to)
    if release(to) < release(start):
        raise UsageError(f"{to} is older than {start}, which runs", hint=f"inv downgrade --to={to}")
    hops = []
    for line in SUPPORTED_MINORS:
        if release(minor(start)) < release(line) <= release(minor(to)):
            least = LEAST.get(line, start)
            if release(start) < release(least):
                hops.append(Hop(start, max(NEWEST[minor(start)], least, key=release)))
                start = hops[-1].end
            hops.append(Hop(start, to if line == minor(to) else NEWEST[line]))
            start = hops[-1].end
    if start != to:
        hops.append(Hop(start, to))
    return hops


def down(start: str, to: str) -> list[Hop]:
    """The stops of a downgrade: one minor at a time, as far as etcd supports it."""
    _sound(to)
    if release(to) > release(start):
        raise UsageError(f"{to} is newer than {start}, which runs", hint=f"inv upgrade --to={to}")
    hops = []
    while minor(start) != minor(to):
        below = BACK.get(minor(start))
        if below is None:
            raise Refused(
                f"etcd has no way back from {minor(start)} to {minor(to)}",
                hint="the backup from before the upgrade, with cluster.version set to that release: inv restore",
            )
        hops.append(Hop(start, to if below == minor(to) else NEWEST[below]))
        start = hops[-1].end
    if start != to:
        hops.append(Hop(start, to))
    return hops


def _sound(version: str) -> None:
    if bad := known_bad(version):
        raise Refused(f"etcd {version} {bad}", hint=f"--to={NEWEST[minor(version)]}")
