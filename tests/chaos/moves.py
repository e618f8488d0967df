"""The moves of the walk: tasks on a whole cluster, harm that is for good, and the table of them all."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.clients import ALL, Origin
from tests.chaos.controllers import INTERRUPTED, KILLED, cut_short, two_operators
from tests.chaos.meanwhile import meanwhile
from tests.chaos.walk import DATA, NEW, OLD, PATIENCE, Move, Walk
from tests.chaos.words import a_backup, a_setting, a_spare, another_release
from tests.hosts import BARE
from tests.lab import kept
from tests.lab.members import address
from tests.lab.test_move import CHANGE

# Tasks on a whole cluster


def simple(name: str, *words: str) -> Callable[[Walk], tuple[str, str]]:
    """A task that must end well."""

    def make(walk: Walk) -> tuple[str, str]:
        walk.inv(*words).ok()
        return name, "done"

    return make


def deploy(walk: Walk) -> tuple[str, str]:
    done = walk.inv(*a_setting(walk)).ok()
    assert "nothing to do" not in done.stdout, done
    return "deploy with a changed setting", "done"


def backup(walk: Walk) -> tuple[str, str]:
    name = walk.inv("backup", "--json").ok().json()["name"]
    walk.inv("snapshot.verify", name, *(["--drill"] if walk.chance.random() < 0.3 else [])).ok()
    return "backup and snapshot.verify", "done"


def restore(walk: Walk) -> tuple[str, str]:
    words = a_backup(walk)
    walk.inv(*words).ok()
    walk.restored(words[1])
    return "restore", "done"


def add(walk: Walk) -> tuple[str, str]:
    walk.inv(*a_spare(walk)).ok()
    return "add-member", "done"


def remove(walk: Walk) -> tuple[str, str]:
    walk.inv("remove-member", walk.choose(walk.names), "--yes").ok()
    return "remove-member", "done"


def move(walk: Walk) -> tuple[str, str]:
    """A host gets another address, and its old one again."""
    name = walk.choose(walk.names)
    here, there = address(name), elsewhere(name)
    for old, new in ((here, there), (there, here)):
        walk.hosts.sh(name, CHANGE.format(old=old, new=new))
        walk.inv("move-member", name, f"--address={new}").ok()
        walk.clients.go_on()
    return "move-member, there and back", "done"


def elsewhere(name: str) -> str:
    """The other address that a host may have."""
    return address(name).replace(".10", ".11")


def lead(walk: Walk) -> tuple[str, str]:
    walk.inv("move-leader", f"--to={walk.choose(walk.names)}").ok()
    return "move-leader", "done"


def release(walk: Walk) -> tuple[str, str]:
    words = another_release(walk)
    walk.inv(*words).ok()
    return f"{words[0]} {OLD} and {NEW}", "done"


def transport(walk: Walk) -> tuple[str, str]:
    """Clients go by what config.yaml says, which changes while both are let in."""
    for words in (("disable-tls", "--close-https"), ("enable-tls", "--close-http")):
        walk.inv(*words, "--yes").ok()
        walk.clients.go_on()
    return "disable-tls and enable-tls", "done"


# Harm that is for good, and the way out of it


def lost_disk(walk: Walk) -> tuple[str, str]:
    name = walk.choose(walk.names)
    walk.hosts.sh(name, f"systemctl kill --signal=KILL etcd; rm -rf {DATA}/default.etcd")
    walk.clients.go_on()
    walk.inv("replace-member", name, "--yes").ok()
    return "disk lost, replace-member", "done"


def lost_host(walk: Walk) -> tuple[str, str]:
    name, new = walk.choose(walk.names), walk.choose(walk.spare)
    walk.hosts.lab.off(name)
    try:
        walk.clients.go_on()
        walk.inv("replace-member", name, f"--with={new}", f"--address={address(new)}", "--yes").ok()
    finally:
        walk.hosts.lab.on(name)
    walk.hosts.eventually(lambda: walk.hosts.sh(name, "systemctl is-active etcd; true") == "inactive", PATIENCE)
    walk.hosts.sh(name, BARE)  # it comes back as another machine
    return "host lost, replace-member --with", "done"


def lost_quorum(walk: Walk) -> tuple[str, str]:
    """Hosts are lost until the rest is no quorum; new ones come in their places.

    Before the last of them goes, only all that are left make a quorum: so each survivor has all that is acknowledged.
    """
    names, old = walk.chance.sample(walk.names, len(walk.names)), kept.cluster_id(walk.project, walk.names[0])
    lost, survivors = names[len(names) // 2 :], names[: len(names) // 2]
    for name in lost:
        walk.clients.go_on(20)
        walk.hosts.lab.off(name)
    walk.inv("recover", "--yes").ok()
    walk.clients.restored(str(kept.cluster_id(walk.project, survivors[0])), Origin(str(old), ALL))
    walk.clients.go_on()
    for name in lost:  # one by one, for together they would go on as the old cluster
        walk.hosts.lab.on(name)
        walk.hosts.sh(name, BARE)
    taken = walk.inv("backup", "--json").ok().json()["name"]
    walk.inv("restore", taken, "--yes").ok()
    walk.restored(taken)
    return "quorum lost, recover and restore", "done"


MOVES = (
    Move("restart", 3, simple("restart", "restart", "--canary")),
    Move("deploy with a changed setting", 3, deploy),
    Move("deploy", 1, simple("deploy with nothing to do", "deploy")),
    Move("defrag", 3, simple("defrag", "defrag", "--force")),
    Move("compact", 2, simple("compact", "compact")),
    Move("backup", 3, backup),
    Move("restore", 2, restore, lambda walk: bool(walk.backups)),
    Move("add-member", 4, add, lambda walk: bool(walk.spare)),
    Move("remove-member", 3, remove, lambda walk: len(walk.names) > 3),
    Move("move-member", 2, move),
    Move("move-leader", 2, lead),
    Move("upgrade or downgrade", 2, release),
    Move("rotate-certs", 2, simple("rotate-certs", "rotate-certs")),
    Move("rotate-ca", 2, simple("rotate-ca", "rotate-ca", "--yes")),
    Move("disable-tls and enable-tls", 1, transport),
    Move("two operators", 2, two_operators),
    Move("disk lost", 2, lost_disk, harm=True),
    Move("host lost", 2, lost_host, lambda walk: bool(walk.spare), harm=True),
    Move("quorum lost", 2, lost_quorum, harm=True),
    Move("controller killed", 4, cut_short(KILLED), harm=True),
    Move("controller interrupted", 3, cut_short(INTERRUPTED), harm=True),
    Move("a fault", 14, meanwhile, harm=True),
)
