"""The token of an incarnation, and who is started or restarted in which order."""

from __future__ import annotations

import re
from typing import Any

import pytest

from etcdops.facts import HostFacts, UnitFact
from etcdops.rollout import pioneers, rollout, token
from tests.unit.build import (
    NAMES,
    TOKEN,
    config,
    cut_short,
    fresh,
    identity,
    prepared,
    serving,
    status,
    three,
    view,
)

OLD = "etcd-cluster-20200101T000000Z-ffffffff"
WAITING = UnitFact("activating", pid=700)


def conf(token: str, state: str = "new") -> dict[str, str]:
    return {"ETCD_INITIAL_CLUSTER_TOKEN": token, "ETCD_INITIAL_CLUSTER_STATE": state}


# facts: the token that must be used again
KEPT: dict[str, tuple[dict[str, HostFacts], str]] = {
    "running": (three(serving), TOKEN),
    "all stopped": (three(lambda name: cut_short(name, identity=identity(name))), TOKEN),
    "prepared, never started": (three(prepared), TOKEN),
    "one prepared": (three(fresh, prepared("etcd03")), TOKEN),
    "cut short, some with data": (three(prepared, cut_short("etcd02")), TOKEN),
    "what members started with counts more than what is prepared": (
        three(lambda name: prepared(name, conf=conf(OLD)), cut_short("etcd03")),
        TOKEN,
    ),
    "one host was emptied and prepared by a run in between": (
        three(serving, prepared("etcd01", conf=conf(OLD))),
        TOKEN,
    ),
    "a token of the user's own, once members started with it": (
        three(lambda name: cut_short(name, conf=conf("mine"))),
        "mine",
    ),
}


@pytest.mark.parametrize(("facts", "kept"), KEPT.values(), ids=KEPT.keys())
def test_token_is_kept(facts: dict[str, HostFacts], kept: str) -> None:
    assert token(config(), facts) == kept


NEW: dict[str, dict[str, HostFacts]] = {
    "new hosts": three(fresh),
    "prepared for a cluster of another name": three(lambda name: prepared(name, conf=conf("other-2026"))),
    "prepared by somebody else": three(lambda name: prepared(name, conf=conf("etcd-cluster"))),
    "left from a cluster that had formed, its data moved away": three(
        lambda name: prepared(name, conf=conf(TOKEN, "existing"))
    ),
    "data without etcd.conf, which is for the guards to refuse": three(lambda name: cut_short(name, conf={})),
    "etcd.conf without a token": three(lambda name: prepared(name, conf={"ETCD_NAME": name})),
}


@pytest.mark.parametrize("facts", NEW.values(), ids=NEW.keys())
def test_token_is_new(facts: dict[str, HostFacts]) -> None:
    made = token(config(), facts)
    assert re.fullmatch(r"etcd-cluster-\d{8}T\d{6}Z-[0-9a-f]{8}", made)
    assert made != token(config(), facts)


@pytest.mark.parametrize("leader", NAMES)
def test_the_leader_is_restarted_last(leader: str) -> None:
    facts = three(lambda name: serving(name, view=view(name, status=status(name, leader=leader))))
    order = list(rollout(facts, dict.fromkeys(NAMES, "unit")).restart)
    assert order == [*(name for name in NAMES if name != leader), leader]


def test_only_stale_members_are_restarted_each_with_its_reason() -> None:
    roll = rollout(three(serving), {"etcd01": "log-level", "etcd02": "", "etcd03": "etcd 3.6.15 -> 3.6.16"})
    assert list(roll.restart.items()) == [("etcd03", "etcd 3.6.15 -> 3.6.16"), ("etcd01", "log-level")]
    assert roll.start == {}


def test_a_member_that_serves_and_is_not_asked_about_stays() -> None:
    roll = rollout(three(serving), {})
    assert (roll.start, roll.restart) == ({}, {})


def member(unit: UnitFact, **known: Any) -> HostFacts:
    return serving("etcd02", unit=unit, **known)


# what is on etcd02, whether it is stale, what systemctl has to do there ('' is nothing)
START: dict[str, tuple[HostFacts, str, str]] = {
    "new": (fresh("etcd02"), "", "start"),
    "stopped": (member(UnitFact("inactive")), "", "start"),
    "stopped, and stale by the way": (member(UnitFact("inactive")), "log-level", "start"),
    "failed": (member(UnitFact("failed")), "", "start"),
    "between two attempts": (member(UnitFact("activating")), "log-level", "start"),
    "waits for its peers": (member(WAITING), "", "start"),
    "waits for its peers with an old configuration": (member(WAITING), "log-level", "restart"),
    "is stopping": (member(UnitFact("deactivating", pid=700)), "", "start"),
    "serves": (member(UnitFact("active", pid=700)), "", ""),
}


@pytest.mark.parametrize(("facts", "stale", "verb"), START.values(), ids=START.keys())
def test_start(facts: HostFacts, stale: str, verb: str) -> None:
    roll = rollout(three(serving, facts), {"etcd02": stale})
    assert roll.start == ({"etcd02": verb} if verb else {})
    assert roll.restart == {}


def test_a_new_cluster_is_started_side_by_side() -> None:
    roll = rollout(three(fresh), {})
    assert roll.start == dict.fromkeys(NAMES, "start")
    assert roll.restart == {}


def test_no_member_is_both_started_and_restarted() -> None:
    roll = rollout(three(serving, member(WAITING)), dict.fromkeys(NAMES, "unit"))
    assert roll.start == {"etcd02": "restart"}
    assert list(roll.restart) == ["etcd03", "etcd01"]


def test_a_member_that_does_not_answer_is_not_taken_for_the_leader() -> None:
    facts = three(serving, serving("etcd01", view=view(status=None)))
    assert list(rollout(facts, dict.fromkeys(NAMES, "unit")).restart) == ["etcd01", "etcd02", "etcd03"]


# what starts, who has data, on which addresses: who begins alone, in this order
ALONE: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[str, ...], list[str]]] = {
    "a new cluster": (dict.fromkeys(NAMES, "start"), (), (), ["etcd01"]),
    "the one that all ask first, which has the lowest URL as a text": (
        dict.fromkeys(NAMES, "start"),
        (),
        ("192.0.2.9", "192.0.2.80", "192.0.2.8"),
        ["etcd02"],
    ),
    "a colon comes after a digit": (
        dict.fromkeys(NAMES, "start"),
        (),
        ("192.0.2.1", "192.0.2.10", "192.0.2.2"),
        ["etcd02"],
    ),
    "a cold start": (dict.fromkeys(NAMES, "start"), NAMES, (), [*NAMES]),
    "some never started": (dict.fromkeys(NAMES, "start"), ("etcd02",), (), ["etcd02", "etcd01"]),
    "one of them": ({"etcd02": "start"}, (), (), []),
    "one with data": ({"etcd02": "start"}, ("etcd02",), (), []),
    "one is in its start already": ({"etcd01": "restart", "etcd02": "start", "etcd03": "start"}, (), (), ["etcd02"]),
    "nobody": ({}, NAMES, (), []),
}


@pytest.mark.parametrize(("start", "with_data", "addresses", "alone"), ALONE.values(), ids=ALONE.keys())
def test_who_begins_alone(
    start: dict[str, str], with_data: tuple[str, ...], addresses: tuple[str, ...], alone: list[str]
) -> None:
    members = [{"name": name, "address": each} for name, each in zip(NAMES, addresses, strict=False)]
    assert pioneers(config(members=members) if members else config(), start, with_data) == alone
