"""restore on real members: the whole cluster from a snapshot, or the old one as it was."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from etcdops.snapshots.manifest import Manifest
from tests.hosts import NAMES, Done, Hosts, Project, members
from tests.lab import kept
from tests.lab.conftest import NewProject
from tests.lab.kept import Moment
from tests.lab.test_backup import SENDS, let_go, reached
from tests.lab.test_deploy import settled
from tests.lab.test_trouble import without
from tests.lab.writer import Writer

LEFTOVERS = "ls -d /var/lib/etcd/restore-* /var/lib/etcd/restoring 2>/dev/null; true"
ASIDE = "ls -d /var/lib/etcd/aside-* 2>/dev/null; true"
OTHERS = NAMES[1:]


@pytest.fixture
def ours(cluster: Project, hosts: Hosts, tmp_path: Path) -> Iterator[Project]:
    """The shared cluster with a store of the test's own; whatever cluster a test ends with is shared from there on."""
    cluster.config["backup"] = {"dir": str(tmp_path / "store")}
    cluster.write()
    kept.wipe(cluster)
    yield cluster
    del cluster.config["backup"]
    cluster.write()
    let_go(hosts, "*")
    hosts.each("rm -rf /var/lib/etcd/aside-* /usr/bin/etcdctl /var/tmp/.etcdops-* /dev/shm/.etcdops-*")
    if set(hosts.each(LEFTOVERS).values()) == {""} and cluster.inv("health").code == 0:
        cluster.adopt()
    else:
        hosts.cluster = None


def backup(project: Project) -> tuple[str, Moment, Moment]:
    """A backup's name, what it is of, and what the cluster is now, with more in it."""
    kept.fill(project, "before")
    then = Moment.of(project)
    name = project.inv("backup", "--json").ok().json()["name"]
    kept.fill(project, "after")
    project.etcdctl(NAMES[0], f"put {kept.PREFIX}before/000 changed")
    return name, then, Moment.of(project)


def nothing_staged(hosts: Hosts, names: tuple[str, ...] = NAMES) -> None:
    """No trace of a restore, but for what it has set aside."""
    assert set(hosts.each(LEFTOVERS, names).values()) == {""}


def is_restored(project: Project, then: Moment, before: Moment | None) -> None:
    """Another cluster than ``before``, healthy and settled, with every key of ``then`` on every member and no other."""
    names = tuple(each["name"] for each in project.config["members"])
    for name in names:
        assert kept.keys(project, name) == then.keys, name
    ids = {kept.cluster_id(project, name) for name in names}
    assert len(ids) == 1
    if before:
        assert ids != {before.cluster}
    tokens = {json.loads(text)["token"] for text in project.hosts.each("cat /etc/etcd/identity.json", names).values()}
    assert len(tokens) == 1
    nothing_staged(project.hosts, names)
    project.inv("health").ok()
    settled(project)


def is_untouched(project: Project, before: Moment) -> None:
    """The very cluster that it was, with every key and its own data directories."""
    nothing_staged(project.hosts)
    project.inv("health").ok()
    assert Moment.of(project) == before
    settled(project)


def restore(project: Project, *words: str) -> Done:
    return project.inv("restore", *words, "--yes")


# It works


def test_restore_is_the_cluster_as_it_was(ours: Project, hosts: Hosts) -> None:
    name, then, now = backup(ours)
    token = json.loads(hosts.sh("etcd01", "cat /etc/etcd/identity.json"))["token"]
    listed = ours.inv("restore", name, "--dry-run").ok()
    assert [line.split()[0] for line in listed.lines if "systemctl start etcd" in line] == list(NAMES)
    assert Moment.of(ours) == now

    done = restore(ours, name).ok()
    lost = now.revision - then.revision
    assert f"{name}: revision {then.revision}, " in done.stderr
    assert f"{lost} revisions newer than the snapshot are lost" in done.stderr
    assert done.stdout.startswith("restored in ")
    assert "3 members healthy" in done.stdout
    is_restored(ours, then, now)
    assert kept.revision(ours) >= then.revision + 1_000_000_000
    assert token != json.loads(hosts.sh("etcd01", "cat /etc/etcd/identity.json"))["token"]

    listed = ours.inv("snapshot.list", "--set-aside", "--json").ok()
    rows = listed.json()
    assert [row["host"] for row in rows] == list(NAMES)
    (aside,) = {row["name"] for row in rows}
    assert aside in done.stdout
    assert hosts.each(f"stat -c %i /var/lib/etcd/aside-{aside}/default.etcd") == now.data
    assert set(hosts.each(f"stat -c %a:%U /var/lib/etcd/aside-{aside}").values()) == {"700:root"}

    # What it was before is in the store, too, and it can be restored like any other.
    rescue = next(
        row["name"] for row in ours.inv("snapshot.list", "--json").ok().json()["backups"] if row["name"] != name
    )
    restore(ours, rescue).ok()
    is_restored(ours, now, now)
    ours.inv("snapshot.drop", aside, "--yes").ok()
    assert set(hosts.each("ls -d /var/lib/etcd/aside-* | wc -l").values()) == {"1"}


@pytest.mark.parametrize(
    ("version", "tls", "user"),
    [
        ("3.4.23", True, "ops"),
        ("3.6.16", False, "root"),
        pytest.param("3.5.30", True, "ops", marks=pytest.mark.chaos),
        pytest.param("3.7.3", True, "root", marks=pytest.mark.chaos),
    ],
)
def test_every_release(project: NewProject, hosts: Hosts, tmp_path: Path, version: str, tls: bool, user: str) -> None:
    new = project(version=version, tls=tls, ssh={"user": user}, backup={"dir": str(tmp_path / "store")})
    new.inv("deploy").ok()
    name, then, now = backup(new)
    new.inv("snapshot.verify", name, "--drill").ok()
    restore(new, name).ok()
    is_restored(new, then, now)
    bumped = version != "3.4.23"
    assert (kept.revision(new) > then.revision + 1_000_000) == bumped
    new.healthy()


def test_watcher_of_an_old_revision_sees_compaction_and_no_time_travel(ours: Project) -> None:
    name, then, now = backup(ours)
    restore(ours, name).ok()
    for revision in (2, then.revision, now.revision, now.revision + 1):
        said = ours.etcdctl("etcd01", f"watch --rev={revision} /kept/before/000 2>&1 </dev/null || true")
        assert "required revision has been compacted" in said, said
    kept.fill(ours, "later")
    assert kept.keys(ours, "etcd02")["/kept/later/000"] == "later0"


def test_cluster_that_never_had_a_key(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    new.inv("deploy").ok()
    new.inv("backup").ok()
    restore(new, "latest").ok()
    assert kept.revision(new) == 1_000_000_000  # etcdutl counts from the newest key, and there is none
    new.healthy()


def test_newest_revisions_are_deletions_that_were_compacted(ours: Project) -> None:
    kept.fill(ours, "one")
    ours.etcdctl("etcd01", "del --prefix /kept/one/more")
    ours.etcdctl("etcd01", f"compact --physical {kept.revision(ours)}")
    then = Moment.of(ours)
    name = ours.inv("backup", "--json").ok().json()["name"]
    kept.fill(ours, "two")
    restore(ours, name).ok()
    is_restored(ours, then, then)


# Asked first


def test_nobody_to_ask(ours: Project) -> None:
    name, _, now = backup(ours)
    ours.inv("restore", name).failed(3, "refused: this needs a yes", "--yes says it beforehand")
    is_untouched(ours, now)


def test_the_clusters_name_is_asked_for(ours: Project) -> None:
    name, then, now = backup(ours)
    prompt = "Type 'test' to go on:"
    done = ours.terminal("restore", name, answers={prompt: "yes"})
    assert (done.code, "refused: not confirmed; nothing was changed" in done.stdout) == (3, True)
    is_untouched(ours, now)
    assert ours.terminal("restore", name, answers={prompt: "test"}).ok()
    is_restored(ours, then, now)


# Moments of a restore

MOMENTS: dict[str, tuple[str, str]] = {
    "staging": ("chown", "case $* in *restore-*) true ;; *) false ;; esac"),
    "last snapshot": ("cat", SENDS),
    "stopping": ("systemctl", '[ "$1 $2" = "stop etcd.service" ]'),
    "before the swap": ("tar", "case $* in *old/host.tar*) true ;; *) false ;; esac"),
    "old data going": ("mv", "case $* in *old/default.etcd*) true ;; *) false ;; esac"),
    "new data coming": ("mv", "case $* in *new/default.etcd*) true ;; *) false ;; esac"),
    "configuration": ("mv", "case $* in *etcd.conf*) true ;; *) false ;; esac"),
    "release": ("rm", '[ "$*" = "-f -- /var/lib/etcd/restoring" ]'),
    "start": ("timeout", '[ "$2 $3" = "systemctl start" ]'),
    "check": (
        "etcdctl",
        "ls /var/lib/etcd/restore-*/swapping >/dev/null 2>&1 && case $* in *hashkv*) true ;; *) false ;; esac",
    ),
    "joined": ("mv", "case $* in *identity.json*) true ;; *) false ;; esac"),
    "setting aside": ("mv", "case $* in */aside-*) true ;; *) false ;; esac"),
    "end": ("rm", 'case $* in "-rf -- /var/lib/etcd/restore-"*) true ;; *) false ;; esac'),
}
BEFORE_THE_STOP = ("staging", "last snapshot")
# What runs on a host for a task: the connection is gone with the task, and the script is not.
KILL_SCRIPTS = "for pid in $(pgrep -f '^timeout (-k 5|100) '); do kill -9 -$pid; done; true"


@contextlib.contextmanager
def held_at(ours: Project, moment: str) -> Iterator[list[str]]:
    """The hosts on which a restore waits when it comes to ``moment``."""
    hosts = ours.hosts
    program, when = MOMENTS[moment]
    holders = list(NAMES) if moment == "last snapshot" else ["etcd02"]
    if program == "etcdctl":
        hosts.each("ln -sf /usr/local/bin/etcdctl /usr/bin/etcdctl")
    for each in holders:
        hosts.hold(each, program, when=when)
    yield holders
    let_go(hosts, program)
    hosts.each("rm -f /usr/bin/etcdctl")


# It fails


@pytest.mark.parametrize("fault", ["off", "cut"])
def test_host_that_cannot_be_reached(ours: Project, hosts: Hosts, fault: str) -> None:
    """It would come back later, with the old data."""
    name, _, now = backup(ours)
    with without("etcd02", fault, ours):
        ours.inv("restore", name, "--yes").failed(4, "error: etcd02: 198.18.40.102:22: ")
        nothing_staged(hosts, ("etcd01", "etcd03"))
    assert Moment.of(ours) == now
    nothing_staged(hosts)


@contextlib.contextmanager
def small_disk(hosts: Hosts, name: str, size: str) -> Iterator[None]:
    """A member's data on a disk of its own for a while."""
    move = "cp -a /var/lib/etcd /root/copy && {} && cp -a /root/copy/. /var/lib/etcd && rm -rf /root/copy"
    mount = f"mount -t tmpfs -o size={size},mode=700 tmpfs /var/lib/etcd"
    hosts.sh(name, f"systemctl stop etcd && {move.format(mount)} && systemctl start etcd")
    try:
        yield
    finally:
        back = move.format("umount /var/lib/etcd && rm -rf /var/lib/etcd && mkdir /var/lib/etcd")
        hosts.sh(name, f"systemctl stop etcd && rm -f /var/lib/etcd/filler && {back} && systemctl start etcd")


@pytest.mark.parametrize("when", ["before", "while it is restored there"])
def test_full_disk_of_one_host_stops_nothing(ours: Project, hosts: Hosts, when: str) -> None:
    with small_disk(hosts, "etcd02", "340M" if when == "before" else "700M"):
        hosts.eventually(lambda: ours.inv("health").code == 0)
        name, _, _ = backup(ours)
        hosts.sh("etcd01", "head -c 60000 /dev/zero | tr '\\0' x >/run/big")
        for number in range(30):  # the old data has room to grow then
            ours.etcdctl("etcd01", f"put /big/{number} </run/big")
        name = ours.inv("backup", "--json").ok().json()["name"]
        process = hosts.each("systemctl show etcd -P InvocationID")
        with Writer(ours) as writer:
            held = hosts.hold("etcd02", "mkdir", when="case $* in */restore-*/new) true ;; *) false ;; esac")
            run = ours.start("restore", name, "--yes")
            if when != "before":
                held.reached()
                filler = "/var/lib/etcd/filler"
                hosts.sh("etcd02", f"cat /dev/zero >{filler} 2>/dev/null; truncate -s -1M {filler}")
            held.release()
            done = run.end()
            hosts.sh("etcd02", "rm -f /var/lib/etcd/filler")
            written = len(writer.acknowledged)
            hosts.eventually(lambda: len(writer.acknowledged) > written)
        words = (
            "MiB free for /var/lib/etcd" if when == "before" else "the snapshot arrived damaged, or the disk is full"
        )
        done.failed(4, "error: etcd02: ", words, "what was staged is deleted again; the cluster was not touched")
        assert hosts.each("systemctl show etcd -P InvocationID") == process
        assert writer.lost() == {}
        nothing_staged(hosts)
        let_go(hosts, "mkdir")
    hosts.eventually(lambda: ours.inv("health").code == 0)


def test_etcd_that_refuses_to_start_on_one_host(ours: Project, hosts: Hosts) -> None:
    name, _, now = backup(ours)
    folder = "/etc/systemd/system/etcd.service.d"
    refusal = "ExecStartPre=+/bin/sh -c '! test -e /var/lib/etcd/restore-*/swapping'"
    hosts.put("etcd02", f"{folder}/no.conf", f"[Service]\n{refusal}", 0o644)
    hosts.sh("etcd02", "systemctl daemon-reload")
    try:
        done = restore(ours, name).failed(4, "error: etcd02: etcd did not start: ")
        assert f"the old data is back, and the old cluster ({now.cluster:x}) serves" in done.stderr.splitlines()[-1]
    finally:
        hosts.sh("etcd02", f"rm -r {folder}; systemctl daemon-reload")
    is_untouched(ours, now)
    # The new cluster could have been written to, as far as anybody knows.
    (undone,) = set(hosts.each(ASIDE).values())
    assert undone.endswith("-undone")
    assert Path(undone).name.removeprefix("aside-") in ours.inv("snapshot.list", "--set-aside").ok().stdout


def test_settings_that_etcd_does_not_take_stop_nothing(ours: Project, hosts: Hosts) -> None:
    name, _, now = backup(ours)
    process = hosts.each("systemctl show etcd -P InvocationID")
    with ours.changed("cluster", settings={"election-timeout": 10}):
        done = restore(ours, name).failed(3, "etcd01, etcd02, etcd03: etcd ", "does not take the configuration")
    assert "what was staged" not in done.stderr
    assert hosts.each("systemctl show etcd -P InvocationID") == process
    is_untouched(ours, now)


@pytest.mark.chaos
def test_host_that_is_lost_in_the_middle(ours: Project, hosts: Hosts) -> None:
    """The others serve with the old data again, and so does it, once it is back and told."""
    name, _, now = backup(ours)
    held = hosts.hold("etcd02", *MOMENTS["new data coming"])
    run = ours.start("restore", name, "--yes")
    held.reached()
    hosts.lab.off("etcd02")
    done = run.end().failed(4, "error: etcd02: ", "inv restore-undo")
    assert "Traceback" not in done.stderr
    assert kept.keys(ours, "etcd01") == now.keys
    ours.etcdctl("etcd01", f"put {kept.PREFIX}meanwhile yes")
    hosts.lab.on("etcd02")
    let_go(hosts, "mv")
    ours.inv("health").failed(5, "etcd02: ")
    ours.inv("restore-undo", "--yes").ok()
    nothing_staged(hosts)
    ours.inv("health").ok()
    assert kept.keys(ours, "etcd02") == now.keys | {f"{kept.PREFIX}meanwhile": "yes"}
    assert kept.cluster_id(ours, "etcd02") == now.cluster


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["staging", "last snapshot", "stopping", "new data coming", "check"])
def test_interrupted(ours: Project, hosts: Hosts, moment: str) -> None:
    name, _, now = backup(ours)
    with held_at(ours, moment) as holders:
        run = ours.start("restore", name, "--yes")
        reached(ours, holders)
        run.signal(signal.SIGINT)
        hosts.each("rm -f /run/etcdops-hold")
        run.end().failed(130, "error: interrupted")
    hosts.eventually(lambda: set(hosts.each(LEFTOVERS).values()) == {""})
    is_untouched(ours, now)


# Other hosts than before


@pytest.fixture
def members_again(ours: Project) -> Iterator[None]:
    """The test may change who the members are."""
    before = ours.config["members"]
    yield
    ours.config["members"] = before
    ours.write()
    ours.hosts.cluster = None


@pytest.mark.usefixtures("members_again")
def test_three_become_one(ours: Project, hosts: Hosts) -> None:
    name, then, now = backup(ours)
    ours.config["members"] = members("etcd01")
    ours.write()
    done = ours.inv("restore", name, "--yes").failed(3, "refused: etcd02 (", "refused: etcd03 (")
    assert done.stderr.count("systemctl disable --now etcd") == 2
    nothing_staged(hosts)
    hosts.each("systemctl disable --now etcd", OTHERS)
    restore(ours, name).ok()
    is_restored(ours, then, now)


@pytest.mark.usefixtures("members_again")
@pytest.mark.chaos
def test_three_become_five(ours: Project, hosts: Hosts) -> None:
    name, then, now = backup(ours)
    with hosts.more(5) as five:
        ours.config["members"] = five
        ours.write()
        restore(ours, name).ok()
        is_restored(ours, then, now)
        ours.healthy()
        assert "5 members healthy" in ours.inv("deploy").ok().stdout


@pytest.mark.parametrize("what", ["fresh hosts", "no member runs"])
def test_nothing_runs(ours: Project, hosts: Hosts, what: str) -> None:
    name, then, now = backup(ours)
    if what == "fresh hosts":
        hosts.bare()
    else:
        hosts.each("systemctl stop etcd")
    done = restore(ours, "latest").ok()
    assert "no member runs now" in done.stderr
    assert ("set aside" in done.stdout) == (what != "fresh hosts")
    is_restored(ours, then, now)
    ours.healthy()
    hosts.cluster = ours
    del name


NO_START = "/etc/systemd/system/etcd.service.d"
OF_ETCD = "ls -d /etc/etcd/*.conf /etc/etcd/identity.json /etc/systemd/system/etcd.service /var/lib/etcd/default.etcd"


@pytest.mark.chaos
def test_fresh_hosts_are_bare_again_when_it_fails(ours: Project, hosts: Hosts) -> None:
    """No etcd is left that would make an empty cluster, by hand or at the next boot."""
    _, then, now = backup(ours)
    hosts.bare()
    hosts.put("etcd02", f"{NO_START}/no.conf", "[Service]\nExecStartPre=+/bin/false", 0o644)
    try:
        restore(ours, "latest").failed(4, "error: etcd02: etcd did not start: ", "no member runs, as before")
    finally:
        hosts.sh("etcd02", f"rm -r {NO_START}; systemctl daemon-reload")
    assert set(hosts.each(f"{OF_ETCD} 2>/dev/null; true").values()) == {""}
    assert set(hosts.each("systemctl is-enabled etcd 2>/dev/null; true").values()) <= {"", "not-found"}
    assert "not found" in hosts.sh("etcd01", "! systemctl start etcd 2>&1")
    ours.inv("start").failed(3, "is not there yet")
    hosts.lab.off("etcd03")
    hosts.lab.on("etcd03")
    assert hosts.sh("etcd03", "pgrep -x etcd; true") == ""
    restore(ours, "latest").ok()
    is_restored(ours, then, now)
    ours.healthy()
    hosts.cluster = ours


@pytest.mark.chaos
@pytest.mark.parametrize("task", ["restore", "restore-undo"])
def test_killed_on_fresh_hosts_when_one_has_come_to_its_end(ours: Project, hosts: Hosts, task: str) -> None:
    """That one keeps no trace of it, and the others must not be undone: they are its cluster."""
    name, then, now = backup(ours)
    hosts.bare()
    held = [hosts.hold(each, *MOMENTS["end"]) for each in OTHERS]
    run = ours.start("restore", name, "--yes")
    for each in held:
        each.reached()
    hosts.eventually(lambda: hosts.sh("etcd01", LEFTOVERS) == "")
    run.signal(signal.SIGKILL)
    run.end()
    hosts.each(KILL_SCRIPTS)
    let_go(hosts, "rm")
    served = {each: kept.cluster_id(ours, each) for each in NAMES}
    done = ours.inv(*(["restore", name] if task == "restore" else [task]), "--yes").ok()
    assert "complete now" in done.stdout
    assert {each: kept.cluster_id(ours, each) for each in NAMES} == served
    is_restored(ours, then, now)
    hosts.cluster = ours


# Whether it may be


def test_snapshot_of_another_cluster(ours: Project, tmp_path: Path) -> None:
    name, then, now = backup(ours)
    store = tmp_path / "store"
    manifest = Manifest.read(store / f"{name}.json").model_copy(update={"cluster": "other"})
    (tmp_path / manifest.file).write_bytes((store / f"{name}.db").read_bytes())
    (tmp_path / f"{manifest.name}.json").write_bytes(manifest.dump())
    file = str(tmp_path / manifest.file)
    words = "refused: the snapshot is of the cluster other, not of test; if that is what you want: --of-cluster=other"
    ours.refuses(3, words, task=("restore", file, "--yes"))
    ours.refuses(3, "other", task=("restore", file, "--of-cluster=third", "--yes"))
    assert Moment.of(ours) == now
    restore(ours, file, "--of-cluster=other").ok()
    is_restored(ours, then, now)


@pytest.mark.parametrize(("version", "words"), [("3.7.3", "newer than 3.6.16"), ("3.4.23", "one minor at a time")])
def test_snapshot_of_another_minor(ours: Project, tmp_path: Path, version: str, words: str) -> None:
    name, _, now = backup(ours)
    document = tmp_path / "store" / f"{name}.json"
    document.write_bytes(Manifest.read(document).model_copy(update={"etcd_version": version}).dump())
    ours.refuses(3, f"refused: the snapshot is of etcd {version}", words, task=("restore", name, "--yes"))
    assert Moment.of(ours) == now


def test_damaged_snapshot(ours: Project, tmp_path: Path) -> None:
    name, _, now = backup(ours)
    path = tmp_path / "store" / f"{name}.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ours.refuses(1, "is damaged", task=("restore", name, "--yes"))
    assert Moment.of(ours) == now


def test_raw_database_from_a_dead_members_disk(ours: Project, hosts: Hosts, tmp_path: Path) -> None:
    kept.fill(ours, "before")
    then = Moment.of(ours)
    hosts.sh("etcd03", "systemctl stop etcd")
    raw = tmp_path / "db"
    raw.write_bytes(base64.b64decode(hosts.sh("etcd03", "base64 -w0 /var/lib/etcd/default.etcd/member/snap/db")))
    hosts.sh("etcd03", "systemctl start etcd")
    kept.fill(ours, "after")
    done = restore(ours, str(raw)).failed(1, f"error: {raw}: has no SHA-256 at its end")
    assert "--raw" in done.stderr
    nothing_staged(hosts)
    done = restore(ours, str(raw), "--raw").ok()
    assert "a raw database: nothing vouches for its content" in done.stderr
    is_restored(ours, then, then)


def test_encrypted_backup(ours: Project, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    ours.config["backup"]["age"] = {"recipients": [str(identity.to_public())], "identity": str(tmp_path / "key.txt")}
    ours.write()
    name, then, now = backup(ours)
    assert (tmp_path / "store" / f"{name}.db.age").read_bytes().startswith(b"age-encryption.org/")
    assert not (tmp_path / "store" / f"{name}.db").exists()
    ours.inv("snapshot.verify", name, "--drill").ok()
    restore(ours, name).ok()
    is_restored(ours, then, now)


def test_alarm_that_comes_with_the_snapshot(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    new.config["cluster"]["settings"] = {"quota-backend-bytes": 200_000}
    new.write()
    new.inv("deploy").ok()
    hosts.sh("etcd01", "head -c 60000 /dev/zero | tr '\\0' x >/run/big")
    for number in range(8):
        new.etcdctl("etcd01", f"put /big/{number} </run/big >/dev/null 2>&1 || true")
    new.inv("backup").ok()
    new.config["cluster"]["settings"] = {}
    new.write()
    done = restore(new, "latest").ok()
    assert "alarm" in done.stderr.lower()
    assert "it came with the snapshot" in done.stderr
    new.etcdctl("etcd01", "alarm disarm")
    new.healthy()


# Killed at every step


def killed(ours: Project, name: str, moment: str) -> None:
    """A restore of ``name``, killed at ``moment`` with all that it runs on the hosts."""
    with held_at(ours, moment) as holders:
        run = ours.start("restore", name, "--yes")
        reached(ours, holders)
        run.signal(signal.SIGKILL)
        assert run.end().code == -signal.SIGKILL
        ours.hosts.each(KILL_SCRIPTS)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_or_undone(ours: Project, hosts: Hosts, moment: str) -> None:
    name, then, now = backup(ours)
    killed(ours, name, moment)
    if moment in BEFORE_THE_STOP:
        ours.inv("health").ok()
        assert Moment.of(ours) == now
        ours.inv("restore-undo", "--yes").failed(3, "refused: no restore was cut short on any of these hosts")
    elif moment in ("setting aside", "end"):
        health = ours.inv("health")
        assert health.code == 0, (health, hosts.each("journalctl -u etcd -n 40 -o short-precise --no-pager"))
        assert "set the data aside for good" in ours.inv("restore-undo", "--dry-run").ok().stdout
        assert "there is no way back from there" in ours.inv("restore-undo", "--yes").ok().stdout
        is_restored(ours, then, now)
        now = Moment.of(ours)
    else:
        if moment not in ("start", "check", "joined"):
            hosts.eventually(lambda: "a restore was cut short" in ours.inv("status").failed(5).stderr)
            ours.inv("deploy").failed(3, "was cut short here")
        assert "put the data back" in ours.inv("restore-undo", "--dry-run").ok().stdout
        ours.inv("restore-undo", "--yes").ok()
        is_untouched(ours, now)
    killed(ours, name, moment)
    restore(ours, name).ok()
    is_restored(ours, then, now)


@pytest.mark.chaos
def test_completed_while_a_member_is_down_nothing_is_restored_once_more(ours: Project, hosts: Hosts) -> None:
    """What clients have written since stays, with the same snapshot and with another one."""
    name, _, _ = backup(ours)
    killed(ours, name, "setting aside")
    ours.etcdctl("etcd01", f"put {kept.PREFIX}since yes")
    there = kept.keys(ours, "etcd01")
    hosts.sh("etcd03", "systemctl stop etcd")
    limit = ours.config["ssh"].get("command_timeout", 120)
    ours.config["ssh"]["command_timeout"] = 20
    ours.write()
    done = restore(ours, name).failed(5, "etcd03: ", "the same again would restore it once more")
    ours.config["ssh"]["command_timeout"] = limit
    ours.write()
    assert "it is complete now" in done.stdout
    hosts.sh("etcd03", "systemctl start etcd")
    nothing_staged(hosts)
    ours.inv("health").ok()
    assert kept.keys(ours, "etcd03") == there
    killed(ours, name, "setting aside")
    ours.etcdctl("etcd01", f"put {kept.PREFIX}since yes")
    other = ours.inv("backup", "--json").ok().json()["name"]
    there = kept.keys(ours, "etcd01")
    restore(ours, "latest").failed(3, f"{other} is another snapshot", "the same again restores it")
    nothing_staged(hosts)
    assert kept.keys(ours, "etcd03") == there


@pytest.mark.chaos
def test_host_that_cannot_be_undone_leaves_no_other_stopped(ours: Project, hosts: Hosts) -> None:
    name, _, now = backup(ours)
    killed(ours, name, "check")
    hosts.put("etcd03", "/usr/local/sbin/tar", "#!/bin/sh\necho 'tar: No space left on device' >&2\nexit 1")
    ours.inv("restore-undo", "--yes").failed(4, "error: etcd03: ", "etcd01, etcd02: the old data is back, and etcd was")
    assert kept.keys(ours, "etcd01") == now.keys
    ours.etcdctl("etcd02", f"put {kept.PREFIX}meanwhile yes")
    hosts.sh("etcd03", "rm /usr/local/sbin/tar")
    ours.inv("restore-undo", "--yes").ok()
    nothing_staged(hosts)
    ours.inv("health").ok()
    assert kept.keys(ours, "etcd03") == now.keys | {f"{kept.PREFIX}meanwhile": "yes"}
    assert kept.cluster_id(ours, "etcd03") == now.cluster


RUNNING = "pgrep -f '^timeout -k 5 '; true"


@pytest.mark.chaos
def test_killed_at_any_time(ours: Project, hosts: Hosts) -> None:
    """The task alone: what it had begun on the hosts goes on there, beside the run that comes next."""
    seed = time.time_ns()
    print(f"seed {seed}")
    times = random.Random(seed)
    name, then, now = backup(ours)
    for undone in (True, False, True, False):
        run = ours.start("restore", name, "--yes")
        after = times.uniform(1, 6)
        print(f"killed after {after:.2f} s, {'then undone' if undone else 'then run again'}")
        if not run.ends_within(after):
            run.signal(signal.SIGKILL)
        run.end()
        if undone:
            done = ours.inv("restore-undo", "--yes")
            assert done.code in (0, 3), done
            if "inv start" in done.stderr:  # killed when all had their old data back, and nobody ran again yet
                ours.inv("start").ok()
            assert kept.keys(ours) in (now.keys, then.keys)
    restore(ours, name).ok()
    hosts.eventually(lambda: set(hosts.each(RUNNING).values()) == {""})
    is_restored(ours, then, now)
