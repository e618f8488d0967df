"""What an upgrade reads of each member's log, and what follows from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import apply, gate, layout
from etcdops.errors import HostError
from etcdops.steps import log, turn
from etcdops.steps.log import Log
from tests.unit.build import NAMES, config, view

USUAL = Log(started=100, snapshot=0, removed=(), cluster="3.5", unknown="")


def test_the_answer_of_the_script() -> None:
    text = "started\t1795391336\nsnapshot\t1795391340\nremoved\t9b4ae030705854cf f6a7f77cc860ac5f \n"
    found = log.parse(f"{text}cluster\t3.5\nunknown\tETCD_X \n")
    assert found == Log(1795391336, 1795391340, ("9b4ae030705854cf", "f6a7f77cc860ac5f"), "3.5", "ETCD_X")
    assert log.parse("started\t5\nsnapshot\t\nremoved\t\ncluster\t\nunknown\t\n") == Log(5, 0, (), "", "")


def test_a_log_counts_that_begins_after_the_last_member_was_started() -> None:
    logs = {
        "etcd01": replace(USUAL, snapshot=131),
        "etcd02": replace(USUAL, snapshot=130),
        "etcd03": replace(USUAL, started=130),
    }
    assert log.due(logs) == ["etcd02", "etcd03"]


def test_members_that_are_noted_as_removed() -> None:
    logs = {
        "etcd01": replace(USUAL, removed=("00000000000000aa", "00000000000000bb")),
        "etcd02": replace(USUAL, removed=("00000000000000cc",)),  # one that has really gone
    }
    run: Any = SimpleNamespace(fleet=SimpleNamespace(all=lambda work: logs))
    (found,) = log.doomed(run, {0xAA, 0xDD})
    assert found.host == "etcd01"
    assert found.message.startswith("its data has 00000000000000aa noted as removed")


class Hosts:
    """Where scripts only are noted, in order; ``fails``: the word of the one that does not work."""

    def __init__(self, fails: str = "") -> None:
        self.done: list[str] = []
        self.compared: list[int] = []  # how much had been done by then
        self.fails = fails

    def all(self, work: Callable[[Any], Any], names: Any = NAMES) -> dict[str, Any]:
        return {name: work(SimpleNamespace(name=name, run=self._note(name), client=self._note(name))) for name in names}

    def _note(self, name: str) -> Callable[..., None]:
        def note(script: str, word: str) -> None:
            self.done.append(f"{name} {word}")
            if word == self.fails:
                raise HostError("gone", host=name)

        return note


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def make(hosts: Hosts) -> Any:
        """A run on these, where etcd02 alone has a log to begin anew."""
        monkeypatch.setattr(gate, "pass_through", lambda run, **_: {name: view(name) for name in NAMES})
        monkeypatch.setattr(gate, "same_data", lambda run, views: hosts.compared.append(len(hosts.done)))
        monkeypatch.setattr(apply, "service", lambda host, verb, **_: hosts.done.append(f"{host.name} {verb}"))
        monkeypatch.setattr(log, "look", lambda host: replace(USUAL, snapshot=0 if host.name == "etcd02" else 101))
        said: list[str] = []
        return SimpleNamespace(
            fleet=hosts, config=config(), patience=9, safe_point=lambda: None, said=said,
            turns=lambda names, done: iter(names), ui=SimpleNamespace(step=lambda text: None, warn=said.append),
        )  # fmt: skip

    return make


def test_a_restart_ends_first_what_an_upgrade_that_was_killed_has_begun(work: Any) -> None:
    hosts = Hosts()
    turn.restart_member(work(hosts), "etcd02", lambda: hosts.done.append("prepare"))
    assert hosts.done == ["etcd02 end", "prepare", "etcd02 restart"]


def test_a_log_is_begun_anew_by_one_restart(work: Any) -> None:
    hosts = Hosts()
    run = work(hosts)
    with log.renewed(run, NAMES):
        pass
    assert hosts.done == ["etcd02 end", "etcd02 begin", "etcd02 restart", "etcd02 wait"]
    assert run.said == []
    assert hosts.compared == [0], "a member was touched before all data was compared"


def test_no_log_is_begun_anew_where_no_restart_follows(work: Any) -> None:
    """A member that a killed run has brought to the new release would write snapshots at each entry for good."""
    hosts = Hosts()
    with log.renewed(work(hosts), ["etcd01", "etcd03"]):
        pass
    assert hosts.done == []


@pytest.mark.parametrize("fails", ["wait", "later"])
def test_who_ends_early_is_told_what_makes_the_members_usual_again(work: Any, fails: str) -> None:
    run = work(Hosts(fails))
    with pytest.raises((HostError, KeyboardInterrupt)), log.renewed(run, NAMES):
        raise KeyboardInterrupt
    (line,) = run.said
    assert line.startswith("etcd02 may write a snapshot of the log at each entry")
    assert line.endswith("inv restart")


SYSTEMCTL = """#!/bin/sh
case "$*" in
*-P*) echo "systemctl: invalid option -- 'P'" >&2 && exit 1 ;; # before systemd 246
*=ExecMainStartTimestamp' --value') echo '%s' ;;
esac
"""


@pytest.mark.parametrize(
    ("started", "said"),
    [("Sat 2026-08-22 10:00:00 UTC", "1787392800"), ("", "systemd does not tell when etcd was started")],
)
@pytest.mark.parametrize("word", ["look", "wait"])
def test_when_etcd_was_started_is_known_or_nothing_is(tmp_path: Path, started: str, said: str, word: str) -> None:
    for name, text in {"systemctl": SYSTEMCTL % started, "stat": "#!/bin/sh\necho 1787392800\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = layout.script("prelude", "renew") + '\n: "${started:-}"'
    argv = ["sh", "-c", "client() { :; }; rm() { :; }\n" + script, "sh", word]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(argv, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if started else 1), done
    if not started:
        assert said in done.stderr
    elif word == "look":
        assert log.parse(done.stdout).started == int(said)
