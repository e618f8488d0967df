"""Certificates that have ended while the cluster serves."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from etcdops.pki import CA, LeafRequest
from tests.hosts import NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled
from tests.lab.test_doctor import old_authorities
from tests.lab.test_rolling import PROCESS
from tests.lab.writer import Writer


def end(project: Project, name: str, role: str) -> None:
    """A pair of the right CA that ended yesterday, in its place on the host, by one rename."""
    pki = project.folder / "pki"
    stem = "peer-ca" if role == "peer" else "ca"
    authority = CA.load((pki / f"{stem}.pem").read_bytes(), (pki / f"{stem}-key.pem").read_bytes())
    address = next(each["address"] for each in project.config["members"] if each["name"] == name)
    leaf = authority.issue(
        LeafRequest(role, name, (address,)), "ecdsa-p256", timedelta(days=30), datetime.now(UTC) - timedelta(days=31)
    )
    path = f"/etc/etcd/ssl/{role}.pem"
    project.hosts.put(name, f"{path}.new", leaf.pem.decode(), 0o600)
    project.hosts.sh(name, f"chown etcd: {path}.new; mv {path}.new {path}")


def test_all_pairs_of_all_members_have_ended(project: NewProject, hosts: Hosts) -> None:
    """23: nothing is restarted into it, each is named with what to do, and renewal needs no restart."""
    new = project()
    old_authorities(new.folder / "pki")
    new.inv("deploy").ok()
    with Writer(new) as writer:
        writer.goes_on()
    for name in NAMES:
        for role in ("server", "peer"):
            end(new, name, role)
    before = hosts.each(PROCESS)
    new.inv("status").failed(5, "certificate has expired")
    new.inv("restart").failed(3, "nothing was restarted: etcd01: ", "certificate has expired")
    new.inv("backup").failed(5, "no backup: no member can commit: ", "certificate has expired")
    found = new.inv("doctor", "--json").failed(5).json()["findings"]
    ended = [each for each in found if each["check"] == "certificates" and each["level"] == "error"]
    assert all("inv distribute issues a new one; no restart is needed" in each["do"] for each in ended)
    for name, role in itertools.product(NAMES, ("server", "peer")):
        assert any(name in each["member"] and f"{role}.pem ended on" in each["found"] for each in ended), (name, role)
    new.inv("distribute").ok()
    new.inv("health").ok()
    assert hosts.each(PROCESS) == before
    assert writer.lost() == {}


def test_member_that_was_restarted_with_an_ended_pair(project: NewProject, hosts: Hosts) -> None:
    """23: its peers let it in as soon as it is renewed; the others serve, and are not restarted meanwhile."""
    new = project()
    old_authorities(new.folder / "pki")
    new.inv("deploy").ok()
    end(new, "etcd02", "peer")
    others = ("etcd01", "etcd03")
    before = hosts.each(PROCESS, others)
    with Writer(new) as writer:
        hosts.sh("etcd02", "systemctl restart --no-block etcd")
        writer.goes_on()
        new.inv("health").failed(5, "error: etcd02: ")
        new.inv("restart").failed(3, "nothing was restarted: etcd02: ")
        new.inv("distribute").ok()
        hosts.eventually(lambda: new.inv("health").code == 0)
    assert writer.lost() == {}
    assert hosts.each(PROCESS, others) == before
    settled(new)
