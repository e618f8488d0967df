"""Python loads this by itself where its folder is on PYTHONPATH: it kills ./inv at one exact boundary, or only counts.

A boundary is a command on a host, or a name that changes in a folder of this machine.  ETCDOPS_CRASH_LOG gets a line
for each; ETCDOPS_CRASH_AT is where the process group dies: "before 2 apply.push" is before the second command of that
step, on whatever host, for no two runs look equally often in between; "after" it; or "within 2 0.25 apply.push", so
many seconds after it was begun.  Nothing of it is in the product.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ROOT = os.path.dirname(os.environ.get("ETCDOPS_CONFIG", "/nowhere"))
NAMES = {"os.rename": 1, "os.link": 1, "os.remove": 0}  # events of the interpreter, and which argument is the name
lock = threading.Lock()
count = 0
names: dict[str, int] = {}


def boundary(where: str, what: str) -> tuple[int, bool]:
    """The number of the next one, which is noted; and whether it is the one."""
    global count
    with lock:
        count += 1
        names[what] = names.get(what, 0) + 1
        note(f"{count}\t{where}\t{what}")
        return count, (names[what], what) == at


def note(line: str) -> None:
    os.write(log, f"{line}\n".encode())


def die() -> None:
    os.killpg(0, signal.SIGKILL)
    time.sleep(60)  # until it arrives, nothing else happens on this thread


def caller() -> str:
    """Which step of etcdops has the command run."""
    frame: Any = sys._getframe(1)
    while frame:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("etcdops.") and not module.startswith("etcdops.ssh"):
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_qualname.partition('.<locals>')[0]}"
        frame = frame.f_back
    return "?"


def watched(run: Callable[..., Any]) -> Callable[..., Any]:
    """``Host._run`` with a boundary before and after it."""

    @functools.wraps(run)
    def work(host: Any, script: str, args: tuple[str, ...], *rest: Any) -> Any:
        word = args[0] if args and args[0].isalpha() else ""
        number, here = boundary(host.name, f"{caller()} {word}".rstrip())
        if here and phase == "before":
            die()
        if here and phase == "within":
            threading.Timer(delay, die).start()
        began = time.monotonic()
        try:
            return run(host, script, args, *rest)
        finally:
            note(f"{number}\ttook\t{time.monotonic() - began:.3f}")
            if here and phase == "after":
                die()

    return work


def heard(event: str, arguments: tuple[Any, ...]) -> None:
    """A name in the project's folder is about to change."""
    if event not in NAMES:
        return
    path = (
        os.fsdecode(arguments[NAMES[event]]) if isinstance(arguments[NAMES[event]], str | bytes | os.PathLike) else ""
    )
    if path.startswith(f"{ROOT}/"):
        name = os.path.relpath(path, ROOT).partition("/")[0]  # what is in the folder may have a new name each time
        _, here = boundary("here", f"{event.removeprefix('os.')} {name}")
        if here and phase == "before":
            die()


class Watcher(importlib.abc.MetaPathFinder):
    """Puts ``watched`` into etcdops.ssh.host once that is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "etcdops.ssh.host":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            module.Host._run = watched(module.Host._run)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "ETCDOPS_CRASH_LOG" in os.environ and os.getpgrp() == os.getpid():  # ./inv itself, and no child of it
    log = os.open(os.environ["ETCDOPS_CRASH_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    phase, _, rest = os.environ.get("ETCDOPS_CRASH_AT", "").partition(" ")
    nth, _, what = rest.partition(" ")
    delay, what = (float(what.split()[0]), what.partition(" ")[2]) if phase == "within" else (0.0, what)
    at = (int(nth or 0), what)
    sys.meta_path.insert(0, Watcher())
    sys.addaudithook(heard)
