"""check on bare hosts: each fault is really made, found in the words that name it, and mended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdops.checkup.tables import CHECK
from etcdops.pki import CA
from tests.hosts import NAMES, Hosts, Project, members
from tests.lab.conftest import NewProject
from tests.lab.test_doctor import OFF_CLOCK, calm, found, states

Fault = Callable[[Project], AbstractContextManager[None]]
SSHD = "systemd-run --quiet --unit=test-thief --property=Type=notify /usr/sbin/sshd -D -p 2380"
SLOW = "#!/bin/sh\n/usr/bin/dd \"$@\" 2>/dev/null\necho '2300 bytes copied, 0.05 s, 46 kB/s' >&2"
NO_TCP = "#!/bin/sh\necho 'bash: /dev/tcp/a/1: No such file or directory' >&2\nexit 1"
SMALL = "mkdir -p /var/lib/etcd && mount -t tmpfs -o size=64M tmpfs /var/lib/etcd"


@pytest.fixture(scope="module")
def fresh(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bare hosts, which the tests here share."""
    hosts.bare()
    return Project(hosts, tmp_path_factory.mktemp("check"))


def test_all_well(fresh: Project, hosts: Hosts) -> None:
    done = fresh.inv("check", "--json")
    calm(done)
    assert done.json()["cluster"] == "test"
    assert list(states(done)) == [rule.name for rule in CHECK]
    assert {check for check, state in states(done).items() if state != "ok"} <= {"disk"}  # whose slowest may be slow
    for row in done.json()["members"]:
        assert {each["state"] for each in row["reach"]} == {"refused"}
        assert len(row["reach"]) == 4
        assert row["sync_ms"] > 0
    assert set(hosts.each("find / -xdev -name '.etcdops*' 2>/dev/null; true").values()) == {""}
    table = fresh.inv("check")
    assert (table.stderr == "") == (table.code == 0)
    assert [rule.name for rule in CHECK if rule.name not in table.stdout.split()] == []


def test_a_deployed_cluster_is_as_fit(fresh: Project, hosts: Hosts) -> None:
    fresh.inv("deploy").ok()
    done = fresh.inv("check", "--json")
    calm(done)
    assert {each["state"] for row in done.json()["members"] for each in row["reach"]} == {"open"}
    hosts.bare()


def on(name: str, make: str, mend: str) -> Fault:
    """A fault that a script on one host makes, and another one mends."""

    @contextmanager
    def fault(project: Project) -> Iterator[None]:
        project.hosts.sh(name, make)
        try:
            yield
        finally:
            project.hosts.sh(name, mend)

    return fault


def instead(name: str, program: str, text: str) -> Fault:
    """Another program of that name comes first on one host."""

    @contextmanager
    def fault(project: Project) -> Iterator[None]:
        project.hosts.put(name, f"/usr/local/sbin/{program}", text)
        try:
            yield
        finally:
            project.hosts.sh(name, f"rm /usr/local/sbin/{program}")

    return fault


def firewall(rule: str) -> Fault:
    """On etcd02."""

    @contextmanager
    def fault(project: Project) -> Iterator[None]:
        project.hosts.firewall("etcd02", rule)
        try:
            yield
        finally:
            project.hosts.firewall("etcd02", "")

    return fault


def section(name: str, **values: object) -> Fault:
    return lambda project: project.changed(name, **values)


@contextmanager
def ended_authority(project: Project) -> Iterator[None]:
    pki = project.folder / "pki"
    pki.rename(project.folder / "kept")
    pki.mkdir(mode=0o700)
    made = CA.create("ca", "ecdsa-p256", timedelta(days=10), datetime.now(UTC) - timedelta(days=20))
    assert made.key_pem
    for path, pem in ((pki / "ca.pem", made.cert_pem), (pki / "ca-key.pem", made.key_pem)):
        path.write_bytes(pem)
        path.chmod(0o600)
    try:
        yield
    finally:
        pki.rename(project.folder / "ended")
        Path(project.folder / "kept").rename(pki)


FAULTS: dict[str, tuple[Fault, str, str, str, str]] = {
    "packets dropped": (
        firewall("tcp dport 2380 drop"),
        "reach", "error", "etcd01",
        "does not reach etcd02 on port 2380: no answer within 2 s; open port 2380 of etcd02 to the other members",
    ),
    "packets rejected": (
        firewall("tcp dport 2380 reject with icmp type host-unreachable"),
        "reach", "error", "etcd03", "does not reach etcd02 on port 2380: No route to host; ",
    ),
    "one way only": (
        firewall("ip saddr 198.18.40.103 tcp dport 2379 drop"),
        "reach", "warning", "etcd03", "does not reach etcd02 on port 2379: no answer within 2 s; ",
    ),
    "bash without /dev/tcp": (
        instead("etcd02", "bash", NO_TCP), "reach", "note", "etcd02", "whom it reaches could not be seen: ",
    ),
    "port taken": (
        on("etcd02", SSHD, "systemctl stop test-thief"),
        "machine", "error", "etcd02", "port 2380 is taken by sshd (pid ",
    ),
    "clock": (instead("etcd02", "date", OFF_CLOCK), "clock", "error", "etcd02", "its clock is at least "),
    "data in memory": (
        on("etcd02", SMALL, "umount /var/lib/etcd; rmdir /var/lib/etcd"),
        "room", "error", "etcd02", "/var/lib/etcd/default.etcd is in memory (tmpfs): a reboot loses the member; ",
    ),
    "no room": (
        on("etcd02", SMALL, "umount /var/lib/etcd; rmdir /var/lib/etcd"),
        "machine", "error", "etcd02", "64 MiB free for /var/lib/etcd/default.etcd, 512 MiB needed; ",
    ),
    "slow disk": (
        instead("etcd02", "dd", SLOW), "disk", "warning", "etcd02", "a write takes 50.0 ms to be on the disk, ",
    ),
    "hosts mixed up": (
        on("etcd02", "hostname etcd03", "hostname etcd02"),
        "names", "warning", "etcd02", "calls itself etcd03, which is another member's name; ",
    ),
    "folder of somebody else": (
        on("etcd02", "mkdir -m 777 /etc/etcd", "rmdir /etc/etcd"),
        "account", "note", "etcd02", "/etc/etcd/: mode 777, not 755; inv deploy puts it right",
    ),
    "account that can log in": (
        on("etcd02", "useradd --shell /bin/sh etcd", "userdel etcd"),
        "account", "note", "etcd02", "user etcd can log in there (/bin/sh); usermod --shell /usr/sbin/nologin",
    ),
    "data of another cluster": (
        on("etcd02", "mkdir -p /var/lib/etcd/default.etcd/member/wal", "rm -r /var/lib/etcd"),
        "data", "error", "etcd02", "/var/lib/etcd/default.etcd holds data of another cluster: ",
    ),
    "archive that is not there": (
        section("release", archive="nowhere.tar.gz"), "release", "error", "", "",
    ),
    "release that loses data": (
        section("cluster", version="3.5.2"), "release", "error", "", "etcd 3.5.2 loses data when a member is killed",
    ),
    "CA that has ended": (ended_authority, "pki", "error", "", ""),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "check", "level", "member", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_fault(fresh: Project, fault: Fault, check: str, level: str, member: str, words: str) -> None:
    with fault(fresh):
        done = fresh.inv("check", "--json")
        if level == "note":
            calm(done)
        else:
            done.failed(5, "error: ", check)
        said = found(done, check, level)
        assert [text for name, text in said if name == member and text.startswith(words)], said
        assert [text for _, text in said if text.endswith("; ")] == [], "each says what to do"


def test_every_fault_was_mended(fresh: Project) -> None:
    assert {each for each, state in states(fresh.inv("check", "--json")).items() if state != "ok"} <= {"disk"}


def test_host_off_hides_nothing(fresh: Project, hosts: Hosts) -> None:
    hosts.lab.off("etcd03")
    try:
        done = fresh.inv("check", "--json").failed(4, "error: etcd03: 198.18.40.103:22: ")
        assert [row["reached"] for row in done.json()["members"]] == [True, True, False]
        assert states(done)["reach"] == "ok"
    finally:
        hosts.lab.on("etcd03")


def test_one_host_twice(project: NewProject) -> None:
    one, two, three = members()
    new = project(members=[one, {**two, "ssh": one["address"]}, three])
    done = new.inv("check", "--json").failed(5)
    assert {name for name, _ in found(done, "machine")} == {"etcd02"}


def test_terminal_of_eighty_columns(fresh: Project, hosts: Hosts) -> None:
    """Names of checks stay whole, and what is found is folded."""
    hosts.firewall("etcd02", "tcp dport 2380 drop")
    try:
        fresh.env = {"COLUMNS": "80", "TERM": "xterm"}
        shown = fresh.terminal("check", answers={}).stdout
    finally:
        fresh.env = {}
        hosts.firewall("etcd02", "")
    lines = [line.rstrip() for line in re.sub("\x1b[^m]*m", "", shown).splitlines() if not line.startswith("error: ")]
    assert max(map(len, lines)) <= 80, shown
    assert [rule.name for rule in CHECK if not any(rule.name in line.split() for line in lines)] == []
    assert all(name in shown for name in NAMES[:1])
