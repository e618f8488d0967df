"""House rules for Invoke: what a function becomes when it is a task of tasks.py.

Invoke has sharp corners (docs/design.md): a positional argument swallows ``--help``, automatic short flags steal
letters, ``--dry`` runs for real, an exception is a traceback.  This is the only file that knows Invoke.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser import Argument
from invoke.parser.parser import ParseMachine
from invoke.program import Program
from invoke.tasks import Task

from etcdops import __version__, layout
from etcdops.errors import OpsError, UsageError
from etcdops.ui import Reporter, printable

FLAGS = {
    "dry_run": "Show what would change on each host, and change nothing.",
    "yes": "Do not ask for a confirmation.",
    "json": "Print one JSON document.",
    "break_lock": "Take the lock from another run, which ends before its next step.",
}
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

            chosen = {flag: given.pop(flag) for flag in flags}
            breaks = chosen.pop("break_lock", False)
            run = Run(config_path(context), words=_words(), command=shlex.join(["inv", *sys.argv[1:]]), **chosen)
            with boundary(run.ui, run.located, run.interrupted):
                if run.words and not words:
                    raise UsageError(f"{task_.name} takes nothing after --", hint="flags stand before it")
                looks = run.dry_run or given.get("plan", False)  # it changes nothing, and waits for nobody
                with run.changing(_full_name(task_), breaks=breaks) if changes and not looks else closing(run):
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
            _MAY_BE_BARE[task_.name] = may_be_bare
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
            _no_reader()
            raise Exit(code=0) from None


def end(code: int) -> None:
    """End the run with the exit code of a program that ran in its place."""
    if code:
        raise Exit(code=code)


def _no_reader() -> None:
    """The reader of our output has gone (`inv keys | head`): what is still in the buffer has no one to go to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Inv(Program):
    """Invoke with our tasks, our exit codes and our -f; the set-up makes it the ``inv`` of .venv."""

    # Flags for Context.run, which no task uses.  Above all --dry must not pass for --dry-run.
    meaningless = {"command-timeout", "dry", "echo", "hide", "prompt-for-sudo-password", "pty", "warn-only"}

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        """Parse all of the command line, then run the tasks."""
        try:
            self.create_config()
            with self._usage():
                self.parse_core(argv)
                self.parse_collection()
                self.parse_tasks()
                self.parse_cleanup()
            self.update_config()
            self.execute()
        except Exit as end:
            if end.message:
                print(printable(end.message), file=sys.stderr)  # noqa: T201
            sys.exit(end.code)
        except KeyboardInterrupt:
            sys.exit(130)

    @contextmanager
    def _usage(self) -> Iterator[None]:
        """Whatever is wrong with the command line is one line and exit code 2."""
        context = None
        try:
            yield
            return
        except ParseError as error:
            context = error.context
            message = re.sub(r"<Argument: (\S+).*?>", r"--\1", str(error))
        except Exit as error:
            if not error.message:
                raise
            message = error.message
        task_name = context.name if context else ""
        hint = f"inv {task_name} --help" if task_name else "inv --list shows the tasks"
        unknown = re.fullmatch(r"No idea what '(.*)' is!", message)
        if unknown:
            flags = [*self.initial_context.flags, *(context.flags if context else ())]
            names = flags if unknown[1].startswith("-") else self.collection.task_names if self.collection else ()
            meant = close_to(unknown[1], names)
            hint = f"did you mean {', '.join(meant)}? {hint}" if meant else hint
        raise Exit(f"error: {message.rstrip('.!')}; {hint}", code=2)

    def core_args(self) -> list[Argument]:
        """Invoke's own flags, less those that do nothing here."""
        return [argument for argument in super().core_args() if argument.name not in self.meaningless]

    def task_args(self) -> list[Argument]:
        """No other tasks than ours can be loaded."""
        return []

    def load_collection(self) -> None:
        """The tasks of this project, from whatever folder."""
        sys.dont_write_bytecode = False  # Invoke turns it on, and every start would compile the project
        import tasks

        self.collection = tasks.ns

    def update_config(self, merge: bool = True) -> None:
        """-f names our configuration file: Invoke must not take it for its own."""
        self.config.set_runtime_path(self.args.config.value)


def main() -> None:
    """Run the tasks of this project, from whatever folder."""
    try:
        try:
            Inv(name="inv", binary="inv", binary_names=["inv"], version=__version__).run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _no_reader()


def close_to(word: str, names: Iterable[str]) -> list[str]:
    """What someone who wrote ``word`` may have meant: ``names`` that begin with it, else two that are spelt alike."""
    known = {name.lstrip("-"): name for name in sorted(names)}  # dashes alone make no two flags alike
    part = word.lstrip("-")
    meant = [each for each in known if part and each.startswith(part)] or difflib.get_close_matches(part, known, 2)
    return [known[each] for each in meant]


_MAY_BE_BARE: dict[str, str] = {}  # by task
_handle = ParseMachine.handle


def _handle_dash(self: Any, word: str) -> None:
    """A word that begins with a dash is a flag: Invoke would take ``--help`` for a bare argument and run the task."""
    owed = self.context.missing_positional_args if self.context else ()
    if owed and word.startswith("-") and word != "-" and not self.waiting_for_flag_value:
        if word in {"-h", "--help"}:
            self.context.positional_args.clear()  # who asks for help owes no arguments
        elif word in self.initial.flags:
            self.switch_to_flag(word)
            return
        elif word not in self.context.flags and word not in self.context.inverse_flags:
            self.error(f"No idea what {word!r} is!")
    optional = self.context.args.get(_MAY_BE_BARE.get(self.context.name or "", "")) if self.context else None
    if optional and optional.raw_value is None and not self.waiting_for_flag_value and not word.startswith("-"):
        optional.value = word
        return
    try:
        _handle(self, word)
    except ValueError:
        self.error(f"{self.flag} takes a number, not {word!r}")


ParseMachine.handle = _handle_dash  # type: ignore


def config_path(context: Context) -> Path:
    """The configuration file: ``inv -f PATH``, else ETCDOPS_CONFIG, else config.yaml of the project."""
    given = context.config._runtime_path
    if given is None:
        given = os.environ.get("ETCDOPS_CONFIG") or layout.ROOT / "config.yaml"
    return Path(given).absolute()


def _full_name(task_: Task[Any]) -> str:
    """As it is typed: with the collection that it is in."""
    import tasks

    return next((name for name in tasks.ns.task_names if tasks.ns[name] is task_), task_.name)


def _words() -> tuple[str, ...]:
    """The words after ``--`` as they were typed; Invoke joins them with spaces and so loses their quoting."""
    return tuple(sys.argv[sys.argv.index("--") + 1 :]) if "--" in sys.argv else ()
