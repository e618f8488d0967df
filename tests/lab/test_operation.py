"""One changing run at a time, its record, and how it ends when it is interrupted: on real hosts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from etcdops.lab.image import SUDO_PASSWORD
from tests.hosts import NAMES, Held, Hosts, Process, Project

REFUSED = "runs inv install (process "
JOURNAL = "journalctl --quiet --output=cat --identifier=etcdops --since=-10min"


@pytest.fixture
def tidy(cluster: Project, hosts: Hosts) -> Iterator[None]:
    """No program waits on any host afterwards; and what is held here is not over before."""
    with cluster.changed("ssh", command_timeout=100):
        yield
    hosts.each("rm -f /run/etcdops-hold /usr/local/sbin/*")


def looking(hosts: Hosts) -> Held:
    """Whoever looks at etcd02 waits in the midst of it."""
    return hosts.hold("etcd02", "sha256sum")


def first_to_end(runs: Sequence[Process]) -> Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if ended := [each for each in runs if each.ends_within(0.05)]:
            return ended[0]
    raise AssertionError("both go on, or wait")


def followers(cluster: Project) -> list[str]:
    """In the order in which they are restarted."""
    rows = cluster.inv("status", "--json").ok().json()["members"]
    return [name for name, row in zip(NAMES, rows, strict=True) if row["role"] == "follower"]


def records(cluster: Project) -> list[list[dict[str, Any]]]:
    """All records, the newest last."""
    paths = sorted((cluster.folder / ".etcdops" / "runs").iterdir())
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


def told(cluster: Project, words: str) -> None:
    """Wait until the newest run has said so."""
    cluster.hosts.eventually(lambda: any(words in each.get("text", "") for each in records(cluster)[-1]), 60)


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.chaos)])
def test_of_two_that_begin_in_the_same_instant_one_goes_on(
    cluster: Project, hosts: Hosts, tidy: None, rounds: int
) -> None:
    for _ in range(rounds):
        held = looking(hosts)
        both = cluster.start("install"), cluster.start("install")
        held.reached()
        second = first_to_end(both)
        second.end().failed(3, "refused: root@", REFUSED, ": the lock on etcd0", "; wait for its end")
        (first,) = (each for each in both if each is not second)
        assert not first.ends_within(0.2)
        held.release()
        first.end().ok()


def test_what_goes_on_while_a_run_has_the_lock_and_what_becomes_of_it(
    cluster: Project, hosts: Hosts, tidy: None
) -> None:
    held = looking(hosts)
    run = cluster.start("install")
    held.reached()
    for words in (["health"], ["put", "/while", "locked"], ["get", "/while"]):
        cluster.inv(*words).ok()
    (newest, *_) = cluster.inv("history", "--json").ok().json()
    assert (newest["task"], newest["state"], newest["exit"]) == ("install", "running", None)
    cluster.inv("compact").failed(3, REFUSED)
    cluster.inv("compact", "--dry-run").ok()
    assert not run.ends_within(0)
    run.signal(signal.SIGKILL)
    run.end()
    assert cluster.inv("history").ok().stdout.count("cut short") == 1
    assert "and nobody knows whether it came to its end" in cluster.inv("history", newest["run"]).ok().stdout
    # What it has left running on etcd02 is over before the next one begins, without a word about --break-lock.
    again = cluster.start("install")
    told(cluster, "waiting: on etcd02 a command of an earlier run still runs")
    held.release()
    again.end().ok()
    for line in hosts.each(f"{JOURNAL} | tail -n 2").values():
        first, second = line.splitlines()
        assert newest["run"] in first and first.endswith("its controller was heard of no more")
        assert "inv install by root@" in second and ": ended with 0 after " in second


def test_a_lock_that_is_broken(cluster: Project, hosts: Hosts, tidy: None) -> None:
    """Not beneath a command; and the run that had it notices before its next one."""
    first, *_ = followers(cluster)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    other = cluster.start("compact", "--break-lock")
    hosts.eventually(lambda: "was broken by inv compact" in hosts.sh("etcd01", JOURNAL))
    assert not other.ends_within(1)
    held.release()
    other.end().ok()
    run.end().failed(4, "inv compact by root@")


def test_a_host_that_is_rebooted_beneath_a_run(cluster: Project, hosts: Hosts, tidy: None) -> None:
    """It is locked again when the run comes back to it."""
    first, second = followers(cluster)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    hosts.lab.off(second)
    hosts.lab.on(second)
    hosts.eventually(lambda: hosts.sh(second, "systemctl is-active etcd", check=False) == "active")
    held.release()
    run.end().ok()
    assert hosts.sh(second, f"{JOURNAL} | tail -n 1").endswith(" s")
    lines = [(each["what"], each["host"]) for each in records(cluster)[-1] if each["event"] == "call"]
    assert lines.count(("lock", second)) == 2


def test_no_secret_is_on_record(cluster: Project, hosts: Hosts) -> None:
    """A password for sudo, and one of etcd's, go through runs that write, read and fail."""
    word = "s3cret-of-etcd"
    cluster.env = {"ETCDOPS_SUDO_PASSWORD": SUDO_PASSWORD, "ETCDOPS_ETCD_PASSWORD": word}
    try:
        with cluster.changed("ssh", user="opspw"):
            cluster.config["auth"] = {"user": "root"}
            cluster.write()
            cluster.inv("auth-enable", "--yes").ok()
            cluster.inv("restart").ok()
            cluster.inv("auth-disable", "--yes").ok()
            cluster.inv("etcdctl", "--", "user", "delete", "root").ok()
    finally:
        cluster.env = {}
        cluster.config.pop("auth", None)
        cluster.write()
    written = "".join(path.read_text() for path in (cluster.folder / ".etcdops" / "runs").iterdir())
    told = cluster.inv("history", "auth-enable", "--calls").ok().stdout
    for secret in (word, SUDO_PASSWORD):
        assert secret not in written and secret not in told
        assert set(hosts.each(f"journalctl --quiet -t etcdops | grep -c -- {secret} || true").values()) == {"0"}
    for path in (cluster.folder / ".etcdops" / "runs").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_stops_between_two_members(cluster: Project, hosts: Hosts, tidy: None) -> None:
    """The one in its turn is healthy first; what is left is named, and the same command again ends well."""
    first, second = followers(cluster)
    (leader,) = {*NAMES} - {first, second}
    uptime = "systemctl show etcd --property=InvocationID"
    before = hosts.each(uptime)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    run.signal(signal.SIGINT)
    hosts.eventually(lambda: "once more stops at once" in run.complaints)
    held.release()
    done = run.end().failed(130, "stopping at the next safe point; once more stops at once")
    assert done.stderr.splitlines()[-1] == (
        f"error: interrupted: {first} restarted, {second}, {leader} not; inv restart goes on from what is there"
    )
    cluster.inv("health").ok()
    after = hosts.each(uptime)
    assert {name for name in NAMES if after[name] != before[name]} == {first}
    assert records(cluster)[-1][-1]["code"] == 130
    assert hosts.sh(leader, f"{JOURNAL} | tail -n 1").partition(": ")[2].startswith("ended with 130 after ")
    cluster.inv("restart").ok()


def test_a_second_ctrl_c_stops_at_once(cluster: Project, hosts: Hosts, tidy: None) -> None:
    """What it had begun on a host comes to its end there; the next run waits for that."""
    first, *_ = followers(cluster)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    run.signal(signal.SIGINT)
    hosts.eventually(lambda: "once more stops at once" in run.complaints)
    assert not run.ends_within(1)
    run.signal(signal.SIGINT)
    assert run.ends_within(5)
    run.end().failed(130, "error: interrupted in the midst of it: ", f"{first}, ", "inv restart goes on from")
    again = cluster.start("deploy")
    told(cluster, f"waiting: on {first} a command of an earlier run still runs")
    held.release()
    again.end().ok()
    cluster.inv("health").ok()


@pytest.mark.parametrize("how", ["the connection ends", "the cable is cut for a while"])
def test_a_connection_that_is_lost_in_the_middle_of_a_command(
    cluster: Project, hosts: Hosts, tidy: None, how: str
) -> None:
    """Connected again, locked again, and once what had been begun is over it is done again: the run goes on."""
    first, *_ = followers(cluster)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    if how == "the connection ends":
        hosts.sh(first, "pkill -f '[s]shd: root@'")
    else:
        hosts.lab.cut(first)
        assert not run.ends_within(3)
        hosts.lab.heal(first)
    held.release()
    run.end().ok()
    cluster.inv("health").ok()
    if how == "the connection ends":
        lost = [each for each in records(cluster)[-1] if "connection was lost" in each.get("error", "")]
        assert {each["host"] for each in lost} == {first}


@pytest.mark.chaos
@pytest.mark.parametrize("taken", [False, True])
def test_a_controller_that_sleeps(cluster: Project, hosts: Hosts, tidy: None, taken: bool) -> None:
    """It goes on if nobody took the cluster meanwhile; else it stops before its next change."""
    first, *_ = followers(cluster)
    held = hosts.hold(first, "systemctl", when='[ "$1" = restart ]')
    run = cluster.start("restart")
    held.reached()
    run.signal(signal.SIGSTOP)
    silent = f"{JOURNAL} | tail -n 1 | grep -c 'heard of no more' || true"
    hosts.eventually(lambda: set(hosts.each(silent).values()) == {"1"}, 90)
    held.release()
    if taken:
        cluster.inv("compact").ok()
    run.signal(signal.SIGCONT)
    done = run.end()
    done.failed(4, "inv compact by root@") if taken else done.ok()
