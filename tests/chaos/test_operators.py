"""Two who work on one cluster at once, from two folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.chaos.test_network import RESTARTS, in_turn
from tests.hosts import Hosts, Project
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import PROCESS
from tests.lab.writer import Writer


def test_second_one_is_refused_and_reading_goes_on(cluster: Project, hosts: Hosts, tmp_path: Path) -> None:
    """9"""
    second = Project(hosts, tmp_path)
    shutil.copytree(cluster.folder / "pki", tmp_path / "pki")
    first, _, led = in_turn(cluster)
    before = hosts.sh(led, PROCESS)
    with cluster.changed("cluster", settings={"snapshot-count": 9300}), Writer(cluster) as writer:
        held = hosts.hold(first, "timeout", when=RESTARTS)
        run = cluster.start("deploy")
        held.reached()
        for task in (["deploy"], ["restart"], ["backup"], ["remove-member", "etcd02", "--yes"]):
            done = second.inv(*task)
            assert done.code == 3 or task == ["backup"], done
            assert " runs inv deploy (process " in done.stderr or task == ["backup"], done
        second.inv("status").ok()
        second.inv("put", "/second", "operator").ok()
        assert hosts.sh(led, PROCESS) == before
        writer.goes_on()
        held.release()
        run.end().ok()
        hosts.sh(first, "rm -f /usr/local/sbin/timeout")
        settled(cluster)
    assert writer.lost() == {}
    second.inv("deploy").ok()
    cluster.inv("deploy").ok()
    settled(cluster)
