"""backup and snapshot.verify --drill on real members: what is in the store is proven, or there is nothing."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import prove
from tests.hosts import NAMES, Hosts, Project
from tests.lab import kept
from tests.lab.conftest import NewProject
from tests.lab.test_rolling import leader
from tests.lab.writer import Writer
from tests.unit.snapshots import content

LEFTOVERS = (
    "ls -d /dev/shm/.etcdops-* /var/tmp/.etcdops-* /var/lib/etcd/.etcdops-* 2>/dev/null; "
    "pgrep -af '[e]tcdctl.*snapshot|[e]tcd --name drill'; true"
)


@pytest.fixture
def store(cluster: Project, tmp_path: Path) -> Iterator[Path]:
    """A store of the test's own, for the shared cluster."""
    cluster.config["backup"] = {"dir": str(tmp_path / "store")}
    cluster.write()
    yield tmp_path / "store"
    del cluster.config["backup"]
    cluster.write()


def backups(store: Path) -> list[Manifest]:
    """Every backup there, whole and private; and nothing else is there."""
    if not store.exists():
        return []
    names = sorted(path.name for path in store.iterdir())
    found = [Manifest.read(store / name) for name in names if name.endswith(".json")]
    assert names == sorted(name for each in found for name in (f"{each.name}.json", each.file))
    assert {path.stat().st_mode & 0o777 for path in store.iterdir()} <= {0o600}
    for each in found:
        if not each.encrypted:
            assert prove(store / each.file).sha256 == each.sha256
    return found


def nothing_left(hosts: Hosts) -> None:
    """Neither a file nor a process of a backup or a drill on any host."""
    found: dict[str, str] = {}
    try:
        hosts.eventually(lambda: found.update(hosts.each(LEFTOVERS)) or set(found.values()) == {""})
    except AssertionError:
        raise AssertionError(found) from None


def test_backup_is_what_etcd_says_it_is(cluster: Project, hosts: Hosts, store: Path) -> None:
    kept.fill(cluster, "one")
    kept.wipe(cluster)
    kept.fill(cluster, "two")
    done = cluster.inv("backup").ok()
    (manifest,) = backups(store)
    assert done.stdout.startswith(f"{manifest.file}: revision {manifest.revision}, ")
    assert store.stat().st_mode & 0o777 == 0o700
    nothing_left(hosts)

    document = cluster.inv("backup", "--json").ok().json()
    newest = max(backups(store), key=lambda each: each.taken)
    assert document["name"] == newest.name
    assert document["file"] == newest.file
    assert document["store"] == str(store)
    assert document["pruned"] == []

    assert newest.revision == kept.revision(cluster)
    assert newest.keys == len(kept.keys(cluster))
    hashed = json.loads(cluster.etcdctl(newest.member, f"endpoint hashkv --rev={newest.revision} --write-out=json"))
    assert newest.hash == hashed[0]["HashKV"]["hash"]
    status = kept.status(cluster, newest.member)
    assert newest.cluster_id == f"{status['header']['cluster_id']:x}"
    assert newest.member_id == f"{status['header']['member_id']:x}"
    assert status["leader"] != status["header"]["member_id"]  # a follower has the disk to itself
    assert {each.name for each in newest.members} == set(NAMES)
    assert newest.token == json.loads(hosts.sh("etcd01", "cat /etc/etcd/identity.json"))["token"]
    assert newest.etcd_version == cluster.config["cluster"]["version"]

    listed = cluster.inv("snapshot.list", "--json").ok().json()
    assert listed["backups"][0]["name"] == newest.name
    verified = cluster.inv("snapshot.verify", "latest", "--drill", "--json").ok().json()
    assert verified["drill"]["hash_as_in_manifest"] is True
    assert verified["drill"]["hash_as_in_cluster"] is True
    nothing_left(hosts)


def test_retention_is_part_of_the_run(cluster: Project, store: Path) -> None:
    cluster.config["backup"]["keep"] = {"last": 2}
    cluster.write()
    made = []
    for number in range(3):
        kept.fill(cluster, f"generation{number}")
        made.append(cluster.inv("backup", "--json").ok().json())
    assert [document["pruned"] for document in made] == [[], [], [made[0]["name"]]]
    assert {each.name for each in backups(store)} == {document["name"] for document in made[1:]}


# A source that fails


def followers(cluster: Project) -> list[str]:
    """In the order in which they are asked, as far as that can be told beforehand."""
    return [name for name in NAMES if name != leader(cluster)]


def held(cluster: Project, program: str, when: str) -> list[str]:
    """Hold ``program`` on every follower; one of them is asked first."""
    names = followers(cluster)
    for name in names:
        cluster.hosts.hold(name, program, when=when)
    return names


def reached(cluster: Project, names: list[str]) -> str:
    """Who of ``names`` is held now."""
    found: list[str] = []

    def look() -> bool:
        said = cluster.hosts.each("cat /run/etcdops-hold", names)
        found[:] = [name for name, text in said.items() if "held" in text]
        return bool(found)

    cluster.hosts.eventually(look)
    return found[0]


def let_go(hosts: Hosts, program: str) -> None:
    hosts.each(f"rm -f /run/etcdops-hold /usr/local/sbin/{program}")


SAVES = 'case $* in *"snapshot save"*) true ;; *) false ;; esac'
SENDS = "case $(readlink /proc/$$/fd/3) in *.etcdops-snapshot.*/db*) true ;; *) false ;; esac"


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["killed", "leader killed"])
def test_etcd_that_dies_in_the_middle(cluster: Project, hosts: Hosts, store: Path, fault: str) -> None:
    kept.wipe(cluster)
    kept.fill(cluster, "one")
    led = leader(cluster)
    # /usr/local/bin/etcdctl is a link of ours: the wrapper stands before it in PATH.
    names = followers(cluster)
    for name in names:
        hosts.sh(name, "ln -sf /usr/local/bin/etcdctl /usr/bin/etcdctl")
    held(cluster, "etcdctl", SAVES)
    try:
        run = cluster.start("backup", "--json")
        source = reached(cluster, names)
        victim = source if fault == "killed" else led
        hosts.sh(victim, "systemctl kill --signal=KILL etcd.service; systemctl stop etcd.service")
        let_go(hosts, "etcdctl")
        done = run.end().ok()
        assert (done.json()["member"] != source) == (fault == "killed")
        if fault == "killed":
            words = f"warning: {source}: etcd ended before it had given the snapshot; trying the next member"
            assert words in done.stderr
        (manifest,) = backups(store)
        assert manifest.keys == 33
        nothing_left(hosts)
    finally:
        let_go(hosts, "etcdctl")
        hosts.each("rm -f /usr/bin/etcdctl; systemctl start etcd.service")
    cluster.healthy()


@pytest.mark.chaos
def test_source_that_is_cut_off_in_the_middle(cluster: Project, hosts: Hosts, store: Path) -> None:
    names = held(cluster, "dd", SENDS)
    run = cluster.start("backup", "--json")
    source = reached(cluster, names)
    hosts.lab.cut(source)
    try:
        let_go(hosts, "dd")
        done = run.end().ok()
        assert done.json()["member"] != source
        assert f"warning: {source}: " in done.stderr
        assert len(backups(store)) == 1
    finally:
        hosts.lab.heal(source)
    nothing_left(hosts)
    hosts.eventually(lambda: cluster.inv("health").code == 0)


READS = 'case $* in *"--consistency=l"*) true ;; *) false ;; esac'


@pytest.mark.chaos
@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_member_without_quorum_is_not_the_source(cluster: Project, hosts: Hosts, store: Path, when: str) -> None:
    """It would give a snapshot like any other, of a state that may be old."""
    names = followers(cluster)
    lonely = ""
    try:
        if when == "before":
            lonely = names[0]
            alone(hosts, lonely)
            hosts.eventually(lambda: sum(row["healthy"] for row in cluster.inv("health", "--json").json()) == 2)
            run = cluster.start("backup", "--json")
        else:
            hosts.each("ln -sf /usr/local/bin/etcdctl /usr/bin/etcdctl", names)
            held(cluster, "etcdctl", READS)
            run = cluster.start("backup", "--json")
            lonely = reached(cluster, names)
            alone(hosts, lonely)
        kept.fill(cluster, "since", name=next(name for name in NAMES if name != lonely))
        let_go(hosts, "etcdctl")
        done = run.end().ok()
        assert done.json()["member"] != lonely
        words = f"warning: {lonely}: the member cannot read what the cluster has agreed on: "
        assert (words in done.stderr) == (when != "before")
        assert len(backups(store)) == 1
    finally:
        let_go(hosts, "etcdctl")
        hosts.each("rm -f /usr/bin/etcdctl")
        if lonely:
            hosts.firewall(lonely, "")
    nothing_left(hosts)
    hosts.eventually(lambda: cluster.inv("health").code == 0)


def alone(hosts: Hosts, name: str) -> None:
    """Cut ``name`` off from its peers; SSH and its clients still reach it."""
    hosts.firewall(name, "tcp dport 2380 drop; tcp sport 2380 drop")


def test_cluster_without_quorum_has_no_backup(cluster: Project, hosts: Hosts, store: Path) -> None:
    cluster.inv("backup").ok()
    earlier = backups(store)
    hosts.each("systemctl stop etcd", NAMES[1:])
    try:
        done = cluster.inv("backup").failed(5, "error: no backup: no member can commit: ")
        assert done.stdout == ""
        assert backups(store) == earlier
        nothing_left(hosts)
    finally:
        hosts.each("systemctl start etcd", NAMES[1:])
    cluster.healthy()


def test_nobody_can_be_reached(cluster: Project, hosts: Hosts, store: Path) -> None:
    for name in NAMES:
        hosts.lab.cut(name)
    try:
        with cluster.changed("ssh", connect_timeout=1):
            cluster.inv("backup").failed(4, "error: etcd01: 198.18.40.101:22: ")
        assert backups(store) == []
    finally:
        for name in NAMES:
            hosts.lab.heal(name)
    hosts.eventually(lambda: cluster.inv("health").code == 0)


def test_one_host_off_is_told_and_stops_no_backup(cluster: Project, hosts: Hosts, store: Path) -> None:
    hosts.lab.cut("etcd02")
    try:
        hosts.eventually(lambda: sum(row["healthy"] for row in cluster.inv("health", "--json").json()) == 2)
        done = cluster.inv("backup").ok()
        assert "warning: etcd02: 198.18.40.102:22: " in done.stderr
        assert "(the backup is whole without it)" in done.stderr
        assert len(backups(store)) == 1
    finally:
        hosts.lab.heal("etcd02")
    hosts.eventually(lambda: cluster.inv("health").code == 0)


# Disks


@pytest.fixture
def small(store: Path) -> Iterator[Path]:
    """The store on a small disk of its own."""
    store.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100M,mode=700", "tmpfs", store], check=True)
    yield store
    subprocess.run(["umount", "-l", store], check=True)


def test_disk_of_the_store_is_full(cluster: Project, hosts: Hosts, small: Path) -> None:
    cluster.inv("backup").ok()
    earlier = backups(small)
    with (small / "filler").open("wb") as filler:
        filler.write(bytes(60 << 20))
    done = cluster.inv("backup").failed(1, f"error: {small}/.work-", " MiB free, ", "set backup.dir to another disk")
    assert "etcd0" not in done.stderr.splitlines()[-1]
    (small / "filler").unlink()
    assert backups(small) == earlier


def test_disk_of_the_store_gets_full_while_it_is_written(cluster: Project, hosts: Hosts, small: Path) -> None:
    cluster.inv("backup").ok()
    earlier = backups(small)
    names = held(cluster, "dd", SENDS)
    run = cluster.start("backup")
    reached(cluster, names)
    with (small / "filler").open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(bytes(4096))
            except OSError:
                break
    let_go(hosts, "dd")
    done = run.end().failed(1, "No space left on device")
    assert done.stderr.splitlines()[-1].startswith(f"error: {small}/.work-"), done
    assert "trying the next member" not in done.stderr
    (small / "filler").unlink()
    assert backups(small) == earlier
    nothing_left(hosts)


def test_no_room_on_the_hosts(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    hosts.each(
        "mkdir -p /var/lib/etcd && mount -t tmpfs -o size=700M,mode=755 tmpfs /var/lib/etcd && "
        "for each in /var/tmp /dev/shm; do mount -t tmpfs -o size=30M,mode=1777 tmpfs $each || exit; done"
    )
    try:
        new.inv("deploy").ok()
        hosts.each("fallocate -l $(($(stat -f -c '%a * %S' /var/lib/etcd) - (40 << 20))) /var/lib/etcd/filler")
        done = new.inv("backup").failed(4, ": no room for a snapshot of 64 MiB in /var/tmp or /var/lib/etcd")
        assert done.stderr.count("trying the next member") == 2
        assert done.stderr.splitlines()[-1].startswith("error: 3 hosts failed; there is no backup of this run"), done
        assert backups(tmp_path / "store") == []
        hosts.sh("etcd03", "rm /var/lib/etcd/filler")
        assert new.inv("backup", "--json").ok().json()["member"] == "etcd03"
        nothing_left(hosts)
    finally:
        hosts.each("systemctl stop etcd; umount -l /var/tmp /dev/shm /var/lib/etcd")


# Runs beside and after others


def test_two_backups_at_once(cluster: Project, hosts: Hosts, store: Path) -> None:
    names = held(cluster, "dd", SENDS)
    first = cluster.start("backup", "--json")
    reached(cluster, names)
    kept.fill(cluster, "between")
    second = cluster.start("backup", "--json")
    hosts.eventually(lambda: len([path for path in store.iterdir() if path.name.startswith(".work-")]) == 2)
    let_go(hosts, "dd")
    documents = [run.end().ok().json() for run in (first, second)]
    assert {each.name for each in backups(store)} == {each["name"] for each in documents}
    nothing_left(hosts)


def test_backup_while_keys_are_written(cluster: Project, store: Path) -> None:
    with Writer(cluster) as writer:
        before = len(writer.acknowledged)
        document = cluster.inv("backup", "--json").ok().json()
    (manifest,) = backups(store)
    assert manifest.keys is not None and manifest.keys >= before
    assert manifest.hash is not None
    assert document["revision"] == manifest.revision


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_run_that_is_cut_short(cluster: Project, hosts: Hosts, store: Path, number: signal.Signals) -> None:
    names = held(cluster, "dd", SENDS)
    run = cluster.start("backup")
    reached(cluster, names)
    run.signal(number)
    done = run.end()
    if number == signal.SIGINT:
        done.failed(130, "error: interrupted")
        assert backups(store) == []
    else:
        assert done.code == -signal.SIGKILL
        assert {path.name.startswith(".work-") for path in store.iterdir()} == {True}
    let_go(hosts, "dd")
    cluster.inv("backup").ok()
    assert len(backups(store)) == 1
    nothing_left(hosts)


def test_leftover_of_a_run_that_was_killed(cluster: Project, hosts: Hosts, store: Path) -> None:
    """A run's folder there may outlive it; the next backup from that host takes it away, once no run can be so old."""
    hosts.each("mkdir -m 700 /var/tmp/.etcdops-snapshot.new")
    for place in ("/dev/shm", "/var/tmp"):
        hosts.each(f"mkdir -m 700 {place}/.etcdops-snapshot.old; touch -d '2 hours ago' {place}/.etcdops-snapshot.old")
    try:
        source = cluster.inv("backup", "--json").ok().json()["member"]
        assert hosts.sh(source, "ls -A /dev/shm /var/tmp | grep etcdops") == ".etcdops-snapshot.new"
    finally:
        hosts.each("rm -rf /var/tmp/.etcdops-snapshot.* /dev/shm/.etcdops-snapshot.*")


# What a database can be like


def test_newest_revisions_are_deletions_that_were_compacted(cluster: Project, store: Path) -> None:
    kept.fill(cluster, "one")
    kept.wipe(cluster)
    kept.fill(cluster, "two")
    cluster.etcdctl("etcd01", "del --prefix /kept/two/more")
    newest = kept.revision(cluster)
    cluster.etcdctl("etcd01", f"compact --physical {newest}")
    cluster.inv("backup").ok()
    (manifest,) = backups(store)
    assert (manifest.revision, manifest.keys) == (newest, 30)
    assert manifest.hash is not None
    drill = cluster.inv("snapshot.verify", "latest", "--drill", "--json").ok().json()["drill"]
    assert (drill["revision"], drill["keys"]) == (newest, 30)


def test_full_database(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    new.config["cluster"]["settings"] = {"quota-backend-bytes": 200_000}
    new.write()
    new.inv("deploy").ok()
    hosts.sh("etcd01", "head -c 60000 /dev/zero | tr '\\0' x >/run/big")
    for number in range(8):
        new.etcdctl("etcd01", f"put /big/{number} </run/big >/dev/null 2>&1 || true")
    new.inv("health").failed(5, "NOSPACE")
    new.inv("backup").ok()
    assert len(backups(tmp_path / "store")) == 1


def test_learner_is_never_the_source(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    new.inv("deploy").ok()
    id_ = new.etcdctl("etcd01", "member list | sed -n 's/, started, etcd03,.*//p'")
    gone = f"member remove {id_} 2>&1 || true"  # not before all have been connected for five seconds
    hosts.eventually(lambda: "removed" in new.etcdctl("etcd01", gone) or "not found" in new.etcdctl("etcd01", gone))
    hosts.sh("etcd03", "systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd /etc/etcd/identity.json")
    hosts.sh(
        "etcd03", "sed -i 's/^ETCD_INITIAL_CLUSTER_STATE=.*/ETCD_INITIAL_CLUSTER_STATE=existing/' /etc/etcd/etcd.conf"
    )
    hosts.eventually(lambda: learns(new))
    for _ in range(2):
        assert new.inv("backup", "--json").ok().json()["member"] in NAMES[:2]
    hosts.sh("etcd01", "systemctl stop etcd")
    new.inv("backup").failed(5, "no member can commit")


def learns(project: Project) -> bool:
    """Add etcd03 as a learner, until it is one; the others must have seen it go before."""
    listed = project.etcdctl("etcd01", "member list")
    if "198.18.40.103" not in listed:
        project.etcdctl("etcd01", "member add etcd03 --learner --peer-urls=https://198.18.40.103:2380 || true")
        project.hosts.sh("etcd03", "systemctl start --no-block etcd")
    return "started, etcd03" in listed


# Drills


@pytest.mark.parametrize("where", ["here", "there"])
def test_drill(cluster: Project, hosts: Hosts, store: Path, where: str) -> None:
    kept.fill(cluster, "one")
    cluster.inv("backup").ok()
    kept.fill(cluster, "two")
    cluster.etcdctl("etcd01", f"compact {kept.revision(cluster)}")
    archive = cluster.config["release"]
    if where == "there":
        cluster.config["release"] = {"url": "http://127.0.0.1:1/{version}-{arch}.tar.gz"}
        cluster.write()
    try:
        drill = cluster.inv("snapshot.verify", "latest", "--drill", "--json").ok().json()["drill"]
    finally:
        cluster.config["release"] = archive
        cluster.write()
    (manifest,) = backups(store)
    assert (drill["on"] == "this machine") == (where == "here")
    assert (drill["revision"], drill["keys"], drill["hash"]) == (manifest.revision, manifest.keys, manifest.hash)
    assert drill["hash_as_in_manifest"] is True
    assert drill["hash_as_in_cluster"] is False  # it is compacted there by now
    nothing_left(hosts)
    assert subprocess.run(["pgrep", "-f", "[e]tcd --name drill"], check=False).returncode == 1


def test_damage_is_told(cluster: Project, store: Path, tmp_path: Path) -> None:
    kept.fill(cluster, "one")
    cluster.inv("backup").ok()
    (manifest,) = backups(store)
    good = (store / manifest.file).read_bytes()
    bad = tmp_path / "bad.db"

    def verify(data: bytes, *words: str) -> None:
        bad.write_bytes(data)
        done = cluster.inv("snapshot.verify", str(bad), "--drill").failed(1, f"error: {bad}: ", *words)
        assert done.stdout == ""

    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    verify(bytes(flipped), "is damaged: the SHA-256 at its end is not that of its content")
    verify(good[:-4096], "is truncated")
    verify(good[:-32], "has no SHA-256 at its end")
    bad.with_suffix(".json").write_bytes(manifest.dump())
    verify(good + good[-32:])
    verify(content("3.6.16"), "is another cluster's: its members are ")
    other = cluster.inv("backup", "--json").ok().json()
    shutil.copy(store / other["file"], bad)
    cluster.inv("snapshot.verify", str(bad)).failed(1, f"is not the file that {manifest.name}.json describes")


@pytest.mark.chaos
def test_damage_anywhere_is_told(cluster: Project, store: Path, tmp_path: Path) -> None:
    """A flipped bit, or the end, at 20 places each: of what a real cluster gave."""
    seed = time.time_ns()
    print(f"seed {seed}")
    places = random.Random(seed)
    kept.fill(cluster, "one")
    cluster.inv("backup").ok()
    (manifest,) = backups(store)
    good = (store / manifest.file).read_bytes()
    bad = tmp_path / "bad.db"
    for at in places.sample(range(len(good)), 20):
        flipped = bytearray(good)
        flipped[at] ^= 1 << at % 8
        bad.write_bytes(flipped)
        cluster.inv("snapshot.verify", str(bad)).failed(1, f"error: {bad}: is damaged: the SHA-256 at its end is not")
    for length in places.sample(range(len(good)), 20):
        bad.write_bytes(good[:length])
        done = cluster.inv("snapshot.verify", str(bad)).failed(1, f"error: {bad}: ")
        assert "is truncated" in done.stderr or "too short" in done.stderr or length == len(good) - 32, (length, done)
