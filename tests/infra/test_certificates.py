"""Certificates as they are served, not as they lie on a disk; who gets in, and who does not; where the keys are."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from testinfra.host import Host

from etcdops.config import Config, Member
from etcdops.pki import CA, LeafRequest
from tests.infra.conftest import Target

SSL = "/etc/etcd/ssl"
FILES = {
    f"{SSL}/ca.pem": (0o644, "root", "root"),
    f"{SSL}/peer-ca.pem": (0o644, "root", "root"),
    f"{SSL}/server.pem": (0o600, "etcd", "etcd"),
    f"{SSL}/peer.pem": (0o600, "etcd", "etcd"),
    f"{SSL}/client.pem": (0o600, "etcd", "etcd"),
}
PORTS = {"server": 2379, "peer": 2380}
AUTHORITY = {"server": "ca.pem", "peer": "peer-ca.pem"}


def trusting(target: Target, role: str, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client that trusts the CA of this port's certificates, and shows ``pair``: a certificate and its key."""
    authority = target.pki(AUTHORITY[role])
    if not authority.exists():  # the user's own CA signs for both
        authority = target.pki("ca.pem")
    context = ssl.create_default_context(cafile=str(authority))
    if pair:
        context.load_cert_chain(*pair)
    return context


def operator(target: Target) -> tuple[Path, Path]:
    return target.pki("client.pem"), target.pki("client-key.pem")


def peer(target: Target, member: Member) -> tuple[Path, Path]:
    folder = target.pki("members") / member.name
    return folder / "peer.pem", folder / "peer-key.pem"


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A client certificate as good as the operator's, of a CA that nobody here trusts."""
    now, day = datetime.now(UTC), timedelta(days=1)
    authority = CA.create("etcd client CA", "ecdsa-p256", day, now)
    path = tmp_path_factory.mktemp("stranger") / "client.pem"
    path.write_bytes(authority.issue(LeafRequest("client", "root"), "ecdsa-p256", day, now).pem)
    return path, path


@pytest.mark.parametrize("path", FILES)
def test_file(host: Host, path: str) -> None:
    mode, user, group = FILES[path]
    found = host.file(path)
    assert found.is_file
    assert (oct(found.mode), found.user, found.group) == (oct(mode), user, group)


def test_folder(host: Host) -> None:
    folder = host.file(SSL)
    assert (oct(folder.mode), folder.user, folder.group) == ("0o750", "root", "etcd")
    assert sorted(folder.listdir()) == [
        "ca.pem", "client-key.pem", "client.pem", "peer-ca.pem", "peer-key.pem", "peer.pem", "server-key.pem",
        "server.pem", "trust.env",
    ]  # fmt: skip
    assert host.file(f"{SSL}/server-key.pem").linked_to == f"{SSL}/server.pem"
    assert host.file(f"{SSL}/peer-key.pem").linked_to == f"{SSL}/peer.pem"


@pytest.mark.parametrize("role", PORTS)
@pytest.mark.parametrize("local", [False, True])
def test_served_certificate(target: Target, config: Config, member: Member, host: Host, role: str, local: bool) -> None:
    """From the right CA, for every name and address that it is dialled under, and the one that is on the disk."""
    if role == "peer" and local:
        return  # peers never talk to themselves: that port listens at the member's address only
    address = "127.0.0.1" if local else member.address
    shown = operator(target) if role == "server" else peer(target, member)
    answer = target.ask(member, address, PORTS[role], trusting(target, role, shown))  # checks chain, address, dates
    assert b'"etcdserver":' in answer.body
    served = x509.load_der_x509_certificate(answer.certificate)
    on_disk = x509.load_pem_x509_certificate(host.file(f"{SSL}/{role}.pem").content)
    issued = x509.load_pem_x509_certificate((target.pki("members") / member.name / f"{role}.pem").read_bytes())
    assert served.serial_number == on_disk.serial_number == issued.serial_number
    assert served.subject.rfc4514_string() == f"CN={member.name}"
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {member.name, "localhost"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {str(ipaddress.ip_address(each)) for each in (member.address, "127.0.0.1", "::1")}
    others = {other.address for other in config.members} - {member.address}
    assert not addresses & others
    usages = served.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {Usage.SERVER_AUTH, Usage.CLIENT_AUTH}
    assert served.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_operator_gets_in(target: Target, member: Member) -> None:
    answer = target.ask(member, member.address, 2379, trusting(target, "server", operator(target)), "/health")
    assert (answer.status, b'"health":"true"' in answer.body) == (200, True)


UNKNOWN = {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE"}  # the latter from a Go before 1.21
NONE = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}


@pytest.mark.parametrize("role", PORTS)
def test_no_certificate_is_refused(target: Target, member: Member, role: str) -> None:
    assert target.refusal(member, PORTS[role], trusting(target, role)) in NONE


@pytest.mark.parametrize("role", PORTS)
def test_certificate_of_another_authority_is_refused(
    target: Target, member: Member, role: str, stranger: tuple[Path, Path]
) -> None:
    assert target.refusal(member, PORTS[role], trusting(target, role, stranger)) in UNKNOWN


def test_client_is_no_peer(target: Target, member: Member) -> None:
    assert target.refusal(member, 2380, trusting(target, "peer", operator(target))) in UNKNOWN


def test_peer_is_no_client(target: Target, member: Member) -> None:
    if target.pki("peer-ca.pem").exists():  # else one CA that the user brought signs for both
        assert target.refusal(member, 2379, trusting(target, "server", peer(target, member))) in UNKNOWN


@pytest.mark.parametrize("role", PORTS)
def test_plain_http_is_refused(target: Target, member: Member, role: str) -> None:
    with pytest.raises(ConnectionError):
        target.ask(member, member.address, PORTS[role], None)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("role", PORTS)
def test_old_tls_is_refused(target: Target, member: Member, role: str) -> None:
    context = trusting(target, role, operator(target) if role == "server" else peer(target, member))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    assert target.refusal(member, PORTS[role], context) == "TLSV1_ALERT_PROTOCOL_VERSION"


def public(pem: bytes) -> bytes:
    """What tells one private key from another."""
    key = serialization.load_pem_private_key(pem, None)
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_host_holds_its_own_keys_and_no_others(target: Target, config: Config, member: Member, host: Host) -> None:
    """No CA's, not the operator's, no other member's, wherever on the host they might have been left."""
    places = "/etc /opt /root /home /srv /tmp /var/tmp /usr/local /var/lib/etcd"
    found = host.check_output(
        f"find {places} -xdev -type f -size -64k -exec grep -lI 'BEGIN .*PRIVATE KEY' {{}} + 2>/dev/null; true"
    ).splitlines()
    assert {f"{SSL}/server.pem", f"{SSL}/peer.pem"} <= set(found)
    own = target.pki("members") / member.name
    forbidden = {path: public(path.read_bytes()) for path in target.pki("").rglob("*-key.pem") if path.parent != own}
    assert len(forbidden) >= 2 * len(config.members) - 1
    for path in found:
        file = host.file(path)
        if b"BEGIN OPENSSH" in file.content or path.startswith("/etc/ssl/"):
            continue  # keys of sshd, and of whatever else the host is for
        assert file.mode & 0o077 == 0, f"{path} is for all to read"
        blocks = file.content[file.content.index(b"-----BEGIN", file.content.index(b"PRIVATE KEY") - 20) :]
        assert public(blocks) not in forbidden.values(), path
