"""Writing files on this machine so that nobody ever sees half of one, and no key is readable even for a moment."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etcdops.errors import OpsError, Refused


@dataclass(frozen=True)
class NewFile:
    """A file to write; ``mode`` is exact, whatever the umask.  ``owner``: its user and group, where it has some."""

    path: Path
    data: bytes = field(repr=False)
    mode: int
    owner: tuple[int, int] | None = None


def staged(path: Path) -> Path:
    """Where the new content of ``path`` waits for its rename; after a kill it may still stand there."""
    return path.with_name(f".{path.name}.new")


def write(files: Sequence[NewFile]) -> None:
    """Put ``files`` in place, in this order, each by one rename.

    All are on the disk before the first is renamed, so that a full disk (``OpsError``) leaves nothing behind.
    A kill between two renames leaves the later ones staged.  Callers hold ``locked`` on the folder.
    """
    waiting: list[Path] = []
    try:
        for file in files:
            private_folder(file.path.parent)
            waiting.append(staged(file.path))
            _stage(file)
        _sync_folders(files)
    except BaseException as error:
        for path in waiting:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _failed(waiting[-1] if waiting else files[0].path, error) from None
        raise
    try:
        for file in files:
            staged(file.path).replace(file.path)
        _sync_folders(files)
    except OSError as error:
        raise _failed(file.path, error) from None


def move(path: Path, to: Path) -> None:
    """Give ``path`` another name, for good; a file that has it makes way."""
    try:
        path.replace(to)
        sync(to.parent)
        sync(path.parent)
    except OSError as error:
        raise _failed(to, error) from None


def remove(path: Path) -> None:
    """Have ``path`` be there no more."""
    try:
        path.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        raise _failed(path, error) from None


def private_folder(path: Path) -> None:
    """Make ``path``, and whatever is missing above it, for its owner alone; leave what is there as it is."""
    if path.is_dir():
        return
    private_folder(path.parent)
    try:
        path.mkdir(0o700)
        path.chmod(0o700)
        sync(path.parent)
    except OSError as error:
        raise _failed(path, error) from None


def tighten(path: Path) -> None:
    """Leave a private file, which somebody put there, to its owner alone."""
    try:
        path.chmod(0o600)
    except OSError as error:
        raise _failed(path, error) from None


@contextmanager
def locked(folder: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` for one run at a time; ``Refused`` if another has it for ``seconds`` more.  A killed run holds
    nothing."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _failed(folder, error) from None
    until = time.monotonic() + seconds
    try:
        while not _held(handle):
            if time.monotonic() >= until:
                raise Refused(f"{folder}: another run is writing here", hint="let it end, then run this again")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stage(file: NewFile) -> None:
    path = staged(file.path)
    path.unlink(missing_ok=True)  # a killed run's
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        if file.owner:
            os.fchown(handle, *file.owner)  # before the mode: it takes set-id bits away
        os.fchmod(handle, file.mode)
        stream.write(file.data)
        stream.flush()
        os.fsync(handle)


def _sync_folders(files: Sequence[NewFile]) -> None:
    for folder in dict.fromkeys(file.path.parent for file in files):
        sync(folder)


def _failed(path: Path, error: OSError) -> OpsError:
    return OpsError(f"{path}: cannot be written: {error.strerror or error}", hint="mend that and run this again")
