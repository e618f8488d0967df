"""The program ``inv``: Invoke with our tasks, our exit codes, and its sharp corners taken off.

A positional argument swallows ``--help``, automatic short flags steal letters, ``--dry`` runs for real: docs/design.md.
This file and task.py are the only ones that know Invoke.
"""

from __future__ import annotations

import atexit
import difflib
import gc
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser import Argument
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from etcdops import __version__
from etcdops.task import MAY_BE_BARE, no_reader
from etcdops.ui import printable


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

        for name in tasks.ns.task_names:
            tasks.ns[name].full_name = name  # as it is typed: with the collection that it is in
        self.collection = tasks.ns

    def update_config(self, merge: bool = True) -> None:
        """-f names our configuration file: Invoke must not take it for its own."""
        self.config.set_runtime_path(self.args.config.value)


def main() -> None:
    """Run the tasks of this project, from whatever folder."""
    # Modules are no garbage. To look for it among them, again and again while they come and three times in the end,
    # takes a fifth of a second.
    gc.disable()  # a task enables it
    atexit.register(_end)
    try:
        try:
            Inv(name="inv", binary="inv", binary_names=["inv"], version=__version__).run()
        finally:
            if sys.stdout:  # None where it was closed from the beginning
                sys.stdout.flush()
    except BrokenPipeError:
        no_reader()


def _end() -> None:
    """All has been done and said: who presses Ctrl-C now cannot make a success look like an interrupted run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()


def close_to(word: str, names: Iterable[str]) -> list[str]:
    """What someone who wrote ``word`` may have meant: ``names`` that begin with it, else two that are spelt alike."""
    known = {name.lstrip("-"): name for name in sorted(names)}  # dashes alone make no two flags alike
    part = word.lstrip("-")
    meant = [each for each in known if part and each.startswith(part)] or difflib.get_close_matches(part, known, 2)
    return [known[each] for each in meant]


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
    optional = self.context.args.get(MAY_BE_BARE.get(self.context.name or "", "")) if self.context else None
    if optional and optional.raw_value is None and not self.waiting_for_flag_value and not word.startswith("-"):
        optional.value = word
        return
    try:
        _handle(self, word)
    except ValueError:
        self.error(f"{self.flag} takes a number, not {word!r}")


ParseMachine.handle = _handle_dash  # type: ignore
