"""A first start that goes wrong on some of the hosts."""

from __future__ import annotations

from tests.hosts import NAMES, Hosts
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import PROCESS
from tests.lab.writer import Writer

OTHERS = ("etcd01", "etcd03")
UNSURE = "systemctl show -P ActiveState etcd; ls /etc/etcd/identity.json 2>/dev/null; true"


def test_two_hosts_are_lost_while_the_members_start(project: NewProject, hosts: Hosts) -> None:
    """1: who did not come up is told; the one that is left waits, and nothing begins anew when the others are back."""
    new = project()
    for name in NAMES[1:]:
        hosts.hold(name, "timeout", when='[ "$2" = systemctl ]')
    run = new.start("deploy")
    hosts.eventually(lambda: set(hosts.each("cat /run/etcdops-hold", NAMES[1:]).values()) == {"held"}, 120)
    for name in NAMES[1:]:
        hosts.lab.off(name)
    done = run.end().failed(4, "error: etcd01: etcd did not start: not ready after 30 s")
    told = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert set(NAMES) <= set(", ".join(told).split(", ")), done
    new.inv("status").failed(4, "error: etcd02: ", "error: etcd03: ")
    assert hosts.sh("etcd01", UNSURE) == "activating"
    for name in NAMES[1:]:
        hosts.lab.on(name)
        hosts.sh(name, "rm -f /usr/local/sbin/*")
    token = hosts.each("grep TOKEN /etc/etcd/etcd.conf")
    new.inv("deploy").ok()
    assert hosts.each("grep TOKEN /etc/etcd/etcd.conf") == token
    new.healthy()
    settled(new)


def test_members_cannot_call_each_other(project: NewProject, hosts: Hosts) -> None:
    """1: a firewall between all of them; they come up as soon as it is gone."""
    new = project()
    for name in NAMES:
        hosts.firewall(name, "iifname host0 tcp dport 2380 drop")
    try:
        done = new.inv("deploy").failed(4, "etcd did not start: not ready after 30 s")
        assert {name for name in NAMES if name in done.stderr.partition("==> Start")[2]} == set(NAMES)
        found = new.inv("doctor", "--json").failed(5).json()["findings"]
        reach = [each["found"] for each in found if each["check"] == "reach" and each["level"] == "error"]
        assert all(any(f"does not reach {name} on port 2380" in each for each in reach) for name in NAMES)
        assert set(hosts.each(UNSURE).values()) == {"activating"}
    finally:
        for name in NAMES:
            hosts.firewall(name, "")
    new.inv("deploy").ok()
    new.healthy()
    settled(new)


def test_one_member_begins_with_another_token(project: NewProject, hosts: Hosts) -> None:
    """4: it is told, the others serve, and only what never joined is set aside."""
    new = project(ssh={"command_timeout": 15})
    for step in ("install", "distribute", "configure"):
        new.inv(step).ok()
    hosts.sh(
        "etcd02", "sed -i 's/^ETCD_INITIAL_CLUSTER_TOKEN=.*/ETCD_INITIAL_CLUSTER_TOKEN=other/' /etc/etcd/etcd.conf"
    )
    hosts.each("systemctl start --no-block etcd")
    hosts.eventually(lambda: "is healthy" in new.etcdctl("etcd01", "--command-timeout=1s endpoint health 2>&1; true"))
    with Writer(new) as writer:
        writer.goes_on()
        before = hosts.each(PROCESS, OTHERS)
        assert "etcd02 is not a member of the cluster" in new.inv("status").failed(5).stderr
        found = new.inv("deploy").failed(
            3, "the hosts hold data of different clusters (etcd01: test-", ", etcd02: other, "
        )
        new.inv("start").failed(3, "the hosts hold data of different clusters")
        new.inv("replace-member", "etcd02", "--yes").failed(
            3, "etcd02: /var/lib/etcd/default.etcd holds data of another"
        )
        way_out = found.stderr.partition("on the wrong ones: ")[2].partition(", if its data")[0]
        hosts.sh("etcd02", way_out.replace(", then", ";"))
        new.inv("deploy").ok()
        assert hosts.each(PROCESS, OTHERS) == before
    assert writer.lost() == {}
    assert hosts.sh("etcd02", "ls /var/lib/etcd") == "default.etcd\ndefault.etcd.old"
    new.healthy()
    settled(new)
