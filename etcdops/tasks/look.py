"""How the cluster is: tasks that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import dev, steps
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task("json")
def health(run: Run) -> None:
    """Can every member commit? A table; exit 5 when not."""
    steps.health.health(run)


@task("json")
def status(run: Run) -> None:
    """Role, version, size, lag, alarms, certificate days left."""
    steps.health.status(run)


@task("json")
def members(run: Run) -> None:
    """The members as the cluster itself knows them."""
    steps.health.members(run)


@task("json")
def doctor(run: Run) -> None:
    """Everything that an expert would look at; exit 5.

    Members and what they agree on, configuration and releases against what runs, alarms, space, disks, network,
    clocks, certificates on disk and as served, start at boot, backups: each in a line, with what to do. Always
    answers, whatever is down; changes nothing.
    """
    steps.doctor.doctor(run)


@task("json")
def check(run: Run) -> None:
    """Are the hosts fit for a cluster? Before deploy; exit 5.

    Machine, names, clocks, space, ports, who reaches whom, the disk's speed (a trial file of half a megabyte, removed
    again), accounts, the release and the certificates here. All that deploy would refuse, and more.
    """
    steps.doctor.check(run)


@task("json")
def alarms(run: Run) -> None:
    """Which alarms are raised, and by which members; exit 5."""
    steps.alarms.alarms(run)


@task("json")
def check_data(run: Run) -> None:
    """Do all members hold the same? Compares hashes; exit 5."""
    steps.data.check_data(run)


@task(words=True)
def verify(run: Run) -> None:
    """Check every host from outside: files, ports, TLS; changes nothing.

    Files, modes, owners, the unit, listening addresses, the certificates served, and that no stranger is let in; with
    pytest-testinfra, on the members of config.yaml. Needs OpenSSH's ssh and, for a user other than root, sudo without
    a password. Words after -- are pytest's.
    """
    dev.verify(run)


@task(
    "json",
    may_be_bare="which",
    help={
        "which": "The run, or enough of its id to tell it; or latest [a table of all]",
        "limit": "So many at most; 0: all [20]",
        "calls": "Each remote call by itself.",
    },
)
def history(run: Run, which: str = "", limit: int = 20, calls: bool = False) -> None:
    """Which runs changed something from here; or one of them.

    What it saw, decided, did and found, from its record in .etcdops/runs beside config.yaml. Asks no host.
    """
    steps.history.history(run, which, limit, calls=calls)
