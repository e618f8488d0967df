"""remove-member on real members: a follower, the leader, a dead one; cut short anywhere; and no write is lost."""

from __future__ import annotations

import json

import pytest

from tests.hosts import BARE, LISTING, NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.members import CLEAN, FIVE, REMAINS, address, killed_at, listed, reread
from tests.lab.test_rolling import leader
from tests.lab.writer import Writer

ASIDE = 'case "$*" in *aside*) ;; *) false ;; esac'  # mv, where data is set aside: the lock moves a file, too


@pytest.fixture
def ours(project: NewProject) -> Project:
    """A cluster of the test's own."""
    new = project(ssh={"connect_timeout": 1})
    new.inv("deploy").ok()
    return new


def is_gone(project: Project, name: str) -> None:
    """``name`` is neither in the cluster nor in config.yaml, and nothing is left to do for the others."""
    before = project.config
    reread(project)
    members = [each for each in before["members"] if each["name"] != name]
    assert project.config == {**before, "members": members}
    names = {each["name"] for each in members}
    for each in names:
        assert listed(project, each) == names
    project.inv("del", f"/t/{name}").ok()  # of an earlier check
    project.healthy()
    on = sorted(names)
    before_deploy = project.hosts.each(LISTING, on)
    assert project.inv("deploy").ok().stdout.startswith("nothing to do in ")
    assert project.hosts.each(LISTING, on) == before_deploy


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_member_goes_and_no_write_is_lost(ours: Project, hosts: Hosts, who: str) -> None:
    ours.inv("snapshot.schedule").ok()
    led = leader(ours)
    name = led if who == "leader" else min(set(NAMES) - {led})
    before, text = hosts.listing(), (ours.folder / "config.yaml").read_text()
    pids = hosts.each("systemctl show -P MainPID etcd")
    lines = ours.inv("remove-member", name, "--dry-run").ok().lines
    assert any("etcdctl member remove" in line for line in lines)
    assert any("move-leader" in line for line in lines) == (who == "leader")
    assert (hosts.listing(), (ours.folder / "config.yaml").read_text()) == (before, text)
    ours.refuses(3, "nobody can be asked here", task=("remove-member", name))
    with Writer(ours) as writer:
        done = ours.inv("remove-member", name, "--yes").ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    assert done.lines == [f"{name} is removed: 2 members are left, and config.yaml says so"]
    assert "the cluster stops when either of them is away" in done.stderr
    assert writer.lost(without=[address(name)]) == {}
    assert hosts.sh(name, REMAINS) == CLEAN
    others = sorted(set(NAMES) - {name})
    assert hosts.each("systemctl show -P MainPID etcd", others) == {each: pids[each] for each in others}
    is_gone(ours, name)
    again = ours.inv("remove-member", name, "--yes").ok()
    assert again.lines[0].startswith(f"nothing to do: {name} is neither in the cluster nor in config.yaml")
    hosts.lab.off(name)
    hosts.lab.on(name)
    assert hosts.sh(name, REMAINS) == CLEAN


def test_dead_member_goes_and_stays_down_when_its_host_comes_back(ours: Project, hosts: Hosts) -> None:
    hosts.lab.off("etcd02")
    with Writer(ours) as writer:
        hosts.eventually(lambda: writer.acknowledged)  # each turn of the dead one costs seconds
        done = ours.inv("remove-member", "etcd02", "--yes").ok()
    assert writer.lost(without=[address("etcd02")]) == {}
    assert "once its host is back, on it: systemctl disable --now etcd" in done.stderr
    is_gone(ours, "etcd02")
    hosts.lab.on("etcd02")
    hosts.eventually(
        lambda: (
            "removed"
            in hosts.sh("etcd02", "journalctl -u etcd -b --output=cat | grep 'removed from the cluster'; true")
        )
    )
    hosts.eventually(lambda: hosts.sh("etcd02", "systemctl is-active etcd; true") == "inactive")
    assert listed(ours, "etcd01") == {"etcd01", "etcd03"}
    by_hand = done.stderr.partition("on it: ")[2].splitlines()[0]
    hosts.sh("etcd02", by_hand)
    assert hosts.sh("etcd02", "ls -d /etc/etcd 2>/dev/null; systemctl is-enabled etcd; true") == "disabled"


@pytest.mark.chaos
def test_five_with_one_down_become_three_and_no_fewer(project: NewProject, five: Hosts) -> None:
    five.each(BARE, FIVE)
    new = project(members=[{"name": name, "address": address(name)} for name in FIVE], ssh={"connect_timeout": 1})
    new.inv("deploy").ok()
    five.sh("etcd05", "systemctl stop etcd")
    with Writer(new) as writer:
        five.eventually(lambda: writer.acknowledged)
        for name, left in (("etcd04", 4), ("etcd03", 3)):
            done = new.inv("remove-member", name, "--yes").ok()
            assert done.lines == [f"{name} is removed: {left} members are left, and config.yaml says so"]
        words = "of the 2 voters that would be left 1 can commit, and 2 must"
        new.inv("remove-member", "etcd02", "--yes").failed(3, words)
        new.inv("remove-member", "etcd05", "--yes").ok()  # the dead one may go
    assert writer.lost(without=[address(name) for name in FIVE[2:]]) == {}
    reread(new)
    assert {each["name"] for each in new.config["members"]} == listed(new, "etcd01") == {"etcd01", "etcd02"}


def test_what_would_cost_the_quorum_is_refused(ours: Project, hosts: Hosts) -> None:
    def refuses(name: str, *words: str) -> None:
        on = NAMES[:2]
        before, text = hosts.each(LISTING, on), (ours.folder / "config.yaml").read_text()
        ours.inv("remove-member", name, "--yes").failed(3, *words)
        assert (hosts.each(LISTING, on), (ours.folder / "config.yaml").read_text()) == (before, text)

    hosts.lab.off("etcd03")
    alone = "of the 2 voters that would be left 1 can commit, and 2 must: the cluster would stop"
    refuses("etcd01", f"etcd01: must not be removed: {alone}")
    hosts.sh("etcd02", "systemctl stop etcd")
    refuses("etcd03", "no other member can commit, so the membership cannot change: ", "etcd03: 198.18.40.103:22: ")
    ours.inv("remove-member", "etcd09").failed(2, "no member is called 'etcd09'")
    hosts.sh("etcd02", "systemctl start etcd")
    assert ours.inv("remove-member", "etcd09").ok().lines[0].startswith("nothing to do: etcd09 is neither ")
    ours.inv("remove-member", "etcd03", "--yes").ok()
    is_gone(ours, "etcd03")


def test_down_to_one(ours: Project) -> None:
    with Writer(ours) as writer:
        ours.inv("remove-member", "etcd01", "--yes").ok()
        is_gone(ours, "etcd01")
        done = ours.inv("remove-member", "etcd03", "--yes").ok()
    assert done.lines == ["etcd03 is removed: 1 member is left, and config.yaml says so"]
    assert writer.lost(without=[address("etcd01"), address("etcd03")]) == {}
    is_gone(ours, "etcd03")
    text = (ours.folder / "config.yaml").read_text()
    ours.inv("remove-member", "etcd02", "--yes").failed(3, "etcd02: it is the only member")
    assert (ours.folder / "config.yaml").read_text() == text
    ours.healthy()


def test_removal_by_hand_is_finished(ours: Project, hosts: Hosts) -> None:
    id_ = json.loads(ours.etcdctl("etcd01", "endpoint status --write-out=json"))[0]["Status"]["header"]["member_id"]
    # Refused until the members have been connected for 5 s.
    hosts.eventually(lambda: "removed from" in ours.etcdctl("etcd02", f"member remove {id_:x} 2>&1 || true"))
    hosts.eventually(lambda: hosts.sh("etcd01", "systemctl is-active etcd; true") == "inactive")
    ours.inv("deploy").failed(3, "etcd01")
    lines = ours.inv("remove-member", "etcd01", "--dry-run").ok().lines
    assert not any("etcdctl" in line for line in lines)
    ours.inv("remove-member", "etcd01", "--yes").ok()
    assert hosts.sh("etcd01", REMAINS) == CLEAN
    is_gone(ours, "etcd01")


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("where", "program", "when"),
    [
        ("etcd03", "systemctl", '[ "$1" = disable ]'),
        ("etcd03", "mkdir", "true"),
        ("etcd03", "mv", "true"),
        ("etcd03", "rm", "true"),
        ("etcd01", "tar", "true"),
    ],
    ids=["before its host", "before its data", "its data", "its files", "the others"],
)
def test_run_that_is_killed_is_finished_by_the_next_one(
    ours: Project, hosts: Hosts, where: str, program: str, when: str
) -> None:
    held = hosts.hold(where, program, when)
    killed_at(ours, held, program, ours.start("remove-member", "etcd03", "--yes"))
    assert json.loads((ours.folder / "config.yaml").read_text()) == ours.config
    ours.inv("remove-member", "etcd03", "--yes").ok()
    assert hosts.sh("etcd03", REMAINS) == CLEAN
    is_gone(ours, "etcd03")


def test_file_that_was_changed_meanwhile_is_left_alone_and_the_next_run_ends_it(ours: Project, hosts: Hosts) -> None:
    held = hosts.hold("etcd03", "mv", when=ASIDE)
    run = ours.start("remove-member", "etcd03", "--yes")
    held.reached()
    path = ours.folder / "config.yaml"
    text = "# note\n" + path.read_text()
    path.write_text(text)
    held.release()
    run.end().failed(3, "config.yaml: was changed while this ran, and is left as it is")
    assert path.read_text() == text
    ours.inv("remove-member", "etcd03", "--yes").ok()
    assert path.read_text().startswith("# note\n")
    assert "etcd03" not in path.read_text()
