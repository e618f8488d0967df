"""What a certificate or a key says: names, dates, usages, and who signed it.

Reading only; ``pki`` makes them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from etcdops.errors import UsageError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Extension = TypeVar("Extension", bound=x509.ExtensionType)

UNREADABLE = (ValueError, UnsupportedAlgorithm)
NOT_A_CERTIFICATE = ("is not a PEM certificate", "it must hold a -----BEGIN CERTIFICATE----- block")


class PemError(UsageError):
    """A certificate or key cannot be used; ``part`` says which file of the two is wrong."""

    def __init__(self, part: Literal["certificate", "key"], message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.part = part


@dataclass(frozen=True)
class CertInfo:
    """What a person wants to know about a certificate.  ``serial`` is written as openssl writes it."""

    common_name: str
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    sans: tuple[str, ...]
    is_ca: bool

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative afterwards."""
        return (self.not_after - now).days

    @property
    def renew_from(self) -> datetime:
        """When it is time for a new one: a tenth of its lifetime before the end.

        That is five weeks of a year, as it is a person who runs the task; at least a day, so that a daily run
        comes in time; never more than half the lifetime, so that a new leaf is not stale at once.
        """
        lifetime = self.not_after - self.not_before
        return self.not_after - min(max(lifetime / 10, timedelta(days=1)), lifetime / 2)


def inspect(cert_pem: bytes) -> CertInfo:
    """The first certificate of ``cert_pem``; ``PemError`` if there is none."""
    try:
        cert = x509.load_pem_x509_certificate(cert_pem)
        names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        serial = cert.serial_number
        return CertInfo(
            common_name=str(names[0].value) if names else "",
            subject=cert.subject.rfc4514_string(),
            issuer=cert.issuer.rfc4514_string(),
            serial=serial.to_bytes((serial.bit_length() + 7) // 8).hex().upper(),
            not_before=cert.not_valid_before_utc,
            not_after=cert.not_valid_after_utc,
            sans=names_of(cert),
            is_ca=may_issue(cert),
        )
    except UNREADABLE:
        raise PemError("certificate", *NOT_A_CERTIFICATE) from None


def load_key(pem: bytes) -> PrivateKey:
    """A private key in PKCS#1, SEC 1 or PKCS#8; ``PemError`` says why it is none that can be used."""
    hint = "put an unencrypted RSA, EC or Ed25519 key in PEM form here"
    try:
        # To prove an RSA key's primes takes 36 ms; that it belongs to its certificate is what matters here.
        key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise PemError("key", "is encrypted", hint) from None
    except UNREADABLE:
        raise PemError("key", "is not a PEM private key", hint) from None
    if not isinstance(key, PrivateKey):
        raise PemError("key", "is of a kind that etcd cannot use", hint)
    return key


def extension(cert: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """The extension of this kind; None where there is none, ``ValueError`` where it is broken."""
    try:
        return cert.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def may_issue(cert: x509.Certificate) -> bool:
    """Whether it is a CA's: without that in its basic constraints, no TLS library accepts what it signs."""
    basic, usage = extension(cert, x509.BasicConstraints), extension(cert, x509.KeyUsage)
    return basic is not None and basic.ca and (usage is None or usage.key_cert_sign)


def valid_at(cert: x509.Certificate, now: datetime) -> bool:
    """Whether ``now`` is within its dates."""
    return cert.not_valid_before_utc <= now < cert.not_valid_after_utc


def signed_by(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` is named in it and its signature is genuine."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def usages_of(cert: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    """The extended key usages; None if it may be used for everything (RFC 5280, 4.2.1.12)."""
    usages = extension(cert, x509.ExtendedKeyUsage)
    return None if usages is None or Usage.ANY_EXTENDED_KEY_USAGE in usages else frozenset(usages)


def general_name(text: str) -> x509.GeneralName:
    """An address or a host name as it stands among SANs."""
    try:
        # An IPv6 zone means something on one machine only, and a certificate has no room for it.
        return x509.IPAddress(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return x509.DNSName(text.lower())


def san_texts(names: Iterable[x509.GeneralName]) -> Iterator[str]:
    """Addresses and host names, each in its one spelling; other kinds of SAN mean nothing to etcd."""
    return (str(name.value).lower() for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def names_of(cert: x509.Certificate) -> tuple[str, ...]:
    """The addresses and host names among its SANs."""
    return tuple(san_texts(extension(cert, x509.SubjectAlternativeName) or ()))
