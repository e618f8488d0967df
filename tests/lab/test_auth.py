"""Every task on clusters with authentication on: root by certificate, a user by password, those who are not let in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab import kept
from tests.lab.members import address, reread
from tests.lab.test_schedule import one

WORD = "ETCDOPS_ETCD_PASSWORD"
SECRET = 'r00t:\\"$x`'
# Stands before the real etcdctl: notes the arguments of all processes of the host.
SPY = """#!/bin/sh
cat /proc/[0-9]*/cmdline >>/run/test-argv 2>/dev/null
exec /usr/local/bin/etcdctl "$@"
"""
# Says no to one command, which it has been told.
BROKEN = """#!/bin/sh
case "$*" in *'user get root'*) echo 'Error: etcdserver: permission denied' >&2; exit 1 ;; esac
exec /usr/local/bin/etcdctl "$@"
"""
# Turns it on, and does not come back.
HANGS = """#!/bin/sh
case "$*" in *'auth enable'*) /usr/local/bin/etcdctl "$@"; : >/run/test-on; exec sleep 20 ;; esac
exec /usr/local/bin/etcdctl "$@"
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A folder for the cluster with TLS (True), and one for that without."""
    return {tls: tmp_path_factory.mktemp(f"auth-{tls}") for tls in (True, False)}


SHARED: dict[str, Project] = {}


def shared(hosts: Hosts, folder: Path, tls: bool) -> Project:
    """The cluster of this module with authentication on, as it was left; deployed anew where it is gone."""
    known = SHARED.get(str(folder))
    hosts.cluster = None  # what others share has everybody let in
    if known is None or not known.as_deployed():
        known = Project(hosts, folder, tls=tls, auth={"user": "" if tls else "root"}, backup={"dir": "store"})
        known.env = {} if tls else {WORD: SECRET}
        known.deployed()
        known.inv("auth-enable", "--yes").ok()
        kept.fill(known, "first") if tls else known.inv("put", "/kept/first", "1").ok()
        known.adopt()
        SHARED[str(folder)] = known
    return known


@pytest.fixture
def open_(cluster: Project) -> Iterator[Project]:
    """A cluster without authentication, and without users before and after."""
    yield cluster
    cluster.inv("auth-disable", "--yes").ok()
    cluster.inv("etcdctl", "--", "user", "delete", "root")


@pytest.fixture
def secure(hosts: Hosts, places: dict[bool, Path]) -> Project:
    """Who shows a certificate is the user of its CN."""
    return shared(hosts, places[True], tls=True)


@pytest.fixture
def plain(hosts: Hosts, places: dict[bool, Path]) -> Project:
    """Without TLS: root, by password."""
    return shared(hosts, places[False], tls=False)


def is_on(project: Project) -> bool:
    """Whether a member's own certificate, which names no user, is turned away."""
    pair = "--cert=/etc/etcd/ssl/server.pem --key=/etc/etcd/ssl/server-key.pem"
    return "denied" in project.etcdctl("etcd01", f"{pair} get /any 2>&1 | tail -n 1")


def every_task(project: Project) -> None:
    """The reading tasks and those that change something, one after the other."""
    assert project.inv("status", "--json").ok().json()["healthy"]
    for task in ("health", "members", "alarms", "check-data", "space", "keys"):
        assert project.inv(task).ok().stderr in {"", "    every member holds the same\n"}, task
    states = {each["check"]: each["state"] for each in project.inv("doctor", "--json").json()["checks"]}
    assert {states[check] for check in ("service", "membership", "leader", "alarms", "database")} == {"ok"}
    project.inv("put", "/auth/key", "value").ok()
    assert project.inv("get", "/auth/key").ok().stdout == "value"
    assert project.inv("keys", "--prefix=/auth/").ok().lines == ["/auth/key"]
    assert project.inv("del", "/auth/key").ok().lines == ["1 deleted"]
    assert project.inv("etcdctl", "--", "user", "get", "root").ok().lines[0] == "User: root"
    project.inv("backup").ok()
    project.inv("doctor").ok()
    assert project.inv("snapshot.verify", "latest", "--drill", "--json").ok().json()["drill"]["hash_as_in_cluster"]
    project.inv("move-leader").ok()
    project.inv("compact", "--keep=1").ok()
    project.inv("defrag", "--force").ok()
    project.inv("restart").ok()
    assert project.inv("deploy", "--dry-run").ok().lines == ["nothing to do"]


def joins_and_leaves(project: Project, hosts: Hosts) -> None:
    """A fourth member for a while."""
    with hosts.more(4):
        done = project.inv("add-member", "etcd04", f"--address={address('etcd04')}").ok()
        assert "in sync after" in done.stderr
        assert len(project.inv("health", "--json").ok().json()) == 4
        assert hosts.sh("etcd04", "grep -c token /etc/etcd/identity.json") == "1"
        project.inv("remove-member", "etcd04", "--yes").ok()
    reread(project)
    project.inv("health").ok()
    project.adopt()


# Turning it on and off


def test_on_and_off(open_: Project) -> None:
    rescue = "etcdops-rescue"
    words = ["user add root", f"user add {rescue}", "user grant-role root root", f"user grant-role {rescue} root"]
    before = [f"etcd01  etcdctl {each}" for each in (*words, "auth enable", f"user delete {rescue}")]
    assert open_.inv("auth-enable", "--dry-run").ok().lines == before
    open_.refuses(3, "this needs a yes, and nobody can be asked here: Clients of ", task=["auth-enable"])
    assert not is_on(open_)
    assert open_.inv("auth-disable", "--yes").ok().lines == ["nothing to do: authentication is off"]

    done = open_.inv("auth-enable", "--yes").ok()
    assert done.lines[-1] == f"authentication is on: proven on {', '.join(NAMES)}; the tasks are root, by certificate"
    assert is_on(open_)
    assert open_.inv("etcdctl", "--", "user", "list").ok().lines == ["root"]
    again = open_.inv("auth-enable").ok().lines
    assert again == ["nothing to do: authentication is on, and the tasks are root, by certificate"]

    assert open_.inv("auth-disable", "--dry-run").ok().lines == ["etcd01  etcdctl auth disable"]
    open_.inv("auth-disable").failed(3, "Every client with a certificate of its CA can read and write all of ")
    assert is_on(open_)
    assert open_.inv("auth-disable", "--yes").ok().lines == ["authentication is off; users and roles stay"]
    assert not is_on(open_)
    lines = open_.inv("auth-enable", "--dry-run").ok().lines
    assert lines == before[1:]  # root is there, and keeps its password


def test_what_would_lock_us_out_is_refused(cluster: Project, hosts: Hosts) -> None:
    hosts.sh("etcd02", "cp -a /etc/etcd/ssl/server.pem /etc/etcd/ssl/client.pem")
    words = "refused: etcd02: the certificate of etcdctl here names etcd02, not root; inv deploy"
    cluster.refuses(3, words, task=["auth-enable", "--yes"])
    cluster.inv("deploy").ok()
    hosts.sh("etcd03", "systemctl stop etcd")
    cluster.refuses(3, "the cluster is not healthy: etcd03", task=["auth-enable", "--yes"])
    cluster.inv("start").ok()


def test_what_cannot_be_proven_is_taken_back(open_: Project, hosts: Hosts) -> None:
    hosts.put("etcd03", "/usr/local/sbin/etcdctl", BROKEN)
    done = open_.inv("auth-enable", "--yes").failed(1, "error: authentication was not turned on: ")
    assert done.stderr.splitlines()[-1].endswith("; it is off, as before")
    hosts.sh("etcd03", "rm /usr/local/sbin/etcdctl")
    assert not is_on(open_)
    open_.healthy()


def test_run_that_is_killed_before_its_proof_locks_nobody_out(open_: Project, hosts: Hosts) -> None:
    """Where etcd does not take the tasks' certificate: the next run has the way in that the killed one has left."""
    hosts.put("etcd01", "/usr/local/sbin/etcdctl", HANGS)
    run = open_.start("auth-enable", "--yes")
    hosts.eventually(lambda: hosts.sh("etcd01", "ls /run/test-on 2>/dev/null; true"))
    run.signal(signal.SIGKILL)
    run.end()
    hosts.sh("etcd01", "rm /usr/local/sbin/etcdctl /run/test-on")
    hosts.each("cp -a /etc/etcd/ssl/server.pem /etc/etcd/ssl/client.pem")
    kept = open_.folder / "pki/etcdops-rescue"
    assert kept.stat().st_mode & 0o777 == 0o600
    open_.inv("get", "/any").failed(1, "authentication is on")
    done = open_.inv("auth-enable", "--yes").failed(1, "error: a run that was cut short had turned it on: ")
    assert done.stderr.splitlines()[-1].endswith("; it is off, as before")
    assert not is_on(open_)
    assert not kept.exists()
    open_.inv("auth-enable", "--yes").failed(3, "the certificate of etcdctl here names etcd01, not root; inv deploy")
    open_.inv("deploy").ok()
    open_.inv("auth-enable", "--yes").ok()
    assert open_.inv("etcdctl", "--", "user", "list").ok().lines == ["root"]


# Root, by certificate


@pytest.mark.chaos
def test_every_task_by_certificate(secure: Project) -> None:
    every_task(secure)


def test_scheduled_backups_by_certificate(secure: Project, hosts: Hosts) -> None:
    secure.inv("snapshot.schedule").ok()
    one(hosts)
    assert secure.inv("status", "--json").ok().json()["backup"]["overdue"] is False
    assert secure.inv("auth-enable").ok()
    secure.inv("snapshot.unschedule").ok()


def test_restore_brings_the_authentication_of_the_snapshot(secure: Project) -> None:
    secure.inv("backup").ok()
    secure.inv("put", "/kept/later", "x").ok()
    secure.inv("auth-disable", "--yes").ok()
    done = secure.inv("restore", "latest", "--yes").ok()
    assert "authentication is on in it" in done.stderr
    assert is_on(secure)
    assert "/kept/later" not in kept.keys(secure)
    assert secure.inv("status", "--json").ok().json()["healthy"]
    assert secure.inv("deploy", "--dry-run").ok().lines == ["nothing to do"]
    secure.adopt()


def test_a_member_joins_and_leaves_by_certificate(secure: Project, hosts: Hosts) -> None:
    joins_and_leaves(secure, hosts)


def test_a_password_instead(secure: Project, hosts: Hosts) -> None:
    for words, stdin in ((["user", "add", "ops", "--interactive=false"], b"0ps\n"), (["user", "grant-role"], b"")):
        ops = [] if "add" in words else ["ops", "root"]
        secure.inv("etcdctl", "--", *words, *ops, stdin=stdin).ok()
    with secure.changed("auth", user="ops"):
        words = f"error: etcd wants a password for ops; run this in a terminal, or set {WORD}\n"
        for task in (["status"], ["get", "/kept/first/more0"], ["deploy"]):
            assert secure.inv(*task).failed(2).stderr.removeprefix("==> Look at etcd01, etcd02, etcd03\n") == words
        shown = secure.terminal("keys", answers={"[etcd] password for ops: ": "0ps"})
        assert shown.code == 0
        assert "/kept/" in shown.stdout
        secure.env = {WORD: "wrong"}
        for task in (
            ["status"],
            ["get", "/kept/first/more0"],
            ["deploy"],
            ["restart"],
            ["recover", "--yes"],
            ["backup"],
        ):
            done = secure.inv(*task).failed(1)
            assert done.stderr.splitlines()[-1].startswith("error: etcd does not take the password of ops; run the ")
        secure.env = {WORD: "0ps"}
        assert secure.inv("get", "/kept/first/more0").ok().stdout == "first"
        assert secure.inv("status", "--json").ok().json()["healthy"]
        own = secure.inv("etcdctl", "--", "--user=ops:no", "get", "/any")
        assert (own.code, own.stderr.splitlines()[-1]) == (
            2,
            "Error: etcdserver: authentication failed, invalid user ID or password",
        )
    secure.env = {}
    secure.inv("etcdctl", "--", "user", "revoke-role", "ops", "root").ok()
    secure.env = {WORD: "0ps"}
    with secure.changed("auth", user="ops"):
        secure.inv("get", "/kept/first/more0").failed(
            1, "etcd does not let ops do this; the tasks need a user with the role"
        )
    secure.env = {}


def test_recover_with_authentication(secure: Project, hosts: Hosts) -> None:
    """The last of this cluster: its quorum is lost for good."""
    before = kept.keys(secure)
    for name in ("etcd01", "etcd03"):
        hosts.lab.off(name)
    secure.inv("recover", "--yes").ok()
    with secure.changed("ssh", connect_timeout=1):
        assert "etcd02" in secure.inv("health").failed(4).stdout
    pair = "--cert=/etc/etcd/ssl/server.pem --key=/etc/etcd/ssl/server-key.pem"
    assert kept.keys(secure, "etcd02") == before
    assert "denied" in secure.etcdctl("etcd02", f"{pair} get /any 2>&1 | tail -n 1")


# Root, by password


def test_without_tls_nobody_is_root_by_itself(project: object, hosts: Hosts, tmp_path: Path) -> None:
    new = Project(hosts, tmp_path, tls=False, auth={})
    new.inv("deploy").ok()
    words = ("without TLS no certificate says who the tasks are; set auth.user in config.yaml", WORD)
    new.refuses(3, *words, task=["auth-enable", "--yes"])
    new.inv("snapshot.schedule").ok()
    with new.changed("auth", user="root"):
        new.inv("auth-enable", "--yes").failed(2, "etcd wants a password for root")
        new.env = {WORD: "two words"}
        words = ("the password has a blank", "etcd01, etcd02, etcd03: its own backups would fail")
        new.refuses(3, *words, task=["auth-enable", "--yes"])
        new.inv("snapshot.unschedule").ok()
        new.env = {}
        prompts = {"[etcd] password for root: ": "typed", "[etcd] root's once more: ": "mistyped"}
        assert "the two passwords for root differ" in new.terminal("auth-enable", "--yes", answers=prompts).stdout
        prompts["[etcd] root's once more: "] = "typed"
        assert new.terminal("auth-enable", "--yes", answers=prompts).code == 0
    new.inv("status").failed(1, "error: authentication is on, and we came without a user; set auth.user in config.yaml")
    assert "we came without a user; set auth.user" in new.inv("doctor").failed(5).stdout


@pytest.mark.chaos
def test_every_task_by_password(plain: Project, hosts: Hosts) -> None:
    hosts.each(
        f"cat >/usr/local/sbin/etcdctl <<'END'\n{SPY}END\nchmod 755 /usr/local/sbin/etcdctl; rm -f /run/test-argv"
    )
    every_task(plain)
    argv = hosts.each("tr '\\0' ' ' </run/test-argv")
    hosts.each("rm -f /usr/local/sbin/etcdctl")
    for name in NAMES:
        assert "endpoint status" in argv[name]
        assert SECRET not in argv[name]
    files = "grep -rlF 'r00t:' /run /tmp /var /etc /root --exclude-dir=default.etcd 2>/dev/null"
    assert set(hosts.each(f"{files}; journalctl | grep -cF 'r00t:'; true").values()) == {"0"}
    plain.inv("snapshot.schedule").failed(3, "without TLS a backup needs the password of root")


def test_restore_by_password(plain: Project) -> None:
    plain.inv("backup").ok()
    plain.inv("put", "/kept/later", "x").ok()
    plain.inv("restore", "latest", "--yes").ok()
    assert plain.inv("keys", "--prefix=/kept/").ok().lines == ["/kept/first"]
    with plain.changed("auth", user=""):
        plain.inv("health").failed(1, "authentication is on, and we came without a user")
    plain.adopt()


@pytest.mark.chaos
def test_a_member_joins_and_leaves_by_password(plain: Project, hosts: Hosts) -> None:
    """As a learner it checks no password, and tells nothing of itself."""
    joins_and_leaves(plain, hosts)


def test_off_again_by_password(plain: Project) -> None:
    assert plain.inv("auth-disable", "--yes").ok()
    with plain.changed("auth", user=""):
        plain.inv("health").ok()
    assert plain.inv("auth-enable", "--dry-run").ok().lines[0] == "etcd01  etcdctl user passwd root"
    plain.inv("auth-enable", "--yes").ok()
