"""A folder of backups: whole or not listed, never more deleted than was written, one run at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from etcdops import atomic
from etcdops.errors import OpsError, Refused
from etcdops.snapshots import store as stores
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.store import CROWD, FolderStore, workspace
from tests.unit.snapshots import config, manifest, put

DATA = os.urandom(3 << 20) + b"end"
NAME = "prod-20261122T200000Z-r36"


def quiet(name: str, done: int, total: int) -> None:
    """No bar."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return put(tmp_path / "snapshot", DATA)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_added_comes_back(store: FolderStore, folder: Path, source: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    old = store.add(source, manifest(DATA, age=timedelta(days=1)), quiet)
    new = store.add(source, manifest(DATA), lambda *bar: seen.append(bar))
    assert seen[-1] == (NAME, len(DATA), len(DATA))
    assert store.manifests() == [new, old] == [manifest(DATA), manifest(DATA, age=timedelta(days=1))]
    assert store.damaged == []
    target = folder.parent / "fetched" / "x.db"
    store.fetch(new, target, quiet)
    assert target.read_bytes() == DATA
    assert names(target.parent) == ["x.db"]
    store.remove(new)
    store.remove(new)
    assert store.manifests() == [old]
    assert names(folder) == [old.file, f"{old.name}.json"]


def test_files_are_private_whatever_the_umask(store: FolderStore, folder: Path, source: Path) -> None:
    before = os.umask(0)
    try:
        store.add(source, manifest(DATA), quiet)
        store.fetch(manifest(DATA), folder / "x.db", quiet)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_what_waits_in_a_workspace_is_not_copied(store: FolderStore, folder: Path) -> None:
    with workspace(folder) as work:
        source = put(work / "snapshot.db", DATA)
        inode = source.stat().st_ino
        store.add(source, manifest(DATA), quiet)
    assert (folder / f"{NAME}.db").stat().st_ino == inode
    assert names(folder) == [f"{NAME}.db", f"{NAME}.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV])
def test_where_there_are_no_hard_links(
    store: FolderStore, folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vfat, CIFS, sshfs: a copy, and what the disk gives back is compared."""

    def link(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with workspace(folder) as work:
        store.add(put(work / "snapshot.db", DATA), manifest(DATA), quiet)
        with pytest.raises(OpsError):
            store.add(put(work / "changed.db", CHANGED), manifest(DATA, revision=9), quiet)
    assert (folder / f"{NAME}.db").read_bytes() == DATA
    assert names(folder) == [f"{NAME}.db", f"{NAME}.json"]


def test_a_disk_that_fails_at_a_link_is_an_error(
    store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", link)
    with workspace(folder) as work, pytest.raises(OpsError, match="Input/output error"):
        store.add(put(work / "snapshot.db", DATA), manifest(DATA), quiet)
    assert names(folder) == []


def test_a_file_that_goes_while_the_folder_is_read(
    store: FolderStore, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run's part, that has become a backup; whichever is read first."""
    good = store.add(source, manifest(DATA), quiet)
    parts = [put(folder / name, b"") for name in (".a.part", "z.part")]
    scan = os.scandir

    @contextmanager
    def gone(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scan(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for part in parts:
            part.unlink()
        yield found

    monkeypatch.setattr(os, "scandir", gone)
    assert store.manifests() == [good]


def test_nothing_there_yet(store: FolderStore, folder: Path) -> None:
    assert store.manifests() == []
    assert not folder.exists()


def test_not_a_folder(tmp_path: Path) -> None:
    store = FolderStore(put(tmp_path / "file", b""))
    with pytest.raises(OpsError, match="file: cannot be read: Not a directory"):
        store.manifests()


SHORT, LONG, CHANGED = DATA[:-1], DATA + b"x", DATA[:-1] + b"X"


# What lies in a workspace was proven a moment ago; it is not read a second time.
@pytest.mark.parametrize(
    ("place", "data"),
    [("backups", SHORT), ("backups", LONG), ("other", SHORT), ("other", LONG), ("other", CHANGED), ("other", b"")],
)
def test_what_is_not_as_the_manifest_says_is_not_taken(
    store: FolderStore, folder: Path, tmp_path: Path, place: str, data: bytes
) -> None:
    with workspace(tmp_path / place) as work, pytest.raises(OpsError):
        store.add(put(work / "snapshot", data), manifest(DATA), quiet)
    assert names(folder) == []


def test_a_full_disk_leaves_nothing(
    store: FolderStore, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = store.add(source, manifest(DATA, age=timedelta(days=1)), quiet)
    before = names(folder)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OpsError, match="No space left on device"):
        patch.setattr(stores.os, "fsync", full)
        store.add(source, manifest(DATA), quiet)
    assert names(folder) == before
    assert store.manifests() == [good]


def test_what_the_disk_gives_back_counts(
    store: FolderStore, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rot(handle: int, *rest: int) -> None:
        os.pwrite(handle, b"?", 5)

    monkeypatch.setattr(stores.os, "posix_fadvise", rot)
    with pytest.raises(OpsError, match="gives back other bytes than were written"):
        store.add(source, manifest(DATA), quiet)
    assert names(folder) == []


class Killed(BaseException):
    """A power cut: nothing of ours runs any more."""


def die_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The process ends at the ``step``-th rename or sync; what would tidy up does not run."""
    left = [step]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*given: object, **named: object) -> object:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return call(*given, **named)

        return wrapper

    patch.setattr(Path, "replace", counted(Path.replace))
    patch.setattr(stores.os, "fsync", counted(os.fsync))
    patch.setattr(FolderStore, "_tidy", lambda self: None)


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_point(
    store: FolderStore, folder: Path, source: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is listed, or the whole backup; and the next run leaves no trace of it."""
    store.add(source, manifest(DATA, age=timedelta(days=2)), quiet)
    killed = manifest(DATA, age=timedelta(days=1))
    with monkeypatch.context() as patch:
        die_at(patch, step)
        with suppress(Killed):
            store.add(source, killed, quiet)
    whole = killed in store.manifests()
    assert whole == (step >= 4)
    store.add(source, manifest(DATA), quiet)
    assert len(store.manifests()) == 3 - (not whole)
    assert store.damaged == []
    assert len(names(folder)) == 2 * len(store.manifests())


def test_a_fetch_proves_what_it_writes(store: FolderStore, folder: Path, source: Path) -> None:
    stored = store.add(source, manifest(DATA), quiet)
    target = folder.parent / "x.db"
    for data, said in {
        DATA[:-1] + b"X": "is damaged: its SHA-256 is ",
        DATA[:-1]: f"has {len(DATA) - 1} bytes instead of {len(DATA)}",
    }.items():
        put(folder / stored.file, data)
        with pytest.raises(OpsError, match=f"{stored.file}: {said}"):
            store.fetch(stored, target, quiet)
        assert names(folder.parent) == ["backups", "snapshot"]
    (folder / stored.file).unlink()
    with pytest.raises(OpsError, match=r"cannot be read: No such file"):
        store.fetch(stored, target, quiet)


def test_what_is_no_whole_backup(store: FolderStore, folder: Path, source: Path) -> None:
    good = store.add(source, manifest(DATA), quiet)
    other = manifest(DATA, age=timedelta(days=1))
    files = {
        "short": (manifest(DATA, revision=1), DATA[:9]),
        "gone": (manifest(DATA, revision=2), None),
    }
    for known, data in files.values():
        put(folder / f"{known.name}.json", known.dump())
        if data is not None:
            put(folder / known.file, data)
    put(folder / other.file, DATA)
    put(folder / "prod-20261122T200000Z-r4.json", b"{}")
    put(folder / "prod-20261122T200000Z-r5.json", other.dump())
    put(folder / "prod-20261122T200000Z-r6.json", bytes(2 << 20))
    for name in ("notes.txt", "other.json", "snapshot.db", ".work-1", "prod-20261122T200000Z-r9.json.old"):
        put(folder / name, b"mine")
    (folder / "prod-20261122T200000Z-r7.json").mkdir()
    before = names(folder)
    assert store.manifests() == [good]
    assert [line.partition(": ")[0] for line in store.damaged] == [
        other.file,
        "prod-20261122T200000Z-r1.db",
        "prod-20261122T200000Z-r2.json",
        "prod-20261122T200000Z-r4.json",
        "prod-20261122T200000Z-r5.json",
        "prod-20261122T200000Z-r6.json",
    ]
    store.remove(good)
    assert names(folder) == [name for name in before if not name.startswith(NAME)]


def test_the_same_name_twice(store: FolderStore, source: Path) -> None:
    store.add(source, manifest(DATA), quiet)
    for _ in range(CROWD - 1):
        store.add(source, manifest(DATA, member="etcd02"), quiet)
    assert [each.member for each in store.manifests()] == ["etcd02"] * (CROWD - 1) + ["etcd01"]
    with pytest.raises(OpsError, match="are taken"):
        store.add(source, manifest(DATA), quiet)


def test_two_backups_that_come_in_at_once_wait_for_each_other(
    store: FolderStore, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as other:
        folder.mkdir(exist_ok=True)
        other.enter_context(atomic.locked(folder))
        monkeypatch.setattr("etcdops.atomic.time.sleep", lambda seconds: other.close())
        store.add(source, manifest(DATA), quiet)
    assert len(store.manifests()) == 1


def test_one_run_at_a_time(store: FolderStore, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdops.snapshots.store.TURN", 0.2)
    stored = store.add(source, manifest(DATA), quiet)
    with atomic.locked(folder):
        for change in (lambda: store.remove(stored), lambda: store.add(source, manifest(DATA, revision=9), quiet)):
            with pytest.raises(Refused, match="another run is writing here"):
                change()
        assert store.manifests() == [stored]


def test_a_workspace_is_private_and_goes(folder: Path) -> None:
    killed = folder / ".work-killed"
    killed.mkdir(parents=True)
    put(killed / "snapshot.db", DATA)
    with workspace(folder) as alive, workspace(folder) as work:
        assert not killed.exists()
        assert alive.is_dir()
        assert work.stat().st_mode & 0o777 == 0o700
        put(work / "x", DATA)
    assert names(folder) == []


def test_the_store_of_the_configuration(tmp_path: Path, source: Path) -> None:
    with open_store(config(tmp_path, dir="b/c")) as store:
        assert store.where == str(tmp_path / "b/c")
        stored: Manifest = store.add(source, manifest(DATA), quiet)
        assert store.manifests() == [stored]
    shutil.rmtree(tmp_path / "b")
