"""The official etcd archive: where it comes from, whether it is the right one, and the cache that keeps it.

An archive gets out of here only when its SHA-256 is the published one and when it holds what the hosts
unpack, so that a broken or foreign archive never reaches a host.

The cache is addressed by content: ``CACHE/SHA256/NAME`` is an archive, ``NAME.part`` an unfinished download
of it, and ``*.checked`` says that its content was looked at.  ``CACHE/sums`` remembers the sum published for
each URL, so that a second run asks no server.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import re
import struct
import tarfile
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etcdops.config import ReleaseSection
from etcdops.download import (
    CHUNK,
    DEADLINE,
    Download,
    NotFound,
    Progress,
    fetch_text,
    open_url,
    read_text,
    sha256_of,
    write_text,
    wrong_sum,
)
from etcdops.errors import OpsError, UsageError

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_ELF_MACHINES = {62: "amd64", 183: "arm64", 21: "ppc64le", 22: "s390x", 3: "386", 40: "arm"}  # e_machine
_REPLACE = "put the official archive for this version and architecture in its place"
_GIVE_SUM = "write the archive's SHA-256 under release.sha256 in config.yaml"


@dataclass(frozen=True)
class Archive:
    """A checked archive on this machine; ``sha256`` is of the file, ``size`` in bytes."""

    version: str
    arch: str
    path: Path
    sha256: str
    size: int

    @property
    def members(self) -> tuple[str, ...]:
        """The names in the archive of the programs to unpack, as tar wants them."""
        top = top_folder(self.version, self.arch)
        return tuple(f"{top}/{name}" for name in programs(self.version))


def architecture(machine: str) -> str | None:
    """etcd's name for what ``uname -m`` says; None where etcd does not fully support it (tier 1 only)."""
    return _MACHINES.get(machine)


def programs(version: str) -> tuple[str, ...]:
    """The programs that a release brings; etcdutl came with 3.5."""
    return ("etcd", "etcdctl") if version.startswith("3.4.") else ("etcd", "etcdctl", "etcdutl")


def top_folder(version: str, arch: str) -> str:
    """The folder in the official archive, which is also its file name without ``.tar.gz``."""
    return f"etcd-v{version}-linux-{arch}"


class Releases:
    """Obtains archives as the ``release`` section of config.yaml says.

    ``resolve`` makes a path of one written in that file; ``progress`` hears of every chunk of a download.
    """

    def __init__(
        self,
        settings: ReleaseSection,
        resolve: Callable[[str], Path],
        cache: Path,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._cache = cache
        self._progress = progress or (lambda name, done, total: None)

    def obtain(self, version: str, arch: str) -> Archive:
        """The archive: ``release.archive`` if that is set, else the cached or downloaded ``release.url``.

        ``UsageError`` where the configured file cannot be read; ``OpsError`` where the archive cannot be had
        or is not what it should be.
        """
        try:
            if self._settings.archive:
                return self._local(version, arch)
            return self._download(version, arch)
        except OSError as error:
            raise OpsError(
                f"{self._cache}: {error.strerror or error}",
                hint="make it writable with 30 MB free for each archive, or set XDG_CACHE_HOME elsewhere",
            ) from None

    def look(self, version: str, arch: str) -> None:
        """Raise what ``obtain`` would raise, as far as that shows without a download: no such release, a wrong file."""
        url = _fill(self._settings.url, version, arch)
        known = self._pinned(arch) or read_text(self._remembered(url))
        if self._settings.archive or (known and _is_whole(self._cache / known / _file_name(url), known)):
            self.obtain(version, arch)
        elif self._pinned(arch):
            open_url(url, {}).close()
        else:
            _published_sum(url)

    def _remembered(self, url: str) -> Path:
        return self._cache / "sums" / hashlib.sha256(url.encode()).hexdigest()

    def _pinned(self, arch: str) -> str:
        given = self._settings.sha256
        return given if isinstance(given, str) else {str(k): v for k, v in given.items()}.get(arch, "")

    def _local(self, version: str, arch: str) -> Archive:
        path = self._resolve(_fill(self._settings.archive, version, arch))
        try:
            digest = sha256_of(path)
            expected = self._pinned(arch) or _sum_beside(path) or digest
        except OSError as error:
            raise UsageError(
                f"{path}: {error.strerror or error}", hint="release.archive in config.yaml names this file"
            ) from None
        if digest != expected:
            raise wrong_sum(str(path), path, digest, expected)
        return self._checked(path, version, arch, digest)

    def _download(self, version: str, arch: str) -> Archive:
        url = _fill(self._settings.url, version, arch)
        name = _file_name(url)
        pinned = self._pinned(arch)
        remembered = self._remembered(url)
        known = pinned or read_text(remembered)
        if known and _is_whole(self._cache / known / name, known):
            return self._checked(self._cache / known / name, version, arch, known)
        expected = pinned or _published_sum(url)
        path = self._cache / expected / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name("lock"), DEADLINE, f"another run has been downloading {name}"):
            if not _is_whole(path, expected):
                part = path.with_name(f"{name}.part")
                Download(url, part, self._progress).run(expected)
                part.replace(path)
        archive = self._checked(path, version, arch, expected)
        write_text(remembered, f"{expected}\n")
        return archive

    def _checked(self, path: Path, version: str, arch: str, digest: str) -> Archive:
        """``path`` as an Archive; looks inside once for each content, since decompressing takes 0.3 s."""
        stamp = self._cache / digest / f"{top_folder(version, arch)}.checked"
        archive = Archive(version, arch, path, digest, path.stat().st_size)
        if not stamp.exists():
            check_content(archive)
            write_text(stamp, "")
        return archive


def check_content(archive: Archive) -> None:
    """``OpsError`` unless this is a whole tar.gz with etcd's programs for its version and architecture.

    Nothing is unpacked.  A path that leads out of the one top folder condemns the archive.
    """
    path, top = archive.path, top_folder(archive.version, archive.arch)
    tops: set[str] = set()
    built: dict[str, str] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                parts = entry.name.split("/")
                if entry.name.startswith("/") or ".." in parts:
                    raise OpsError(f"{path}: holds the unsafe path {entry.name!r}", hint=_REPLACE)
                tops.add(parts[0])
                if entry.name in archive.members:
                    built[entry.name] = _built_for(tar, entry)
            while stream.read(CHUNK):  # gzip compares its own checksum only at the very end
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise OpsError(f"{path}: is not a whole tar.gz archive: {error}", hint=_REPLACE) from None
    if tops != {top}:
        names = ", ".join(sorted(tops)[:3]) or "nothing"
        other = re.fullmatch(r"etcd-v(\d+\.\d+\.\d+)-linux-.*", names)
        hint = _REPLACE
        if other and other[1] != archive.version:
            hint = f"this is etcd {other[1]}, and cluster.version in config.yaml says {archive.version}: correct either"
        raise OpsError(f"{path}: holds {names}, not the one folder {top}", hint=hint)
    for name in archive.members:
        if name not in built:
            raise OpsError(f"{path}: has no {name}", hint=_REPLACE)
        if built[name] != f"for {archive.arch}":
            raise OpsError(f"{path}: {name} is {built[name]}, but must be for {archive.arch}", hint=_REPLACE)


def _built_for(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    """What a program in the archive runs on, in words, from its ELF header."""
    content = tar.extractfile(entry) if entry.isreg() else None
    header = content.read(20) if content else b""
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return "no Linux program"
    (machine,) = struct.unpack_from("<H" if header[5] == 1 else ">H", header, 18)
    return f"for {_ELF_MACHINES.get(machine, f'ELF machine {machine}')}"


def _published_sum(url: str) -> str:
    sums = urllib.parse.urljoin(url, "SHA256SUMS")
    try:
        text = fetch_text(sums)
    except NotFound:
        open_url(url, {}).close()  # no such release at all is the likelier mistake, and says so itself
        raise NotFound(f"{sums}: there is no such file", hint=_GIVE_SUM) from None
    return _line_for(_file_name(url), text, sums)


def _sum_beside(path: Path) -> str:
    """The sum from a SHA256SUMS in the folder of ``path``; empty where there is no such file."""
    sums = path.with_name("SHA256SUMS")
    return _line_for(path.name, sums.read_text(errors="replace"), str(sums)) if sums.exists() else ""


def _line_for(name: str, text: str, sums: str) -> str:
    match = re.search(rf"^([0-9a-fA-F]{{64}}) [ *](?:\./)?{re.escape(name)}\s*$", text, re.MULTILINE)
    if match is None:
        raise OpsError(f"{sums}: has no line for {name}", hint=_GIVE_SUM)
    return match[1].lower()


def _file_name(url: str) -> str:
    return urllib.parse.urlsplit(url).path.rpartition("/")[2] or "archive.tar.gz"


def _is_whole(path: Path, sha256: str) -> bool:
    return path.exists() and sha256_of(path) == sha256


def _fill(text: str, version: str, arch: str) -> str:
    return text.replace("{version}", version).replace("{arch}", arch)


@contextlib.contextmanager
def locked(path: Path, seconds: float, holder: str) -> Iterator[None]:
    """Hold the lock file ``path``; ``OpsError`` beginning with ``holder`` after ``seconds`` of waiting."""
    deadline = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OpsError(
                        f"{holder} for {seconds:.0f} s", hint=f"end it; 'fuser {path}' shows its process id"
                    ) from None
                time.sleep(0.1)
        yield
