"""restore: the whole cluster from one snapshot, or nothing at all (etcd-operations 3.4).

All that takes long or can go wrong happens beside the running cluster: the snapshot is proven here, sent to every host
and restored there next to the old data.  Only then is the cluster stopped, two renames on each host made, and the new
one started.  Whatever fails after that puts the old data back and the old cluster up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from etcdops import apply, desired, gate, guards, restoration
from etcdops.config import Config
from etcdops.errors import OpsError, Refused, Unhealthy
from etcdops.etcd import View
from etcdops.facts import HostFacts, gather
from etcdops.plan import Change, Directory, Release, User, diff
from etcdops.restoration import Restoration, Side
from etcdops.rollout import new_token
from etcdops.run import Run
from etcdops.schedule import span
from etcdops.snapshots import fit
from etcdops.snapshots import store as stores
from etcdops.steps import backup, content, delivery, snapshots
from etcdops.steps.converge import ALL_STEPS
from etcdops.steps.snapshots import Source

MIB = 1 << 20
RETRY = "the same command again starts over"


@dataclass(frozen=True)
class Cluster:
    """The hosts as they are before: their facts, what restores have left there, and who leads or runs."""

    facts: Mapping[str, HostFacts]
    sides: Mapping[str, Side]

    @property
    def views(self) -> dict[str, View]:
        """What each member says that runs."""
        return {name: fact.view for name, fact in self.facts.items() if fact.view.status}

    @property
    def running(self) -> list[str]:
        """The members that run, the leader last: alone it does not wait to hand over."""
        names = [name for name, fact in self.facts.items() if fact.is_running]
        return sorted(names, key=lambda name: bool((s := self.facts[name].view.status) and s.is_leader))

    @property
    def ids(self) -> set[int]:
        """The ids of the clusters that the members run in: one, if all is well."""
        return {view.status.cluster_id for view in self.views.values() if view.status}

    @property
    def revision(self) -> int:
        """The newest revision that a running member has, 0 if none runs."""
        return max((view.status.revision for view in self.views.values() if view.status), default=0)

    def part(self, id_: int) -> dict[str, View]:
        """The views of the members that run in cluster ``id_``."""
        return {name: view for name, view in self.views.items() if view.status and view.status.cluster_id == id_}

    @property
    def has_data(self) -> bool:
        """Whether any host has data that will be set aside."""
        return any(fact.data for fact in self.facts.values())

    @property
    def unfinished(self) -> str:
        """The id of a restore that was cut short, '' if there is none."""
        return next(filter(None, (side.unfinished for side in self.sides.values())), "")


def restore(run: Run, which: str, *, raw: bool = False, of_cluster: str = "") -> None:
    """Replace what the cluster holds by the snapshot ``which``: a file, the name of a backup, or 'latest'."""
    began = time.monotonic()
    cluster = look(run)
    with stores.open_store(run.config) as store, stores.workspace(run.config.resolve(run.config.backup.dir)) as work:
        run.ui.step(f"Prove {which}")
        source = snapshots.find(run, store, which, work, raw=raw)
        if cluster.unfinished and _has_ended(run, cluster, source):
            run.fleet.all(lambda host: restoration.commit(host, cluster.unfinished))
            run.ui.result(f"restore {cluster.unfinished} had been cut short at its very end; it is complete now")
            return
        guards.refuse(
            [*_findings(run.config, cluster), *fit.findings(run.config, source.proof, source.manifest, of_cluster)]
        )
        plan = _plan(run, cluster, source)
        changes = _changes(run, cluster, plan)
        _show(run, cluster, source)
        if run.dry_run:
            _rehearse(run, cluster, plan, changes)
            return
        run.confirm(f"Restore {run.config.cluster.name} from it", answer=run.config.cluster.name)
        if cluster.unfinished:
            _put_back(run, cluster.unfinished)
            cluster = look(run)
        _prepare(run, plan, cluster, changes, source)
        try:
            _rescue(run, cluster, store, work)
        except BaseException:
            _discard(run, plan)
            raise
        views = _swap(run, plan, cluster, changes, source)
    _close(run, plan, cluster, source, views, time.monotonic() - began)


def replace_all(run: Run, cluster: Cluster, source: Source, began: float) -> None:
    """What follows in a restore once the operator has agreed and nobody is left to take a last snapshot of."""
    plan = _plan(run, cluster, source)
    changes = _changes(run, cluster, plan)
    _prepare(run, plan, cluster, changes, source)
    views = _swap(run, plan, cluster, changes, source)
    _close(run, plan, cluster, source, views, time.monotonic() - began)


def _close(run: Run, plan: Restoration, cluster: Cluster, source: Source, views: gate.Views, seconds: float) -> None:
    run.ui.result(
        f"restored in {seconds:.1f} s: {len(views)} members healthy, revision {source.proof.revision + plan.bump}"
        + (f"; the old data is set aside as {plan.id}: inv snapshot.list --set-aside" if cluster.has_data else "")
    )


def undo(run: Run) -> None:
    """Put the old data back where a restore was cut short, and start what had been running."""
    cluster = look(run)
    if not cluster.unfinished:
        raise Refused("no restore was cut short on any of these hosts", hint="inv status")
    if run.dry_run:
        for name, side in cluster.sides.items():
            if side.unfinished:
                run.ui.result(f"{name}  put the data back that restore {side.unfinished} had replaced")
        return
    run.confirm(f"Put the data back that restore {cluster.unfinished} had replaced")
    _put_back(run, cluster.unfinished)
    facts = run.fleet.all(gather)
    names = [name for name, fact in facts.items() if fact.has_data]
    _start(run, names)
    _wait(run, names)
    run.ui.result(f"the old data is back: {len(names)} members healthy" if names else "the old state is back")


def look(run: Run) -> Cluster:
    """Every host; none may be missing, since one that comes back later would come back with the old data."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    both = run.fleet.all(lambda host: (gather(host), restoration.look(host)))
    return Cluster({name: each[0] for name, each in both.items()}, {name: each[1] for name, each in both.items()})


def _findings(config: Config, cluster: Cluster) -> list[Refused]:
    found = guards.beneath_a_restore(config, cluster.facts)
    found += [
        Refused(
            f"{side.mounted} is a mount point, and cannot be renamed", host=name, hint="mount the disk at its parent"
        )
        for name, side in cluster.sides.items()
        if side.mounted
    ]
    names = {member.name for member in config.members}
    others = {each.name: each for view in cluster.views.values() if view.healthy for each in view.members or ()}
    found += [
        Refused(
            f"member {each.name} ({', '.join(each.client_urls)}) is in the running cluster and not in config.yaml: it "
            "would go on with the old data",
            hint=f"on its host: systemctl disable --now etcd; or add {each.name} to config.yaml",
        )
        for each in others.values()
        if each.started and each.name not in names
    ]
    return found


def _has_ended(run: Run, cluster: Cluster, source: Source) -> bool:
    """Whether a restore of this very snapshot was cut short after all that matters."""
    return (
        cluster.unfinished.endswith(source.proof.sha256[:8])
        and all(side.swapped and not side.barred for side in cluster.sides.values())
        and bool(gate.judge(run.config, {name: fact.view for name, fact in cluster.facts.items()}))
        and all(fact.identity for fact in cluster.facts.values())
    )


def _plan(run: Run, cluster: Cluster, source: Source) -> Restoration:
    config = run.config
    return Restoration(
        id=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{source.proof.sha256[:8]}",
        token=new_token(config),
        version=config.cluster.version,
        scheme="https" if config.cluster.tls else "http",
        members=config.members,
        size=source.proof.size,
        sha256=source.proof.sha256,
        raw=source.proof.raw,
        bump=restoration.bump(config.cluster.version, source.proof.revision, cluster.revision),
    )


def _changes(run: Run, cluster: Cluster, plan: Restoration) -> dict[str, Sequence[Change]]:
    """What else than the data a host needs, as for a member that has never started."""
    if run.config.cluster.tls and not run.dry_run:
        delivery.issue(run)
    bare = {
        name: replace(fact, identity={}, view=View(), unit=replace(fact.unit, active="inactive", pid=0))
        for name, fact in cluster.facts.items()
    }
    wants = delivery.wants(run, bare, plan.token)
    return {name: diff(desired.resources(want, ALL_STEPS), cluster.facts[name]) for name, want in wants.items()}


def _early(change: Change) -> bool:
    """What a running member does not notice, and staging needs."""
    return isinstance(change.resource, Release | User | Directory)


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
    if not cluster.views:
        run.ui.line("no member runs now")
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


def _rehearse(run: Run, cluster: Cluster, plan: Restoration, changes: Mapping[str, Sequence[Change]]) -> None:
    for name in run.names:
        if cluster.sides[name].unfinished:
            run.ui.result(f"{name}  put the data back that restore {cluster.sides[name].unfinished} had replaced")
        for change in filter(_early, changes[name]):
            run.ui.result(f"{name}  {change}")
        run.ui.result(f"{name}  send the snapshot and restore it beside the old data")
        if cluster.facts[name].is_running:
            run.ui.result(f"{name}  systemctl stop etcd")
        aside = "set the old data aside and " if cluster.facts[name].data else ""
        run.ui.result(f"{name}  {aside}put the restored data in its place")
        for change in (change for change in changes[name] if not _early(change)):
            run.ui.result(f"{name}  {change}")
        run.ui.result(f"{name}  systemctl start etcd")


def _prepare(
    run: Run, plan: Restoration, cluster: Cluster, changes: Mapping[str, Sequence[Change]], source: Source
) -> None:
    """Everything that can be done while the old cluster serves; when it fails, nothing of it is left."""
    early = {name: [change for change in each if _early(change)] for name, each in changes.items()}
    delivery.push(run, early, delivery.archives(run, cluster.facts, early))
    run.ui.step(f"Send the snapshot to {', '.join(run.names)} and restore it there, beside the old data")
    try:
        with run.ui.transfer("send to") as progress:
            run.fleet.all(lambda host: plan.stage(host, source.path, lambda done: progress(host.name, done, plan.size)))
    except BaseException:
        _discard(run, plan)
        raise


def _discard(run: Run, plan: Restoration) -> None:
    run.reconnect()  # Ctrl-C has closed every connection
    run.fleet.map(plan.discard)
    run.ui.line("what was staged is deleted again; the cluster was not touched")


def _rescue(run: Run, cluster: Cluster, store: stores.Store, work: Path) -> None:
    """A last snapshot of what is about to be replaced, while somebody can still give it."""
    for id_ in sorted(cluster.ids):
        _rescue_one(run, cluster.part(id_), store, work / f"{id_:x}.db")


def _rescue_one(run: Run, views: Mapping[str, View], store: stores.Store, path: Path) -> None:
    run.ui.step("Take a last snapshot of the cluster as it is")
    healthy = any(view.healthy for view in views.values())
    try:
        if healthy:
            manifest = backup.from_cluster(run, views, path)
        else:
            best = max(views, key=lambda name: (views[name].status.term, views[name].status.index))  # type: ignore[union-attr]
            manifest = backup.from_member(run, views, best, path, quorum=False)
        manifest = store.add(path, manifest.model_copy(update={"purpose": "rescue"}), lambda name, done, total: None)
        run.ui.line(f"{manifest.file} in {store.where}")
    except OpsError as error:
        if healthy:
            raise
        run.ui.warn(f"no last snapshot: {error}; its data is set aside on its host all the same")


def _swap(
    run: Run, plan: Restoration, cluster: Cluster, changes: Mapping[str, Sequence[Change]], source: Source
) -> gate.Views:
    """From the stop to the first write: the only time in which the cluster does not serve."""
    late = {name: [change for change in each if not _early(change)] for name, each in changes.items()}
    try:
        _halt(run, plan, cluster)
        run.ui.step("Swap the data, and start the new cluster")
        run.fleet.all(plan.swap)
        delivery.push(run, late, {})
        run.fleet.all(plan.release)
        _start(run, run.names)
        views = _check(run, plan, cluster, source)
        delivery.record(run, cluster.facts, views, plan.token, run.names, ALL_STEPS)
    except BaseException as error:
        _roll_back(run, plan, cluster, error)
        raise
    run.fleet.all(plan.commit)
    return views


def _halt(run: Run, plan: Restoration, cluster: Cluster) -> None:
    """Followers first, the leader after them; then the hosts where none runs are barred, too."""
    run.ui.step(f"Stop {', '.join(cluster.running) or 'nothing: no member runs'}")
    leader = cluster.running[-1:]
    for names in ([name for name in run.names if name not in leader], leader):
        run.fleet.all(plan.halt, names)


def _check(run: Run, plan: Restoration, cluster: Cluster, source: Source) -> gate.Views:
    """Another cluster than before, whole, with the same content on every member: that of the snapshot."""
    views = _wait(run, run.names)
    ids = {view.status.cluster_id for view in views.values() if isinstance(view, View) and view.status}
    if ids & cluster.ids:
        raise Unhealthy(f"the members run in the old cluster still ({next(iter(ids)):x})")
    verdict = gate.judge(run.config, views)
    alarms = [reason for reason in verdict.reasons if "alarm" in reason.lower()]
    if len(alarms) < len(verdict.reasons):
        raise Unhealthy("; ".join(verdict.reasons))
    for alarm in alarms:
        run.ui.warn(f"{alarm}: it came with the snapshot")
    expected = source.proof.revision + plan.bump
    found = run.fleet.all(lambda host: content.ask(host, expected))
    content.compare(found, source.manifest, expected, bumped=bool(plan.bump))
    return views


def _roll_back(run: Run, plan: Restoration, cluster: Cluster, error: BaseException) -> None:
    """The old data back on every host, and the old cluster up; says so, or what is to be done about it."""
    run.reconnect()  # Ctrl-C has closed every connection
    run.ui.step(f"It failed ({error or type(error).__name__}): put the old data back")
    try:
        _put_back(run, plan.id)
        _start(run, cluster.running)
        _wait(run, cluster.running)
    except OpsError as trouble:
        for line in getattr(trouble, "errors", [trouble]):
            run.ui.warn(f"{line}")
        run.ui.warn("the old cluster is not back yet: inv restore-undo does it, once the hosts answer")
        return
    ids = ", ".join(f"{each:x}" for each in cluster.ids)
    run.ui.line(f"the old data is back; the old cluster {f'({ids}) serves again' if ids else 'did not run before'}")


def _put_back(run: Run, id_: str) -> None:
    run.fleet.all(lambda host: restoration.undo(host, id_))


def _start(run: Run, names: Sequence[str]) -> None:
    if names:
        run.fleet.all(lambda host: apply.service(host, "start", seconds=run.patience), names)


def _wait(run: Run, names: Sequence[str]) -> gate.Views:
    """Until every one of ``names`` can commit, but for alarms; ``Unhealthy`` when the patience is at its end."""
    deadline = time.monotonic() + run.patience
    while True:
        views = run.fleet.map(gate.ask, names)
        bad = [
            f"{name}: {view if isinstance(view, OpsError) else view.complaint}"
            for name, view in views.items()
            if isinstance(view, OpsError) or not (view.healthy or view.alarms)
        ]
        if not bad:
            return views
        if time.monotonic() > deadline:
            raise Unhealthy("; ".join(bad))
        time.sleep(gate.POLL)
