"""Room in the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task(
    "dry_run",
    help={"member": "Only this one [all]", "force": "Also where it is not worth it."},
)
def defrag(run: Run, member: str = "", force: bool = False) -> None:
    """Give unused space of the databases back, member by member.

    The leader last, and after it has handed over. Each serves nobody meanwhile: done where less than half is in use
    and more than 100 MiB can be freed. The next one begins when the last one answers.
    """
    steps.defrag.defrag(run, member, force=force)


@task("dry_run", help={"keep": "How many revisions stay [1000]"})
def compact(run: Run, keep: int = 1000) -> None:
    """Drop old revisions of the keys; the keys stay.

    A watcher that is further behind has to read anew. The databases get no smaller by it: defrag gives the space back.
    """
    steps.compact.compact(run, keep)


@task("dry_run")
def space(run: Run) -> None:
    """What the databases take; the way out of NOSPACE.

    Where that alarm is raised: a backup, all history dropped, every database defragmented; and if there is room then,
    the alarm is ended, and every member takes a write. Never touches CORRUPT.
    """
    steps.space.space(run)
