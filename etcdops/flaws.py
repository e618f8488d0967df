"""What is known to be wrong with releases of etcd, and which release is the first without it.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from etcdops import etcd


@dataclass(frozen=True)
class Flaw:
    """What is wrong with releases: in the minor ``line``, from patch ``first`` to before patch ``fixed`` ."""

    line: tuple[int, int]
    first: int
    fixed: int
    what: str
    of_learners: bool = False  # it shows where one is promoted, so where a member is added

    @property
    def way_out(self) -> str:
        """The release that is the first without it."""
        return f"{self.line[0]}.{self.line[1]}.{self.fixed}"


# Sources: etcd's CHANGELOG, README, posts and security advisories.  ``known_bad`` has the worst.
FLAWS = (
    Flaw((3, 4), 0, 22, "is below 3.4.22, the least that etcd recommends for production"),
    Flaw((3, 5), 3, 6, "is below 3.5.6, the least that etcd recommends for production"),
    Flaw(
        (3, 5),
        0,
        20,
        "does not store the promotion of a learner for good: an upgrade to 3.6 can fail",
        of_learners=True,
    ),
    Flaw((3, 6), 0, 4, "may fail to start where a learner was promoted", of_learners=True),
    *(
        Flaw(line, 0, fixed, "can damage data when a member is defragmented while it receives a snapshot")
        for line, fixed in {(3, 4): 38, (3, 5): 23, (3, 6): 5}.items()
    ),
    Flaw((3, 4), 42, 43, "lets none but root ask for health once auth is enabled"),
    Flaw((3, 5), 28, 29, "lets none but root ask for health once auth is enabled"),
    Flaw((3, 6), 9, 10, "lets none but root ask for health once auth is enabled"),
    *(
        Flaw(
            line,
            0,
            fixed,
            "has security holes (GHSA-6vch: TLS handshakes without end; GHSA-xg4h: watches)",
        )
        for line, fixed in {(3, 5): 33, (3, 6): 14, (3, 7): 1}.items()
    ),
)
ENDED = {"3.4": "3.4 gets no corrections any more (its support ended in June 2026)"}


def flaws(version: str) -> tuple[Flaw, ...]:
    """What is known to be wrong with a release, beside what ``known_bad`` says."""
    number = etcd.release(version)
    return tuple(flaw for flaw in FLAWS if number[:2] == flaw.line and flaw.first <= number[2] < flaw.fixed)


def known_bad(version: str) -> str:
    """Why a release must not be run, or ''.  Source: etcd's CHANGELOG and README."""
    if (3, 5, 0) <= etcd.release(version) <= (3, 5, 2):
        return "loses data when a member is killed under load (etcd issue 13766, fixed in 3.5.3)"
    return ""
