"""House rules for Invoke: what a function becomes when it is a task of tasks.py.

Invoke's parser has sharp corners (docs/design.md): a positional argument swallows ``--help``, automatic short
flags steal letters, an exception is a traceback.  This is the only file that knows Invoke.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import Task

from etcdops import __version__, layout
from etcdops.errors import OpsError, UsageError
from etcdops.ui import Reporter, error_lines

FLAGS = {
    "dry_run": "Show what would change on each host, and change nothing.",
    "yes": "Do not ask for a confirmation.",
    "json": "Print one JSON document.",
}


def task(
    *flags: str, bare: Sequence[str] = (), group: str = "", name: str = "", help: dict[str, str] | None = None
) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a function of ``run`` a task.

    ``flags`` of ``FLAGS`` are added to its arguments and reach it through ``run``; ``bare`` names the required
    arguments, which may stand without their flags, in this order; ``group`` is the collection it belongs to.
    """

    def decorate(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def body(context: Context, **given: Any) -> None:
            for argument in bare:
                if _swallowed(argument, given[argument]):
                    _misread(f"{group}.{task_.name}".lstrip("."), given[argument])
            from etcdops.run import Run  # and all that it needs: --list and completion must not wait for it

            chosen = {flag: given.pop(flag) for flag in flags}
            run = Run(config_path(context), words=_words(context), **chosen)
            with boundary(run.ui):
                try:
                    function(run, **given)
                finally:
                    run.close()

        signature = inspect.signature(function)
        added = [inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=False) for flag in flags]
        parameters = [*signature.parameters.values(), *added]
        body.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        texts = {**(help or {}), **{flag: FLAGS[flag] for flag in flags}}
        # Invoke wants dashes in the keys of `help` where the argument has underscores.
        task_: Task[Any] = Task(
            body,
            name=name or function.__name__.strip("_").replace("_", "-"),
            positional=list(bare),
            auto_shortflags=False,
            help={key.replace("_", "-"): text for key, text in texts.items()},
        )
        return task_

    return decorate


class boundary:
    """Expected errors become lines on stderr and an exit code; Ctrl-C becomes 130."""

    def __init__(self, ui: Reporter) -> None:
        self._ui = ui

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OpsError):
            self._ui.error(error)
            raise Exit(code=error.exit_code) from None
        if isinstance(error, KeyboardInterrupt):
            self._ui.error(OpsError("interrupted", hint="the same command goes on from what is there"))
            raise Exit(code=130) from None
        if isinstance(error, BrokenPipeError):
            _no_reader()
            raise Exit(code=0) from None


def _no_reader() -> None:
    """The reader of our output has gone (`inv keys | head`): what is still in the buffer has no one to go to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Inv(Program):
    """Invoke, with our exit code for a command line that is wrong.

    The set-up makes it the ``inv`` of .venv; a stock ``inv`` runs the same tasks, but leaves with 1 then.
    """

    def parse_tasks(self) -> None:
        """The tasks and their arguments."""
        with _usage():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """--help and --list, which may name a task that does not exist."""
        with _usage():
            super().parse_cleanup()


def main() -> None:
    """Run the tasks of this project, from whatever folder."""
    root = str(layout.ROOT)
    argv = [sys.argv[0], "--search-root", root, *sys.argv[1:]]
    try:
        Inv(name="inv", binary="inv", binary_names=["inv"], version=__version__).run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _no_reader()


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ParseError as error:
        raise Exit(f"error: {error}; inv --list shows the tasks, inv --help TASK one of them", code=2) from None


def config_path(context: Context) -> Path:
    """The configuration file: ``inv -f PATH``, else ETCDOPS_CONFIG, else config.yaml of the project."""
    given = context.config._runtime_path or os.environ.get("ETCDOPS_CONFIG")
    return Path(given).absolute() if given else layout.ROOT / "config.yaml"


def check_dash_f(argv: Sequence[str]) -> None:
    """Read the file of ``-f`` before Invoke does, which would answer a broken one with a traceback."""
    for index, word in enumerate(argv):
        if word == "--":
            return
        value = ""
        if word in {"-f", "--config"}:
            value = argv[index + 1] if index + 1 < len(argv) else ""
        elif word.startswith("--config="):
            value = word.partition("=")[2]
        if value:
            _check_readable(Path(value))


def _check_readable(path: Path) -> None:
    from etcdops import configfile

    try:
        if path.suffix not in {".yaml", ".yml"}:
            raise UsageError(f"{path}: a configuration file must end in .yaml or .yml")
        configfile.load(path)
    except OpsError as error:
        raise Exit("\n".join(error_lines(error)), code=error.exit_code) from None


def _words(context: Context) -> tuple[str, ...]:
    """The words after ``--`` as they were typed; Invoke joins them with spaces and so loses their quoting."""
    if "--" in sys.argv:
        return tuple(sys.argv[sys.argv.index("--") + 1 :])
    return tuple(shlex.split(context.remainder))


def _swallowed(bare: str, value: object) -> bool:
    """Whether Invoke took a flag for the bare argument; written with its own flag, a dash is part of the value."""
    flag = f"--{bare}"
    explicit = any(word == flag or word.startswith(f"{flag}=") for word in sys.argv)
    return isinstance(value, str) and value.startswith("-") and value != "-" and not explicit


def _misread(task_name: str, word: str) -> None:
    """Invoke gave a flag to the bare argument: show the help that was asked for, or say that it is unknown."""
    if word in {"-h", "--help"}:
        import tasks

        Inv(namespace=tasks.ns, binary="inv").run(["inv", "--help", task_name], exit=False)
        raise Exit(code=0)
    raise Exit(f"error: {task_name}: unknown option {word}; inv {task_name} --help", code=2)
