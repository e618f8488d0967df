"""move-member on real hosts: the address of one changes, and its data stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.hosts import members as section
from tests.lab.conftest import NewProject
from tests.lab.members import address, is_whole, killed_at, members
from tests.lab.writer import Writer

NEW = "198.18.40.113"
CHANGE = "ip address add {new}/24 dev host0; ip address del {old}/24 dev host0"


@pytest.fixture
def moving(project: NewProject, hosts: Hosts) -> Iterator[NewProject]:
    """etcd03 may have another address meanwhile; its key is known there, too."""
    known = (hosts.folder / "lab/known_hosts").read_text()
    lines = [line.replace(address("etcd03"), NEW) for line in known.splitlines() if address("etcd03") in line]
    file = hosts.folder / "known_there"
    file.write_text("\n".join([known, *lines, ""]))

    def new(**sections: object) -> Project:
        made: Project = project(**{"ssh": {"connect_timeout": 1, "known_hosts": str(file)}, **sections})
        made.inv("deploy").ok()
        return made

    yield new
    hosts.sh("etcd03", CHANGE.format(new=address("etcd03"), old=NEW), check=False)


def test_member_moves_with_its_data(moving: NewProject, hosts: Hosts) -> None:
    ours = moving()
    ids, inode = members(ours, "etcd01"), hosts.sh("etcd03", "stat -c %i /var/lib/etcd/default.etcd")
    task = ("move-member", "etcd03", f"--address={NEW}")
    ours.inv(*task, "--dry-run").failed(4, f"{NEW}:22: ")
    hosts.sh("etcd03", f"ip address add {NEW}/24 dev host0")
    ours.refuses(3, f"etcd03: still has its old address {address('etcd03')}", task=task)
    hosts.sh("etcd03", f"ip address del {address('etcd03')}/24 dev host0")
    with Writer(ours) as writer:
        hosts.eventually(lambda: writer.acknowledged)
        lines = ours.inv(*task, "--dry-run").ok().lines
        assert any(f"etcdctl member update {ids['etcd03']:x} --peer-urls=https://{NEW}:2380" in line for line in lines)
        done = ours.inv(*task).ok()
    assert done.lines == [f"etcd03 is at {NEW}, healthy, and everybody knows it"]
    assert writer.lost(without=[address("etcd03")]) == {}
    is_whole(ours, hosts, *NAMES)
    assert members(ours, "etcd01") == ids
    assert hosts.sh("etcd03", "stat -c %i /var/lib/etcd/default.etcd") == inode
    assert ours.inv(*task).ok().lines == [f"nothing to do: etcd03 is at {NEW}, and everybody knows it"]
    # Somebody has written the new address into config.yaml himself, and the host has been down meanwhile.
    hosts.sh("etcd03", f"systemctl stop etcd; {CHANGE.format(new=address('etcd03'), old=NEW)}")
    text = (ours.folder / "config.yaml").read_text().replace(NEW, address("etcd03"))
    (ours.folder / "config.yaml").write_text(text)
    ours.inv("deploy").failed(3, f"inv move-member etcd03 --address={address('etcd03')}")
    ours.inv("move-member", "etcd03", f"--address={address('etcd03')}").ok()
    assert (ours.folder / "config.yaml").read_text() == text
    is_whole(ours, hosts, *NAMES)


@pytest.mark.parametrize("names", [("etcd03",), ("etcd01", "etcd03")], ids=["one", "two"])
def test_member_without_which_there_is_no_quorum(moving: NewProject, hosts: Hosts, names: tuple[str, ...]) -> None:
    ours = moving(members=section(*names))
    ours.inv("put", "/kept", "yes").ok()
    hosts.sh("etcd03", f"systemctl stop etcd; {CHANGE.format(new=NEW, old=address('etcd03'))}")
    ours.inv("move-member", "etcd03", f"--address={NEW}").ok()
    assert ours.inv("get", "/kept").ok().lines == ["yes"]
    is_whole(ours, hosts, *names)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("where", "program", "when"),
    [("etcd03", "tar", "true"), ("etcd03", "systemctl", '[ "$1" = start ]'), ("etcd01", "tar", "true")],
    ids=["its files", "its start", "the others"],
)
def test_run_that_is_killed_is_finished_by_the_next_one(
    moving: NewProject, hosts: Hosts, where: str, program: str, when: str
) -> None:
    ours = moving()
    hosts.sh("etcd03", f"systemctl stop etcd; {CHANGE.format(new=NEW, old=address('etcd03'))}")
    with Writer(ours) as writer:
        held = hosts.hold(where, program, when)
        killed_at(ours, held, program, ours.start("move-member", "etcd03", f"--address={NEW}"))
        ours.inv("move-member", "etcd03", f"--address={NEW}").ok()
    assert writer.lost(without=[address("etcd03")]) == {}
    is_whole(ours, hosts, *NAMES)
