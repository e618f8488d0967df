"""What a run adds to an error, and how it asks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops import layout
from etcdops.errors import HostError, HostsFailed, OpsError, Refused, Unreachable
from etcdops.run import Run
from tests.unit.build import NAMES, config

HERE = Path("/etc/cluster.yaml")
LAB = layout.LAB / "config.yaml"


def run_of(path: Path, **known: Any) -> Run:
    """A run whose configuration need not be read."""
    run = Run(path, **known)
    run.__dict__["config"] = config()
    return run


AWAY = [Unreachable("no answer within 10 s", host=name) for name in NAMES]
DOWN = ", and the lab seems to be down: inv lab.up"


@pytest.mark.parametrize(
    ("path", "error", "hint"),
    [
        (HERE, HostsFailed(AWAY), f"the hosts are those of {HERE}"),
        (HERE, HostsFailed(AWAY[:1]), f"the hosts are those of {HERE}"),
        (HERE, HostsFailed([HostError("disk full", host="etcd01"), AWAY[1]]), f"the hosts are those of {HERE}"),
        (LAB, HostsFailed(AWAY), f"the hosts are those of {LAB}{DOWN}"),
        (LAB, HostsFailed(AWAY[:2]), f"the hosts are those of {LAB}"),
        (HERE, HostsFailed([HostError("disk full", host="etcd01")]), ""),
        (HERE, HostsFailed(AWAY, hint="inv status"), "inv status"),
        (HERE, OpsError("no archive"), ""),
    ],
    ids=["all", "one", "one of two", "all of the lab", "two of the lab", "none", "said already", "no host"],
)
def test_who_does_not_answer_is_told_with_the_file(path: Path, error: OpsError, hint: str) -> None:
    located = run_of(path).located(error)
    assert (type(located), located.exit_code, located.hint) == (type(error), error.exit_code, hint)
    assert getattr(located, "errors", ()) == getattr(error, "errors", ())


class Stdin:
    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("answer", ["yes", " YES "])
def test_yes_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(True))
    monkeypatch.setattr("builtins.input", lambda: answer)
    run_of(HERE).confirm("etcd stops on etcd01")
    assert tuple(capsys.readouterr()) == ("", "etcd stops on etcd01. Go on? [yes/no] ")  # nothing among the results


@pytest.mark.parametrize("answer", ["", "y", "no", "yesno"])
def test_anything_else_does_not(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(True))
    monkeypatch.setattr("builtins.input", lambda: answer)
    with pytest.raises(Refused, match="not confirmed; nothing was changed"):
        run_of(HERE).confirm("etcd stops on etcd01")


def test_ctrl_d_is_no_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ended() -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin", Stdin(True))
    monkeypatch.setattr("builtins.input", ended)
    with pytest.raises(Refused, match="not confirmed; nothing was changed"):
        run_of(HERE).confirm("etcd stops on etcd01")
    assert capsys.readouterr().err.endswith("\n")


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(False))
    with pytest.raises(Refused, match="nobody can be asked here: etcd stops on etcd01"):
        run_of(HERE).confirm("etcd stops on etcd01")
    run_of(HERE, yes=True).confirm("etcd stops on etcd01")
    run_of(HERE, dry_run=True).confirm("etcd stops on etcd01")


@pytest.mark.parametrize("changed", [True, False])
def test_the_file_that_decides_is_the_one_of_when_the_lock_was_had(tmp_path: Path, changed: bool) -> None:
    """Another run may have ended while this one waited, or stood at a question for a password."""
    path = tmp_path / "config.yaml"
    path.write_text("cluster: {name: c, version: 3.6.14}\nmembers: [{name: etcd01, address: 192.0.2.11}]\n")
    run = Run(path)

    def take(fleet: object, names: object) -> None:
        if changed:
            path.write_text(path.read_text().replace("3.6.14", "3.6.16"))

    run.operation = cast(Any, SimpleNamespace(lock=SimpleNamespace(hosts=[]), take=take))
    if changed:
        with pytest.raises(Refused, match=r"^config\.yaml was changed while this run waited"):
            run.fleet.map(len)
    else:
        assert run.fleet
