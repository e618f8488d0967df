"""The exchange of a cluster's data for that of a snapshot, on all hosts or on none; what restore and recover share.

All that takes long or can go wrong happens beside the running cluster: the snapshot is sent to every host and restored
there next to the old data.  Only then is the cluster stopped, two renames on each host made, and the new one started.
Whatever fails after that puts the old data back and the old cluster up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from etcdops import desired, gate, guards, judgement, restoration, transport
from etcdops.errors import HostsFailed, OpsError, Refused, Unhealthy
from etcdops.etcd import View
from etcdops.judgement import Views, judge
from etcdops.plan import Change, Directory, Release, User, diff
from etcdops.restoration import Restoration
from etcdops.rollout import new_token
from etcdops.run import Run
from etcdops.snapshots import content
from etcdops.snapshots.store import Store
from etcdops.ssh import Host
from etcdops.steps import backup, delivery
from etcdops.steps.before import Cluster
from etcdops.steps.converge import ALL_STEPS
from etcdops.steps.service import start_members
from etcdops.steps.sources import Source


@dataclass(frozen=True)
class Exchange:
    """One exchange: what there is ``before``, what comes, and what each host needs for it besides the data."""

    run: Run
    before: Cluster
    source: Source
    order: Restoration
    changes: Mapping[str, Sequence[Change]]
    standing: str

    @classmethod
    def plan(cls, run: Run, before: Cluster, source: Source, *, standing: str, seen: int = 0) -> Self:
        """Decide it, with the certificates that are in pki.dir now.  Touches nothing.

        ``seen``: a revision that clients may have seen, such as that of the newest backup.  ``standing``: what is true
        where it comes to nothing before the stop, for a person.
        """
        config, proof = run.config, source.proof
        order = Restoration(
            id=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{proof.sha256[:8]}",
            token=new_token(config),
            version=config.cluster.version,
            scheme="https" if config.cluster.tls else "http",
            members=config.members,
            size=proof.size,
            sha256=proof.sha256,
            raw=proof.raw,
            bump=restoration.bump(config.cluster.version, proof.revision, max(before.revision, seen)),
        )
        bare = {  # as for a member that has never started
            name: replace(fact, identity={}, view=View(), unit=replace(fact.unit, active="inactive", pid=0))
            for name, fact in before.facts.items()
        }
        wants = {
            name: replace(want, stage=transport.anew(want.facts, config.cluster.tls))
            for name, want in delivery.wants(run, bare, order.token).items()
        }
        changes = {name: diff(desired.resources(want, ALL_STEPS), before.facts[name]) for name, want in wants.items()}
        return cls(run, before, source, order, changes, standing)

    @property
    def revision(self) -> int:
        """Where the new cluster begins."""
        proof, bump = self.source.proof, self.order.bump
        return proof.stored_revision + bump if bump else proof.revision

    @property
    def outcome(self) -> str:
        """What is true after it, for a person."""
        aside = f"; the old data is set aside as {self.order.id}: inv snapshot.list --set-aside"
        count = len(self.run.names)
        members = "1 member" if count == 1 else f"{count} members"
        return f"{members} healthy, revision {self.revision}{aside if self.before.has_data else ''}"

    def prepare(self) -> None:
        """Everything that can be done while the old cluster serves; when it fails, nothing of it is left."""
        run = self.run
        early = {name: [change for change in each if is_early(change)] for name, each in self.changes.items()}
        delivery.push(run, early, delivery.archives(run, self.before.facts, early))
        delivery.ask(run, self.changes)  # not once the cluster has been stopped for it
        run.ui.step(f"Send the snapshot to {', '.join(run.names)} and restore it there, beside the old data")
        try:
            with run.ui.transfer("send to") as progress:

                def stage(host: Host) -> None:
                    self.order.stage(host, self.source.path, lambda done: progress(host.name, done, self.order.size))

                run.fleet.all(stage)
        except BaseException:
            with run.unbroken("what was staged was being deleted again"):
                self.discard()
            raise

    def discard(self) -> None:
        """Delete what ``prepare`` has staged."""
        self.run.reconnect()  # Ctrl-C has closed every connection
        results = self.run.fleet.map(self.order.discard)
        left = [name for name, each in results.items() if isinstance(each, OpsError)]
        if left:
            folder = f"/var/lib/etcd/restore-{self.order.id}"
            self.run.ui.warn(
                f"{folder} may still be on {', '.join(left)}: a copy of the snapshot; the next restore deletes it"
            )
        self.run.ui.line(f"what was staged is deleted again; {self.standing}")

    def rescue(self, store: Store, work: Path) -> None:
        """A last snapshot of what is about to be replaced, while somebody can still give it."""
        try:
            rescue(self.run, self.before, store, work)
        except BaseException:
            with self.run.unbroken("what was staged was being deleted again"):
                self.discard()
            raise

    def swap(self) -> None:
        """From the stop to the first write: the only time in which the cluster does not serve."""
        run, order = self.run, self.order
        late = {name: [change for change in each if not is_early(change)] for name, each in self.changes.items()}
        try:
            self._halt()
            run.ui.step("Swap the data, and start the new cluster")
            run.fleet.all(order.swap)
            delivery.push(run, late, {})
            run.fleet.all(order.release)
            start(run, run.names)
            views = self._check()
            strangers = {name: replace(fact, identity={}) for name, fact in self.before.facts.items()}
            delivery.record(run, strangers, views, order.token, run.names, ALL_STEPS)
        except BaseException as error:
            with run.unbroken("the old data was being put back"):
                outcome = self._roll_back(error)
            if isinstance(error, HostsFailed):
                raise HostsFailed(error.errors, hint=outcome) from None
            if isinstance(error, OpsError):
                raise OpsError(f"nothing was restored: {error}", hint=outcome) from None
            raise

    def commit(self) -> None:
        """The old data set aside: there is no way back from here."""
        try:
            complete(self.run, self.order.id, self.run.names)
        except HostsFailed as error:
            hint = "the new cluster serves, and the old data is still there; the same command again completes it"
            raise HostsFailed(error.errors, hint=hint) from None

    def _halt(self) -> None:
        """Followers first, the leader after them; then the hosts where none runs are barred, too."""
        run, running = self.run, self.before.running
        run.ui.step(f"Stop {', '.join(running) or 'nothing: no member runs'}")
        leader = running[-1:]
        for names in ([name for name in run.names if name not in leader], leader):
            run.fleet.all(self.order.halt, names)

    def _check(self) -> Views:
        """Another cluster than before, whole, with the same content on every member: that of the snapshot."""
        run, order = self.run, self.order
        views = wait(run, run.names)
        ids = {view.status.cluster_id for view in views.values() if isinstance(view, View) and view.status}
        if ids & self.before.ids:
            raise Unhealthy(f"the members run in the old cluster still ({next(iter(ids)):x})")
        self._settle()
        expected = self.revision
        found = run.fleet.all(lambda host: content.ask(host, expected))
        content.compare(found, self.source.manifest, expected, bumped=bool(order.bump))
        for name, each in found.items():
            if each.hash is None:
                run.ui.warn(f"{name} did not give the hash of its data in time; compare them later")
        return views

    def _settle(self) -> None:
        """Whole and of one mind, but for alarms, which came with the snapshot; an election may still be going on."""
        run = self.run

        def missing(views: Views) -> Sequence[str]:
            silent = {name: view.but_for_alarms() if isinstance(view, View) else view for name, view in views.items()}
            return judge(run.config, silent).reasons

        views = gate.until(run, lambda: run.fleet.map(gate.ask, run.names), missing)
        for alarm in dict.fromkeys(
            str(each) for view in views.values() if isinstance(view, View) for each in _alarms(view)
        ):
            run.ui.warn(f"{alarm}: it came with the snapshot, and nothing can be written until it is cleared")

    def _roll_back(self, error: BaseException) -> str:
        """The old data back on every host, and the old cluster up, as far as hosts answer; says how it stands then."""
        run, before = self.run, self.before
        run.reconnect()  # Ctrl-C has closed every connection
        what = "It was interrupted" if isinstance(error, KeyboardInterrupt) else "It failed"
        run.ui.step(f"{what}: put the old data back")
        undone = run.fleet.map(lambda host: restoration.undo(host, self.order.id), list(before.facts))
        back = [name for name in before.running if not isinstance(undone[name], OpsError)]
        failed = [each for each in undone.values() if isinstance(each, OpsError)]
        slow: list[OpsError] = []
        try:
            start(run, back)
            wait(run, back)
        except OpsError as trouble:
            slow = list(getattr(trouble, "errors", [trouble]))
        for each in (*failed, *slow):
            run.ui.warn(str(each))
        if failed:
            outcome = "the old data is not back everywhere: inv restore-undo does it once the hosts answer"
            outcome += "; if this was inv recover: inv recover again"
        elif slow:
            outcome = "the old data is back, but not every member serves again: inv status"
        else:
            ids = ", ".join(f"{each:x}" for each in before.ids)
            outcome = "the old data is back, and " + (
                f"the old cluster ({ids}) serves" if ids else "no member runs, as before"
            )
        run.ui.line(outcome)
        return outcome


def findings(run: Run, before: Cluster) -> list[Refused]:
    """Reasons not to exchange what the hosts of ``run`` hold, whatever comes in its place."""
    found = guards.beneath_a_restore(run.config, before.facts)
    for want in delivery.wants(run, before.facts, "").values():
        found += guards.strangers(want.facts, want.pki) if want.pki else ()
    return [
        *found,
        *(
            Refused(
                f"{side.mounted} is a mount point, and cannot be renamed",
                host=name,
                hint="mount the disk at its parent",
            )
            for name, side in before.sides.items()
            if side.mounted
        ),
    ]


def rescue(run: Run, cluster: Cluster, store: Store, work: Path) -> None:
    """A snapshot of each cluster that runs, into the store; of one that cannot commit, as far as a member gives it."""
    for id_ in sorted(cluster.ids):
        views, path = cluster.part(id_), work / f"{id_:x}.db"
        run.ui.step("Take a last snapshot of the cluster as it is")
        # Of a cluster whose data differs, nobody can tell of which member: that must not stop its restore.
        healthy = any(view.commits for view in views.values()) and not judgement.corrupt(views)
        try:
            if healthy:
                manifest = backup.from_cluster(run, views, path)
            else:
                best = max(views, key=lambda name: (views[name].status.term, views[name].status.index))  # type: ignore[union-attr]
                manifest = backup.from_member(run, views, best, path, quorum=False)
            manifest = manifest.model_copy(update={"purpose": "rescue"})
            manifest = store.add(path, manifest, lambda name, done, total: None)
            run.ui.line(f"{manifest.file} in {store.where}")
        except OpsError as error:
            if healthy:
                raise
            run.ui.warn(f"no last snapshot: {error}; its data is set aside on its host all the same")
        finally:
            path.unlink(missing_ok=True)  # there may be another of this cluster in this run


def is_early(change: Change) -> bool:
    """What a running member does not notice, and staging needs."""
    return isinstance(change.resource, Release | User | Directory)


def _alarms(view: View) -> Sequence[str]:
    return [error for error in view.status.errors if error.startswith("alarm ")] if view.status else ()


def put_back(run: Run, id_: str) -> tuple[list[str], list[OpsError]]:
    """Undo restore ``id_`` on every host: the old data and configuration back, no etcd running or barred.

    The hosts where that is so, and what failed on the others: who has stopped a cluster does not leave it at that.
    """
    undone = run.fleet.map(lambda host: restoration.undo(host, id_))
    failed = [each for each in undone.values() if isinstance(each, OpsError)]
    return [name for name, each in undone.items() if not isinstance(each, OpsError)], failed


def complete(run: Run, id_: str, names: Sequence[str]) -> None:
    """Set the old data aside that restore ``id_`` has replaced.  In two rounds: a host that had no data keeps no trace
    of a commit, and where it was the only one to get that far, the others must not be undone."""
    run.fleet.all(lambda host: restoration.seal(host, id_), names)
    run.fleet.all(lambda host: restoration.commit(host, id_), names)


def start(run: Run, names: Sequence[str]) -> None:
    """Start these members, which have data, and wait until all are ready."""
    start_members(run, dict.fromkeys(names, "start"), names)


def wait(run: Run, names: Sequence[str]) -> Views:
    """Until every one of ``names`` can commit, but for alarms; ``Unhealthy`` when the patience is at its end."""

    def missing(views: Views) -> Sequence[str]:
        return [
            f"{name}: {view if isinstance(view, OpsError) else view.complaint}"
            for name, view in views.items()
            if isinstance(view, OpsError) or not view.has_quorum
        ]

    return gate.until(run, lambda: run.fleet.map(gate.ask, names), missing)
