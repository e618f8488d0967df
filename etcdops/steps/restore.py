"""restore: the whole cluster from one snapshot, or nothing at all (etcd-operations 3.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from etcdops import guards, layout, restoration
from etcdops.errors import HostsFailed, OpsError, Refused, Unhealthy
from etcdops.facts import gather
from etcdops.run import Run
from etcdops.schedule import span
from etcdops.snapshots import fit
from etcdops.snapshots import store as stores
from etcdops.snapshots.opened import open_store
from etcdops.ssh import Host
from etcdops.steps import delivery, sources
from etcdops.steps.before import Cluster, look
from etcdops.steps.exchange import Exchange, complete, findings, is_early, put_back, rescue, start, wait
from etcdops.steps.sources import Source

MIB = 1 << 20
BACK = "the old data was being put back and etcd started (where it is back already, inv start does the rest)"


def restore(run: Run, which: str, *, raw: bool = False, of_cluster: str = "") -> None:
    """Replace what the cluster holds by the snapshot ``which``: a file, the name of a backup, or 'latest'."""
    began = time.monotonic()
    cluster = look(run)
    completed = _complete(run, *(_ended(cluster) or _recorded(run, cluster)))
    if completed and run.dry_run:
        return
    with open_store(run.config) as store, stores.workspace(run.config.resolve(run.config.backup.dir)) as work:
        run.ui.step(f"Prove {which}")
        source, stored = sources.find(run, store, which, work, raw=raw, id_=cluster.id)
        if completed:  # clients may have written to it for hours: only who is told of it may give that up
            _stands(run, completed, source)
            return
        unfit = fit.findings(run.config, source.proof, source.manifest, of_cluster)
        guards.refuse([*findings(run, cluster), *_outsiders(run, cluster), *unfit])
        _show(run, cluster, source)
        if run.dry_run:
            run.decided(_lines(Exchange.plan(run, cluster, source, standing="")))
            return
        run.confirm(f"Restore {run.config.cluster.name} from it", answer=run.config.cluster.name)
        standing = "the cluster was not touched"
        if cluster.unfinished:
            standing = f"the data is back that restore {cluster.unfinished} had replaced, and nothing was restored"
            run.decided(_back(cluster))
            if not any(side.barred for side in cluster.sides.values()):
                rescue(run, cluster, store, work)  # clients may have written to what it had brought
                stored = store.manifests()
            _, trouble = _return(run, cluster.unfinished)
            if trouble:
                run.ui.warn(f"{trouble}; its data is set aside on its host all the same")
            cluster = look(run)
        delivery.issue(run)
        own = (each for each in stored if each.cluster == run.config.cluster.name)
        seen = max((each.revision for each in own), default=0)
        exchange = Exchange.plan(run, cluster, source, seen=seen, standing=standing)
        run.decided(_lines(exchange))
        exchange.prepare()
        exchange.rescue(store, work)
        exchange.swap()
        exchange.commit()
    run.ui.result(f"restored in {time.monotonic() - began:.1f} s: {exchange.outcome}")


def undo(run: Run) -> None:
    """Put the old data back where a restore was cut short, and start what had been running."""
    cluster = look(run)
    if _complete(run, *_ended(cluster)):
        if not run.dry_run:
            run.ui.result("there is no way back from there")
        return
    if not cluster.unfinished:
        down = [name for name, fact in cluster.facts.items() if fact.has_data and not fact.is_running]
        hint = f"etcd does not run on {', '.join(down)}: inv start" if down else "inv status"
        raise Refused("no restore was cut short on any of these hosts", hint=hint)
    if run.decided(_back(cluster)):
        return
    served = not any(side.barred for side in cluster.sides.values())
    newer = "; what has been written since is set aside on each host" if served else ""
    run.confirm(f"The data comes back that restore {cluster.unfinished} had replaced{newer}")
    names, trouble = _return(run, cluster.unfinished)
    if trouble:
        raise trouble
    run.ui.result(f"the old data is back: {len(names)} members healthy" if names else "the old state is back")


def _back(cluster: Cluster) -> Iterator[str]:
    """What is put back, a line for each host."""
    for name, side in cluster.sides.items():
        if side.unfinished:
            yield f"{name}  put the data back that restore {side.unfinished} had replaced"


def _return(run: Run, id_: str) -> tuple[list[str], OpsError | None]:
    """Undo restore ``id_``, and start every member that has data: those members, and what keeps them from serving.

    ``HostsFailed`` where it cannot be undone, once the others were started: they may be a quorum.
    """
    names: list[str] = []
    trouble = None
    with run.unbroken(BACK):  # once it is back, nothing on the hosts says that their etcd is to be started
        back, failed = put_back(run, id_)
        try:
            names = _revive(run, back)
        except OpsError as error:
            trouble = error
    if failed:
        for each in getattr(trouble, "errors", (trouble,)) if trouble else ():
            run.ui.warn(str(each))
        done = f"{', '.join(back)}: the old data is back, and etcd was started" if back else "no host has its old data"
        raise HostsFailed(failed, hint=f"{done}; inv restore-undo does the rest once that is mended")
    return names, trouble


def _revive(run: Run, names: Sequence[str]) -> list[str]:
    """Start those of ``names`` that have data, and wait for them."""
    names = [name for name, fact in run.fleet.all(gather, names).items() if fact.has_data]
    start(run, names)
    wait(run, names)
    return names


def _outsiders(run: Run, cluster: Cluster) -> list[Refused]:
    """Members of the running cluster that are not in config.yaml, and run: they would go on with the old data."""
    names = {member.name for member in run.config.members}
    found: list[Refused] = []
    for host, view in cluster.views.items():
        for each in view.members or ():
            if each.name in names or not each.started or any(other.message.startswith(each.name) for other in found):
                continue
            asked = run.fleet.all(lambda host, urls=each.client_urls: _answers(host, urls), [host])  # type: ignore[misc]
            if asked[host]:
                found.append(
                    Refused(
                        f"{each.name} ({', '.join(each.client_urls)}) runs, is not in config.yaml, and would go on "
                        "with the old data",
                        hint=f"on its host: systemctl disable --now etcd; or add {each.name} to config.yaml",
                    )
                )
    return found


def _answers(host: Host, urls: Sequence[str]) -> bool:
    """Whether an etcd that can be reached from ``host`` answers there, healthy or not."""
    script = (
        layout.script("client")
        + '\netcdctl --endpoints="$1" $SECURE --dial-timeout=4s --command-timeout=3s endpoint status >/dev/null 2>&1'
    )
    return host.client(script, ",".join(urls), check=False).rc == 0


def _complete(run: Run, id_: str = "", names: Sequence[str] = ()) -> str:
    """Finish restore ``id_``, which was cut short after its good end, on ``names``: its id, or '' if there is none."""
    what = f"set the data aside for good that restore {id_} has replaced"
    if id_ and not run.decided(f"{name}  {what}" for name in names):
        complete(run, id_, names)
        run.ui.result(f"restore {id_} had been cut short at its very end; it is complete now")
    return id_


def _ended(cluster: Cluster) -> tuple[str, list[str]] | tuple[()]:
    """The restore that was cut short after its good end, and the hosts where that is to be completed; () for none.

    There is no way back from there.
    """
    for id_ in {id_ for side in cluster.sides.values() for id_ in (*side.aside, *side.sealed)}:
        names = [name for name, side in cluster.sides.items() if id_ in side.swapped + side.sealed]
        if names:
            return id_, names
    return ()


def _recorded(run: Run, cluster: Cluster) -> tuple[str, list[str]] | tuple[()]:
    """The same for one that was cut short just before: every member had been recorded, hence the new cluster checked.

    ``Unhealthy`` where it does not serve: what clients have written to it is not given up for a member that is slow.
    """
    id_ = cluster.unfinished
    there = all(id_ in side.swapped and not side.barred for side in cluster.sides.values())
    if not (id_ and there and all(fact.identity for fact in cluster.facts.values())):
        return ()
    _await(run, f"inv status; once every member serves, the same again completes restore {id_}; or inv restore-undo")
    return id_, run.names


def _stands(run: Run, completed: str, source: Source) -> None:
    """Whether restore ``completed`` is what was asked for, and serves."""
    if not completed.endswith(source.proof.sha256[:8]):
        raise Refused(f"{source.name} is another snapshot, and was not restored", hint="the same again restores it")
    _await(run, "inv status; the same again would restore it once more, without what was written since")


def _await(run: Run, hint: str) -> None:
    """Until every member can commit: one may be starting still, and alarms come with the data."""
    try:
        wait(run, run.names)
    except Unhealthy as error:
        raise Unhealthy(error.message, hint=hint) from None


def _show(run: Run, cluster: Cluster, source: Source) -> None:
    """What comes and what goes, for who has to decide."""
    proof, manifest = source.proof, source.manifest
    head = f"{source.name}: revision {proof.revision}, {proof.size / MIB:.1f} MiB"
    if manifest:
        age = span(datetime.now(UTC) - manifest.taken)
        keys = f", {manifest.keys} keys" if manifest.keys is not None else ""
        head += f"{keys}, taken {age} ago from {manifest.member}, etcd {manifest.etcd_version}"
    else:
        head += "; it has no manifest: its SHA-256 is right, and nothing says whose it is"
    if proof.raw:
        head += "; a raw database: nothing vouches for its content"
    run.ui.line(head)
    if proof.auth_enabled:
        run.ui.line("authentication is on in it: its users come back, with the passwords of that time")
    if not cluster.views:
        running = ", ".join(cluster.running)
        run.ui.line(
            f"etcd runs on {running}, and does not tell its status: inv status" if running else "no member runs now"
        )
        return
    leader = next((name for name, view in cluster.views.items() if view.status and view.status.is_leader), "nobody")
    members = {member.address for member in run.config.members}
    clients = set().union(*(side.clients for side in cluster.sides.values())) - members - {"127.0.0.1", "::1"}
    newer = cluster.revision - proof.revision
    lost = f"; {newer} revisions newer than the snapshot are lost" if 0 < newer < restoration.BUMP else ""
    if newer >= restoration.BUMP:  # it was restored itself, and its revisions raised
        lost = "; what was written to it since the snapshot was taken is lost"
    connected = f"{len(clients)} hosts connected"
    run.ui.line(f"the running cluster: revision {cluster.revision}, {leader} leads, {connected}{lost}")


def _lines(exchange: Exchange) -> Iterator[str]:
    """What happens on each host; the same for --dry-run and for a real run."""
    run, cluster, changes = exchange.run, exchange.before, exchange.changes
    for name in run.names:
        if cluster.sides[name].unfinished:
            yield f"{name}  put the data back that restore {cluster.sides[name].unfinished} had replaced"
        for change in filter(is_early, changes[name]):
            yield f"{name}  {change}"
        yield f"{name}  send the snapshot and restore it beside the old data"
        if cluster.facts[name].is_running:
            yield f"{name}  systemctl stop etcd"
        aside = "set the old data aside and " if cluster.facts[name].data else ""
        yield f"{name}  {aside}put the restored data in its place"
        for change in (change for change in changes[name] if not is_early(change)):
            yield f"{name}  {change}"
        yield f"{name}  systemctl start etcd"
