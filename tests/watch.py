"""Sees every file that is opened below some mounts, and who opens it, while a block runs: fanotify(7).

Each open waits for our answer (FAN_OPEN_PERM), so nothing is missed between two looks: a file is seen in the very mode
that it is made with, under whatever name, and a command with the arguments and the environment that it was started
with, for the loader opens libc.  The watch is a process of its own (this file), which itself opens nothing there:
an open of its own would wait for ever.  It ends with its standard input, and so with whoever began it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

CLASS_CONTENT, CLOEXEC, UNLIMITED_QUEUE = 0x4, 0x1, 0x10
ADD, MOUNT, FILESYSTEM = 0x1, 0x10, 0x100
OPEN_PERM, CLOSE_WRITE, ALLOW = 0x10000, 0x8, 0x1
EVENT = struct.Struct("=IBBHQii")  # fanotify_event_metadata: length, version, -, -, mask, descriptor, pid
ANSWER = struct.Struct("=iI")
HEAD = 1 << 16  # bytes of a file in which a key must begin to be found
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
LONGEST = 1200  # seconds: a watch that hangs must not hold up those who wait for it for ever


@dataclass(frozen=True)
class Seen:
    """A file as it was at one open, or at the close of what was written; ``secret``: it held a private key."""

    path: str
    mode: int
    owner: int
    secret: bool


class Watch:
    """``files``, ``commands`` and ``environments`` (bytes, parted by NUL) once the block has ended.

    ``hosts``: the process numbers of their inits; all that they have on disk or in memory is watched, in whatever mount
    namespace of theirs.  ``folders`` are of this machine: their mounts, as this mount namespace has them.
    """

    def __init__(self, hosts: Iterable[int] = (), folders: Iterable[Path] = ()) -> None:
        self._marks = [mark for pid in hosts for mark in _marks(pid)]
        self._marks += [f"{MOUNT}:{folder}" for folder in folders]
        self.files: set[Seen] = set()
        self.commands: set[bytes] = set()
        self.environments: set[bytes] = set()

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-S", __file__, *self._marks], stdin=pipe, stdout=pipe)
        assert self._process.stdout
        assert self._process.stdout.readline() == b"watching\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        found = json.loads(out)
        self.files = {Seen(*each) for each in found["files"]}
        self.commands = {each.encode("latin-1") for each in found["commands"]}
        self.environments = {each.encode("latin-1") for each in found["environments"]}

    def secrets(self) -> dict[str, set[int]]:
        """Each file that held a private key at any time, with every mode that it was seen in, empty or not."""
        paths = {each.path for each in self.files if each.secret}
        return {path: {each.mode for each in self.files if each.path == path} for path in sorted(paths)}


def _marks(pid: int) -> list[str]:
    """What keeps something of a host: its disk, whoever looks at it, and what its own mounts have in memory.

    Never a disk of this machine, some of which is mounted there, too: all of its processes would wait for us, and so
    would we, since an overlay opens the file beneath.
    """
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    mounts = [(line.split()[4], line.split(" - ")[1].split()[0]) for line in lines]
    assert ("/", "overlay") in mounts
    memory = [f"{MOUNT}:/proc/{pid}/root{place}" for place, kind in mounts if kind == "tmpfs"]
    return [f"{FILESYSTEM}:/proc/{pid}/root/", *memory]


def main(marks: list[str]) -> None:
    signal.alarm(LONGEST)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
    group = libc.fanotify_init(CLASS_CONTENT | CLOEXEC | UNLIMITED_QUEUE, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE)
    for mark in marks:
        kind, _, path = mark.partition(":")
        if libc.fanotify_mark(group, ADD | int(kind), OPEN_PERM | CLOSE_WRITE, -100, path.encode()):
            raise OSError(ctypes.get_errno(), path)
    os.write(1, b"watching\n")
    files: set[tuple[str, int, int, bool]] = set()
    commands: set[str] = set()
    environments: set[str] = set()
    while True:
        ready = select.select([group, 0], [], [])[0]
        if group not in ready:
            break
        events = os.read(group, 1 << 16)
        at = 0
        while at < len(events):
            length, _, _, _, mask, handle, pid = EVENT.unpack_from(events, at)
            at += length
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode):
                path = os.readlink(f"/proc/self/fd/{handle}")
                secret = KEY.search(os.pread(handle, HEAD, 0)) is not None
                files.add((path, stat.S_IMODE(status.st_mode), status.st_uid, secret))
            commands.add(_read(f"/proc/{pid}/cmdline"))
            environments.add(_read(f"/proc/{pid}/environ"))
            if mask & OPEN_PERM:
                os.write(group, ANSWER.pack(handle, ALLOW))
            os.close(handle)
    json.dump({"files": list(files), "commands": list(commands), "environments": list(environments)}, sys.stdout)


def _read(path: str) -> str:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(handle, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode("latin-1")
    except OSError:  # it has ended
        return ""
    finally:
        os.close(handle)


if __name__ == "__main__":
    main(sys.argv[1:])
