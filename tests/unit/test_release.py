"""release.py and download.py against a web server on loopback that breaks off, stalls, lies and lacks files."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import random
import re
import resource
import socket
import struct
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etcdops import download, release
from etcdops.config import ReleaseSection
from etcdops.errors import OpsError, UsageError
from etcdops.release import Archive, Releases, architecture

VERSION, ARCH = "3.6.14", "amd64"
NAME = f"etcd-v{VERSION}-linux-{ARCH}.tar.gz"
TOP = NAME.removesuffix(".tar.gz")
PROGRAMS = ("etcd", "etcdctl", "etcdutl")


def elf(machine: int = 62, size: int = 100_000) -> bytes:
    """As much of an ELF program as anybody looks at, and noise that does not compress."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine)
    return head + random.Random(machine).randbytes(size)


def tar_gz(files: dict[str, bytes | str]) -> bytes:
    """A tar.gz; a text instead of bytes is the target of a symbolic link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def official(version: str = VERSION, arch: str = ARCH, without: str = "") -> dict[str, bytes | str]:
    """The content of an official archive."""
    machine = {"amd64": 62, "arm64": 183}[arch]
    return {
        f"etcd-v{version}-linux-{arch}/{name}": elf(machine) for name in (*PROGRAMS, "README.md") if name != without
    }


GOOD = tar_gz(official())


def sums(data: bytes, name: str = NAME) -> bytes:
    return f"{'0' * 64}  another-file.zip\n{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


class Site(http.server.ThreadingHTTPServer):
    """Files to serve, ways to fail, and a log of what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/{NAME}": GOOD, "/SHA256SUMS": sums(GOOD)}
        self.ranges = True
        self.validator = ("ETag", '"one"')
        self.status: dict[str, int] = {}
        self.breaks: list[str] = []  # what happens in the middle of each archive's body: cut, reset, stall
        self.log: list[tuple[str, str, str]] = []
        self.on_archive: Callable[[], object] = lambda: None
        self.finish = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, path: str) -> list[tuple[str, str]]:
        return [(range_, validator) for asked, range_, validator in self.log if asked.endswith(path)]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range", "")
        condition = self.headers.get("If-Range", "")
        site.log.append((self.path, wanted, condition))
        path = re.sub(r"^http://[^/]+", "", self.path)
        data = site.files.get(path)
        if path in site.status or data is None:
            self.send_error(site.status.get(path, 404))
            return
        start = int(wanted[6:-1]) if site.ranges and wanted and condition in ("", site.validator[1]) else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header(*site.validator)
        self.end_headers()
        if path == "/SHA256SUMS":
            self.wfile.write(data)
            return
        site.on_archive()
        how = site.breaks.pop(0) if site.breaks else ""
        if not how:
            self.wfile.write(data[start:])
            return
        self.wfile.write(data[start : (start + len(data)) // 2])
        self.wfile.flush()
        if how == "stall":
            site.finish.wait(10)
        elif how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.finish.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "etcdops"


def releases(site: Site, cache: Path, **settings: object) -> Releases:
    url = f"{site.url}/etcd-v{{version}}-linux-{{arch}}.tar.gz"
    return Releases(ReleaseSection.model_validate({"url": url, **settings}), Path, cache)


def left_in(cache: Path) -> set[str]:
    """The kinds of files in the cache."""
    return {path.suffix for path in cache.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("armv7l", None), ("ppc64le", None)],
)
def test_architecture(machine: str, arch: str | None) -> None:
    assert architecture(machine) == arch


# --- a look before a download ---


@pytest.mark.parametrize("pinned", [True, False])
def test_a_look_finds_a_release_and_downloads_nothing(site: Site, cache: Path, pinned: bool) -> None:
    site.files = {f"/{NAME}": GOOD, **({} if pinned else {"/SHA256SUMS": sums(GOOD)})}
    known = {"sha256": hashlib.sha256(GOOD).hexdigest()} if pinned else {}
    releases(site, cache, **known).look(VERSION, "amd64")
    assert left_in(cache) == set()


@pytest.mark.parametrize("pinned", [True, False])
def test_a_look_finds_that_there_is_no_such_release(site: Site, cache: Path, pinned: bool) -> None:
    site.files = {}
    known = {"sha256": 64 * "a"} if pinned else {}
    with pytest.raises(OpsError, match=r"3\.6\.99"):
        releases(site, cache, **known).look("3.6.99", "amd64")


def test_a_look_asks_nobody_for_what_is_in_the_cache(site: Site, cache: Path) -> None:
    site.files = {f"/{NAME}": GOOD, "/SHA256SUMS": sums(GOOD)}
    releases(site, cache).obtain(VERSION, "amd64")
    site.files = {}
    releases(site, cache).look(VERSION, "amd64")


def test_a_look_at_a_local_archive(site: Site, tmp_path: Path, cache: Path) -> None:
    file = tmp_path / NAME
    file.write_bytes(GOOD)
    releases(site, cache, archive=str(file)).look(VERSION, "amd64")
    file.write_bytes(GOOD[:-4])
    with pytest.raises(OpsError, match="not a whole"):
        releases(site, cache, archive=str(file)).look(VERSION, "amd64")


# --- the download ---


def test_download(site: Site, cache: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    settings = ReleaseSection(url=f"{site.url}/etcd-v{{version}}-linux-{{arch}}.tar.gz")
    archive = Releases(settings, Path, cache, lambda *step: heard.append(step)).obtain(VERSION, ARCH)
    assert archive.path.read_bytes() == GOOD
    digest = hashlib.sha256(GOOD).hexdigest()
    assert archive == Archive(VERSION, ARCH, cache / digest / NAME, digest, len(GOOD))
    assert archive.members == (f"{TOP}/etcd", f"{TOP}/etcdctl", f"{TOP}/etcdutl")
    assert heard[-1] == (NAME, len(GOOD), len(GOOD))
    assert left_in(cache) == {".gz", ".checked", ""}


def test_a_second_run_asks_no_server_and_looks_inside_no_more(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = releases(site, cache).obtain(VERSION, ARCH)
    site.log.clear()
    monkeypatch.setattr(release, "check_content", lambda archive: pytest.fail("looked inside again"))
    assert releases(site, cache).obtain(VERSION, ARCH) == first
    assert site.log == []


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("validator", [("ETag", '"one"'), ("Last-Modified", "Wed, 01 Jul 2026 10:00:00 GMT")])
def test_a_break_is_resumed(site: Site, cache: Path, how: str, validator: tuple[str, str]) -> None:
    site.breaks, site.validator = [how], validator
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    first, second = site.asked(NAME)
    assert first == ("", "")
    assert re.fullmatch(r"bytes=[1-9]\d*-", second[0])
    assert second[1] == validator[1]


def test_a_weak_etag_is_no_condition(site: Site, cache: Path) -> None:
    site.breaks, site.validator = ["cut"], ("ETag", 'W/"one"')
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert site.asked(NAME)[1][1] == ""


def test_a_break_restarts_where_the_server_cannot_resume(site: Site, cache: Path) -> None:
    site.breaks, site.ranges = ["cut", "cut"], False
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert len(site.asked(NAME)) == 3


def test_a_stalled_server_is_left(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    site.breaks = ["stall"]
    begin = time.monotonic()
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert time.monotonic() - begin < 5


def test_a_trickle_is_left(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DEADLINE", 0.0)
    with pytest.raises(OpsError, match="too slow"):
        releases(site, cache).obtain(VERSION, ARCH)


def broken_run(site: Site, cache: Path) -> None:
    """Leave a part of the archive in the cache."""
    site.breaks = ["cut"] * download.TRIES
    with pytest.raises(OpsError, match=r"broke off: only \d+ of \d+ bytes came"):
        releases(site, cache).obtain(VERSION, ARCH)
    assert ".part" in left_in(cache)
    assert ".gz" not in left_in(cache)
    site.log.clear()


def test_the_next_run_goes_on_where_a_broken_one_stopped(site: Site, cache: Path) -> None:
    broken_run(site, cache)
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    [(range_, validator)] = site.asked(NAME)
    assert (range_ != "", validator) == (True, '"one"')
    assert left_in(cache) == {".gz", ".checked", ""}


def test_a_changed_file_restarts(site: Site, cache: Path) -> None:
    broken_run(site, cache)
    site.validator = ("ETag", '"two"')
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert len(site.asked(NAME)) == 1


@pytest.mark.parametrize("rest", [b"not the beginning of this file", GOOD + b"more"])
def test_a_part_of_something_else_restarts(site: Site, cache: Path, rest: bytes) -> None:
    broken_run(site, cache)
    [part] = cache.rglob("*.part")
    part.write_bytes(rest)
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert len(site.asked(NAME)) == 2


def test_a_damaged_cache_is_replaced(site: Site, cache: Path) -> None:
    path = releases(site, cache).obtain(VERSION, ARCH).path
    path.write_bytes(GOOD[:-1])
    assert releases(site, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD


def test_two_runs_at_once_download_once(site: Site, cache: Path) -> None:
    both_know_the_sum = threading.Barrier(2)

    def on_archive() -> None:
        site.finish.wait(10)

    site.on_archive = on_archive

    def run() -> bytes:
        both_know_the_sum.wait(10)
        return releases(site, cache, sha256=hashlib.sha256(GOOD).hexdigest()).obtain(VERSION, ARCH).path.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run) for _ in range(2)]
        lock = cache / hashlib.sha256(GOOD).hexdigest() / "lock"
        for _ in range(1000):
            if lock.exists() and site.asked(NAME):
                break
            threading.Event().wait(0.01)
        site.finish.set()
        assert [future.result(20) for future in runs] == [GOOD, GOOD]
    assert len(site.asked(NAME)) == 1


def test_a_lock_that_is_never_given_back(tmp_path: Path) -> None:
    with (
        release.locked(tmp_path / "lock", 5, "nobody"),
        pytest.raises(OpsError, match="another run has been downloading for 0 s"),
        release.locked(tmp_path / "lock", 0, "another run has been downloading"),
    ):
        pytest.fail("locked twice")


def test_a_proxy_of_the_environment_is_used(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # urllib looks at the environment once in a process
    settings = ReleaseSection(url=f"http://releases.invalid/{NAME}")
    assert Releases(settings, Path, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD
    assert site.log[0][0] == "http://releases.invalid/SHA256SUMS"


def test_a_file_url(tmp_path: Path, cache: Path) -> None:
    (tmp_path / NAME).write_bytes(GOOD)
    settings = ReleaseSection(url=f"file://{tmp_path}/{NAME}")
    with pytest.raises(OpsError, match="SHA256SUMS: there is no such file"):
        Releases(settings, Path, cache).obtain(VERSION, ARCH)
    (tmp_path / "SHA256SUMS").write_bytes(sums(GOOD))
    assert Releases(settings, Path, cache).obtain(VERSION, ARCH).path.read_bytes() == GOOD


def test_a_full_disk_leaves_nothing(site: Site, cache: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(GOOD) // 2, before[1]))
    try:
        with pytest.raises(OpsError, match="cache/etcdops: File too large") as caught:
            releases(site, cache).obtain(VERSION, ARCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "30 MB" in caught.value.hint
    assert left_in(cache) == set()


# --- what the server may lack or get wrong ---


def test_a_wrong_sum_gets_nowhere(site: Site, cache: Path) -> None:
    site.files[f"/{NAME}"] = tar_gz(official(without="README.md"))
    with pytest.raises(OpsError, match=f"{NAME}: its SHA-256 is .*, but it should be") as caught:
        releases(site, cache).obtain(VERSION, ARCH)
    assert "do not use" in caught.value.hint
    assert left_in(cache) == set()


def test_a_page_instead_of_the_archive(site: Site, cache: Path) -> None:
    site.files[f"/{NAME}"] = b"<html>Please log in</html>"
    with pytest.raises(OpsError, match="a proxy's page"):
        releases(site, cache).obtain(VERSION, ARCH)


@pytest.mark.parametrize(
    ("broken", "message", "hint"),
    [
        ({"files": {}}, rf"/{NAME}: 404 Not Found", "cluster.version"),
        ({"files": {f"/{NAME}": GOOD}}, "/SHA256SUMS: there is no such file", "release.sha256"),
        ({"files": {f"/{NAME}": GOOD, "/SHA256SUMS": b""}}, f"SHA256SUMS: has no line for {NAME}", "release.sha256"),
        (
            {"files": {f"/{NAME}": GOOD, "/SHA256SUMS": sums(GOOD, NAME + ".asc")}},
            f"SHA256SUMS: has no line for {NAME}",
            "release.sha256",
        ),
        ({"status": {f"/{NAME}": 404}}, rf"/{NAME}: 404 Not Found", "cluster.version"),
        ({"status": {f"/{NAME}": 503}}, rf"/{NAME}: 503 Service Unavailable", "release.archive"),
        ({"status": {"/SHA256SUMS": 403}}, "/SHA256SUMS: 403 Forbidden", "release.archive"),
    ],
)
def test_what_a_server_lacks(site: Site, cache: Path, broken: dict[str, object], message: str, hint: str) -> None:
    for name, value in broken.items():
        setattr(site, name, value)
    with pytest.raises(OpsError, match=message) as caught:
        releases(site, cache).obtain(VERSION, ARCH)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/x.tar.gz", "http://no-such-host.invalid/x.tar.gz"])
def test_a_server_out_of_reach(cache: Path, url: str) -> None:
    with socket.socket() as nobody:  # bound, but not listening
        nobody.bind(("127.0.0.1", 0))
        settings = ReleaseSection(url=url.replace("{port}", str(nobody.getsockname()[1])))
        with pytest.raises(OpsError, match=r"SHA256SUMS: cannot be reached: .") as caught:
            Releases(settings, Path, cache).obtain(VERSION, ARCH)
    assert "release.archive" in caught.value.hint


def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OpsError, match="file/cache: Not a directory"):
        releases(site, tmp_path / "file" / "cache").obtain(VERSION, ARCH)


# --- the sum that the user gives ---


@pytest.mark.parametrize("by_arch", [False, True])
def test_a_sum_in_the_configuration_is_enough(site: Site, cache: Path, by_arch: bool) -> None:
    del site.files["/SHA256SUMS"]
    digest = hashlib.sha256(GOOD).hexdigest()
    given = {"amd64": digest, "arm64": "0" * 64} if by_arch else digest
    assert releases(site, cache, sha256=given).obtain(VERSION, ARCH).sha256 == digest
    assert site.asked("SHA256SUMS") == []


def test_a_sum_in_the_configuration_must_match_even_what_is_cached(site: Site, cache: Path) -> None:
    releases(site, cache).obtain(VERSION, ARCH)
    with pytest.raises(OpsError, match=f"but it should be {'1' * 64}"):
        releases(site, cache, sha256="1" * 64).obtain(VERSION, ARCH)


def test_a_sum_for_the_other_architecture_does_not_count(site: Site, cache: Path) -> None:
    releases(site, cache, sha256={"arm64": "1" * 64}).obtain(VERSION, ARCH)
    assert len(site.asked("SHA256SUMS")) == 1


# --- what must be in an archive ---


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (official("3.5.9"), f"this is etcd 3.5.9, and cluster.version in config.yaml says {VERSION}: correct either"),
        (official(arch="arm64"), "put the official archive for this version and architecture in its place"),
        ({}, "put the official archive for this version and architecture in its place"),
    ],
    ids=["another version", "another architecture", "empty"],
)
def test_an_archive_of_another_version_says_which(
    site: Site, tmp_path: Path, cache: Path, content: dict[str, bytes], hint: str
) -> None:
    file = tmp_path / NAME
    file.write_bytes(tar_gz(content))
    with pytest.raises(OpsError) as caught:
        releases(site, cache, archive=str(file)).obtain(VERSION, "amd64")
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD[: len(GOOD) // 2], "not a whole tar.gz"),
        (GOOD[:-4], "not a whole tar.gz"),
        (flipped(GOOD), "not a whole tar.gz"),
        (b"", "not a whole tar.gz"),
        (b"hello", "not a whole tar.gz"),
        (gzip.compress(b"hello"), "not a whole tar.gz"),
        (gzip.compress(gzip.decompress(GOOD)[:150_000]), "not a whole tar.gz"),
        (tar_gz({}), "holds nothing, not the one folder"),
        (tar_gz(official(without="etcd")), f"has no {TOP}/etcd$"),
        (tar_gz(official(without="etcdctl")), f"has no {TOP}/etcdctl$"),
        (tar_gz(official(without="etcdutl")), f"has no {TOP}/etcdutl$"),
        (tar_gz(official("3.5.9")), f"holds etcd-v3.5.9-linux-amd64, not the one folder {TOP}"),
        (tar_gz(official(arch="arm64")), f"holds etcd-v{VERSION}-linux-arm64, not"),
        (tar_gz({**official(), f"{TOP}/etcd": elf(183)}), f"{TOP}/etcd is for arm64, but must be for amd64"),
        (tar_gz({**official(), f"{TOP}/etcdctl": elf(8)}), "etcdctl is for ELF machine 8, but"),
        (tar_gz({**official(), f"{TOP}/etcd": b"#!/bin/sh\n"}), f"{TOP}/etcd is no Linux program"),
        (tar_gz({**official(), f"{TOP}/etcd": "/bin/true"}), f"{TOP}/etcd is no Linux program"),
        (tar_gz({**official(), f"{TOP}/../etcd": elf()}), "unsafe path"),
        (tar_gz({**official(), "/etc/passwd": b""}), "unsafe path"),
        (tar_gz({**official(), "elsewhere/etcd": elf()}), f"holds elsewhere, {TOP}, not the one folder"),
    ],
)
@pytest.mark.parametrize("local", [True, False], ids=["local", "download"])
def test_unfit_archives(site: Site, tmp_path: Path, cache: Path, data: bytes, message: str, local: bool) -> None:
    file = tmp_path / NAME
    file.write_bytes(data)
    site.files = {f"/{NAME}": data, "/SHA256SUMS": sums(data)}
    obtained = releases(site, cache, archive=str(file) if local else "")
    for _ in range(2):  # the verdict does not change on a second look
        with pytest.raises(OpsError, match=message) as caught:
            obtained.obtain(VERSION, ARCH)
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_3_4_has_no_etcdutl(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "etcd.tar.gz"
    file.write_bytes(tar_gz(official("3.4.45", without="etcdutl")))
    archive = Releases(ReleaseSection(archive=str(file)), Path, cache).obtain("3.4.45", ARCH)
    assert archive.members == ("etcd-v3.4.45-linux-amd64/etcd", "etcd-v3.4.45-linux-amd64/etcdctl")


# --- a local archive ---


@pytest.fixture
def local(tmp_path: Path) -> Path:
    file = tmp_path / NAME
    file.write_bytes(GOOD)
    return file


def local_releases(local: Path, cache: Path, sha256: str = "") -> Releases:
    settings = ReleaseSection(archive="etcd-v{version}-linux-{arch}.tar.gz", sha256=sha256)
    return Releases(settings, lambda name: local.parent / name, cache)


def test_a_local_archive_stays_where_it_is(local: Path, cache: Path) -> None:
    archive = local_releases(local, cache).obtain(VERSION, ARCH)
    assert (archive.path, archive.sha256) == (local, hashlib.sha256(GOOD).hexdigest())
    assert sorted(path.name for path in local.parent.iterdir()) == ["cache", NAME]


def test_a_local_archive_is_looked_into_once(local: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_releases(local, cache).obtain(VERSION, ARCH)
    with monkeypatch.context() as patch:
        patch.setattr(release, "check_content", lambda archive: pytest.fail("looked inside again"))
        local_releases(local, cache).obtain(VERSION, ARCH)
    local.write_bytes(tar_gz(official(without="etcd")))
    with pytest.raises(OpsError, match="has no"):
        local_releases(local, cache).obtain(VERSION, ARCH)


def test_what_was_checked_for_one_version_is_not_for_another(local: Path, cache: Path) -> None:
    local_releases(local, cache).obtain(VERSION, ARCH)
    os.link(local, local.with_name("etcd-v3.6.15-linux-amd64.tar.gz"))
    with pytest.raises(OpsError, match=r"not the one folder etcd-v3\.6\.15"):
        local_releases(local, cache).obtain("3.6.15", ARCH)


@pytest.mark.parametrize(
    ("beside", "sha256", "message"),
    [
        (sums(GOOD), "", ""),
        (sums(GOOD), "1" * 64, f"but it should be {'1' * 64}"),
        (sums(b"other"), "", "its SHA-256 is"),
        (sums(b"other"), hashlib.sha256(GOOD).hexdigest(), ""),
        (sums(GOOD, "other.tar.gz"), "", f"SHA256SUMS: has no line for {NAME}"),
    ],
)
def test_the_sum_of_a_local_archive(local: Path, cache: Path, beside: bytes, sha256: str, message: str) -> None:
    local.with_name("SHA256SUMS").write_bytes(beside)
    if message:
        with pytest.raises(OpsError, match=message):
            local_releases(local, cache, sha256).obtain(VERSION, ARCH)
    else:
        assert local_releases(local, cache, sha256).obtain(VERSION, ARCH).path == local


def test_a_local_archive_that_is_not_there(local: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"etcd-v3\.6\.9-linux-arm64\.tar\.gz: No such file") as caught:
        local_releases(local, cache).obtain("3.6.9", "arm64")
    assert "release.archive" in caught.value.hint
