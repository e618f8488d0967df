"""Room in the databases of real members: compact, defrag, alarms, and the way out of a full quota."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hosts import NAMES, Hosts, Project, members
from tests.lab import kept
from tests.lab.conftest import NewProject
from tests.lab.test_leader import leads
from tests.lab.test_trouble import without
from tests.lab.writer import Writer

QUOTA = 16 << 20  # bytes
BIG = 200_000  # bytes of a value
MIB = 1 << 20

CLIENT = """
ssl=/etc/etcd/ssl
export PATH=/usr/local/bin:$PATH ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
export ETCDCTL_CACERT=$ssl/ca.pem ETCDCTL_CERT=$ssl/server.pem ETCDCTL_KEY=$ssl/server-key.pem
"""


# In front of etcdctl: notes each defrag; where it is so wanted, etcd stands still, for longer than one look at it may
# take, and etcdctl does not wait for it.
NOTED = """#!/bin/sh
case " $* " in
*' defrag '*)
    date +%s.%N >/run/test-begun
    if [ -e /run/test-stuck ]; then
        pid=$(systemctl show etcd -P MainPID)
        kill -STOP $pid
        setsid sh -c "sleep 7; date +%s.%N >/run/test-awake; kill -CONT $pid" >/dev/null 2>&1 </dev/null &
        echo 'Failed to defragment etcd member[https://127.0.0.1:2379]. took 1s. (context deadline exceeded)' >&2
        exit 1
    fi ;;
esac
exec /usr/local/bin/etcdctl "$@"
"""


def fill(hosts: Hosts, key: str, count: int = 500, size: int = BIG) -> int:
    """Put ``key`` until the quota is full, ``count`` times at most; how many times it was.  ``$n`` in it counts."""
    script = f"""
head -c {size} /dev/zero | tr '\\0' x >/run/big
n=0
while [ $n -lt {count} ] && etcdctl put "{key}" </run/big >/dev/null 2>&1; do n=$((n + 1)); done
rm /run/big
echo $n
"""
    return int(hosts.sh(NAMES[0], CLIENT + script))


@pytest.fixture
def small(project: NewProject, tmp_path: Path) -> Project:
    """A cluster with a small quota and a store of its own."""
    return limited(project, tmp_path)


def limited(project: NewProject, tmp_path: Path, version: str = "3.6.16") -> Project:
    new = project(version=version, backup={"dir": str(tmp_path / "store")})
    new.config["cluster"]["settings"] = {"quota-backend-bytes": QUOTA}
    new.write()
    new.inv("deploy").ok()
    return new


def alarms(project: Project) -> set[str]:
    """The kinds of alarms, as etcdctl knows them."""
    return {line.partition("alarm:")[2].strip() for line in project.etcdctl(NAMES[0], "alarm list").splitlines()}


def begun(hosts: Hosts) -> dict[str, float]:
    """When each member was told to defragment."""
    times = hosts.each("cat /run/test-begun 2>/dev/null || echo 0")
    return {name: float(time) for name, time in times.items() if float(time)}


@pytest.mark.parametrize(
    "version", ["3.4.23", *(pytest.param(each, marks=pytest.mark.chaos) for each in ("3.5.30", "3.7.3"))]
)
def test_way_out_of_a_full_quota(project: NewProject, hosts: Hosts, tmp_path: Path, version: str) -> None:
    small = limited(project, tmp_path, version)
    assert "nothing to do" in small.inv("space").ok().stdout
    assert small.inv("alarms", "--json").ok().json() == []
    assert small.inv("alarms").ok().lines == ["no alarm"]
    with Writer(small) as writer:
        assert fill(hosts, "/same") < 500
        found = small.inv("alarms", "--json").failed(5, "NOSPACE raised; inv space").json()
        assert found
        assert {each["kind"] for each in found} == {"NOSPACE"}
        assert {each["member"] for each in found} <= set(NAMES)
        before = hosts.listing()
        would = small.inv("space", "--dry-run").ok().stdout
        assert [
            word for word in ("inv backup", "etcdctl compact ", "etcdctl defrag", "disarm") if word not in would
        ] == []
        assert hosts.listing() == before
        assert alarms(small) == {"NOSPACE"}
        stuck = len(writer.acknowledged)
        done = small.inv("space").ok()
        hosts.eventually(lambda: len(writer.acknowledged) > stuck + 10)
    assert writer.lost() == {}
    assert alarms(small) == set()
    assert done.lines[-1] == "there is room again, and every member takes writes"
    for name in NAMES:
        status = kept.status(small, name)
        assert status["dbSize"] < QUOTA / 2, (name, status)
    assert [row["purpose"] for row in small.inv("snapshot.list", "--json").ok().json()["backups"]] == ["backup"]
    assert small.inv("check-data", "--json").ok().json()["same"]
    revision = kept.revision(small)
    assert small.inv("compact", "--keep=0").ok().lines == [f"compacted to revision {revision}, of {revision}"]
    again = small.inv("compact", "--keep=0").ok().lines
    assert again == [f"nothing to compact: no history before revision {revision}"]
    small.healthy()


@pytest.mark.chaos
@pytest.mark.parametrize("way_out", ["delete", "larger quota"])
def test_stops_where_live_data_alone_fills_the_quota(
    project: NewProject, hosts: Hosts, tmp_path: Path, way_out: str
) -> None:
    new = project(backup={"dir": str(tmp_path / "store")})
    new.inv("deploy").ok()
    assert fill(hosts, "/live/$n", count=20, size=1_000_000) == 20
    new.config["cluster"]["settings"] = {"quota-backend-bytes": QUOTA}
    new.write()
    new.inv("deploy").ok()
    assert fill(hosts, "/more", count=1) == 0
    new.inv("space").failed(5, "not enough room, and NOSPACE stays: ", "MiB of its quota of 16.0 MiB", "inv del")
    assert alarms(new) == {"NOSPACE"}
    gone = 0
    if way_out == "delete":
        gone = 10
        for number in range(gone):
            new.etcdctl(NAMES[0], f"del /live/{number}")
    else:
        new.config["cluster"]["settings"] = {"quota-backend-bytes": 4 * QUOTA}
        new.write()
        new.inv("deploy").failed(5, "NOSPACE", "inv space makes room")
        new.inv("restart").failed(5, "NOSPACE", "inv space makes room")
        assert alarms(new) == {"NOSPACE"}
    assert new.inv("space").ok().lines[-1] == "there is room again, and every member takes writes"
    assert alarms(new) == set()
    assert set(kept.keys(new)) == {f"/live/{number}" for number in range(gone, 20)}
    new.healthy()


@pytest.mark.chaos
def test_members_come_and_go_under_a_full_quota(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    """Which is the way on where a host is lost besides: no room is made without it."""
    new = limited(project, tmp_path)
    fill(hosts, "/same")
    hosts.sh("etcd02", "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
    new.inv("space").failed(3, "if etcd02 is lost: inv replace-member etcd02, or inv remove-member etcd02, first")
    new.inv("replace-member", "etcd02", "--yes").ok()
    assert new.inv("replace-member", "etcd02", "--yes").ok().lines[0].startswith("nothing to do: ")
    hosts.lab.off("etcd03")
    with new.changed("ssh", connect_timeout=1):
        new.inv("recover", "--yes").failed(3, "can commit: the cluster has its quorum")
        new.inv("remove-member", "etcd03", "--yes").ok()
        assert alarms(new) == {"NOSPACE"}
        assert new.inv("space").ok().lines[-1] == "there is room again, and every member takes writes"
    assert alarms(new) == set()
    assert set(kept.keys(new)) == {"/same"}


RAISE = r"""sed 's/"errors":\[/"errors":["memberID:1 alarm:CORRUPT ",/'"""


def test_corrupt_is_never_ended(small: Project, hosts: Hosts) -> None:
    """etcdctl would end both alarms at once."""
    fill(hosts, "/same")
    answers = f'#!/bin/sh\n/usr/local/bin/etcdctl "$@" | {RAISE}\n'
    hosts.put(NAMES[0], "/usr/local/sbin/etcdctl", answers)
    small.inv("space").failed(3, "refused: CORRUPT is raised", "inv check-data")
    assert alarms(small) == {"NOSPACE"}
    small.inv("alarms").failed(5, "CORRUPT and NOSPACE raised")


def test_history_is_dropped_and_the_space_given_back(cluster: Project, hosts: Hosts) -> None:
    """Leader last, and not as the leader; no write is lost."""
    kept.wipe(cluster)
    fill(hosts, "/old", count=30, size=1_000_000)
    revision = kept.revision(cluster)
    assert (
        cluster.inv("compact", "--keep=5", "--dry-run")
        .ok()
        .lines[0]
        .endswith(f"etcdctl compact {revision - 5}, of {revision}")
    )
    cluster.etcdctl(NAMES[1], f"get /old --rev={revision - 9} --keys-only")
    assert cluster.inv("compact", "--keep=5").ok().lines == [f"compacted to revision {revision - 5}, of {revision}"]
    cluster.etcdctl(NAMES[1], f"get /old --rev={revision - 5} --keys-only")
    assert "has been compacted" in hosts.sh(NAMES[0], old(revision - 6))
    for words in (("--keep=5",), ("--keep=6", "--dry-run"), ()):
        assert cluster.inv("compact", *words).ok().lines[0].startswith("nothing to compact: "), words
    cluster.inv("compact", "--keep=-1").failed(2, "--keep is a number")

    cluster.inv("compact", "--keep=0").ok()
    small = cluster.inv("defrag").ok()
    assert small.lines == ["nothing to do; --force does it all the same"]
    assert small.stderr.count("not worth it") == 3
    for name in NAMES:
        hosts.put(name, "/usr/local/sbin/etcdctl", NOTED)
    sizes = {name: kept.status(cluster, name)["dbSize"] for name in NAMES}
    before = leads(cluster)
    would = cluster.inv("defrag", "--force", "--dry-run").ok().lines
    assert [line.split("  etcdctl defrag: ")[0] for line in would] == list(NAMES)
    assert begun(hosts) == {}
    with Writer(cluster) as writer:
        done = cluster.inv("defrag", "--force").ok()
    assert writer.lost() == {}
    order = begun(hosts)
    assert max(order, key=lambda name: order[name]) == before
    assert leads(cluster) != before
    assert len(done.lines) == 3
    for name in NAMES:
        assert kept.status(cluster, name)["dbSize"] < sizes[name] / 2
        hosts.sh(name, "rm -f /run/test-begun")
    cluster.inv("defrag", "--force", "--member=etcd03").ok()
    assert set(begun(hosts)) == {"etcd03"}
    cluster.inv("defrag", "--member=etcd09").failed(2, "no member is called 'etcd09'")
    hosts.each("rm -f /usr/local/sbin/etcdctl /run/test-*")


def old(revision: int) -> str:
    """A read of history, and what etcdctl says of it."""
    return f"{CLIENT}\netcdctl get /old --rev={revision} 2>&1 || true"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_members_wait_meanwhile(project: NewProject, count: int) -> None:
    new = project(members=members(*NAMES[:count]))
    new.inv("deploy").ok()
    done = new.inv("defrag", "--force").ok()
    assert len(done.lines) == count
    assert done.stderr.startswith("warning: there is no quorum without the member that is at it")
    new.healthy()


def test_next_member_waits_for_one_that_etcdctl_gave_up(cluster: Project, hosts: Hosts) -> None:
    for name in NAMES:
        hosts.put(name, "/usr/local/sbin/etcdctl", NOTED)
    first = next(name for name in NAMES if name != leads(cluster))
    hosts.sh(first, ": >/run/test-stuck")
    done = cluster.inv("defrag", "--force").ok()
    assert f"warning: {first}: etcdctl gave up waiting" in done.stderr
    awake = float(hosts.sh(first, "cat /run/test-awake"))
    times = begun(hosts)
    assert set(times) == set(NAMES)
    assert [name for name in NAMES if name != first and times[name] < awake] == []
    hosts.each("rm -f /usr/local/sbin/etcdctl /run/test-*")


def test_compaction_comes_to_its_end_while_clients_write(cluster: Project) -> None:
    """Their data grows all the time then, so that it never stands still."""
    with Writer(cluster) as writer:
        cluster.hosts.eventually(lambda: len(writer.acknowledged) > 100)
        done = cluster.inv("compact", "--keep=10").ok()
    assert done.lines[0].startswith("compacted to revision ")
    assert writer.lost() == {}
    kept.wipe(cluster)


def test_no_defragmentation_while_a_member_is_away(cluster: Project, hosts: Hosts) -> None:
    with without("etcd02", "off", cluster):
        sizes = {name: kept.status(cluster, name)["dbSize"] for name in ("etcd01", "etcd03")}
        cluster.inv("defrag", "--force").failed(3, "refused: the cluster is not healthy: etcd02: ")
        assert {name: kept.status(cluster, name)["dbSize"] for name in sizes} == sizes
        cluster.inv("alarms", "--json").failed(4, "etcd02: ")
        cluster.inv("compact").ok()


def test_no_defragmentation_without_room_on_the_disk(cluster: Project, hosts: Hosts) -> None:
    answer = 'case " $* " in *" -f "*) echo "1000 * 4096" ;; *) exec /usr/bin/stat "$@" ;; esac'
    stat = f"#!/bin/sh\n{answer}\n"
    hosts.put("etcd03", "/usr/local/sbin/stat", stat)
    done = cluster.inv("defrag", "--force").failed(3, "etcd03: 3 MiB free on the disk", "nothing was defragmented")
    assert done.lines == []
    hosts.sh("etcd03", "rm /usr/local/sbin/stat")


def test_space_says_what_there_is(cluster: Project) -> None:
    done = cluster.inv("space").ok()
    assert "2048.0 MiB" in done.stdout
    assert done.lines[-1] == "no alarm; nothing to do"


def test_same_data_everywhere(cluster: Project) -> None:
    kept.fill(cluster, "same")
    done = cluster.inv("check-data", "--json").ok().json()
    assert done["same"]
    assert done["minority"] == []
    assert done["revision"] >= 4
    assert [row["agrees"] for row in done["members"]] == [True] * 3
    assert len({row["hash"] for row in done["members"]}) == 1
    assert {row["keys"] for row in done["members"]} == {len(kept.keys(cluster))}
    with Writer(cluster) as writer:  # what is written meanwhile makes no difference
        assert cluster.inv("check-data").ok().stdout.count("yes") == 3
    assert writer.acknowledged
    with without("etcd03", "cut", cluster):
        rows = cluster.inv("check-data", "--json").failed(4, "etcd03: ").json()["members"]
        assert [row["agrees"] for row in rows] == [True, True, None]


# The value of a key, in the database of one member.
FLIP = """
systemctl stop etcd && cd /var/lib/etcd/default.etcd/member/snap || exit 1
for at in $(grep -abo the-truth-and db | cut -d: -f1); do
    printf T | dd of=db bs=1 seek=$at conv=notrunc status=none
done
systemctl start etcd
"""
# Else a member whose data differs does not start at all.
UNLIKE = {"feature-gates": "InitialCorruptCheck=false"}


def test_one_flipped_byte_is_found_and_its_member_named(project: NewProject, hosts: Hosts) -> None:
    new = project()
    new.config["cluster"]["settings"] = UNLIKE
    new.write()
    new.inv("deploy").ok()
    new.etcdctl(NAMES[0], "put /value the-truth-and-nothing-else")
    hosts.sh("etcd02", FLIP)
    hosts.eventually(lambda: new.inv("health").code == 0)
    assert new.inv("status").code == 0, "nothing else shows it"
    assert new.etcdctl("etcd02", "get /value --print-value-only").startswith("The-truth")
    found = new.inv("check-data", "--json").failed(
        5, "error: etcd02 holds other data than etcd01, etcd03, the majority, at revision ", "docs/check-data.md"
    )
    document = found.json()
    assert not document["same"]
    assert document["minority"] == ["etcd02"]
    assert [row["agrees"] for row in document["members"]] == [True, False, True]
    assert json.dumps(document).count(str(document["members"][0]["hash"])) == 2
    assert "NO" in new.inv("check-data").failed(5).stdout

    # The way out that docs/check-data.md tells.
    hosts.sh("etcd02", "systemctl stop etcd")
    assert new.inv("backup", "--json").ok().json()["member"] != "etcd02"
    new.inv("restore", "latest", "--yes").ok()
    assert new.inv("check-data", "--json").ok().json()["same"]
    assert new.etcdctl("etcd02", "get /value --print-value-only") == "the-truth-and-nothing-else"


OLD = {"experimental-initial-corrupt-check": False, "experimental-corrupt-check-time": "2s"}


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("3.6.16", {**UNLIKE, "corrupt-check-time": "2s"}),
        pytest.param("3.4.23", OLD, marks=pytest.mark.chaos),  # whose `endpoint health` tells no alarm
        pytest.param("3.5.30", OLD, marks=pytest.mark.chaos),
    ],
)
def test_way_out_of_corrupt(
    project: NewProject, hosts: Hosts, tmp_path: Path, version: str, settings: dict[str, object]
) -> None:
    new = project(version=version, backup={"dir": str(tmp_path / "store"), "keep": {"last": 1}})
    new.config["cluster"]["settings"] = settings
    new.write()
    new.inv("deploy").ok()
    new.etcdctl(NAMES[0], "put /value the-truth-and-nothing-else")
    old = new.inv("backup", "--json").ok().json()["name"]
    hosts.sh("etcd02", FLIP)
    hosts.eventually(lambda: alarms(new) == {"CORRUPT"})
    new.inv("check-data").failed(5, "etcd02 holds other data than etcd01, etcd03, the majority")
    new.inv("recover", "--yes").failed(3, "can commit: the cluster has its quorum")

    done = new.inv("backup", "--json").ok()
    assert "CORRUPT is raised: this is the data of etcd01, etcd03, not that of etcd02" in done.stderr
    assert done.json()["member"] != "etcd02"
    assert done.json()["pruned"] == []
    assert old in {row["name"] for row in new.inv("snapshot.list", "--json").ok().json()["backups"]}
    new.inv("replace-member", "etcd01", "--yes").failed(3, "CORRUPT is raised, and without etcd01 ")
    new.inv("replace-member", "etcd02", "--yes").failed(3, "it holds other data than etcd01, etcd03", "systemctl stop")
    hosts.sh("etcd02", "systemctl stop etcd")
    done = new.inv("replace-member", "etcd02", "--yes").ok()
    assert "once inv check-data finds no difference: inv etcdctl -- alarm disarm" in done.stderr
    assert new.inv("check-data", "--json").ok().json()["same"]
    assert new.etcdctl("etcd02", "get /value --print-value-only") == "the-truth-and-nothing-else"
    new.inv("etcdctl", "--", "alarm", "disarm").ok()
    assert alarms(new) == set()
    new.etcdctl("etcd02", "put /value again")
    new.healthy()
