"""move-leader on real hosts."""

from __future__ import annotations

import re

import pytest

from tests.hosts import NAMES, Project
from tests.lab.test_trouble import without
from tests.lab.writer import Writer


def leads(cluster: Project) -> str:
    """Who leads, as every member says."""
    rows = cluster.inv("status", "--json").json()["members"]
    (leader,) = [row["member"] for row in rows if row["role"] == "leader"]
    return str(leader)


@pytest.mark.parametrize("name", NAMES)
def test_lead_goes_where_it_is_sent_and_stays_there(cluster: Project, name: str) -> None:
    before = leads(cluster)
    done = cluster.inv("move-leader", f"--to={name}").ok()
    if before == name:
        assert done.lines == [f"{name} leads already"]
    else:
        assert re.fullmatch(rf"{before} led, {name} leads now; it took \d+\.\d\d s", done.lines[0])
    assert leads(cluster) == name
    assert cluster.inv("move-leader", f"--to={name}").ok().lines == [f"{name} leads already"]


def test_another_voter_takes_over_by_itself_and_no_write_is_lost(cluster: Project) -> None:
    before = leads(cluster)
    would = cluster.inv("move-leader", "--dry-run").ok().lines
    assert leads(cluster) == before
    assert would[0].startswith(f"{before}  etcdctl move-leader: ")
    with Writer(cluster) as writer:
        cluster.inv("move-leader").ok()
    assert leads(cluster) != before
    assert writer.lost() == {}


def test_member_that_cannot_lead_is_refused(cluster: Project) -> None:
    with without("etcd02", "cut", cluster):
        before = leads_of_the_others(cluster)
        cluster.inv("move-leader", "--to=etcd02").failed(3, "refused: etcd02 cannot lead: 198.18.40.102:22: ")
        assert leads_of_the_others(cluster) == before
        cluster.inv("move-leader").ok()
        assert leads_of_the_others(cluster) != before
    cluster.inv("move-leader", "--to=etcd09").failed(2, "no member is called 'etcd09'")


def leads_of_the_others(cluster: Project) -> str:
    """The same where a member does not answer."""
    rows = cluster.inv("status", "--json").failed(4).json()["members"]
    (leader,) = [row["member"] for row in rows if row["role"] == "leader"]
    return str(leader)
