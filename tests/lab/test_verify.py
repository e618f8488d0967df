"""inv verify: the checks of tests/infra, on a cluster that is described by any config.yaml."""

from __future__ import annotations

from tests.hosts import Hosts
from tests.lab.conftest import NewProject


def test_verify_finds_what_is_wrong_and_nothing_else(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.4.23", tls=False, ssh={"user": "ops"})
    new.inv("deploy").ok()
    before = hosts.listing()
    done = new.inv("verify").ok()
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
    assert hosts.listing() == before
    hosts.sh("etcd02", "chmod 666 /etc/etcd/etcd.conf")
    failed = new.inv("verify", "--", "-k", "test_file or test_nobody").failed(1)
    wrong = sorted(line.split()[1] for line in failed.lines if line.startswith("FAILED "))
    assert wrong == [
        "tests/infra/test_members.py::test_file[etcd02-/etc/etcd/etcd.conf]",
        "tests/infra/test_members.py::test_nobody_but_root_can_change_what_runs[etcd02]",
    ]
