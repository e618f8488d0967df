"""What the lab decides without touching the machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from etcdops.errors import OpsError, Refused
from etcdops.lab import debian, network, overlay, process
from etcdops.lab.cgroup import hierarchies
from etcdops.lab.process import run

SOURCES = """\
# Debian

# switched off
Types: deb
Suites: trixie
Enabled: no

Types: deb deb-src
# the mirror
URIs: http://mirror.example/debian
Suites: bookworm
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""


def test_stanza_is_found_as_apt_counts_it() -> None:
    assert debian.stanza(SOURCES, 1).startswith("Types: deb\nSuites: trixie\n")
    assert debian.stanza(SOURCES, 2) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"
    )


def test_line_is_counted_from_one() -> None:
    text = "# mirrors\n\ndeb [signed-by=/a.gpg] http://mirror.example/debian bookworm main\n"
    assert debian.line(text, 3) == "deb [signed-by=/a.gpg] http://mirror.example/debian bookworm main"


@pytest.mark.parametrize(
    "found",
    [
        {"ID": "ubuntu", "VERSION_CODENAME": "noble", "PRETTY_NAME": "Ubuntu 24.04 LTS"},
        {"ID": "debian", "PRETTY_NAME": "Debian without a name"},
        {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 43"},
    ],
)
def test_a_machine_without_a_debian_release_is_refused_by_name(found: dict[str, str]) -> None:
    with pytest.raises(Refused, match=f"this is {found['PRETTY_NAME']}") as refusal:
        debian.release(found)
    assert "Vagrantfile" in refusal.value.hint


def test_debian_is_known_by_its_codename() -> None:
    assert debian.release({"ID": "debian", "VERSION_CODENAME": "trixie"}).codename == "trixie"


UNIFIED = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = """\
25 20 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
28 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"""


@pytest.mark.parametrize(
    ("mountinfo", "unified", "found"),
    [
        (UNIFIED, "/sys/fs/cgroup", ["/sys/fs/cgroup"]),
        (HYBRID, "/sys/fs/cgroup/unified", ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]),
        (HYBRID.rpartition("\n")[0], None, ["/sys/fs/cgroup/systemd"]),
    ],
)
def test_cgroup_hierarchies(mountinfo: str, unified: str | None, found: list[str]) -> None:
    assert hierarchies(mountinfo) == (Path(unified) if unified else None, [Path(each) for each in found])


@pytest.mark.parametrize(
    ("address", "prefix", "expected"),
    [
        ("198.18.40.250", 24, "198.18.40.0/24"),
        ("198.18.40.129", 25, "198.18.40.128/25"),
        ("198.18.0.1", 15, "198.18.0.0/15"),
        ("198.18.40.202", 30, ""),
        ("192.168.40.1", 24, ""),
        ("fd00:e7cd:40::9", 64, "fd00:e7cd:40::/64"),
        ("fd00::2", 64, ""),
    ],
)
def test_a_network_that_would_take_our_packets(address: str, prefix: int, expected: str) -> None:
    assert network.taken({"addr_info": [{"local": address, "prefixlen": prefix}]}) == expected


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo last >&2; exit 3", "last"),
        ("echo 'E: no space' >&2; echo 'E: so I stop' >&2; exit 1", "E: no space"),
        ("exit 7", "exit code 7"),
    ],
)
def test_failed_program_gives_its_reason(script: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=words) as failure:
        run(["sh", "-c", script], log=tmp_path / "log")
    assert str(tmp_path / "log") in failure.value.hint


def test_program_that_is_not_there() -> None:
    with pytest.raises(OpsError, match="no-such-program: no such program on this machine"):
        run(["no-such-program"])


def test_program_that_takes_too_long_ends_with_all_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.2)
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 100 & echo $$ $! > {pids}; wait"
    with pytest.raises(OpsError, match=r"did not finish in 0\.3 s"):
        run(["sh", "-c", script], seconds=0.3)
    until = time.monotonic() + 5
    while any(_runs(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_interrupted_program_ends(tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(Interrupted):
            run(["sh", "-c", f"trap 'echo ended > {tmp_path}/order; exit' TERM; sleep 100 & wait"])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "order").read_text() == "ended\n"


def test_nothing_that_is_mounted_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "host" / "root"
    inside.mkdir(parents=True)
    (inside / "file").touch()
    monkeypatch.setattr(overlay, "mounts_below", lambda folder: [inside])
    monkeypatch.setattr(overlay, "SECONDS", 0.1)
    with pytest.raises(OpsError, match="still in use"):
        overlay.remove(tmp_path / "host")
    assert (inside / "file").exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
