"""Data that is lost, damaged, of another time, or on a disk that is full."""

from __future__ import annotations

from tests.hosts import NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.members import is_whole
from tests.lab.test_deploy import settled
from tests.lab.writer import Writer

DATA = "/var/lib/etcd/default.etcd"
OTHERS = ("etcd01", "etcd03")
DB = f"{DATA}/member/snap/db"


def test_two_of_three_are_wiped(project: NewProject, hosts: Hosts) -> None:
    """6: nothing is done by itself; what the survivor has becomes a new cluster when somebody says so."""
    new = project()
    new.inv("deploy").ok()
    with Writer(new) as writer:
        writer.goes_on(50)
    hosts.eventually(lambda: writer.lost() == {})  # the survivor has them all
    hosts.each(f"systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf {DATA}", OTHERS)
    for task in ("start", "deploy"):
        lost = [f"{name}: has been a member, but {DATA} is empty or not mounted" for name in OTHERS]
        new.inv(task).failed(3, *lost)
    state = hosts.each("systemctl start etcd 2>/dev/null; systemctl is-active etcd; true", OTHERS)
    assert set(state.values()) == {"inactive"}
    new.inv("restart").failed(3, "nothing was restarted: ", "no leader")
    for task in ("replace-member", "remove-member"):
        new.inv(task, "etcd01", "--yes").failed(3, "the membership cannot change", "inv recover")
    new.inv("backup").failed(5, "no backup: no member can commit", "inv recover, if that is for good")
    new.inv("recover").failed(3, "Give up what is missing and make a new cluster test of what etcd02 holds")
    new.inv("recover", "--yes").ok()
    new.healthy()
    assert writer.lost() == {}
    settled(new)


def test_disk_is_full_on_one_member(project: NewProject, hosts: Hosts) -> None:
    """21: that member goes down, and the others serve; with room again it is back."""
    new = project()
    hosts.sh("etcd02", "mkdir -p /var/lib/etcd && mount -t tmpfs -o size=700m,mode=755 tmpfs /var/lib/etcd")
    try:
        new.inv("deploy").ok()
        with Writer(new) as writer:
            writer.goes_on()
            hosts.sh("etcd02", "cat /dev/zero >/var/lib/etcd/filler", check=False)
            big = "head -c 1000000 /dev/zero | tr '\\0' x"
            for n in range(40):
                new.etcdctl("etcd01", f"put /big/{n} >/dev/null <<END\n$({big})\nEND")
            hosts.eventually(lambda: hosts.sh("etcd02", "systemctl show etcd -P NRestarts") != "0")
            writer.goes_on()
            new.inv("health").failed(5, "error: etcd02: ")
            new.inv("start").failed(4, "error: etcd02: etcd did not start: ", "no space left on device")
            new.inv("restart").failed(3, "nothing was restarted: etcd02: ")
            new.inv("defrag", "--force").failed(3, "the cluster is not healthy: etcd02: ")
            assert new.inv("backup", "--json").ok().json()["member"] != "etcd02"
            hosts.sh("etcd02", "rm /var/lib/etcd/filler")
            new.inv("start").ok()
            writer.goes_on()
        assert writer.lost() == {}
        assert new.inv("check-data", "--json").ok().json()["same"]
        settled(new)
    finally:
        hosts.sh("etcd02", "systemctl stop etcd; umount -l /var/lib/etcd")


FLIP = (
    "systemctl stop etcd && for at in $(grep -abo the-truth-and {db} | cut -d: -f1); do "
    "printf T | dd of={db} bs=1 seek=$at conv=notrunc status=none; done && systemctl start etcd"
)


def test_flipped_byte_and_its_member_replaced(ours: Project, five: Hosts) -> None:
    """22: found by its hash, at the end of a restart, too, and replaced while the cluster serves."""
    with ours.changed("cluster", settings={"feature-gates": "InitialCorruptCheck=false"}):
        ours.inv("deploy").ok()
        ours.etcdctl("etcd01", "put /value the-truth-and-nothing-else")
        five.sh("etcd02", FLIP.format(db=DB))
        five.eventually(lambda: ours.inv("health").code == 0)
        with Writer(ours) as writer:
            writer.goes_on()
            words = "etcd02 holds other data than etcd01, etcd03, the majority, at revision "
            ours.inv("check-data").failed(5, words, "docs/check-data.md")
            ours.inv("restart").failed(5, words)
            five.sh("etcd02", "systemctl stop etcd")
            assert ours.inv("backup", "--json").ok().json()["member"] != "etcd02"
            ours.inv("replace-member", "etcd02", "--yes").ok()
            assert ours.inv("check-data", "--json").ok().json()["same"]
        assert writer.lost() == {}
        assert ours.etcdctl("etcd02", "get /value --print-value-only") == "the-truth-and-nothing-else"
    ours.inv("deploy").ok()
    is_whole(ours, five, *NAMES)


def restored_by_hand(hosts: Hosts, name: str, snapshot: str) -> None:
    """What somebody may try on a member that is broken: etcd's own restore, under the identity that it had."""
    conf = hosts.sh(name, "cat /etc/etcd/etcd.conf")
    known = dict(line.split("=", 1) for line in conf.splitlines() if line.startswith("ETCD"))
    hosts.sh(
        name,
        f"systemctl stop etcd; mv {DATA} {DATA}.old; /usr/local/bin/etcdutl snapshot restore {snapshot} --name {name} "
        f"--initial-cluster {known['ETCD_INITIAL_CLUSTER']} --data-dir {DATA} "
        f"--initial-cluster-token {known['ETCD_INITIAL_CLUSTER_TOKEN']} "
        f"--initial-advertise-peer-urls {known['ETCD_INITIAL_ADVERTISE_PEER_URLS']} 2>&1; "
        f"chown -R etcd: {DATA}; systemctl start --no-block etcd",
    )


def test_one_member_restored_by_hand(ours: Project, five: Hosts) -> None:
    """19: with an older snapshot.  It has lost what it promised, and does not start; replace-member is the way out."""
    with Writer(ours) as writer:
        writer.goes_on()
        ours.etcdctl("etcd02", "snapshot save /root/old.db >/dev/null 2>&1")
        writer.goes_on(50)
        restored_by_hand(five, "etcd02", "/root/old.db")
        five.eventually(lambda: five.sh("etcd02", "systemctl show etcd -P NRestarts") != "0")
        writer.goes_on()
        ours.inv("health").failed(5, "error: etcd02: ")
        ours.inv("check-data").failed(5, "etcd02 gave no hash of its data")
        ours.inv("restart").failed(3, "nothing was restarted: etcd02: ")
        done = ours.inv("start").failed(4, "error: etcd02: etcd did not start: ")
        assert "inv replace-member etcd02" in done.stderr or "inv check-data" in done.stderr, done
        assert ours.inv("backup", "--json").ok().json()["member"] != "etcd02"
        five.sh("etcd02", "systemctl stop etcd")
        ours.inv("replace-member", "etcd02", "--yes").ok()
        writer.goes_on()
    assert writer.lost() == {}
    assert ours.inv("check-data", "--json").ok().json()["same"]
    is_whole(ours, five, *NAMES)
