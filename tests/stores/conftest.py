"""Real stores: an S3 server (rclone's) and an sshd as processes of our own on 127.0.0.1, and keys of age."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
import pytest

from etcdops.config import AgeSection, S3Section, SftpSection
from etcdops.snapshots.age import Encrypted
from etcdops.snapshots.s3 import S3Store
from etcdops.snapshots.sftp import SftpStore
from etcdops.snapshots.store import FolderStore, Store
from etcdops.ssh.sftp import Sftp
from tests.ssh.conftest import Ground, Sshd, free_port, ground  # noqa: F401

KEY, SECRET = "AKIDEXAMPLE000000000", "a-secret-of-the-tests"
BUCKET = "backups"
SFTP_ONLY = ("Subsystem sftp internal-sftp", "ForceCommand internal-sftp")


@dataclass
class S3Server:
    """One running `rclone serve s3`: objects are files in ``folder``, requests are signed and the signature counts."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def bucket(self) -> Path:
        return self.folder / BUCKET

    def start(self) -> None:
        command = [str(Path(sys.prefix) / "bin" / "rclone"), "serve", "s3", "--config", os.devnull]
        # What a test does to the files is seen by the next request.  Not 0: rclone tidies its cache every twice that
        # time while a file is open, and at 0 does nothing else.
        command += ["--dir-cache-time", "1ms"]
        command += ["--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}", str(self.folder)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent)}
        with (self.folder.parent / "rclone.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.processes.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert process.poll() is None, (self.folder.parent / "rclone.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("it does not answer")

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)
        self.processes.clear()

    def section(self, bucket: str = BUCKET, prefix: str = "") -> S3Section:
        return S3Section(bucket=bucket, prefix=prefix, endpoint=f"http://127.0.0.1:{self.port}")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment that boto3 looks at; nothing of this machine's, and no question to a cloud's own address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def s3(tmp_path: Path, credentials: None) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3", free_port())
    server.bucket.mkdir(parents=True)
    server.start()
    yield server
    server.kill()


@dataclass
class Place:
    """A store, and the folder where its files really are."""

    store: Store
    folder: Path


def age(tmp_path: Path) -> AgeSection:
    """A new pair of keys; the secret one in a file as age-keygen writes it."""
    identity = pyrage.x25519.Identity.generate()
    path = tmp_path / "identity.txt"
    path.write_text(f"# created: 2026-11-22T19:49:24Z\n# public key: {identity.to_public()}\n{identity}\n")
    path.chmod(0o600)
    return AgeSection(recipients=[str(identity.to_public())], identity=str(path))


@pytest.fixture(params=["folder", "s3", "s3-prefix", "sftp", "sftp-only", "age-folder", "age-s3", "age-sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every kind of store, for what all must do alike."""
    words = request.param.split("-")
    store: Store
    if "s3" in words:
        server: S3Server = request.getfixturevalue("s3")
        prefix = "etcd/prod" if "prefix" in words else ""
        store, folder = S3Store(server.section(prefix=prefix)), server.bucket / prefix
        folder.mkdir(parents=True, exist_ok=True)
    elif "sftp" in words:
        own: Ground = request.getfixturevalue("ground")
        sshd = own.sshd(*(SFTP_ONLY if "only" in words else SFTP_ONLY[:1]))
        folder = own.folder / "backups"
        store = SftpStore(SftpSection(host="127.0.0.1", port=sshd.port, path=str(folder)), own.ssh(), Path)
    else:
        folder = tmp_path / "backups"
        store = FolderStore(folder)
    if "age" in words:
        store = Encrypted(store, age(tmp_path), Path)
    yield Place(store, folder)
    store.close()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def hang_up() -> Callable[[Sshd], None]:
    """Kill the processes that serve an sshd's connections, but not itself."""

    def kill(sshd: Sshd) -> None:
        for pid in children(sshd.process.pid):
            with contextlib.suppress(ProcessLookupError):  # it ends by itself when its parent does
                os.kill(pid, signal.SIGKILL)

    return kill


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection outlives its test, nor a thread: tests of real hosts enter namespaces, and a second thread bars
    that."""
    opened: list[Sftp] = []
    connect = Sftp.__init__

    def remember(sftp: Sftp, *args: Any) -> None:
        opened.append(sftp)
        connect(sftp, *args)

    monkeypatch.setattr(Sftp, "__init__", remember)
    yield
    for sftp in opened:
        sftp.close()
    deadline = time.monotonic() + 20
    while len(threading.enumerate()) > 1:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)
