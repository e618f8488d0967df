"""recover on real members: hosts lost for good, a new cluster of what the others hold, and hosts that come back."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from etcdops.snapshots.manifest import Manifest
from tests.hosts import BARE, LISTING, NAMES, Done, Hosts, Project, members
from tests.lab import kept
from tests.lab.conftest import NewProject
from tests.lab.test_rolling import leader
from tests.lab.writer import Writer

SURVIVOR = "etcd02"
LOST = ("etcd01", "etcd03")
BUMP = 1_000_000_000
LEFTOVERS = (
    "ls -d /var/lib/etcd/restore-* /var/lib/etcd/restoring /var/lib/etcd/.etcdops-* 2>/dev/null; "
    "pgrep -af '[e]tcd --name salvage|[e]tcd --data-dir /var/lib/etcd/.etcdops'; true"
)
OWN = "--consistency=s get --prefix --keys-only /kept/"  # of the member itself: it answers without a quorum


@pytest.fixture
def ours(project: NewProject, tmp_path: Path) -> Project:
    """A cluster of the test's own, with a store of its own, and something in it."""
    return deployed(project(backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1}))


def deployed(new: Project) -> Project:
    new.inv("deploy").ok()
    kept.fill(new, "first")
    return new


def lose(project: Project, names: Sequence[str] = LOST) -> None:
    """The power of these hosts off, one after the other."""
    for name in names:
        project.hosts.lab.off(name)


def recover(project: Project, *words: str) -> Done:
    return project.inv("recover", "--yes", *words)


def rescues(project: Project) -> list[Manifest]:
    """What recover has saved, newest first."""
    rows = project.inv("snapshot.list", "--json").ok().json()["backups"]
    store = Path(project.config["backup"]["dir"])
    found = [Manifest.read(store / f"{row['name']}.json") for row in rows]
    return [each for each in found if each.purpose == "rescue"]


def nothing_left(hosts: Hosts, names: Sequence[str] = (SURVIVOR,)) -> None:
    """No trace of a recovery, but for what it has set aside."""
    found: dict[str, str] = {}
    try:
        hosts.eventually(lambda: found.update(hosts.each(LEFTOVERS, names)) or set(found.values()) == {""})
    except AssertionError:
        raise AssertionError(found) from None


def is_recovered(
    project: Project, keys: set[str], old: int, names: Sequence[str] = (SURVIVOR,), *, bump: int = BUMP
) -> None:
    """A cluster of just ``names``, another than ``old``, with all of ``keys``; nothing is left of the way there."""
    ids = {kept.cluster_id(project, name) for name in names}
    assert len(ids) == 1
    assert ids != {old}
    for name in names:
        assert keys - set(kept.keys(project, name)) == set(), name
        assert kept.revision(project, name) >= bump
    listed = json.loads(project.etcdctl(names[0], "member list --write-out=json"))["members"]
    assert {each["name"] for each in listed} == set(names)
    identities = project.hosts.each("cat /etc/etcd/identity.json", names)
    assert {int(json.loads(text)["cluster_id"], 16) for text in identities.values()} == ids
    assert len({json.loads(text)["token"] for text in identities.values()}) == 1
    project.etcdctl(names[-1], "put /after recovery")
    nothing_left(project.hosts, names)


def settled_on(project: Project, name: str) -> None:
    """``name`` can commit, again."""
    project.hosts.eventually(
        lambda: "is healthy" in project.etcdctl(name, "--command-timeout=1s endpoint health 2>&1; true")
    )


def runs(hosts: Hosts, *names: str) -> None:
    """etcd does, on each of them; it answers nobody there, since it was started without a quorum."""
    hosts.eventually(lambda: "0" not in hosts.each("systemctl show etcd -P MainPID", names).values())


def refuses(
    project: Project, *words: str, task: Sequence[str] = ("recover", "--yes"), names: Sequence[str] = (SURVIVOR,)
) -> None:
    """Exit 3 with ``words``, and nothing is changed on the hosts that are on, ``names``."""
    before = project.hosts.each(LISTING, names)
    project.inv(*task).failed(3, *words)
    assert project.hosts.each(LISTING, names) == before


def test_two_of_three_hosts_are_lost(ours: Project, hosts: Hosts) -> None:
    old = kept.cluster_id(ours)
    token = json.loads(hosts.sh(SURVIVOR, "cat /etc/etcd/identity.json"))["token"]
    with Writer(ours) as writer:
        hosts.eventually(lambda: len(writer.acknowledged) > 100)
        hosts.lab.off("etcd01")
        seen = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > seen + 2)  # the survivor has what was before
        hosts.lab.off("etcd03")
    keys = set(writer.acknowledged) | {f"{kept.PREFIX}first/{n:03d}" for n in range(30)}
    before = kept.revision(ours, SURVIVOR)
    inode = hosts.sh(SURVIVOR, "stat -c %i /var/lib/etcd/default.etcd")

    done = recover(ours).ok()
    for name in LOST:
        assert f"lost: {name}: 198.18.40." in done.stderr
        assert re.search(rf"warning: not in the new cluster: .*{name}", done.stderr)
    said = re.search(
        r"etcd02: log to term (\d+), index (\d+), of which (\d+) were known as committed; revision (\d+)", done.stderr
    )
    assert said, done
    assert before <= int(said[4])
    assert int(said[3]) <= int(said[2])
    assert done.stdout.startswith("recovered in ")
    assert "1 member healthy" in done.stdout
    is_recovered(ours, keys, old, bump=BUMP + before)
    assert token != json.loads(hosts.sh(SURVIVOR, "cat /etc/etcd/identity.json"))["token"]

    # What it was lies beside it, and in the store.
    (rescue,) = rescues(ours)
    assert (rescue.member, rescue.revision, rescue.cluster_id) == (SURVIVOR, int(said[4]), f"{old:x}")
    assert (rescue.keys or 0) >= len(keys)
    assert rescue.token == token
    (aside,) = hosts.sh(SURVIVOR, "ls -d /var/lib/etcd/aside-*").splitlines()
    assert hosts.sh(SURVIVOR, f"stat -c %i {aside}/default.etcd") == inode
    ours.inv("snapshot.verify", rescue.name, "--drill").ok()

    # It says who is missing, and there is nothing to recover any more.
    status = ours.inv("status", "--json").failed(4, "etcd01: ", "etcd03: ").json()
    assert [row["role"] for row in status["members"]] == ["unreachable", "leader", "unreachable"]
    assert not status["healthy"]
    recover(ours).failed(3, "etcd02 can commit: the cluster has its quorum")

    # The others again, as it has said, while clients write.
    all_, ours.config["members"] = ours.config["members"], members(SURVIVOR)
    ours.write()
    with Writer(ours) as writer:
        for each in all_:
            if each["name"] in LOST:
                hosts.lab.on(each["name"])
                hosts.sh(each["name"], BARE)
                ours.inv("add-member", each["name"], f"--address={each['address']}").ok()
    assert writer.lost() == {}
    ours.config["members"] = all_
    ours.healthy()


def test_what_is_in_the_write_ahead_log_alone_is_not_lost(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    never = {"backend-batch-interval": "1h", "backend-batch-limit": 1_000_000}
    ours = deployed(
        project(backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1}, cluster={"settings": never})
    )
    old = kept.cluster_id(ours)
    with Writer(ours) as writer:
        hosts.eventually(lambda: len(writer.acknowledged) > 100)
        hosts.lab.off("etcd01")
        seen = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > seen + 2)
        hosts.lab.off("etcd03")
    hosts.sh(SURVIVOR, "systemctl kill --signal=KILL etcd")
    hosts.sh(SURVIVOR, "! grep -aq /written/ /var/lib/etcd/default.etcd/member/snap/db")
    recover(ours).ok()
    is_recovered(ours, set(writer.acknowledged), old)


@pytest.mark.parametrize("version", ["3.4.23", "3.6.16"])
def test_what_the_survivor_did_not_know_as_agreed_is_not_lost(
    project: NewProject, hosts: Hosts, tmp_path: Path, version: str
) -> None:
    """The last entries of a log may have been acknowledged by those that are lost: it is told with the next."""
    ours = deployed(project(version=version, backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1}))
    old = kept.cluster_id(ours)
    member = kept.status(ours, SURVIVOR)["header"]["member_id"]
    ours.etcdctl(leader(ours), f"move-leader {member:x}")
    for name in LOST:
        hosts.lab.cut(name)
    ours.etcdctl(SURVIVOR, "--command-timeout=1s put /last written 2>&1; true")
    lose(ours)
    done = recover(ours).ok()
    said = re.search(r"index (\d+), of which (\d+) were known", done.stderr)
    assert said
    assert int(said[2]) < int(said[1])
    is_recovered(ours, {"/last"}, old, bump=0)


@pytest.mark.parametrize(
    ("version", "tls"),
    [
        ("3.4.23", True),
        pytest.param("3.5.30", False, marks=pytest.mark.chaos),
        pytest.param("3.7.3", True, marks=pytest.mark.chaos),
    ],
)
def test_every_release(project: NewProject, hosts: Hosts, tmp_path: Path, version: str, tls: bool) -> None:
    ours = deployed(
        project(version=version, tls=tls, backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1})
    )
    keys, old = set(kept.keys(ours)), kept.cluster_id(ours)
    lose(ours)
    recover(ours).ok()
    is_recovered(ours, keys, old, bump=0 if version == "3.4.23" else BUMP)
    for name in LOST:
        hosts.lab.on(name)
    hosts.each("systemctl disable --now etcd", LOST)
    ours.inv("backup").ok()
    ours.inv("restore", "latest", "--yes").ok()
    is_recovered(ours, keys, old, NAMES, bump=0 if version == "3.4.23" else BUMP)
    ours.healthy()


# Refused, and nothing is changed


def test_refused_while_the_cluster_is_healthy(cluster: Project) -> None:
    refuses(cluster, "etcd01, etcd02, etcd03 can commit: the cluster has its quorum", names=NAMES)


def test_refused_while_enough_hosts_have_their_data(ours: Project, hosts: Hosts) -> None:
    hosts.each("systemctl stop etcd", LOST)
    said = "etcd01, etcd02, etcd03 have their data, and 2 of 3 are a quorum: nothing is lost"
    refuses(ours, said, "inv start", names=NAMES)
    hosts.lab.off("etcd03")
    refuses(ours, "etcd01, etcd02 have their data, and 2 of 3 are a quorum", names=("etcd01", "etcd02"))


def test_nobody_is_left(ours: Project, hosts: Hosts) -> None:
    lose(ours)
    hosts.sh(SURVIVOR, BARE)
    refuses(ours, "no host that can be reached has data", "inv restore")
    lose(ours, [SURVIVOR])
    recover(ours).failed(4, "etcd01: ", "etcd02: ", "etcd03: ")


def test_a_host_that_answers_is_not_lost(ours: Project, hosts: Hosts) -> None:
    """Where SSH lets nobody in, etcd may well run: a quorum, even."""
    hosts.sh("etcd01", "mv /root/.ssh/authorized_keys /root/.ssh/away")
    lose(ours, ["etcd03"])
    try:
        recover(ours).failed(4, "etcd01: ", "take it out of config.yaml")
        assert kept.keys(ours, SURVIVOR)
    finally:
        hosts.sh("etcd01", "mv /root/.ssh/away /root/.ssh/authorized_keys")


@pytest.mark.chaos
def test_asked_first_and_rehearsed(ours: Project, hosts: Hosts) -> None:
    lose(ours)
    refuses(ours, "refused: this needs a yes", "--yes says it beforehand", task=("recover",))
    before = hosts.sh(SURVIVOR, "systemctl show etcd --property=MainPID,ActiveState; ls -la /var/lib/etcd")
    listed = ours.inv("recover", "--dry-run").ok()
    assert all(line.startswith("etcd02  ") for line in listed.lines)
    assert "systemctl stop etcd" in listed.stdout
    pki, away = ours.folder / "pki", ours.folder / "away"
    pki.rename(away)  # new CAs would cut every client off
    refuses(ours, "/etc/etcd/ssl/ca.pem there does not hold the CA that issues in pki.dir here")
    away.rename(pki)
    prompt = "Type 'test' to go on:"
    done = ours.terminal("recover", answers={prompt: "yes"})
    assert (done.code, "refused: not confirmed; nothing was changed" in done.stdout) == (3, True)
    assert hosts.sh(SURVIVOR, "systemctl show etcd --property=MainPID,ActiveState; ls -la /var/lib/etcd") == before
    assert rescues(ours) == []
    keys = set(ours.etcdctl(SURVIVOR, OWN).split())
    done = ours.terminal("recover", answers={prompt: "test"}).ok()
    assert "Give up etcd01, etcd03 and make a new cluster test of what etcd02 holds" in done.stdout
    assert keys <= set(kept.keys(ours, SURVIVOR))


def test_no_room_for_a_copy(ours: Project, hosts: Hosts) -> None:
    hosts.sh(
        SURVIVOR,
        "systemctl stop etcd && mv /var/lib/etcd /var/lib/etcd-was && mkdir -m 700 /var/lib/etcd && "
        "mount -t tmpfs -o size=150m,mode=700 tmpfs /var/lib/etcd && cp -a /var/lib/etcd-was/. /var/lib/etcd && "
        "rm -rf /var/lib/etcd-was && systemctl start etcd",
    )
    ours.inv("health").ok()
    keys = ours.etcdctl(SURVIVOR, OWN)
    lose(ours)
    done = recover(ours).failed(4, "etcd02: ", "MiB needed for a copy and a snapshot")
    assert "inv restore with the newest backup" not in done.stderr.splitlines()[-1]
    nothing_left(hosts)
    runs(hosts, SURVIVOR)
    assert rescues(ours) == []
    hosts.lab.on("etcd01")  # and it had better: the others come back
    settled_on(ours, SURVIVOR)
    assert ours.etcdctl(SURVIVOR, OWN) == keys


# More than one host is there


def test_a_new_host_beside_the_survivor_is_a_member_too(ours: Project, hosts: Hosts) -> None:
    keys, old = set(kept.keys(ours)), kept.cluster_id(ours)
    lose(ours, ["etcd01"])
    hosts.sh("etcd03", BARE)
    done = recover(ours).ok()
    assert "2 members healthy" in done.stdout
    is_recovered(ours, keys, old, ("etcd02", "etcd03"))
    assert hosts.sh("etcd03", "ls -d /var/lib/etcd/aside-* 2>/dev/null; true") == ""


@pytest.mark.chaos
def test_three_of_five_hosts_are_lost_and_come_back(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    """The furthest of two survivors; then the old cluster beside the new one, and the documented way out."""
    with hosts.more(5) as five:
        ours = deployed(project(backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1}, members=five))
        old, all_ = kept.cluster_id(ours), [each["name"] for each in five]
        lost = ["etcd01", "etcd03", "etcd05"]
        hosts.lab.off("etcd02")
        settled_on(ours, "etcd04")
        kept.fill(ours, "last", name="etcd04")
        keys = set(kept.keys(ours, "etcd04"))
        lose(ours, lost)
        hosts.eventually(lambda: not kept.status(ours, "etcd04").get("leader"))  # it would send them to etcd02
        hosts.lab.on("etcd02")
        done = recover(ours).ok()
        assert "etcd04 goes furthest" in done.stderr
        is_recovered(ours, keys, old, ("etcd02", "etcd04"))
        saved = {each.member: each.revision for each in rescues(ours)}
        assert set(saved) == {"etcd02", "etcd04"}
        assert saved["etcd02"] < saved["etcd04"]
        assert set(hosts.each("ls -d /var/lib/etcd/aside-* | wc -l", ("etcd02", "etcd04")).values()) == {"1"}

        hosts.lab.on("etcd01")  # alone it waits
        hosts.eventually(lambda: hosts.sh("etcd01", "systemctl is-active etcd; true") == "activating")
        assert "etcd01: " in ours.inv("status").failed(4, "etcd03: ", "etcd05: ").stdout + done.stderr
        assert '"etcd01"' not in ours.etcdctl("etcd02", "member list --write-out=json")
        hosts.lab.on("etcd03")
        hosts.lab.on("etcd05")
        settled_on(ours, "etcd01")
        assert kept.cluster_id(ours, "etcd01") == old
        ours.inv("status").failed(5, "the members are in different clusters")
        ours.inv("backup").failed(5, "no backup: the members run in different clusters", f"etcd01: {old:x}")
        for task in ("restart", "recover", "deploy"):
            ours.inv(task).failed(3, "the members run in different clusters", f"etcd01: {old:x}", "docs/recover.md")
        hosts.each("systemctl disable --now etcd", lost)
        ours.config["members"] = [each for each in five if each["name"] not in lost]
        ours.write()
        ours.inv("backup").ok()
        hosts.each("mv /var/lib/etcd/default.etcd /var/lib/etcd/default.etcd.old", lost)
        for each in five:
            if each["name"] in lost:
                ours.inv("add-member", each["name"], f"--address={each['address']}").ok()
        ours.config["members"] = five
        is_recovered(ours, keys, old, all_)
        ours.healthy()
        assert "nothing to do" in ours.inv("deploy").ok().stdout


@pytest.mark.chaos
def test_the_furthest_cannot_be_saved(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    """Another survivor, which is behind, is no substitute that is taken without a word."""
    with hosts.more(5) as five:
        ours = deployed(project(backup={"dir": str(tmp_path / "store")}, ssh={"connect_timeout": 1}, members=five))
        old = kept.cluster_id(ours)
        early = set(kept.keys(ours))
        hosts.lab.off("etcd02")
        settled_on(ours, "etcd04")
        kept.fill(ours, "last", name="etcd04")
        lose(ours, ["etcd01", "etcd03", "etcd05"])
        hosts.eventually(lambda: not kept.status(ours, "etcd04").get("leader"))  # it would send them to etcd02
        hosts.lab.on("etcd02")
        hosts.put("etcd04", "/usr/local/sbin/cp", "#!/bin/sh\nexit 1")
        recover(ours).failed(4, "etcd04: the data cannot be copied", "take it out of config.yaml")
        nothing_left(hosts, ("etcd02", "etcd04"))
        runs(hosts, "etcd02", "etcd04")
        ours.config["members"] = [each for each in five if each["name"] != "etcd04"]
        ours.write()
        recover(ours).ok()
        is_recovered(ours, early, old, ("etcd02",))


# Killed at every step, and the same again

MOMENTS: dict[str, tuple[str, str]] = {
    "reading the log": ("cat", "case $* in *.wal*) true ;; *) false ;; esac"),
    "copying": ("cp", "true"),
    "starting the copy": ("nice", "true"),
    "sending": ("cat", "case $* in *.etcdops-salvage*) true ;; *) false ;; esac"),
    "staging": ("chown", "case $* in *restore-*) true ;; *) false ;; esac"),
    "before the swap": ("tar", "case $* in *old/host.tar*) true ;; *) false ;; esac"),
    "old data going": ("mv", "case $* in *old/default.etcd*) true ;; *) false ;; esac"),
    "new data coming": ("mv", "case $* in *new/default.etcd*) true ;; *) false ;; esac"),
    "configuration": ("mv", "case $* in *etcd.conf*) true ;; *) false ;; esac"),
    "release": ("rm", '[ "$*" = "-f -- /var/lib/etcd/restoring" ]'),
    "start": ("timeout", "case $* in *systemctl*start*) true ;; *) false ;; esac"),
    "check": ("etcdctl", "case $* in *hashkv*) true ;; *) false ;; esac"),
    "joined": ("mv", "case $* in *identity.json*) true ;; *) false ;; esac"),
    "setting aside": ("mv", "case $* in */aside-*) true ;; *) false ;; esac"),
    "end": ("rm", 'case $* in "-rf -- /var/lib/etcd/restore-"*) true ;; *) false ;; esac'),
}
SAVED = "/var/lib/etcd-saved"  # BARE deletes it, and so whatever else has been on the hosts since
SAVE = f"systemctl stop etcd; mkdir {SAVED} && cp -a /var/lib/etcd {SAVED}/data && cp -a /etc/etcd {SAVED}/conf"
AGAIN = (
    "systemctl stop etcd; rm -rf /var/lib/etcd /etc/etcd /usr/local/sbin/* /usr/bin/etcdctl /run/etcdops-hold; "
    f"cp -a {SAVED}/data /var/lib/etcd && cp -a {SAVED}/conf /etc/etcd && systemctl start --no-block etcd"
)
# What runs on a host for a task: the connection is gone with the task, and the script is not.
KILL_SCRIPTS = "for pid in $(pgrep -f '^timeout (-k 5|100) '); do kill -9 -$pid; done; true"


@dataclass(frozen=True)
class LostForGood:
    """A cluster of which only the survivor is left, and what it was."""

    project: Project
    keys: set[str]
    id: int


@pytest.fixture(scope="module")
def remembered() -> list[LostForGood]:
    """The one that tests share, if there is one already."""
    return []


@pytest.fixture
def lost(remembered: list[LostForGood], hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> LostForGood:
    """As if the others had been lost just now."""
    folder = tmp_path_factory.mktemp("lost")
    if not remembered or not hosts.pid(SURVIVOR) or not hosts.sh(SURVIVOR, f"ls -d {SAVED} 2>/dev/null; true"):
        hosts.bare()
        new = deployed(Project(hosts, folder, backup={"dir": str(folder / "store")}, ssh={"connect_timeout": 1}))
        remembered[:] = [LostForGood(new, set(kept.keys(new)), kept.cluster_id(new))]
        lose(new)
        hosts.sh(SURVIVOR, SAVE)
    (state,) = remembered
    state.project.config["backup"] = {"dir": str(folder / "store")}
    state.project.write()
    hosts.sh(SURVIVOR, AGAIN)
    return state


def stopped_at(lost: LostForGood, moment: str, number: signal.Signals) -> Done:
    """A recovery that gets a signal while it is at ``moment``; with SIGKILL all that it runs on the host ends, too."""
    hosts, (program, when) = lost.project.hosts, MOMENTS[moment]
    if program == "etcdctl":
        hosts.sh(SURVIVOR, "ln -sf /usr/local/bin/etcdctl /usr/bin/etcdctl")
    held = hosts.hold(SURVIVOR, program, when=when)
    run = lost.project.start("recover", "--yes")
    try:
        held.reached()
        run.signal(number)
        if number == signal.SIGKILL:
            hosts.sh(SURVIVOR, KILL_SCRIPTS)
    finally:
        held.release()
        done = run.end()
        hosts.sh(SURVIVOR, f"rm -f /usr/local/sbin/{program} /usr/bin/etcdctl")
    return done


@pytest.mark.chaos
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again(lost: LostForGood, hosts: Hosts, moment: str) -> None:
    assert stopped_at(lost, moment, signal.SIGKILL).code == -signal.SIGKILL
    assert all(line.startswith("etcd02  ") for line in lost.project.inv("recover", "--dry-run").ok().lines)
    recover(lost.project).ok()
    is_recovered(lost.project, lost.keys, lost.id)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["copying", "staging", "new data coming", "check"])
def test_interrupted_the_survivor_is_as_it_was(lost: LostForGood, hosts: Hosts, moment: str) -> None:
    inode = hosts.sh(SURVIVOR, "stat -c %i /var/lib/etcd/default.etcd")
    done = stopped_at(lost, moment, signal.SIGINT).failed(130)
    assert "etcd02: the data is as it was, and so is etcd" in done.stderr
    assert hosts.sh(SURVIVOR, "stat -c %i /var/lib/etcd/default.etcd") == inode
    runs(hosts, SURVIVOR)
    nothing_left(hosts)
    recover(lost.project).ok()
    is_recovered(lost.project, lost.keys, lost.id)


@pytest.mark.chaos
def test_a_quorum_that_comes_back_ends_it(ours: Project, hosts: Hosts) -> None:
    """Before the swap of a run that is at work; and after one that was killed, which had stopped what is there."""
    keys, old = kept.keys(ours), kept.cluster_id(ours)
    lose(ours)
    held = hosts.hold(SURVIVOR, *MOMENTS["staging"])
    run = ours.start("recover", "--yes")
    held.reached()
    hosts.lab.on("etcd01")
    held.release()
    run.end().failed(3, "etcd01 can be reached again, and may have the old data")
    nothing_left(hosts)
    settled_on(ours, SURVIVOR)

    lose(ours, ["etcd01"])
    held = hosts.hold(SURVIVOR, *MOMENTS["copying"])
    run = ours.start("recover", "--yes")
    held.reached()
    run.signal(signal.SIGKILL)
    hosts.sh(SURVIVOR, KILL_SCRIPTS)
    held.release()
    run.end()
    hosts.sh(SURVIVOR, "rm -f /usr/local/sbin/*")
    hosts.lab.on("etcd01")
    listed = ours.inv("recover", "--dry-run").ok()
    assert listed.lines == ["etcd02  give up the recovery that was cut short; systemctl start etcd"]
    done = recover(ours).ok()
    assert "the recovery that was cut short is given up, and etcd starts on etcd02" in done.stdout
    assert hosts.sh(SURVIVOR, "ls /var/lib/etcd").split() == ["default.etcd"]  # a copy begins with a dot
    settled_on(ours, SURVIVOR)
    assert (kept.keys(ours, SURVIVOR), kept.cluster_id(ours, SURVIVOR)) == (keys, old)


@pytest.mark.chaos
def test_the_new_cluster_does_not_come_up(lost: LostForGood, hosts: Hosts) -> None:
    """Its etcd cannot start: the survivor is as it was."""
    hosts.put(
        SURVIVOR,
        "/etc/systemd/system/etcd.service.d/broken.conf",
        "[Service]\nExecStartPre=/bin/sh -c '[ -e /etc/etcd/identity.json ]'",
        0o644,
    )
    hosts.sh(SURVIVOR, "systemctl daemon-reload")
    done = recover(lost.project)
    hosts.sh(SURVIVOR, "rm -r /etc/systemd/system/etcd.service.d && systemctl daemon-reload")
    assert done.code in (1, 4), done
    assert "the data is as it was" in done.stderr
    nothing_left(hosts)
    recover(lost.project).ok()
    is_recovered(lost.project, lost.keys, lost.id)


# What is set aside


def test_what_is_set_aside_is_listed_and_dropped_by_name(lost: LostForGood, hosts: Hosts) -> None:
    project = lost.project
    recover(project).ok()
    project.config["members"] = [each for each in members() if each["name"] == SURVIVOR]
    project.write()
    try:
        (row,) = project.inv("snapshot.list", "--set-aside", "--json").ok().json()
        assert (row["host"], row["size"] > 1 << 20, row["age_s"] < 600) == (SURVIVOR, True, True)
        name = row["name"]
        assert name in project.inv("snapshot.list", "--set-aside").ok().stdout
        folder = f"/var/lib/etcd/aside-{name}"
        assert hosts.sh(SURVIVOR, f"ls {folder}").split() == ["default.etcd", "etc"]
        for wrong in ("nonsense", "*", ".", f"{name}/..", "../etcd", name[:-1]):
            project.inv("snapshot.drop", wrong, "--yes").failed(2, f"nothing is set aside as {wrong} on any host")
        project.inv("snapshot.drop").failed(2)
        listed = project.inv("snapshot.drop", name, "--dry-run").ok()
        assert listed.lines == [f"etcd02  delete {folder}"]
        project.inv("snapshot.drop", name).failed(3, "refused: this needs a yes", name)
        done = project.terminal("snapshot.drop", name, answers={"[yes/no]": "no"})
        assert (done.code, "nothing was changed" in done.stdout) == (3, True)
        assert hosts.sh(SURVIVOR, f"ls -d {folder}")
        project.terminal("snapshot.drop", name, answers={"[yes/no]": "yes"}).ok()
        assert hosts.sh(SURVIVOR, "ls -d /var/lib/etcd/aside-* 2>/dev/null; true") == ""
        assert "nothing is set aside on any host" in project.inv("snapshot.list", "--set-aside").ok().stdout
        assert lost.keys <= set(kept.keys(project, SURVIVOR))
    finally:
        project.config["members"] = members()
        project.write()
