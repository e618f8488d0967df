"""Is it safe to go on?  What the members say, and what speaks against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from etcdops import gate
from etcdops.config import Config
from etcdops.errors import HostError, OpsError, Unhealthy
from etcdops.etcd import ClusterMember, View
from etcdops.gate import LAG_LIMIT, judge, may_take_down
from tests.unit.build import NAMES, config, member, status, unstarted, view

Views = dict[str, View | OpsError]

FIVE = tuple(f"etcd0{number}" for number in range(1, 6))
UNREACHABLE = HostError("cannot be reached: Connection refused", host="etcd03")
DOWN = View(healthy=False, complaint="context deadline exceeded")
ALARM = "memberID:2 alarm:NOSPACE"


def views(**by_name: View | OpsError) -> Views:
    """What three healthy members say, but for those named."""
    return {**{name: view(name) for name in NAMES}, **by_name}


def five(**by_name: View | OpsError) -> Views:
    """The same for a cluster of five."""
    return {**{name: view(name) for name in FIVE}, **by_name}


def listing(*members: ClusterMember) -> Views:
    """Three healthy members that all know these members."""
    return {name: view(name, members=members) for name in NAMES}


def says(name: str, **known: Any) -> View:
    return view(name, status=status(name, **known))


JUDGED: dict[str, tuple[Views, list[str]]] = {
    "healthy": (views(), []),
    "one unreachable": (views(etcd03=UNREACHABLE), ["etcd03: cannot be reached: Connection refused"]),
    "all unreachable": (
        {name: HostError("no route", host=name) for name in NAMES},
        ["etcd01: no route", "etcd02: no route", "etcd03: no route"],
    ),
    "one down": (views(etcd03=DOWN), ["etcd03: context deadline exceeded"]),
    "one without etcd": (views(etcd03=View()), ["etcd03: etcd does not answer"]),
    "none with etcd": (
        dict.fromkeys(NAMES, View()),
        [f"{name}: etcd does not answer" for name in NAMES],
    ),
    "healthy, and no word of its status": (
        views(etcd03=view("etcd03", status=None)),
        ["etcd03: healthy, but does not tell its status and members"],
    ),
    "healthy, and no word of the members": (
        views(etcd03=view("etcd03", members=None)),
        ["etcd03: healthy, but does not tell its status and members"],
    ),
    "healthy, with a complaint": (views(etcd03=view("etcd03", complaint="slow")), ["etcd03: slow"]),
    "no leader": (
        {name: view(name, healthy=False, complaint="x", status=status(name, leader="")) for name in NAMES},
        ["etcd01: x", "etcd02: x", "etcd03: x", "no leader"],
    ),
    "two leaders": (views(etcd03=says("etcd03", leader="etcd03")), ["the members do not agree who leads"]),
    "one knows of no leader": (views(etcd03=says("etcd03", leader="")), ["the members do not agree who leads"]),
    "two clusters": (
        views(etcd03=says("etcd03", cluster_id=0xBAD)),
        ["the members are in different clusters"],
    ),
    "a little behind": (views(etcd03=says("etcd03", index=5000 - LAG_LIMIT, applied=5000 - LAG_LIMIT)), []),
    "too far behind": (views(etcd03=says("etcd03", applied=4999 - LAG_LIMIT)), ["etcd03: 1001 entries behind"]),
    "the leader applies slowly": (views(etcd01=says("etcd01", applied=1)), ["etcd01: 4999 entries behind"]),
    "alarm that health tells": (
        views(etcd02=view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE")),
        ["etcd02: Active Alarm(s): NOSPACE"],
    ),
    "alarm that only the status tells, as on 3.4": (
        views(etcd02=says("etcd02", errors=(ALARM,))),
        [f"etcd02: {ALARM}"],
    ),
    "one alarm that everyone tells is said once": (
        {name: says(name, errors=(ALARM,)) for name in NAMES},
        [f"etcd01: {ALARM}"],
    ),
    "two alarms": (
        views(etcd02=says("etcd02", errors=(ALARM, "memberID:3 alarm:CORRUPT"))),
        [f"etcd02: {ALARM}", "etcd02: memberID:3 alarm:CORRUPT"],
    ),
    "a learner": (listing(*map(member, NAMES[:2]), member("etcd03", learner=True)), ["etcd03 is a learner still"]),
    "never started, at our address": (
        listing(*map(member, NAMES[:2]), unstarted("etcd03")),
        ["etcd03 is not a member of the cluster"],
    ),
    "never started, one too many": (
        listing(*map(member, NAMES), unstarted("etcd04", id=0xABCD)),
        ["member abcd at https://192.0.2.14:2380 has never started"],
    ),
    "not in config.yaml": (listing(*map(member, (*NAMES, "etcd04"))), ["member etcd04 is not in config.yaml"]),
    "not in the cluster": (listing(*map(member, NAMES[:2])), ["etcd03 is not a member of the cluster"]),
    "another name": (
        listing(*map(member, NAMES[:2]), replace(member("etcd03"), name="old")),
        ["etcd03 is not a member of the cluster", "member old is not in config.yaml"],
    ),
    "lists that differ": (
        views(etcd03=view("etcd03", members=(*map(member, NAMES), member("etcd04")))),
        ["the members do not agree who is a member"],
    ),
    "the order of a list means nothing": (
        views(etcd03=view("etcd03", members=tuple(map(member, reversed(NAMES))))),
        [],
    ),
    "several at once": (
        views(etcd01=says("etcd01", leader="etcd01", errors=(ALARM,)), etcd02=DOWN, etcd03=UNREACHABLE),
        [
            "etcd02: context deadline exceeded",
            "etcd03: cannot be reached: Connection refused",
            f"etcd01: {ALARM}",
        ],
    ),
}


@pytest.mark.parametrize(("views", "reasons"), JUDGED.values(), ids=JUDGED.keys())
def test_judge(views: Views, reasons: list[str]) -> None:
    verdict = judge(config(), views)
    assert list(verdict.reasons) == reasons
    assert bool(verdict) is not bool(reasons)


def test_one_member_is_a_cluster() -> None:
    one = {"etcd01": view(members=(member("etcd01"),))}
    assert judge(config(members=NAMES[:1]), one)


TAKE_DOWN: dict[str, tuple[Config, Views, str, str]] = {
    "three healthy": (config(), views(), "etcd01", ""),
    "two of three healthy": (
        config(),
        views(etcd03=DOWN),
        "etcd01",
        "2 of 3 members are healthy and 2 must stay: without etcd01 the cluster would stop",
    ),
    "the one that is down already": (config(), views(etcd03=DOWN), "etcd03", ""),
    "the one that cannot be reached": (config(), views(etcd03=UNREACHABLE), "etcd03", ""),
    "no quorum left: nothing to lose": (config(), views(etcd02=DOWN, etcd03=UNREACHABLE), "etcd03", ""),
    "the last healthy one": (
        config(),
        views(etcd02=DOWN, etcd03=DOWN),
        "etcd01",
        "1 of 3 members are healthy and 2 must stay: without etcd01 the cluster would stop",
    ),
    "a cluster of one": (config(members=NAMES[:1]), {"etcd01": view()}, "etcd01", ""),
    "two of two": (
        config(members=NAMES[:2]),
        {name: view(name) for name in NAMES[:2]},
        "etcd01",
        "2 of 2 members are healthy and 2 must stay: without etcd01 the cluster would stop",
    ),
    "four of five": (
        config(members=FIVE),
        five(etcd05=DOWN),
        "etcd01",
        "",
    ),
    "three of five": (
        config(members=FIVE),
        five(etcd04=DOWN, etcd05=DOWN),
        "etcd01",
        "3 of 5 members are healthy and 3 must stay: without etcd01 the cluster would stop",
    ),
}


@pytest.mark.parametrize(("config", "views", "name", "why"), TAKE_DOWN.values(), ids=TAKE_DOWN.keys())
def test_may_take_down(config: Config, views: Views, name: str, why: str) -> None:
    assert may_take_down(config, views, name) == why


class Fleet:
    """Answers with each of ``looks`` in turn, and with the last of them for good."""

    def __init__(self, *looks: Views) -> None:
        self.looks = list(looks)
        self.asked = 0

    def map(self, _: object) -> Views:
        self.asked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def test_pass_through_waits_until_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "POLL", 0)
    fleet = Fleet(views(etcd03=UNREACHABLE), views(etcd03=DOWN), views())
    assert gate.pass_through(cast(Any, fleet), config(), seconds=60) == views()
    assert fleet.asked == 3


def test_pass_through_waits_for_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "POLL", 0)
    full = view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE ")
    fleet = Fleet(views(etcd01=DOWN, etcd02=full), views(etcd02=full))
    with pytest.raises(Unhealthy, match=r"etcd02: Active Alarm\(s\): NOSPACE") as caught:
        gate.pass_through(cast(Any, fleet), config(), seconds=60)
    assert fleet.asked == 2
    assert caught.value.hint.startswith("inv space ")


def test_pass_through_looks_once_at_least_and_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "POLL", 0)
    fleet = Fleet(views(etcd02=DOWN, etcd03=UNREACHABLE))
    with pytest.raises(Unhealthy) as caught:
        gate.pass_through(cast(Any, fleet), config(), seconds=0)
    assert str(caught.value) == "etcd02: context deadline exceeded; etcd03: cannot be reached: Connection refused"
    assert (caught.value.exit_code, fleet.asked) == (5, 1)
