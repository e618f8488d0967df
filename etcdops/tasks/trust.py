"""What members show and whom they trust, replaced while they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task
from etcdops.tasks.watched import MAX_GAP, WATCHED

if TYPE_CHECKING:
    from etcdops.run import Run


@task("dry_run")
def rotate_certs(run: Run) -> None:
    """New certificates for every member, without a restart.

    Server, peer and client of each, and the operator's, whatever their age, swapped atomically. Done when a fresh
    handshake with both ports of every member shows the new ones. Also when all have expired. After a run that was
    killed: the same command again.
    """
    steps.leaves.rotate_certs(run)


@task("dry_run", "json", "yes", help=WATCHED)
def rotate_ca(run: Run, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """New CAs, in three stages, while clients write.

    One for clients and one for peers: trusted beside the old ones by every member, then certificates of theirs
    everywhere, then trusted alone. Each stage is proven by handshakes with every member, and asks before it shuts out
    clients that are not ready for it. A canary writes meanwhile; --no-canary goes without. After a run that was
    killed: the same command again; inv status says how far it has come.
    """
    run.watch(canary, max_gap)
    steps.authorities.rotate_ca(run)
