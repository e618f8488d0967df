"""SftpStore: backups in a folder of another host, over the project's SSH.

A login that may do nothing but SFTP will do.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from etcdops.config import SftpSection, SshSection
from etcdops.errors import HostError, OpsError
from etcdops.snapshots.manifest import FILE, Manifest
from etcdops.snapshots.store import Progress, chunks_of, receive, sort_out, unclaimed, whole

if TYPE_CHECKING:
    from etcdops.ssh.sftp import Sftp

ABANDONED = 24 * 3600.0  # seconds until an unfinished file counts as a killed run's, whatever the clocks say


class SftpStore:
    """A folder there, its owner's alone if we make it.  A file is written as NAME.part, proven, and renamed."""

    def __init__(self, section: SftpSection, ssh: SshSection, resolve: Callable[[str], Path]) -> None:
        self.where = f"sftp://{section.host}/{section.path.lstrip('/')}"
        self.damaged: list[str] = []
        self._section = section
        self._ssh = ssh
        self._resolve = resolve
        self._sftp: Sftp | None = None

    def manifests(self) -> list[Manifest]:
        with self._open() as sftp:
            listed = sftp.listing(self._section.path)
            found, self.damaged = sort_out({name: file.size for name, file in listed.items()}, self._read)
        return found

    def add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        with self._open() as sftp:
            sftp.make_folder(self._section.path)
            listed = sftp.listing(self._section.path)
            manifest = unclaimed(manifest, listed.__contains__)
            target, document = self._path(manifest.file), self._path(f"{manifest.name}.json")
            for name, file in listed.items():
                ours = name.endswith(".part") and FILE.fullmatch(name.removesuffix(".part"))
                if ours and file.written < time.time() - ABANDONED:
                    sftp.remove(self._path(name))
            try:
                self._put(sftp, target, whole(chunks_of(source), manifest, progress), manifest.stored_sha256)
                data = manifest.dump()
                self._put(sftp, document, iter([data]), _sha256(data))
            except BaseException:
                with suppress(OpsError):
                    sftp.remove(document)
                    sftp.remove(target)
                raise
        return manifest

    def fetch(self, manifest: Manifest, target: Path, progress: Progress) -> None:
        with self._open() as sftp:
            receive(sftp.chunks(self._path(manifest.file)), manifest, target, progress)

    def remove(self, manifest: Manifest) -> None:
        with self._open() as sftp:
            sftp.remove(self._path(f"{manifest.name}.json"))
            sftp.remove(self._path(manifest.file))

    def close(self) -> None:
        """Close the connection."""
        if self._sftp is not None:
            self._sftp.close()

    @contextmanager
    def _open(self) -> Iterator[Sftp]:
        """The connection, made when first needed or lost since; errors name the host and the section."""
        from etcdops.ssh.sftp import Sftp

        section = self._section
        try:
            if self._sftp is None or not self._sftp.alive:
                self._sftp = Sftp(self._ssh, self._resolve, section.host, section.user, section.port)
            yield self._sftp
        except HostError as error:
            if error.host:
                raise
            hint = f"{error.hint}; backup.sftp in config.yaml names host, port, user and path".removeprefix("; ")
            raise type(error)(error.message, hint=hint, host=section.host) from None

    def _put(self, sftp: Sftp, path: str, chunks: Iterator[bytes], sha256: str) -> None:
        part = f"{path}.part"
        try:
            sftp.write(part, chunks)
            if not sftp.is_sha256(part, sha256):
                raise HostError(f"{path}: gives back other bytes than were written", hint="look at that disk")
            sftp.rename(part, path)
        except BaseException:
            with suppress(OpsError):
                sftp.remove(part)
            raise

    def _read(self, name: str) -> bytes:
        with self._open() as sftp:
            return b"".join(sftp.chunks(self._path(name)))

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._section.path) / name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
