"""CAs and leaves: what stands in them, and what real TLS handshakes make of them."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdops.certificate import PemError, PrivateKey, inspect
from etcdops.pki import BACKDATE, CA, KeyKind, LeafRequest, Pair

Kind = TypeVar("Kind", bound=x509.ExtensionType)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=365)
SERVER = LeafRequest("server", "etcd01", ("198.18.40.11", "2001:db8::11"))
PEER = LeafRequest("peer", "etcd01", ("198.18.40.11", "2001:db8::11"))
OPERATOR = LeafRequest("client", "root")


def make_ca(name: str = "etcd client CA", lifetime: timedelta = 10 * YEAR, now: datetime = NOW) -> CA:
    return CA.create(name, "ecdsa-p256", lifetime, now)


def issue(ca: CA, request: LeafRequest = SERVER, lifetime: timedelta = YEAR, now: datetime = NOW) -> Pair:
    return ca.issue(request, "ecdsa-p256", lifetime, now)


SHARED_CA = make_ca()


def key_pem(key: PrivateKeyTypes, format: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, format, NoEncryption())


def sign(
    key: PrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: Any,
    *extensions: x509.ExtensionType,
    end: datetime = NOW + YEAR,
) -> bytes:
    """A certificate as somebody else's tool writes it."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - 2 * YEAR).not_valid_after(end)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def guide_name(common_name: str) -> x509.Name:
    """The names of the guide's csr, in the string type that Go (and so cfssl) picks for them."""
    parts = [(NameOID.COUNTRY_NAME, "CN"), (NameOID.STATE_OR_PROVINCE_NAME, "Changsha")]
    parts += [(NameOID.LOCALITY_NAME, "Hunan"), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, text, _ASN1Type.PrintableString) for oid, text in parts])


CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)


def brought(key: PrivateKey, *extensions: x509.ExtensionType, name: x509.Name | None = None) -> bytes:
    """A self-signed certificate of the user's own."""
    subject = name or guide_name("etcd ca")
    return sign(key, subject, subject, key.public_key(), *(extensions or (CA_TRUE,)), end=NOW + 5 * YEAR)


def context(side: int, trust: bytes, pair: Pair | None, folder: Path) -> ssl.SSLContext:
    result = ssl.SSLContext(side)
    result.verify_mode = ssl.CERT_REQUIRED
    result.load_verify_locations(cadata=trust.decode())
    if pair:
        file = folder / f"{side}.pem"
        file.write_bytes(pair.pem)  # one file for certificate and key, as on a host
        result.load_cert_chain(file, file)
    return result


def handshake(
    folder: Path, *, server: Pair, trusts: bytes, client: Pair | None, client_trusts: bytes, host: str
) -> str:
    """A mutual TLS handshake between OpenSSL and itself: the client's CN as the server sees it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    accept = context(ssl.PROTOCOL_TLS_SERVER, trusts, server, folder)
    dial = context(ssl.PROTOCOL_TLS_CLIENT, client_trusts, client, folder)
    callee = accept.wrap_bio(incoming, outgoing, server_side=True)
    caller = dial.wrap_bio(outgoing, incoming, server_hostname=host)
    waiting = [caller, callee]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            shown = callee.getpeercert(binary_form=True)
            assert shown is not None
            return inspect(ssl.DER_cert_to_PEM_cert(shown).encode()).common_name
    raise AssertionError("the handshake came to no end")


def extension(pem: bytes, kind: type[Kind]) -> x509.Extension[Kind]:
    return x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-2048"])
def test_ca_is_one_that_signs_leaves_only(kind: KeyKind) -> None:
    ca = CA.create("etcd client CA", kind, timedelta(hours=87600), NOW)
    cert = x509.load_pem_x509_certificate(ca.cert_pem)
    basic, usage = extension(ca.cert_pem, x509.BasicConstraints), extension(ca.cert_pem, x509.KeyUsage)
    assert basic.critical and basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert extension(ca.cert_pem, x509.SubjectKeyIdentifier)
    assert cert.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert cert.not_valid_after_utc == NOW + timedelta(hours=87600)
    public = cert.public_key()
    assert isinstance(public, rsa.RSAPublicKey if kind == "rsa-2048" else ec.EllipticCurvePublicKey)
    assert public.key_size == (2048 if kind == "rsa-2048" else 256)
    assert ca.key_pem and ca.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert CA.load(ca.cert_pem, ca.key_pem).issuer(NOW) == cert


BOTH = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
MEMBER_SANS = {"etcd01", "localhost", "198.18.40.11", "2001:db8::11", "127.0.0.1", "::1"}


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-2048"])
@pytest.mark.parametrize(
    ("request_", "usages", "sans"),
    [
        (SERVER, BOTH, MEMBER_SANS),
        (PEER, BOTH, MEMBER_SANS),
        (OPERATOR, {ExtendedKeyUsageOID.CLIENT_AUTH}, set()),
    ],
    ids=["server", "peer", "client"],
)
def test_leaf_says_who_it_is_and_what_it_is_for(
    request_: LeafRequest, usages: set[x509.ObjectIdentifier], sans: set[str], kind: KeyKind
) -> None:
    ca = make_ca()
    pair = ca.issue(request_, kind, YEAR, NOW)
    cert, info = x509.load_pem_x509_certificate(pair.cert_pem), inspect(pair.cert_pem)
    assert info.common_name == request_.name
    assert set(info.sans) == sans and len(info.sans) == len(sans)
    assert set(extension(pair.cert_pem, x509.ExtendedKeyUsage).value) == usages
    basic, usage = extension(pair.cert_pem, x509.BasicConstraints), extension(pair.cert_pem, x509.KeyUsage)
    assert basic.critical and not basic.value.ca
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    assert usage.value.key_encipherment == (kind == "rsa-2048")
    ski = extension(ca.cert_pem, x509.SubjectKeyIdentifier).value
    assert extension(pair.cert_pem, x509.AuthorityKeyIdentifier).value.key_identifier == ski.digest
    assert extension(pair.cert_pem, x509.SubjectKeyIdentifier)
    assert (info.not_before, info.not_after) == (NOW - BACKDATE, NOW + YEAR)
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.cert_pem))
    assert ca.fault(pair, request_, NOW) == ""


def test_addresses_are_ip_sans_and_names_dns_sans() -> None:
    names = extension(issue(make_ca()).cert_pem, x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"etcd01", "localhost"}
    assert ipaddress.ip_address("2001:db8::11") in names.get_values_for_type(x509.IPAddress)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("etcd01", {"etcd01"}),
        ("Etcd-01.Example.org", {"etcd-01.example.org"}),
        ("etcd_01", {"etcd_01"}),
        ("a..b", set()),  # an empty label: Go refuses the whole certificate
        ("10.0.0.9", set()),  # an address that is not the member's
        ("1", set()),
    ],
)
def test_member_name_is_a_san_where_it_can_be_a_host_name(name: str, expected: set[str]) -> None:
    request = LeafRequest("server", name)
    assert request.sans - {"localhost", "127.0.0.1", "::1"} == expected
    pair = issue(SHARED_CA, request)
    assert inspect(pair.cert_pem).common_name == name
    assert SHARED_CA.fault(pair, request, NOW) == ""


def test_leaf_ends_no_later_than_its_ca() -> None:
    ca = make_ca(lifetime=timedelta(days=30))
    assert inspect(issue(ca).cert_pem).not_after == NOW + timedelta(days=30)


def test_lifetime_beyond_the_last_date_that_can_be_written() -> None:
    ca = make_ca(lifetime=timedelta(hours=24 * 9_999_999))
    assert inspect(ca.cert_pem).not_after.year == 9999
    assert inspect(issue(ca, lifetime=timedelta(hours=24 * 9_999_999)).cert_pem).not_after.year == 9999


def test_no_key_in_what_may_be_logged() -> None:
    ca = make_ca()
    assert "PRIVATE" not in repr(ca) + repr(issue(ca))


# Handshakes


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-2048"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "etcd01", "198.18.40.11", "2001:db8::11"])
def test_client_reaches_the_member_under_each_of_its_names(host: str, kind: KeyKind, tmp_path: Path) -> None:
    ca = CA.create("etcd client CA", kind, 10 * YEAR, NOW)
    server, client = (ca.issue(request, kind, YEAR, NOW) for request in (SERVER, OPERATOR))
    trust = ca.cert_pem
    seen = handshake(tmp_path, server=server, trusts=trust, client=client, client_trusts=trust, host=host)
    assert seen == "root"


def test_members_dial_each_other_and_etcdctl_dials_with_the_server_leaf(tmp_path: Path) -> None:
    ca = make_ca()
    for request in (SERVER, PEER):
        pair = issue(ca, request)
        trust = ca.cert_pem
        seen = handshake(tmp_path, server=pair, trusts=trust, client=pair, client_trusts=trust, host="::1")
        assert seen == "etcd01"


def refused(folder: Path, **sides: Any) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        handshake(folder, **sides)
    return str(caught.value)


def test_no_client_certificate_acts_as_a_peer(tmp_path: Path) -> None:
    clients, peers = make_ca(), make_ca("etcd peer CA")
    for pair in (issue(clients, OPERATOR), issue(clients, SERVER), None):
        reason = refused(
            tmp_path,
            server=issue(peers, PEER),
            trusts=peers.cert_pem,
            client=pair,
            client_trusts=peers.cert_pem,
            host="127.0.0.1",
        )
        assert ("verify failed" if pair else "did not return a certificate") in reason


def test_what_a_client_must_refuse(tmp_path: Path) -> None:
    ca, foreign = make_ca(), make_ca()
    client = issue(ca, OPERATOR)
    sides = {"trusts": ca.cert_pem, "client": client, "client_trusts": ca.cert_pem}
    server = issue(ca)
    assert "mismatch" in refused(tmp_path, server=server, **sides, host="198.18.40.12")
    assert "verify failed" in refused(tmp_path, server=issue(foreign), **sides, host="127.0.0.1")
    # The operator's certificate cannot pose as a member.
    assert "verify failed" in refused(tmp_path, server=client, **sides, host="127.0.0.1")


# A CA that the user brought

KEYS: dict[str, tuple[PrivateKey, PrivateFormat, str]] = {
    "cfssl: RSA in PKCS#1": (rsa.generate_private_key(65537, 2048), PrivateFormat.TraditionalOpenSSL, "RSA "),
    "RSA in PKCS#8": (rsa.generate_private_key(65537, 2048), PrivateFormat.PKCS8, ""),
    "EC in SEC 1": (ec.generate_private_key(ec.SECP384R1()), PrivateFormat.TraditionalOpenSSL, "EC "),
    "EC in PKCS#8": (ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8, ""),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8, ""),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_brought_ca_issues(name: str, tmp_path: Path) -> None:
    key, format, label = KEYS[name]
    pem = key_pem(key, format)
    assert pem.startswith(f"-----BEGIN {label}PRIVATE KEY-----".encode())
    ca = CA.load(brought(key), pem)
    server, client = issue(ca), issue(ca, OPERATOR)
    assert inspect(server.cert_pem).issuer == "CN=etcd ca,L=Hunan,ST=Changsha,C=CN"
    assert ca.fault(server, SERVER, NOW) == ""
    trust = ca.cert_pem
    seen = handshake(tmp_path, server=server, trusts=trust, client=client, client_trusts=trust, host="::1")
    assert seen == "root"


def test_identifier_that_another_tool_computed_its_own_way(tmp_path: Path) -> None:
    key = KEYS["EC in PKCS#8"][0]
    ca = CA.load(brought(key, CA_TRUE, x509.SubjectKeyIdentifier(b"own way")), key_pem(key))
    pair = issue(ca)
    assert extension(pair.cert_pem, x509.AuthorityKeyIdentifier).value.key_identifier == b"own way"
    trust = ca.cert_pem
    handshake(tmp_path, server=pair, trusts=trust, client=pair, client_trusts=trust, host="::1")


def test_intermediate_shows_its_chain_to_whoever_trusts_the_root_alone(tmp_path: Path) -> None:
    root_key, key = KEYS["RSA in PKCS#8"][0], KEYS["EC in PKCS#8"][0]
    root = brought(root_key, name=guide_name("root"))
    middle = sign(root_key, guide_name("etcd"), guide_name("root"), key.public_key(), CA_TRUE)
    ca = CA.load(middle + root, key_pem(key))
    assert ca.cert_pem == middle + root
    pair, client = issue(ca), issue(ca, OPERATOR)
    assert ca.fault(pair, SERVER, NOW) == ""
    assert len(x509.load_pem_x509_certificates(pair.cert_pem)) == 2  # the leaf and the intermediate, no root
    handshake(tmp_path, server=pair, trusts=root, client=client, client_trusts=root, host="::1")


def test_during_a_rotation_the_key_says_which_ca_of_the_bundle_issues() -> None:
    old, new = make_ca(), make_ca()
    bundle = old.cert_pem + new.cert_pem
    leaf = issue(old)
    assert CA.load(bundle, old.key_pem).fault(leaf, SERVER, NOW) == ""
    assert CA.load(bundle, new.key_pem).fault(leaf, SERVER, NOW) == "this CA did not sign it"
    assert new.fault(issue(CA.load(bundle, new.key_pem)), SERVER, NOW) == ""
    # With the key elsewhere, the leaves of both are in order.
    assert [CA.load(bundle, None).fault(issue(ca), SERVER, NOW) for ca in (old, new)] == ["", ""]


def test_a_ca_renewed_with_its_old_key_issues_with_the_certificate_that_is_valid() -> None:
    key = KEYS["EC in PKCS#8"][0]
    name = guide_name("etcd ca")
    expired = sign(key, name, name, key.public_key(), CA_TRUE, end=NOW - YEAR)
    valid = sign(key, name, name, key.public_key(), CA_TRUE, end=NOW + timedelta(days=9))
    ca = CA.load(expired + valid, key_pem(key))
    pair = issue(ca)
    assert inspect(pair.cert_pem).not_after == NOW + timedelta(days=9)
    assert ca.fault(pair, SERVER, NOW) == ""


RSA, EC = KEYS["RSA in PKCS#8"][0], KEYS["EC in PKCS#8"][0]
ENCRYPTED = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
NOT_FOR_SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


@pytest.mark.parametrize(
    ("cert", "key", "part", "message"),
    [
        (b"", None, "certificate", "is not a PEM certificate"),
        (brought(EC)[:200], None, "certificate", "is not a PEM certificate"),
        (b"\xff\xfe\x00", key_pem(EC), "certificate", "is not a PEM certificate"),
        (brought(EC), b"", "key", "is not a PEM private key"),
        (brought(EC), key_pem(EC)[:80], "key", "is not a PEM private key"),
        (brought(EC), ENCRYPTED, "key", "is encrypted"),
        (brought(EC), key_pem(dsa.generate_private_key(1024)), "key", "is of a kind that etcd cannot use"),
        (brought(EC), key_pem(RSA), "key", "does not belong to the certificate"),
        (brought(EC) + key_pem(EC), key_pem(EC), "certificate", "holds a private key"),
        (brought(EC, x509.BasicConstraints(False, None)), key_pem(EC), "certificate", "is not the certificate of a CA"),
        (brought(EC, x509.SubjectKeyIdentifier(b"x")), None, "certificate", "is not the certificate of a CA"),
        (brought(EC, CA_TRUE, NOT_FOR_SIGNING), key_pem(EC), "certificate", "is not the certificate of a CA"),
    ],
)
def test_what_cannot_be_a_ca(cert: bytes, key: bytes | None, part: str, message: str) -> None:
    with pytest.raises(PemError) as caught:
        CA.load(cert, key)
    assert (caught.value.part, caught.value.exit_code) == (part, 2)
    assert message in caught.value.message and caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("now", "message"),
    [(NOW + 11 * YEAR, "the CA expired on"), (NOW - YEAR, "the CA is not valid before")],
)
def test_a_ca_issues_in_its_time_only(now: datetime, message: str) -> None:
    ca = make_ca()
    with pytest.raises(PemError, match=message):
        issue(ca, now=now)


def test_a_ca_without_its_key_issues_nothing() -> None:
    with pytest.raises(PemError, match="is missing"):
        issue(CA.load(make_ca().cert_pem, None))


# What is wrong with a leaf


def test_every_fault_of_a_leaf_has_its_own_words() -> None:
    ca, other = make_ca(), make_ca()
    leaf, client = issue(ca), issue(ca, OPERATOR)
    moved = LeafRequest("server", "etcd01", ("198.18.40.12", "2001:db8::12"))
    cases = [
        (leaf, NOW, SERVER, ""),
        (Pair(b"", leaf.key_pem), NOW, SERVER, "it cannot be read as a certificate"),
        (Pair(leaf.cert_pem, b"x"), NOW, SERVER, "its key is not a PEM private key"),
        (Pair(leaf.cert_pem, client.key_pem), NOW, SERVER, "its key belongs to another certificate"),
        (issue(other), NOW, SERVER, "this CA did not sign it"),
        (leaf, NOW + YEAR, SERVER, f"it expired on {NOW + YEAR:%Y-%m-%d}"),
        (issue(ca, now=NOW + timedelta(days=3)), NOW, SERVER, "it is not valid before "),
        (leaf, NOW + 11 * YEAR, SERVER, "its CA has expired"),
        (leaf, NOW, moved, "it does not cover 198.18.40.12, 2001:db8::12"),
        (client, NOW, LeafRequest("peer", "root"), "it does not cover 127.0.0.1, ::1, localhost, root"),
    ]
    for pair, now, request, fault in cases:
        assert ca.fault(pair, request, now).startswith(fault), fault
        assert bool(ca.fault(pair, request, now)) == bool(fault)


def test_usages_are_checked_and_no_usages_mean_all() -> None:
    ca = CA.load(brought(EC), key_pem(EC))
    names = x509.SubjectAlternativeName(
        [x509.DNSName("etcd01"), x509.DNSName("localhost")]
        + [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    )
    request, key = LeafRequest("server", "etcd01"), ec.generate_private_key(ec.SECP256R1())

    def fault(*usages: x509.ObjectIdentifier) -> str:
        extensions = [x509.ExtendedKeyUsage(usages)] if usages else []
        issuer = guide_name("etcd ca")
        cert = sign(EC, guide_name("etcd01"), issuer, key.public_key(), names, *extensions)
        return ca.fault(Pair(cert, key_pem(key)), request, NOW)

    assert fault() == fault(*BOTH) == fault(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE) == ""
    assert fault(ExtendedKeyUsageOID.SERVER_AUTH) == "it is not for client authentication"
    assert fault(ExtendedKeyUsageOID.CLIENT_AUTH) == "it is not for server authentication"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.ip_addresses(), min_size=1, max_size=4, unique=True), st.ip_addresses())
def test_a_leaf_covers_its_addresses_and_no_other(addresses: list[Address], other: Address) -> None:
    texts = [text.upper() for text in map(str, addresses)]  # any spelling
    request = LeafRequest("peer", "m", tuple(texts))
    pair = issue(SHARED_CA, request)
    assert SHARED_CA.fault(pair, request, NOW) == ""
    fault = SHARED_CA.fault(pair, LeafRequest("peer", "m", (str(other),)), NOW)
    covered = other in addresses or str(other) in {"127.0.0.1", "::1"}
    assert fault == ("" if covered else f"it does not cover {other}")


def test_the_zone_of_an_address_stays_out() -> None:
    assert "2001:db8::1" in LeafRequest("peer", "m", ("2001:db8::1%eth0",)).sans


# Reading


def test_inspect_agrees_with_openssl(tmp_path: Path) -> None:
    file = tmp_path / "leaf.pem"
    for _ in range(4):  # serials of different lengths
        pair = issue(SHARED_CA)
        file.write_bytes(pair.cert_pem)
        said = subprocess.run(
            ["openssl", "x509", "-noout", "-serial", "-in", file], capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == f"serial={inspect(pair.cert_pem).serial}"
    info = inspect(pair.cert_pem)
    assert (info.common_name, info.subject, info.issuer) == ("etcd01", "CN=etcd01", "CN=etcd client CA")
    assert not info.is_ca and inspect(SHARED_CA.cert_pem).is_ca
    assert (info.days_left(NOW), info.days_left(NOW + YEAR + timedelta(hours=1))) == (365, -1)


def test_inspect_refuses_what_is_no_certificate() -> None:
    with pytest.raises(PemError, match="is not a PEM certificate"):
        inspect(key_pem(EC))


@pytest.mark.parametrize(
    ("lifetime", "left"),
    [
        (timedelta(days=3650), timedelta(days=365)),
        (timedelta(days=365), timedelta(days=36.5)),
        (timedelta(days=7), timedelta(days=1)),
        (timedelta(hours=1), timedelta(minutes=30)),
    ],
)
def test_renewal_is_due_a_tenth_before_the_end_and_never_at_once(lifetime: timedelta, left: timedelta) -> None:
    info = inspect(issue(SHARED_CA, lifetime=lifetime).cert_pem)
    assert abs(info.not_after - info.renew_from - left) <= BACKDATE
    assert info.renew_from > NOW
