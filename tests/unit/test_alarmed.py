"""Under an alarm writes stop, and the cluster does not: what is seen of it, and what goes on, without a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import etcd, gate
from etcdops.errors import HostError, OpsError, Refused, Unhealthy, Unreachable
from etcdops.etcd import View
from etcdops.judgement import Views
from etcdops.restoration import Side
from etcdops.snapshots.content import Content
from etcdops.steps import add, backup, defrag, delivery, exchange, membership, move, recover, survivors
from tests.unit.build import NAMES, config, member, serving, status, three, view

AWAY = Unreachable("no answer within 10 s", host="etcd03")
DOWN = View(healthy=False, complaint=etcd.TIMED_OUT)


def alarmed(name: str, *kinds: str, old: bool = False) -> View:
    """A member that tells these alarms; ``old``: in its status alone, as 3.4 does."""
    told = status(name, errors=tuple(f"alarm {kind}" for kind in kinds))
    words = f"Active Alarm(s): {' '.join(kinds)}"
    return view(name, status=told, **({} if old else {"healthy": False, "complaint": words}))


def full(name: str) -> View:
    return alarmed(name, etcd.NOSPACE)


def corrupt(name: str) -> View:
    return alarmed(name, etcd.CORRUPT)


def old_corrupt(name: str) -> View:
    return alarmed(name, etcd.CORRUPT, old=True)


class Fleet:
    """Hosts that always say the same."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)

    def map(self, work: Callable[[Any], Any], names: Sequence[str] | None = None) -> dict[str, Any]:
        found = {name: self.answers[name] for name in names or self.answers}
        forgiving = {gate.ask_but_for_nospace: View.but_for_nospace, gate.ask_but_for_alarms: View.but_for_alarms}
        return {
            name: forgiving[work](each) if work in forgiving and isinstance(each, View) else each
            for name, each in found.items()
        }


def run_of(answers: Mapping[str, Any]) -> Any:
    """A run on hosts that say this."""
    said: list[str] = []
    ui = SimpleNamespace(step=said.append, line=said.append, warn=said.append, said=said)
    return SimpleNamespace(
        names=list(answers), config=config(), fleet=Fleet(answers), ui=ui, patience=0.0, command="", dry_run=False
    )


def holding(monkeypatch: pytest.MonkeyPatch, **hashes: int | None) -> None:
    """What each member holds, by the last letters of its name."""
    found = {f"etcd0{name[1:]}": Content(41, 3, hash_, 5) for name, hash_ in hashes.items()}
    monkeypatch.setattr(gate, "contents", lambda run: (41, found))


SEEN = {
    "healthy": (view(), True, False),
    "down": (DOWN, False, False),
    "no etcd": (View(), False, False),
    "the quota is full": (full("etcd01"), True, False),
    "data differs": (corrupt("etcd01"), True, True),
    "both": (alarmed("etcd01", etcd.NOSPACE, etcd.CORRUPT), True, True),
    "data differs, on 3.4": (old_corrupt("etcd01"), True, True),
    "it was told before the quorum went": (view(healthy=False, status=old_corrupt("etcd01").status), False, True),
}


@pytest.mark.parametrize(("seen", "quorum", "differs"), SEEN.values(), ids=SEEN)
def test_what_a_member_tells(seen: View, quorum: bool, differs: bool) -> None:
    assert (seen.has_quorum, seen.corrupt) == (quorum, differs)


# recover


@pytest.mark.parametrize("told", [view, full, corrupt])
def test_recover_makes_no_second_cluster_beside_one_that_has_its_quorum(told: Callable[[str], View]) -> None:
    facts = {"etcd02": serving("etcd02", view=told("etcd02"))}
    look = survivors.Look(facts, {}, dict.fromkeys(("etcd01", "etcd03"), AWAY))
    (finding,) = survivors.needless(run_of(dict.fromkeys(NAMES)), look)
    assert finding.message == "etcd02 can commit: the cluster has its quorum"
    facts["etcd02"] = serving("etcd02", view=DOWN)
    assert survivors.needless(run_of(dict.fromkeys(NAMES)), look) == []


def test_recover_names_two_clusters_where_a_lost_one_came_back() -> None:
    facts = three(serving, serving("etcd02", view=view("etcd02", status=status("etcd02", cluster_id=0xBAD))))
    (finding,) = survivors.needless(run_of(dict.fromkeys(NAMES)), survivors.Look(facts, {}, {}))
    assert finding.message == "the members run in different clusters (etcd01: c1, etcd02: bad, etcd03: c1)"


@pytest.mark.parametrize("told", [view, full, corrupt])
def test_recovery_that_was_cut_short_is_completed_under_an_alarm_of_the_snapshot(
    told: Callable[[str], View], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = three(lambda name: serving(name, view=told(name)))
    done: list[str] = []
    part: Any = run_of(facts)
    run: Any = SimpleNamespace(
        decided=lambda lines: False,
        confirm=lambda what, answer: None,
        config=config(),
        ui=SimpleNamespace(result=lambda text: None),
    )
    monkeypatch.setattr(delivery, "record", lambda *known: done.append("recorded"))
    monkeypatch.setattr(recover, "complete", lambda part, id_, names: done.append("set aside"))
    sides = {name: Side(swapped=("A",)) for name in facts}
    assert not recover._finish(run, part, survivors.Look(facts, sides, {}))
    assert done == ["recorded", "set aside"]


# A change of the members


def survey(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], View], about: str = "etcd03") -> membership.Survey:
    facts: dict[str, Any] = {name: serving(name, view=told(name)) for name in NAMES}
    facts["etcd03"] = AWAY
    return membership.survey(run_of(facts), about)


def test_a_lost_member_goes_while_the_quota_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(monkeypatch, full)
    assert found.healthy == {1, 2}
    assert found.others("etcd03") == ["etcd01", "etcd02"]
    with pytest.raises(Refused, match="no other member can commit"):
        survey(monkeypatch, lambda name: DOWN)


DIFFER = {
    "the one that goes, which is stopped": ({"e1": 7, "e2": 7, "e3": None}, ""),
    "nobody any more": ({"e1": 7, "e2": 7, "e3": 7}, ""),
    "one that stays": ({"e1": 7, "e2": 8, "e3": 7}, "CORRUPT is raised, and without etcd03 etcd01, etcd02 hold diff"),
    "each": ({"e1": 7, "e2": 8, "e3": 9}, "CORRUPT is raised, and without etcd03 etcd01, etcd02 hold different data"),
    "one does not tell": ({"e1": 7, "e2": None, "e3": None}, "CORRUPT is raised, and without etcd03 etcd02 gave no"),
    "the one that goes, which serves": ({"e1": 7, "e2": 7, "e3": 8}, "etcd03: CORRUPT is raised: it holds other data"),
}


@pytest.mark.parametrize("told", [corrupt, old_corrupt])
@pytest.mark.parametrize("case", DIFFER)
def test_under_corrupt_a_member_goes_where_the_others_agree(
    case: str, told: Callable[[str], View], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, words = DIFFER[case]
    holding(monkeypatch, **hashes)
    if words:
        with pytest.raises(Refused) as refused:
            survey(monkeypatch, told)
        assert str(refused.value).removeprefix("refused: ").startswith(words)
    else:
        assert survey(monkeypatch, told).healthy == {1, 2}


@pytest.mark.parametrize("told", [view, full, corrupt])
def test_a_change_has_taken_effect_whatever_alarm_is_raised(told: Callable[[str], View]) -> None:
    run = run_of({name: told(name) for name in NAMES})
    members = membership.change(run, NAMES, ("remove", "9"), lambda members: len(members) == 3, "does not")
    assert members == tuple(map(member, NAMES))
    membership.settle(run, NAMES, lambda members: len(members) == 3, "it has left")
    with pytest.raises(Unhealthy):
        membership.settle(run_of({"etcd01": told("etcd01"), "etcd02": DOWN}), NAMES[:2], bool, "it has left")


@pytest.mark.parametrize("told", [view, full])
def test_a_member_that_has_moved_is_not_alone_while_the_quota_is_full(told: Callable[[str], View]) -> None:
    facts = three(lambda name: serving(name, view=told(name)), serving("etcd03", view=DOWN))
    run: Any = run_of(facts)
    there = run.config.member("etcd03")
    assert move._standing(run, there, there, facts) == (member("etcd03"), False)


def test_who_may_join_and_what_is_to_be_done_first() -> None:
    join: Any = SimpleNamespace(arrival=SimpleNamespace(known=None, drop=None))
    base: Any = run_of(dict.fromkeys(NAMES))

    def said(told: Callable[[str], View | OpsError]) -> str:
        views = {name: told(name) for name in NAMES}
        facts = {name: serving(name, view=each) for name, each in views.items() if isinstance(each, View)}
        away = {name: each for name, each in views.items() if isinstance(each, OpsError)}
        try:
            add._gate(base, join, membership.Survey(facts, away, ()))
        except Refused as refused:
            return str(refused.hint)
        return ""

    assert said(full) == ""
    assert said(corrupt) == "inv status"
    assert said(lambda name: full(name) if name != "etcd03" else AWAY) == (
        "inv start; if etcd03 is lost: inv replace-member etcd03"
    )


# space


def test_space_waits_for_a_lost_member_to_go() -> None:
    def hint(views: Views) -> str:
        with pytest.raises(Refused) as refused:
            defrag.databases(run_of(views), views)
        return str(refused.value.hint)

    lost = "inv start; if etcd03 is lost: inv replace-member etcd03, or inv remove-member etcd03, first"
    assert hint({"etcd01": view("etcd01"), "etcd02": view("etcd02"), "etcd03": AWAY}) == lost
    assert hint({"etcd01": view("etcd01"), "etcd02": DOWN, "etcd03": AWAY}) == "inv status"  # no quorum: recover's


# backup


@pytest.mark.parametrize("told", [corrupt, old_corrupt])
@pytest.mark.parametrize(
    ("hashes", "taken"),
    [
        ({"e1": 7, "e2": 8, "e3": 7}, "etcd03"),
        ({"e1": 8, "e2": 7, "e3": 7}, "etcd02"),
        ({"e1": 7, "e2": 7, "e3": None}, "etcd02"),
        ({"e1": 7, "e2": None, "e3": None}, ""),  # it may be the one that is wrong
        ({"e1": 7, "e2": 8, "e3": 9}, ""),
    ],
)
def test_under_corrupt_a_backup_is_of_the_majority(
    hashes: dict[str, int | None], taken: str, told: Callable[[str], View], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(monkeypatch, **hashes)
    monkeypatch.setattr(backup, "from_member", lambda run, views, name, path, quorum: name)
    views = {name: told(name) for name in NAMES}
    run = run_of(views)
    if taken:
        assert backup.from_cluster(run, views, Path("x")) == taken  # a follower, as ever
        assert "CORRUPT is raised: this is the data of " in run.ui.said[0]
    else:
        with pytest.raises(Unhealthy, match="no majority tells that it holds the same data"):
            backup.from_cluster(run, views, Path("x"))


@pytest.mark.parametrize(("told", "pruned"), [(view, ["old"]), (full, ["old"]), (corrupt, []), (old_corrupt, [])])
def test_under_corrupt_no_old_backup_is_dropped(
    told: Callable[[str], View], pruned: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document: dict[str, Any] = {}
    run: Any = run_of({name: told(name) for name in NAMES})
    run.config = config().model_copy()
    run.ui.transfer = lambda what: nullcontext()
    run.emit = lambda shown, text: document.update(shown)
    manifest = SimpleNamespace(name="new", file="new.db", cluster_id="c1", model_dump=lambda mode: {})
    store = SimpleNamespace(where="there", add=lambda path, manifest, progress: manifest)
    monkeypatch.setattr(backup, "open_store", lambda config: nullcontext(store))
    monkeypatch.setattr(backup.stores, "workspace", lambda folder: nullcontext(tmp_path))
    monkeypatch.setattr(backup, "from_cluster", lambda run, views, path: manifest)
    monkeypatch.setattr(backup.snapshots, "prune_store", lambda run, store, id_: iter(["old"]))
    backup.backup(run)
    assert document["pruned"] == pruned


@pytest.mark.parametrize(("told", "ends"), [(view, True), (full, True), (corrupt, False), (old_corrupt, False)])
def test_a_restore_goes_on_without_a_last_snapshot_only_where_nobody_can_give_a_whole_one(
    told: Callable[[str], View], ends: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c1.db"

    def fails(*known: Any, **words: Any) -> None:
        path.touch()
        raise HostError("no room", host="etcd02")

    monkeypatch.setattr(backup, "from_cluster", fails)
    monkeypatch.setattr(backup, "from_member", fails)
    views = {name: told(name) for name in NAMES}
    cluster: Any = SimpleNamespace(ids={0xC1}, part=lambda id_: views)
    run = run_of(views)
    store: Any = None
    if ends:
        with pytest.raises(HostError):
            exchange.rescue(run, cluster, store, tmp_path)
    else:
        exchange.rescue(run, cluster, store, tmp_path)
        assert run.ui.said[-1].startswith("no last snapshot: etcd02: no room")
    assert not path.exists()  # it is taken once more where the old data had to be put back first
