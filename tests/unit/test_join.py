"""What add-, replace- and move-member are going to do, line by line, and when a learner comes no further."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdops import layout
from etcdops.config import Config, Member
from etcdops.configedit import Edit
from etcdops.errors import OpsError, Refused, Unreachable
from etcdops.etcd import ClusterMember, View
from etcdops.facts import HostFacts
from etcdops.membership import Arrival
from etcdops.run import Run
from etcdops.steps import learner
from etcdops.steps.join import Join
from etcdops.steps.learner import Progress
from etcdops.steps.membership import Survey
from etcdops.steps.move import Move
from etcdops.steps.replace import Replacement, _clean, _replace
from tests.unit import golden
from tests.unit.build import NAMES, address, config, cut_short, fresh, identity, member, path, serving, unstarted, view

NEW = Member(name="etcd04", address=address("etcd04"))
EDIT = Edit(Path("config.yaml"), b"", b"")
FULL = view("etcd01", healthy=False, complaint="Active Alarm(s): NOSPACE", members=view().members)


def plain(name: str) -> ClusterMember:
    return member(name, peer_urls=(f"http://{address(name)}:2380",), client_urls=(f"http://{address(name)}:2379",))


def runs(name: str, **known: Any) -> HostFacts:
    """A member of a plain-http cluster whose etcd.conf is as deploy has written it, but for the list of members."""
    url = f"http://{address(name)}"
    running = {"ETCD_LISTEN_CLIENT_URLS": f"{url}:2379,http://127.0.0.1:2379", "ETCDOPS_STARTED_WITH": "0"}
    told = view(name, members=tuple(plain(each) for each in NAMES))
    return serving(name, **{"running": running, "view": told, **known})


def run_of(*members: Any) -> Run:
    run = Run(Path("config.yaml"))
    made: Config = config(members=members or (*NAMES, "etcd04"), tls=False)
    run.__dict__["config"] = made
    return run


def survey(*facts: HostFacts, half: tuple[ClusterMember, ...] = ()) -> Survey:
    cluster = tuple(plain(each) for each in NAMES)
    return Survey({each.name: each for each in facts}, {}, (*cluster, *half))


def shown(name: str, lines: list[str]) -> None:
    golden.check(f"membership/{name}.txt", "".join(f"{line}\n" for line in lines).encode())


def test_new_member() -> None:
    found = survey(*map(runs, NAMES), fresh("etcd04"))
    join = Join.plan(run_of(), NEW, found, found.cluster, EDIT)
    assert not join.is_done
    shown("add", join.lines())


def test_member_that_was_added_wrongly_to_a_host_with_something_left() -> None:
    half = unstarted("etcd04", peer_urls=("https://192.0.2.14:2380",))
    found = survey(*map(runs, NAMES), cut_short("etcd04", identity=identity("etcd09")), half=(half,))
    shown("add-anew", Join.plan(run_of(), NEW, found, found.cluster, EDIT).lines())


def test_member_that_is_a_voter_already() -> None:
    known = plain("etcd04")
    fact = runs("etcd04", identity={})
    found = survey(*map(runs, NAMES), fact, half=(known,))
    join = Join.plan(run_of(), NEW, found, found.cluster, None)
    assert not join.is_done  # it has no guard yet
    shown("guard", join.lines())
    found = survey(*map(runs, NAMES), runs("etcd04"), half=(known,))
    assert [str(each.resource) for each in Join.plan(run_of(), NEW, found, found.cluster, None).changes()] == [
        "/etc/etcd/identity.json"  # whose content the facts of this test do not have
    ]


def test_lost_member_whose_host_answers() -> None:
    host = cut_short("etcd03", identity=identity("etcd03"))
    found = survey(runs("etcd01"), runs("etcd02"), fresh("etcd04"))
    voters = tuple(each for each in found.cluster if each.name != "etcd03")
    join = Join.plan(run_of("etcd01", "etcd02", "etcd04"), NEW, found, voters, EDIT)
    old = Member(name="etcd03", address=address("etcd03"))
    shown("replace", Replacement(old, plain("etcd03"), False, True, host, join).lines())


def on_release(name: str, version: str) -> HostFacts:
    return runs(name, executable=f"/opt/etcd/{version}/etcd")


OTHERS = "{}: runs etcd {}, and config.yaml asks for 3.6.16"
RELEASES = {
    "an upgrade has brought one further": (("3.7.3", "3.6.16", "3.6.16"), []),
    "and all but one": (("3.7.3", "3.7.3", "3.6.16"), []),
    "all that are left run the new one": (("3.7.3", "3.7.3"), [OTHERS.format(name, "3.7.3") for name in NAMES[:2]]),
    "one is a minor behind": (("3.5.30", "3.6.16", "3.6.16"), [OTHERS.format("etcd01", "3.5.30")]),
}


@pytest.mark.parametrize(("versions", "wanted"), RELEASES.values(), ids=RELEASES.keys())
def test_release_that_the_others_run(versions: tuple[str, ...], wanted: list[str]) -> None:
    """etcd takes a member whose minor is the cluster's version, which is that of the oldest."""
    found = survey(*map(on_release, NAMES, versions), fresh("etcd04"))
    said = []
    try:
        Join.plan(run_of(), NEW, found, found.cluster, EDIT)
    except Refused as refused:
        said = [str(each).partition(";")[0] for each in refused.findings]
    assert said == wanted


# The new etcd03 is a voter at etcd04's address.
THERE = runs("etcd03", addresses=fresh("etcd04").addresses, boot_id="boot-of-new", paths={layout.IDENTITY: path()})
HOSTS: dict[str, tuple[HostFacts, str]] = {
    "the old one's": (cut_short("etcd03", identity={**identity("etcd03"), "member_id": "33"}, paths=THERE.paths), ""),
    "the new one's": (THERE, "is reached at the new member's own host"),
    "the new one's, before it was known": (replace(THERE, identity={}), "is reached at the new member's own host"),
    "a member's, which has started anew": (
        replace(THERE, boot_id="b"), "is reached at the host of 3, a member of the cluster",
    ),
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_host_of_a_member_that_stays_is_never_cleaned_as_the_old_one(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact, why = HOSTS[host]
    member = Member(name="etcd03", address=address("etcd04"))
    run = run_of("etcd01", "etcd02", member.model_dump())
    found = survey(runs("etcd01"), runs("etcd02"), THERE)
    join = Join(run, member, found, Arrival(known=plain("etcd03")), "", (), {}, EDIT)
    plan = Replacement(Member(name="etcd03", address=address("etcd03")), None, False, False, fact, join)
    cleaned: list[str] = []
    monkeypatch.setattr("etcdops.steps.membership.clean", lambda run, name, found: cleaned.append(name))
    _clean(run, plan, fact)
    assert plan.strange(fact) == why
    assert cleaned == ([] if why else ["etcd03"])
    monkeypatch.setattr(Join, "lines", lambda self: [])
    assert plan.lines() == ([] if why else [f"etcd03 (192.0.2.13)  remove {layout.IDENTITY}"])


@pytest.mark.parametrize("alone", [False, True], ids=["others", "alone"])
def test_member_that_has_moved(alone: bool) -> None:
    there = Member(name="etcd03", address="192.0.2.33")
    run = run_of("etcd01", "etcd02", {"name": "etcd03", "address": "192.0.2.33"})
    facts = {name: runs(name) for name in NAMES[:2]} | {"etcd03": cut_short("etcd03", identity=identity("etcd03"))}
    shown(
        f"move-{'alone' if alone else 'others'}", Move(run, there, facts, {}, plain("etcd03"), alone, (), EDIT).lines()
    )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (fresh("etcd04", data="files"), "/var/lib/etcd/default.etcd holds something that is not etcd's"),
        (
            cut_short("etcd04", conf={"ETCD_INITIAL_CLUSTER_TOKEN": "x"}),
            "/var/lib/etcd/default.etcd holds data of anot",
        ),
        (cut_short("etcd04", identity={**identity("etcd04"), "cluster": "b"}), "is a member of another cluster, b"),
        (cut_short("etcd04", identity=identity("etcd02")), "is member etcd02 of this cluster"),
        (fresh("etcd04", barred="20260101T000000Z-ab"), "restore 20260101T000000Z-ab was cut short here"),
        (fresh("etcd04", boot_id="boot-of-etcd01", addresses=runs("etcd01").addresses), "192.0.2.14 is not an address"),
    ],
)
def test_host_that_must_not_be_taken(host: HostFacts, words: str) -> None:
    found = survey(*map(runs, NAMES), host)
    with pytest.raises(Refused) as refused:
        Join.plan(run_of(), NEW, found, found.cluster, EDIT)
    assert any(str(each).startswith(f"etcd04: {words}") for each in refused.value.findings)


def test_learner_that_gets_on_has_time_and_one_that_stands_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(learner.time, "monotonic", lambda: now)
    progress = Progress(now)
    said = []
    for applied, size in ((0, 10), (0, 20), (5, 20), (5, 20), (5, 19), (4, 20)):
        now += 3
        progress.note(applied, size)
        said.append((progress.lasts, progress.stands, progress.is_due()))
    assert said == [(3, 0, False), (6, 0, True), (9, 0, False), (12, 3, True), (15, 6, False), (18, 9, True)]


def test_plan_says_who_is_asked() -> None:
    found = survey(runs("etcd02"), runs("etcd01"), replace(runs("etcd03"), view=view("etcd03", healthy=False)))
    assert found.others("etcd02") == ["etcd01"]
    assert found.others("") == ["etcd01", "etcd02"]  # the leader first
    assert found.healthy == {1, 2}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Unreachable("no route"), "no other member tells"),
        (view("etcd01", healthy=False), "no other member tells"),  # without a quorum, its list may be an old one
        (view("etcd01", members=None), "no other member tells"),
        (view("etcd01", members=(*map(plain, NAMES), plain("etcd04"))), "etcd04 is a voter already"),
        (view("etcd01", members=tuple(map(plain, NAMES))), "cleaned"),
        (FULL, "cleaned"),
        (replace(FULL, complaint="Active Alarm(s): CORRUPT"), "cleaned"),
    ],
)
def test_host_is_cleaned_only_where_others_say_that_it_has_no_vote(
    answer: View | OpsError, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fleet:
        def map(self, work: Callable[[Any], Any], names: Sequence[str]) -> dict[str, View | OpsError]:
            return dict.fromkeys(names, answer)

    found = survey(*map(runs, NAMES), fresh("etcd04"))
    run = run_of()
    join = Join.plan(run, NEW, found, found.cluster, EDIT)
    run._fleet = Fleet()  # type: ignore[assignment]
    monkeypatch.setattr("etcdops.steps.join.time.sleep", lambda seconds: None)
    cleaned: list[str] = []
    monkeypatch.setattr("etcdops.steps.join.cluster.retire", lambda run, name: cleaned.append(name))
    try:
        said = join._out()
    except OpsError as error:
        said = error.message
    assert (said or "cleaned").startswith(outcome)
    assert cleaned == (["etcd04"] if outcome == "cleaned" else [])


def test_no_member_leaves_before_all_that_the_new_one_needs_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download may fail."""
    found = survey(runs("etcd01"), runs("etcd02"), fresh("etcd04"))
    voters = tuple(each for each in found.cluster if each.name != "etcd03")
    run = run_of("etcd01", "etcd02", "etcd04")
    run.yes = True
    join = Join.plan(run, NEW, found, voters, EDIT)
    plan = Replacement(Member(name="etcd03", address=address("etcd03")), plain("etcd03"), False, False, None, join)
    done: list[str] = []

    def leave(*_: object) -> None:
        done.append("left")

    def fetch(*_: object) -> None:
        raise OpsError("no route to the mirror")

    monkeypatch.setattr("etcdops.steps.membership.leave", leave)
    monkeypatch.setattr("etcdops.steps.delivery.archives", fetch)
    with pytest.raises(OpsError, match="no route to the mirror"):
        _replace(run, run, plan)
    assert done == []
