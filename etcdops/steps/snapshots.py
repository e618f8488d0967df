"""snapshot.list, snapshot.verify, snapshot.prune: what is in the store, whether it is good, what may go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from etcdops.errors import OpsError
from etcdops.run import Run
from etcdops.snapshots import store as stores
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.proof import count_keys
from etcdops.snapshots.retention import expired, reasons
from etcdops.snapshots.store import Store
from etcdops.steps import sources
from etcdops.steps.sources import Source

MIB = 1 << 20


def list_(run: Run) -> None:
    """Every backup in the store, newest first; what is damaged there, as warnings."""
    now = datetime.now(UTC)
    with open_store(run.config) as store:
        manifests = store.manifests()
        own = [each.name for each in sources.ours(run, manifests, rescues=True)]
        document = {
            "store": store.where,
            "backups": [
                {**_row(each), "age_s": int((now - each.taken).total_seconds()), "own": each.name in own}
                for each in manifests
            ],
            "damaged": list(store.damaged),
        }
    for what in document["damaged"]:
        run.ui.warn(str(what))
    run.emit(document, lambda: _show(run, str(document["store"]), manifests, own, now))


def verify(run: Run, which: str, drill: Callable[[Run, Source], dict[str, Any]] | None = None) -> None:
    """Prove a snapshot from its bytes; with ``drill`` by a restore, too.  ``which`` as for `find`."""
    with open_store(run.config) as store, stores.workspace(run.config.resolve(run.config.backup.dir)) as work:
        run.ui.step(f"Prove {which}")
        source = sources.choose(run, store, store.manifests, which, work)
        keys = _count(source)
        document = {**_facts(source), "keys": keys, "drill": drill(run, source) if drill else None}
    proof, manifest = source.proof, source.manifest
    if not manifest:
        run.ui.warn(f"{source.name} has no manifest beside it: when and of which cluster it was taken, nothing tells")
    age = f", {sources.old(datetime.now(UTC) - manifest.taken)}, from {manifest.member}" if manifest else ""
    text = f"{source.name}: proven: revision {proof.revision}, {keys} keys, "
    run.emit(document, lambda: run.ui.result(f"{text}{_size(proof.size)}{age}{_drilled(document['drill'])}"))


def prune(run: Run) -> None:
    """Delete the backups of this cluster that backup.keep lets go, and say why the others stay."""
    keep = run.config.backup.keep
    with open_store(run.config) as store:
        removed = []
        for name in prune_store(run, store):
            removed.append(name)
            run.ui.result(f"{name}  {'would be deleted' if run.dry_run else 'deleted'}")
        manifests = store.manifests()
        own = sources.ours(run, manifests, sure=True)
        stay = reasons(own, keep, datetime.now(UTC))
        for each in sources.of_others(run, manifests, own):
            alike = not own and sources.is_at_home(run, each)
            why = f"one of several clusters of this name, {sources.UNKNOWN}" if alike else sources.of_another(each)
            run.ui.result(f"{each.name}  stays: {why}")
        for what in store.damaged:
            run.ui.warn(f"{what}; left as it is")
    for manifest, why in stay:
        if manifest.name not in removed:
            run.ui.result(f"{manifest.name}  stays: {why}")
    if not removed:
        run.ui.result("nothing to do")


def prune_store(run: Run, store: Store, id_: str = "") -> Iterator[str]:
    """Delete the backups of this cluster that backup.keep lets go; the name of each when it is gone, oldest first.

    Backups that are not whole count for nothing, and are left as they are; so are those of another cluster of the same
    name.  ``id_``: of this cluster, where it is known.
    """
    own = sources.ours(run, store.manifests(), id_, sure=True)
    for manifest in expired(own, run.config.backup.keep, datetime.now(UTC)):
        if not run.dry_run:
            store.remove(manifest)
        yield manifest.name


def _count(source: Source) -> int:
    keys = count_keys(source.path)
    manifest = source.manifest
    if manifest and manifest.keys is not None and manifest.keys != keys:
        raise OpsError(
            f"{source.name}: holds {keys} keys; the cluster had {manifest.keys} at that revision",
            hint="take another backup, and look at the members: inv status",
        )
    return keys


def _facts(source: Source) -> dict[str, Any]:
    proof = source.proof
    return {
        "name": source.name,
        "size": proof.size,
        "sha256": proof.sha256,
        "revision": proof.revision,
        "compact_revision": proof.compact_revision,
        "cluster_version": proof.cluster_version,
        "storage_version": proof.storage_version,
        "auth_enabled": proof.auth_enabled,
        "members": [{"id": each.id, "name": each.name, "peer_urls": list(each.peer_urls)} for each in proof.members],
        "manifest": _row(source.manifest) if source.manifest else None,
    }


def _drilled(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    held = [
        what
        for key, what in (("hash_as_in_manifest", "its manifest"), ("hash_as_in_cluster", "the cluster"))
        if found.get(key)
    ]
    return f"; restored on {found['on']}: " + (f"the same data as {' and '.join(held)}" if held else "it serves")


def _row(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "file": manifest.file, **manifest.model_dump(mode="json")}


def _show(run: Run, where: str, manifests: list[Manifest], own: Sequence[str], now: datetime) -> None:
    if not manifests:
        run.ui.result(f"{where}: no backup")
        return
    columns = ("name", "age", "revision", "keys", "size", "etcd", "member", "encrypted")
    strange = [each.cluster == run.config.cluster.name and each.name not in own for each in manifests]
    rows = [
        (
            each.name,
            sources.old(now - each.taken).removesuffix(" old"),
            str(each.revision),
            "" if each.keys is None else str(each.keys),
            _size(each.stored_size),
            each.etcd_version,
            each.member,
            "age" if each.encrypted else "no",
            *([f"another, {each.cluster_id}" if stranger else ""] if any(strange) else ()),
        )
        for each, stranger in zip(manifests, strange, strict=True)
    ]
    run.ui.table((*columns, "cluster") if any(strange) else columns, rows)


def _size(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"
