"""Is it safe to go on?  What the members say, and what speaks against it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import gate, judgement
from etcdops.config import Config
from etcdops.errors import HostError, OpsError, Unhealthy
from etcdops.etcd import ClusterMember, View
from etcdops.judgement import LAG_LIMIT, judge, may_take_down
from etcdops.snapshots.content import Content
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

    def map(self, *_: object) -> Views:
        self.asked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(gate, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def operation(*looks: Views, patience: float = 60) -> Any:
    """A run with the command 'inv restart' that sees these looks."""
    said: list[str] = []
    return SimpleNamespace(
        fleet=Fleet(*looks),
        config=config(),
        ui=SimpleNamespace(line=said.append, said=said),
        patience=patience,
        command="inv restart",
    )


def test_pass_through_waits_until_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    run = operation(views(etcd03=UNREACHABLE), views(etcd03=DOWN), views())
    assert gate.pass_through(run) == views()
    assert (run.fleet.asked, run.ui.said) == (3, [])


def test_pass_through_says_for_what_it_waits_and_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    looks = [*[views(etcd03=UNREACHABLE)] * 40, *[views(etcd03=DOWN)] * 40, views()]
    run = operation(*looks)
    gate.pass_through(run)
    assert run.ui.said == [
        "waiting: etcd03: cannot be reached: Connection refused",
        "waiting: etcd03: context deadline exceeded",
    ]


def test_pass_through_takes_nobody_for_healthy_who_falls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = operation(views(), views(), views(etcd03=DOWN), views())
    gate.pass_through(run, settle=1.0)
    assert run.fleet.asked == 3 + 6  # from the fourth on for a second
    assert clock.now == pytest.approx(1000 + 8 * gate.POLL)


def test_pass_through_waits_for_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    full = view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE ")
    run = operation(views(etcd01=DOWN, etcd02=full), views(etcd02=full))
    with pytest.raises(Unhealthy, match=r"etcd02: Active Alarm\(s\): NOSPACE") as caught:
        gate.pass_through(run)
    assert run.fleet.asked == 2
    assert caught.value.hint.startswith("inv space ")


def test_pass_through_looks_once_at_least_and_says_what_is_left_and_how_to_go_on() -> None:
    run = operation(views(etcd02=DOWN, etcd03=UNREACHABLE), patience=0)
    with pytest.raises(Unhealthy) as caught:
        gate.pass_through(run)
    assert str(caught.value) == "etcd02: context deadline exceeded; etcd03: cannot be reached: Connection refused"
    assert (caught.value.exit_code, run.fleet.asked) == (5, 1)
    assert caught.value.hint == "inv status shows every member; then inv restart"


def test_until_is_content_with_enough_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    numbers = iter(range(100))
    found = gate.until(operation(), lambda: next(numbers), lambda n: ["not all"], seconds=2, enough=lambda n: n > 3)
    assert found == 10
    with pytest.raises(Unhealthy, match="not all"):
        gate.until(operation(), lambda: 1, lambda n: ["not all"], seconds=2, enough=lambda n: n > 3)


def test_voters_are_those_that_can_commit() -> None:
    full = view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE")
    corrupt = view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE CORRUPT")
    assert list(judgement.voters(views(etcd02=full, etcd03=UNREACHABLE))) == ["etcd01", "etcd02"]
    assert list(judgement.voters(views(etcd02=corrupt, etcd03=DOWN))) == ["etcd01"]
    assert list(judgement.voters(views(etcd02=says("etcd02", learner=True)))) == ["etcd01", "etcd03"]


def test_what_a_reason_says_to_do_is_not_said_again() -> None:
    verdict = judge(config(), views(etcd03=View(complaint="etcd does not run; inv start")))
    assert verdict.ways("inv start", "then the same again") == "then the same again"
    assert judge(config(), views(etcd03=DOWN)).ways("inv start", "inv status") == "inv start; inv status"


def test_leader() -> None:
    assert judgement.leader(views()) == "etcd01"
    assert judgement.leader(views(etcd01=UNREACHABLE)) == ""


def answering(run: Any, *hashes: Content) -> None:
    """Every later look is answered by these, a list for each host in turn."""
    looks = run.fleet.looks
    run.fleet.map = lambda work, names=None: looks[0] if names is None else dict(zip(names, hashes, strict=True))


SAME = Content(revision=41, keys=3, hash=7, compact_revision=5)


def test_same_data_names_the_one_that_differs() -> None:
    run = operation(views())
    answering(run, SAME, SAME, replace(SAME, hash=8))
    with pytest.raises(Unhealthy, match="etcd03 holds other data than etcd01, etcd02, the majority, at revision 41"):
        gate.same_data(run, views())
    gate.same_data(run, views(etcd03=says("etcd03", version="3.5.30")))  # another release hashes in another way
    answering(run, SAME, SAME, SAME)
    gate.same_data(run, views())


def test_contents_wait_for_a_compaction_and_not_for_a_hash_that_nobody_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = operation(views())
    answering(run, SAME, SAME, Content())
    assert gate.contents(run)[0] == 41
    assert clock.now >= 1060
    before = clock.now
    run.fleet.looks[0] = views(etcd03=DOWN)  # one that cannot be asked is compacted to no revision
    answering(run, SAME, SAME)
    assert gate.contents(run)[1]["etcd03"] == Content()
    assert clock.now == before
    run.fleet.looks[0] = views()
    answering(run, SAME, SAME, replace(SAME, compact_revision=9))
    with pytest.raises(Unhealthy, match="compacted to different revisions"):
        gate.contents(run)
