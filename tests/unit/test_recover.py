"""recover: when it looks again, what it gives up, and what it completes; without a host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops.errors import HostError, OpsError, Refused, Unreachable
from etcdops.facts import HostFacts
from etcdops.restoration import Side
from etcdops.run import Run
from etcdops.ssh import Fleet
from etcdops.steps import recover
from etcdops.steps.survivors import Look
from tests.unit.build import NAMES, config, cut_short, fresh, serving

AWAY = Unreachable("no answer within 10 s", host="etcd01")


def looked(*facts: HostFacts, **sides: Side) -> Look:
    """Hosts that answer, and what is on them; the others of three do not."""
    found = {each.name: each for each in facts}
    lost = {name: AWAY for name in NAMES if name not in found}
    return Look(found, {name: sides.get(name, Side()) for name in found}, lost)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A run whose hosts do what is asked of them, and nothing of it is real."""
    ui: Any = SimpleNamespace(step=lambda text: None, line=said.append, result=said.append, warn=said.append)
    run = Run(Path("config.yaml"), ui, yes=True)
    run.__dict__["config"] = config(tls=False)
    exchange = SimpleNamespace(
        prepare=lambda: said.append("prepared"),
        discard=lambda: said.append("discarded"),
        swap=lambda: said.append("swapped"),
        commit=lambda: None,
        outcome="",
    )
    monkeypatch.setattr(recover, "open_store", lambda config: nullcontext())
    monkeypatch.setattr(recover.stores, "workspace", lambda folder: nullcontext(tmp_path))
    monkeypatch.setattr(recover, "_salvage", lambda *_: said.append("stopped"))
    monkeypatch.setattr(recover.delivery, "issue", lambda run: None)
    monkeypatch.setattr(recover.Exchange, "plan", lambda *_, standing: exchange)
    monkeypatch.setattr(recover, "findings", lambda part, cluster: [])
    monkeypatch.setattr(Fleet, "all", lambda self, work: {})
    return run


def looks(monkeypatch: pytest.MonkeyPatch, *found: Look) -> None:
    """What is seen, one time after the other."""
    rest = list(found)
    monkeypatch.setattr(recover, "look", lambda run: rest.pop(0))


def answers(monkeypatch: pytest.MonkeyPatch, *errors: OpsError | None) -> list[Sequence[str]]:
    """What the hosts say that are asked; their names."""
    asked: list[Sequence[str]] = []

    def answer(self: Fleet, work: Callable[[Any], Any], names: Sequence[str]) -> dict[str, Any]:
        asked.append(list(names))
        return dict(zip(names, errors, strict=True))

    monkeypatch.setattr(Fleet, "map", answer)
    return asked


ALONE = looked(cut_short("etcd02"))
BACK = {
    "a quorum serves": looked(*map(serving, NAMES)),
    "another host answers": looked(cut_short("etcd02"), fresh("etcd03")),
    "a disk is there again": looked(cut_short("etcd02"), cut_short("etcd03")),
    "the survivor is gone": looked(fresh("etcd02")),
}


@pytest.mark.parametrize("case", BACK)
def test_nothing_is_stopped_where_the_hosts_have_changed_while_it_asked(
    run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    looks(monkeypatch, ALONE, BACK[case])
    with pytest.raises(Refused, match="not as they were when you were asked"):
        recover.recover(run)
    assert "stopped" not in said


@pytest.mark.parametrize("told", [None, HostError("permission denied", host="etcd03")])
def test_the_survivors_are_given_back_where_a_lost_host_answers_before_the_swap(
    run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch, told: OpsError | None
) -> None:
    looks(monkeypatch, ALONE, ALONE)
    asked = answers(monkeypatch, AWAY, told)
    monkeypatch.setattr(recover, "_give_back", lambda part, hosts: said.append("given back"))
    with pytest.raises(Refused, match="etcd03 can be reached again"):
        recover.recover(run)
    assert asked == [["etcd01", "etcd03"]]
    assert said[-4:] == ["stopped", "prepared", "discarded", "given back"]


def test_interrupted_before_the_swap_nothing_stays_staged(
    run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Fleet, work: Callable[[Any], Any], names: Sequence[str]) -> None:
        raise KeyboardInterrupt

    looks(monkeypatch, ALONE, ALONE)
    monkeypatch.setattr(Fleet, "map", interrupted)
    monkeypatch.setattr(recover, "_give_back", lambda part, hosts: said.append("given back"))
    with pytest.raises(KeyboardInterrupt):
        recover.recover(run)
    assert said[-4:] == ["stopped", "prepared", "discarded", "given back"]


def test_it_goes_on_where_all_is_as_it_was(run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, ALONE, ALONE)
    answers(monkeypatch, AWAY, AWAY)
    recover.recover(run)
    assert said[2:5] == ["survivors with data: etcd02; a quorum takes 2", "stopped", "prepared"]
    assert "swapped" in said


# A recovery that was cut short

ID = "20261128T160450Z-0badcafe"
STOPPED = Side(barred="recover")


@pytest.mark.parametrize("told", [cut_short, serving])
def test_it_is_given_up_where_a_quorum_is_there_again(
    run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch, told: Callable[[str], HostFacts]
) -> None:
    hosts = looked(cut_short("etcd01"), told("etcd02"), told("etcd03"), etcd01=STOPPED)
    looks(monkeypatch, hosts, hosts)
    run.dry_run = True
    recover.recover(run)
    assert said.pop() == "etcd01  give up the recovery that was cut short; systemctl start etcd"
    run.dry_run = False
    done: list[str] = []
    monkeypatch.setattr(recover.restoration, "look", lambda host: hosts.sides[host.name])
    monkeypatch.setattr(recover.restoration, "undo", lambda host, id_: done.append(f"{host.name} {id_} undone"))
    answer = SimpleNamespace(run=lambda command: done.append(command))

    def map_(self: Fleet, work: Callable[[Any], Any]) -> dict[str, Any]:
        return {name: work(SimpleNamespace(name=name, run=answer.run)) for name in NAMES}

    monkeypatch.setattr(Fleet, "map", map_)
    recover.recover(run)
    assert done[:2] == ["etcd01 recover undone", "systemctl start --no-block etcd.service"]
    assert said[-1] == "the recovery that was cut short is given up, and etcd starts on etcd01: inv status"
    assert "stopped" not in said


def test_nothing_to_give_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, looked(cut_short("etcd01"), cut_short("etcd02")))
    with pytest.raises(Refused) as caught:
        recover.recover(run)
    words = "etcd01, etcd02 have their data, and 2 of 3 are a quorum: nothing is lost"
    assert [each.message for each in caught.value.findings] == [words]


def test_what_was_cut_short_at_its_end_is_completed_without_a_host_that_is_lost(
    run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the list of members still, and not in the part of config.yaml that answers."""
    swapped = Side(swapped=(ID,))
    looks(monkeypatch, looked(serving("etcd01"), serving("etcd02"), etcd01=swapped, etcd02=swapped))
    monkeypatch.setattr(recover.delivery, "record", lambda *known: said.append(f"recorded {known[4]}"))
    monkeypatch.setattr(recover, "complete", lambda part, id_, names: said.append(f"{id_} set aside on {names}"))
    recover.recover(run)
    names = ["etcd01", "etcd02"]
    assert said[:2] == [f"recorded {names}", f"{ID} set aside on {names}"]
