"""Whatever is unsafe is refused with exit 3 and a line for each reason, and nothing changes on any host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etcdops.pki import CA
from tests.hosts import Hosts, Project, members
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled

WAL = "/var/lib/etcd/default.etcd/member/wal"
FAKE = '#!/bin/sh\n[ "$*" = "{arguments}" ] && {{ {answer}; exit; }}\nexec /usr/bin/{program} "$@"'


def refused(project: Project, *lines: str) -> None:
    """``lines`` are how its refusals begin, all of them."""
    done = project.refuses(3)
    said = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
    assert said.pop() == "refused: nothing was changed"
    assert done.stdout == ""
    assert len(said) == len(lines), said
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(f"refused: {expected}"), (line, expected)
        assert "; " in line, f"{line} does not say what to do"


TROUBLE = {
    "data of another cluster": (
        f"mkdir -p {WAL}",
        "etcd02: /var/lib/etcd/default.etcd holds data of another cluster",
    ),
    "leftover files": (
        "mkdir -p /var/lib/etcd/default.etcd; touch /var/lib/etcd/default.etcd/notes",
        "etcd02: /var/lib/etcd/default.etcd holds something that is not etcd's",
    ),
    "port taken": (
        "systemd-run --quiet --unit=test-thief --property=Type=notify /usr/sbin/sshd -D -p 2380",
        "etcd02: port 2380 is taken by sshd (pid ",
    ),
    "no room for the data": (
        "mkdir -p /var/lib/etcd && mount -t tmpfs -o size=64M tmpfs /var/lib/etcd",
        "etcd02: 64 MiB free for /var/lib/etcd/default.etcd, 512 MiB needed",
    ),
    "no room for the release": (
        "mkdir -p /opt/etcd && mount -t tmpfs -o size=100M tmpfs /opt/etcd",
        "etcd02: 100 MiB free for /opt/etcd, 256 MiB needed",
    ),
    "own etcd there": (
        "cp /usr/bin/true /usr/local/bin/etcdctl",
        "etcd02: /usr/local/bin/etcdctl was not put there by etcdops",
    ),
}


@pytest.mark.parametrize(("trouble", "line"), TROUBLE.values(), ids=TROUBLE.keys())
def test_unfit_host(project: NewProject, hosts: Hosts, trouble: str, line: str) -> None:
    new = project()
    hosts.sh("etcd02", trouble)
    refused(new, line)


@pytest.mark.parametrize(
    ("program", "arguments", "answer", "line"),
    [
        ("date", "+%s.%N", "/usr/bin/date -d '+3 seconds' +%s.%N", "etcd02: its clock is at least "),
        ("uname", "-m", "echo riscv64", "etcd02: riscv64 has no supported etcd release"),
        ("systemctl", "--version", "exit 127", "etcd02: systemd does not run here"),
    ],
)
def test_unfit_machine(project: NewProject, hosts: Hosts, program: str, arguments: str, answer: str, line: str) -> None:
    new = project()
    text = FAKE.format(program=program, arguments=arguments, answer=answer)
    hosts.put("etcd02", f"/usr/local/sbin/{program}", text)
    lines = [line] if program != "date" else [line, "etcd03: its clock is at least "]
    refused(new, *lines)


def test_every_reason_at_once(project: NewProject, hosts: Hosts) -> None:
    new = project()
    hosts.sh("etcd01", f"mkdir -p {WAL}; cp /usr/bin/true /usr/local/bin/etcd")
    hosts.put("etcd03", "/usr/local/sbin/uname", "#!/bin/sh\necho i686")
    refused(
        new,
        "etcd01: /usr/local/bin/etcd was not put there by etcdops",
        "etcd03: i686 has no supported etcd release",
        "etcd01: /var/lib/etcd/default.etcd holds data of another cluster",
    )


def test_two_members_on_one_machine(project: NewProject) -> None:
    one, two, three = members()
    new = project(members=[one, {**two, "ssh": one["address"]}, three])
    refused(
        new,
        f"etcd02: {two['address']} is not an address of this host, which has {one['address']}",
        "etcd02: is the same machine as etcd01",
    )


def test_address_that_the_host_does_not_have(project: NewProject) -> None:
    one, two, three = members()
    new = project(members=[one, {**two, "address": "198.18.40.250", "ssh": two["address"]}, three])
    refused(new, f"etcd02: 198.18.40.250 is not an address of this host, which has {two['address']}")


def test_release_that_loses_data(project: NewProject) -> None:
    new = project()
    new.config["cluster"]["version"] = "3.5.1"
    new.write()
    refused(new, "etcd 3.5.1 loses data when a member is killed under load")


def test_host_of_another_cluster(project: NewProject, hosts: Hosts, tmp_path: Any) -> None:
    (tmp_path / "other").mkdir()
    new = project(cluster={"name": "main"})
    other = Project(hosts, tmp_path / "other", cluster={"name": "other"}, members=members("etcd03"))
    other.inv("deploy").ok()
    refused(new, "etcd03: is a member of another cluster, other")


def test_member_that_the_running_cluster_does_not_know(project: NewProject) -> None:
    new = project(members=members("etcd01", "etcd02"))
    new.inv("deploy").ok()
    new.config["members"] = members()
    new.write()
    refused(new, "etcd03: is in config.yaml, but not a member of the running cluster")
    new.config["members"] = members("etcd01")
    new.write()
    refused(new, "member etcd02 (https://198.18.40.102:2380) is in the running cluster, not in config.yaml")


def test_plain_cluster_stays_plain(project: NewProject) -> None:
    new = project(tls=False)
    new.inv("deploy").ok()
    with new.changed("cluster", tls=True):
        refused(new, "etcd01, etcd02, etcd03: runs with plain http, and config.yaml asks for TLS")


def test_lost_pki_folder(cluster: Project) -> None:
    pki, away = cluster.folder / "pki", cluster.folder / "away"
    pki.rename(away)
    try:
        refused(
            cluster,
            *(
                f"etcd01, etcd02, etcd03: /etc/etcd/ssl/{ca}.pem there does not hold the CA that issues in pki.dir here"
                for ca in ("ca", "peer-ca")
            ),
        )
        assert not pki.exists()
    finally:
        away.rename(pki)
    cluster.inv("deploy").ok()


def test_new_ca_that_no_member_has_read_yet(project: NewProject) -> None:
    """A bundle that was distributed counts once the members have been restarted, and not before."""
    new = project()
    new.inv("deploy").ok()
    pki, now = new.folder / "pki", datetime.now(UTC)
    ca = CA.create("another client CA", "ecdsa-p256", timedelta(days=9), now)
    (pki / "ca.pem").write_bytes((pki / "ca.pem").read_bytes() + ca.cert_pem)
    new.inv("distribute").ok()
    (pki / "ca-key.pem").write_bytes(ca.key_pem or b"")
    refused_by = "refused: etcd01, etcd02, etcd03: runs with an older /etc/etcd/ssl/ca.pem, without the CA that issues"
    new.refuses(3, refused_by, "inv restart makes it read the file", task=["distribute"])
    new.inv("restart").ok()
    assert "server.pem" in new.inv("distribute").ok().stderr
    new.healthy()
    settled(new)


def test_hosts_on_which_nothing_is_deployed(project: NewProject) -> None:
    new = project()
    new.refuses(1, "error: nothing is deployed here; inv deploy", task=["get", "/a"])
    new.refuses(127, "Error: nothing is deployed here; inv deploy", task=["etcdctl", "--", "member", "list"])
    for task in (["stop", "--yes"], ["restart"]):
        new.refuses(3, "refused: etcd01, etcd02, etcd03: nothing is deployed here; inv deploy", task=task)


def test_lost_data_directory_of_a_member(cluster: Project, hosts: Hosts) -> None:
    hosts.sh("etcd02", "systemctl stop etcd; mv /var/lib/etcd/default.etcd /var/lib/etcd/away")
    refused(cluster, "etcd02: has been a member, but /var/lib/etcd/default.etcd is empty or not mounted")
    for task in ("start", "configure", "install", "distribute"):
        assert cluster.refuses(3, "has been a member, but", task=[task])
    cluster.refuses(3, "nothing was restarted: etcd02: ", task=["restart"])
    # Nor does it start on the host itself, or at boot.
    assert "Assertion failed" in hosts.sh("etcd02", "systemctl start etcd 2>&1", check=False)
    hosts.lab.off("etcd02")
    hosts.lab.on("etcd02")
    hosts.eventually(lambda: "running" in hosts.sh("etcd02", "systemctl is-system-running --wait", check=False))
    assert hosts.sh("etcd02", "systemctl show etcd -p AssertResult; ls /var/lib/etcd") == "AssertResult=no\naway"
    hosts.sh("etcd02", "mv /var/lib/etcd/away /var/lib/etcd/default.etcd")  # the disk is back
    cluster.inv("deploy").ok()
    cluster.healthy()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"name": "renamed"}, "is a member of another cluster, test"),
        ({"tls": False}, "runs with TLS, and config.yaml asks for plain http"),
        ({"version": "3.7.3"}, "runs etcd 3.6.16, and config.yaml asks for 3.7.3"),
        ({"version": "3.5.30"}, "runs etcd 3.6.16, and config.yaml asks for 3.5.30"),
    ],
    ids=["name", "transport", "upgrade", "downgrade"],
)
def test_running_cluster_of_another_kind(cluster: Project, change: dict[str, Any], line: str) -> None:
    with cluster.changed("cluster", **change):
        refused(cluster, f"etcd01, etcd02, etcd03: {line}")


def test_members_with_each_others_data(cluster: Project) -> None:
    """Two hosts that changed places under the same addresses."""
    one, two, three = members()
    before = cluster.config["members"]
    cluster.config["members"] = [{**one, "name": "etcd02"}, {**two, "name": "etcd01"}, three]
    cluster.write()
    try:
        cluster.refuses(3, "is member etcd02 of this cluster", "is member etcd01 of this cluster")
    finally:
        cluster.config["members"] = before
        cluster.write()
