"""One change of the membership, until the list of members shows it: what is tried again, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import gate
from etcdops.errors import HostError
from etcdops.etcd import View
from etcdops.steps import membership
from tests.unit.build import NAMES, config, member, view
from tests.unit.test_gate import Clock

BEFORE = tuple(member(name) for name in NAMES)
AFTER = BEFORE[:2]


class Cluster:
    """Members that have one more in their list until a command was given ``works`` times; ``answers``: what it said."""

    def __init__(self, *answers: str, works: int) -> None:
        self.answers, self.works, self.given = answers, works, 0

    def map(self, *_: object) -> dict[str, View]:
        return {name: view(name, members=AFTER if self.given >= self.works else BEFORE) for name in NAMES[:2]}

    def say(self, *_: object) -> str:
        self.given += 1
        return self.answers[min(self.given, len(self.answers)) - 1]


def remove(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> tuple[Any, list[str], Clock]:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(membership, "say", cluster.say)
    said: list[str] = []
    run: Any = SimpleNamespace(
        fleet=cluster, config=config(), ui=SimpleNamespace(line=said.append), patience=60, command=""
    )
    done = lambda members: len(members) == 2  # noqa: E731
    return membership.change(run, NAMES[:2], ("remove", "1"), done, "does not remove etcd03"), said, clock


CASES = {
    "at once": (Cluster("", works=1), 1),
    "done already": (Cluster("never", works=0), 0),
    "connected for too short": (Cluster("etcdserver: unhealthy cluster", "", works=2), 2),
    "failed, and took effect": (Cluster("context deadline exceeded", works=1), 1),
    "refused, and took effect before": (Cluster("etcdserver: request timed out", "member not found", works=2), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_list_alone_tells(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    cluster, given = CASES[case]
    found, _, _ = remove(monkeypatch, cluster)
    assert (found, cluster.given) == (AFTER, given)


def test_what_passes_is_said_and_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("etcdserver: unhealthy cluster", works=10**6)
    with pytest.raises(HostError) as caught:
        remove(monkeypatch, cluster)
    assert str(caught.value) == "etcd01: does not remove etcd03: etcdserver: unhealthy cluster"
    assert cluster.given == pytest.approx(membership.FRESH / gate.POLL, abs=2)


def test_the_last_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has taken effect when there is no time left to look for it."""
    most = round(membership.FRESH / gate.POLL) + 1
    found, _, _ = remove(monkeypatch, Cluster(*["etcdserver: unhealthy cluster"] * (most - 1), "", works=most))
    assert found == AFTER


def test_what_does_not_pass_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("etcdserver: too many learner members in cluster", works=10**6)
    with pytest.raises(HostError, match="etcd01: does not remove etcd03: etcdserver: too many learner"):
        remove(monkeypatch, cluster)
    assert cluster.given == 1
