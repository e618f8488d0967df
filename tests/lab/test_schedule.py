"""Backups on a schedule, on real members: one a period whoever is away, nothing half-made, and status knows."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import prove
from tests.hosts import NAMES, Hosts, Project, members
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import leader

DIR = "/var/backups/etcd"
UNIT = "etcdops-backup.service"
START = f"systemctl start {UNIT}; systemctl show -P Result {UNIT}"
TRACES = "ls -d /usr/local/lib/etcdops /etc/systemd/system/etcdops-* /etc/systemd/system/*/etcdops-* 2>/dev/null; true"
INSTALLED = "cat /etc/systemd/system/etcdops-* /usr/local/lib/etcdops/backup; systemctl is-active etcdops-backup.timer"
DROP_IN = f"/run/systemd/system/{UNIT}.d/turn.conf"


def turns(hosts: Hosts, number: int) -> None:
    """``number`` periods later, as far as the script knows."""
    every, offset = (
        int(hosts.sh(NAMES[0], f"sed -n 's/.*ETCDOPS_{key}=//p' /etc/systemd/system/{UNIT}"))
        for key in ("EVERY", "OFFSET")
    )
    line = f"Environment=ETCDOPS_OFFSET={offset - number * every}"
    folder = Path(DROP_IN).parent
    hosts.each(f"mkdir -p {folder} && printf '[Service]\\n{line}\\n' >{DROP_IN} && systemctl daemon-reload")


def backups(hosts: Hosts) -> set[tuple[str, str]]:
    """Every whole backup: on which host, and its name."""
    found = set()
    for name, text in hosts.each(f"ls -A {DIR} 2>/dev/null; true").items():
        files = set(text.split())
        assert {file for file in files if not file.endswith((".db", ".json"))} == set()
        assert {Path(file).stem for file in files if file.endswith(".db")} == {
            Path(file).stem for file in files if file.endswith(".json")
        }
        found |= {(name, Path(file).stem) for file in files}
    return found


def run(hosts: Hosts, names: tuple[str, ...] = NAMES) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """The timer elapses on all members at once: how each run ended, and the backups that came of it."""
    before = backups(hosts)
    results = hosts.each(START, names)
    return results, backups(hosts) - before


def said(hosts: Hosts, name: str) -> str:
    """What the last run on a host put into the journal, and on a busy host whatever ran in the minute before."""
    return hosts.sh(
        name,
        # journald looks up whose line it is only when it gets to it: a script that has ended by then has no invocation
        f"journalctl --sync; id=$(systemctl show -P InvocationID {UNIT})\n"
        'said=$(journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$id")\n'
        f'[ -n "$said" ] || said=$(journalctl -q -o cat -u {UNIT} --since=-1min)\n'
        'printf "%s\n" "$said"',
    )


def one(hosts: Hosts, names: tuple[str, ...] = NAMES) -> str:
    """Who made the backup: exactly one did, and all ended well."""
    results, made = run(hosts, names)
    assert set(results.values()) == {"success"}, {name: said(hosts, name) for name in names}
    assert len(made) == 1, {name: said(hosts, name) for name in names}
    ((name, _),) = made
    return name


def whose(hosts: Hosts, name: str) -> None:
    """Let ``name`` have the turn."""
    for number in range(len(NAMES)):
        turns(hosts, number)
        if one(hosts) == name:
            hosts.each(f"rm -f {DIR}/*")
            return
    raise AssertionError(f"{name} never has the turn")


@contextlib.contextmanager
def configured(cluster: Project, **schedule: Any) -> Iterator[None]:
    cluster.config["backup"] = {"schedule": schedule}
    cluster.write()
    try:
        yield
    finally:
        del cluster.config["backup"]
        cluster.write()


@pytest.fixture
def scheduled(cluster: Project, hosts: Hosts) -> Iterator[Project]:
    """The shared cluster with a schedule, which it does not keep."""
    cluster.inv("snapshot.schedule").ok()
    yield cluster
    cluster.inv("snapshot.unschedule").ok()
    hosts.each(f"umount -l {DIR} 2>/dev/null; rm -rf {DIR} {Path(DROP_IN).parent}; systemctl daemon-reload")


@pytest.mark.parametrize(
    ("version", "tls", "ipv6", "user"),
    [
        ("3.4.23", True, False, "ops"),
        pytest.param("3.4.23", False, False, "root", marks=pytest.mark.chaos),
        pytest.param("3.6.16", False, True, "root", marks=pytest.mark.chaos),
    ],
)
def test_from_the_first_schedule_to_a_file_that_can_be_restored(
    project: NewProject, hosts: Hosts, tmp_path: Path, version: str, tls: bool, ipv6: bool, user: str
) -> None:
    new = project(version=version, tls=tls, members=members(ipv6=ipv6), ssh={"user": user})
    if ipv6:
        for each in new.config["members"]:
            each["ssh"] = f"198.18.40.{100 + int(each['name'][-1])}"
        new.write()
    new.inv("deploy").ok()
    assert new.inv("status", "--json").ok().json()["backup"] is None
    listed = new.inv("snapshot.schedule", "--dry-run").ok()
    assert set(hosts.each(TRACES).values()) == {""}
    done = new.inv("snapshot.schedule").ok()
    assert done.stdout.startswith("done: a backup every 6 h, the next at ")
    assert listed.stdout.count("systemctl restart etcdops-backup.timer") == 3
    assert new.inv("snapshot.schedule", "--dry-run").ok().lines == ["nothing to do"]
    before = hosts.listing()
    assert new.inv("snapshot.schedule").ok().stdout.startswith("nothing to do: ")
    assert hosts.listing() == before
    settled(new)

    assert set(hosts.each("systemctl is-enabled etcdops-backup.timer").values()) == {"enabled"}
    elapses = hosts.each(
        "date -u -d \"$(systemctl show -P NextElapseUSecRealtime etcdops-backup.timer)\" '+%F %H:%M UTC'"
    )
    assert {f"{each};" in done.stdout for each in elapses.values()} == {True}, elapses
    status = new.inv("status").ok()
    assert "backup: none yet, one is due every 6 h" in status.lines

    new.inv("put", "/key", "value").ok()
    made = []
    for number in range(3):
        turns(hosts, number)
        made.append(one(hosts))
    assert set(made) == set(NAMES)
    row = new.inv("status", "--json").ok().json()["backup"]
    newest = max(name for _, name in backups(hosts))  # of several members, if all was done within a second
    assert (row["member"], row["name"]) in {each for each in backups(hosts) if each[1] == newest}
    assert (row["every_s"], row["overdue"], row["reasons"]) == (21600, False, [])
    assert row["revision"] >= 2
    assert f"ago on {row['member']}, revision {row['revision']}" in new.inv("status").ok().stdout

    modes = hosts.sh(made[0], f"stat -c '%a %U' {DIR} {DIR}/*")
    assert modes.splitlines() == ["700 etcd", "600 etcd", "600 etcd"]
    ((_, name),) = [each for each in backups(hosts) if each[0] == made[-1]]
    for kind in ("json", "db"):
        text = hosts.sh(made[-1], f"base64 -w0 {DIR}/{name}.{kind}")
        subprocess.run(
            ["base64", "-d"], input=text.encode(), stdout=(tmp_path / f"{name}.{kind}").open("wb"), check=True
        )
    manifest = Manifest.read(tmp_path / f"{name}.json")
    manifest.describes(prove(tmp_path / f"{name}.db"), name)
    assert (manifest.name, manifest.etcd_version) == (name, version)
    assert {each.name for each in manifest.members} == set(NAMES)
    assert manifest.token
    assert manifest.keys == (None if version.startswith("3.4") else 1)


def test_bare_hosts(project: NewProject) -> None:
    project().refuses(3, "is not there yet", task=("snapshot.schedule",))
    assert project().inv("snapshot.unschedule").ok().lines == ["nothing to do"]


def test_the_timer_has_it_made(scheduled: Project, hosts: Hosts) -> None:
    folder = "/run/systemd/system/etcdops-backup.timer.d"
    lines = "[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/3\\n"  # every three seconds instead
    hosts.each(f"mkdir {folder}; printf '{lines}' >{folder}/often.conf; systemctl daemon-reload")
    try:
        hosts.each("systemctl restart etcdops-backup.timer")
        hosts.eventually(lambda: len(made_by_the_timer(hosts)) >= 2)
    finally:
        hosts.each(f"rm -r {folder}; systemctl daemon-reload; systemctl restart etcdops-backup.timer")
    hosts.eventually(lambda: "activating" not in hosts.each(f"systemctl is-active {UNIT}; true").values())
    assert len({name for name, _ in backups(hosts)}) == 1  # it is one member's turn all the while


def made_by_the_timer(hosts: Hosts) -> set[str]:
    return {file for text in hosts.each(f"cd {DIR} && ls *.json 2>/dev/null; true").values() for file in text.split()}


def test_leader_stands_in_for_a_member_that_is_down(scheduled: Project, hosts: Hosts) -> None:
    led = leader(scheduled)
    absent = next(name for name in NAMES if name != led)
    whose(hosts, absent)
    hosts.sh(absent, "systemctl stop etcd")
    assert one(hosts) == led
    assert f"{absent}, whose turn it is, does not answer" in said(hosts, led)
    assert "its etcd does not answer" in said(hosts, absent)
    scheduled.inv("start").ok()


def test_leader_that_is_killed_when_it_has_the_turn(scheduled: Project, hosts: Hosts) -> None:
    led = leader(scheduled)
    whose(hosts, led)
    hosts.lab.off(led)
    others = tuple(name for name in NAMES if name != led)
    try:
        hosts.eventually(lambda: any(name in others for name in leads(scheduled)))
        assert one_of(hosts, others) in others
    finally:
        hosts.lab.on(led)
    hosts.eventually(lambda: scheduled.inv("health").code == 0)
    hosts.eventually(lambda: hosts.sh(led, "systemctl is-active etcdops-backup.timer", check=False) == "active")


def leads(project: Project) -> list[str]:
    return [row["member"] for row in project.inv("status", "--json").json()["members"] if row["role"] == "leader"]


def one_of(hosts: Hosts, names: tuple[str, ...]) -> str:
    """As ``one``, while the other host is off."""
    results = hosts.each(START, names)
    assert set(results.values()) == {"success"}
    files = hosts.each(f"ls {DIR}", names)
    (name,) = [name for name, text in files.items() if text]
    return name


def test_member_that_is_cut_off_makes_none(scheduled: Project, hosts: Hosts) -> None:
    led = leader(scheduled)
    absent = next(name for name in NAMES if name != led)
    whose(hosts, absent)
    hosts.lab.cut(absent)
    try:
        ended = hosts.each(START)
        assert ended[led] == "success"
        assert {name for name, _ in backups(hosts)} == {led}
    finally:
        hosts.lab.heal(absent)
    hosts.eventually(lambda: scheduled.inv("health").code == 0)


def test_without_a_quorum_nobody_makes_one(scheduled: Project, hosts: Hosts) -> None:
    hosts.each("systemctl stop etcd", NAMES[:2])
    results, made = run(hosts)
    assert (set(results.values()), made) == ({"success"}, set())
    assert "no backup by this member: " in said(hosts, NAMES[2])
    scheduled.inv("start").ok()


def test_full_disk(scheduled: Project, hosts: Hosts) -> None:
    name = NAMES[1]
    whose(hosts, name)
    hosts.sh(name, f"mount -t tmpfs -o size=8M,mode=700,uid=$(id -u etcd),gid=$(id -g etcd) tmpfs {DIR}")
    results, made = run(hosts)
    assert (made, results[name]) == (set(), "exit-code")
    assert f"backup failed: no room in {DIR}: 8 MiB free" in said(hosts, name)
    assert hosts.sh(name, f"ls -A {DIR}") == ""
    reason = f"{name}: its last backup failed; journalctl -u etcdops-backup on the host says why"
    status = scheduled.inv("status", "--json").failed(5, reason).json()
    assert (status["healthy"], status["backup"]["overdue"], status["backup"]["reasons"]) == (True, False, [reason])
    turns(hosts, 1 + next(number for number in range(3) if turn(hosts, number) == name))
    hosts.each(f"rm -f {DIR}/*")  # one of the same second would have the same name
    assert one(hosts) != name
    scheduled.inv("status").ok()


def turn(hosts: Hosts, number: int) -> str:
    """Who has the turn after ``number`` periods."""
    turns(hosts, number)
    hosts.each(START)
    text = next(text for text in (said(hosts, name) for name in NAMES) if "'s turn" in text)
    return text.rpartition("it is ")[2].partition("'s turn")[0]


def test_status_tells_a_backup_that_is_too_old(scheduled: Project, hosts: Hosts) -> None:
    name = one(hosts)
    scheduled.inv("status").ok()
    hosts.sh(name, f'sed -i \'s/"taken": ".*"/"taken": "2026-01-01T00:00:00Z"/\' {DIR}/*.json')
    scheduled.inv("status").ok()  # it was scheduled a moment ago
    hosts.each("touch -d '1 day ago' /etc/systemd/system/etcdops-backup.*")
    done = scheduled.inv("status", "--json").failed(5, " d old, and one is due every 6 h")
    assert done.json()["backup"]["overdue"]
    assert f" d ago on {name}, revision " in scheduled.inv("status").failed(5).stdout
    one(hosts)
    scheduled.inv("status").ok()
    hosts.sh(name, "systemctl stop etcdops-backup.timer")
    scheduled.inv("status").failed(5, f"{name}: the timer of its backups does not run; inv snapshot.schedule")
    done = scheduled.inv("snapshot.schedule").ok()
    assert [line.split() for line in done.stderr.splitlines()[1:]] == [
        [name, "systemctl", "restart", "etcdops-backup.timer", "(does", "not", "run)"]
    ]
    scheduled.inv("status").ok()


def test_changed_schedule(scheduled: Project, hosts: Hosts) -> None:
    before = hosts.each(INSTALLED)
    with configured(scheduled, every="15m", keep=2, dir=f"{DIR}-2"):
        settled(scheduled)
        assert hosts.each(INSTALLED) == before
        scheduled.inv("snapshot.schedule").ok()
        assert scheduled.inv("snapshot.schedule").ok().stdout.startswith("nothing to do: a backup every 15 min")
        # its own instant may come just now, and would be a fifth
        hosts.each(f"systemctl stop etcdops-backup.timer {UNIT}; rm -rf {DIR}-2/*")
        made = set()
        for number in range(4):
            scheduled.inv("put", "/retention", str(number)).ok()
            results = hosts.each(START)
            assert set(results.values()) == {"success"}
            made |= {text for text in hosts.each(f"ls {DIR}-2/*.db 2>/dev/null; true").values() if text}
        kept = [text for text in hosts.each(f"ls {DIR}-2/*.db 2>/dev/null; true").values() if text]
        assert [len(text.split()) for text in kept] in ([2], [2, 2], [1, 2], [2, 1])  # one member's, or two periods
        assert len({name for text in made for name in text.split()}) == 4
    hosts.each(f"rm -rf {DIR}-2")


def test_unschedule(cluster: Project, hosts: Hosts) -> None:
    assert cluster.inv("snapshot.unschedule").ok().lines == ["nothing to do"]
    cluster.inv("snapshot.schedule").ok()
    one(hosts)
    kept = backups(hosts)
    listed = cluster.inv("snapshot.unschedule", "--dry-run").ok()
    assert listed.stdout.count("remove /") == 4 * 3
    assert set(hosts.each("systemctl is-active etcdops-backup.timer").values()) == {"active"}
    cluster.inv("snapshot.unschedule").ok()
    assert set(hosts.each(TRACES).values()) == {""}
    assert "etcdops" not in "".join(hosts.each("systemctl list-units --all 'etcdops-*' --no-legend").values())
    assert backups(hosts) == kept
    assert cluster.inv("snapshot.unschedule").ok().lines == ["nothing to do"]
    assert cluster.inv("status", "--json").ok().json()["backup"] is None
    hosts.each(f"rm -rf {DIR}")
