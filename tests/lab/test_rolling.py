"""A change of a cluster that serves: one member at a time, the leader last, and no acknowledged write is lost.

The hosts are containers of one kernel, so that their monotonic clocks are one clock.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled
from tests.lab.writer import Writer

AWAY = "systemctl show etcd -P ActiveExitTimestampMonotonic; systemctl show etcd -P ActiveEnterTimestampMonotonic"
PROCESS = "systemctl show etcd -P InvocationID"
THIEF = "systemd-run --quiet --unit=test-thief --property=Type=notify /usr/sbin/sshd -D -p 2380"


def leader(project: Project) -> str:
    rows = project.inv("status", "--json").ok().json()["members"]
    return next(row["member"] for row in rows if row["role"] == "leader")


def away(hosts: Hosts) -> dict[str, tuple[int, int]]:
    """When each member was last gone: from, to, in the microseconds of their common clock."""
    return {name: (int(text.split()[0]), int(text.split()[1])) for name, text in hosts.each(AWAY).items()}


def one_at_a_time(hosts: Hosts, last: str) -> None:
    """Each member was back before the next one went, and ``last`` went last."""
    gone = sorted(away(hosts).items(), key=lambda item: item[1])
    for (one, (_, back)), (other, (left, _)) in pairwise(gone):
        assert back < left, (one, other, gone)
    assert gone[-1][0] == last


def test_changed_settings_roll_through_a_cluster_that_is_written_to(cluster: Project, hosts: Hosts) -> None:
    led = leader(cluster)
    before = hosts.each(PROCESS)
    change = {
        "settings": {"heartbeat-interval": 200, "election-timeout": 2000},
        "unit": {"Service": {"LimitNOFILE": 10000}},  # a container cannot have more than this machine
    }
    with Writer(cluster) as writer, cluster.changed("cluster", **change):
        listed = cluster.inv("deploy", "--dry-run").ok()
        assert [line.split()[0] for line in listed.lines if "systemctl restart etcd" in line] == sorted(NAMES)
        assert hosts.each(PROCESS) == before
        written = len(writer.acknowledged)
        done = cluster.inv("deploy").ok()
        assert "3 members healthy" in done.stdout
        assert len(writer.acknowledged) > written
        hosts.each(
            "cd /proc/$(systemctl show -P MainPID etcd) && grep 'Max open files *10000 ' limits && "
            "tr '\\0' '\\n' <environ | grep -x ETCD_HEARTBEAT_INTERVAL=200"
        )
        settled(cluster)
    assert writer.lost() == {}
    one_at_a_time(hosts, led)
    cluster.inv("deploy").ok()  # back to what it was


def test_setting_that_etcd_does_not_take_is_refused_before_any_member_stops(cluster: Project, hosts: Hosts) -> None:
    words = "etcd01, etcd02, etcd03: etcd 3.6.16 does not take the configuration: "
    with cluster.changed("cluster", settings={"heartbeat-interval": "soon"}):
        for task in ("deploy", "configure"):
            done = cluster.refuses(3, words, "no member was changed", task=[task])
            assert 'invalid value "soon" for ETCD_HEARTBEAT_INTERVAL' in done.stderr
    settled(cluster)


def test_unit_that_does_not_start_stops_at_the_first_member_and_the_right_one_heals(
    cluster: Project, hosts: Hosts
) -> None:
    led = leader(cluster)
    before = hosts.each(PROCESS)
    with Writer(cluster) as writer:
        with cluster.changed("cluster", unit={"Service": {"ExecStartPre": "/bin/false"}}):
            failed = cluster.inv("deploy").failed(4)
        errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, failed
        assert "etcd did not come back: " in errors[0], failed
        untouched = [name for name, process in hosts.each(PROCESS).items() if process == before[name]]
        assert len(untouched) == 2
        assert led in untouched
        assert sum(row["healthy"] for row in cluster.inv("health", "--json").json()) == 2
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
        cluster.inv("deploy").ok()
    assert writer.lost() == {}
    settled(cluster)


@pytest.mark.chaos
def test_what_a_stop_takes_is_no_time_of_the_start(cluster: Project, hosts: Hosts) -> None:
    """etcd may hang on a client while it stops, until systemd kills it."""
    slow, folder = NAMES[1], "/run/systemd/system/etcd.service.d"
    hosts.put(slow, f"{folder}/slow.conf", "[Service]\nExecStop=/bin/sleep 25", 0o644)
    hosts.sh(slow, "systemctl daemon-reload")
    try:
        with Writer(cluster) as writer, cluster.changed("ssh", command_timeout=20):
            cluster.inv("restart").ok()
        assert writer.lost() == {}
    finally:
        hosts.sh(slow, f"rm -r {folder}; systemctl daemon-reload")
    settled(cluster)


@pytest.mark.parametrize(
    ("trap", "undo", "words"),
    [
        pytest.param(
            "chmod 000 /var/lib/etcd/default.etcd/member; chown root /var/lib/etcd/default.etcd/member",
            "chown etcd /var/lib/etcd/default.etcd/member; chmod 700 /var/lib/etcd/default.etcd/member",
            "permission denied",
            marks=pytest.mark.chaos,
        ),
        (
            f"systemctl stop etcd; {THIEF}",
            "systemctl stop test-thief",
            "address already in use",
        ),
    ],
    ids=["unreadable data", "stolen port"],
)
def test_member_that_does_not_come_back_ends_the_run(
    cluster: Project, hosts: Hosts, trap: str, undo: str, words: str
) -> None:
    led = leader(cluster)
    first, second = sorted(set(NAMES) - {led})
    before = hosts.each(PROCESS)
    with cluster.changed("cluster", settings={"snapshot-count": 9000}):
        # Its turn comes after the look at all hosts, which must not find the trap yet.
        held = hosts.hold(first, "timeout", when='[ "$2" = systemctl ] && [ "$3" = restart ]')
        run = cluster.start("deploy")
        held.reached()
        hosts.sh(first, trap)
        held.release()
        failed = run.end().failed(4, first, words)
        after = hosts.each(PROCESS)
        assert {name: after[name] for name in (second, led)} == {name: before[name] for name in (second, led)}
        assert f"{second}, {led} not touched" in failed.stderr
        assert sum(row["healthy"] for row in cluster.inv("health", "--json").json()) == 2
        hosts.sh(first, f"{undo}; rm /usr/local/sbin/timeout")
        cluster.inv("deploy").ok()
        settled(cluster)
    cluster.inv("deploy").ok()


def test_patch_upgrade_rolls(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.6.14")
    new.inv("deploy").ok()
    led = leader(new)
    new.config["cluster"]["version"] = "3.6.16"
    new.config["release"]["archive"] = str(hosts.archive("3.6.16"))
    new.write()
    with Writer(new) as writer:
        done = new.inv("deploy").ok()
    assert "3.6.14 -> 3.6.16" in done.stderr
    assert writer.lost() == {}
    one_at_a_time(hosts, led)
    versions = {row["version"] for row in new.inv("status", "--json").ok().json()["members"]}
    assert versions == {"3.6.16"}
    assert set(hosts.each("ls /opt/etcd; readlink /opt/etcd/current").values()) == {"3.6.14\n3.6.16\ncurrent\n3.6.16"}
    settled(new)
