"""The everyday tasks on a real cluster: health and its relatives, the service, keys and values, reboots."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.hosts import NAMES, VERSION, Hosts, Project
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import PROCESS, leader, one_at_a_time

RUNNING = "systemctl is-active etcd; true"


def stopped(hosts: Hosts) -> list[str]:
    return [name for name, state in hosts.each(RUNNING).items() if state != "active"]


# health, status, members


def test_all_well(cluster: Project) -> None:
    health = cluster.inv("health", "--json").ok()
    assert health.stderr == ""
    assert [(row["member"], row["endpoint"], row["healthy"], row["error"]) for row in health.json()] == [
        (name, f"198.18.40.{101 + number}", True, "") for number, name in enumerate(NAMES)
    ]
    assert all(row["took_ms"] > 0 for row in health.json())

    status = cluster.inv("status", "--json").ok().json()
    assert (status["cluster"], status["healthy"], status["reasons"]) == ("test", True, [])
    rows = status["members"]
    assert [row["member"] for row in rows] == list(NAMES)
    assert sorted(row["role"] for row in rows) == ["follower", "follower", "leader"]
    assert {row["version"] for row in rows} == {VERSION}
    assert len({row["cluster_id"] for row in rows}) == 1
    assert len({row["member_id"] for row in rows}) == 3
    assert all(360 <= row["certificate_days_left"] <= 366 for row in rows)
    assert all(row["errors"] == [] for row in rows)

    members = cluster.inv("members", "--json").ok().json()
    assert {row["id"]: row["name"] for row in members} == {row["member_id"]: row["member"] for row in rows}
    for row in members:
        address = f"198.18.40.{101 + NAMES.index(row['name'])}"
        assert (row["peer_urls"], row["client_urls"]) == ([f"https://{address}:2380"], [f"https://{address}:2379"])
        assert (row["started"], row["learner"]) == (True, False)


@pytest.mark.parametrize("task", ["health", "status", "members"])
def test_table_has_a_line_for_each_member(cluster: Project, task: str) -> None:
    done = cluster.inv(task).ok()
    assert done.stderr == ""
    for number, name in enumerate(NAMES):
        (line,) = [line for line in done.lines if name in line.split()]
        assert task == "status" or f"198.18.40.{101 + number}" in line


def test_one_member_stopped(cluster: Project, hosts: Hosts) -> None:
    hosts.sh("etcd02", "systemctl stop etcd")
    health = cluster.inv("health", "--json").failed(5, "etcd02: etcd does not run")
    assert [row["healthy"] for row in health.json()] == [True, False, True]
    status = cluster.inv("status", "--json").failed(5, "etcd02: ").json()
    assert not status["healthy"]
    assert [row["role"] for row in status["members"]].count("down") == 1
    members = cluster.inv("members", "--json").failed(5, "etcd02: ").json()
    assert {row["name"] for row in members} == set(NAMES)
    (line,) = [line for line in cluster.inv("health").failed(5).lines if "etcd02" in line]
    assert line.split()[2] == "no"
    cluster.refuses(3, "nothing was restarted: etcd02: ", task=["restart"])
    assert cluster.inv("start", "--dry-run").ok().lines == ["etcd02  systemctl start etcd"]
    cluster.inv("start").ok()
    settled(cluster)


# stop, start, restart


def test_stop_and_start(cluster: Project, hosts: Hosts) -> None:
    cluster.inv("put", "/kept", "over a stop").ok()
    cluster.refuses(3, "this needs a yes, and nobody can be asked here: etcd stops on etcd01, ", task=["stop"])
    assert cluster.inv("stop", "--dry-run").ok().lines == [f"{name}  systemctl stop etcd" for name in NAMES]
    no = cluster.terminal("stop", answers={"Go on? [yes/no] ": "n"})
    assert no.code == 3
    assert "refused: not confirmed; nothing was changed" in no.stdout
    assert stopped(hosts) == []

    cluster.inv("stop", "--yes").ok()
    assert stopped(hosts) == list(NAMES)
    assert cluster.terminal("stop", answers={"Go on? [yes/no] ": "yes"}).code == 0
    rows = cluster.inv("health", "--json").failed(5).json()
    assert [row["error"] for row in rows] == ["etcd does not run; inv start"] * 3
    cluster.inv("members").failed(5, "no member can tell who is in the cluster")

    hosts.sh("etcd03", "systemctl start --no-block etcd")  # one of three waits for a quorum
    assert not any(row["healthy"] for row in cluster.inv("health", "--json").failed(5).json())

    assert len(cluster.inv("start", "--dry-run").ok().lines) == 3
    cluster.inv("start").ok()
    assert cluster.inv("get", "/kept").ok().stdout == "over a stop"
    settled(cluster)


def test_restart_is_rolling(cluster: Project, hosts: Hosts) -> None:
    led = leader(cluster)
    before = hosts.each(PROCESS)
    listed = cluster.inv("restart", "--dry-run").ok().lines
    assert sorted(listed) == [f"{name}  systemctl restart etcd" for name in NAMES]
    assert listed[-1].startswith(led)
    assert hosts.each(PROCESS) == before
    cluster.inv("restart").ok()
    assert not set(hosts.each(PROCESS).values()) & set(before.values())
    one_at_a_time(hosts, led)
    settled(cluster)


# keys, get, put, del, etcdctl


VALUES = {
    "spaces": b"  two  spaces ",
    "quotes": b'it\'s "quoted" `id` $(id) $HOME \\ %s',
    "lines": b"first\nsecond\n\n",
    "no line end": b"x",
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "text": "Zoë — 漢字 🦉".encode(),
    "large": b"0123456789" * 100_000,
    "large and binary": bytes(range(256)) * 4096,  # a MiB; etcd takes a half more
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_value_comes_back_byte_for_byte(cluster: Project, value: bytes) -> None:
    put = cluster.inv("put", "/value", "-", "--json", stdin=value).ok()
    assert put.json()["key"] == "/value"
    assert cluster.inv("get", "/value").ok().stdout.encode(errors="surrogateescape") == value


@pytest.mark.parametrize("value", [VALUES["spaces"], VALUES["quotes"], VALUES["lines"], VALUES["text"], b"a\xffb"])
def test_value_on_the_command_line(cluster: Project, value: bytes) -> None:
    cluster.inv("put", "/argument", value.decode(errors="surrogateescape")).ok()
    assert cluster.inv("get", "--key=/argument").ok().stdout.encode(errors="surrogateescape") == value


KEYS = ["-leading", "--help", "with space", 'it\'s "$(id)"', "/ключ", "a\nb", "back\\slash", "tab\t"]


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_any_shape(cluster: Project, key: str) -> None:
    cluster.inv("put", f"--key={key}", "--value=-5").ok()
    assert cluster.inv("get", f"--key={key}").ok().stdout == "-5"
    assert cluster.inv("keys", f"--prefix={key}", "--json").ok().json() == {"keys": [key], "count": 1}
    assert cluster.inv("del", f"--key={key}", "--json").ok().json() == {"key": key, "deleted": 1}


@pytest.mark.parametrize("key", [b"\0", b"/a\0b\n\xff", bytes(range(256))])
def test_keys_of_any_bytes(cluster: Project, key: bytes) -> None:
    value = b"\0\n\xff"
    assert cluster.inv("put", "--hex", key.hex(), "-", stdin=value).ok().lines[0].startswith(f"{key.hex()} set at ")
    assert cluster.inv("get", key.hex(), "--hex").ok().stdout.encode(errors="surrogateescape") == value
    assert cluster.inv("get", key.hex(), "--hex", "--json").ok().json()["value"] == value.hex()
    assert cluster.inv("keys", "--hex", f"--prefix={key.hex()}").ok().lines == [key.hex()]
    assert cluster.inv("del", key.hex(), "--hex").ok().lines == ["1 deleted"]


def test_a_key_that_is_no_text(cluster: Project) -> None:
    key = os.fsdecode(b"/\xff")  # as a shell passes it on
    assert cluster.inv("put", key, "x").ok().stdout.startswith("/\\xff set at revision")
    assert cluster.inv("get", key).ok().stdout == "x"
    assert cluster.inv("etcdctl", "--", "get", key, "--print-value-only").ok().stdout == "x\n"
    assert cluster.inv("keys", f"--prefix={key}").ok().lines == ["/\\xff"]
    cluster.inv("del", key).ok()
    cluster.inv("get", key).failed(1, "error: there is no key /\\xff; inv keys")
    cluster.inv("get", "--hex", "/a").failed(2, "'/a' is no hexadecimal number of whole bytes; as in 2f61 for /a")


def test_a_value_that_is_too_large(cluster: Project) -> None:
    cluster.inv("put", "/large", "-", stdin=bytes(1_900_000)).failed(1, "request is too large")


def test_thousands_of_keys_page_by_page(cluster: Project) -> None:
    """A transaction takes 128 at most."""
    many = [f"/many/{number:04d}" for number in range(2500)]
    for start in range(0, len(many), 125):
        puts = "".join(f"put {key} x\n" for key in many[start : start + 125])
        cluster.etcdctl("etcd01", f"txn >/dev/null <<'END'\n\n{puts}\n\nEND")
    assert cluster.inv("keys", "--prefix=/many/", "--limit=0").ok().lines == many
    listed: list[str] = []
    flags: list[str] = []
    while True:
        page = cluster.inv("keys", "--prefix=/many/", "--limit=1000", *flags).ok()
        listed += page.lines
        if not page.stderr:
            break
        assert page.stderr.startswith(f"warning: {len(many) - len(listed)} more; --limit=0 shows all, --after=")
        flags = [page.stderr.partition("all, ")[2].partition(" the next")[0]]
    assert listed == many
    assert cluster.inv("keys", "--prefix=/many/", "--after=/many/2497", "--json").ok().json() == {
        "keys": many[-2:],
        "count": 2,
    }
    cluster.inv("etcdctl", "--", "del", "--prefix", "/many/").ok()


def test_keys_that_are_not_there(cluster: Project) -> None:
    cluster.inv("get", "/none").failed(1, "error: there is no key /none; inv keys")
    assert cluster.inv("del", "/none").ok().stdout == "0 deleted\n"
    assert cluster.inv("keys", "--prefix=/none").ok().stdout == ""


def test_listing_keys(cluster: Project) -> None:
    for number in range(3):
        cluster.inv("put", f"/list/{number}", "x").ok()
    some = cluster.inv("keys", "--prefix=/list/", "--limit=2").ok()
    assert some.lines == ["/list/0", "/list/1"]
    assert some.stderr == "warning: 1 more; --limit=0 shows all, --after=/list/1 the next ones\n"
    assert cluster.inv("keys", "--prefix=/list/", "--limit=0").ok().lines == ["/list/0", "/list/1", "/list/2"]


def test_etcdctl_passes_words_output_and_exit_code_through(cluster: Project) -> None:
    words: list[list[str]] = [["put", "/raw", "two  words"], ["put", "--", "/dash", "-v"]]
    for each in words:
        cluster.inv("etcdctl", "--", *each).ok()
    assert cluster.inv("etcdctl", "--", "get", "/raw", "--print-value-only").ok().stdout == "two  words\n"
    assert cluster.inv("etcdctl", "--", "get", "/dash").ok().stdout == "/dash\n-v\n"
    raw = b"\0\xff\n" + bytes(1 << 20)
    cluster.inv("etcdctl", "--", "--command-timeout=10s", "put", "/raw", stdin=raw).ok()
    done = cluster.inv("etcdctl", "--", "--write-out=simple", "txn", stdin=b"\nget /dash\n\n\n").ok()
    assert done.lines[-2:] == ["/dash", "-v"]
    got = cluster.inv("etcdctl", "--", "get", "/raw", "--print-value-only").ok()
    assert got.stdout.encode(errors="surrogateescape") == raw + b"\n"
    own = cluster.inv("etcdctl", "--", "--endpoints=https://198.18.40.102:2379", "endpoint", "health").ok()
    assert "198.18.40.102" in own.stdout
    assert "198.18.40.101" not in own.stdout
    assert "unknown command" in cluster.inv("etcdctl", "--", "nonsense").failed(1).stderr
    assert cluster.inv("etcdctl", "--", "get").code == 128  # etcdctl's own
    cluster.inv("etcdctl").failed(2, "no command for etcdctl")


# Hosts that restart


@pytest.mark.parametrize("how", ["reboot", "power cut"])
def test_member_comes_back_with_its_host(cluster: Project, hosts: Hosts, how: str) -> None:
    before = hosts.pid("etcd02")
    cluster.inv("put", "/before", how).ok()
    if how == "reboot":
        hosts.sh("etcd02", "systemctl reboot")
        hosts.eventually(lambda: hosts.pid("etcd02") not in {0, before})
    else:
        hosts.lab.off("etcd02")
        hosts.eventually(lambda: cluster.inv("put", "/meanwhile", "x").code == 0)  # etcd02 may have led
    hosts.lab.on("etcd02")  # after the reboot, too: waits until it can be entered
    hosts.eventually(lambda: hosts.sh("etcd02", RUNNING) == "active")
    hosts.eventually(lambda: cluster.inv("health").code == 0)
    cluster.healthy()
    assert cluster.inv("get", "/before").ok().stdout == how
    settled(cluster)


def test_power_cut_of_all_hosts(cluster: Project, hosts: Hosts) -> None:
    cluster.inv("put", "/before", "the lights went out").ok()
    for name in NAMES:
        hosts.lab.off(name)
    done: dict[str, Any] = cluster.inv("status", "--json").failed(4).json()
    assert [row["role"] for row in done["members"]] == ["unreachable"] * 3
    hosts.lab.up(len(NAMES))
    hosts.eventually(lambda: cluster.inv("health").code == 0)
    assert cluster.inv("get", "/before").ok().stdout == "the lights went out"
    settled(cluster)
