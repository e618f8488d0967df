"""The guide's own steps, from a certificate authority to a cluster that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import steps
from etcdops.task import task
from etcdops.tasks.watched import MAX_GAP, WATCHED

if TYPE_CHECKING:
    from etcdops.run import Run


@task("dry_run")
def gen_ca(run: Run) -> None:
    """Make the certificate authorities; keep what is there.

    One for clients (ca.pem) and one for peers (peer-ca.pem), in pki.dir. Put a CA of your own there (ca.pem and
    ca-key.pem, such as cfssl's) and it is used for both. No host is touched.
    """
    steps.certificates.gen_ca(run)


@task("dry_run")
def gen_server_cert(run: Run) -> None:
    """Make and sign the members' certificates; keep valid ones.

    A server and a peer certificate for each member, and a client certificate for the operator, in pki.dir.
    """
    steps.certificates.gen_server_cert(run)


@task("dry_run")
def install(run: Run) -> None:
    """Put the etcd release on every host.

    Downloads the archive of cluster.version (or takes release.archive), checks its SHA-256 and unpacks it to
    /opt/etcd/VERSION; the commands in /usr/local/bin follow. A running member goes on with what it has.
    """
    steps.deploy.install(run)


@task("dry_run")
def distribute(run: Run) -> None:
    """Copy certificates to every host.

    Each host gets its own pairs and the CA certificates; missing ones are made first. Running members take renewed
    pairs up at once, without a restart.
    """
    steps.deploy.distribute(run)


@task("dry_run")
def configure(run: Run) -> None:
    """Write etcd.conf and etcd.service on every host.

    A running member goes on with the old configuration until it is restarted.
    """
    steps.deploy.configure(run)


@task("dry_run")
def start(run: Run) -> None:
    """Start etcd on every host, at boot too.

    All members side by side, then waits until the cluster is healthy.
    """
    steps.deploy.start(run)


@task("dry_run", "yes")
def stop(run: Run) -> None:
    """Stop etcd on every host (the cluster is down then)."""
    steps.service.stop(run)


@task("dry_run", "json", help=WATCHED)
def restart(run: Run, canary: bool = False, max_gap: float = MAX_GAP) -> None:
    """Restart the members one at a time, the leader last.

    Each only while the others keep a quorum; a leader hands over first. Ends when every member is healthy again.
    """
    run.watch(canary, max_gap)
    steps.restart.restart(run)


@task("dry_run", help=WATCHED)
def deploy(run: Run, canary: bool = False, max_gap: float = MAX_GAP) -> None:
    """Install or converge the whole cluster; safe to repeat.

    gen-ca, gen-server-cert, install, distribute, configure and start in one run. Looks at every host first and
    refuses when anything is unsafe; does only what is not yet so; restarts members that run with something old one
    at a time, the leader last.
    """
    run.watch(canary, max_gap)
    steps.deploy.deploy(run)


@task(
    "dry_run",
    "json",
    help={
        "hosts": "One of its hosts, or all, as in: a,b,c [those of config.yaml]",
        "name": "Of the cluster [its token]",
    },
)
def adopt(run: Run, hosts: str = "", name: str = "") -> None:
    """Take over a cluster that was built by hand; no stop.

    Reads how it runs, writes config.yaml, places its CA and keys in pki.dir as far as they can be had, and leaves a
    record on each host. Nothing that runs is touched: the first deploy takes the members over, one at a time.
    Says what it leaves behind, and what deploy will change.
    """
    steps.adopt.adopt(run, hosts, name)
