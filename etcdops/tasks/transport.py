"""From plain http to TLS, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task
from etcdops.tasks.watched import MAX_GAP, WATCHED

if TYPE_CHECKING:
    from etcdops.run import Run


@task(
    "dry_run",
    "json",
    "yes",
    help={"close_http": "Turn clients away that speak plain http: the end, once all have moved.", **WATCHED},
)
def enable_tls(run: Run, close_http: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """Bring a plain-http cluster to TLS while it serves.

    Certificates first; then one member at a time, the leader last, until members talk by TLS and clients may come by
    http and by https, on the same port. Says what clients need; once they have moved: inv enable-tls --close-http.
    config.yaml follows. After a run that was killed: the same command again, or disable-tls.
    """
    run.watch(canary, max_gap)
    steps.transport.enable_tls(run, close_http=close_http)


@task(
    "dry_run",
    "json",
    "yes",
    help={"close_https": "Turn clients away that speak https: the end, once all have moved.", **WATCHED},
)
def disable_tls(run: Run, close_https: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """Bring a cluster with TLS to plain http, or back there.

    The same as enable-tls, the other way: first members talk by plain http, and clients may come by either; once they
    have moved: inv disable-tls --close-https. The certificates stay where they are.
    """
    run.watch(canary, max_gap)
    steps.transport.disable_tls(run, close_https=close_https)
