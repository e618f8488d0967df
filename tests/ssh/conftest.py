"""A real sshd of our own on 127.0.0.1, with its own host key, authorized key, log and users, where a test wants one.

It runs in a mount namespace in which /etc/passwd is ours: so there are users to log in as, and no shell start-up file
of this machine has a say.  That takes root.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etcdops.config import Member, SshSection
from etcdops.ssh import Fleet

# name, uid, shell: root; root by another name; somebody with sudo; somebody without a shell
USERS = (("root", 0, "/bin/sh"), ("toor", 0, "/bin/sh"), ("operator", 64001, "/bin/sh"), ("ghost", 64002, "/bin/false"))


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Sshd:
    """One running sshd; its files are in ``folder``."""

    folder: Path
    port: int
    host_key: Path
    process: subprocess.Popen[bytes]

    @property
    def public(self) -> str:
        """Its host key, as `TYPE BASE64`."""
        return " ".join(Path(f"{self.host_key}.pub").read_text().split()[:2])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@dataclass
class Ground:
    """Where a test plays: a home folder of its own, the key that every sshd accepts, and sshds on demand."""

    folder: Path
    key: Path
    started: list[Sshd] = field(default_factory=list)

    def keygen(self, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
        return keygen(self.folder / name, kind, passphrase)

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def sshd(self, *options: str, host_keys: tuple[Path, ...] = (), port: int = 0) -> Sshd:
        """Start one with ``options`` (lines of sshd_config), and wait until it answers."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        folder.chmod(0o755)
        port = port or free_port()
        host_keys = host_keys or (keygen(folder / "host_key"),)
        shutil.copy(f"{self.key}.pub", folder / "authorized_keys")
        lines = [
            *options,
            f"Port {port}",
            "ListenAddress 127.0.0.1",
            *(f"HostKey {path}" for path in host_keys),
            f"AuthorizedKeysFile {folder}/authorized_keys",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "LogLevel DEBUG1",
        ]
        (folder / "config").write_text("\n".join(lines) + "\n")
        passwd = "".join(f"{name}:x:{uid}:65534::{folder}:{shell}\n" for name, uid, shell in USERS)
        (folder / "passwd").write_text(passwd + "sshd:x:64000:65534::/run/sshd:/usr/sbin/nologin\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [
            *("unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc/passwd && shift && exec "$@"', "sh"),
            *(str(folder / "passwd"), "/usr/sbin/sshd", "-D", "-f", str(folder / "config")),
            *("-E", str(folder / "log")),
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        server = Sshd(folder, port, host_keys[0], process)
        self.started.append(server)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert process.poll() is None, server.log
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
                assert sock.recv(4) == b"SSH-"
                return server
            time.sleep(0.01)
        raise AssertionError(server.log)

    def ssh(self, **settings: Any) -> SshSection:
        """The ssh section of a config.yaml: our key, our known_hosts, and ``settings``."""
        start = {"user": "root", "key": str(self.key), "known_hosts": str(self.known_hosts), "connect_timeout": 5.0}
        return SshSection(**{**start, **settings})

    def fleet(self, *ports: int, ask: Callable[[str], str] | None = None, **settings: Any) -> Fleet:
        """Members m1, m2, ... at 127.0.0.1 and ``ports``."""
        members = [
            Member(name=f"m{n}", address="192.0.2.1", ssh="127.0.0.1", port=port) for n, port in enumerate(ports, 1)
        ]
        return Fleet(members, self.ssh(**settings), Path, ask=ask)


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    # Not tmp_path: that is closed to the users which some tests log in as.
    folder = Path(tempfile.mkdtemp(prefix="etcdops-ssh-"))
    folder.chmod(0o755)
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("ETCDOPS_SUDO_PASSWORD", raising=False)
    ground = Ground(folder, keygen(folder / "key"))
    yield ground
    for server in ground.started:
        server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def sshd(ground: Ground) -> Sshd:
    return ground.sshd()


@pytest.fixture
def fleet(ground: Ground, sshd: Sshd) -> Iterator[Fleet]:
    """Three members, all on the same sshd."""
    with ground.fleet(sshd.port, sshd.port, sshd.port) as fleet:
        yield fleet


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that answers nothing at all, not even to a connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def speak() -> Iterator[Callable[[bytes, bool], int]]:
    """Start a server that says these words to whoever connects, and then nothing more, or hangs up."""
    servers = []

    def start(words: bytes, hang_up: bool) -> int:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.sendall(words)
                while not hang_up and self.request.recv(4096):
                    pass

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
