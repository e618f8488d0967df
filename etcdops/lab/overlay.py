"""The root file system of a host: an overlay whose lower layer all hosts share and never change."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from etcdops.errors import OpsError
from etcdops.lab.process import run

SECONDS = 5  # to wait for what still uses a mount


def mounts_below(folder: Path) -> list[Path]:
    """Where anything is mounted at or below ``folder``, innermost first."""
    points = (entry.split()[4] for entry in Path("/proc/self/mountinfo").read_text().splitlines())
    paths = [Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)) for point in points]
    return [path for path in reversed(paths) if path.is_relative_to(folder.resolve())]


def mount(base: Path, folder: Path) -> None:
    """Mount ``folder/root``: what ``base`` holds, with every change kept in ``folder/upper``."""
    root = folder / "root"
    if mounts_below(root):
        return
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(exist_ok=True)
    layers = f"lowerdir={base},upperdir={folder}/upper,workdir={folder}/work"
    try:
        run(["mount", "-t", "overlay", "-o", layers, "overlay", root])
    except OpsError as error:
        raise OpsError(
            f"cannot mount an overlay at {root}: {error}",
            hint="the kernel needs overlayfs, and the folder must not itself be on an overlay",
        ) from None


def unmount(folder: Path) -> None:
    """Unmount everything below ``folder``; a container that has just ended may hold on for a moment."""
    until = time.monotonic() + SECONDS
    while points := mounts_below(folder):
        try:
            run(["umount", points[0]])
        except OpsError:
            if time.monotonic() > until:
                raise OpsError(
                    f"{points[0]} is still in use",
                    hint=f"leave that folder in your other shells (fuser -vm {points[0]} names them)",
                ) from None
            time.sleep(0.05)


def remove(folder: Path) -> None:
    """Delete ``folder``, and nothing that anyone has mounted in it."""
    if not folder.exists():
        return
    unmount(folder)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OpsError(
            f"cannot delete {error.filename or folder}: {error.strerror}", hint="end what uses it, and try again"
        ) from None
