"""A network and mounts that nobody else on this machine sees, for this thread and all that it starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

CLONE_FS, CLONE_NEWNS, CLONE_NEWNET = 0x00000200, 0x00020000, 0x40000000
KINDS = {"net": CLONE_NEWNET, "mnt": CLONE_NEWNS}
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Two of the kernel's namespaces, and the ones that this thread was in before.

    Other threads stay where they are: pytest-xdist has one in each of its workers.
    """

    def __init__(self) -> None:
        self._outside = _handles()
        _check(_libc.unshare(CLONE_FS | CLONE_NEWNET | CLONE_NEWNS))
        self._inside = _handles()
        Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
        for argv in (
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn"],  # hosts of the same name may be up outside
            ["ip", "link", "set", "lo", "up"],
        ):
            subprocess.run(argv, check=True)
        _entered.append(self)

    def go_out(self) -> None:
        """To where this machine's network is."""
        _switch(self._outside)

    def go_in(self) -> None:
        """Back."""
        _switch(self._inside)

    def close(self) -> None:
        """Go out for good."""
        self.go_out()
        _entered.remove(self)
        for handle in (*self._outside.values(), *self._inside.values()):
            os.close(handle)


_entered: list[Namespaces] = []  # one within the other


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Out where this machine's network is, from wherever this thread is."""
    if not _entered:
        yield
        return
    _entered[0].go_out()
    try:
        yield
    finally:
        _entered[-1].go_in()


def _handles() -> dict[str, int]:
    return {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in KINDS}


def _switch(handles: dict[str, int]) -> None:
    folder = Path.cwd()
    _check(_libc.unshare(CLONE_FS))  # the kernel changes the mounts of no thread that shares its folder with another
    for kind, handle in handles.items():
        _check(_libc.setns(handle, KINDS[kind]))
    os.chdir(folder)


def _check(result: int) -> None:
    assert result == 0, os.strerror(ctypes.get_errno())
