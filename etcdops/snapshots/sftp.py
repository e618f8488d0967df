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
    """A folder there, its owner's alone if we make it.  A file is written as NAME.part, proven, and renamed.

    The manifest is written first and renamed last: while it waits, its name is this run's, from whatever machine.
    """

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
            for name, file in listed.items():
                ours = name.endswith(".part") and FILE.fullmatch(name.removesuffix(".part"))
                if ours and file.written < time.time() - ABANDONED:
                    sftp.remove(self._path(name))
            manifest = unclaimed(manifest, lambda each: not self._claim(sftp, each))
            target, document = self._path(manifest.file), self._path(f"{manifest.name}.json")
            try:
                self._put(sftp, target, whole(chunks_of(source), manifest, progress), manifest.stored_sha256)
                self._settle(sftp, document, _sha256(manifest.dump()))
            except BaseException:
                with suppress(OpsError):
                    for path in (document, target, f"{document}.part"):
                        sftp.remove(path)
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

    def _claim(self, sftp: Sftp, manifest: Manifest) -> bool:
        """Take the name of ``manifest`` by what is to be its document; whether it was free."""
        name = f"{manifest.name}.json"
        part = self._path(f"{name}.part")
        try:
            sftp.write(part, iter([manifest.dump()]))
        except HostError:  # servers say "Failure", and no more, where it is there already
            if f"{name}.part" in sftp.listing(self._section.path):
                return False
            raise
        if name in sftp.listing(self._section.path):  # whoever waited so, too, may have come to its end meanwhile
            sftp.remove(part)
            return False
        return True

    def _put(self, sftp: Sftp, path: str, chunks: Iterator[bytes], sha256: str) -> None:
        part = f"{path}.part"
        try:
            sftp.remove(part)  # a killed run's
            sftp.write(part, chunks)
            self._settle(sftp, path, sha256)
        except BaseException:
            with suppress(OpsError):
                sftp.remove(part)
            raise

    def _settle(self, sftp: Sftp, path: str, sha256: str) -> None:
        """Prove what waits, and give it its name."""
        if not sftp.is_sha256(f"{path}.part", sha256):
            raise HostError(f"{path}: gives back other bytes than were written", hint="look at that disk")
        sftp.rename(f"{path}.part", path)

    def _read(self, name: str) -> bytes:
        with self._open() as sftp:
            return b"".join(sftp.chunks(self._path(name)))

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._section.path) / name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
