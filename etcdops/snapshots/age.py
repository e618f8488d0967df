"""Encrypted: any store, with the snapshots in it encrypted to recipients of age (https://age-encryption.org).

Manifests stay readable, so that listing and pruning need no key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from etcdops import atomic
from etcdops.config import AgeSection
from etcdops.errors import OpsError, UsageError
from etcdops.snapshots.extras import missing
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.store import Progress, Store, create, failed

if TYPE_CHECKING:
    from hashlib import _Hash

IDENTITY = "backup.age.identity in config.yaml names the file of the secret key, as age-keygen writes it"


class Encrypted:
    """``store``, encrypting what is added to it; without a ``section`` it takes what is added as it is.

    What was stored encrypted is decrypted on the way back, what was not is given back as it is: so a store may hold
    both, from before and after encryption was set up.
    """

    def __init__(self, store: Store, section: AgeSection | None, resolve: Callable[[str], Path]) -> None:
        """``UsageError`` where pyrage is missing, or a recipient is none."""
        self.where = store.where
        self._store = store
        self._recipients = _recipients(section.recipients) if section else []
        self._identity = resolve(section.identity) if section and section.identity else None

    @property
    def damaged(self) -> list[str]:
        """As the store found it."""
        return self._store.damaged

    @damaged.setter
    def damaged(self, value: list[str]) -> None:
        self._store.damaged = value

    def manifests(self) -> list[Manifest]:
        return self._store.manifests()

    def add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        """Store ``source`` encrypted, by way of a file beside it; its manifest says so there, unlike ``manifest``."""
        if not self._recipients:
            return self._store.add(source, manifest, progress)
        import pyrage

        target = source.with_name(f".{source.name}.age")
        try:
            target.unlink(missing_ok=True)  # a killed run's
            with source.open("rb") as plain, create(target) as stream:
                sink = Summed(stream)
                with sink.unwrapped(pyrage.EncryptError):
                    pyrage.encrypt_io(plain, sink, self._recipients)
                stream.flush()
            update = {"encrypted": True, "stored_size": sink.size, "stored_sha256": sink.sha256}
            return self._store.add(target, manifest.model_copy(update=update), progress)
        except OSError as error:
            raise failed(target, "written", error) from None
        finally:
            target.unlink(missing_ok=True)

    def fetch(self, manifest: Manifest, target: Path, progress: Progress) -> None:
        if not manifest.encrypted:
            self._store.fetch(manifest, target, progress)
            return
        identities = self._identities(manifest)
        sealed, part = (target.with_name(f".{target.name}.{kind}") for kind in ("age", "part"))
        try:
            self._store.fetch(manifest, sealed, progress)
            part.unlink(missing_ok=True)  # a killed run's
            with sealed.open("rb") as source, create(part) as stream:
                sink = Summed(stream)
                _decrypt(manifest, source, sink, identities)
                stream.flush()
                os.fsync(stream.fileno())
            if (sink.size, sink.sha256) != (manifest.size, manifest.sha256):
                raise OpsError(
                    f"{manifest.file}: holds another snapshot than {manifest.name}.json describes",
                    hint="take another backup; inv snapshot.list",
                )
            part.replace(target)
            atomic.sync(target.parent)
        except OSError as error:
            raise failed(target, "written", error) from None
        finally:
            for path in (sealed, part):
                path.unlink(missing_ok=True)

    def remove(self, manifest: Manifest) -> None:
        self._store.remove(manifest)

    def close(self) -> None:
        """As the store does."""
        self._store.close()

    def _identities(self, manifest: Manifest) -> list[Any]:
        """Every secret key of the file; asked for before anything is fetched."""
        path = self._identity
        if path is None:
            raise UsageError(f"{manifest.name} is encrypted, and there is no identity to read it with", hint=IDENTITY)
        pyrage = _pyrage()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise UsageError(f"{path}: cannot be read as an identity of age: {reason}", hint=IDENTITY) from None
        if text.startswith(("age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE")):
            raise UsageError(
                f"{path}: has a passphrase, which cannot be asked for here",
                hint=f"age -d {path} > FILE, with backup.age.identity: FILE, and remove it afterwards",
            )
        keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        try:
            found = [pyrage.x25519.Identity.from_str(key) for key in keys]
        except pyrage.IdentityError:
            found = []
        if not found:
            raise UsageError(f"{path}: holds no identity of age (AGE-SECRET-KEY-1...)", hint=IDENTITY)
        return found


class Summed:
    """A file that is written to, with size and SHA-256 of what was; in the form that pyrage asks for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest: _Hash = hashlib.sha256()
        self.size = 0
        self._error: OSError | None = None

    @property
    def sha256(self) -> str:
        """Of everything so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """As a file does."""
        self._digest.update(data)
        self.size += len(data)
        try:
            return self._stream.write(data)
        except OSError as error:
            self._error = error
            raise

    def flush(self) -> None:
        """As a file does."""
        self._stream.flush()

    @contextmanager
    def unwrapped(self, kind: type[Exception]) -> Iterator[None]:
        """What pyrage raised as ``kind`` or OSError, as what it was: a full disk, or Ctrl-C."""
        try:
            yield
        except (kind, OSError) as error:
            if "KeyboardInterrupt" in str(error):
                raise KeyboardInterrupt from None
            raise self._error or error from None


def _decrypt(manifest: Manifest, source: BinaryIO, sink: Summed, identities: list[Any]) -> None:
    import pyrage

    try:
        with sink.unwrapped(pyrage.DecryptError):
            pyrage.decrypt_io(source, sink, identities)
    except pyrage.DecryptError as error:
        raise OpsError(
            f"{manifest.file}: cannot be decrypted with backup.age.identity: {error}",
            hint="was it made for other recipients?  name the file of that secret key",
        ) from None


def _recipients(keys: list[str]) -> list[Any]:
    pyrage = _pyrage()
    found = []
    for number, key in enumerate(keys):
        try:
            found.append(pyrage.x25519.Recipient.from_str(key))
        except pyrage.RecipientError as error:
            raise UsageError(
                f"backup.age.recipients[{number}]: {key} is no recipient of age: {error}",
                hint="age-keygen -y FILE prints the one of a secret key",
            ) from None
    return found


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError:
        raise missing("pyrage", "backup.age") from None
    return pyrage
