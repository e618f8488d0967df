"""replace-member on real hosts: a wiped directory, a lost host, one that comes back in the middle; no write is lost."""

from __future__ import annotations

import pytest

from tests.hosts import BARE, NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.members import CLEAN, FIVE, REMAINS, address, cut_off, is_whole, killed_at, listed, members
from tests.lab.test_rolling import leader
from tests.lab.writer import Writer

OTHERS = ("etcd01", "etcd03")


def test_wiped_directory(ours: Project, five: Hosts) -> None:
    old = members(ours, "etcd01")["etcd02"]
    five.sh("etcd02", "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
    five.sh("etcd02", "systemctl reset-failed etcd; systemctl start etcd; true")
    assert five.sh("etcd02", "systemctl is-active etcd; true") == "inactive"  # the guard
    ours.inv("deploy").failed(3, "if the data is lost: inv replace-member etcd02")
    with Writer(ours) as writer:
        five.eventually(lambda: writer.acknowledged)
        before, text = five.listing(), (ours.folder / "config.yaml").read_text()
        lines = ours.inv("replace-member", "etcd02", "--dry-run").ok().lines
        assert any(f"etcdctl member remove {old:x}" in line for line in lines)
        ours.refuses(3, "nobody can be asked here: Replace member etcd02", task=("replace-member", "etcd02"))
        assert (five.listing(), (ours.folder / "config.yaml").read_text()) == (before, text)
        done = ours.inv("replace-member", "etcd02", "--yes").ok()
    assert done.lines == [f"etcd02 at {address('etcd02')} is a voter in the place of etcd02: 3 members are healthy"]
    assert writer.lost() == {}
    assert members(ours, "etcd01")["etcd02"] != old
    assert (ours.folder / "config.yaml").read_text() == text
    is_whole(ours, five, *NAMES)
    assert ours.inv("replace-member", "etcd02").ok().lines[0].startswith("nothing to do: etcd02 at ")
    five.each(BARE, ("etcd02",))  # the host is a new one
    ours.inv("deploy").failed(3, "never start it empty: inv replace-member etcd02")
    ours.inv("replace-member", "etcd02", "--yes").ok()
    is_whole(ours, five, *NAMES)


@pytest.mark.parametrize("name", ["etcd02", "etcd04"], ids=["same name", "another name"])
def test_dead_host_that_comes_back_in_the_middle(ours: Project, five: Hosts, name: str) -> None:
    """Once the old member has been removed, and before the new one has a vote."""
    task = ["replace-member", "etcd02", f"--address={address('etcd04')}", "--yes"]
    task += [f"--with={name}"] if name != "etcd02" else []
    old = members(ours, "etcd01")["etcd02"]
    five.lab.off("etcd02")
    with Writer(ours) as writer:
        held = five.hold("etcd04", "du")
        run = ours.start(*task)
        held.reached()
        assert old not in members(ours, "etcd01").values()
        five.lab.on("etcd02")
        five.eventually(
            lambda: five.sh("etcd02", "journalctl -u etcd -b -o cat | grep -c 'removed from the cluster'; true") != "0"
        )
        held.release()
        done = run.end().ok()
    assert done.lines[0].startswith(f"{name} at {address('etcd04')} is a voter in the place of etcd02")
    assert writer.lost(without=[address("etcd02")]) == {}
    assert five.sh("etcd02", REMAINS) == CLEAN
    is_whole(ours, five, *OTHERS, name)
    assert ours.inv(*task).ok().lines[0].startswith("nothing to do: ")


@pytest.mark.chaos
def test_more_than_one_that_is_lost(ours: Project, five: Hosts) -> None:
    five.sh("etcd03", "systemctl stop etcd")
    done = ours.inv("replace-member", "etcd03", "--dry-run").ok()
    assert "etcd03 has its data, and its etcd does not run: if that is all, inv start brings it back" in done.stderr
    five.lab.off("etcd02")
    text = (ours.folder / "config.yaml").read_text()
    task = ("replace-member", "etcd02", f"--address={address('etcd04')}", "--yes")
    ours.inv(*task).failed(3, "no other member can commit, so the membership cannot change")
    five.sh("etcd03", "systemctl start etcd")
    assert (ours.folder / "config.yaml").read_text() == text
    # The new one never starts: the old one is out, and the same command goes on once that is mended.
    with cut_off(five, "etcd04"):
        left = "etcd02 has left and etcd02 is not in its place yet: the same command goes on from here"
        ours.inv(*task).failed(4, left)
    assert listed(ours, "etcd01") == set(OTHERS)
    assert (ours.folder / "config.yaml").read_text() == text
    done = ours.inv(*task).ok()
    assert "once its host is back, on it: systemctl disable --now etcd" in done.stderr
    five.lab.on("etcd02")
    five.eventually(lambda: five.sh("etcd02", "systemctl is-active etcd; true") == "inactive")
    is_whole(ours, five, *NAMES)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("where", "program", "when"),
    [
        ("etcd02", "systemctl", '[ "$1" = disable ]'),
        ("etcd02", "mv", "true"),
        ("etcd02", "tar", "true"),
        ("etcd02", "systemctl", '[ "$2" = --no-block ]'),
        ("etcd02", "du", "true"),
        ("etcd02", "systemctl", '[ "$1" = enable ]'),
    ],
    ids=["removed", "its data", "its files", "its start", "in sync", "its guard"],
)
def test_run_that_is_killed_is_finished_by_the_next_one(
    ours: Project, five: Hosts, where: str, program: str, when: str
) -> None:
    five.sh("etcd02", "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
    with Writer(ours) as writer:
        held = five.hold(where, program, when)
        killed_at(ours, held, program, ours.start("replace-member", "etcd02", "--yes"))
        ours.inv("replace-member", "etcd02", "--yes").ok()
    assert writer.lost() == {}
    is_whole(ours, five, *NAMES)


@pytest.mark.chaos
def test_two_lost_of_five(project: NewProject, five: Hosts) -> None:
    five.each(BARE, FIVE)
    ours = project(members=[{"name": name, "address": address(name)} for name in FIVE])
    ours.inv("deploy").ok()
    five.each("systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd", FIVE[3:])
    with Writer(ours) as writer:
        done = ours.inv("replace-member", "etcd04", "--yes").ok()
        assert "not healthy, either: etcd05: " in done.stderr
        ours.inv("replace-member", "etcd05", "--yes").ok()
    assert writer.lost() == {}
    is_whole(ours, five, *FIVE)


@pytest.mark.chaos
def test_leader_dies_while_the_new_one_catches_up(ours: Project, five: Hosts) -> None:
    led = leader(ours)
    lost = min(set(NAMES) - {led})
    five.sh(lost, "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
    with Writer(ours) as writer:
        held = five.hold(lost, "du")
        run = ours.start("replace-member", lost, "--yes")
        held.reached()
        five.sh(led, "systemctl kill -s KILL etcd")
        held.release()
        run.end().ok()
    assert writer.lost() == {}
    is_whole(ours, five, *NAMES)
