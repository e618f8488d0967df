"""remove-member: the arithmetic, who the member is to the cluster, and whose host is cleaned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdops.errors import Unreachable
from etcdops.steps.membership import _known, _strange, refusal
from tests.unit.build import config, fresh, identity, member, serving, unstarted


@pytest.mark.parametrize(
    ("voters", "learners", "healthy", "gone", "words"),
    [
        (3, (), (1, 2, 3), 3, ""),
        (3, (), (1, 2), 3, ""),  # the dead one
        (3, (), (1, 2), 1, "of the 2 voters that would be left 1 can commit, and 2 must: the cluster would stop"),
        (2, (), (1, 2), 2, ""),
        (2, (), (1,), 1, "of the 1 voter that would be left 0 can commit, and 1 must: the cluster would stop"),
        (1, (), (1,), 1, "it is the only voter, and there is no cluster without one"),
        (2, (2,), (1, 2), 1, "it is the only voter, and there is no cluster without one"),
        (3, (3,), (1, 2), 3, ""),  # a learner counts for nothing
        (4, (4,), (1, 2, 4), 2, "of the 2 voters that would be left 1 can commit, and 2 must: the cluster would stop"),
        (5, (), (1, 2, 3, 4), 1, ""),
        (5, (), (1, 2, 3), 4, ""),
        (5, (), (1, 2, 3), 1, "of the 4 voters that would be left 2 can commit, and 3 must: the cluster would stop"),
    ],
)
def test_quorum_is_that_of_the_voters_that_are_left(
    voters: int, learners: tuple[int, ...], healthy: tuple[int, ...], gone: int, words: str
) -> None:
    cluster = [member(f"etcd{n:02d}", learner=n in learners) for n in range(1, voters + 1)]
    assert refusal(cluster, healthy, cluster[gone - 1]) == words


def test_member_is_known_by_its_name_or_where_it_never_started_by_its_address() -> None:
    moved = member("etcd03", peer_urls=("https://192.0.2.99:2380",))
    for each, found in (
        (member("etcd03"), True),
        (moved, True),
        (unstarted("etcd03"), True),
        (unstarted("etcd03", peer_urls=("https://192.0.2.99:2380",)), False),
        (replace(member("etcd03"), name="other"), False),  # started: it has a name of its own
    ):
        cluster = (member("etcd01"), member("etcd02"), each)
        assert _known(config(), cluster, "etcd03") == (each if found else None)


def test_only_the_host_of_this_member_is_cleaned() -> None:
    assert _strange(config(), serving("etcd03")) == ""
    assert _strange(config(), fresh("etcd03")) == ""
    assert _strange(config(), Unreachable("no route")) == "does not answer (no route)"
    assert _strange(config(), serving("etcd03", identity=identity("etcd04"))) == "is member etcd04 of this cluster"
    other = {**identity("etcd03"), "cluster": "other"}
    assert _strange(config(), serving("etcd03", identity=other)) == "is a member of another cluster, other"
    foreign = serving("etcd03", running={}, executable="/usr/bin/etcd")
    assert _strange(config(), foreign) == "runs an etcd that etcdops did not set up (/usr/bin/etcd)"
