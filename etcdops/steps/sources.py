"""Which snapshot is meant: a file, a backup in the store, or this cluster's newest; on this machine, and proven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etcdops.errors import OpsError, UsageError
from etcdops.run import Run
from etcdops.schedule import span
from etcdops.snapshots import lineage
from etcdops.snapshots.age import Encrypted
from etcdops.snapshots.manifest import Manifest, beside
from etcdops.snapshots.proof import Proof, prove
from etcdops.snapshots.store import FolderStore, Store

UNKNOWN = "and nothing tells which is this one"
SKEW = timedelta(minutes=5)  # by which the clocks of two machines may differ and none be called wrong


@dataclass(frozen=True)
class Source:
    """A snapshot on this machine that was proven, and is the one that its manifest describes, if it has one."""

    name: str
    path: Path
    proof: Proof
    manifest: Manifest | None


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
    source = choose(run, store, lambda: manifests, which, work, raw=raw, id_=id_)
    manifest = source.manifest
    if which == "latest" and manifest:
        age = datetime.now(UTC) - manifest.taken
        if age > run.config.backup.schedule.every:
            run.ui.warn(f"{source.name} is {old(age)}; {_on_the_hosts(run)}")
        if not is_at_home(run, manifest):
            where = ", ".join(sorted(lineage.addresses(manifest)))
            run.ui.warn(f"{source.name} is of members at other addresses than those of config.yaml: {where}")
    return source, manifests


def choose(
    run: Run,
    store: Store,
    listed: Callable[[], Sequence[Manifest]],
    which: str,
    work: Path,
    *,
    raw: bool = False,
    id_: str = "",
) -> Source:
    """The snapshot ``which``, proven, as for ``find``; the store is ``listed`` only where that is needed."""
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
    own = ours(run, manifests, id_)
    past = [each for each in own if each.taken <= now + SKEW]
    for each in own:
        if each not in past:
            run.ui.warn(f"{each.name} is {old(now - each.taken)} of this machine's clock; passed over")
    strangers = of_others(run, manifests, own)
    if past:
        if strangers and strangers[0].taken > past[0].taken:
            run.ui.warn(f"{strangers[0].name} is newer, and {of_another(strangers[0])}; passed over")
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


def ours(
    run: Run, manifests: Sequence[Manifest], id_: str = "", *, rescues: bool = False, sure: bool = False
) -> list[Manifest]:
    """The backups of this cluster, newest first; not what a restore has saved before it replaced it, but with
    ``rescues``.  ``sure``: as whoever deletes has to be."""
    named = [each for each in manifests if each.cluster == run.config.cluster.name]
    kept = named if rescues else [each for each in named if each.purpose == "backup"]
    return lineage.own(kept, [member.address for member in run.config.members], id_, sure=sure)


def of_others(run: Run, manifests: Sequence[Manifest], own: Sequence[Manifest]) -> list[Manifest]:
    """The backups of other clusters of this name."""
    mine = {each.name for each in own}
    named = [each for each in manifests if each.cluster == run.config.cluster.name and each.purpose == "backup"]
    return [each for each in named if each.name not in mine]


def is_at_home(run: Run, manifest: Manifest) -> bool:
    """Whether a member of this cluster has an address that the backup names."""
    return not lineage.addresses(manifest).isdisjoint(member.address for member in run.config.members)


def of_another(manifest: Manifest) -> str:
    """Whose it is, in words."""
    where = ", ".join(sorted(lineage.addresses(manifest)))
    return f"of another cluster of this name, with the id {manifest.cluster_id or 'unknown'}, at {where or 'unknown'}"


def old(age: timedelta) -> str:
    """How old that is, in words."""
    return f"dated {span(-age)} ahead" if age < -SKEW else f"{span(age)} old"


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
