"""gen-ca, gen-server-cert: the guide's cfssl steps, on this machine; no host is touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from etcdops.errors import UsageError
from etcdops.keystore import Item
from etcdops.run import Run


def gen_ca(run: Run) -> None:
    """A CA for clients and one for peers; what is there and valid is kept."""
    now = datetime.now(UTC)
    require_tls(run)
    _show(run, run.keystore.plan_ca(now) if run.dry_run else run.keystore.make_ca(now))


def gen_server_cert(run: Run) -> None:
    """A server and a peer certificate for each member, and the operator's client certificate."""
    now = datetime.now(UTC)
    require_tls(run)
    members = run.config.members
    _show(run, run.keystore.plan_leaves(members, now) if run.dry_run else run.keystore.make_leaves(members, now))


def require_tls(run: Run) -> None:
    """``UsageError`` on a plain-http cluster."""
    if not run.config.cluster.tls:
        raise UsageError(
            f"{run.config.path}: cluster.tls is false, and a plain-http cluster has no certificates",
            hint="inv enable-tls brings a running cluster to TLS; for one that is still to be: cluster.tls: true",
        )


def _show(run: Run, items: Sequence[Item]) -> None:
    for item in items:
        run.ui.result(f"{item.action:<6} {run.config.pki.dir}/{item.path}  ({item.why})")
