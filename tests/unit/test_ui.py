"""What the operator sees: one line for each thing, with the hosts it is true of."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable

import pytest

from etcdops.errors import HostError, HostsFailed, OpsError, Refused, Unhealthy, UsageError
from etcdops.ui import LARGE, Reporter, error_lines, grouped, lasting

GROUPED: dict[str, tuple[dict[str, list[str]], list[str]]] = {
    "nothing": ({}, []),
    "hosts without lines": ({"a": [], "b": []}, []),
    "one host": ({"a": ["x", "y"]}, ["a  x", "a  y"]),
    "shared by all": ({"a": ["x"], "b": ["x"], "c": ["x"]}, ["a b c  x"]),
    "shared by some": (
        {"a": ["x", "z"], "b": ["x", "y", "z"]},
        ["a b  x", "a b  z", "b    y"],
    ),
    "each its own": ({"etcd01": ["x"], "etcd2": ["y"]}, ["etcd01  x", "etcd2   y"]),
}


@pytest.mark.parametrize(("by_host", "lines"), GROUPED.values(), ids=GROUPED.keys())
def test_grouped(by_host: dict[str, list[str]], lines: list[str]) -> None:
    assert grouped(by_host) == lines


FIRST = HostError("cannot be reached", host="etcd01", hint="is it up?")
SECOND = HostError("sudo asks for a password", host="etcd02")

ERRORS: dict[str, tuple[OpsError, list[str]]] = {
    "message": (OpsError("no archive"), ["error: no archive"]),
    "hint": (OpsError("no archive", hint="give one"), ["error: no archive; give one"]),
    "host": (FIRST, ["error: etcd01: cannot be reached; is it up?"]),
    "no message": (OpsError(""), ["error: "]),
    "usage": (UsageError("unknown task", hint="inv --list"), ["error: unknown task; inv --list"]),
    "unhealthy": (Unhealthy("no leader"), ["error: no leader"]),
    "what would command the terminal": (OpsError("a\x1b[2Jb\u2028c\udcff"), ["error: a\\x1b[2Jb\\u2028c\\xff"]),
    "several lines, as of a configuration": (
        UsageError("c.yaml:1: a\nc.yaml:2: b", hint="see docs"),
        ["error: c.yaml:1: a\nerror: c.yaml:2: b; see docs"],
    ),
    "refused": (Refused("not confirmed", hint="--yes"), ["refused: not confirmed; --yes"]),
    "refused, with every finding": (
        Refused("nothing was changed", findings=[
            Refused("no room", host="etcd01", hint="free some"), Refused("two clusters", hint="stop one"),
        ]),
        ["refused: etcd01: no room; free some", "refused: two clusters; stop one", "refused: nothing was changed"],
    ),
    "the same on several hosts": (
        Refused("nothing was changed", findings=[
            Refused("no room", host="etcd01", hint="free some"), Refused("runs plain", host="etcd02", hint="tls"),
            Refused("no room", host="etcd03", hint="free some"), Refused("no room", host="etcd02", hint="mount some"),
        ]),
        ["refused: etcd01, etcd03: no room; free some", "refused: etcd02: runs plain; tls",
         "refused: etcd02: no room; mount some", "refused: nothing was changed"],
    ),
    "the same failure on several hosts": (
        HostsFailed([SECOND, HostError("sudo asks for a password", host="etcd03")]),
        ["error: etcd02, etcd03: sudo asks for a password"],
    ),
    "some hosts": (
        HostsFailed([FIRST, SECOND]),
        ["error: etcd01: cannot be reached; is it up?", "error: etcd02: sudo asks for a password"],
    ),
    "some hosts, and what to do about all": (
        HostsFailed([FIRST, SECOND], hint="inv status"),
        ["error: etcd01: cannot be reached; is it up?", "error: etcd02: sudo asks for a password",
         "error: 2 hosts failed; inv status"],
    ),
    "one host, and what to do": (
        HostsFailed([SECOND], hint="inv status"),
        ["error: etcd02: sudo asks for a password", "error: 1 host failed; inv status"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("error", "lines"), ERRORS.values(), ids=ERRORS.keys())
def test_error_lines(error: OpsError, lines: list[str]) -> None:
    assert error_lines(error) == lines


def test_progress_goes_to_stderr_and_results_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Reporter()
    ui.step("Look")
    ui.line("detail")
    ui.changes({"a": ["x"], "b": ["x"]})
    ui.warn("late")
    ui.error(Unhealthy("no leader"))
    ui.result("done")
    seen = capsys.readouterr()
    assert seen.err.splitlines() == ["==> Look", "    detail", "    a b  x", "warning: late", "error: no leader"]
    assert seen.out == "done\n"


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Reporter()
    ui.step("Look")
    with ui.transfer("send") as progress:
        progress("a", 10 << 20, 10 << 20)
    ui.json({"names": ["b", "a"], "text": "ü"})
    assert json.loads(capsys.readouterr().out) == {"names": ["b", "a"], "text": "ü"}


def test_a_table_folds_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://" + 150 * "x"
    Reporter().table(("member", "peer URLs"), [("etcd01", url), ("[red]etcd02", "")])
    lines = capsys.readouterr().out.splitlines()
    assert any("etcd01" in line and url in line for line in lines)
    assert any("[red]etcd02" in line for line in lines)  # no markup: text of a host is only text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_large_transfers_have_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Reporter().transfer("send to") as progress:
        for name, total in (("etcd01", LARGE), ("etcd02", LARGE - 1)):
            progress(name, 0, total)
            progress(name, total, total)
    assert "send to etcd01" in terminal.getvalue()
    assert "etcd02" not in terminal.getvalue()


def test_elsewhere_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().transfer("send to") as progress:
        progress("etcd01", LARGE, LARGE)
    assert capsys.readouterr() == ("", "")


def without_a_reader() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def without_a_terminal() -> int:
    master, slave = os.openpty()
    os.close(master)
    return slave


GONE = {
    "the reader has gone": without_a_reader,
    "the terminal has gone": without_a_terminal,
    "the disk is full": lambda: os.open("/dev/full", os.O_WRONLY),
}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE.keys())
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_who_changes_something_is_heard_no_more_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, gone: Callable[[], int]
) -> None:
    """The other stream is heard as before, and so is the record."""
    ui, heard = Reporter(), list[str]()
    ui.tap = heard.append
    with open(gone(), "w", encoding="utf-8") as stream:
        monkeypatch.setattr(f"sys.{name}", stream)
        with lasting():
            for _ in range(2):
                ui.step("Look")
                ui.table(["member"], [["etcd01"]])
                ui.json({})
                ui.result("done")
                ui.error(Unhealthy("no leader"))
        assert os.readlink(f"/proc/self/fd/{stream.fileno()}") == os.devnull
        stream.write("what is written past it")
    assert heard == 2 * ["==> Look", "done", "error: no leader"]
    seen = capsys.readouterr()
    if name == "stdout":
        assert seen.err.splitlines() == 2 * ["==> Look", "error: no leader"] and not seen.out
    else:
        assert seen.out.splitlines()[-2:] == ["{}", "done"] and not seen.err


def test_so_does_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    with open(slave, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with lasting(), Reporter().transfer("send to") as progress:
            progress("etcd01", 0, LARGE)
            os.close(master)
            progress("etcd01", LARGE, LARGE)


def test_a_stream_that_was_closed_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with lasting(), Reporter().transfer("send to") as progress:
        progress("etcd01", LARGE, LARGE)
        Reporter().step("Look")
