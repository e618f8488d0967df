"""The cluster that is looked at: that of ETCDOPS_VERIFY (`inv verify` sets it), else one in the tests' own hosts.

Everything goes through OpenSSH, with an ssh_config made from config.yaml, and nothing through the code that is looked
after here.  Hosts need root as ssh.user, or sudo without a password.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from etcdops import configfile
from etcdops.config import Config, Member
from tests.hosts import NAMES, Project

GIVEN = os.environ.get("ETCDOPS_VERIFY")

# What only a cluster with certificates has; a plain one is not looked at for what it does not promise.
collect_ignore = ["test_certificates.py"] if GIVEN and not configfile.load(Path(GIVEN)).cluster.tls else []


@dataclass(frozen=True)
class Target:
    """A cluster, and the ssh_config that reaches its hosts by the names of their members."""

    config: Config
    ssh_config: Path

    def host(self, member: Member) -> Host:
        """testinfra's, as root."""
        sudo = self.config.ssh.user != "root"
        return testinfra.get_host(f"ssh://{member.name}", ssh_config=str(self.ssh_config), sudo=sudo)

    def pki(self, name: str) -> Path:
        """A file of the PKI folder on this machine."""
        return self.config.resolve(self.config.pki.dir) / name

    def connect(self, member: Member, address: str, port: int) -> socket.socket:
        """A connection that begins on the member's host: etcd's ports need not be open to this machine."""
        ours, theirs = socket.socketpair()
        ours.settimeout(15)
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        argv = ["ssh", "-F", self.ssh_config, "-o", "LogLevel=ERROR", "-W", where, member.name]
        with theirs:
            subprocess.Popen(argv, stdin=theirs, stdout=theirs, start_new_session=True)
        return ours

    def ask(
        self, member: Member, address: str, port: int, tls: ssl.SSLContext | None, path: str = "/version"
    ) -> Answer:
        """What etcd answers to a GET; an ``OSError`` (``ssl.SSLError`` is one) where it does not talk to us."""
        with self.connect(member, address, port) as link:
            secured = tls.wrap_socket(link, server_hostname=address) if tls else link
            with secured:
                secured.sendall(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
                with http.client.HTTPResponse(secured) as response:  # to its end: etcd hangs up 5 s later at times
                    response.begin()
                    body = response.read()
                certificate = secured.getpeercert(True) if isinstance(secured, ssl.SSLSocket) else None
        return Answer(response.status, body, certificate or b"")

    def refusal(self, member: Member, port: int, tls: ssl.SSLContext) -> str:
        """The TLS alert with which etcd refuses, in OpenSSL's words; '' where it does not within 5 s."""
        with self.connect(member, member.address, port) as link:
            link.settimeout(5)
            try:
                with tls.wrap_socket(link, server_hostname=member.address) as secured:
                    secured.recv(1)  # by TLS 1.3 a client learns it after the handshake
            except ssl.SSLError as error:
                return error.reason or str(error)
            except TimeoutError:
                return ""
        return ""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, and the certificate (DER) that it came under."""

    status: int
    body: bytes
    certificate: bytes


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        names = [member.name for member in configfile.load(Path(GIVEN)).members] if GIVEN else NAMES
        metafunc.parametrize("name", names, scope="session")


@pytest.fixture(scope="session")
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The cluster's."""
    if GIVEN:
        return configfile.load(Path(GIVEN))
    project = Project(request.getfixturevalue("hosts"), tmp_path_factory.mktemp("cluster"), ssh={"user": "ops"})
    project.deployed()
    return configfile.load(project.folder / "config.yaml")


@pytest.fixture(scope="session")
def target(config: Config) -> Iterator[Target]:
    """The cluster, with a connection to each host that all tests share: each of its own would cost half a second."""
    folder = Path(tempfile.mkdtemp(prefix="etcdops-"))  # a short name: that of a socket has at most 107 characters
    try:
        path = folder / "ssh_config"
        path.write_text("\n".join([*(_host(config, member, folder) for member in config.members), _USER, ""]))
        yield Target(config, path)
        for member in config.members:
            subprocess.run(["ssh", "-F", path, "-O", "exit", member.name], capture_output=True, check=False)
    finally:
        shutil.rmtree(folder)


_USER = "Include ~/.ssh/config" if GIVEN else ""


def _host(config: Config, member: Member, folder: Path) -> str:
    """A section of ssh_config, for what config.yaml says; the rest is a matter of ~/.ssh/config, as it is for inv."""
    ssh, written = config.ssh, config.ssh.model_fields_set
    user, _, place = (member.ssh or member.address).rpartition("@")
    host, colon, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
    settings = {
        "HostName": host,
        "User": user or (ssh.user if "user" in written else ""),
        "Port": str(member.port or "") or (port if colon else str(ssh.port) if "port" in written else ""),
        "IdentityFile": config.resolve(ssh.key) if ssh.key else "",
        "ProxyJump": ssh.gateway,
        "UserKnownHostsFile": config.resolve(ssh.known_hosts),
        "StrictHostKeyChecking": "yes" if ssh.host_keys == "strict" else "accept-new",
        "BatchMode": "yes",
        "ConnectTimeout": str(round(ssh.connect_timeout) or 1),
        "ControlMaster": "auto",
        "ControlPath": f"{folder}/%C",
        "ControlPersist": "60",
    }
    return "\n".join([f"Host {member.name}", *(f"  {key} {value}" for key, value in settings.items() if value)])


@pytest.fixture(scope="session")
def member(config: Config, name: str) -> Member:
    """The member called ``name``; a test that asks for it runs once for each member."""
    return config.member(name)


@pytest.fixture(scope="session")
def host(target: Target, member: Member) -> Host:
    """Its host."""
    return target.host(member)
