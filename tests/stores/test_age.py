"""age: what can be read back, by whom, and what is said when it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest

from etcdops import configfile
from etcdops.config import AgeSection
from etcdops.errors import OpsError, UsageError
from etcdops.snapshots import age as module
from etcdops.snapshots.age import Encrypted
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.store import FolderStore
from tests.stores.conftest import age
from tests.stores.snapshot import make, quiet


def refused(work: Callable[[], object], kind: type[OpsError] = UsageError) -> OpsError:
    with pytest.raises(OpsError) as caught:
        work()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "AGE-SECRET-KEY-1Q" not in str(caught.value)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def keys(tmp_path: Path) -> AgeSection:
    return age(tmp_path)


@pytest.fixture
def store(folder: Path, keys: AgeSection) -> Encrypted:
    return Encrypted(FolderStore(folder), keys, Path)


def test_what_lies_in_the_store_is_encrypted_and_age_can_read_it(
    store: Encrypted, keys: AgeSection, folder: Path, tmp_path: Path
) -> None:
    manifest = make(tmp_path / "source")
    store.add(tmp_path / "source", manifest, quiet)
    (listed,) = store.manifests()
    data = (folder / f"{manifest.name}.db.age").read_bytes()
    assert data.startswith(b"age-encryption.org/v1\n")
    plain = (tmp_path / "source").read_bytes()
    assert plain[1000:1100] not in data
    identity = pyrage.x25519.Identity.from_str(Path(keys.identity).read_text().splitlines()[-1])
    assert pyrage.decrypt(data, [identity]) == plain
    assert (listed.encrypted, listed.size, listed.sha256) == (True, manifest.size, manifest.sha256)


def test_without_an_identity_listing_and_removing_work_and_fetching_says_what_is_missing(
    store: Encrypted, keys: AgeSection, folder: Path, tmp_path: Path
) -> None:
    store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    for section in (AgeSection(recipients=keys.recipients), None):
        blind = Encrypted(FolderStore(folder), section, Path)
        (listed,) = blind.manifests()
        error = refused(lambda: blind.fetch(listed, tmp_path / "target", quiet))  # noqa: B023
        assert "is encrypted" in error.message
        assert "backup.age.identity" in error.hint
    assert not (tmp_path / "target").exists()
    blind.remove(listed)
    assert list(folder.iterdir()) == []


def test_backups_from_before_encryption_stay_readable(store: Encrypted, folder: Path, tmp_path: Path) -> None:
    manifest = make(tmp_path / "source")
    Encrypted(FolderStore(folder), None, Path).add(tmp_path / "source", manifest, quiet)
    assert store.manifests() == [manifest]
    store.fetch(manifest, tmp_path / "target", quiet)
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_each_of_several_recipients_can_read_it(folder: Path, tmp_path: Path) -> None:
    sections = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sections.append(age(tmp_path / name))
    both = AgeSection(recipients=[*sections[0].recipients, *sections[1].recipients])
    Encrypted(FolderStore(folder), both, Path).add(tmp_path / "source", make(tmp_path / "source"), quiet)
    for number, section in enumerate(sections):
        store = Encrypted(FolderStore(folder), section, Path)
        store.fetch(store.manifests()[0], tmp_path / f"target{number}", quiet)
        assert (tmp_path / f"target{number}").read_bytes() == (tmp_path / "source").read_bytes()


def test_another_key_does_not_open_it(store: Encrypted, folder: Path, tmp_path: Path) -> None:
    store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    (tmp_path / "other").mkdir()
    stranger = Encrypted(FolderStore(folder), age(tmp_path / "other"), Path)
    error = refused(lambda: stranger.fetch(stranger.manifests()[0], tmp_path / "target", quiet), OpsError)
    assert "No matching keys found" in error.message
    assert [path.name for path in tmp_path.iterdir() if "target" in path.name] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        ("", "holds no identity"),
        ("# only a comment\n", "holds no identity"),
        ("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n", "holds no identity"),
        ("age-encryption.org/v1\n-> scrypt\n", "has a passphrase"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", "has a passphrase"),
        ("\udcff", "is no text"),
    ],
)
def test_an_identity_that_is_none(
    store: Encrypted, keys: AgeSection, tmp_path: Path, content: str | None, words: str
) -> None:
    store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    path = Path(keys.identity)
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    error = refused(lambda: store.fetch(store.manifests()[0], tmp_path / "target", quiet))
    assert words in error.message
    assert str(path) in error.message


def test_a_full_disk_is_told_as_one(
    store: Encrypted, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "Summed", lambda stream, make=module.Summed: make(Full()))
    error = refused(lambda: store.add(tmp_path / "source", make(tmp_path / "source"), quiet), OpsError)
    assert error.message.endswith("cannot be written: No space left on device")
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "identity.txt", "backups"}


def test_ctrl_c_while_encrypting_is_ctrl_c(
    store: Encrypted, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object, data: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Summed, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"source", "identity.txt"}


MISTYPED = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q"


def test_a_mistyped_recipient_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    text = f"""\
cluster: {{name: a, version: 3.6.14}}
members: [{{name: a, address: 192.0.2.1}}]
backup:
  age:
    recipients:
      - {MISTYPED}
"""
    with pytest.raises(configfile.ConfigError, match=r":6: backup\.age\.recipients\[0\]: this is no recipient of age"):
        configfile.parse(text, tmp_path / "config.yaml")


def test_without_pyrage_the_command_that_brings_it(
    keys: AgeSection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    error = refused(lambda: Encrypted(FolderStore(folder), keys, Path))
    assert error.message == "backup.age needs the Python package pyrage, which is not installed"
    assert "--require-hashes" in error.hint
    Encrypted(FolderStore(folder), None, Path)


def test_a_recipient_that_only_pyrage_knows_to_be_wrong(folder: Path, keys: AgeSection) -> None:
    section = keys.model_copy(update={"recipients": [*keys.recipients, MISTYPED]})
    assert refused(lambda: Encrypted(FolderStore(folder), section, Path)).message.startswith(
        f"backup.age.recipients[1]: {MISTYPED} is no recipient of age"
    )


def test_config_yaml_says_which_store(tmp_path: Path, keys: AgeSection) -> None:
    def opened(backup: str) -> Iterator[object]:
        text = "cluster: {name: a, version: 3.6.14}\nmembers: [{name: a, address: 192.0.2.1}]\n"
        with open_store(configfile.parse(f"{text}backup: {{{backup}}}\n", tmp_path / "config.yaml")) as store:
            yield store.where

    assert [*opened("dir: here")] == [str(tmp_path / "here")]
    assert [*opened('s3: {bucket: abc, prefix: d/e, endpoint: "http://127.0.0.1:1"}')] == ["s3://abc/d/e"]
    assert [*opened("sftp: {host: h, path: /srv/e}")] == ["sftp://h/srv/e"]
    assert [*opened(f"age: {{recipients: [{keys.recipients[0]}]}}")] == [str(tmp_path / "backups")]
