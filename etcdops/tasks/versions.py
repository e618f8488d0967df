"""Another release of etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task
from etcdops.tasks.watched import MAX_GAP, WATCHED

if TYPE_CHECKING:
    from etcdops.run import Run

ANOTHER = {
    "to": "The release, as in --to=3.6.16",
    "plan": "Say by which stops, what changes and which way leads back; do nothing.",
    **WATCHED,
}


@task("dry_run", "json", help=ANOTHER)
def upgrade(run: Run, to: str = "", plan: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """Another release on every member, one at a time.

    By way of each minor between, with its settings translated and a backup first. Asks the new etcd on every host
    before any member stops; one that does not come back gets its old release again, and the run ends there. Then
    config.yaml says the new version. A canary writes meanwhile; --no-canary goes without.
    """
    run.watch(canary, max_gap)
    steps.upgrade.upgrade(run, to, plan=plan)


@task("dry_run", "json", help=ANOTHER)
def downgrade(run: Run, to: str = "", plan: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """An older release: another patch, 3.7 to 3.6, 3.6 to 3.5.

    The same as upgrade, the other way. From 3.5 to 3.4 etcd has no way back but a backup.
    """
    run.watch(canary, max_gap)
    steps.upgrade.downgrade(run, to, plan=plan)
