"""Bad input and bad luck: unreachable hosts, no way to become root, full disks, broken archives, runs cut short."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import NAMES, VERSION, Held, Hosts, Project, members
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled

OTHERS = ("etcd01", "etcd03")
LEFTOVERS = "ls -d /opt/.etcdops.*; find /etc /opt /usr/local /var/lib -name '*.etcdops-new'; true"


def nothing_half_written(hosts: Hosts) -> None:
    hosts.eventually(lambda: set(hosts.each(LEFTOVERS).values()) == {""})


# Hosts that cannot be reached


# A linearizable read: it needs a leader that a quorum follows.
LED = (
    "cd /etc/etcd/ssl && ETCDCTL_API=3 /usr/local/bin/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=ca.pem "
    "--cert=server.pem --key=server-key.pem --command-timeout=1s endpoint health >/dev/null 2>&1 && echo yes || echo no"
)


@contextlib.contextmanager
def without(name: str, fault: str, cluster: Project) -> Iterator[None]:
    """A host off, or cut off, for a while, once the others have a leader; the cluster is healthy again afterwards.

    Where it led, the others need a second or more to elect: what is proposed meanwhile gets lost, and times out.
    """
    lab = cluster.hosts.lab
    (lab.off if fault == "off" else lab.cut)(name)
    try:
        others = [each for each in NAMES if each != name]
        cluster.hosts.eventually(lambda: set(cluster.hosts.each(LED, others).values()) == {"yes"})
        with cluster.changed("ssh", connect_timeout=1):
            yield
    finally:
        (lab.on if fault == "off" else lab.heal)(name)
    cluster.hosts.eventually(lambda: cluster.inv("health").code == 0)


@pytest.mark.parametrize("fault", ["off", "cut"])
def test_unreachable_host_stops_a_change_before_the_first_host(cluster: Project, hosts: Hosts, fault: str) -> None:
    state = "systemctl show etcd -P InvocationID; sha256sum /etc/etcd/etcd.conf /etc/systemd/system/etcd.service"
    before = hosts.each(state, OTHERS)
    with without("etcd02", fault, cluster), cluster.changed("cluster", settings={"heartbeat-interval": 250}):
        for task in ("deploy", "restart", "configure") if fault == "cut" else ("deploy",):
            done = cluster.inv(task).failed(4, "error: etcd02: 198.18.40.102:22: ")
            assert done.stderr.splitlines()[-1] == (
                f"error: 1 host failed; the hosts are those of {cluster.folder}/config.yaml"
            )
            assert done.stderr.count("error: ") == 2
        assert hosts.each(state, OTHERS) == before
    settled(cluster)


def test_unreachable_host_hides_none_of_the_others(cluster: Project) -> None:
    with without("etcd02", "cut", cluster):
        health = cluster.inv("health", "--json").failed(4, "error: etcd02: 198.18.40.102:22: ")
        assert [row["healthy"] for row in health.json()] == [True, False, True]
        status = cluster.inv("status", "--json").failed(4).json()
        assert not status["healthy"]
        assert [row["healthy"] for row in status["members"]] == [True, False, True]
        assert status["members"][1]["role"] == "unreachable"
        rows = cluster.inv("members", "--json").failed(4).json()
        assert {row["name"] for row in rows} == set(NAMES)
        table = cluster.inv("status").failed(4).stdout
        assert [name in table for name in NAMES] == [True] * 3
        cluster.inv("put", "/still", "there").ok()
        assert cluster.inv("get", "/still").ok().stdout == "there"


def test_first_host_of_the_list_is_not_needed_for_keys(cluster: Project) -> None:
    with without("etcd01", "cut", cluster):
        cluster.inv("put", "/a", "1").ok()
        assert cluster.inv("get", "/a").ok().stdout == "1"
        assert "etcd01" in cluster.inv("etcdctl", "--", "member", "list").ok().stdout


def test_disk_that_gets_full_when_a_running_member_is_changed(cluster: Project, hosts: Hosts) -> None:
    """What was there stays there, whole."""
    files = "cd /etc/etcd && find . -type f -exec sha256sum {} + | sort"
    before = hosts.sh("etcd02", files)
    hosts.sh("etcd02", "cp -a /etc/etcd /root/copy && mount -t tmpfs -o size=36k,mode=755 tmpfs /etc/etcd")
    try:
        hosts.sh("etcd02", "cp -a /root/copy/. /etc/etcd/ && cat /dev/zero >/etc/etcd/filler", check=False)
        with cluster.changed("cluster", settings={"snapshot-count": 9999}):
            cluster.inv("deploy").failed(4, "etcd02: ", "No space left on device")
        nothing_half_written(hosts)
        hosts.sh("etcd02", "rm /etc/etcd/filler")
        assert hosts.sh("etcd02", files) == before
    finally:
        hosts.sh("etcd02", "umount /etc/etcd; rm -rf /root/copy")
    cluster.inv("deploy").ok()


def test_host_that_is_off_before_the_first_deploy(project: NewProject, hosts: Hosts) -> None:
    new = project()
    hosts.lab.off("etcd03")
    new.inv("deploy").failed(4, "error: etcd03: 198.18.40.103:22: ")
    assert set(hosts.each("ls /etc/etcd /opt/etcd /var/lib/etcd 2>/dev/null; true", NAMES[:2]).values()) == {""}
    assert not (new.folder / "pki").exists()
    hosts.lab.on("etcd03")
    new.inv("deploy").ok()
    new.healthy()


# Accounts, keys and host keys


@pytest.mark.parametrize(
    ("ssh", "env", "words"),
    [
        ({"key": "other"}, {}, "login as root refused, tried "),
        ({"user": "nosudo"}, {"ETCDOPS_SUDO_PASSWORD": "wrong"}, "sudo does not take the password of nosudo"),
        ({"user": "opspw"}, {}, "sudo wants a password for opspw"),
        ({"user": "opspw"}, {"ETCDOPS_SUDO_PASSWORD": "wrong"}, "sudo does not take the password of opspw"),
        ({"user": "nobody"}, {}, "login as nobody refused, tried "),
        ({"port": 2222}, {}, "198.18.40.101:2222: connection refused"),
    ],
    ids=["key", "no sudo", "no password", "wrong password", "no such login", "port"],
)
def test_no_way_in(project: NewProject, ssh: dict[str, Any], env: dict[str, str], words: str) -> None:
    new = project(ssh=ssh)
    new.env = env
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", new.folder / "other"], check=True)
    each_its_own = words.startswith("198.")
    done = new.refuses(4, f"error: {'etcd01' if each_its_own else ', '.join(NAMES)}: {words}")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (len(NAMES) + 1 if each_its_own else 1), errors
    assert all("; " in line for line in errors), errors
    assert "wrong" not in done.stderr


@pytest.mark.parametrize("policy", ["strict", "accept-new"])
def test_changed_host_key(project: NewProject, hosts: Hosts, policy: str) -> None:
    new = project(ssh={"host_keys": policy, "known_hosts": "known_hosts"})
    text = (hosts.folder / "lab/known_hosts").read_text()
    keys = [line.split()[-1] for line in text.splitlines()]
    (new.folder / "known_hosts").write_text(text.replace(keys[1], keys[0]))
    done = new.refuses(4, "error: etcd02: ")
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "host key" in done.stderr
    assert keys[1] not in (new.folder / "known_hosts").read_text()


def test_host_keys_that_nobody_knows_yet(project: NewProject, hosts: Hosts) -> None:
    new = project(ssh={"host_keys": "strict", "known_hosts": "known_hosts"})
    assert new.refuses(4).stderr.count("error: etcd0") == 3
    new.config["ssh"]["host_keys"] = "accept-new"
    new.write()
    new.inv("deploy", "--dry-run").ok()
    known = (new.folder / "known_hosts").read_text()
    assert all(line.split()[-1] in known for line in (hosts.folder / "lab/known_hosts").read_text().splitlines())


# Full disks


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("/opt/etcd", "size=1G,nr_inodes=4,mode=755"),  # room enough, as far as anybody can tell
        ("/etc/etcd", "size=16k,mode=755"),
    ],
)
def test_disk_that_gets_full_while_pushing(project: NewProject, hosts: Hosts, folder: str, options: str) -> None:
    new = project()
    hosts.sh("etcd02", f"mkdir -p {folder} && mount -t tmpfs -o {options} tmpfs {folder}")
    new.inv("deploy").failed(4, "error: etcd02: ", "No space left on device")
    nothing_half_written(hosts)
    assert hosts.sh("etcd02", "find /etc/etcd /opt/etcd /usr/local/bin -type f -o -type l 2>/dev/null; true") == ""
    assert set(hosts.each("systemctl is-active etcd; true").values()) == {"inactive"}
    hosts.sh("etcd02", f"mount -o remount,size=2G,nr_inodes=0 {folder}")
    new.inv("deploy").ok()
    settled(new)


# Archives that are not what they should be


def lacking(archive: Path, program: str, to: Path) -> None:
    """A copy of ``archive`` that lacks a program."""
    with tarfile.open(archive) as old, tarfile.open(to, "w:gz", compresslevel=1) as new:
        for entry in old:
            if not entry.name.endswith(f"/{program}"):
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)


def truncated(archive: Path, to: Path) -> None:
    to.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def not_there(archive: Path, to: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "sha256", "code", "words"),
    [
        (truncated, "", 1, "is not a whole tar.gz archive"),
        (lambda archive, to: lacking(archive, "etcdctl", to), "", 1, f"has no etcd-v{VERSION}-linux-amd64/etcdctl"),
        (shutil.copy, "0" * 64, 1, "SHA-256"),
        (not_there, "", 2, "No such file"),
    ],
    ids=["truncated", "no etcdctl", "wrong sum", "missing"],
)
def test_bad_archive_reaches_no_host(
    project: NewProject, hosts: Hosts, make: Callable[[Path, Path], None], sha256: str, code: int, words: str
) -> None:
    new = project(release={"archive": "etcd.tar.gz", "sha256": sha256})
    make(hosts.archive(VERSION), new.folder / "etcd.tar.gz")
    before = hosts.listing()
    new.inv("deploy").failed(code, "error: ", words)
    assert hosts.listing() == before
    new.config["release"] = {"archive": str(hosts.archive(VERSION))}
    new.write()
    new.inv("install").ok()


def test_etcd_that_cannot_start_on_one_host(project: NewProject, hosts: Hosts) -> None:
    """Two of three come up; the third says why it did not, and the same command goes on once it can."""
    new = project()
    hosts.sh("etcd02", "mkdir -p /var/lib/etcd && mount -t tmpfs -o size=1G,nr_inodes=3 tmpfs /var/lib/etcd")
    new.inv("deploy").failed(4, "error: etcd02: etcd did not start: ", "no space left on device")
    assert hosts.each("systemctl is-active etcd", OTHERS) == dict.fromkeys(OTHERS, "active")
    hosts.sh("etcd02", "systemctl stop etcd; umount -l /var/lib/etcd")
    new.inv("deploy").ok()
    new.healthy()
    settled(new)


# Runs that are cut short


def test_first_start_that_had_made_no_log_yet(project: NewProject, hosts: Hosts) -> None:
    """etcd was killed after its first folders; nothing of that is deleted, and etcd goes on from there."""
    data = "/var/lib/etcd/default.etcd"
    new = project()
    for name, folder in {"etcd01": "member", "etcd02": "member/snap"}.items():
        folders = " ".join(("/var/lib/etcd", data, *(f"{data}/{each}" for each in dict.fromkeys(("member", folder)))))
        hosts.sh(name, f"useradd --system --user-group etcd && install -d -m 700 -o etcd -g etcd {folders}")
    new.inv("deploy").ok()
    new.healthy()
    settled(new)


def push_is_under_way(hosts: Hosts) -> Held:
    return hosts.hold("etcd02", "tar")


def files_are_being_put_in_place(hosts: Hosts) -> Held:
    return hosts.hold("etcd02", "mv", when="case $* in *etcd.conf*) true ;; *) false ;; esac")


def etcd_is_starting(hosts: Hosts) -> Held:
    """On one host; the others wait for a quorum, which for two of three there is, and for one there is not."""
    hosts.hold("etcd03", "timeout", when='[ "$2" = systemctl ]')
    return hosts.hold("etcd02", "timeout", when='[ "$2" = systemctl ]')


@pytest.mark.parametrize("moment", [push_is_under_way, files_are_being_put_in_place, etcd_is_starting])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_run_that_is_cut_short(
    project: NewProject, hosts: Hosts, moment: Callable[[Hosts], Held], number: signal.Signals
) -> None:
    new = project()
    held = moment(hosts)
    run = new.start("deploy")
    held.reached()
    run.signal(number)
    if number == signal.SIGINT:
        hosts.eventually(lambda: "once more stops at once" in run.complaints)  # else the two may arrive as one
        run.signal(number)
    done = run.end()
    if number == signal.SIGINT:
        done.failed(
            130, "error: interrupted in the midst of it; what still runs on a host comes to its end there; inv "
        )
    else:
        assert done.code == -signal.SIGKILL
    hosts.each("rm -f /run/etcdops-hold /usr/local/sbin/*")
    nothing_half_written(hosts)
    again = new.inv("deploy").ok()
    assert "3 members healthy" in again.stdout
    settled(new)


@pytest.mark.parametrize("moment", [push_is_under_way, files_are_being_put_in_place])
def test_power_cut_in_the_middle(project: NewProject, hosts: Hosts, moment: Callable[[Hosts], Held]) -> None:
    new = project()
    held = moment(hosts)
    run = new.start("deploy")
    held.reached()
    hosts.lab.off("etcd02")
    run.end().failed(4, "error: etcd02: ")
    hosts.lab.on("etcd02")
    hosts.sh("etcd02", "rm -f /usr/local/sbin/*")
    new.inv("deploy").ok()
    new.healthy()
    settled(new)


def test_address_at_which_nobody_is(project: NewProject) -> None:
    new = project(members=[*members("etcd01", "etcd02"), {"name": "etcd09", "address": "198.18.40.199"}])
    new.refuses(4, "error: etcd09: 198.18.40.199:22: ")
