"""What keeps the data of hosts from being exchanged, by a restore and by a recovery."""

from __future__ import annotations

from etcdops.restoration import Side
from etcdops.steps import exchange
from etcdops.steps.before import Cluster
from tests.unit.build import NAMES, cut_short, three
from tests.unit.test_join import run_of

DATA = "/var/lib/etcd/default.etcd"


def test_a_mount_point_cannot_be_swapped() -> None:
    sides = {name: Side(mounted=DATA if name == "etcd02" else "") for name in NAMES}
    found = exchange.findings(run_of(*NAMES), Cluster(three(cut_short), sides))
    assert [str(each) for each in found] == [f"etcd02: {DATA} is a mount point, and cannot be renamed"]
