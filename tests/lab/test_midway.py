"""A fault in the middle of a rolling change, while clients write: the run stops there, says why, takes nobody else
down, and the same command goes on once it is mended."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.hosts import NAMES, Hosts, Process, Project
from tests.lab.conftest import NewProject
from tests.lab.test_deploy import settled
from tests.lab.test_rolling import PROCESS, leader
from tests.lab.test_trouble import LED
from tests.lab.test_upgrade import AT_RESTART, BREAK, MEND, archives, goes
from tests.lab.writer import Writer

pytestmark = pytest.mark.chaos

MEMBER = "/var/lib/etcd/default.etcd/member"
# Nothing comes in from the other members: what they dial; what they answer.
INBOUND, ANSWERS = (f"ip saddr 198.18.40.0/24 tcp {port} 2380 drop" for port in ("dport", "sport"))


@dataclass(frozen=True)
class Scene:
    """The member whose turn it is, the one after it, the leader, and the run."""

    hosts: Hosts
    first: str
    second: str
    led: str
    run: Process


Act = Callable[[Scene], object]


@dataclass(frozen=True)
class Fault:
    """What happens while ``first`` is about to be restarted, how it is mended, and how the run ends."""

    strikes: Act
    mend: Act
    code: int
    words: tuple[str, ...] = ()


def on_first(script: str) -> Act:
    return lambda scene: scene.hosts.sh(scene.first, script)


def on_second(script: str) -> Act:
    return lambda scene: scene.hosts.sh(scene.second, script)


UNREADABLE = (
    on_first(f"chown root {MEMBER}; chmod 000 {MEMBER}"),
    on_first(f"chown etcd {MEMBER}; chmod 700 {MEMBER}"),
)
CUT = (lambda scene: scene.hosts.lab.cut(scene.first), lambda scene: scene.hosts.lab.heal(scene.first))
OFF = (lambda scene: scene.hosts.lab.off(scene.second), lambda scene: scene.hosts.lab.on(scene.second))
STOPPED = (on_second("systemctl stop etcd"), on_second("systemctl start etcd"))
KILLED = (lambda scene: scene.run.signal(signal.SIGKILL), lambda scene: None)

FAULTS = {
    "it does not come back": Fault(*UNREADABLE, 4, ("{first}: ", "permission denied", "{second}, {led} not touched")),
    "its link is cut": Fault(*CUT, 4, ("{first}: ", "{second}, {led} not touched")),
    "another loses power": Fault(*OFF, 5, ("{second}: ", "not touched")),
    "another's etcd stops": Fault(*STOPPED, 5, ("{second}: etcd does not run", "not touched")),
    "the operator's process is killed": Fault(*KILLED, -signal.SIGKILL),
}


def stops(project: Project, fault: Fault, *task: str) -> None:
    """``task``, with the fault in its first turn: clients can write meanwhile, nobody else is taken down, and nothing
    is lost; mended afterwards."""
    hosts = project.hosts
    led = leader(project)
    first, second = sorted(set(NAMES) - {led})
    before = hosts.each(PROCESS)
    with Writer(project) as writer:
        hosts.eventually(lambda: writer.acknowledged)
        held = hosts.hold(first, "timeout", when=AT_RESTART)
        scene = Scene(hosts, first, second, led, project.start(*task))
        held.reached(180)  # an upgrade begins with a backup
        fault.strikes(scene)
        held.release()
        done = scene.run.end(300)
        print(f"{' '.join(task)} ended with {done.code}:\n{done.stderr}")
        hosts.sh(first, "rm -f /usr/local/sbin/timeout")
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 5, 60)
        on = [name for name in (second, led) if hosts.pid(name)]
        after = hosts.each(f"[ $(systemctl show etcd -P MainPID) = 0 ] || {PROCESS}", on)
        assert {name: process for name, process in after.items() if process} == {
            name: before[name] for name in on if after[name]
        }
        fault.mend(scene)
        hosts.eventually(lambda: set(hosts.each(LED).values()) == {"yes"}, 60)
    assert writer.lost() == {}
    done.failed(fault.code, *(each.format(first=first, second=second, led=led) for each in fault.words))


@pytest.mark.parametrize("fault", FAULTS)
def test_restart(cluster: Project, fault: str) -> None:
    stops(cluster, FAULTS[fault], "restart")
    before = cluster.hosts.each(PROCESS)
    with Writer(cluster) as writer:
        cluster.inv("restart").ok()
    assert writer.lost() == {}
    assert not set(cluster.hosts.each(PROCESS).items()) & set(before.items())
    settled(cluster)


@pytest.mark.parametrize("fault", FAULTS)
def test_changed_settings(cluster: Project, fault: str) -> None:
    with cluster.changed("cluster", settings={"snapshot-count": 9000}):
        stops(cluster, FAULTS[fault], "deploy")
        with Writer(cluster) as writer:
            cluster.inv("deploy").ok()
        assert writer.lost() == {}
        settled(cluster)
    cluster.inv("deploy").ok()


@pytest.mark.parametrize("rule", [INBOUND, ANSWERS], ids=["what they dial", "what they answer"])
def test_link_that_is_cut_one_way(cluster: Project, hosts: Hosts, rule: str) -> None:
    """Of one that is about to be restarted: etcd gets on with half a link, or the run says whom it waits for."""
    led = leader(cluster)
    first, second = sorted(set(NAMES) - {led})
    with Writer(cluster) as writer:
        held = hosts.hold(first, "timeout", when=AT_RESTART)
        run = cluster.start("restart")
        held.reached()
        hosts.firewall(first, rule)
        held.release()
        done = run.end(300)
        print(f"ended with {done.code}:\n{done.stderr}")
        hosts.firewall(first, "")
        hosts.sh(first, "rm -f /usr/local/sbin/timeout")
        hosts.eventually(lambda: set(hosts.each(LED).values()) == {"yes"}, 60)
    assert writer.lost() == {}
    if done.code:
        done.failed(done.code, f"{first}: ", f"{second}, {led} not touched")
    cluster.inv("restart").ok()
    settled(cluster)


CRASH = "/opt/etcd/{end}/etcd"


def crash(end: str) -> Fault:
    """The new program has answered for its configuration, and does not start."""
    program = CRASH.format(end=end)
    return Fault(
        on_first(BREAK.format(program)),
        on_first(MEND.format(program)),
        4,
        (
            "{first}: did not come back with etcd " + end,
            "broken by hand",
            "it is back to etcd ",
            "{second}, {led} not touched",
        ),
    )


WAYS = {"upgrade": ("3.5.30", "3.6.16"), "downgrade": ("3.6.16", "3.5.30")}


@pytest.mark.parametrize("fault", ["it crashes", *list(FAULTS)[1:]])
@pytest.mark.parametrize("task", WAYS)
def test_another_release(project: NewProject, hosts: Hosts, task: str, fault: str) -> None:
    start, end = WAYS[task]
    new = project(version=start, release=archives(hosts, start, end))
    new.inv("deploy").ok()
    stops(new, crash(end) if fault == "it crashes" else FAULTS[fault], task, f"--to={end}")
    goes(new, hosts, task, end)


def test_half_a_downgrade_is_called_off(project: NewProject, hosts: Hosts) -> None:
    """Killed at the second member, and not wanted any more: as long as etcd knows of it, it keeps the older version."""
    end, start = WAYS["upgrade"]
    new = project(version=start, release=archives(hosts, start, end))
    new.inv("deploy").ok()
    led = leader(new)
    second = sorted(set(NAMES) - {led})[1]
    with Writer(new) as writer:
        held = hosts.hold(second, "timeout", when=AT_RESTART)
        run = new.start("downgrade", f"--to={end}")
        held.reached(180)
        run.signal(signal.SIGKILL)
        run.end()
        held.release()
        hosts.eventually(lambda: set(hosts.each(LED).values()) == {"yes"}, 60)
        assert "Call off the downgrade to " in new.start("upgrade", f"--to={start}").end(300).ok().stderr
    assert writer.lost() == {}
    goes(new, hosts, "upgrade", start)


def test_killed_at_the_last_member_of_a_stop_in_between(project: NewProject, hosts: Hosts) -> None:
    """config.yaml says the release from before still, so that `inv start` would refuse."""
    new = project(version="3.5.30", release=archives(hosts, "3.5.30", "3.6.16", "3.7.3"))
    new.inv("deploy").ok()
    led, program = leader(new), CRASH.format(end="3.6.16")
    with Writer(new) as writer:
        held = hosts.hold(led, "timeout", when=AT_RESTART)
        run = new.start("upgrade", "--to=3.7.3")
        held.reached(240)
        run.signal(signal.SIGKILL)
        run.end()
        hosts.sh(led, BREAK.format(program))
        held.release()
        hosts.eventually(lambda: hosts.sh(led, "systemctl show etcd -P ActiveState") == "activating")
        done = new.inv("upgrade", "--to=3.7.3").failed(5, f"{led} would run etcd 3.6.16, and is down")
        assert "systemctl start etcd there" in done.stderr
        hosts.sh(led, f"{MEND.format(program)}; systemctl start etcd")
    assert writer.lost() == {}
    goes(new, hosts, "upgrade", "3.7.3")
