"""Backups, and the ways back from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task("json")
def backup(run: Run) -> None:
    """Take a snapshot and prove it; safe in cron.

    From a healthy member, checked there and here, with a manifest beside it, in backup.dir (or the store that
    config.yaml names). Then backup.keep decides which old ones go. A failed attempt leaves nothing behind.
    """
    steps.backup.backup(run)


@task(
    "dry_run",
    "yes",
    bare=["snapshot"],
    help={
        "snapshot": "A file, the name of a backup, or latest",
        "raw": "It is a member/snap/db from a dead member's disk, whose content nothing vouches for.",
        "of_cluster": "The cluster that it is of, where that is not this one",
    },
)
def restore(run: Run, snapshot: str, raw: bool = False, of_cluster: str = "") -> None:
    """Restore the whole cluster from a backup, or nothing.

    Proves it, restores it on every host beside the old data, takes a last snapshot, and only then stops the cluster,
    swaps the data and starts it. If anything fails, the old data is put back and the old cluster started. Works on
    fresh hosts, too. The old data is set aside, not deleted. After a run that was killed: the same command again, or
    restore-undo.
    """
    steps.restore.restore(run, snapshot, raw=raw, of_cluster=of_cluster)


@task("dry_run", "yes")
def restore_undo(run: Run) -> None:
    """Put the old data back where a restore was cut short."""
    steps.restore.undo(run)


@task("dry_run", "yes")
def recover(run: Run) -> None:
    """Quorum lost for good: a new cluster of what survived.

    Needs no backup. Stops the survivors, saves what each holds (its write-ahead log included), and restores the
    furthest of them on all hosts that can be reached. Refuses while a quorum is there or can be had.
    """
    steps.recover.recover(run)


@task("json", help={"set_aside": "The data that restores have set aside on the hosts instead"})
def list_(run: Run, set_aside: bool = False) -> None:
    """List the backups in the store, newest first."""
    if set_aside:
        steps.aside.list_(run)
    else:
        steps.snapshots.list_(run)


@task("dry_run", "yes", bare=["name"], help={"name": "As snapshot.list --set-aside shows it"})
def drop(run: Run, name: str) -> None:
    """Delete data that a restore has set aside."""
    steps.aside.drop(run, name)


@task(
    "json",
    bare=["snapshot"],
    help={
        "snapshot": "A file, the name of a backup, or latest",
        "drill": "Restore it into a throw-away etcd, too, and compare what it holds.",
    },
)
def verify(run: Run, snapshot: str, drill: bool = False) -> None:
    """Prove a backup from its bytes; changes nothing.

    Its SHA-256, every page of the database in it, and that it is the one that its manifest describes.
    """
    steps.snapshots.verify(run, snapshot, steps.drill.drill if drill else None)


@task("dry_run")
def prune(run: Run) -> None:
    """Delete the backups that backup.keep lets go.

    Never the newest, never one that is not whole, never another cluster's, and nothing that no backup put there.
    """
    steps.snapshots.prune(run)


@task("dry_run")
def schedule(run: Run) -> None:
    """Have the members make backups, in turn, on a timer.

    A systemd timer on every host, as backup.schedule in config.yaml says. The members take turns; the leader stands
    in for one that does not answer. `inv status` shows the newest.
    """
    steps.schedule.schedule(run)


@task("dry_run")
def unschedule(run: Run) -> None:
    """Stop that; the backups stay on the hosts."""
    steps.schedule.unschedule(run)
