"""add-member on real hosts: more of them, what goes wrong on the way, and what others have left; no write is lost."""

from __future__ import annotations

import json
import signal

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.hosts import members as section
from tests.lab.conftest import NewProject
from tests.lab.members import CLEAN, REMAINS, address, is_whole, killed_at, listed
from tests.lab.writer import Writer

CONFS = "sha256sum /etc/etcd/etcd.conf; systemctl show -P MainPID etcd"


def add(name: str, *words: str) -> tuple[str, ...]:
    return ("add-member", name, f"--address={address(name)}", *words)


def untouched(project: Project, before: tuple[str, dict[str, str]]) -> None:
    """The cluster, its hosts and config.yaml as ``state`` found them."""
    assert state(project) == before
    for name in NAMES:
        assert listed(project, name) == set(NAMES)
    project.inv("health").ok()


def state(project: Project) -> tuple[str, dict[str, str]]:
    return (project.folder / "config.yaml").read_text(), project.hosts.each(CONFS)


@pytest.mark.chaos
def test_three_become_five_and_three_again(ours: Project, five: Hosts) -> None:
    before, pids = state(ours), five.each("systemctl show -P MainPID etcd")
    with Writer(ours) as writer:
        lines = ours.inv(*add("etcd04", "--dry-run")).ok().lines
        assert any("etcdctl member add etcd04 --learner" in line for line in lines)
        untouched(ours, before)
        done = ours.inv(*add("etcd04")).ok()
        assert done.lines == ["etcd04 is a voter: 4 members are healthy, and config.yaml has it"]
        assert "4 members stand the loss of no more than 3 do" in done.stderr
        assert "in sync after" in done.stderr
        ours.inv(*add("etcd05")).ok()
        is_whole(ours, five, *NAMES, "etcd04", "etcd05")
        assert ours.inv(*add("etcd05")).ok().lines == ["nothing to do: etcd05 is a voter, and config.yaml has it"]
        assert ours.inv("add-member", "etcd05", "--dry-run").ok().lines[0].startswith("nothing to do")
        ours.inv("remove-member", "etcd05", "--yes").ok()
        ours.inv("remove-member", "etcd04", "--yes").ok()
        assert all(listed(ours, name) == set(NAMES) for name in NAMES)
        # The host of one that has left, under another name
        ours.inv("add-member", "other", f"--address={address('etcd04')}").ok()
        is_whole(ours, five, *NAMES, "other")
    assert writer.lost() == {}
    assert five.each("systemctl show -P MainPID etcd") == pids


RELEASES = [
    ("3.4.23", True),
    pytest.param("3.6.16", False, marks=pytest.mark.chaos),
    pytest.param("3.5.30", True, marks=pytest.mark.chaos),
    pytest.param("3.7.3", True, marks=pytest.mark.chaos),
]


@pytest.mark.parametrize(("version", "tls"), RELEASES)
def test_one_becomes_three(project: NewProject, hosts: Hosts, version: str, tls: bool) -> None:
    ours = project(version=version, tls=tls, members=section("etcd01"))
    ours.inv("deploy").ok()
    with Writer(ours) as writer:
        for name in ("etcd02", "etcd03"):
            ours.inv(*add(name)).ok()
    assert writer.lost() == {}
    is_whole(ours, hosts, *NAMES)


def test_one_that_never_starts_leaves_the_cluster_as_it_was(ours: Project, five: Hosts) -> None:
    with Writer(ours) as writer:
        with ours.changed("cluster", unit={"Service": {"ExecStartPre": "/bin/false"}}):
            before = state(ours)
            ours.inv(*add("etcd04")).failed(4, "etcd04: etcd did not start: ", "as it was, without it")
            untouched(ours, before)
        five.firewall("etcd04", f"ip saddr {address('etcd02')} tcp dport 2380 reject with tcp reset")
        try:
            before = state(ours)
            words = f"etcd04: etcd02 does not reach {address('etcd04')}:2380: Connection refused"
            ours.inv(*add("etcd04")).failed(4, words, "as it was, without it")
            untouched(ours, before)
        finally:
            five.firewall("etcd04", "")
    assert writer.lost() == {}
    assert (
        five.sh("etcd04", "ls -A /etc/etcd /var/lib/etcd/default.etcd 2>/dev/null; systemctl is-active etcd; true")
        == "inactive"
    )
    ours.inv(*add("etcd04")).ok()
    is_whole(ours, five, *NAMES, "etcd04")


def test_interrupted_run_leaves_the_cluster_as_it_was(ours: Project, five: Hosts) -> None:
    before = state(ours)
    held = five.hold("etcd04", "du")
    run = ours.start(*add("etcd04"))
    held.reached()
    assert len(listed(ours, "etcd01")) == 4
    run.signal(signal.SIGINT)
    held.release()
    run.end().failed(130, "the cluster is as it was, without it")
    untouched(ours, before)
    assert five.sh("etcd04", REMAINS) == CLEAN


def test_what_somebody_has_begun_is_recognised(ours: Project, five: Hosts) -> None:
    def begin(words: str) -> str:
        """`member add`, which is refused until the members have been connected for 5 s."""
        five.eventually(lambda: "added" in ours.etcdctl("etcd01", f"member add {words} 2>&1 || true"))
        found = json.loads(ours.etcdctl("etcd01", "member list --write-out=json"))["members"]
        return next(f"{each['ID']:x}" for each in found if not each.get("name"))

    slip = begin(f"etcd04 --peer-urls=http://{address('etcd04')}:2380")
    ours.refuses(3, "is a member that has never started", f"inv remove-member {slip}", task=add("etcd05"))
    ours.refuses(3, "was added at http://", "instead of https://", "nobody can be asked here", task=add("etcd04"))
    assert ours.inv("deploy").failed(3).stderr.count(f"inv remove-member {slip}") == 1
    done = ours.inv("remove-member", slip, "--yes").ok()
    assert done.lines == [f"{slip} is removed: 3 members are left"]
    begin(f"etcd04 --learner --peer-urls=http://{address('etcd04')}:2380")
    ours.inv(*add("etcd04", "--yes")).ok()
    is_whole(ours, five, *NAMES, "etcd04")
    begin(f"etcd05 --peer-urls=https://{address('etcd05')}:2380")
    done = ours.inv(*add("etcd05")).ok()
    assert "etcd05 is half-way in already; this run finishes it" in done.stderr
    is_whole(ours, five, *NAMES, "etcd04", "etcd05")


def test_nobody_is_added_while_one_is_down(ours: Project, five: Hosts) -> None:
    five.sh("etcd02", "systemctl stop etcd")
    ours.refuses(
        3, "nobody joins a cluster that is not healthy: etcd02: ", "inv replace-member etcd02", task=add("etcd04")
    )
    five.sh("etcd02", "systemctl start etcd")
    ours.refuses(
        2, "198.18.40.101 is the address of member etcd01; another", task=("add-member", "x", "--address=198.18.40.101")
    )
    ours.refuses(2, "--address: ", task=("add-member", "x", "--address=nowhere!"))
    ours.refuses(3, "198.18.40.9", task=("add-member", "x", "--address=198.18.40.9", "--ssh=198.18.40.104"))


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("where", "program", "when"),
    [
        ("etcd04", "tar", "true"),
        ("etcd04", "systemctl", '[ "$2" = --no-block ]'),
        ("etcd04", "du", "true"),
        ("etcd04", "systemctl", '[ "$1" = enable ]'),
        ("etcd01", "tar", "true"),
    ],
    ids=["its files", "its start", "in sync", "its guard", "the others"],
)
@pytest.mark.parametrize("way", ["finish", "take out"])
def test_run_that_is_killed(ours: Project, five: Hosts, where: str, program: str, when: str, way: str) -> None:
    text = (ours.folder / "config.yaml").read_text()
    with Writer(ours) as writer:
        held = five.hold(where, program, when)
        killed_at(ours, held, program, ours.start(*add("etcd04")))
        assert (ours.folder / "config.yaml").read_text() == text
        if way == "finish":
            ours.inv(*add("etcd04")).ok()
        else:
            ours.inv("remove-member", address("etcd04"), "--yes").ok()
    assert writer.lost() == {}
    if way == "finish":
        is_whole(ours, five, *NAMES, "etcd04")
    else:
        is_whole(ours, five, *NAMES)
        assert (ours.folder / "config.yaml").read_text() == text
