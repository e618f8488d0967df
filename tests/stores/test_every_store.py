"""What every store does alike, each against the real thing."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdops.errors import OpsError
from tests.stores.snapshot import TAKEN, make, quiet

if TYPE_CHECKING:
    from etcdops.snapshots.manifest import Manifest
    from tests.stores.conftest import Place

STRANGERS = ("README", "prod.db", "dump-20261122.sql", "prod-20261122T194924Z-r7.db.bak", "notes.json")
OTHERS = {"taken": TAKEN + timedelta(hours=1), "revision": 9}


def names(place: Place) -> set[str]:
    """What is in the store's folder; an S3 server of files has none while it has no objects."""
    return {path.name for path in place.folder.iterdir()} if place.folder.exists() else set()


def test_what_is_added_is_listed_and_comes_back(place: Place, tmp_path: Path) -> None:
    assert place.store.manifests() == []
    source, target = tmp_path / "source", tmp_path / "target"
    manifest, seen = make(source, 20_000_003), []
    added = place.store.add(source, manifest, lambda name, done, total: seen.append((name, done, total)))
    assert seen[-1][0] == manifest.name
    assert seen[-1][1] == seen[-1][2] >= manifest.size
    (listed,) = place.store.manifests()
    assert added == listed
    encrypted = {"encrypted", "stored_size", "stored_sha256"} if listed.encrypted else set()
    assert listed.model_dump(exclude=encrypted) == manifest.model_dump(exclude=encrypted)
    assert names(place) == {f"{manifest.name}.json", listed.file}
    assert (place.folder / listed.file).stat().st_size == listed.stored_size
    place.store.fetch(listed, target, quiet)
    assert target.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_newest_is_first_and_removing_one_leaves_the_rest(place: Place, tmp_path: Path) -> None:
    first, second = make(tmp_path / "one", 100), make(tmp_path / "two", 200, **OTHERS)
    place.store.add(tmp_path / "one", first, quiet)
    place.store.add(tmp_path / "two", second, quiet)
    newest, oldest = place.store.manifests()
    assert [newest.name, oldest.name] == [second.name, first.name]
    place.store.remove(newest)
    place.store.remove(newest)
    assert place.store.manifests() == [oldest]
    assert names(place) == {oldest.file, f"{oldest.name}.json"}


def test_what_others_keep_there_is_neither_listed_nor_deleted(place: Place, tmp_path: Path) -> None:
    place.folder.mkdir(exist_ok=True, mode=0o700)
    for name in STRANGERS:
        (place.folder / name).write_bytes(b"theirs")
    (place.folder / "prod-20261122T194924Z-r7.db.d").mkdir()
    (place.folder / "prod-20261122T194924Z-r7.db.d" / "file").write_bytes(b"theirs")
    before = names(place)
    manifest = make(tmp_path / "source", 100)
    place.store.add(tmp_path / "source", manifest, quiet)
    (listed,) = place.store.manifests()
    assert place.store.damaged == []
    place.store.remove(listed)
    assert names(place) == before
    assert all((place.folder / name).read_bytes() == b"theirs" for name in STRANGERS)


@pytest.mark.parametrize("harm", ["a flipped bit", "cut short", "gone"])
def test_a_damaged_file_is_found_and_not_left_behind(place: Place, tmp_path: Path, harm: str) -> None:
    place.store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    (listed,) = place.store.manifests()
    file = place.folder / listed.file
    data = bytearray(file.read_bytes())
    data[150_000] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data if harm == "a flipped bit" else data[:-1])
    with pytest.raises(OpsError) as caught:
        place.store.fetch(listed, tmp_path / "target", quiet)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir() if "target" in path.name] == []
    found = place.store.manifests()
    assert found == ([listed] if harm == "a flipped bit" else [])
    assert len(place.store.damaged) == (harm != "a flipped bit")


@pytest.mark.parametrize("place", ["folder", "s3", "sftp"], indirect=True)
def test_a_file_that_is_not_what_was_proven_is_not_stored(place: Place, tmp_path: Path) -> None:
    manifest = make(tmp_path / "source")
    for wrong in ({"stored_sha256": "0" * 64}, {"stored_size": manifest.size + 1}):
        with pytest.raises(OpsError):
            place.store.add(tmp_path / "source", manifest.model_copy(update=wrong), quiet)
        assert place.store.manifests() == place.store.damaged == []
        assert names(place) == set()


def test_nothing_is_overwritten(place: Place, tmp_path: Path) -> None:
    manifest = make(tmp_path / "source", 100)
    first = place.store.add(tmp_path / "source", manifest, quiet)
    before = {name: (place.folder / name).read_bytes() for name in names(place)}
    second = place.store.add(tmp_path / "source", make(tmp_path / "source", 101), quiet)
    assert {name: (place.folder / name).read_bytes() for name in before} == before
    assert place.store.manifests() == [second, first]
    assert second.taken - first.taken == timedelta(seconds=1)


@pytest.mark.parametrize("place", ["sftp", "sftp-only", "age-sftp"], indirect=True)
def test_two_machines_in_the_same_second(place: Place, tmp_path: Path) -> None:
    """Of one revision, so of one name; each from another member, so of other bytes.  A folder has its lock."""
    mine, theirs = make(tmp_path / "mine", 20_000_003), make(tmp_path / "theirs", 300_001, member="etcd02")
    added: list[Manifest] = []

    def meanwhile(name: str, done: int, total: int) -> None:
        if not added and done > 10_000_000:
            added.append(theirs)  # not once more, by its own progress
            added[:] = [place.store.add(tmp_path / "theirs", theirs, quiet)]

    added.append(place.store.add(tmp_path / "mine", mine, meanwhile))
    assert place.store.manifests() == sorted(added, key=lambda each: each.taken, reverse=True)
    assert {each.taken - TAKEN for each in added} == {timedelta(0), timedelta(seconds=1)}
    assert len(names(place)) == 4
    for source, each in zip(("theirs", "mine"), added, strict=True):
        place.store.fetch(each, tmp_path / "target", quiet)
        assert (tmp_path / "target").read_bytes() == (tmp_path / source).read_bytes()


@pytest.mark.parametrize("place", ["sftp"], indirect=True)
def test_who_fails_takes_nothing_of_the_others_along(place: Place, tmp_path: Path) -> None:
    mine, theirs = make(tmp_path / "mine"), make(tmp_path / "theirs", 100, member="etcd02")
    added: list[Manifest] = []

    def interrupt(name: str, done: int, total: int) -> None:
        added.append(place.store.add(tmp_path / "theirs", theirs, quiet))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.store.add(tmp_path / "mine", mine, interrupt)
    assert place.store.manifests() == added
    assert names(place) == {added[0].file, f"{added[0].name}.json"}


def test_ctrl_c_leaves_nothing_half_written(place: Place, tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    manifest = make(tmp_path / "source", 20_000_000)
    with pytest.raises(KeyboardInterrupt):
        place.store.add(tmp_path / "source", manifest, interrupt)
    assert place.store.manifests() == place.store.damaged == []
    assert names(place) == set()
    place.store.add(tmp_path / "source", manifest, quiet)
    (listed,) = place.store.manifests()
    with pytest.raises(KeyboardInterrupt):
        place.store.fetch(listed, tmp_path / "target", interrupt)
    assert [path.name for path in tmp_path.iterdir() if "target" in path.name] == []
