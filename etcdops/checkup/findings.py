"""What a rule of a check-up is, what it looks at, and what it says.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from etcdops.checkup.exam import Exam
from etcdops.config import Config
from etcdops.desired import Want
from etcdops.errors import OpsError
from etcdops.etcd import View
from etcdops.facts import HostFacts
from etcdops.keystore import Item
from etcdops.rotation import Standing
from etcdops.snapshots.manifest import Manifest

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # worst first; a note alone leaves the exit code 0


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: an ``error`` harms or will, a ``warning`` needs care, a ``note`` is good
    to know.  ``host``: the member, '' for the cluster as a whole; ``hint``: what to do."""

    level: Level
    message: str
    host: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Picture:
    """All that the rules look at: each host as it was examined, or why it could not be.

    ``wants`` and ``items``: what should be on each host, and be made in pki.dir; ``pki`` says why they are not known.
    ``rotating``: since when every leaf is being replaced; ``cas``: how far a rotation of the CAs has come.
    ``backup``: the newest in the store; ``store`` where that is, ``shut`` why it could not be looked into.
    ``releases``: why a release that is asked for cannot be had.
    """

    config: Config
    exams: Mapping[str, Exam | OpsError]
    now: datetime
    wants: Mapping[str, Want] = field(default_factory=dict)
    items: Sequence[Item] = ()
    pki: OpsError | None = None
    rotating: datetime | None = None
    cas: Standing | None = None
    backup: Manifest | None = None
    store: str = ""
    shut: OpsError | None = None
    releases: Sequence[OpsError] = ()

    @property
    def seen(self) -> dict[str, Exam]:
        """The hosts that answered."""
        return {name: exam for name, exam in self.exams.items() if isinstance(exam, Exam)}

    @property
    def facts(self) -> dict[str, HostFacts]:
        """What they say of themselves."""
        return {name: exam.facts for name, exam in self.seen.items()}

    @property
    def views(self) -> dict[str, View]:
        """What their members say, a full quota and other alarms aside: those are shown by themselves."""
        return {name: fact.view.but_for_alarms() for name, fact in self.facts.items()}

    @property
    def running(self) -> dict[str, Exam]:
        """Those on which an etcd runs."""
        return {name: exam for name, exam in self.seen.items() if exam.facts.is_running}

    @property
    def is_bare(self) -> bool:
        """Whether no host that answers has anything of a cluster yet."""
        return bool(self.seen) and not any(
            fact.is_running or fact.has_data or fact.identity for fact in self.facts.values()
        )


@dataclass(frozen=True)
class Rule:
    """One thing to look at: its name, what may be wrong with it, and how it is, in a few words, when nothing is; ''
    where nothing could be seen of it."""

    name: str
    find: Callable[[Picture], Iterable[Finding]]
    well: Callable[[Picture], str]


@dataclass(frozen=True)
class Result:
    """What a rule says: its findings, or else that all is well, and how."""

    rule: str
    findings: tuple[Finding, ...]
    well: str = ""


def apply(rules: Iterable[Rule], picture: Picture) -> list[Result]:
    """Every rule's result, in their order; a finding that two rules have is the first one's."""
    seen: set[Finding] = set()
    results = []
    for rule in rules:
        found = tuple(dict.fromkeys(each for each in rule.find(picture) if each not in seen))
        seen.update(found)
        results.append(Result(rule.name, found, "" if found else rule.well(picture)))
    return results


def refused(errors: Iterable[OpsError], level: Level = "error") -> Iterator[Finding]:
    """What a guard refuses, as findings."""
    for error in errors:
        yield Finding(level, error.message, error.host, error.hint)


def told(reasons: Iterable[str], picture: Picture, hint: str, level: Level = "error") -> Iterator[Finding]:
    """Reasons of the gate as findings: ``NAME: WORDS; WAY OUT``, of which only the words are always there."""
    for reason in reasons:
        name, colon, words = reason.partition(": ")
        host, words = (name, words) if colon and name in picture.exams else ("", reason)
        words, _, own = words.partition("; ")
        yield Finding(level, words, host, own or hint)
