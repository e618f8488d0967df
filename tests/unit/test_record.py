"""The record of a run: what is in it, what a person sees of it, and that nothing depends on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcdops import layout
from etcdops.errors import OpsError, UsageError
from etcdops.operation import record
from etcdops.operation.record import Record, past, runs
from etcdops.run import Run
from etcdops.steps.history import history, told

HEAD = {"at": 1795881890.3, "task": "restart", "command": "inv restart", "who": "alice@laptop", "cluster": "prod"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".etcdops" / "runs"


@pytest.fixture
def begin(folder: Path) -> Callable[..., Record]:
    def make(run: str = "20261128T160450Z-restart-332a", **head: Any) -> Record:
        return Record(folder, run, lambda: {**HEAD, **head}, pytest.fail)

    return make


def test_a_record_is_private_and_says_each_thing_before_the_next(begin: Callable[..., Record], folder: Path) -> None:
    made = begin()
    made.close(code=0)
    assert not folder.exists(), "a run that did nothing has none"
    made = begin()
    made.write("said", text="==> Look")
    (path,) = folder.iterdir()
    number = made.call(host="etcd01", what="etcd")
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["begin", "said", "call"]
    made.done(number, host="etcd01", rc=0, took=0.1)
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    running = past(path)
    assert running and running.end == "runs" and running.alive
    made.close(code=3, error=["refused: no"])
    ended = past(path)
    assert ended and ended.end == "3" and not ended.alive
    assert ended.document | {"seconds": 0} == {
        "run": "20261128T160450Z-restart-332a", "task": "restart", "command": "inv restart", "who": "alice@laptop",
        "cluster": "prod", "began": "2026-11-28T16:04:50Z", "seconds": 0, "exit": 3, "state": "ended",
    }  # fmt: skip


def test_a_run_that_was_killed(begin: Callable[..., Record], folder: Path) -> None:
    made = begin()
    made.call(host="etcd01", what="apply")
    os.close(made._handle or 0)  # as the kernel does it
    made._dead = True
    (path,) = folder.iterdir()
    with path.open("a") as file:
        file.write('{"event": "said", "te')  # half a line
    killed = past(path)
    assert killed and killed.end == "cut short"
    assert [each["event"] for each in record.events(path)] == ["begin", "call"]


@pytest.mark.parametrize("fault", ["read-only", "full at once", "full later", "a file in its place"])
def test_a_run_goes_on_where_nothing_can_be_written(
    fault: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    made = Record(folder, "R", lambda: HEAD, said.append)
    real = os.write
    if fault == "a file in its place":
        folder.parent.write_text("")
    elif fault == "read-only":
        monkeypatch.setattr(
            os, "open", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
        )
    elif fault == "full at once":
        monkeypatch.setattr(os, "write", lambda handle, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    else:
        monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[: 10 if b"call" in data else None]))
    made.write("said", text="one")
    number = made.call(host="etcd01", what="etcd")
    made.done(number, rc=0)
    made.write("said", text="two")
    made.close(code=0)
    assert len(said) == 1 and said[0].startswith("this run goes on without a record in ")


def test_what_is_kept(begin: Callable[..., Record], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "KEPT", 3)
    for number in range(6):
        made = begin(f"2026112{number}-x")
        made.write("said", text="")
        made.close(code=0)
    assert [each.run for each in runs(folder)] == ["20261125-x", "20261124-x", "20261123-x"]
    monkeypatch.setattr(record, "ROOM", 1)
    made = begin("20261126-x")
    made.write("said", text="")
    assert [each.run for each in runs(folder)] == ["20261126-x"], "its own is never deleted"


def test_a_long_run_leaves_its_calls_out_at_last(
    begin: Callable[..., Record], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "LARGE", 1000)
    made = begin()
    for _ in range(100):
        made.done(made.call(host="etcd01", what="etcd"), rc=0)
    made.write("said", text="done")
    made.close(code=0)
    (path,) = folder.iterdir()
    assert path.stat().st_size < 2000
    assert [each["event"] for each in record.events(path)][-2:] == ["said", "end"]
    assert list(record.events(path))[-1]["calls"] == 100


def test_foreign_files_are_no_runs(begin: Callable[..., Record], folder: Path) -> None:
    begin().write("said", text="")
    (folder / "x.jsonl").write_text("no json\n")
    (folder / "y.jsonl").write_text('["a list"]\n')
    (folder / "z.jsonl").write_bytes(b"")
    (folder / "notes.txt").write_text("")
    assert len(runs(folder)) == 1


def call(n: int, host: str, what: str, s: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"event": "call", "n": n, "host": host, "what": what, "s": s, **fields}


def done(n: int, host: str, rc: int | None = 0, took: float = 0.25, **fields: Any) -> dict[str, Any]:
    return {"event": "done", "n": n, "host": host, "rc": rc, "took": took, "s": 2.0, **fields}


EVENTS = [
    {"event": "begin", "s": 0.0},
    call(1, "etcd01", "lock"), call(2, "etcd02", "lock"), done(2, "etcd02"), done(1, "etcd01", took=0.5),
    {"event": "locked", "s": 1.5, "hosts": ["etcd01", "etcd02"], "away": {"etcd03": "no answer"}},
    {"event": "saw", "s": 1.6, "host": "etcd01", "digest": "abc"},
    {"event": "decided", "s": 1.7, "lines": ["etcd01  systemctl restart etcd"]},
    {"event": "said", "s": 1.8, "text": "==> Restart etcd01"},
    call(3, "etcd01", "service", 2.0, args="restart 30"), done(3, "etcd01", rc=1),
    call(4, "etcd01", "etcd", 3.0), done(4, "etcd01"), call(5, "etcd01", "etcd", 3.2), done(5, "etcd01"),
    call(6, "etcd02", "apply", 4.0), done(6, "etcd02", rc=None, error="the connection was lost"),
    call(7, "etcd01", "etcd", 5.0),
]  # fmt: skip


def test_what_a_person_sees_of_it() -> None:
    assert list(told(EVENTS, calls=False)) == [
        "     1.0 s  etcd01, etcd02  lock  0.50 s",
        "     1.5 s  lock held on etcd01, etcd02; not on etcd03: no answer",
        "     1.6 s  saw etcd01 as abc",
        "     1.7 s  decided: etcd01  systemctl restart etcd",
        "     1.8 s  ==> Restart etcd01",
        "     2.0 s  etcd01  service restart 30  exit 1 after 0.25 s",
        "     3.0 s  etcd01  etcd  0.25 s, 2 times",
        "     4.0 s  etcd02  apply  no end after 0.25 s: the connection was lost",
        "     5.0 s  etcd01  etcd, and nobody knows whether it came to its end",
    ]
    assert list(told(EVENTS, calls=True))[:2] == [
        "     1.0 s  etcd02  lock  exit 0 after 0.25 s",
        "     1.0 s  etcd01  lock  exit 0 after 0.50 s",
    ]


def test_one_run_is_named_by_enough_of_its_id(
    begin: Callable[..., Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, task in (("20261128T1-deploy-aa", "deploy"), ("20261128T2-restart-ab", "restart")):
        made = begin(run, command=f"inv {task}")
        made.write("said", text=f"did {task}")
        made.close(code=0)
    run_ = Run(tmp_path / "config.yaml")
    for which, expected in (("latest", "restart"), ("deploy", "deploy"), ("aa", "deploy"), ("20261128T2", "restart")):
        history(run_, which, 20, calls=False)
        assert f"did {expected}" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no run nobody is on record"):
        history(run_, "nobody", 20, calls=False)
    with pytest.raises(UsageError, match="2026 may be 20261128T2-restart-ab, 20261128T1-deploy-aa"):
        history(run_, "2026", 20, calls=False)
    history(run_, "", 1, calls=False)
    seen = capsys.readouterr()
    assert "20261128T2-restart-ab" in seen.out and "20261128T1" not in seen.out
    assert seen.err == "warning: 1 older ones; --limit=0 shows all\n"
    json_ = Run(tmp_path / "config.yaml", json=True)
    history(json_, "", 0, calls=False)
    assert [each["command"] for each in json.loads(capsys.readouterr().out)] == ["inv restart", "inv deploy"]
    history(json_, "latest", 0, calls=False)
    assert [each["event"] for each in json.loads(capsys.readouterr().out)["events"]] == ["begin", "said", "end"]


def test_nothing_is_on_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history(Run(tmp_path / "config.yaml"), "", 20, calls=False)
    assert capsys.readouterr().out == f"no run is on record in {tmp_path}/.etcdops/runs\n"
    with pytest.raises(UsageError):
        history(Run(tmp_path / "config.yaml"), "latest", 20, calls=False)


def test_what_a_script_is_called() -> None:
    head = "QUERIES='health' WAIT=4"
    assert layout.called("\n".join((head, layout.script("prelude", "host", "client", "etcd")))) == "host+etcd"
    assert layout.called(layout.script("client") + '\nclient --command-timeout=10s move-leader "$1"') == (
        'client --command-timeout=10s move-leader "$1"'
    )
    assert (
        layout.called("# a comment\nsystemctl restart etcdops-backup.timer") == "systemctl restart etcdops-backup.timer"
    )
    assert layout.called("") == ""


def test_a_run_on_record(tmp_path: Path) -> None:
    """All that is said, and how it ends, its error included."""
    run = Run(tmp_path / "config.yaml", command="inv gen-ca")
    with pytest.raises(OpsError), run.changing("gen-ca"):
        run.ui.line("made")
        assert run.decided(["here  make ca.pem"]) is False
        raise OpsError("broken", hint="mend it")
    (path,) = (tmp_path / ".etcdops" / "runs").iterdir()
    first, *found = record.events(path)
    assert first["command"] == "inv gen-ca" and first["cluster"] == "?"
    assert [{key: each[key] for key in each if key not in {"s", "calls"}} for each in found] == [
        {"event": "said", "text": "    made"},
        {"event": "decided", "lines": ["here  make ca.pem"]},
        {"event": "end", "code": 1, "error": ["error: broken; mend it"]},
    ]
    run = Run(tmp_path / "config.yaml", dry_run=True)
    assert run.decided(["here  make ca.pem"]) is True
