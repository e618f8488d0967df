"""A restore that was cut short, and the same command again: what it completes, gives up, and says; without a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops.errors import HostError, HostsFailed, OpsError, Refused, Unhealthy
from etcdops.facts import HostFacts
from etcdops.restoration import Side
from etcdops.run import Run
from etcdops.steps import exchange, restore
from etcdops.steps.before import Cluster
from etcdops.steps.exchange import Exchange
from tests.unit.build import NAMES, config, serving, three

SHA = "0badcafe"
ID = f"20261128T160450Z-{SHA}"


class Started(Exception):
    """A restore of its own has begun."""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(said: list[str]) -> Run:
    ui: Any = SimpleNamespace(step=lambda text: None, line=said.append, result=said.append, warn=said.append)
    run = Run(Path("config.yaml"), ui, yes=True)
    run.__dict__["config"] = config()
    return run


@pytest.fixture
def again(run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """restore, on hosts with these sides; ``sha``: the snapshot's; ``slow``: what no patience is enough for."""

    def again(
        sides: Mapping[str, Side],
        facts: Mapping[str, HostFacts] | None = None,
        sha: str = SHA,
        slow: str = "",
        fits: bool = False,
    ) -> None:
        source = SimpleNamespace(name="asked", proof=SimpleNamespace(sha256=sha), manifest=None)

        def wait(run: Run, names: Sequence[str]) -> None:
            if slow:
                raise Unhealthy(slow)

        def begun(*_: object) -> None:
            raise Started

        monkeypatch.setattr(restore, "look", lambda run: Cluster(facts or three(serving), sides))
        monkeypatch.setattr(restore, "complete", lambda run, id_, names: said.append(f"{id_} set aside on {names}"))
        monkeypatch.setattr(restore, "open_store", lambda config: nullcontext())
        monkeypatch.setattr(restore.stores, "workspace", lambda folder: nullcontext(Path()))
        monkeypatch.setattr(restore.sources, "find", lambda *_, **__: (source, []))
        monkeypatch.setattr(restore.fit, "findings", (lambda *_: []) if fits else begun)
        monkeypatch.setattr(restore, "wait", wait)
        restore.restore(run, "latest")

    return again


SWAPPED = Side(swapped=(ID,))
SEALED = Side(swapped=(ID,), sealed=(ID,))
BARRED = Side(swapped=(ID,), barred=ID)
ALL = [f"{ID} set aside on {list(NAMES)}", f"restore {ID} had been cut short at its very end; it is complete now"]
AT_THE_END = {
    "sealed": dict.fromkeys(NAMES, SEALED),
    "sealed on one": {**dict.fromkeys(NAMES, SWAPPED), "etcd01": SEALED},
    "recorded": dict.fromkeys(NAMES, SWAPPED),
}
HAS_COMMITTED = {**dict.fromkeys(NAMES, SEALED), "etcd01": Side(aside={ID: (1, None)})}  # type: ignore[dict-item]


@pytest.mark.parametrize("case", AT_THE_END)
def test_it_is_completed_and_nothing_else(again: Callable[..., None], said: list[str], case: str) -> None:
    again(AT_THE_END[case])
    assert said == ALL


@pytest.mark.parametrize("case", AT_THE_END)
def test_another_snapshot_takes_the_command_once_more(again: Callable[..., None], said: list[str], case: str) -> None:
    """Such as 'latest', after a backup of what it had brought."""
    with pytest.raises(Refused, match="asked is another snapshot") as caught:
        again(AT_THE_END[case], sha="ffffffff")
    assert said == ALL
    assert caught.value.hint == "the same again restores it"


def test_a_member_that_is_slow_starts_no_second_restore(again: Callable[..., None], said: list[str]) -> None:
    with pytest.raises(Unhealthy, match="etcd03: starts"):
        again(HAS_COMMITTED, slow="etcd03: starts")
    assert said == [ALL[0].replace("'etcd01', ", ""), ALL[1]]


def test_what_was_recorded_is_not_given_up_for_a_member_that_is_slow(
    again: Callable[..., None], said: list[str]
) -> None:
    with pytest.raises(Unhealthy, match="etcd03: starts") as caught:
        again(AT_THE_END["recorded"], slow="etcd03: starts")
    assert said == []
    assert f"the same again completes restore {ID}; or inv restore-undo" in caught.value.hint


UNDECIDED = {
    "one was not recorded": ({}, serving("etcd02", identity={})),
    "one is kept from starting": ({"etcd02": BARRED}, serving("etcd02")),
    "one has its old data back": ({"etcd02": Side()}, serving("etcd02")),
    "nothing was cut short": (dict.fromkeys(NAMES, Side()), serving("etcd02")),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_else_it_starts_over(again: Callable[..., None], said: list[str], case: str) -> None:
    sides, fact = UNDECIDED[case]
    with pytest.raises(Started):
        again({**dict.fromkeys(NAMES, SWAPPED), **sides}, three(serving, fact))
    assert said == []


def test_a_dry_run_completes_nothing(run: Run, again: Callable[..., None], said: list[str]) -> None:
    run.dry_run = True
    again(AT_THE_END["sealed"])
    assert said == [f"{name}  set the data aside for good that restore {ID} has replaced" for name in NAMES]


# The way back


class Fleet:
    """Hosts of which some cannot do what is asked of them."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def map(self, work: Callable[[Any], Any], names: Sequence[str] = NAMES) -> dict[str, Any]:
        full = {name: HostError("No space left on device", host=name) for name in names if name in self.broken}
        return {name: full.get(name) or work(SimpleNamespace(name=name)) for name in names}

    def all(self, work: Callable[[Any], Any], names: Sequence[str] = NAMES) -> dict[str, Any]:
        found = self.map(work, names)
        if errors := [each for each in found.values() if isinstance(each, OpsError)]:
            raise HostsFailed(errors)
        return found


@pytest.fixture
def undo(run: Run, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """restore-undo where these hosts fail, and what comes of it."""

    def undo(*broken: str) -> None:
        run._fleet = Fleet(*broken)  # type: ignore[assignment]
        sides = dict.fromkeys(NAMES, SWAPPED)
        monkeypatch.setattr(restore, "look", lambda run: Cluster(three(serving), sides))
        monkeypatch.setattr(exchange.restoration, "undo", lambda host, id_: said.append(f"{host.name} back"))
        monkeypatch.setattr(restore, "gather", lambda host: serving(host.name))
        monkeypatch.setattr(restore, "start", lambda run, names: said.append(f"started {names}"))
        monkeypatch.setattr(restore, "wait", lambda run, names: said.append(f"healthy {names}"))
        restore.undo(run)

    return undo


def test_the_old_data_comes_back_and_its_members_up(undo: Callable[..., None], said: list[str]) -> None:
    undo()
    everybody = list(NAMES)
    assert said[3:] == [f"started {everybody}", f"healthy {everybody}", "the old data is back: 3 members healthy"]


def test_a_host_that_fails_leaves_no_other_stopped(undo: Callable[..., None], said: list[str]) -> None:
    with pytest.raises(HostsFailed) as caught:
        undo("etcd03")
    others = ["etcd01", "etcd02"]
    assert said == ["etcd01 back", "etcd02 back", f"started {others}", f"healthy {others}"]
    assert [str(each) for each in caught.value.errors] == ["etcd03: No space left on device"]
    assert caught.value.hint.startswith("etcd01, etcd02: the old data is back, and etcd was started; inv restore-undo")


@pytest.mark.parametrize(
    ("side", "standing"),
    [
        (Side(), "the cluster was not touched"),
        (BARRED, f"the data is back that restore {ID} had replaced, and nothing was restored"),
    ],
)
def test_what_is_true_where_nothing_comes_of_it(
    run: Run, again: Callable[..., None], said: list[str], monkeypatch: pytest.MonkeyPatch, side: Side, standing: str
) -> None:
    def planned(*_: object, standing: str, seen: int) -> Exchange:
        order: Any = SimpleNamespace(id=ID, discard=lambda host: None)
        nothing: Any = None
        Exchange(run, nothing, nothing, order, {}, standing).discard()
        raise Started

    run._fleet = Fleet()  # type: ignore[assignment]
    monkeypatch.setattr(Run, "reconnect", lambda run: None)
    for name in ("findings", "_outsiders"):
        monkeypatch.setattr(restore, name, lambda *_: [])
    monkeypatch.setattr(restore, "_show", lambda *_: None)
    monkeypatch.setattr(restore, "_return", lambda run, id_: ([], None))
    monkeypatch.setattr(restore.delivery, "issue", lambda run: None)
    monkeypatch.setattr(restore.Exchange, "plan", planned)
    with pytest.raises(Started):
        again(dict.fromkeys(NAMES, side), fits=True)
    assert said == [f"what was staged is deleted again; {standing}"]
