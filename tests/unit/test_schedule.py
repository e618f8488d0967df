"""Backups on a schedule: when they are due, who makes one, what must hold, what stays, what status says."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdops import layout, schedule
from etcdops.config import Config
from etcdops.etcd import View
from etcdops.plan import File
from etcdops.snapshots.manifest import Manifest
from etcdops.steps import health
from etcdops.steps.schedule import resources
from tests.unit import golden
from tests.unit.build import config

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

# The instants

CALENDAR: dict[str, tuple[timedelta, timedelta, list[str]]] = {
    "15m": (15 * MINUTE, 4 * MINUTE, ["*-*-* *:04,19,34,49:00 UTC"]),
    "1h": (HOUR, 59 * MINUTE, ["*-*-* *:59:00 UTC"]),
    "90m": (
        90 * MINUTE,
        0 * MINUTE,
        ["*-*-* 00,03,06,09,12,15,18,21:00:00 UTC", "*-*-* 01,04,07,10,13,16,19,22:30:00 UTC"],
    ),
    "6h": (6 * HOUR, 5 * HOUR + 7 * MINUTE, ["*-*-* 05,11,17,23:07:00 UTC"]),
    "1d": (24 * HOUR, 23 * HOUR, ["*-*-* 23:00:00 UTC"]),
    "7d, as time began on a Thursday": (7 * 24 * HOUR, 3 * HOUR, ["Thu *-*-* 03:00:00 UTC"]),
    "7d, six days later": (7 * 24 * HOUR, 6 * 24 * HOUR + HOUR, ["Wed *-*-* 01:00:00 UTC"]),
}


@pytest.mark.parametrize(("every", "shift", "lines"), CALENDAR.values(), ids=CALENDAR.keys())
def test_calendar(every: timedelta, shift: timedelta, lines: list[str]) -> None:
    assert schedule.calendar(every, shift) == lines


def instants(lines: list[str]) -> set[tuple[str, int, int]]:
    """Day of the week, hour and minute of every instant in a week."""
    found = set()
    for line in lines:
        *day, _, time, _ = line.split()
        hours, minutes, _ = time.split(":")
        for hour in range(24) if hours == "*" else map(int, hours.split(",")):
            for minute in range(60) if minutes == "*" else map(int, minutes.split(",")):
                found |= {(each, hour, minute) for each in day or schedule.DAYS}
    return found


EVERY = [
    15,
    16,
    18,
    20,
    24,
    30,
    32,
    36,
    40,
    45,
    48,
    60,
    72,
    80,
    90,
    96,
    120,
    144,
    160,
    180,
    240,
    288,
    360,
    480,
    720,
    1440,
]


@pytest.mark.parametrize("minutes", [*EVERY, 7 * 1440])
@pytest.mark.parametrize("cluster", ["a", "etcd-cluster", "prod.eu_1"])
def test_the_calendar_is_all_the_due_times_and_no_other(minutes: int, cluster: str) -> None:
    every = minutes * MINUTE
    shift = schedule.offset(cluster, every)
    due, expected = datetime(2026, 11, 22, tzinfo=UTC), set()
    for _ in range(7 * 1440 // minutes):
        due = schedule.next_due(every, shift, due)
        assert (due - datetime(1970, 1, 1, tzinfo=UTC) - shift) % every == timedelta()
        expected.add((f"{due:%a}", due.hour, due.minute))
    assert instants(schedule.calendar(every, shift)) == expected


def test_clusters_do_not_all_begin_at_once() -> None:
    shifts = {schedule.offset(f"cluster-{number}", 6 * HOUR) for number in range(50)}
    assert len(shifts) > 40
    assert all(timedelta() <= shift < 6 * HOUR for shift in shifts)


# What is put on a host

FILES = {layout.BACKUP_SERVICE: "service", layout.BACKUP_TIMER: "timer"}


def scheduled(*, tls: bool = True, **section: Any) -> Config:
    plain = config(tls=tls).model_dump(exclude={"backup"})
    cluster = {**plain["cluster"], "settings": {}, "unit": {}}
    text = {"cluster": cluster, "members": plain["members"], "backup": {"schedule": section}}
    return Config.model_validate(text)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("tls", scheduled()),
        ("plain", scheduled(tls=False, every="90m", keep=3, dir="/srv/etcd-backups")),
    ],
)
def test_units(name: str, made: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdops.steps.schedule.__version__", "1.2.3")
    for resource in resources(made):
        if isinstance(resource, File) and resource.path in FILES:
            golden.check(f"etcdops-backup/{name}.{FILES[resource.path]}", resource.content or b"")


def test_the_folder_is_etcds_alone_and_the_script_runs() -> None:
    by_path = {resource.path: resource for resource in resources(scheduled())}  # type: ignore[union-attr]
    folder, script = by_path["/var/backups/etcd"], by_path[layout.BACKUP]
    assert (folder.mode, folder.owner) == (0o700, "etcd:etcd")  # type: ignore[union-attr]
    assert (script.mode, script.owner) == (0o755, "root:root")  # type: ignore[union-attr]


# The script on a host, with an etcdctl that answers what the test says

EVERY_S, OFFSET_S = 21600, 600
ETCDCTL = r"""#!/bin/sh
echo "$ETCDCTL_ENDPOINTS $*" >>"$FAKE/asked"
[ "$ETCDCTL_ENDPOINTS" = own ] || { [ "$1" = get ] && [ -e "$FAKE/reachable" ]; exit; }
case "$*" in
'endpoint status'*) cat "$FAKE/status" ;;
'member list') cat "$FAKE/members" ;;
'get etcdops'*) cat "$FAKE/revision"; [ ! -e "$FAKE/then" ] || mv "$FAKE/then" "$FAKE/revision" ;;
'get '*) echo '"Count" : 7' ;;
'snapshot save'*) shift 2; [ ! -e "$FAKE/broken" ] || { echo '{"level":"warn"}'; echo 'Error: rpc error' ; exit 1; }
    cp "$FAKE/snapshot" "$1" ;;
*) exit 64 ;;
esac
"""
ETCDUTL = """#!/bin/sh
cat "$FAKE/found"
"""
STAT = """#!/bin/sh
case $* in
'-c %d /var/lib/etcd') echo "$FAKE_DISK" ;;
-f*) cat "$FAKE/room" ;;
*) exec /usr/bin/stat "$@" ;;
esac
"""
IDS = (0xA0, 0xB0, 0xFFFFFFFFFFFFFFF0)


def snapshot(pages: int = 4) -> bytes:
    content = bytes(range(256)) * 2 * pages
    return content + hashlib.sha256(content).digest()


class Member:
    """A member's host: a folder for its backups, an etcd that says what it should, and the script."""

    def __init__(self, place: Path, number: int = 0, leader: int | None = 0) -> None:
        self.place, self.number = place, number
        self.dir = place / "backups"
        for folder in (place / "bin", self.dir):
            folder.mkdir()
        self.program("etcdctl", ETCDCTL)
        self.program("etcdutl", ETCDUTL)
        self.program("date", '#!/bin/sh\n[ "$*" != +%s ] || { cat "$FAKE/now"; exit; }\nexec /bin/date "$@"\n')
        self.program("stat", STAT)
        self.env: dict[str, str] = {"FAKE_DISK": "another"}
        self.at(0)
        self.tell("room", "1000000 * 4096\n")
        self.tell("status", status(IDS[number], IDS[leader] if leader is not None else 0))
        self.tell("members", members())
        self.tell("revision", '"Revision" : 41\n')
        self.tell("found", '"Hash" : 1\n"Revision" : 42\n"Keys" : 9\n')
        (place / "snapshot").write_bytes(snapshot())

    def program(self, name: str, text: str) -> None:
        (self.place / "bin" / name).write_text(text)
        (self.place / "bin" / name).chmod(0o755)

    def tell(self, what: str, text: str) -> None:
        (self.place / what).write_text(text)

    def at(self, period: int, late: int = 0) -> None:
        """So many periods since one in which the first member has the turn, and ``late`` seconds after it was due."""
        self.tell("now", f"{OFFSET_S + (83_000 * 3 + period) * EVERY_S + late}\n")

    def run(self, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self.place}/bin:{os.environ['PATH']}",
            "FAKE": str(self.place),
            "ETCDOPS_CLUSTER": "etcd-cluster",
            "ETCDOPS_DIR": str(self.dir),
            "ETCDOPS_KEEP": "2",
            "ETCDOPS_EVERY": str(EVERY_S),
            "ETCDOPS_OFFSET": str(OFFSET_S),
            "ETCDOPS_VERSION": "1.2.3",
            "ETCDCTL_ENDPOINTS": "own",
            **self.env,
        }
        argv = [shell, str(layout.FILES / "backup.sh")]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)

    def passes(self, *words: str) -> str:
        """It leaves the backup to others, and says why."""
        done = self.run()
        assert (done.returncode, done.stderr, self.files()) == (0, "", [])
        assert all(word in done.stdout for word in words), done
        return done.stdout

    def fails(self, *words: str) -> str:
        before = self.files()
        done = self.run()
        assert done.returncode == 1, done
        assert all(word in done.stderr for word in words), done
        assert self.files() == before
        return done.stderr

    def makes(self) -> str:
        done = self.run()
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def files(self) -> list[str]:
        return sorted(path.name for path in self.dir.iterdir())

    def put(self, name: str) -> str:
        """A backup that is there already."""
        for kind in ("db", "json"):
            (self.dir / f"{name}.{kind}").write_text("")
        return name

    def asked(self) -> str:
        return (self.place / "asked").read_text()


def status(me: int, leader: int, errors: str = "", cluster: int = 0xC1) -> str:
    return (
        f'"ClusterID" : {cluster}\n"MemberID" : {me}\n"Revision" : 40\n"RaftTerm" : 2\n"Version" : "3.6.16"\n'
        f'"DBSize" : 2048\n"Leader" : {leader}\n"IsLearner" : false\n"Errors" : [{errors}]\n'
    )


def members(*more: str, learner: int | None = None) -> str:
    lines = [
        f"{each:x}, started, etcd0{number + 1}, https://192.0.2.{number}:2380, https://192.0.2.{number}:2379, "
        f"{'true' if number == learner else 'false'}"
        for number, each in enumerate(IDS)
    ]
    return "\n".join([lines[2], *more, *lines[:2]]) + "\n"  # etcd has an order of its own


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Callable[..., Member]]:
    def make(number: int = 0, leader: int | None = 0) -> Member:
        return Member(tmp_path, number, leader)

    yield make


@pytest.mark.parametrize("late", [0, 1, -1, EVERY_S // 2 - 1, -EVERY_S // 2], ids=str)
@pytest.mark.parametrize("period", range(4))
@pytest.mark.parametrize("number", range(3))
def test_members_take_turns(member: Callable[..., Member], number: int, period: int, late: int) -> None:
    """Whatever their clocks say, as long as it is within half a period."""
    follower = member(number, leader=(number + 1) % 3)
    follower.at(period, late)
    if period % 3 == number:
        assert follower.makes().startswith("backup etcd-cluster-")
        assert len(follower.files()) == 2
    else:
        follower.passes(f"it is etcd0{period % 3 + 1}'s turn")
        assert "192.0.2" not in follower.asked()


def test_the_leader_leaves_it_to_the_member_whose_turn_it_is(member: Callable[..., Member]) -> None:
    leader = member(2, leader=2)
    leader.tell("reachable", "")
    leader.passes("it is etcd01's turn")
    assert "https://192.0.2.0:2379 get etcdops" in leader.asked()  # `endpoint health` says no when the quota is full


def test_the_leader_stands_in(member: Callable[..., Member]) -> None:
    leader = member(2, leader=2)
    out = leader.makes()
    assert out.startswith("etcd01, whose turn it is, does not answer")
    assert json.loads(next(leader.dir.glob("*.json")).read_text())["member"] == "etcd03"


def test_a_member_that_never_started_and_a_learner_have_no_turn(member: Callable[..., Member]) -> None:
    second = member(1, leader=2)
    unstarted = "1, unstarted, , https://192.0.2.9:2380, , false"
    second.tell("members", members(unstarted, learner=0))  # voters: the second and the third
    second.at(1)  # 83,000 * 3 + 1 is odd
    second.passes("it is etcd03's turn")
    second.at(2)
    second.makes()


@pytest.mark.parametrize(
    ("what", "text", "why"),
    [
        ("status", None, "its etcd does not answer"),
        ("status", status(IDS[0], 0), "it knows of no leader"),
        ("members", None, "it cannot tell who the members are"),
        ("members", members(learner=0), "it is a learner"),
    ],
)
def test_a_member_that_cannot_know(member: Callable[..., Member], what: str, text: str | None, why: str) -> None:
    one = member()
    if text is None:
        (one.place / what).unlink()
    else:
        one.tell(what, text)
    one.passes(why)


def no_quorum(one: Member) -> None:
    one.program("sleep", "#!/bin/sh\n")
    one.tell("revision", "")


def no_snapshot(one: Member) -> None:
    one.tell("broken", "")


def stripped(one: Member) -> None:
    (one.place / "snapshot").write_bytes(snapshot()[:-32])


def flipped(one: Member) -> None:
    content = bytearray(snapshot())
    content[700] ^= 1
    (one.place / "snapshot").write_bytes(content)


def stale(one: Member) -> None:
    one.tell("revision", '"Revision" : 43\n')
    one.tell("then", '"Revision" : 44\n')


def unreadable(one: Member) -> None:
    one.program("etcdutl", "#!/bin/sh\necho 'Error: invalid database' >&2\nexit 1\n")


def no_room(one: Member) -> None:
    one.tell("room", "4096 * 4096")


def no_room_for_etcd(one: Member) -> None:
    one.env["FAKE_DISK"] = str(one.dir.stat().st_dev)
    one.tell("room", f"1 * {(1 << 30) + (16 << 20) + 2048 + 2048 + 204 - 1}")


def corrupt(one: Member) -> None:
    one.tell("status", status(IDS[0], IDS[0], "memberID:1 alarm:NOSPACE  memberID:176 alarm:CORRUPT "))
    one.env["ETCDOPS_KEEP"] = "1"
    one.put("etcd-cluster-20200103T000000Z-r1")


def no_folder(one: Member) -> None:
    one.env["ETCDOPS_DIR"] = f"{one.dir}/gone"


def full_disk(one: Member) -> None:
    one.program("sync", "#!/bin/sh\nexit 1\n")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (no_quorum, "without a quorum"),
        (no_snapshot, "etcd did not give the snapshot: Error: rpc error"),
        (stripped, "2048 bytes, which is no multiple of 512 and the 32"),
        (flipped, "its digest is not that of its content"),
        (stale, "of revision 42, and the cluster was at 43"),
        (unreadable, "cannot be read: Error: invalid database"),
        (no_room, "16 MiB free, 16 MiB needed"),
        (
            no_room_for_etcd,
            "1040 MiB needed as etcd itself has its data on that disk; set backup.schedule.dir to another",
        ),
        (corrupt, "the alarm CORRUPT is on"),
        (no_folder, "/gone is not there"),
        (full_disk, ""),
    ],
)
def test_a_failed_attempt_leaves_nothing(
    member: Callable[..., Member], fault: Callable[[Member], None], words: str
) -> None:
    one = member()
    one.makes()
    one.at(3)
    fault(one)
    one.fails(words)


def test_two_at_once(member: Callable[..., Member]) -> None:
    one = member()
    with subprocess.Popen(["flock", one.dir, "sh", "-c", "echo; read x"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout and holder.stdin
        holder.stdout.readline()
        one.fails("another one is under way")
        holder.stdin.close()


def test_what_a_killed_run_has_left_is_removed(member: Callable[..., Member]) -> None:
    one = member()
    (one.dir / ".part").mkdir()
    (one.dir / ".part/db.part").write_bytes(b"x")
    one.makes()
    assert len(one.files()) == 2


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash") if (Path("/bin") / shell).exists()])
def test_the_manifest_is_ours(member: Callable[..., Member], shell: str) -> None:
    one = member(2, leader=0)
    one.at(2)
    assert one.run(shell).returncode == 0
    (made,) = one.dir.glob("*.json")
    manifest = Manifest.read(made)
    db = one.dir / manifest.file
    assert db.exists()
    assert {path.stat().st_mode & 0o777 for path in (made, db)} == {0o600}
    assert set(json.loads(made.read_text())) == set(Manifest.model_fields)
    assert (manifest.size, manifest.sha256) == (len(snapshot()), hashlib.sha256(snapshot()).hexdigest())
    assert (manifest.stored_size, manifest.stored_sha256) == (manifest.size, manifest.sha256)
    assert (manifest.cluster, manifest.cluster_id, manifest.member) == ("etcd-cluster", "c1", "etcd03")
    assert (manifest.member_id, manifest.etcd_version) == ("fffffffffffffff0", "3.6.16")
    assert (manifest.revision, manifest.keys, manifest.hash) == (42, 7, None)
    assert [each.name for each in manifest.members] == ["etcd01", "etcd02", "etcd03"]
    assert manifest.members[0].peer_urls == ("https://192.0.2.0:2380",)


def test_names_and_urls_of_others_cannot_break_the_manifest(member: Callable[..., Member]) -> None:
    one = member()
    line = r'ff, started, "\x", https://a:2380,https://b:2380, https://a:2379, true'
    one.tell("members", members(line, "2, unstarted, , https://192.0.2.9:2380, , false").replace("etcd02", "a b"))
    one.at(1)  # of four voters... those that have started
    one.env["ETCDOPS_OFFSET"] = str(OFFSET_S + EVERY_S)
    one.makes()
    manifest = Manifest.read(next(one.dir.glob("*.json")))
    assert {each.name for each in manifest.members} == {"etcd01", "a b", "etcd03", "", r'"\x"'}
    by_name = {each.name: each for each in manifest.members}
    assert by_name[r'"\x"'].peer_urls == ("https://a:2380", "https://b:2380")
    assert by_name[""].client_urls == ()


def test_newest_revisions_that_compaction_has_removed(member: Callable[..., Member]) -> None:
    """They were deletions; the database ends before the cluster's revision, which has not moved since."""
    one = member()
    one.tell("found", '"Revision" : 0\n')
    one.makes()
    assert Manifest.read(next(one.dir.glob("*.json"))).revision == 41


def test_without_etcdutl_and_counts(member: Callable[..., Member]) -> None:
    """3.4."""
    one = member()
    (one.place / "bin/etcdutl").unlink()
    text = ETCDCTL.replace("'get '*) echo '\"Count\" : 7' ;;", "'snapshot status'*) cat \"$FAKE/found\" ;;")
    one.program("etcdctl", text)
    one.makes()
    assert Manifest.read(next(one.dir.glob("*.json"))).keys is None


def test_the_newest_stay_and_what_is_not_ours(member: Callable[..., Member]) -> None:
    one = member()
    others = [
        "notes.txt",
        "other-20200101T000000Z-r1.db",
        "other-20200101T000000Z-r1.json",
        "etcd-cluster-20200101T000000Z-r1.db",  # no manifest: no backup
        "etcd-cluster-20200102T000000Z-r1.json",  # no snapshot
        "etcd-cluster-20200103T000000Z-r1-copy.json",
        "etcd-cluster-20200103T000000Z-r1-copy.db",
        "etcd-cluster-x-20200103T000000Z-r1.json",
        "etcd-cluster-x-20200103T000000Z-r1.db",
    ]
    for name in others:
        (one.dir / name).write_text("")
    names = []
    for period in (0, 3, 6, 9):
        one.at(period)
        out = one.makes()
        names.append(out.split()[1].rstrip(":"))
    assert f"removed {names[1]}: the newest 2 stay" in out
    ours = {f"{name}.{kind}" for name in names[2:] for kind in ("db", "json")}
    assert set(one.files()) == {*others, *ours}


def test_what_is_dated_in_the_future_is_neither_counted_nor_removed(member: Callable[..., Member]) -> None:
    one = member()
    ahead = [one.put(f"etcd-cluster-{day}T000000Z-r{number}") for number, day in enumerate((29980101, 29990101))]
    made = []
    for period in (0, 3, 6):
        one.at(period)
        made.append(one.makes().split()[1].rstrip(":"))
        assert {f"{name}.json" for name in (*ahead, *made[-2:])} == set(one.files()) & {
            f"{name}.json" for name in (*ahead, *made)
        }
    one.at(-3)  # put back
    assert f"{one.makes().split()[1].rstrip(':')}.db" in one.files()
    assert len(one.files()) == 2 * (2 + 2 + 1)


def test_a_cluster_built_anew_does_not_push_out_what_was_in_it(member: Callable[..., Member]) -> None:
    """As after a loss of all data: same hosts, same name, same timers, and nothing in it."""
    one = member()
    made: dict[int, list[str]] = {}
    for period, cluster in enumerate((0xC1, 0xC1, 0xC11, 0xC11, *[0xFFFFFFFFFFFFFFF1] * 3)):
        one.at(3 * period)
        one.tell("status", status(IDS[0], IDS[0], cluster=cluster))
        made.setdefault(cluster, []).append(one.makes().split()[1].rstrip(":"))
    before, again, own = made.values()
    left = (before[-1], again[-1], *own[-2:])
    assert one.files() == sorted(f"{name}.{kind}" for name in left for kind in ("db", "json"))


def test_a_smaller_keep_makes_room(member: Callable[..., Member]) -> None:
    one = member()
    names = [one.put(f"etcd-cluster-2020010{day}T000000Z-r1") for day in range(1, 6)]
    one.tell("room", "0")
    assert one.run().returncode == 1
    assert one.files() == sorted(f"{name}.{kind}" for name in names[-2:] for kind in ("db", "json"))


def test_on_etcds_own_disk(member: Callable[..., Member]) -> None:
    one = member()
    one.env["FAKE_DISK"] = str(one.dir.stat().st_dev)
    one.tell("room", f"1 * {(1 << 30) + (16 << 20) + 2048 + 2048 + 204}")
    one.makes()


def test_under_a_full_quota(member: Callable[..., Member]) -> None:
    one = member()
    one.tell("status", status(IDS[0], IDS[0], "memberID:1 alarm:NOSPACE "))
    one.makes()


# What status says of it

NOW = 1_800_000_000
ARMED = "Id=etcdops-backup.timer\nActiveState=active\nResult=success\n"


def told(
    *,
    age: float | None = 1.0,
    since: float = 800.0,
    every: float = 6.0,
    units: str = ARMED,
    member: str = "etcd02",
    future: str = "",
) -> View:
    """What a host says, in hours."""
    text = f"now={NOW}\nsince={NOW - 900 * 3600}\nsince={NOW - int(since * 3600)}\nevery={int(every * 3600)}\n"
    text += f"future={future}\n{units}"
    if age is None:
        return View(schedule=text)
    manifest = Manifest(
        cluster="etcd-cluster",
        member=member,
        member_id="1",
        etcd_version="3.6.16",
        taken=datetime.fromtimestamp(NOW - int(age * 3600), UTC),
        revision=123,
        size=0,
        sha256=64 * "0",
        tool_version="1",
        stored_size=0,
        stored_sha256=64 * "0",
    )
    return View(schedule=text, backup=manifest.dump().decode())


IDLE = "\nId=etcdops-backup.service\nActiveState=inactive\nResult=success\n"
FAILED = "\nId=etcdops-backup.service\nActiveState=failed\nResult=exit-code\n"
STOPPED = ARMED.replace("active", "inactive", 1)
WHY = "; journalctl -u etcdops-backup on the hosts says why"

REPORTS: dict[str, tuple[list[View], str, list[str]]] = {
    "in time": ([told(age=2)], "backup: 2 h ago on etcd02, revision 123", []),
    "one unit active, one idle": ([told(age=2, units=ARMED + IDLE)], "backup: 2 h ago on etcd02, revision 123", []),
    "the newest of all hosts": (
        [told(age=8), told(age=2, member="etcd03"), told(age=None)],
        "backup: 2 h ago on etcd03, revision 123",
        [],
    ),
    "a little late": ([told(age=6.9)], "backup: 6 h ago on etcd02, revision 123", []),
    "too late": (
        [told(age=7.1)],
        "backup: 7 h ago on etcd02, revision 123",
        [f"the newest backup is 7 h old, and one is due every 6 h{WHY}"],
    ),
    "too late, of 15 minutes": (
        [told(age=0.32, every=0.25)],
        "backup: 19 min ago on etcd02, revision 123",
        [f"the newest backup is 19 min old, and one is due every 15 min{WHY}"],
    ),
    "old, but only just scheduled": ([told(age=700, since=6)], "backup: 29 d ago on etcd02, revision 123", []),
    "none yet": ([told(age=None, since=2)], "backup: none yet, one is due every 6 h", []),
    "none at all": (
        [told(age=None)],
        "backup: none yet, one is due every 6 h",
        [f"there is no backup, and one is due every 6 h{WHY}"],
    ),
    "a manifest that cannot be read": (
        [replace(told(), backup="{")],
        "backup: none yet, one is due every 6 h",
        [f"there is no backup, and one is due every 6 h{WHY}"],
    ),
    "not on all hosts": (
        [told(), View()],
        "backup: 60 min ago on etcd02, revision 123",
        ["etcd02: makes no backups, while others do; inv snapshot.schedule"],
    ),
    "timer stopped": (
        [told(units=STOPPED)],
        "backup: 60 min ago on etcd02, revision 123",
        ["etcd01: the timer of its backups does not run; inv snapshot.schedule"],
    ),
    "dated in the future, on one of two": (
        [told(age=700, future="etcd-cluster-29990101T000000Z-r9", units=STOPPED), told(age=30)],
        "backup: 30 h ago on etcd02, revision 123",
        [
            "etcd01: etcd-cluster-29990101T000000Z-r9 is dated in the future: is the clock of etcd01 right? "
            "Then delete that backup",
            "etcd01: the timer of its backups does not run; inv snapshot.schedule",
            f"the newest backup is 30 h old, and one is due every 6 h{WHY}",
        ],
    ),
    "failed": (
        [told(units=ARMED + FAILED)],
        "backup: 60 min ago on etcd02, revision 123",
        ["etcd01: its last backup failed; journalctl -u etcdops-backup on the host says why"],
    ),
}


@pytest.mark.parametrize(("views", "line", "reasons"), REPORTS.values(), ids=REPORTS.keys())
def test_report(views: list[View], line: str, reasons: list[str]) -> None:
    report = schedule.judge({f"etcd0{number}": view for number, view in enumerate(views, 1)})
    assert report
    assert (str(report).replace("1 h ago", "60 min ago"), list(report.reasons)) == (line, reasons)
    assert report.overdue == any("due every" in reason for reason in reasons)


SYSTEMCTL = """#!/bin/sh
printf 'Id=etcdops-backup.timer\nActiveState=active\n\nId=etcdops-backup.service\nActiveState=inactive\n'
"""


def answered(member: Member) -> View:
    """What files/schedule.sh says of the host of ``member``."""
    units = member.place / "units"
    units.mkdir(exist_ok=True)
    (units / "etcdops-backup.timer").write_text("")
    (units / "etcdops-backup.service").write_text(
        f"[Service]\nEnvironment=ETCDOPS_CLUSTER=etcd-cluster\nEnvironment=ETCDOPS_DIR={member.dir}\n"
        f"Environment=ETCDOPS_EVERY={EVERY_S}\n"
    )
    member.program("systemctl", SYSTEMCTL)
    script = layout.script("prelude", "schedule").replace("/etc/systemd/system", str(units))
    env = {"PATH": f"{member.place}/bin:{os.environ['PATH']}", "FAKE": str(member.place)}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    said = dict(line.removeprefix("answer\t").split("\t") for line in done.stdout.splitlines())
    text = {key: base64.b64decode(value).decode() for key, value in said.items()}
    return View(schedule=text["schedule"], backup=text.get("backup", ""))


def test_what_a_host_says(member: Callable[..., Member]) -> None:
    one = member()
    known = schedule.installed(answered(one))
    assert known
    assert (known.every, known.armed, known.failed) == (timedelta(seconds=EVERY_S), True, False)
    assert (known.newest, known.future) == (None, "")
    one.put("etcd-cluster-20200101T000000Z-r1")
    made = one.makes().split()[1].rstrip(":")
    one.put("etcd-cluster-29990101T000000Z-r9")
    one.put("etcd-cluster-x-29990102T000000Z-r9")
    (one.dir / "etcd-cluster-29990103T000000Z-r9.json").write_text("")
    one.at(0, late=7200)
    known = schedule.installed(answered(one))
    assert known and known.newest
    assert (known.newest.name, known.age) == (made, 2 * HOUR)
    assert known.future == "etcd-cluster-29990101T000000Z-r9"


def test_json_is_documented() -> None:
    report = schedule.judge({"etcd01": told()})
    assert report
    text = (layout.ROOT / "docs/json.md").read_text().partition("\nOf `backup`")[2].partition("\n## ")[0]
    assert {key for key in health._backup(report) if f"`{key}`" not in text} == set()


def test_no_schedule_no_report() -> None:
    assert schedule.judge({"etcd01": View(), "etcd02": View()}) is None


SPANS = {0: "0 s", -5: "0 s", 59: "59 s", 60: "1 min", 119: "119 s", 120: "2 min", 3600: "1 h", 5400: "90 min",
         7200: "2 h", 86400: "1 d", 129600: "36 h", 172800: "2 d", 604800: "7 d"}  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), SPANS.items(), ids=str)
def test_span(seconds: int, text: str) -> None:
    assert schedule.span(timedelta(seconds=seconds)) == text
