"""Every host as a deploy should leave it: files, unit, ports, and what a stranger gets from it."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from testinfra.host import Host as Machine

from etcdops import layout
from etcdops.certificate import inspect
from etcdops.config import Config, Member
from etcdops.keystore import Keystore
from etcdops.pki import CA, LeafRequest

Ask = Callable[..., object]

FILES = {
    layout.CONF_DIR: (0o755, "root", "root"),
    layout.CONF: (0o644, "root", "root"),
    layout.IDENTITY: (0o644, "root", "root"),
    layout.UNIT: (0o644, "root", "root"),
    layout.STATE_DIR: (0o700, "etcd", "etcd"),
    layout.DATA_DIR: (0o700, "etcd", "etcd"),
    layout.RELEASES: (0o755, "root", "root"),
}
PKI_FILES = {
    layout.SSL_DIR: (0o750, "root", "etcd"),
    layout.CLIENT_CA: (0o644, "root", "root"),
    layout.PEER_CA: (0o644, "root", "root"),
    layout.SERVER: (0o600, "etcd", "etcd"),
    layout.PEER: (0o600, "etcd", "etcd"),
}


@pytest.fixture
def tls(config: Config) -> bool:
    return config.cluster.tls


def test_modes_and_owners(machine: Machine, tls: bool) -> None:
    for path, expected in {**FILES, **(PKI_FILES if tls else {})}.items():
        file = machine.file(path)
        assert (file.mode, file.user, file.group) == expected, path


def test_programs_are_links_to_the_configured_release(machine: Machine, config: Config) -> None:
    assert machine.check_output("readlink -f /usr/local/bin/etcd") == f"/opt/etcd/{config.cluster.version}/etcd"
    assert f"etcd Version: {config.cluster.version}" in machine.check_output("/usr/local/bin/etcd --version")
    assert f"etcdctl version: {config.cluster.version}" in machine.check_output("/usr/local/bin/etcdctl version")


def test_the_service_runs_as_its_own_user_and_starts_at_boot(machine: Machine, config: Config) -> None:
    service = machine.service("etcd")
    assert service.is_running and service.is_enabled
    pid = machine.check_output("systemctl show etcd --property=MainPID --value")
    assert machine.check_output("ps -o user= -p %s", pid) == "etcd"
    assert machine.check_output("readlink /proc/%s/exe", pid) == f"/opt/etcd/{config.cluster.version}/etcd"


def test_the_sandbox_is_tight(machine: Machine) -> None:
    level = machine.check_output("systemd-analyze security etcd.service --no-pager | tail -n 1")
    assert float(level.partition(": ")[2].split()[0]) <= 2.5, level


def test_it_listens_where_it_should_and_nowhere_else(machine: Machine, member: Member) -> None:
    host = f"[{member.address}]" if ":" in member.address else member.address
    lines = machine.check_output("ss -Hltn").splitlines()
    found = {line.split()[3] for line in lines if line.split()[3].rpartition(":")[2] in {"2379", "2380", "2381"}}
    assert found == {f"{host}:2379", "127.0.0.1:2379", f"{host}:2380", "127.0.0.1:2381"}


def test_the_identity_is_that_of_the_running_member(machine: Machine, config: Config, name: str) -> None:
    known = json.loads(machine.check_output("cat %s", layout.IDENTITY))
    assert (known["cluster"], known["name"]) == (config.cluster.name, name)
    assert f'ETCD_INITIAL_CLUSTER_TOKEN="{known["token"]}"' in machine.check_output("cat %s", layout.CONF)


def test_etcd_took_every_setting(machine: Machine) -> None:
    journal = machine.check_output("journalctl --unit=etcd --output=cat --no-pager --boot | cat")
    assert "unrecognized environment variable" not in journal


def test_nothing_is_left_of_a_run(machine: Machine) -> None:
    found = (
        "find /etc/etcd /opt /usr/local/bin /var/lib /run /tmp -xdev -name '*etcdops*' ! -path '*/systemd-private-*'"
    )
    assert machine.check_output(f"{found} ! -name 'etcdops-hold'") == ""


def test_no_key_but_the_members_own_is_on_the_host(machine: Machine, keystore: Keystore, tls: bool) -> None:
    if not tls:
        assert not machine.file(layout.SSL_DIR).exists
        return
    found = machine.check_output("grep -rlI 'PRIVATE KEY' /etc/etcd /var/lib/etcd /opt/etcd /root /tmp | sort")
    assert found.split() == [layout.PEER, layout.SERVER]  # the -key.pem are links, which grep -r leaves alone
    for file in ("ca-key.pem", "peer-ca-key.pem", "client-key.pem"):
        path = keystore.folder / file
        if path.exists():
            line = path.read_text().splitlines()[1]
            assert machine.run("grep -rlF -- %s /etc/etcd", line).stdout == "", file


def test_each_port_serves_the_certificate_that_was_issued(
    ask: Ask, keystore: Keystore, member: Member, tls: bool
) -> None:
    if not tls:
        assert b"etcdserver" in ask(layout.CLIENT_PORT).text
        return
    for port, role, trust in ((2379, "server", "ca.pem"), (2380, "peer", _peer_ca(keystore))):
        cert, key = (keystore.folder / "members" / member.name / f"{role}{part}.pem" for part in ("", "-key"))
        answer = ask(port, trust=keystore.folder / trust, identity=(cert, key))
        assert not answer.refused and b"etcdserver" in answer.text, (port, answer)
        issued = cert.read_text()
        assert hashlib.sha256(answer.certificate).digest() == _digest(issued), port
        assert {member.name, "localhost", member.address, "127.0.0.1"} <= set(inspect(issued.encode()).sans)


def test_the_operator_is_let_in_and_no_stranger(ask: Ask, keystore: Keystore, tls: bool, tmp_path: Path) -> None:
    if not tls:
        return
    trust = keystore.folder / "ca.pem"
    operator = (keystore.folder / "client.pem", keystore.folder / "client-key.pem")
    assert b"etcdserver" in ask(2379, trust=trust, identity=operator).text
    assert ask(2379, trust=trust).refused, "a client without a certificate"
    assert ask(2379, trust=trust, identity=_stranger(tmp_path)).refused, "a client of another CA"
    assert ask(2380, trust=keystore.folder / _peer_ca(keystore)).refused, "a peer without a certificate"
    assert b"etcdserver" not in ask(2379).text, "plain http"
    assert b"etcdserver" not in ask(2380).text, "plain http to the peer port"
    if _peer_ca(keystore) != "ca.pem":
        peers = keystore.folder / _peer_ca(keystore)
        assert ask(2380, trust=peers, identity=operator).refused, "a client that passes for a peer"


def _peer_ca(keystore: Keystore) -> str:
    return "peer-ca.pem" if (keystore.folder / "peer-ca.pem").exists() else "ca.pem"


def _digest(pem: str) -> bytes:
    first = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()


def _stranger(folder: Path) -> tuple[Path, Path]:
    now = datetime.now(UTC)
    ca = CA.create("another CA", "ecdsa-p256", timedelta(days=1), now)
    pair = ca.issue(LeafRequest("client", "root"), "ecdsa-p256", timedelta(days=1), now)
    cert, key = folder / "stranger.pem", folder / "stranger-key.pem"
    cert.write_bytes(pair.cert_pem)
    key.write_bytes(pair.key_pem)
    return cert, key
