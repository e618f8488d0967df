"""An upgrade that finds the release on every host already: whether all is well, and only then config.yaml says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import gate
from etcdops.errors import OpsError, Refused, Unhealthy
from etcdops.etcd import View
from etcdops.facts import HostFacts, UnitFact
from etcdops.run import Run
from etcdops.steps import upgrade
from etcdops.steps.hop import Rolling
from etcdops.versions import Hop
from tests.unit.build import NAMES, VERSION, config, path, serving, three, view

DOWN = serving(
    "etcd02",
    unit=UnitFact(),
    running={},
    executable="",
    listeners=(),
    view=View(),
    paths={"/opt/etcd/current": path("link", target=VERSION)},
)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run_again(facts: Mapping[str, HostFacts], views: Mapping[str, View]) -> list[str]:
        """What is done, in order."""
        done: list[str] = []
        now = [0.0]
        sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)  # noqa: E731
        monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
        monkeypatch.setattr(gate, "same_data", lambda run, views: done.append("compared"))
        monkeypatch.setattr(upgrade, "record", lambda run, version: done.append(f"config.yaml: {version}"))
        fleet: Any = SimpleNamespace(all=lambda work: facts, map=lambda work: views)
        run = Run(Path("config.yaml"), command="inv upgrade --to=X", _fleet=fleet)
        run.__dict__["config"] = config("3.5.35")
        upgrade.upgrade(run, VERSION, plan=False)
        return done

    return run_again


WELL = {name: view(name) for name in NAMES}


def test_it_is_looked_at_as_a_whole_before_config_yaml_says_so(again: Any) -> None:
    assert again(three(serving), WELL) == ["compared", f"config.yaml: {VERSION}"]


def test_a_member_that_is_down_with_it_is_told(again: Any) -> None:
    with pytest.raises(Unhealthy, match=f"^etcd02 would run etcd {VERSION}, and is down$") as caught:
        again(three(serving, DOWN), WELL)
    assert caught.value.hint.startswith("systemctl start etcd there")
    assert caught.value.hint.endswith("then inv upgrade --to=X")


def test_a_member_that_is_not_healthy_is_told(again: Any) -> None:
    with pytest.raises(Unhealthy, match="etcd02: etcd does not answer"):
        again(three(serving), {**WELL, "etcd02": View()})


@pytest.mark.parametrize(("at", "code"), [(0, 3), (1, 1)])
def test_what_is_refused_at_a_later_stop_is_told_with_where_all_are(
    monkeypatch: pytest.MonkeyPatch, at: int, code: int
) -> None:
    hops = [Hop("3.5.35", "3.6.16"), Hop("3.6.16", "3.7.3")]

    def carry_out(self: Rolling) -> None:
        if self.hop == hops[at]:
            raise Refused("no member was changed", findings=[Refused("unknown flag", host="etcd01")], hint="mend it")

    monkeypatch.setattr(Rolling, "carry_out", carry_out)
    monkeypatch.setattr(upgrade, "_call_off", lambda run, target: None)
    monkeypatch.setattr(upgrade.configedit, "change_release", lambda *known: None)
    run = Run(Path("config.yaml"))
    run.__dict__["config"] = config("3.5.35")
    with pytest.raises(OpsError) as caught:
        upgrade._change(run, three(serving), "3.7.3", hops, plan=False)
    assert caught.value.exit_code == code
    if at:
        assert caught.value.message == "all members run 3.6.16 now, and stay there: etcd01: unknown flag"
        assert caught.value.hint == "mend it"
