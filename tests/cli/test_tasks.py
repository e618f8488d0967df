"""Every task of tasks.py, whichever there are: what it says of itself, and how its words reach it."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from invoke.exceptions import Exit
from invoke.tasks import Task

import tasks
from etcdops.cli import Inv
from etcdops.run import Run
from etcdops.task import _words, boundary
from etcdops.ui import Reporter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [module for name, module in sorted(sys.modules.items()) if name.startswith("etcdops.tasks.")]
NAMES = sorted(tasks.ns.task_names)
BARE = [name for name in NAMES if tasks.ns[name].positional]
HELP = [form for name in NAMES for form in ((name, "--help"), (name, "-h"), ("--help", name), ("-h", name))]


class Recorder:
    """Stands in for the code behind the tasks: any attribute, any call, and nothing happens."""

    def __init__(self, calls: list[Any], path: str) -> None:
        self._calls = calls
        self._path = path

    def __getattr__(self, name: str) -> Recorder:
        return Recorder(self._calls, f"{self._path}.{name}")

    def __call__(self, *args: object, **kwargs: object) -> Recorder:
        self._calls.append((self._path, [arg for arg in args if not isinstance(arg, Run)], kwargs))
        return self

    def __bool__(self) -> bool:
        return False


class Line:
    """A command line, run in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.calls: list[Any] = []
        for chapter in CHAPTERS:
            for name in {"dev", "lab", "steps"} & vars(chapter).keys():
                monkeypatch.setattr(chapter, name, Recorder(self.calls, name))

    def __call__(self, *words: str) -> int:
        """The exit code; what was called is in ``calls``."""
        self.calls.clear()
        self._monkeypatch.setattr(sys, "argv", ["inv", *words])
        try:
            Inv(name="inv", binary="inv").run()
        except SystemExit as end:
            return int(end.code or 0)
        return 0


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


def values(task: Task[Any]) -> list[str]:
    """One for each bare argument; none is a task's name by chance."""
    return [f"/{argument}-1" for argument in task.positional]


@pytest.fixture(scope="module")
def fresh() -> Any:
    """tasks.py and its chapters, loaded anew: Invoke takes the help texts out of a task when it first reads them."""
    kept = {name: sys.modules.pop(name) for name in ("tasks", "etcdops.tasks", *(each.__name__ for each in CHAPTERS))}
    try:
        return importlib.import_module("tasks").ns
    finally:
        sys.modules.update(kept)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_explains_itself(fresh: Any, name: str) -> None:
    task = fresh[name]
    lines = (task.__doc__ or "").splitlines()
    assert lines, "no docstring"
    assert len(lines[0]) <= 66, "too long for --list"
    assert lines[0].endswith("."), lines[0]
    assert len(lines) == 1 or lines[1] == "", "the first line stands alone"
    for argument in task.get_arguments():
        assert argument.help, f"--{argument.name} has no help"
        assert len(argument.names) == 1, f"--{argument.name} has a short form, which may be Invoke's own"


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_shows_help_and_runs_nothing(
    line: Line, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(word for word in words if not word.startswith("-"))
    assert line(*words) == 0
    assert line.calls == []
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: inv [--core-opts] {name} ")
    assert str(tasks.ns[name].__doc__).splitlines()[0] in out
    assert err == ""


@pytest.mark.parametrize("name", BARE)
def test_bare_and_flag_forms_are_one(line: Line, name: str) -> None:
    task = tasks.ns[name]
    given = values(task)
    forms = [
        [name, *given],
        [name, *(f"--{key}={value}" for key, value in zip(task.positional, given, strict=True))],
        [name, *(word for key, value in zip(task.positional, given, strict=True) for word in (f"--{key}", value))],
    ]
    seen = []
    for form in forms:
        assert line(*form) == 0
        seen.append(list(line.calls))
    assert seen[0]
    assert seen[0] == seen[1] == seen[2]
    assert [value for value in given if value in str(seen[0])] == given


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("word", ["--help", "-h", "-x", "--force", "-1", "--", "--dry-run"])
def test_a_dash_is_never_a_bare_argument(line: Line, name: str, word: str) -> None:
    given = values(tasks.ns[name])
    for index in range(len(given)):
        assert line(name, *given[:index], word, *given[index + 1 :]) in {0, 2}
        assert line.calls == []


@pytest.mark.parametrize("name", BARE)
def test_who_asks_for_help_owes_no_arguments(line: Line, name: str) -> None:
    given = values(tasks.ns[name])
    for index in range(len(given) + 1):
        assert line(name, *given[:index], "--help") == 0
        assert line.calls == []


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("word", ["-x", "--help", "--", "-", "a=b", "", "deploy"])
def test_a_flag_takes_any_value(line: Line, name: str, word: str) -> None:
    task = tasks.ns[name]
    first, *others = values(task)
    assert line(name, f"--{task.positional[0]}={word}", *others) == 0
    assert len(line.calls) == 1 or line.calls[-1]
    assert word in str(line.calls)
    assert first not in str(line.calls)


def test_a_lone_dash_is_a_value(line: Line) -> None:
    assert line("put", "/key", "-") == 0
    assert line.calls == [("steps.keys.put", ["/key", "-"], {"in_hex": False})]


def test_a_bare_argument_may_be_the_name_of_a_task(line: Line) -> None:
    assert line("get", "deploy") == 0
    assert line.calls == [("steps.keys.get", ["deploy"], {"in_hex": False})]


def test_flags_of_the_program_may_stand_among_bare_arguments(line: Line) -> None:
    assert line("put", "-f", "a.yaml", "/key", "--json", "value") == 0
    assert line.calls == [("steps.keys.put", ["/key", "value"], {"in_hex": False})]


@pytest.mark.parametrize(
    "wrong",
    [["get"], ["get", "-x"], ["get", "--help"], ["nothing"], ["keys", "--limit=x"], ["deploy", "--dry"], ["-x"]],
    ids=" ".join,
)
def test_the_whole_line_is_read_before_the_first_task_runs(line: Line, wrong: list[str]) -> None:
    line("start", *wrong)
    assert line.calls == []


@pytest.mark.parametrize("heavy", ["cryptography", "fabric", "jinja2", "paramiko", "pydantic", "rich", "ruamel"])
def test_the_list_waits_for_nothing_heavy(heavy: str) -> None:
    code = f"import sys, tasks; sys.exit('{heavy}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


COLLECTS = """
import gc, sys, types
from invoke import Collection
from etcdops.cli import main
from etcdops.task import task

@task()
def told(run):
    print("in a task", gc.isenabled(), gc.get_freeze_count() > 10_000)

sys.modules["tasks"] = types.SimpleNamespace(ns=Collection(told))
sys.argv[1:] = ["told"]
main()
"""


def test_modules_are_not_taken_for_garbage_and_that_of_a_task_is() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "in a task True True\n"


LATE = """
import os, signal, sys
from etcdops.cli import main

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=int(sys.argv.pop())):
        kill(pid, number)

sys.late = Late()  # which goes when the interpreter does
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_a_signal_that_comes_too_late_changes_nothing(number: signal.Signals) -> None:
    words = [sys.executable, "-c", LATE, "--version", str(int(number))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("inv ")


def test_ctrl_c_before_a_task_runs(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Inv) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inv, "parse_tasks", interrupted)
    assert line("start") == 130


@pytest.mark.parametrize("end", [SystemExit(7), SystemExit("why")], ids=str)
def test_a_system_exit_keeps_its_code(end: SystemExit) -> None:
    with pytest.raises(SystemExit) as raised, boundary(Reporter()):
        raise end
    assert raised.value is end


def test_a_reader_that_has_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich ends the program with 1 when it meets a broken pipe."""
    gone: list[bool] = []
    monkeypatch.setattr("etcdops.task.no_reader", lambda: gone.append(True))
    for pipe in (BrokenPipeError(), _as_rich_does()):
        with pytest.raises(Exit) as raised, boundary(Reporter()):
            raise pipe
        assert raised.value.code == 0
    assert gone == [True, True]


def _as_rich_does() -> SystemExit:
    try:
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904
    except SystemExit as end:
        return end


@pytest.mark.parametrize("flag", ["--dry", "-R", "--echo", "-e", "--pty", "--hide=both", "--warn-only"])
def test_flags_that_mean_nothing_here_are_unknown(line: Line, flag: str) -> None:
    assert line("deploy", flag) == 2
    assert line(flag, "deploy") == 2
    assert line.calls == []


@pytest.mark.parametrize(
    "words",
    [
        ("put", "/a", "two words"),
        ("put", "/a", 'quo"te', "it's", "", "$HOME *", "line\nbreak"),
        ("get", "--", "-x"),
        (),
    ],
)
def test_words_keep_their_quoting(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "argv", ["inv", "etcdctl", "--", *words])
    assert _words() == words


def test_without_two_dashes_there_are_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["inv", "get", "/a"])
    assert _words() == ()
