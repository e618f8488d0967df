"""The certificates of an etcd cluster: a CA, the leaves it issues, and what is wrong with one.

Pure: bytes in, bytes out; ``keystore`` knows the files.  It replaces the guide's cfssl steps.  Where they are
a hazard it differs: one key pair per member and role, loopback among the SANs, leaves that end with their CA.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from etcdops.certificate import (
    NOT_A_CERTIFICATE,
    UNREADABLE,
    PemError,
    PrivateKey,
    extension,
    general_name,
    load_key,
    may_issue,
    names_of,
    san_texts,
    signed_by,
    usages_of,
    valid_at,
)

PEM = serialization.Encoding.PEM
Role = Literal["server", "peer", "client"]
KeyKind = Literal["ecdsa-p256", "rsa-2048"]

# The clocks of the hosts differ; a certificate must be valid on all of them the moment it arrives.
BACKDATE = timedelta(minutes=5)

# Both ends of a peer connection show the peer leaf.  The server leaf is a client too: etcd's own JSON gateway
# dials the client port with it.
USAGES = {
    "server": (Usage.SERVER_AUTH, Usage.CLIENT_AUTH),
    "peer": (Usage.SERVER_AUTH, Usage.CLIENT_AUTH),
    "client": (Usage.CLIENT_AUTH,),
}
# In the order of RFC 5280, 4.2.1.3: a leaf signs handshakes, and an RSA one may decrypt; a CA signs
# certificates and lists of revoked ones.
_LEAF_USAGE = {
    "ecdsa-p256": x509.KeyUsage(True, False, False, False, False, False, False, False, False),
    "rsa-2048": x509.KeyUsage(True, False, True, False, False, False, False, False, False),
}
_CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)

_USAGE_NAMES = {Usage.SERVER_AUTH: "server authentication", Usage.CLIENT_AUTH: "client authentication"}

# etcd (Go) refuses a certificate with an empty label among its DNS names; a number at the end is an address.
_HOST_NAME = re.compile(r"(?!(?:.*\.)?\d+$)\w(?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*", re.ASCII)


@dataclass(frozen=True)
class Pair:
    """A certificate (the issuing intermediates may follow it) and its private key, both PEM."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)

    @property
    def pem(self) -> bytes:
        """Both as one file, which one rename can swap: etcd takes it for its cert and its key flag."""
        return self.cert_pem.rstrip() + b"\n" + self.key_pem


@dataclass(frozen=True)
class LeafRequest:
    """Who a leaf is for: ``name`` becomes its CN, ``addresses`` (IP or host name) go among its SANs."""

    role: Role
    name: str
    addresses: tuple[str, ...] = ()

    @cached_property
    def sans(self) -> frozenset[str]:
        """Every name and address that it is dialled under; a client's has none and works from anywhere.

        The member's addresses matter for dialling out too: etcd refuses a peer that calls from an address
        which is not among its SANs (etcd, "Transport security model").
        """
        if self.role == "client":
            return frozenset()
        names = [self.name] if _HOST_NAME.fullmatch(self.name) else []
        names += ["localhost", *self.addresses, "127.0.0.1", "::1"]
        return frozenset(san_texts(general_name(name) for name in names))


@dataclass(frozen=True)
class CA:
    """A certificate authority: its bundle, and its key where that is at hand.

    ``cert_pem`` may hold several certificates (a chain, or the old and the new CA during a rotation): all are
    trusted, and those that belong to the key issue.  Without a key each CA among them counts as the issuer of
    the leaves there are, and none can be added.
    """

    cert_pem: bytes
    key_pem: bytes | None = field(repr=False)
    bundle: tuple[x509.Certificate, ...] = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = field(repr=False)

    @classmethod
    def create(cls, common_name: str, kind: KeyKind, lifetime: timedelta, now: datetime) -> CA:
        """A new, self-signed CA, which signs leaves and nothing else."""
        key, end = _new_key(kind), datetime.max.replace(tzinfo=UTC)  # X.509 cannot write a later one either
        builder = _builder(common_name, None, key, now, now + min(lifetime, end - now))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_CA_USAGE, critical=True)
        cert = builder.sign(key, hashes.SHA256())
        return cls(cert.public_bytes(PEM), _key_pem(key), (cert,), (cert,))

    @classmethod
    def load(cls, cert_pem: bytes, key_pem: bytes | None) -> CA:
        """A CA from its files (PKCS#1, SEC 1 and PKCS#8 keys); ``PemError`` says why it cannot be one."""
        if b"PRIVATE KEY-----" in cert_pem:  # the CA's key would travel to every host with it
            message = "holds a private key, and this file is copied to every host"
            raise PemError("certificate", message, "move the key into the file beside it")
        try:
            bundle = tuple(x509.load_pem_x509_certificates(cert_pem))
            public = load_key(key_pem).public_key() if key_pem is not None else None
            own = [cert for cert in bundle if public is None or cert.public_key() == public]
            issuers = tuple(cert for cert in own if may_issue(cert))
        except UNREADABLE:
            raise PemError("certificate", *NOT_A_CERTIFICATE) from None
        if not own:
            message = "does not belong to the certificate"
            raise PemError("key", message, "put the key here that the CA was made with")
        if not issuers:
            message = "is not the certificate of a CA (CA:TRUE, certificate sign)"
            raise PemError("certificate", message, "put a CA's certificate here, not a server's")
        return cls(cert_pem, key_pem, bundle, issuers)

    def issuer_pem(self, now: datetime) -> bytes:
        """``issuer`` as PEM."""
        return self.issuer(now).public_bytes(serialization.Encoding.PEM)

    def issuer(self, now: datetime) -> x509.Certificate:
        """The certificate that issues now; ``PemError`` if each of them has expired or is not valid yet."""
        valid = [cert for cert in self.issuers if valid_at(cert, now)]
        if valid:
            return valid[0]
        last = max(self.issuers, key=lambda cert: cert.not_valid_after_utc)
        if now < last.not_valid_before_utc:
            message = f"the CA is not valid before {last.not_valid_before_utc:%Y-%m-%d}"
            raise PemError("certificate", message, "check the clock of this machine")
        message = f"the CA expired on {last.not_valid_after_utc:%Y-%m-%d}"
        hint = "inv rotate-ca puts new ones in their place; where there is no cluster yet, move it away: inv gen-ca"
        raise PemError("certificate", message, hint)

    def issue(self, request: LeafRequest, kind: KeyKind, lifetime: timedelta, now: datetime) -> Pair:
        """A new key and leaf for ``request``; the leaf ends no later than the CA, with which its trust ends."""
        if self.key_pem is None:
            raise PemError("key", "is missing", "put the key here that the CA was made with")
        issuer, ca_key, key = self.issuer(now), load_key(self.key_pem), _new_key(kind)
        end = now + min(lifetime, issuer.not_valid_after_utc - now)
        builder = _builder(request.name, issuer, key, now, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_LEAF_USAGE[kind], critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(USAGES[request.role]), critical=False)
        builder = builder.add_extension(_authority(issuer), critical=False)
        if request.sans:
            names = x509.SubjectAlternativeName([general_name(text) for text in sorted(request.sans)])
            builder = builder.add_extension(names, critical=False)
        algorithm = None if isinstance(ca_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        certs = (builder.sign(ca_key, algorithm), *self._intermediates(issuer))
        return Pair(b"".join(cert.public_bytes(PEM) for cert in certs), _key_pem(key))

    def _needed(self, request: LeafRequest) -> frozenset[str]:
        """What a leaf must cover: where none can be issued, the addresses that it is dialled under will do."""
        if self.key_pem is not None:
            return request.sans
        return request.sans & frozenset(san_texts(map(general_name, request.addresses)))

    def _intermediates(self, issuer: x509.Certificate) -> list[x509.Certificate]:
        """What stands between a leaf and the root: clients that trust only the root need to be shown it."""
        chain: list[x509.Certificate] = []
        while issuer.subject != issuer.issuer and issuer not in chain:
            chain.append(issuer)
            issuer = next((cert for cert in self.bundle if cert.subject == issuer.issuer), issuer)
        return chain

    def signed(self, cert_pem: bytes) -> bool:
        """Whether one of the CAs in the bundle has signed this certificate."""
        try:
            cert = x509.load_pem_x509_certificate(cert_pem)
            return any(signed_by(cert, issuer) for issuer in self.issuers)
        except UNREADABLE:
            return False

    def fault(self, pair: Pair, request: LeafRequest, now: datetime) -> str:
        """Why ``pair`` cannot serve ``request`` now; empty if it can.

        The kind of its key, its CN and its lifetime are no faults: what is valid is kept when the
        configuration moves on, and so is what the user brought.
        """
        try:
            cert = x509.load_pem_x509_certificate(pair.cert_pem)
            if cert.public_key() != load_key(pair.key_pem).public_key():
                return "its key belongs to another certificate"
            missing = self._needed(request).difference(names_of(cert))
            usages = usages_of(cert)
        except PemError as error:
            return f"its key {error.message}"
        except UNREADABLE:
            return "it cannot be read as a certificate"
        signers = [issuer for issuer in self.issuers if signed_by(cert, issuer)]
        if not signers:
            return "this CA did not sign it"
        if not any(valid_at(signer, now) for signer in signers):
            return "its CA has expired"
        if now >= cert.not_valid_after_utc:
            return f"it expired on {cert.not_valid_after_utc:%Y-%m-%d}"
        if now < cert.not_valid_before_utc:
            return f"it is not valid before {cert.not_valid_before_utc:%Y-%m-%d}"
        if missing:
            return f"it does not cover {', '.join(sorted(missing))}"
        lacking = [_USAGE_NAMES[oid] for oid in USAGES[request.role] if usages is not None and oid not in usages]
        return f"it is not for {' and '.join(lacking)}" if lacking else ""


def _new_key(kind: KeyKind) -> PrivateKey:
    if kind == "rsa-2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _builder(
    common_name: str, issuer: x509.Certificate | None, key: PrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer.subject if issuer else subject)
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(end)
    return builder.serial_number(x509.random_serial_number()).add_extension(ski, critical=False)


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's own identifier: whoever made a brought CA may have computed it in another way."""
    ski = extension(issuer, x509.SubjectKeyIdentifier)
    ski = ski or x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
