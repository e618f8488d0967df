"""Hosts that lose power or the line, whole or one way, while the cluster is written to."""

from __future__ import annotations

import contextlib

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab.members import address, cut_off
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import PROCESS, leader
from tests.lab.test_trouble import nothing_half_written
from tests.lab.writer import Writer

RESTARTS = '[ "$2" = systemctl ] && [ "$3" = restart ]'


def in_turn(project: Project) -> tuple[str, str, str]:
    """The members in the order in which they are restarted."""
    led = leader(project)
    first, second = sorted(set(NAMES) - {led})
    return first, second, led


def impatient(project: Project) -> contextlib.AbstractContextManager[None]:
    """Waits for nobody for longer than it takes to see what is said then."""
    return project.changed("ssh", command_timeout=12)


@pytest.mark.parametrize("fault", ["off", "cut"])
def test_another_member_is_lost_while_one_restarts(cluster: Project, hosts: Hosts, fault: str) -> None:
    """7: the run stops before it takes a second voter down, and the same command goes on later."""
    first, second, led = in_turn(cluster)
    before = hosts.each(PROCESS)
    with cluster.changed("cluster", settings={"snapshot-count": 9100}), impatient(cluster), Writer(cluster) as writer:
        held = hosts.hold(first, "timeout", when=RESTARTS)
        run = cluster.start("deploy")
        held.reached()
        (hosts.lab.off if fault == "off" else hosts.lab.cut)(second)
        held.release()
        run.end().failed(
            5, f"error: {first} was restarted, and then: {second}: ", f"{led} not touched after it", "inv deploy"
        )
        assert hosts.sh(led, PROCESS) == before[led]
        writer.goes_on()
        (hosts.lab.on if fault == "off" else hosts.lab.heal)(second)
        hosts.sh(first, "rm /usr/local/sbin/timeout")
        hosts.eventually(lambda: cluster.inv("health").code == 0)
        cluster.inv("deploy").ok()
        settled(cluster)
    assert writer.lost() == {}
    cluster.inv("deploy").ok()


def test_line_is_cut_in_the_middle_of_a_command(cluster: Project, hosts: Hosts) -> None:
    """8: what the command does is whole or not done; the run ends in bounded time, and the next one goes on."""
    first, second, led = in_turn(cluster)
    before = hosts.each(PROCESS)
    with cluster.changed("cluster", settings={"snapshot-count": 9200}), impatient(cluster), Writer(cluster) as writer:
        held = hosts.hold(first, "mv", when="case $* in *etcd.conf*) true ;; *) false ;; esac")
        run = cluster.start("deploy")
        held.reached()
        hosts.lab.cut(first)
        held.release()
        run.end().failed(4, f"error: {first}: ", f"{led} not touched after it")
        assert hosts.each(PROCESS, (second, led)) == {name: before[name] for name in (second, led)}
        writer.goes_on()
        nothing_half_written(hosts)
        hosts.lab.heal(first)
        hosts.sh(first, "rm /usr/local/sbin/mv")
        hosts.eventually(lambda: cluster.inv("health").code == 0)
        cluster.inv("deploy").ok()
        settled(cluster)
    assert writer.lost() == {}
    cluster.inv("deploy").ok()


def leads_elsewhere(project: Project, name: str) -> bool:
    other = min(set(NAMES) - {name})
    return "is healthy" in project.etcdctl(other, "--command-timeout=1s endpoint health 2>&1; true")


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_member_that_sends_nothing_to_the_others(cluster: Project, hosts: Hosts, who: str) -> None:
    """7, 16: it hears the others, and we reach it; what it says alone never counts."""
    first, _, led = in_turn(cluster)
    name = led if who == "leader" else first
    other = min(set(NAMES) - {name})
    with Writer(cluster) as writer:
        writer.goes_on()
        with cut_off(hosts, name):
            hosts.eventually(lambda: leads_elsewhere(cluster, name))
            writer.goes_on()
            away_from_the_others(cluster, name, other)
            found = cluster.inv("doctor", "--json").json()["findings"]
            reach = [each for each in found if each["check"] == "reach" and each["level"] == "error"]
            assert {each["member"] for each in reach} == set(NAMES)
        hosts.eventually(lambda: cluster.inv("health").code == 0)
        writer.goes_on()
    assert writer.lost() == {}
    cluster.inv("deploy").ok()
    settled(cluster)


def away_from_the_others(cluster: Project, name: str, other: str) -> None:
    """One member has no part in the cluster: it is told, nothing is begun that costs another one, all else goes on."""
    rows = cluster.inv("health", "--json").failed(5, f"error: {name}: ").json()
    assert [row["member"] for row in rows if not row["healthy"]] == [name]
    cluster.inv("put", "/away", name).ok()
    assert cluster.inv("get", "/away").ok().stdout == name
    cluster.refuses(3, f"refused: nothing was restarted: {name}: ", task=("restart",))
    words = f"{other}: must not be removed: of the 2 voters that would be left 1 can commit, and 2 must"
    cluster.refuses(3, words, task=("remove-member", other, "--yes"))
    cluster.refuses(3, f"the cluster is not healthy: {name}: ", task=("defrag",))
    done = cluster.inv("backup", "--json").ok().json()
    assert done["member"] != name


def test_member_that_the_others_cannot_call(cluster: Project, hosts: Hosts) -> None:
    """7: one way only.  Raft gets through on the connections that it makes itself, and doctor names the port."""
    first, second, led = in_turn(cluster)
    others = ", ".join(address(each) for each in (second, led))
    with Writer(cluster) as writer:
        hosts.firewall(first, f"ip saddr {{ {others} }} tcp dport 2380 drop")
        try:
            writer.goes_on(100)
            found = cluster.inv("doctor", "--json").failed(5).json()["findings"]
            told = {each["member"] for each in found if each["check"] == "reach" and first in each["found"]}
            assert told == {second, led}, found
        finally:
            hosts.firewall(first, "")
        hosts.eventually(lambda: cluster.inv("health").code == 0)
        writer.goes_on()
    assert writer.lost() == {}
    settled(cluster)
