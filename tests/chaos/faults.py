"""What happens to one host, and passes again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.walk import DATA, Walk
from tests.lab.members import FIVE, address

ROOM = 900  # MiB of the small disk


@dataclass(frozen=True)
class Fault:
    """Something bad that happens to one host, and how it goes away again.

    ``silent``: SSH does not reach the host; ``down``: its member cannot be one of those that commit.
    """

    name: str
    happen: Callable[[Walk, str], None]
    pass_: Callable[[Walk, str], None]
    silent: bool = False
    down: bool = True


def power_off(walk: Walk, name: str) -> None:
    walk.hosts.lab.off(name)


def power_on(walk: Walk, name: str) -> None:
    walk.hosts.lab.on(name)


def cut(walk: Walk, name: str) -> None:
    walk.hosts.lab.cut(name)


def heal(walk: Walk, name: str) -> None:
    walk.hosts.lab.heal(name)


def stop(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=STOP etcd")


def go_on(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=CONT etcd")


def kill(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "systemctl kill --signal=KILL etcd")


def nothing(walk: Walk, name: str) -> None:
    """It passes by itself."""


def fill(walk: Walk, name: str) -> None:
    """Its data on a disk of its own, and that as good as full."""
    move = "cp -a {0} /root/copy && {1} && cp -a /root/copy/. {0} && rm -rf /root/copy"
    mount = f"mount -t tmpfs -o size={ROOM}M,mode=700 tmpfs {DATA} && chown etcd: {DATA}"
    walk.hosts.sh(
        name, f"rm -rf {DATA}/aside-*; systemctl stop etcd && {move.format(DATA, mount)} && systemctl start etcd"
    )
    walk.hosts.sh(name, f"cat /dev/zero >{DATA}/filler 2>/dev/null; truncate -s -2M {DATA}/filler")


def empty(walk: Walk, name: str) -> None:
    move = "cp -a {0} /root/copy && {1} && cp -a /root/copy/. {0} && rm -rf /root/copy"
    back = f"umount {DATA} && rm -rf {DATA} && mkdir -m 700 {DATA} && chown etcd: {DATA}"
    walk.hosts.sh(name, f"rm {DATA}/filler; systemctl stop etcd; {move.format(DATA, back)} && systemctl start etcd")


def mute(walk: Walk, name: str) -> None:
    """One way only: it hears the others, and we reach it."""
    walk.hosts.sh(name, "; ".join(f"ip route add unreachable {address(each)}" for each in FIVE if each != name))


def unmute(walk: Walk, name: str) -> None:
    walk.hosts.sh(name, "; ".join(f"ip route del unreachable {address(each)}" for each in FIVE if each != name))


def bar(walk: Walk, name: str) -> None:
    """The other way: whatever it calls itself gets through, and nobody calls it."""
    others = ", ".join(address(each) for each in FIVE if each != name)
    walk.hosts.firewall(name, f"ip saddr {{ {others} }} tcp dport 2380 drop")


def unbar(walk: Walk, name: str) -> None:
    walk.hosts.firewall(name, "")


FAULTS = (
    Fault("power is off", power_off, power_on, silent=True),
    Fault("the cable is cut", cut, heal, silent=True),
    Fault("the others do not hear it", mute, unmute),
    Fault("the others cannot call it", bar, unbar, down=False),
    Fault("etcd is stopped", stop, go_on),
    Fault("etcd was killed", kill, nothing, down=False),
    Fault("a disk is full", fill, empty, down=False),
)
