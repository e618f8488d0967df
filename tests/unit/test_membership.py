"""Membership: the arithmetic, who a member is to the cluster, how one gets in, and whose host is cleaned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etcdops import membership
from etcdops.config import Member
from etcdops.errors import Refused, Unreachable
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts
from etcdops.membership import Arrival, arrival, called, cleared, known, leaving, refusal
from etcdops.steps.membership import strange
from tests.unit.build import (
    NAMES,
    address,
    config,
    cut_short,
    fresh,
    identity,
    member,
    serving,
    status,
    unstarted,
    view,
)

THREE = tuple(member(name) for name in NAMES)
NEW = Member(name="etcd04", address=address("etcd04"))
URL = "https://192.0.2.14:2380"
HTTP = "http://192.0.2.14:2380"


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
        assert known(config(), cluster, "etcd03") == (each if found else None)


@pytest.mark.parametrize("who", ["etcd04", "abcd", "000000000000abcd", "192.0.2.14", "2001:db8::4"])
def test_member_is_called_by_name_id_or_address(who: str) -> None:
    each = member("etcd04", id=0xABCD, peer_urls=(URL, "https://[2001:DB8::4]:2380"))
    assert called((*THREE, each), who) == each
    assert called((*THREE, each), "etcd09") is None
    assert called(THREE, who) is None


def test_only_the_host_of_this_member_is_cleaned() -> None:
    assert strange(config(), serving("etcd03")) == ""
    assert strange(config(), fresh("etcd03")) == ""
    assert strange(config(), Unreachable("no route")) == "does not answer (no route)"
    assert strange(config(), serving("etcd03", identity=identity("etcd04"))) == "is member etcd04 of this cluster"
    other = {**identity("etcd03"), "cluster": "other"}
    assert strange(config(), serving("etcd03", identity=other)) == "is a member of another cluster, other"
    foreign = serving("etcd03", running={}, executable="/usr/bin/etcd")
    assert strange(config(), foreign) == "runs an etcd that etcdops did not set up (/usr/bin/etcd)"


def learner(**known: Any) -> ClusterMember:
    return member("etcd04", learner=True, **known)


# What is in the list beside three voters, what is on its host, and how it gets in from there.
WAYS: dict[str, tuple[tuple[ClusterMember, ...], HostFacts, Arrival]] = {
    "new host": ((), fresh("etcd04"), Arrival()),
    "prepared, and the run was killed": ((), fresh("etcd04", has_user=True, releases={"3.6.16": "aa"}), Arrival()),
    "its host was another member, which has left": (
        (), cut_short("etcd04", identity=identity("etcd09")), Arrival(clear="what is left of member etcd09"),
    ),
    "its first start was cut short, and somebody removed it": (
        (), cut_short("etcd04"), Arrival(clear="the data of an attempt that was cut short"),
    ),
    "added, not started": (
        (unstarted("etcd04", learner=True),), fresh("etcd04"), Arrival(known=unstarted("etcd04", learner=True)),
    ),
    "added by a person, as a voter": (
        (unstarted("etcd04"),), fresh("etcd04"), Arrival(known=unstarted("etcd04")),
    ),
    "added by a person, at http://": (
        (unstarted("etcd04", peer_urls=(HTTP,)),), fresh("etcd04"),
        Arrival(
            drop=unstarted("etcd04", peer_urls=(HTTP,)),
            slip=f"was added at {HTTP} instead of {URL}, and has never started",
        ),
    ),
    "added, and its start was cut short": (
        (unstarted("etcd04", learner=True),), cut_short("etcd04"),
        Arrival(drop=unstarted("etcd04", learner=True), clear="the data of an attempt that was cut short"),
    ),
    "learner that runs": ((learner(),), serving("etcd04"), Arrival(known=learner())),
    "learner that does not run": (
        (learner(),), cut_short("etcd04"), Arrival(drop=learner(), clear="the data of an attempt that was cut short"),
    ),
    "learner that lost its data": ((learner(),), fresh("etcd04"), Arrival(drop=learner())),
    "learner whose host runs as somebody else": (
        (learner(),), serving("etcd04", view=view("etcd04", status=status("etcd09"))),
        Arrival(drop=learner(), clear="what is left of member etcd04"),
    ),
    "promoted already": ((member("etcd04"),), serving("etcd04"), Arrival(known=member("etcd04"))),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_how_a_member_gets_in(way: str) -> None:
    half, fact, expected = WAYS[way]
    assert arrival(config(), (*THREE, *half), NEW, fact) == expected
    assert expected.is_voter == (way == "promoted already")


BEGUN = "another attempt was not finished"
WALLS: dict[str, tuple[tuple[ClusterMember, ...], str, str]] = {
    "another learner": (
        (member("etcd05", learner=True),),
        f"etcd05 at https://192.0.2.15:2380 is a learner: {BEGUN}",
        "to finish it: inv add-member etcd05 --address=192.0.2.15; to take it out: inv remove-member etcd05",
    ),
    "another one that never started": (
        (unstarted("etcd05", id=0xABCD),),
        f"abcd at https://192.0.2.15:2380 is a member that has never started: {BEGUN}",
        "to finish it: inv add-member NAME --address=192.0.2.15; to take it out: inv remove-member abcd",
    ),
    "its address is a member's": (
        (replace(member("etcd04"), name="old"),),
        "etcd04: 192.0.2.14 is the address of member old",
        "another address; or, to put it in the place of old: inv replace-member old --with=etcd04",
    ),
    "its name is a member's": (
        (member("etcd04", peer_urls=("https://192.0.2.99:2380",)),),
        "etcd04: the cluster knows it at https://192.0.2.99:2380",
        "another name; or inv move-member etcd04 --address=192.0.2.14 if its host has moved",
    ),
    "a voter that does not run": (
        (member("etcd04"),),
        "etcd04: is a voter, and its etcd does not run there as such",
        "systemctl start etcd there; if its data is lost: inv replace-member etcd04",
    ),
    "its name at one place, its address at another": (
        (member("etcd04", peer_urls=("https://192.0.2.99:2380",)), unstarted("etcd04", id=0xABCD)),
        "etcd04: the cluster has two members of this name or address: 4 at https://192.0.2.99:2380, abcd at " + URL,
        "inv remove-member abcd for the one that is to go",
    ),
}


@pytest.mark.parametrize("wall", WALLS)
def test_what_stands_in_its_way(wall: str) -> None:
    half, words, hint = WALLS[wall]
    with pytest.raises(Refused) as refused:
        arrival(config(), (*THREE, *half), NEW, fresh("etcd04"))
    assert (str(refused.value), refused.value.hint) == (words, hint)


@pytest.mark.parametrize("data", ["wal", "unfinished"])
def test_data_that_cannot_be_set_aside_is_refused_before_anybody_leaves(data: str) -> None:
    there = cut_short("etcd04", mounted=True, data=data)
    with pytest.raises(Refused, match="is a mount point, and what is in it cannot be set aside"):
        arrival(config(), THREE, NEW, there)
    with pytest.raises(Refused, match="is a mount point"):
        arrival(config(), (*THREE, learner()), NEW, there)
    emptied = fresh("etcd04", mounted=True, identity=identity("etcd04"))
    assert arrival(config(), THREE, NEW, emptied) == Arrival(clear="what is left of member etcd04")
    assert arrival(config(), (*THREE, learner()), NEW, serving("etcd04", mounted=True)) == Arrival(known=learner())


OLD = ("etcd03", "https://192.0.2.13:2380")
ELSEWHERE = ("etcd03", URL)
THERE = frozenset({"127.0.0.1", "192.0.2.14"})
LOST = (member("etcd01"), member("etcd02"))


@pytest.mark.parametrize(
    ("third", "new", "fact", "leaves"),
    [
        ((member("etcd03"),), ("etcd04", URL), fresh("etcd04"), True),
        ((unstarted("etcd03"),), ("etcd04", URL), fresh("etcd04"), True),
        ((), ("etcd04", URL), fresh("etcd04"), False),
        ((learner(),), ("etcd04", URL), fresh("etcd04"), False),
        # on the same host, emptied
        ((member("etcd03"),), OLD, fresh("etcd03"), True),
        ((member("etcd03"),), OLD, serving("etcd03", view=view("etcd03", healthy=False)), True),
        ((member("etcd03"),), OLD, serving("etcd03"), False),  # has been replaced
        ((member("etcd03", learner=True),), OLD, fresh("etcd03"), False),
        ((unstarted("etcd03", learner=True),), OLD, fresh("etcd03"), False),
        # on another host
        ((member("etcd03"),), ELSEWHERE, fresh("etcd03"), True),
        ((member("etcd03", peer_urls=(URL,)),), ELSEWHERE, fresh("etcd03"), False),
        ((unstarted("etcd03", peer_urls=(URL,)),), ELSEWHERE, fresh("etcd03"), False),
        ((member("etcd03", peer_urls=(URL,)),), ELSEWHERE, fresh("etcd03", addresses=THERE), True),  # lost there, too
        ((member("etcd03", peer_urls=(URL,)),), ELSEWHERE, serving("etcd03", addresses=THERE), False),
    ],
)
def test_who_leaves_for_a_new_one(
    third: tuple[ClusterMember, ...], new: tuple[str, str], fact: HostFacts, leaves: bool
) -> None:
    assert leaving((*LOST, *third), OLD, new, fact) == (third[0] if leaves else None)


def test_cleared_host_has_nothing_that_a_member_leaves_and_keeps_the_rest() -> None:
    paths = dict.fromkeys((*membership.OWN, "/etc/etcd", "/etc/etcd/ssl", "/opt/etcd/current"))
    fact = cleared(serving("etcd04", paths=paths))
    assert list(fact.paths) == ["/opt/etcd/current"]
    assert not (fact.identity or fact.conf or fact.data or fact.is_running or fact.view.status)
    assert fact.releases == serving("etcd04").releases
