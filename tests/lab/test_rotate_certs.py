"""New leaves under a cluster that serves, or does not any more: as they are shown, and to clients that shake hands."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdops.certificate import inspect
from etcdops.pki import CA, LeafRequest, Role
from tests.hosts import NAMES, Hosts, Project
from tests.lab.members import killed_at
from tests.lab.writer import Writer

SSL = "/etc/etcd/ssl"
PORTS = {2379: "server", 2380: "peer"}
PID = "systemctl show -P MainPID etcd"
SECOND = timedelta(seconds=1)


def shown(project: Project) -> dict[str, str]:
    """The serials of what every port shows."""
    found = {}
    for member in project.config["members"]:
        for port, role in PORTS.items():
            pem = ssl.get_server_certificate((member["address"], port), timeout=5)
            found[f"{member['name']}/{role}"] = inspect(pem.encode()).serial
    return found


def issued(project: Project) -> dict[str, str]:
    """The serials of what pki.dir has for them."""
    folder = project.folder / "pki/members"
    return {f"{name}/{role}": serial(folder / name / f"{role}.pem") for name in NAMES for role in PORTS.values()}


def serial(path: Path) -> str:
    return inspect(path.read_bytes()).serial


def expire(project: Project, then: datetime | None = None) -> None:
    """Every leaf that there is has ended, here and on the hosts, and every etcd begins with that.

    ``then``: when they were issued [a moment ago].
    """
    pki, then = project.folder / "pki", then or datetime.now(UTC) - 2 * SECOND
    authorities = {
        stem: CA.load((pki / f"{stem}.pem").read_bytes(), (pki / f"{stem}-key.pem").read_bytes())
        for stem in ("ca", "peer-ca")
    }
    roles: dict[str, Role] = {"server": "server", "peer": "peer", "client": "client"}
    for member in project.config["members"]:
        for name, role in roles.items():
            request = LeafRequest(role, member["name"], (member["address"],))
            authority = authorities["peer-ca" if role == "peer" else "ca"]
            leaf = authority.issue(request, "ecdsa-p256", SECOND, then)
            stem = pki / "members" / member["name"] / name
            stem.with_name(f"{name}.pem").write_bytes(leaf.cert_pem)
            stem.with_name(f"{name}-key.pem").write_bytes(leaf.key_pem)
            path = f"{SSL}/{name}.pem"
            project.hosts.sh(
                member["name"],
                f"cat >{path}.new <<'END'\n{leaf.pem.decode()}END\nchown etcd: {path}.new; chmod 600 {path}.new; "
                f"mv {path}.new {path}",
            )
    before = project.hosts.each(PID)
    project.hosts.each("systemctl restart --no-block etcd")
    project.hosts.eventually(lambda: not {*before.values(), "0"} & {*project.hosts.each(PID).values()})


@contextmanager
def rotated(project: Project) -> Iterator[None]:
    """Within the block every leaf is replaced, and taken up without a restart; others may share the cluster then."""
    hosts, before, pids = project.hosts, issued(project), project.hosts.each(PID)
    own = serial(project.folder / "pki/client.pem")
    yield
    after = shown(project)
    assert after == issued(project)
    assert set(after.values()).isdisjoint(before.values())
    assert serial(project.folder / "pki/client.pem") != own
    assert hosts.each(PID) == pids
    assert not (project.folder / "pki/rotating").exists()
    project.healthy()
    assert project.inv("deploy").ok().stdout.startswith("nothing to do in ")
    project.adopt()


def test_every_leaf_is_new_and_no_handshake_fails(cluster: Project, hosts: Hosts) -> None:
    before = hosts.listing(), shown(cluster), issued(cluster)
    lines = cluster.inv("rotate-certs", "--dry-run").ok().lines
    assert len([line for line in lines if line.startswith("here  renew ")]) == 10
    assert f"etcd02  {SSL}/peer.pem  (changed)" in lines
    assert (hosts.listing(), shown(cluster), issued(cluster)) == before
    with rotated(cluster), Writer(cluster, fresh=True) as writer:
        done = cluster.inv("rotate-certs").ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    assert "both ports of 3 members show theirs" in done.stdout
    print(f"{len(writer.acknowledged)} writes, a handshake for each")
    assert writer.failures == []
    assert writer.lost() == {}


def test_a_killed_rotation_goes_on_and_issues_none_twice(cluster: Project, hosts: Hosts) -> None:
    with rotated(cluster):
        held = hosts.hold("etcd02", "install", when='[ "$2" = 600 ]')
        killed_at(cluster, held, "install", cluster.start("rotate-certs"))
        made = issued(cluster)
        assert shown(cluster) != made
        found = cluster.inv("doctor", "--json").failed(5).json()["findings"]
        assert [each["do"] for each in found if each["check"] == "pki"] == ["inv rotate-certs goes on from there"]
        cluster.inv("rotate-certs").ok()
        assert issued(cluster) == made


def test_what_is_not_shown_is_not_done(cluster: Project, hosts: Hosts) -> None:
    """One member is down: its new leaves lie there, and nobody has seen them."""
    hosts.sh("etcd03", "systemctl stop etcd")
    before = issued(cluster)
    cluster.inv("rotate-certs").failed(5, "not proven: etcd does not run on etcd03", "inv start; then inv rotate-certs")
    made = issued(cluster)
    assert set(made.values()).isdisjoint(before.values())
    cluster.inv("start").ok()
    cluster.inv("rotate-certs").ok()
    assert issued(cluster) == shown(cluster) == made
    cluster.adopt()


@pytest.mark.parametrize(
    "signal_", [None, pytest.param(signal.SIGKILL, marks=pytest.mark.chaos)], ids=["in one go", "killed"]
)
def test_expired_leaves_of_a_cluster_that_is_down_are_replaced(
    cluster: Project, hosts: Hosts, signal_: signal.Signals | None
) -> None:
    expire(cluster)
    hosts.eventually(lambda: cluster.inv("health").code == 5)
    with rotated(cluster):
        if signal_:
            held = hosts.hold("etcd02", "install", when='[ "$2" = 600 ]')
            killed_at(cluster, held, "install", cluster.start("rotate-certs"))
        cluster.inv("rotate-certs").ok()
