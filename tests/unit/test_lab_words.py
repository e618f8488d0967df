"""What the lab's tasks say when they are done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdops.errors import Refused
from etcdops.lab import demo
from etcdops.lab.lab import LabInfo
from etcdops.run import Run

Act = Callable[[Run, str], None]


class Lab:
    """Whose hosts do not exist."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words: self.done.append((name, *words))

    def status(self) -> list[object]:
        return []


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr(demo, "open_lab", lambda run: lab)
    return lab


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (demo.off, "etcd02 has no power; inv lab.on etcd02 gives it back"),
        (demo.on, "etcd02 is on and answers"),
        (demo.cut, "etcd02 runs, and nobody reaches it; inv lab.heal etcd02 plugs its cable in"),
        (demo.heal, "etcd02 is on the network"),
    ],
)
def test_power_and_cables(lab: Lab, act: Act, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    act(Run(Path("config.yaml")), "etcd02")
    assert capsys.readouterr() == (f"{says}\n", "")
    assert lab.done == [(act.__name__, "etcd02")]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_lab_that_is_down(lab: Lab, as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    demo.status(Run(Path("config.yaml"), json=as_json))
    out = capsys.readouterr().out
    assert (json.loads(out) == []) if as_json else (out == "the lab is down: there are no hosts; inv lab.up\n")


def test_down(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    demo.down(Run(Path("config.yaml")))
    assert lab.done == [("down",)]
    assert capsys.readouterr().out == "the lab is down; its image and lab/ stay\n"


def test_a_demo_leaves_the_lab_of_another_project_alone(lab: Lab) -> None:
    lab.elsewhere = Path("/there/lab")  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="the lab of this machine is that of /there/lab, and so is ") as caught:
        demo.demo(Run(Path("config.yaml")))
    assert "inv lab.down" in caught.value.hint
    assert lab.done == []


@pytest.mark.parametrize(
    ("releases", "given"),
    [("", []), ("trixie", ["trixie"]), ("bullseye, bookworm,trixie", ["bullseye", "bookworm", "trixie"])],
)
def test_releases_are_parted_by_commas(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, releases: str, given: list[str]
) -> None:
    monkeypatch.setattr(demo, "_write_config", lambda run, lab, hosts: None)
    monkeypatch.setattr(
        Lab, "up", lambda lab, *words: lab.done.append(words) or LabInfo((), Path(), Path()), raising=False
    )
    demo.up(Run(Path("config.yaml")), 2, releases)
    assert lab.done == [(2, given)]
