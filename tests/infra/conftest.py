"""The members of a cluster, to be looked at from outside: of the tests' own hosts, or of any config.yaml.

`inv verify` names its configuration in ETCDOPS_VERIFY; without it, the cluster is one that the tests deployed.
"""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host as Machine

from etcdops import configfile
from etcdops.config import Config, Member
from etcdops.keystore import Keystore
from tests.hosts import NAMES

VERIFY = os.environ.get("ETCDOPS_VERIFY", "")
SECONDS = 30  # for one command on a host, or one connection to it

Identity = tuple[Path, Path]  # certificate and key of a client


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a member runs once for each."""
    if "name" in metafunc.fixturenames:
        names = [member.name for member in configfile.load(Path(VERIFY)).members] if VERIFY else NAMES
        metafunc.parametrize("name", names)


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    """The configuration of the cluster."""
    path = Path(VERIFY) if VERIFY else request.getfixturevalue("cluster").folder / "config.yaml"
    return configfile.load(path)


@pytest.fixture
def member(config: Config, name: str) -> Member:
    """The member that a test is about."""
    return config.member(name)


@pytest.fixture
def ssh_config(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The way to the hosts as OpenSSH reads it; one connection for all that is asked of a host."""
    path = config.path.parent / ".verify-ssh-config" if not VERIFY else tmp_path_factory.mktemp("ssh") / "config"
    path.write_text("\n".join(_block(config, member) for member in config.members))
    return path


def _block(config: Config, member: Member) -> str:
    lines = [
        f"Host {member.name}",
        f"HostName {member.ssh or member.address}",
        f"User {config.ssh.user}",
        f"Port {member.port or config.ssh.port}",
        f"UserKnownHostsFile {config.resolve(config.ssh.known_hosts)}",
        f"StrictHostKeyChecking {'yes' if config.ssh.host_keys == 'strict' else 'accept-new'}",
        "BatchMode yes",
        "LogLevel ERROR",
        "ControlMaster auto",
        "ControlPath /tmp/etcdops-verify-%C",
        "ControlPersist 10",
    ]
    if config.ssh.key:
        lines.append(f"IdentityFile {config.resolve(config.ssh.key)}")
    if config.ssh.gateway:
        lines.append(f"ProxyJump {config.ssh.gateway}")
    return "\n  ".join(lines) + "\n"


@pytest.fixture
def machine(config: Config, ssh_config: Path, name: str) -> Machine:
    """The member's host, as root."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh_config), sudo=config.ssh.user != "root")


@dataclass(frozen=True)
class Answer:
    """What a port gave: the certificate it showed, and its first words; or why nothing came of it."""

    certificate: bytes = b""
    text: bytes = b""
    refused: str = ""


@pytest.fixture
def ask(ssh_config: Path, name: str) -> Callable[..., Answer]:
    """``ask(port, trust=PEM file, identity=...)``: a request to a port of the host, through SSH.

    So no route to the cluster's network is needed here.  Without ``trust`` it is plain http.
    """

    def request(port: int, *, trust: Path | None = None, identity: Identity | None = None) -> Answer:
        argv = ["ssh", "-F", str(ssh_config), "-W", f"127.0.0.1:{port}", name]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipe:
            try:
                return _tls(pipe, trust, identity) if trust else _plain(pipe)
            finally:
                pipe.kill()

    return request


REQUEST = b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n"


def _plain(pipe: subprocess.Popen[bytes]) -> Answer:
    assert pipe.stdin and pipe.stdout
    pipe.stdin.write(REQUEST)
    pipe.stdin.flush()
    return Answer(text=pipe.stdout.read(4096))


def _tls(pipe: subprocess.Popen[bytes], trust: Path, identity: Identity | None) -> Answer:
    assert pipe.stdin and pipe.stdout
    context = ssl.create_default_context(cafile=str(trust))
    if identity:
        context.load_cert_chain(*identity)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent, server_hostname="127.0.0.1")

    def through(step: Callable[[], object]) -> object:
        """Do one step of TLS, with as much traffic as it takes."""
        for _ in range(50):
            try:
                return step()
            except ssl.SSLWantReadError:
                pipe.stdin.write(sent.read())
                pipe.stdin.flush()
                chunk = os.read(pipe.stdout.fileno(), 65536)
                received.write(chunk) if chunk else received.write_eof()
        raise AssertionError("no end to the handshake")

    certificate = b""
    try:
        through(tls.do_handshake)
        certificate = tls.getpeercert(binary_form=True) or b""
        tls.write(REQUEST)
        text = through(lambda: tls.read(4096))  # TLS 1.3 tells a client that it is refused only now
        assert isinstance(text, bytes)
        return Answer(certificate, text, "" if text else "closed")
    except (ssl.SSLError, OSError) as error:
        return Answer(certificate, refused=str(error))


@pytest.fixture
def keystore(config: Config) -> Keystore:
    """The keys on this machine."""
    return Keystore(config.resolve(config.pki.dir), config.pki)
