"""backup: the guide's `snapshot save`, from the member that suits best, proven before it counts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from etcdops import etcd, gate, judgement
from etcdops.agreement import compare
from etcdops.errors import HostError, HostsFailed, OpsError, Unhealthy
from etcdops.etcd import View
from etcdops.judgement import judge
from etcdops.run import Run
from etcdops.snapshots import store as stores
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.take import ROOM, take
from etcdops.steps import snapshots

MIB = 1 << 20


def backup(run: Run) -> None:
    """Take a snapshot, prove it, put it and its manifest into the store, and drop what ``backup.keep`` lets go."""
    began = time.monotonic()
    run.ui.step(f"Look at {', '.join(run.names)}")
    views = run.fleet.map(gate.ask)
    with open_store(run.config) as store, stores.workspace(run.config.resolve(run.config.backup.dir)) as work:
        run.ui.step(f"Back up {run.config.cluster.name} to {store.where}")
        path = work / "snapshot.db"
        manifest = from_cluster(run, views, path)
        with run.ui.transfer("store") as progress:
            manifest = store.add(path, manifest, progress)
        dropped: list[str] = []
        trouble = None
        if judgement.corrupt(views):
            run.ui.warn("no old backup was dropped: one from before CORRUPT may be needed")
        else:
            try:
                for name in snapshots.prune_store(run, store, manifest.cluster_id):
                    dropped.append(name)  # each by itself: what is gone is told, whatever becomes of the next
            except OpsError as error:
                trouble = error
    seconds = time.monotonic() - began
    for view in views.values():
        if isinstance(view, OpsError):
            run.ui.warn(f"{view} (the backup is whole without it)")
    shown = manifest.model_dump(mode="json")
    document = {"name": manifest.name, "file": manifest.file, "store": store.where, **shown, "pruned": dropped}
    run.emit(
        document,
        lambda: run.ui.result(
            f"{manifest.file}: revision {manifest.revision}, {manifest.size / MIB:.1f} MiB from {manifest.member}, "
            f"proven, in {store.where}, in {seconds:.1f} s"
        ),
    )
    if trouble:
        raise OpsError(f"the backup is whole, but old ones were not deleted: {trouble}", hint=trouble.hint)


def keep(run: Run, views: Mapping[str, View | OpsError]) -> Manifest:
    """A proven backup in the store, before something that there may be no other way back from."""
    with open_store(run.config) as store, stores.workspace(run.config.resolve(run.config.backup.dir)) as work:
        run.ui.step(f"Back up {run.config.cluster.name} to {store.where}")
        path = work / "snapshot.db"
        manifest = from_cluster(run, views, path)
        with run.ui.transfer("store") as progress:
            return store.add(path, manifest, progress)


def from_cluster(run: Run, views: Mapping[str, View | OpsError], path: Path) -> Manifest:
    """A proven snapshot of the cluster as it is now, in ``path``; the next member is asked where one fails."""
    _refuse_a_split(views)
    names = _undamaged(run, views) if judgement.corrupt(views) else _candidates(views)
    away = [view for view in views.values() if isinstance(view, OpsError)]
    if len(away) == len(views):
        raise HostsFailed(away)
    if not names:
        reasons = judge(run.config, views).reasons
        raise Unhealthy(
            f"no backup: no member can commit: {'; '.join(reasons)}",
            hint="inv status; inv recover, if that is for good",
        )
    failed: list[OpsError] = []
    for name in names:
        try:
            return from_member(run, views, name, path, quorum=True)
        except HostError as error:
            failed.append(error)
            path.unlink(missing_ok=True)
            run.ui.warn(f"{error}; {'trying the next member' if name != names[-1] else 'no member is left to try'}")
    raise HostsFailed(failed, hint="there is no backup of this run; inv status")


def _refuse_a_split(views: Mapping[str, View | OpsError]) -> None:
    """Members of two clusters, such as after a recovery that some of them missed: which one is meant?"""
    if shown := judgement.split(views):
        raise Unhealthy(
            f"no backup: the members run in different clusters ({shown})",
            hint="stop etcd on the hosts of the wrong one, and run it again",
        )


def from_member(run: Run, views: Mapping[str, View | OpsError], name: str, path: Path, *, quorum: bool) -> Manifest:
    """A proven snapshot of one member, in ``path``."""
    view = views[name]
    size = view.status.db_size if isinstance(view, View) and view.status else 0
    free = shutil.disk_usage(path.parent).free
    if free < size + ROOM:
        raise OpsError(
            f"{path.parent}: {free // MIB} MiB free, {(size + ROOM) // MIB} MiB needed",
            hint="free some space there, or set backup.dir to another disk",
        )
    with run.ui.transfer("fetch from") as progress:

        def work(host: object) -> Manifest:
            return take(
                run.fleet[name],
                run.config.cluster.name,
                path,
                quorum=quorum,
                advance=lambda done: progress(name, done, max(done, size)),
            )

        found = run.fleet.map(work, [name])[name]
    if isinstance(found, OpsError):
        if not isinstance(found, HostError):
            found.host = ""  # it is this machine's trouble
        raise found
    return found


def _undamaged(run: Run, views: Mapping[str, View | OpsError]) -> list[str]:
    """The candidates while CORRUPT is raised: of the majority that holds the same; ``Unhealthy`` where none does."""
    revision, found = gate.contents(run)
    result = compare(found, revision)
    if len(result.good) < etcd.quorum(len(found)):
        raise Unhealthy(
            f"no backup: CORRUPT is raised, and no majority tells that it holds the same data: {result.reason}",
            hint=gate.CHANGE_NOTHING,
        )
    bad = f", not that of {', '.join(result.bad)}" if result.bad else ""
    run.ui.warn(f"CORRUPT is raised: this is the data of {', '.join(result.good)}{bad}, and the alarm is in it")
    return _candidates(
        {
            name: view.but_for_alarms()
            for name, view in views.items()
            if isinstance(view, View) and name in result.good and view.has_quorum
        }
    )


def _candidates(views: Mapping[str, View | OpsError]) -> list[str]:
    """Voters that can commit: followers first, who have the disk to themselves, the leader last."""
    fit = judgement.voters(views)
    return sorted(fit, key=lambda name: (fit[name].is_leader, -fit[name].applied))
