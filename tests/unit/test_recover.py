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
from etcdops.steps.recover import Look
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
    monkeypatch.setattr(recover.Exchange, "plan", lambda *_: exchange)
    monkeypatch.setattr(recover, "findings", lambda part, cluster: [])
    monkeypatch.setattr(Fleet, "all", lambda self, work: {})
    return run


def looks(monkeypatch: pytest.MonkeyPatch, *found: Look) -> None:
    """What is seen, one time after the other."""
    rest = list(found)
    monkeypatch.setattr(recover, "_look", lambda run: rest.pop(0))


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
    with pytest.raises(Refused, match="etcd03 answers again"):
        recover.recover(run)
    assert asked == [["etcd01", "etcd03"]]
    assert said[-4:] == ["stopped", "prepared", "discarded", "given back"]


def test_it_goes_on_where_all_is_as_it_was(run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, ALONE, ALONE)
    answers(monkeypatch, AWAY, AWAY)
    recover.recover(run)
    assert said[2:5] == ["survivors with data: etcd02; a quorum takes 2", "stopped", "prepared"]
    assert "swapped" in said
