"""What a function becomes when it is a task: its flags, its run, and the boundary where errors become lines."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task

from etcdops import layout
from etcdops.errors import OpsError, UsageError
from etcdops.ui import Reporter, lasting, to_nowhere

FLAGS = {
    "dry_run": "Show what would change on each host, and change nothing.",
    "yes": "Do not ask for a confirmation.",
    "json": "Print one JSON document.",
    "break_lock": "Take the lock from another run, which ends before its next step.",
}
MAY_BE_BARE: dict[str, str] = {}  # of a task, by its name, the argument that need not be given at all
CHANGING = {"dry_run", "yes"}  # a task with one of these changes something: it needs the cluster to itself


def task(
    *flags: str,
    bare: Sequence[str] = (),
    may_be_bare: str = "",
    words: bool = False,
    name: str = "",
    help: dict[str, str] | None = None,
) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a function of ``run`` a task.

    ``flags`` of ``FLAGS`` are added to its arguments and reach it through ``run``; ``bare`` names the required
    arguments, which may stand without their flags, in this order; ``may_be_bare`` one that need not be given at all.
    ``words``: what follows ``--`` is the task's.
    One that changes something, as its flags tell, has the lock while it works with hosts.
    """
    changes = not CHANGING.isdisjoint(flags)
    flags = (*flags, "break_lock") if changes else flags

    def decorate(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def body(context: Context, **given: Any) -> None:
            from etcdops.run import Run  # and all that it needs: --list and completion must not wait for it

            gc.freeze()
            gc.enable()
            chosen = {flag: given.pop(flag) for flag in flags}
            breaks = chosen.pop("break_lock", False)
            run = Run(config_path(context), words=_words(), command=shlex.join(["inv", *sys.argv[1:]]), **chosen)
            looks = run.dry_run or given.get("plan", False)  # it changes nothing, and waits for nobody
            changing = changes and not looks
            with lasting() if changing else nullcontext(), boundary(run.ui, run.located, run.interrupted):
                if run.words and not words:
                    raise UsageError(f"{task_.name} takes nothing after --", hint="flags stand before it")
                with run.changing(getattr(task_, "full_name", task_.name), breaks=breaks) if changing else closing(run):
                    function(run, **given)

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
        if may_be_bare:
            MAY_BE_BARE[task_.name] = may_be_bare
        return task_

    return decorate


class boundary:
    """Expected errors become lines on stderr and an exit code; Ctrl-C becomes 130."""

    def __init__(
        self,
        ui: Reporter,
        explain: Callable[[OpsError], OpsError] = lambda error: error,
        interrupted: Callable[[BaseException], OpsError] = lambda error: OpsError("interrupted"),
    ) -> None:
        self._ui = ui
        self._explain = explain
        self._interrupted = interrupted

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OpsError):
            self._ui.error(self._explain(error))
            raise Exit(code=error.exit_code) from None
        if isinstance(error, KeyboardInterrupt):
            self._ui.error(self._interrupted(error))
            raise Exit(code=130) from None
        pipe = error.__context__ if isinstance(error, SystemExit) else error  # rich makes a SystemExit of it
        if isinstance(pipe, BrokenPipeError):
            no_reader()
            raise Exit(code=0) from None


def end(code: int) -> None:
    """End the run with the exit code of a program that ran in its place."""
    if code:
        raise Exit(code=code)


def no_reader() -> None:
    """The reader of our output has gone (`inv keys | head`): what is still in the buffer has no one to go to."""
    to_nowhere(sys.stdout)


def config_path(context: Context) -> Path:
    """The configuration file: ``inv -f PATH``, else ETCDOPS_CONFIG, else config.yaml of the project."""
    given = context.config._runtime_path
    if given is None:
        given = os.environ.get("ETCDOPS_CONFIG") or layout.ROOT / "config.yaml"
    return Path(given).absolute()


def _words() -> tuple[str, ...]:
    """The words after ``--`` as they were typed; Invoke joins them with spaces and so loses their quoting."""
    return tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else ()
