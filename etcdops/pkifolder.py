"""The folder ``pki.dir`` as files: where each stands, what is in it, which CAs there are.

    ca.pem, ca-key.pem                  the clients' CA, under the guide's names
    peer-ca.pem, peer-ca-key.pem        the peers' CA, so that no client certificate can act as a peer
    members/NAME/server.pem, server-key.pem, peer.pem, peer-key.pem, client.pem, client-key.pem
    client.pem, client-key.pem          the operator's
    rotating                            while every leaf is replaced: since when

A ca.pem that stands there without a peer-ca.pem was brought by the user, and signs for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etcdops import atomic
from etcdops.errors import UsageError

if TYPE_CHECKING:  # `cryptography` takes 75 ms to import: a task that touches no certificate does not pay that
    from etcdops.pki import CA

CLIENTS, PEERS = "ca", "peer-ca"
ROTATING = "rotating"


class Authority(NamedTuple):
    """A CA and the name of its files; without ``ca`` it is still to be made."""

    stem: str
    ca: CA | None


@dataclass(frozen=True)
class PkiFolder:
    """The files of a pair are named by its ``stem``, such as ``ca`` or ``members/etcd01/peer``.

    ``UsageError`` says what is wrong with a file there.
    """

    path: Path

    def cert(self, stem: str) -> Path:
        """Where the certificate is, or will be."""
        return self.path / f"{stem}.pem"

    def key(self, stem: str) -> Path:
        """Where the private key is, or will be."""
        return self.path / f"{stem}-key.pem"

    def read(self, path: Path) -> bytes | None:
        """What is in ``path``; None if it is not there."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = "make it readable for yourself, or name another folder: pki.dir in the configuration"
            raise UsageError(f"{path}: {error.strerror or error}", hint=hint) from None

    def authorities(self) -> list[Authority]:
        """The CAs that there should be: one for both roles where the user brought one, else two."""
        peers = self.read(self.cert(PEERS)) or self.read(self.key(PEERS))
        brought = self.read(self.cert(CLIENTS)) and not peers
        return [Authority(stem, self._load_ca(stem)) for stem in ((CLIENTS,) if brought else (CLIENTS, PEERS))]

    def _load_ca(self, stem: str) -> CA | None:
        cert, key = self.read(self.cert(stem)), self.read(self.key(stem))
        if cert is None and (key is None or self.interrupted(stem)):
            return None
        if cert is None:
            raise UsageError(
                f"{self.key(stem)}: its certificate {stem}.pem is missing",
                hint=f"put it beside the key, or move the key out of {self.path} and run 'inv gen-ca'",
            )
        from etcdops.pki import CA

        with self.naming_the_file(stem):
            return CA.load(cert, key)

    def interrupted(self, stem: str) -> bool:
        """Whether a run that made this CA was killed between the renames of its key and its certificate."""
        cert = self.cert(stem)
        return self.key(stem).exists() and not cert.exists() and atomic.staged(cert).exists()

    def rotating(self) -> datetime | None:
        """Since when every leaf is being replaced, whatever its age; None while that is not so."""
        path = self.path / ROTATING
        text = (self.read(path) or b"").decode(errors="replace").strip()
        try:
            return datetime.fromisoformat(text).astimezone(UTC) if text else None
        except ValueError:
            hint = "remove it; inv rotate-certs begins anew"
            raise UsageError(f"{path}: holds no date and time", hint=hint) from None

    def pair(self, stem: str, cert_pem: bytes, key_pem: bytes | None) -> list[atomic.NewFile]:
        """The key first: a leaf whose key alone was replaced does not match, and is issued again."""
        assert key_pem is not None  # whoever has issued something has its key
        key = atomic.NewFile(self.key(stem), key_pem, 0o600)
        return [key, atomic.NewFile(self.cert(stem), cert_pem, 0o644)]

    @contextmanager
    def naming_the_file(self, stem: str) -> Iterator[None]:
        """Say which file of a CA it is that ``pki`` found fault with."""
        from etcdops.certificate import PemError

        try:
            yield
        except PemError as error:
            path = self.key(stem) if error.part == "key" else self.cert(stem)
            raise UsageError(f"{path}: {error.message}", hint=error.hint) from None
