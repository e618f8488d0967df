"""A rolling restart of real hosts while clients write, watched by a canary."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab.test_rolling import PROCESS, leader, one_at_a_time
from tests.lab.test_trouble import without
from tests.lab.writer import Writer

CANARY = "/etcdops/canary/"


def left(project: Project, name: str = NAMES[0]) -> tuple[int, int]:
    """How many keys and leases a canary has left."""
    keys = json.loads(project.etcdctl(name, f"get --prefix {CANARY} --keys-only --write-out=json"))
    leases = json.loads(project.etcdctl(name, "lease list --write-out=json"))
    return keys.get("count", 0), len(leases.get("leases", ()))


def watched(done: Any) -> dict[str, Any]:
    """What the canary noticed: it wrote, and no write failed or was lost."""
    found: dict[str, Any] = done.ok().json()["canary"]
    print(f"noticed: {found}")
    assert found["writes"] > 0
    assert (found["failed"], found["lost"]) == (0, 0), found
    return found


def test_restart_under_writes_loses_and_fails_none(cluster: Project, hosts: Hosts) -> None:
    led = leader(cluster)
    before = hosts.each(PROCESS)
    with Writer(cluster) as writer:
        done = cluster.inv("restart", "--canary", "--json")
    watched(done)
    assert done.json()["restarted"][-1] == led
    assert "canary: " in done.stderr
    assert not set(hosts.each(PROCESS).items()) & set(before.items())
    one_at_a_time(hosts, led)
    assert leader(cluster) != led  # it has handed over, and nobody gives the lead back
    assert writer.lost() == {}
    assert left(cluster) == (0, 0)


def test_restart_without_a_canary_writes_nothing(cluster: Project, hosts: Hosts) -> None:
    def revision() -> int:
        return int(
            json.loads(cluster.etcdctl("etcd01", "endpoint status --write-out=json"))[0]["Status"]["header"]["revision"]
        )

    before = revision()
    done = cluster.inv("restart").ok()
    assert "canary" not in done.stderr
    assert done.lines[-1].startswith("3 members restarted and healthy in ")
    assert revision() == before


def test_restart_stops_between_two_members_when_writes_waited_too_long(cluster: Project, hosts: Hosts) -> None:
    before = hosts.each(PROCESS)
    done = cluster.inv("restart", "--canary", "--max-gap=0.001").failed(5, "and --max-gap is 0.001 s")
    assert "inv restart --canary --max-gap=0.001" in done.stderr
    assert hosts.each(PROCESS) == before  # it was too long before the first one, with a limit as low as that
    assert left(cluster) == (0, 0)
    cluster.inv("restart", "--canary", "--max-gap=0").failed(2, "--max-gap is a number of seconds, above 0")


def test_canary_that_cannot_write_is_a_refusal(cluster: Project, hosts: Hosts) -> None:
    before = hosts.each(PROCESS)
    full = 'case "$*" in *"lease grant"*) echo "Error: no room for you" >&2; exit 1 ;; esac'
    for name in NAMES:
        hosts.put(name, "/usr/local/sbin/etcdctl", f'#!/bin/sh\n{full}\nexec /usr/local/bin/etcdctl "$@"')
    try:
        cluster.inv("restart", "--canary").failed(3, "the canary cannot write (no room for you)", "--no-canary")
    finally:
        hosts.each("rm /usr/local/sbin/etcdctl")
    assert hosts.each(PROCESS) == before


@pytest.mark.chaos
def test_canary_flies_on_from_another_host(cluster: Project, hosts: Hosts) -> None:
    """The one that it writes from loses power while the run is busy with another member."""
    held = hosts.hold("etcd02", "timeout", when='[ "$2" = systemctl ] && [ "$3" = restart ]')
    run = cluster.start("restart", "--canary", "--json")
    held.reached()
    with without("etcd01", "off", cluster):
        hosts.eventually(lambda: left(cluster, "etcd03")[0] == 2)
    held.release()
    found = watched(run.end())
    assert found["writes"] > 10
    assert left(cluster)[0] == 0
    hosts.sh("etcd02", "rm /usr/local/sbin/timeout")


@pytest.mark.chaos
def test_killed_run_leaves_no_canary(cluster: Project, hosts: Hosts) -> None:
    held = hosts.hold("etcd02", "timeout", when='[ "$2" = systemctl ] && [ "$3" = restart ]')
    run = cluster.start("restart", "--canary")
    held.reached()
    assert left(cluster)[0] == 1
    run.signal(signal.SIGKILL)
    hosts.eventually(lambda: left(cluster)[0] == 0)
    held.release()
    hosts.sh("etcd02", "rm /usr/local/sbin/timeout")
    hosts.eventually(lambda: cluster.inv("health").code == 0)
    run.end()
