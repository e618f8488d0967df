"""SFTP: who may log in, what the server can do, and what goes wrong between us and it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etcdops.config import SftpSection
from etcdops.errors import HostError, OpsError, UsageError
from etcdops.snapshots.sftp import SftpStore
from tests.stores.conftest import SFTP_ONLY, children
from tests.stores.snapshot import make, quiet

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd

SUBSYSTEM = SFTP_ONLY[0]


def store_on(ground: Ground, sshd: Sshd, path: str = "backups", user: str = "", **ssh: Any) -> SftpStore:
    section = SftpSection(host="127.0.0.1", port=sshd.port, path=path, user=user)
    return SftpStore(section, ground.ssh(**ssh), Path)


def refused(work: Callable[[], object], kind: type[OpsError] = HostError) -> OpsError:
    with pytest.raises(OpsError) as caught:
        work()
    assert isinstance(caught.value, kind)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; the sshd that is to see it starts after."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_folders_and_files_are_their_owners_alone(ground: Ground, tmp_path: Path) -> None:
    folder = ground.folder / "a" / "b"
    store = store_on(ground, ground.sshd(SUBSYSTEM), str(folder))
    store.add(tmp_path / "source", make(tmp_path / "source"), quiet)
    store.close()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, *folder.iterdir())] == [
        *(0o700, 0o700),
        *(0o600, 0o600),
    ]


def test_a_relative_path_begins_at_the_logins_home(ground: Ground, tmp_path: Path) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    store = store_on(ground, sshd)
    manifest = make(tmp_path / "source")
    store.add(tmp_path / "source", manifest, quiet)
    assert (sshd.folder / "backups" / manifest.file).exists()
    assert store.where == "sftp://127.0.0.1/backups"
    store.close()


def test_a_login_in_a_chroot(ground: Ground, tmp_path: Path) -> None:
    """Root's, and nobody else's, must the folder be, for sshd to take it: one of its own under /run."""
    jail = Path("/run") / f"etcdops-{os.getpid()}"
    (jail / "in").mkdir(parents=True)
    store = store_on(ground, ground.sshd(*SFTP_ONLY, f"ChrootDirectory {jail}"), "/in/backups")
    try:
        manifest = make(tmp_path / "source", 3_000_000)
        store.add(tmp_path / "source", manifest, quiet)
        assert store.manifests() == [manifest]
        assert (jail / "in" / "backups" / manifest.file).exists()
        store.fetch(manifest, tmp_path / "target", quiet)
        store.remove(manifest)
        assert list((jail / "in" / "backups").iterdir()) == []
    finally:
        store.close()
        for path in [*sorted(jail.rglob("*"), reverse=True), jail]:
            path.unlink() if path.is_file() else path.rmdir()


def test_a_server_that_allows_one_session(ground: Ground, tmp_path: Path) -> None:
    store = store_on(ground, ground.sshd(SUBSYSTEM, "MaxSessions 1"))
    manifest = make(tmp_path / "source")
    store.add(tmp_path / "source", manifest, quiet)
    assert store.manifests() == [manifest]
    store.close()


@pytest.mark.parametrize(
    ("options", "words"), [((), "gives root no SFTP"), (("Subsystem sftp /bin/false",), "gives root no SFTP")]
)
def test_a_server_without_sftp(ground: Ground, options: tuple[str, ...], words: str) -> None:
    error = refused(store_on(ground, ground.sshd(*options)).manifests)
    assert words in error.message
    assert error.host == "127.0.0.1"
    assert "Subsystem" in error.hint


def test_a_host_whose_key_has_changed_is_not_trusted(ground: Ground, tmp_path: Path) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    store_on(ground, sshd).manifests()
    sshd.stop()
    ground.sshd(SUBSYSTEM, port=sshd.port)
    assert "host key" in refused(store_on(ground, sshd).manifests).message


def test_ssh_config_goes_before_the_members_user_and_port(ground: Ground, tmp_path: Path) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    folder = ground.folder / "home" / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(f"Host vault\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User toor\n")
    store = SftpStore(SftpSection(host="vault", path="backups"), ground.ssh(user="operator", port=1), Path)
    assert store.manifests() == []
    store.close()
    assert "for toor" in sshd.log


def test_the_way_leads_through_a_jump_host(ground: Ground, tmp_path: Path) -> None:
    jump, sshd = ground.sshd(), ground.sshd(*SFTP_ONLY)
    folder = ground.folder / "home" / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(f"Host 127.0.0.1\n  ProxyJump root@localhost:{jump.port}\n")
    store = store_on(ground, sshd)
    manifest = make(tmp_path / "source")
    store.add(tmp_path / "source", manifest, quiet)
    assert store.manifests() == [manifest]
    store.close()
    assert "direct-tcpip" in jump.log


def test_nobody_listens_and_the_section_is_named(ground: Ground) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    sshd.stop()
    error = refused(store_on(ground, sshd).manifests)
    assert error.message == f"127.0.0.1:{sshd.port}: connection refused"
    assert error.hint.count("backup.sftp in config.yaml") == 1


def test_a_folder_that_is_not_ours(ground: Ground, tmp_path: Path) -> None:
    (ground.folder / "locked").mkdir(mode=0o700)
    store = store_on(ground, ground.sshd(SUBSYSTEM), str(ground.folder / "locked" / "backups"), user="operator")
    assert "operator may not do this there" in refused(store.manifests).message
    manifest = make(tmp_path / "source")
    refused(lambda: store.add(tmp_path / "source", manifest, quiet))
    store.close()


@pytest.mark.parametrize("size", [9_000_000, 3_000_000], ids=["while it is sent", "among the last requests"])
def test_a_full_disk_there(ground: Ground, small_disk: Path, tmp_path: Path, size: int) -> None:
    store = store_on(ground, ground.sshd(SUBSYSTEM), str(small_disk))
    large, small = make(tmp_path / "large", size), make(tmp_path / "small-one", 1_000_000)
    error = refused(lambda: store.add(tmp_path / "large", large, quiet))
    assert error.message.endswith(f"{large.file}.part: the disk there is full")
    assert list(small_disk.iterdir()) == []
    store.add(tmp_path / "small-one", small, quiet)
    assert store.manifests() == [small]
    store.close()


def test_the_connection_breaks_in_the_middle(ground: Ground, tmp_path: Path, hang_up: Callable[[Sshd], None]) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    store = store_on(ground, sshd, str(ground.folder / "backups"))
    manifest = make(tmp_path / "source", 60_000_000)

    def cut(name: str, done: int, total: int) -> None:
        if 20_000_000 < done < 22_000_000:
            hang_up(sshd)

    error = refused(lambda: store.add(tmp_path / "source", manifest, cut))
    assert "the connection was lost" in error.message
    assert store.manifests() == store.damaged == []
    stored = store.add(tmp_path / "source", manifest, quiet)
    assert stored.taken - manifest.taken == timedelta(seconds=1)  # what was left has the name
    assert store.manifests() == [stored]
    refused(lambda: store.fetch(stored, tmp_path / "target", cut))
    assert not (tmp_path / "target").exists()
    store.close()


def test_a_server_that_hangs_is_given_up(ground: Ground, tmp_path: Path) -> None:
    sshd = ground.sshd(SUBSYSTEM)
    store = store_on(ground, sshd, str(ground.folder / "backups"), command_timeout=1.0)
    stopped: list[int] = []

    def stop(name: str, done: int, total: int) -> None:
        if not stopped:
            stopped.extend(children(sshd.process.pid))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)

    manifest = make(tmp_path / "source", 60_000_000)
    error = refused(lambda: store.add(tmp_path / "source", manifest, stop))
    assert error.message.endswith("no answer within 1 s")
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)
    assert store.manifests() == store.damaged == []
    store.close()


def test_unfinished_files_of_killed_runs_go_after_a_day(ground: Ground, tmp_path: Path) -> None:
    folder = ground.folder / "backups"
    folder.mkdir()
    day = 25 * 3600
    ages = {"prod-20261120T194924Z-r5.db.part": day, "prod-20261121T194924Z-r6.db.age.part": 60, "their.part": day}
    for name, seconds in ages.items():
        (folder / name).touch()
        os.utime(folder / name, (time.time() - seconds,) * 2)
    store = store_on(ground, ground.sshd(SUBSYSTEM), str(folder))
    manifest = make(tmp_path / "source")
    store.add(tmp_path / "source", manifest, quiet)
    store.close()
    assert {path.name for path in folder.iterdir()} - {manifest.file, f"{manifest.name}.json"} == {
        "prod-20261121T194924Z-r6.db.age.part",
        "their.part",
    }


@pytest.mark.parametrize("options", [(SUBSYSTEM,), SFTP_ONLY], ids=["shell", "sftp only"])
def test_a_disk_that_gives_back_other_bytes_is_found_out(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    from etcdops.ssh.sftp import Sftp

    folder = ground.folder / "backups"
    write = Sftp.write

    def harm(self: Sftp, path: str, chunks: Any) -> None:
        write(self, path, chunks)
        with Path(path).open("r+b") as stream:
            stream.write(b"x")

    monkeypatch.setattr(Sftp, "write", harm)
    store = store_on(ground, ground.sshd(*options), str(folder))
    manifest = make(tmp_path / "source")
    error = refused(lambda: store.add(tmp_path / "source", manifest, quiet))
    assert "gives back other bytes" in error.message
    assert list(folder.iterdir()) == []
    store.close()


def test_an_address_that_is_none(ground: Ground) -> None:
    store = SftpStore(SftpSection(host="a@b@c:d", path="x"), ground.ssh(), Path)
    assert "no way to reach a host" in refused(store.manifests, UsageError).message
