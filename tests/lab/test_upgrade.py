"""Another release on real hosts, from 3.4 to 3.7 and back, while clients write."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.test_restart import left, watched
from tests.lab.test_rolling import PROCESS, leader
from tests.lab.writer import Writer

RUNS = "readlink /proc/$(systemctl show etcd -P MainPID)/exe"


BREAK = "mv {0} {0}.good && printf '#!/bin/sh\\necho broken by hand >&2\\nexit 1\\n' >{0} && chmod 755 {0}"
MEND = "mv {0}.good {0}; rm -f /usr/local/sbin/timeout"
AT_RESTART = '[ "$2" = systemctl ] && [ "$3" = restart ]'


def archives(hosts: Hosts, *versions: str) -> dict[str, str]:
    """The release section for all of these."""
    folders = {hosts.archive(version).parent for version in versions}
    (folder,) = folders
    return {"archive": f"{folder}/etcd-v{{version}}-linux-{{arch}}.tar.gz"}


def on(hosts: Hosts) -> set[str]:
    """The releases that run."""
    return {Path(path).parent.name for path in hosts.each(RUNS).values()}


def written(project: Project) -> Any:
    """config.yaml as it stands now."""
    return json.loads((project.folder / "config.yaml").read_text())


def goes(project: Project, hosts: Hosts, task: str, to: str) -> None:
    """One change of release under two kinds of writes: none fails for who tries again, and none is lost."""
    with Writer(project) as writer:
        done = project.start(task, f"--to={to}", "--json").end(600)
    watched(done)
    print(f"{task} to {to}: {done.seconds:.0f} s, {len(writer.acknowledged)} writes of a client\n{done.stderr}")
    assert writer.lost() == {}
    assert on(hosts) == {to}
    assert written(project)["cluster"]["version"] == to
    project.config["cluster"] = written(project)["cluster"]
    project.healthy()
    done = project.inv("deploy").ok()
    assert "nothing to do" in done.stdout, done


def test_from_3_4_to_3_7_and_back(project: NewProject, hosts: Hosts) -> None:
    stops = ("3.4.23", "3.5.16", "3.5.35", "3.6.16", "3.7.3", "3.5.30")
    new = project(version="3.4.23", release=archives(hosts, *stops))
    new.config["cluster"]["settings"] = {"experimental-compaction-batch-limit": 500}
    new.write()
    new.inv("deploy").ok()
    for to in ("3.5.16", "3.6.16", "3.7.3"):
        goes(new, hosts, "upgrade", to)
    assert written(new)["cluster"]["settings"] == {"compaction-batch-limit": 500}
    for to in ("3.6.16", "3.5.30"):
        goes(new, hosts, "downgrade", to)
    assert written(new)["cluster"]["settings"] == {"experimental-compaction-batch-limit": 500}
    assert left(new) == (0, 0)
    assert len(list((new.folder / "backups").glob("*.db"))) == 6


def test_what_cannot_be_is_said_before_anything_is_done(cluster: Project, hosts: Hosts) -> None:
    before = hosts.each(PROCESS)
    cluster.inv("upgrade", "--to=soon").failed(2, "--to=soon: ")
    cluster.inv("upgrade", "--to=3.5.35").failed(2, "3.5.35 is older than 3.6.16, which runs; inv downgrade")
    cluster.inv("downgrade", "--to=3.7.3").failed(2, "3.7.3 is newer than 3.6.16, which runs; inv upgrade")
    cluster.inv("downgrade", "--to=3.4.23").failed(3, "etcd has no way back from 3.5 to 3.4")
    cluster.inv("downgrade", "--to=3.5.1").failed(3, "etcd 3.5.1 loses data")
    cluster.inv("upgrade", "--to=3.7.3").failed(3, "release.archive in config.yaml names one archive")
    assert "nothing to do: 3.6.16" in cluster.inv("upgrade", "--to=3.6.16", "--no-canary").ok().stdout
    with cluster.changed("release", **archives(hosts, "3.6.16", "3.7.3")):
        (hop,) = cluster.inv("upgrade", "--to=3.7.3", "--plan", "--json").ok().json()["hops"]
        assert (hop["from"], hop["to"], hop["way_back"]) == ("3.6.16", "3.7.3", "inv downgrade --to=3.6.16")
        listed = cluster.inv("upgrade", "--to=3.7.3", "--dry-run").ok().lines
        assert "etcd02  /opt/etcd/3.7.3/  (new)" in listed
        assert "etcd02  systemctl restart etcd  (etcd 3.6.16 -> 3.7.3)" in listed
        with cluster.changed("cluster", settings={"heartbeat-interval": "soon"}):
            done = cluster.inv("upgrade", "--to=3.7.3", "--no-canary")
            done.failed(3, "etcd 3.7.3 does not take the configuration", 'invalid value "soon" for ETCD_HEARTBEAT')
    assert hosts.each(PROCESS) == before
    cluster.healthy()


def test_member_that_does_not_run_with_it_gets_the_old_release_again(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.6.14", release=archives(hosts, "3.6.14", "3.6.16"))
    new.inv("deploy").ok()
    first = sorted(set(NAMES) - {leader(new)})[0]
    program = "/opt/etcd/3.6.16/etcd"
    held = hosts.hold(first, "timeout", when=AT_RESTART)
    with Writer(new) as writer:
        run = new.start("upgrade", "--to=3.6.16")
        held.reached()
        hosts.sh(first, BREAK.format(program))  # it has answered for its configuration before
        held.release()
        failed = run.end(300).failed(4, f"{first}: did not come back with etcd 3.6.16: ", "it is back to etcd 3.6.14; ")
    assert "broken by hand" in failed.stderr
    assert "not touched after it" in failed.stderr
    assert "0 failed" in failed.stderr.partition("canary: ")[2]
    assert writer.lost() == {}
    assert on(hosts) == {"3.6.14"}
    assert written(new)["cluster"]["version"] == "3.6.14"
    new.healthy()
    hosts.sh(first, MEND.format(program))
    goes(new, hosts, "upgrade", "3.6.16")
    goes(new, hosts, "downgrade", "3.6.14")


@pytest.mark.chaos
@pytest.mark.parametrize("broken", [False, True], ids=["between two", "while one is down with the new one"])
def test_killed_in_the_middle_the_same_command_goes_on(project: NewProject, hosts: Hosts, broken: bool) -> None:
    new = project(version="3.5.35", release=archives(hosts, "3.5.35", "3.6.16"))
    new.inv("deploy").ok()
    first, second = sorted(set(NAMES) - {leader(new)})
    name, program = (first, "/opt/etcd/3.6.16/etcd") if broken else (second, "")
    held = hosts.hold(name, "timeout", when=AT_RESTART)
    with Writer(new) as writer:
        run = new.start("upgrade", "--to=3.6.16")
        held.reached(180)  # it begins with a backup
        run.signal(signal.SIGKILL)
        run.end()
        if broken:
            hosts.sh(name, BREAK.format(program))
        held.release()
        if broken:
            hosts.eventually(lambda: "activating" in hosts.sh(name, "systemctl show etcd -P ActiveState"))
            hosts.sh(name, MEND.format(program) + "; systemctl stop etcd")
        else:
            hosts.sh(name, "rm -f /usr/local/sbin/timeout")
            hosts.eventually(lambda: new.inv("health").code == 0)
    goes(new, hosts, "upgrade", "3.6.16")
    assert writer.lost() == {}


@pytest.mark.chaos
def test_member_lost_in_the_middle_is_replaced_and_the_same_command_goes_on(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.5.35", release=archives(hosts, "3.5.35", "3.6.16"))
    new.inv("deploy").ok()
    first, second = sorted(set(NAMES) - {leader(new)})
    held = hosts.hold(second, "timeout", when=AT_RESTART)
    with Writer(new) as writer:
        run = new.start("upgrade", "--to=3.6.16")
        held.reached(180)
        run.signal(signal.SIGKILL)
        run.end()
        held.release()
        hosts.sh(second, "rm -f /usr/local/sbin/timeout")
        hosts.eventually(lambda: new.inv("health").code == 0)
        upgraded = {name for name, path in hosts.each(RUNS).items() if "3.6.16" in path}
        assert upgraded and upgraded != set(NAMES)
        lost = second if first in upgraded else first  # one of each release is left
        hosts.sh(lost, "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
        new.inv("upgrade", "--to=3.6.16").failed(3, f"inv replace-member {lost}")
        new.inv("replace-member", lost, "--yes").ok()
        assert "3.5.35" in hosts.sh(lost, RUNS)
    goes(new, hosts, "upgrade", "3.6.16")
    assert writer.lost() == {}


@pytest.mark.chaos
def test_a_release_that_loses_data_is_left(project: NewProject, hosts: Hosts) -> None:
    """3.5.1 is what nobody gets from us; who has it gets away from it."""
    new = project(version="3.5.16", release=archives(hosts, "3.5.16", "3.5.30"))
    new.inv("deploy").ok()
    for name in NAMES:
        hosts.sh(name, "mkdir /opt/etcd/3.5.1")
        enter = ["nsenter", "--target", str(hosts.pid(name)), "--mount"]
        tar = ["tar", "-xz", "-C", "/opt/etcd/3.5.1", "--strip-components=1", "--no-same-owner"]
        with hosts.archive("3.5.1").open("rb") as archive:
            subprocess.run([*enter, *tar], stdin=archive, check=True, timeout=60)
        hosts.sh(name, "ln -sfn 3.5.1 /opt/etcd/current && systemctl restart etcd")
    hosts.eventually(lambda: new.inv("health").code == 0)
    assert on(hosts) == {"3.5.1"}
    goes(new, hosts, "upgrade", "3.5.30")


@pytest.mark.chaos
def test_from_3_4_with_authentication_nothing_rolls(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.4.23", release=archives(hosts, "3.4.23", "3.5.35"))
    new.inv("deploy").ok()
    new.inv("auth-enable", "--yes").ok()
    before = hosts.each(PROCESS)
    new.inv("upgrade", "--to=3.5.35", "--no-canary").failed(3, "auth is enabled", "inv restore latest")
    assert hosts.each(PROCESS) == before
    new.inv("auth-disable", "--yes").ok()
    goes(new, hosts, "upgrade", "3.5.35")


@pytest.mark.chaos
def test_members_noted_as_removed_keep_3_6_away(project: NewProject, hosts: Hosts) -> None:
    """What 3.5.35 notes when it reads the whole log of 3.4, as after an upgrade by hand."""
    new = project(version="3.4.23", release=archives(hosts, "3.4.23", "3.5.35", "3.6.16"))
    new.inv("deploy").ok()
    new.config["cluster"]["version"] = "3.5.35"
    new.write()
    new.inv("install").failed(3, "change the minor")
    for name in NAMES:
        hosts.sh(name, "mkdir /opt/etcd/3.5.35")
        enter = ["nsenter", "--target", str(hosts.pid(name)), "--mount"]
        tar = ["tar", "-xz", "-C", "/opt/etcd/3.5.35", "--strip-components=1", "--no-same-owner"]
        with hosts.archive("3.5.35").open("rb") as archive:
            subprocess.run([*enter, *tar], stdin=archive, check=True, timeout=60)
        hosts.sh(name, "ln -sfn 3.5.35 /opt/etcd/current && systemctl restart etcd")
    hosts.eventually(lambda: new.inv("deploy").code == 0)
    new.inv("upgrade", "--to=3.6.16", "--no-canary").failed(
        3, "noted as removed, which are members", "inv restore latest"
    )
    new.inv("put", "/a", "1").ok()
    new.inv("backup").ok()
    new.inv("restore", "latest", "--yes").ok()
    goes(new, hosts, "upgrade", "3.6.16")
