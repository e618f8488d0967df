"""recover: quorum is lost for good, and no backup is needed: what the survivors hold becomes the new cluster.

etcd-operations 3.9.  No survivor's own data is started or changed: a copy of it is, which gives a snapshot with all
that its write-ahead log holds.  The furthest one is then restored on every host that can be reached, as a new
incarnation, so that members that do come back cannot form the old cluster beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from etcdops import guards, restoration
from etcdops.errors import HostError, HostsFailed, OpsError, Refused
from etcdops.etcd import quorum
from etcdops.facts import HostFacts, gather
from etcdops.restoration import Side
from etcdops.run import Run
from etcdops.snapshots import store as stores
from etcdops.snapshots.proof import prove
from etcdops.snapshots.store import create
from etcdops.snapshots.take import salvage
from etcdops.snapshots.wal import Reach, reach
from etcdops.ssh import Host
from etcdops.steps.drill import START
from etcdops.steps.exchange import Cluster, Exchange
from etcdops.steps.snapshots import Source

LOG = "cat /var/lib/etcd/default.etcd/member/wal/*.wal"  # in the order of their names, which are numbers
ID = "recover"  # under which the survivors are kept from starting meanwhile


def recover(run: Run) -> None:
    """Make a new cluster of what the survivors hold, on all hosts that can be reached."""
    began = time.monotonic()
    run.ui.step(f"Look at {', '.join(run.names)}")
    both = run.fleet.map(lambda host: (gather(host), restoration.look(host)))
    lost = {name: each for name, each in both.items() if isinstance(each, OpsError)}
    facts = {name: each[0] for name, each in both.items() if not isinstance(each, OpsError)}
    sides = {name: each[1] for name, each in both.items() if not isinstance(each, OpsError)}
    survivors = [name for name, fact in facts.items() if fact.has_data]
    part = run.only(list(facts))
    guards.refuse([*_findings(run, facts, sides, survivors), *guards.beneath_a_restore(part.config, facts)])
    for error in lost.values():
        run.ui.line(f"lost: {error}")
    run.ui.line(f"survivors with data: {', '.join(survivors)}; a quorum takes {quorum(len(run.names))}")
    if run.dry_run:
        for name in survivors:
            run.ui.result(f"{name}  systemctl stop etcd; save what it holds; restore the furthest of them")
        return
    run.confirm(
        f"Give up {', '.join(lost) or 'what is missing'} and make a new cluster {run.config.cluster.name} of what "
        f"{', '.join(survivors)} hold",
        answer=run.config.cluster.name,
    )
    try:
        with (
            stores.open_store(run.config) as store,
            stores.workspace(run.config.resolve(run.config.backup.dir)) as work,
        ):
            source = _salvage(part, survivors, store, work)
            cluster = Cluster(part.fleet.all(gather), sides)
            exchange = Exchange.plan(part, cluster, source)
            exchange.prepare()
            exchange.swap()
    except BaseException:
        part.reconnect()
        part.fleet.map(lambda host: restoration.undo(host, ID))
        run.ui.line("the survivors' data is as it was; their etcd is stopped")
        raise
    finally:
        part.close()
    run.ui.result(f"recovered in {time.monotonic() - began:.1f} s: {exchange.outcome}")
    if lost:
        run.ui.warn(
            f"not in the new cluster: {', '.join(lost)}; once there are hosts for all members again: inv backup, and "
            "inv restore latest puts it on all of them"
        )


def _findings(
    run: Run, facts: Mapping[str, HostFacts], sides: Mapping[str, Side], survivors: Sequence[str]
) -> list[Refused]:
    """Reasons not to: a quorum is there or can be had, nobody has data, a restore is under way."""
    total = len(run.names)
    healthy = [name for name, fact in facts.items() if fact.view.healthy]
    found = []
    if healthy:
        found.append(Refused(f"{', '.join(healthy)} can commit: the cluster has its quorum", hint="inv status"))
    elif len(survivors) >= quorum(total):
        found.append(
            Refused(
                f"{', '.join(survivors)} have their data, and {quorum(total)} of {total} are a quorum: nothing is lost",
                hint="inv start, or on those hosts: systemctl start etcd",
            )
        )
    elif not survivors:
        found.append(Refused("no host that can be reached has data", hint="inv restore with the newest backup"))
    found += [
        Refused(f"restore {side.unfinished} was cut short here", host=name, hint="inv restore-undo")
        for name, side in sides.items()
        if side.unfinished and side.unfinished != ID
    ]
    return found


def _salvage(run: Run, survivors: Sequence[str], store: stores.Store, work: Path) -> Source:
    """What each survivor holds, in the store; the furthest of them, by the last entry of its log."""
    run.ui.step(f"Stop {', '.join(survivors)}, and save what they hold")
    run.fleet.all(lambda host: restoration.halt(host, ID), survivors)
    logs = run.fleet.all(lambda host: _reach(host, work / f"{host.name}.wal"), survivors)
    sources: dict[str, Source] = {}
    failed: list[OpsError] = []
    for name in sorted(survivors, key=lambda name: logs[name], reverse=True):
        path = work / f"{name}.db"
        try:
            manifest = run.fleet.all(
                lambda host: salvage(
                    host, run.config.cluster.name, work / f"{host.name}.db", start=START, advance=lambda done: None
                ),
                [name],
            )[name]
        except HostsFailed as error:
            failed += error.errors
            run.ui.warn(f"{error.errors[0]}")
            continue
        manifest = manifest.model_copy(update={"purpose": "rescue"})
        store.add(path, manifest, lambda name, done, total: None)
        sources[name] = Source(manifest.name, path, prove(path), manifest)
        log = logs[name]
        run.ui.line(
            f"{name}: log to term {log.term}, index {log.index}, of which {log.committed} were known as committed; "
            f"revision {manifest.revision}; saved as {manifest.file}"
        )
        time.sleep(1.0)  # the names of two backups differ by the second
    if not sources:
        raise HostsFailed(failed, hint="no survivor's data can be read; inv restore with the newest backup")
    best = next(iter(sources))
    run.ui.line(
        f"{best} goes furthest; what only the lost members had acknowledged, and no survivor had received, is lost"
    )
    return sources[best]


def _reach(host: Host, path: Path) -> Reach:
    """How far the log on ``host`` goes; it comes here in a file, for it may be hundreds of MB."""
    with create(path) as stream:
        said: list[bytes] = []
        done = host.run(LOG, relay=(stream.write, said.append), check=False)
        if done.rc != 0:
            raise HostError(
                f"the log cannot be read: {b''.join(said).decode(errors='replace').strip()}", host=host.name
            )
    with path.open("rb") as stream:
        found = reach(stream)
    path.unlink()
    return found
