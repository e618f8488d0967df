"""Do all members hold the same at one revision?  Whoever is alone with its hash holds wrong data.

etcd itself does not notice: a member with a flipped byte is healthy, and serves it (etcd-operations 3.14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from etcdops import etcd
from etcdops.errors import OpsError
from etcdops.snapshots.content import Content

Contents = Mapping[str, Content | OpsError]


@dataclass(frozen=True)
class Comparison:
    """``good``: members that hold the same and are a majority of all; ``bad``: those that hold something else.  Where
    no majority holds the same, all that differ are ``bad`` and none is good."""

    revision: int
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What is wrong, '' when every member holds the same."""
        if self.good and self.bad:
            verb = "holds" if len(self.bad) == 1 else "hold"
            return (
                f"{', '.join(self.bad)} {verb} other data than {', '.join(self.good)}, the majority, "
                f"at revision {self.revision}"
            )
        if self.bad:
            return f"{', '.join(self.bad)} hold different data at revision {self.revision}, and no majority agrees"
        if self.silent:
            return f"{', '.join(self.silent)} gave no hash of its data at revision {self.revision}"
        return ""


def compare(found: Contents, revision: int) -> Comparison:
    """The verdict on what each member holds at ``revision``."""
    hashes = {name: each.hash for name, each in found.items() if isinstance(each, Content) and each.hash is not None}
    silent = tuple(name for name in found if name not in hashes)
    if not hashes:
        return Comparison(revision, silent=silent)
    ((best, count),) = Counter(hashes.values()).most_common(1)
    if len(set(hashes.values())) > 1 and count < etcd.quorum(len(found)):
        return Comparison(revision, bad=tuple(hashes), silent=silent)
    good = tuple(name for name, hash_ in hashes.items() if hash_ == best)
    return Comparison(revision, good, tuple(name for name in hashes if name not in good), silent)
