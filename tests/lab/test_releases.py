"""A cluster of hosts that differ: one of each Debian release, with its systemd, shell and coreutils."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdops.lab import debian
from tests.hosts import Hosts, Project
from tests.lab import kept
from tests.lab.test_doctor import calm

NAMES = ("etcd04", "etcd05", "etcd06")
WHICH = (
    '. /etc/os-release && echo "$VERSION_CODENAME" && systemctl --version | sed -n "1s/^systemd \\([0-9]*\\).*/\\1/p"'
)
EXE = "readlink /proc/$(systemctl show etcd --property=MainPID --value)/exe"
RUN_BACKUP = "systemctl start etcdops-backup.service; systemctl show --property=Result etcdops-backup.service"


@pytest.fixture(scope="module")
def three(hosts: Hosts) -> Iterator[list[dict[str, Any]]]:
    """The members section for three hosts more, of as many releases."""
    with hosts.more(6, debian.RELEASES) as members:
        yield members[3:]


@pytest.fixture(scope="module")
def mixed(hosts: Hosts, three: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A cluster on them, with sudo on each."""
    project = Project(hosts, tmp_path_factory.mktemp("mixed"), members=three, ssh={"user": "ops"})
    project.inv("deploy").ok()
    return project


def test_the_hosts_differ(hosts: Hosts, three: list[dict[str, Any]]) -> None:
    releases, systemds = zip(*(said.split() for said in hosts.each(WHICH, NAMES).values()), strict=True)
    assert releases == debian.RELEASES
    assert len(set(systemds)) == len(NAMES)
    assert [each.release for each in hosts.lab.status()][3:] == list(debian.RELEASES)


def test_every_host_is_as_it_should_be(mixed: Project) -> None:
    mixed.inv("deploy").ok()
    assert mixed.inv("deploy", "--dry-run").ok().lines[-1].startswith("nothing to do")
    mixed.healthy()
    assert " passed" in mixed.start("verify").end(600).ok().stdout


@pytest.mark.chaos
def test_restart_backup_and_restore(mixed: Project) -> None:
    kept.fill(mixed, "before", name=NAMES[0])
    assert mixed.inv("restart").ok().lines[-1].startswith("3 members restarted and healthy")
    mixed.inv("backup").ok()
    mixed.inv("snapshot.verify", "latest", "--drill").ok()
    kept.fill(mixed, "after", name=NAMES[0])
    mixed.inv("restore", "latest", "--yes").ok()
    mixed.healthy()
    calm(mixed.inv("doctor", "--json"))
    found = {key.rpartition("/")[0] for key in kept.keys(mixed, NAMES[0]) if key.startswith(kept.PREFIX)}
    assert found == {f"{kept.PREFIX}before"}


def test_one_of_them_has_the_turn_to_back_up(mixed: Project, hosts: Hosts) -> None:
    mixed.inv("snapshot.schedule").ok()
    assert set(hosts.each(RUN_BACKUP, NAMES).values()) == {"Result=success"}
    found = "".join(hosts.each("ls /var/backups/etcd", NAMES).values()).split()
    assert sorted(Path(name).suffix for name in found) == [".db", ".json"]
    mixed.inv("snapshot.unschedule").ok()


def test_etcd_starts_at_boot(mixed: Project, hosts: Hosts) -> None:
    for name in NAMES:
        hosts.lab.off(name)
    mixed.inv("health").failed(4)
    for name in NAMES:
        hosts.lab.on(name)
    hosts.eventually(lambda: mixed.inv("health").code == 0, 120)


def test_a_setting_that_etcd_refuses_is_told_at_once(mixed: Project) -> None:
    """Long before the time that a start may take is over, although systemd goes on trying."""
    mixed.inv("stop", "--yes").ok()
    with mixed.changed("cluster", settings={"snapshot-count": "many"}), mixed.changed("ssh", command_timeout=600):
        mixed.inv("deploy").failed(4, f"{', '.join(NAMES)}: etcd did not start: failed to verify flags: invalid value")
    mixed.inv("deploy").ok()


@pytest.mark.parametrize("name", (NAMES[0], NAMES[-1]))
def test_a_process_that_systemd_has_just_made_is_waited_for(mixed: Project, hosts: Hosts, name: str) -> None:
    """Its environment is still that of systemd, or, since systemd 255, of systemd-executor."""
    drop_in = "/run/systemd/system/etcd.service.d/input.conf"
    hosts.put(name, drop_in, "[Service]\nStandardInput=file:/run/never", 0o644)
    hosts.sh(name, "mkfifo /run/never; systemctl daemon-reload; systemctl restart --no-block etcd")
    hosts.eventually(lambda: "/systemd/" in hosts.sh(name, EXE, check=False))
    held = hosts.hold(name, "sleep")
    run = mixed.start("configure", "--dry-run")
    held.reached()
    hosts.sh(name, ": >/run/never")
    hosts.eventually(lambda: hosts.sh(name, EXE, check=False).endswith("/etcd"))
    held.release()
    assert run.end().ok().lines[-1].startswith("nothing to do")
    hosts.sh(name, f"rm {drop_in} /run/never /usr/local/sbin/sleep; systemctl daemon-reload; systemctl restart etcd")


def test_a_process_that_ends_while_it_is_looked_at_is_none(mixed: Project, hosts: Hosts) -> None:
    """And not an etcd of somebody else's: one that cannot start comes and goes."""
    name = NAMES[0]
    held = hosts.hold(name, "tr")
    run = mixed.start("configure", "--dry-run")
    held.reached()
    hosts.sh(name, "systemctl stop etcd")
    held.release()
    assert run.end().ok().lines[-1].startswith("nothing to do")
    hosts.sh(name, "rm /usr/local/sbin/tr; systemctl start etcd")
