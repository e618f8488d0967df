"""snapshot.list, snapshot.verify, snapshot.prune: what is in the store, whether it is good, what may go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from etcdops.errors import OpsError, UsageError
from etcdops.run import Run
from etcdops.schedule import span
from etcdops.snapshots import lineage
from etcdops.snapshots import store as stores
from etcdops.snapshots.age import Encrypted
from etcdops.snapshots.manifest import Manifest, beside
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.proof import Proof, count_keys, prove
from etcdops.snapshots.retention import expired, reasons
from etcdops.snapshots.store import FolderStore, Store

MIB = 1 << 20
UNKNOWN = "and nothing tells which is this one"
SKEW = timedelta(minutes=5)  # by which the clocks of two machines may differ and none be called wrong


@dataclass(frozen=True)
class Source:
    """A snapshot on this machine that was proven, and is the one that its manifest describes, if it has one."""

    name: str
    path: Path
    proof: Proof
    manifest: Manifest | None


def list_(run: Run) -> None:
    """Every backup in the store, newest first; what is damaged there, as warnings."""
    now = datetime.now(UTC)
    with open_store(run.config) as store:
        manifests = store.manifests()
        own = [each.name for each in _own(run, manifests, rescues=True)]
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
        source = _find(run, store, store.manifests, which, work)
        keys = _count(source)
        document = {**_facts(source), "keys": keys, "drill": drill(run, source) if drill else None}
    proof, manifest = source.proof, source.manifest
    if not manifest:
        run.ui.warn(f"{source.name} has no manifest beside it: when and of which cluster it was taken, nothing tells")
    age = f", {_age(datetime.now(UTC) - manifest.taken)}, from {manifest.member}" if manifest else ""
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
        own = _own(run, manifests, sure=True)
        stay = reasons(own, keep, datetime.now(UTC))
        for each in _strangers(run, manifests, own):
            alike = not own and _is_at_home(run, each)
            why = f"one of several clusters of this name, {UNKNOWN}" if alike else _of_another(each)
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
    own = _own(run, store.manifests(), id_, sure=True)
    for manifest in expired(own, run.config.backup.keep, datetime.now(UTC)):
        if not run.dry_run:
            store.remove(manifest)
        yield manifest.name


def _own(
    run: Run, manifests: Sequence[Manifest], id_: str = "", *, rescues: bool = False, sure: bool = False
) -> list[Manifest]:
    """The backups of this cluster, newest first; not what a restore has saved before it replaced it, but with
    ``rescues``.  ``sure``: as whoever deletes has to be."""
    named = [each for each in manifests if each.cluster == run.config.cluster.name]
    kept = named if rescues else [each for each in named if each.purpose == "backup"]
    return lineage.own(kept, [member.address for member in run.config.members], id_, sure=sure)


def _strangers(run: Run, manifests: Sequence[Manifest], own: Sequence[Manifest]) -> list[Manifest]:
    """The backups of other clusters of this name."""
    mine = {each.name for each in own}
    named = [each for each in manifests if each.cluster == run.config.cluster.name and each.purpose == "backup"]
    return [each for each in named if each.name not in mine]


def _is_at_home(run: Run, manifest: Manifest) -> bool:
    """Whether a member of this cluster has an address that the backup names."""
    return not lineage.addresses(manifest).isdisjoint(member.address for member in run.config.members)


def _of_another(manifest: Manifest) -> str:
    where = ", ".join(sorted(lineage.addresses(manifest)))
    return f"of another cluster of this name, with the id {manifest.cluster_id or 'unknown'}, at {where or 'unknown'}"


def find(
    run: Run, store: Store, which: str, work: Path, *, raw: bool = False, id_: str = ""
) -> tuple[Source, Sequence[Manifest]]:
    """The snapshot ``which``, proven: a file, the name of a backup in ``store``, or 'latest', this cluster's newest;
    and all that the store has, for a look at it may take long.

    What is elsewhere or encrypted is brought to ``work``, a private folder.  ``raw``: a file without its own SHA-256.
    For a restore: the user hears when the members may have a newer backup than that 'latest'.  ``id_``: of this
    cluster, where it is known.
    """
    manifests = store.manifests()
    source = _find(run, store, lambda: manifests, which, work, raw=raw, id_=id_)
    manifest = source.manifest
    if which == "latest" and manifest:
        age = datetime.now(UTC) - manifest.taken
        if age > run.config.backup.schedule.every:
            run.ui.warn(f"{source.name} is {_age(age)}; {_on_the_hosts(run)}")
        if not _is_at_home(run, manifest):
            where = ", ".join(sorted(lineage.addresses(manifest)))
            run.ui.warn(f"{source.name} is of members at other addresses than those of config.yaml: {where}")
    return source, manifests


def _find(
    run: Run,
    store: Store,
    listed: Callable[[], Sequence[Manifest]],
    which: str,
    work: Path,
    *,
    raw: bool = False,
    id_: str = "",
) -> Source:
    try:
        path = Path(which).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, or the home of a user whom nobody knows
        raise UsageError(f"'{which}' can be no file: {getattr(error, 'strerror', None) or error}") from None
    if which != "latest" and (is_file or "/" in which):
        return _from_file(run, path.absolute(), work, raw=raw)
    manifests = listed()
    if which == "latest":
        for what in store.damaged:
            run.ui.warn(f"{what}; passed over")
        return _from_store(run, store, _latest(run, store, manifests, id_), work)
    for manifest in manifests:
        if which in (manifest.name, manifest.file):
            return _from_store(run, store, manifest, work)
    for what in store.damaged:
        if which in what:
            raise OpsError(f"{store.where}: {what}", hint="inv snapshot.list shows the others")
    raise UsageError(f"there is no file {which} here and no such backup in {store.where}", hint="inv snapshot.list")


def _latest(run: Run, store: Store, manifests: Sequence[Manifest], id_: str) -> Manifest:
    """This cluster's newest; not one from the future, which nobody can tell to be the newest."""
    now = datetime.now(UTC)
    own = _own(run, manifests, id_)
    past = [each for each in own if each.taken <= now + SKEW]
    for each in own:
        if each not in past:
            run.ui.warn(f"{each.name} is {_age(now - each.taken)} of this machine's clock; passed over")
    strangers = _strangers(run, manifests, own)
    if past:
        if strangers and strangers[0].taken > past[0].taken:
            run.ui.warn(f"{strangers[0].name} is newer, and {_of_another(strangers[0])}; passed over")
        return past[0]
    name = run.config.cluster.name
    if own:
        raise OpsError(
            f"{store.where}: every backup of '{name}' is dated in the future",
            hint="is the clock of this machine right? Else name the one that you mean: inv snapshot.list",
        )
    if strangers:
        raise OpsError(
            f"{store.where}: has backups of several clusters called '{name}', {UNKNOWN}",
            hint="name the one that you mean: inv snapshot.list",
        )
    raise OpsError(f"{store.where}: has no backup of '{name}'", hint=f"inv backup makes one; {_on_the_hosts(run)}")


def _on_the_hosts(run: Run) -> str:
    return (
        f"where snapshot.schedule was run, newer ones may be on each host that is left, in "
        f"{run.config.backup.schedule.dir}: copy NAME.db and NAME.json here, then inv restore ./NAME.db"
    )


def _from_file(run: Run, path: Path, work: Path, *, raw: bool) -> Source:
    document = beside(path)
    manifest = Manifest.read(document) if document.is_file() and document != path else None
    if manifest and manifest.encrypted:
        (work / manifest.file).symlink_to(path)
        nearby = Encrypted(FolderStore(work), run.config.backup.age, run.config.resolve)
        return _from_store(run, nearby, manifest, work)
    return _proven(path.name, path, manifest, raw=raw)


def _from_store(run: Run, store: Store, manifest: Manifest, work: Path) -> Source:
    backup = run.config.backup
    lies_here = run.config.resolve(backup.dir) / manifest.file
    if backup.s3 or backup.sftp or manifest.encrypted or not lies_here.is_file():
        lies_here = work / f"{manifest.name}.db"
        with run.ui.transfer("fetch") as progress:
            store.fetch(manifest, lies_here, progress)
    return _proven(manifest.name, lies_here, manifest)


def _proven(name: str, path: Path, manifest: Manifest | None, *, raw: bool = False) -> Source:
    proof = prove(path, raw=raw)
    if manifest:
        manifest.describes(proof, path)
    return Source(name, path, proof, manifest)


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
            _age(now - each.taken).removesuffix(" old"),
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


def _age(age: timedelta) -> str:
    return f"dated {span(-age)} ahead" if age < -SKEW else f"{span(age)} old"


def _size(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"
