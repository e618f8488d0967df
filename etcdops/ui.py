"""What the operator sees: results on stdout, progress and errors on stderr, JSON with nothing around it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from etcdops.errors import HostsFailed, OpsError, Refused

LARGE = 5 << 20  # bytes; a bar for less would only flicker


class Reporter:
    """One for each run; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tap: Callable[[str], None] = lambda text: None  # hears every line, but for tables and documents

    def step(self, title: str) -> None:
        """The title of what comes next."""
        self._say(f"==> {title}")

    def line(self, text: str) -> None:
        """A detail below the title."""
        self._say(f"    {text}")

    def changes(self, by_host: Mapping[str, Sequence[object]]) -> None:
        """What is to be done on each host; lines that several hosts share are shown once."""
        for line in grouped(by_host):
            self.line(line)

    def warn(self, text: str) -> None:
        """Something that the operator should know and that stops nothing."""
        self._say(f"warning: {text}")

    def error(self, error: OpsError) -> None:
        """An expected error: a line each for what went wrong, with what to do next."""
        for line in error_lines(error):
            self._say(line)

    def result(self, text: str) -> None:
        """A line of the result."""
        self.tap(text)
        print(printable(text), flush=True)  # noqa: T201

    def json(self, value: Any) -> None:
        """The result as one JSON document."""
        print(json.dumps(value, indent=2), flush=True)  # noqa: T201

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The result as a table."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for column in columns:  # on a narrow terminal the last one, which explains, gives way: names must stay whole
            table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        # Not a terminal: nobody folds the lines, so the table takes the width it needs.
        width = None if sys.stdout.isatty() else 400
        Console(file=sys.stdout, highlight=False, width=width).print(table)

    @contextmanager
    def transfer(self, title: str) -> Iterator[Callable[[str, int, int], None]]:
        """A bar for each of several transfers, where stderr is a terminal; yields ``advance(name, done, total)``."""
        if not sys.stderr.isatty():
            yield lambda name, done, total: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        bars: dict[str, Any] = {}
        columns = (TextColumn("    {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

            def advance(name: str, done: int, total: int) -> None:
                with self._lock:
                    if name not in bars and total >= LARGE:
                        bars[name] = progress.add_task(f"{title} {name}", total=total)
                if name in bars:
                    progress.update(bars[name], completed=done)

            yield advance

    def _say(self, text: str) -> None:
        self.tap(text)
        with self._lock:
            print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


class Lasting:
    """A stream that fails nobody: once it cannot be written any more, all that is written goes nowhere.

    Its reader has gone (BrokenPipeError), so has its terminal (EIO), the disk is full (ENOSPC), or it is ``None``: it
    was closed from the beginning.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """How much was written, or has no one to go to."""
        try:
            return self._stream.write(text)
        except OSError:
            to_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        """Mostly only here it shows that it cannot be written."""
        try:
            self._stream.flush()
        except OSError:
            to_nowhere(self._stream)


@contextmanager
def lasting() -> Iterator[None]:
    """Meanwhile neither stdout nor stderr ends the run, such as when Ctrl-C also ends `| tee log`.

    For what changes something: to stop in the middle of it is worse than not to be heard.  All that writes to them is
    included, rich as well.
    """
    with (
        redirect_stdout(cast(TextIO, Lasting(sys.stdout))),
        redirect_stderr(cast(TextIO, Lasting(sys.stderr))),
    ):
        yield


def to_nowhere(stream: TextIO) -> None:
    """What ``stream`` writes from now on, and what is still in its buffer, has no one to go to."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def printable(text: str) -> str:
    """``text`` without what would command the terminal or break a line; it may be a host's or anybody's."""
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # as os.fsdecode, back
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in whole
    )


def grouped(by_host: Mapping[str, Sequence[object]]) -> list[str]:
    """``HOSTS  LINE`` for every line, in order, with all hosts that have it."""
    hosts: dict[str, list[str]] = {}
    for host, lines in by_host.items():
        for line in lines:
            hosts.setdefault(str(line), []).append(host)
    width = max((len(" ".join(names)) for names in hosts.values()), default=0)
    return [f"{' '.join(names):<{width}}  {line}" for line, names in hosts.items()]


def error_lines(error: OpsError) -> list[str]:
    """An error as the lines that are shown: one for each thing that went wrong."""
    if isinstance(error, Refused) and error.findings:
        return [*_by_trouble("refused", error.findings), f"refused: {error}"]
    if isinstance(error, HostsFailed):
        lines = _by_trouble("error", error.errors)
        return lines + ([f"error: {error}; {error.hint}"] if error.hint else [])
    return [_one_line("refused" if isinstance(error, Refused) else "error", error)]


def _by_trouble(kind: str, errors: Sequence[OpsError]) -> list[str]:
    """A line for each trouble, with all hosts that have it."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        hosts.setdefault((error.message, error.hint), []).append(error.host)
    return [
        _one_line(kind, OpsError(message, hint=hint, host=", ".join(filter(None, names))))
        for (message, hint), names in hosts.items()
    ]


def _one_line(kind: str, error: OpsError) -> str:
    lines = printable(str(error)).split("\n")
    text = "\n".join(f"{kind}: {line}" for line in lines)
    return f"{text}; {error.hint}" if error.hint else text
