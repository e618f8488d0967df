"""Where backups are kept: what every store can do, and the one that is a folder of this machine.

A backup is two files, NAME.db (NAME.db.age when encrypted) and NAME.json, its manifest.  The manifest is put last and
removed first: what has none is no backup.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from etcdops import atomic
from etcdops.errors import HostError, OpsError
from etcdops.snapshots.manifest import FILE, LARGEST, Manifest

WORK = ".work-"
OTHER = "take another backup; inv snapshot.list"
CHUNK = 1 << 20  # bytes; memory is flat whatever the size of a snapshot
CROWD = 60  # backups of one revision within as many seconds; more is a loop that somebody forgot
TURN = 60.0  # seconds that one may take to put its backup in place; a copy to another disk may take long
LINKLESS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)  # vfat; CIFS; sshfs; one mount in another
Progress = Callable[[str, int, int], None]  # name, bytes done, bytes in all: as Reporter.transfer yields it


class Store(Protocol):
    """Keeps backups.  What goes wrong is an ``OpsError`` that names ``where``; nothing half-written is ever listed."""

    where: str  # for people: a folder, s3://bucket/prefix, sftp://host/path
    damaged: list[str]  # what the last `manifests` found and passed over, and why

    def manifests(self) -> list[Manifest]:
        """Every backup there, of any cluster, newest first.  Files that no store wrote are passed over in silence."""

    def add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        """Store ``source``, a file that was proven and that nobody changes any more; prove that it arrived whole.

        It is the file that ``manifest.stored_size`` and ``stored_sha256`` are of.  What is returned is in the store:
        the same, but for its time where its name was taken (``unclaimed``).
        """

    def fetch(self, manifest: Manifest, target: Path, progress: Progress) -> None:
        """Write the snapshot to ``target`` (0600), which is there only when whole and as ``manifest`` says."""

    def remove(self, manifest: Manifest) -> None:
        """Delete a backup; one that has gone already is no error."""

    def close(self) -> None:
        """Close connections."""


def sort_out(files: Mapping[str, int], read: Callable[[str], bytes]) -> tuple[list[Manifest], list[str]]:
    """Which of a store's ``files`` (name to size in bytes) are backups, newest first, and what is wrong with others.

    ``read`` gives the content of a small file.  Names that are not of our form are not looked at.
    """
    found: list[Manifest] = []
    damaged: list[str] = []
    for name in sorted(files):
        form = FILE.fullmatch(name)
        if not form:
            continue
        if form["kind"] != "json":
            if f"{form['name']}.json" not in files:
                damaged.append(f"{name}: has no manifest, so it is no backup: a killed run's, or its manifest was lost")
            continue
        try:
            found.append(_checked(name, files, read))
        except HostError:  # the store's own trouble: it says nothing about the file
            raise
        except OpsError as error:
            damaged.append(error.message)
    return sorted(found, key=lambda each: (each.taken, each.revision), reverse=True), damaged


def _checked(name: str, files: Mapping[str, int], read: Callable[[str], bytes]) -> Manifest:
    if files[name] > LARGEST:
        raise OpsError(f"{name}: is too large for a manifest")
    manifest = Manifest.load(read(name), name)
    if f"{manifest.name}.json" != name:
        raise OpsError(f"{name}: is the manifest of {manifest.name}")
    if manifest.file not in files:
        raise OpsError(f"{name}: {manifest.file} is missing")
    if files[manifest.file] != manifest.stored_size:
        raise OpsError(f"{manifest.file}: has {files[manifest.file]} bytes instead of {manifest.stored_size}")
    return manifest


def unclaimed(manifest: Manifest, is_taken: Callable[[Manifest], bool]) -> Manifest:
    """``manifest`` under a name that is free: names have seconds, so of two backups in one the later moves on by one.

    ``is_taken`` says whether the name of a manifest is another backup's.
    """
    for second in range(CROWD):
        moved = manifest.model_copy(update={"taken": manifest.taken + timedelta(seconds=second)})
        if not is_taken(moved):
            return moved
    raise OpsError(f"{manifest.name}: this name and those of the {CROWD} seconds from there on are taken")


def receive(chunks: Iterable[bytes], manifest: Manifest, target: Path, progress: Progress) -> None:
    """Write ``chunks`` to ``target`` (0600), which is there only when its size and SHA-256 are as ``manifest`` says."""
    part = target.with_name(f".{target.name}.part")
    atomic.private_folder(target.parent)
    try:
        part.unlink(missing_ok=True)  # a killed run's
        with create(part) as stream:
            _pour(chunks, manifest, stream, progress)
        part.replace(target)
        atomic.sync(target.parent)
    except OSError as error:
        raise failed(target, "written", error) from None
    finally:
        part.unlink(missing_ok=True)


def create(path: Path) -> BinaryIO:
    """A new file for its owner alone, from its first moment."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def chunks_of(path: Path) -> Iterator[bytes]:
    """The content of a file of this machine, piece by piece."""
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except OSError as error:
        raise failed(path, "read", error) from None


def failed(path: Path, what: str, error: OSError) -> OpsError:
    """``path`` could not be ``what``: read or written."""
    return OpsError(f"{path}: cannot be {what}: {error.strerror or error}", hint="mend that and run this again")


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A private folder in ``folder`` for one run, on the same disk.  It is gone afterwards; a killed run's goes now."""
    atomic.private_folder(folder)
    for old in folder.glob(f"{WORK}*"):
        with suppress(OpsError), atomic.locked(old):  # held: its run is alive
            shutil.rmtree(old, ignore_errors=True)
    try:
        own = Path(tempfile.mkdtemp(prefix=WORK, dir=folder))
    except OSError as error:
        raise failed(folder, "written", error) from None
    try:
        with atomic.locked(own):
            yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


class FolderStore:
    """A folder of this machine, its owner's alone if we make it.  One run at a time writes there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = str(folder)
        self.damaged: list[str] = []

    def manifests(self) -> list[Manifest]:
        files: dict[str, int] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # gone meanwhile, such as a part that became a backup
                        if entry.is_file():
                            files[entry.name] = entry.stat().st_size
        except FileNotFoundError:
            pass
        except OSError as error:
            raise failed(self._folder, "read", error) from None
        found, self.damaged = sort_out(files, lambda name: b"".join(chunks_of(self._folder / name)))
        return found

    def add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        atomic.private_folder(self._folder)
        with atomic.locked(self._folder, TURN):  # of two backups that come in at once, neither is to fail for it
            self._tidy()
            manifest = unclaimed(manifest, lambda each: self._files(each)[1].exists())
            target, document = self._files(manifest)
            try:
                self._take(source, manifest, _part(target), progress)
                with create(_part(document)) as stream:
                    stream.write(manifest.dump())
                    stream.flush()
                    os.fsync(stream.fileno())
                _part(target).replace(target)
                _part(document).replace(document)
                atomic.sync(self._folder)
            except BaseException as error:
                self._tidy()
                if isinstance(error, OSError):
                    raise failed(target, "written", error) from None
                raise
        return manifest

    def fetch(self, manifest: Manifest, target: Path, progress: Progress) -> None:
        receive(chunks_of(self._folder / manifest.file), manifest, target, progress)

    def remove(self, manifest: Manifest) -> None:
        target, document = self._files(manifest)
        try:
            with atomic.locked(self._folder):
                self._tidy()
                if document.exists():
                    document.replace(_part(document))
                    self._tidy()
                    atomic.sync(self._folder)
        except OSError as error:
            raise failed(target, "removed", error) from None

    def close(self) -> None:
        """Nothing is open."""

    def _files(self, manifest: Manifest) -> tuple[Path, Path]:
        return self._folder / manifest.file, self._folder / f"{manifest.name}.json"

    def _take(self, source: Path, manifest: Manifest, part: Path, progress: Progress) -> None:
        """Bring ``source`` into the folder under a name that no one takes for a backup."""
        if self._folder in source.parents and _linked(source, part):  # a workspace of ours: without a second copy
            part.chmod(0o600)
            if part.stat().st_size != manifest.stored_size:
                raise OpsError(f"{source}: has {part.stat().st_size} bytes instead of {manifest.stored_size}")
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            progress(manifest.name, manifest.stored_size, manifest.stored_size)
            return
        with create(part) as stream:
            _pour(chunks_of(source), manifest, stream, progress)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what is read next comes from the disk
        if _sha256(chunks_of(part)) != manifest.stored_sha256:
            raise OpsError(f"{part.parent}: gives back other bytes than were written", hint="look at that disk: dmesg")

    def _tidy(self) -> None:
        """Remove what a killed run left, and nothing else: its manifest that waits says which files are its own."""
        for part in self._folder.glob(".*.part"):
            form = FILE.fullmatch(part.name.removeprefix(".").removesuffix(".part"))
            if form and form["kind"] == "json" and not (self._folder / f"{form['name']}.json").exists():
                for kind in ("db", "db.age"):
                    (self._folder / f"{form['name']}.{kind}").unlink(missing_ok=True)
            if form:
                part.unlink(missing_ok=True)


def _linked(source: Path, target: Path) -> bool:
    """Make ``target`` another name of the file ``source``; False where the file system knows no hard links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in LINKLESS:
            return False
        raise
    return True


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def whole(chunks: Iterable[bytes], manifest: Manifest, progress: Progress) -> Iterator[bytes]:
    """``chunks`` as they are; after the last one ``OpsError`` unless they were what ``manifest`` says is stored."""
    digest = hashlib.sha256()
    done = 0
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
        done += len(chunk)
        progress(manifest.name, done, manifest.stored_size)
    if done != manifest.stored_size:
        raise OpsError(f"{manifest.file}: has {done} bytes instead of {manifest.stored_size}", hint=OTHER)
    if digest.hexdigest() != manifest.stored_sha256:
        what = f"its SHA-256 is {digest.hexdigest()}, not {manifest.stored_sha256}"
        raise OpsError(f"{manifest.file}: is damaged: {what}", hint=OTHER)


def _pour(chunks: Iterable[bytes], manifest: Manifest, stream: BinaryIO, progress: Progress) -> None:
    """Write ``chunks`` and see them on the disk; ``OpsError`` unless they are what ``manifest`` says is stored."""
    for chunk in whole(chunks, manifest, progress):
        stream.write(chunk)
    stream.flush()
    os.fsync(stream.fileno())


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
