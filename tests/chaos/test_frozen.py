"""A member whose process stands still (SIGSTOP): its ports are open, its connections live, and nobody answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.chaos.test_network import away_from_the_others, in_turn
from tests.hosts import NAMES, Hosts, Project
from tests.lab.test_deploy import settled
from tests.lab.writer import Writer


@contextlib.contextmanager
def frozen(project: Project, name: str) -> Iterator[None]:
    project.hosts.sh(name, "systemctl kill --signal=STOP etcd")
    try:
        yield
    finally:
        project.hosts.sh(name, "systemctl kill --signal=CONT etcd")


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_frozen_member(cluster: Project, hosts: Hosts, who: str) -> None:
    """7, 16: the others elect and serve; it comes back by itself with all that was written meanwhile."""
    first, _, led = in_turn(cluster)
    name = led if who == "leader" else first
    other = min(set(NAMES) - {name})
    with Writer(cluster) as writer:
        writer.goes_on()
        with frozen(cluster, name):
            writer.goes_on()
            away_from_the_others(cluster, name, other)
        hosts.eventually(lambda: cluster.inv("health").code == 0)
        writer.goes_on()
    assert writer.lost() == {}
    cluster.inv("deploy").ok()
    settled(cluster)
