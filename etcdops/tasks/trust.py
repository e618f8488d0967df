"""What members show and whom they trust, replaced while they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.cli import task

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
