"""`vagrant up`, and the shipped config.yaml without an edit: everything that the README says of the two."""

from __future__ import annotations

import re
import time

import pytest

from tests.vagrant.conftest import Machines

HEALTHY_SECONDS = 900.0


@pytest.fixture(scope="session")
def cluster(machines: Machines) -> Machines:
    """The machines, with the cluster on them."""
    machines.inv("deploy").ok()
    return machines


def test_deploy_status_and_verify(cluster: Machines) -> None:
    assert cluster.inv("deploy").ok().lines[-1].startswith("nothing to do")
    rows = cluster.inv("status", "--json").ok().json()["members"]
    assert [(row["member"], row["healthy"]) for row in rows] == [(name, True) for name in cluster.names]
    done = cluster.inv("verify").ok()
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_only_the_private_network_is_served(cluster: Machines) -> None:
    """And never the first interface, through which vagrant itself comes and which has the way out."""
    for member in cluster.config.members:
        host = cluster.host(member.name)
        assert host.check_output("hostname") == member.name
        assert host.check_output("hostname -i") == member.address
        assert host.interface("eth1").addresses[0] == member.address
        first = host.interface("eth0").addresses[0]
        assert member.address != first
        assert first in host.check_output("ip -4 route show default; ip -4 address show dev eth0")
        listening = host.check_output("ss -H -l -t -n")
        assert set(re.findall(r"(\S+):23[78]\d ", listening)) == {member.address, "127.0.0.1"}
        assert first not in host.file("/etc/etcd/etcd.conf").content_string


def test_a_key_through_every_member(cluster: Machines) -> None:
    for name in cluster.names:
        cluster.etcdctl(name, f"put /through/{name} {name}")
    expected = "\n".join(line for name in cluster.names for line in (f"/through/{name}", name))
    assert {cluster.etcdctl(name, "get --prefix /through/") for name in cluster.names} == {expected}


def test_backup_and_restore(cluster: Machines) -> None:
    cluster.inv("put", "/kept", "before").ok()
    cluster.inv("backup").ok()
    cluster.inv("put", "/kept", "after").ok()
    cluster.inv("restore", "latest", "--yes").ok()
    assert cluster.inv("get", "/kept").ok().lines == ["before"]
    cluster.inv("health").ok()


def test_a_machine_loses_its_power(cluster: Machines) -> None:
    lost = cluster.names[-1]
    cluster.inv("put", "/power", "on").ok()
    cluster.vagrant("halt", "--force", lost)
    assert cluster.inv("health").code == 4
    cluster.inv("put", "/power", "off").ok()
    cluster.vagrant("up", lost)
    until = time.monotonic() + HEALTHY_SECONDS
    while cluster.inv("health").code:  # it starts at boot, and emulated it takes a while to find the others
        assert time.monotonic() < until
    assert cluster.etcdctl(lost, "get --print-value-only /power") == "off"
