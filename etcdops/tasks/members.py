"""Who is a member, who leads, and who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task("dry_run", help={"to": "The member that is to lead [the voter that is furthest]"})
def move_leader(run: Run, to: str = "") -> None:
    """Hand the lead to another member."""
    steps.leader.move_leader(run, to)


@task(
    "dry_run",
    "yes",
    bare=["name"],
    help={
        "name": "The new member, as in: inv add-member etcd04 --address=192.168.40.103",
        "address": "Its address [that in config.yaml, if it stands there already]",
        "ssh": "How to reach its host, where the address does not",
    },
)
def add_member(run: Run, name: str, address: str = "", ssh: str = "") -> None:
    """Bring a new member into the running cluster.

    Checks its host, prepares it, adds it as a learner, and gives it a vote once it is in sync; only then config.yaml
    and the other hosts' etcd.conf get it. If anything fails before, or on Ctrl-C, the cluster is as it was. Finishes
    what an attempt has left that was cut short.
    """
    steps.add.add_member(run, name, address, ssh)


@task("dry_run", "yes", bare=["name"], help={"name": "Its name, as in: inv remove-member etcd03; or its id or address"})
def remove_member(run: Run, name: str) -> None:
    """Take a member out of the cluster for good.

    Refuses what would cost the quorum. Hands the lead over first, removes the member, stops etcd on its host, sets
    the data aside there and removes what could start it again; then config.yaml and the other hosts' etcd.conf lose
    it. Works when its host is dead. After a run that was killed: the same command again.
    """
    steps.remove.remove_member(run, name)


@task(
    "dry_run",
    "yes",
    bare=["old"],
    help={
        "old": "The member that is lost, as in: inv replace-member etcd02",
        "with": "The name of the new one [the same]",
        "address": "Its address [the same]",
        "ssh": "How to reach its host, where the address does not",
    },
)
def replace_member(run: Run, old: str, with_: str = "", address: str = "", ssh: str = "") -> None:
    """Put a new member in the place of a lost one.

    For a dead host, a dead disk or a wiped data directory. The new host is checked first; then the old member leaves,
    and the new one joins as a learner, with an identity of its own, and gets a vote once it is in sync. After a run
    that was killed: the same command again.
    """
    steps.replace.replace_member(run, old, with_, address, ssh)


@task(
    "dry_run",
    "yes",
    bare=["name"],
    help={
        "name": "The member, as in: inv move-member etcd02 --address=192.168.40.120",
        "address": "The address that its host has now",
    },
)
def move_member(run: Run, name: str, address: str) -> None:
    """Follow a member whose host has a new address.

    With its data intact: the member list, its certificates, its configuration, the other hosts' etcd.conf and
    config.yaml get the new address, and it is restarted.
    """
    steps.move.move_member(run, name, address)


@task("dry_run", "yes")
def auth_enable(run: Run) -> None:
    """Turn authentication (users and roles) on, and lock nobody out.

    Makes root and the user of the tasks, turns it on, proves on every member that the tasks are let in, and turns it
    off again if not. Refuses what would lock them out.
    """
    steps.auth.auth_enable(run)


@task("dry_run", "yes")
def auth_disable(run: Run) -> None:
    """Turn authentication off; users and roles stay."""
    steps.auth.auth_disable(run)
