"""remove-member: the guide's `member remove`, with everything around it (etcd-operations 3.6).

What is to be done follows from what the cluster and the hosts say, so that a run that was killed anywhere is finished
by the same command.  config.yaml loses the member last: as long as it is there, there is something to finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etcdops import configedit, configfile, gate, layout, membership
from etcdops.configedit import Edit
from etcdops.errors import Refused
from etcdops.etcd import ClusterMember, View
from etcdops.plan import Change
from etcdops.run import Run
from etcdops.steps import delivery
from etcdops.steps.membership import (
    Survey,
    clean,
    hand_on,
    leave,
    leftovers,
    lists,
    stay_off,
    strange,
    survey,
)


@dataclass(frozen=True)
class Removal:
    """What is to be done to remove ``name``, and what that was decided from."""

    run: Run  # of the cluster with it
    name: str
    found: Survey
    member: ClusterMember | None  # None: it is none any more, or has never been one
    strange: str  # why its host is not ours to clean, '' where it is
    changes: Mapping[str, Sequence[Change]]  # on the hosts of the others
    edit: Edit | None  # None: config.yaml does not have it

    @property
    def leads(self) -> bool:
        """Whether the member that goes is the leader."""
        return self.name in self.found.facts and self.found.facts[self.name].view.leads

    @property
    def left(self) -> int:
        """How many voters there are afterwards."""
        return sum(not each.learner and each != self.member for each in self.found.cluster)

    def lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        lines = []
        if self.leads:
            lines.append(f"{self.name}  etcdctl move-leader: another voter leads")
        if self.member:
            lines.append(f"{self.found.others(self.name)[0]}  etcdctl member remove {self.member.id:x}")
        if not self.strange:
            fact = self.found.facts[self.name]
            if any(path in fact.paths for path in membership.OWN):
                lines.append(f"{self.name}  systemctl disable --now etcd")
                lines += [f"{self.name}  set {layout.DATA_DIR} aside"] if fact.data else []
            lines += [f"{self.name}  remove {path}" for path in leftovers(fact)]
        lines += [f"{name}  {change}" for name, changes in self.changes.items() for change in changes]
        return [*lines, f"here  {self.edit.path.name}: without {self.name}"] if self.edit else lines

    def carry_out(self) -> None:
        """Out of the cluster, off its host, and out of config.yaml last."""
        run, name = self.run, self.name
        if self.member:
            if self.leads:
                hand_on(run, name)
            leave(run, self.found.others(name), self.member, name)
        if not self.strange:
            clean(run, name, self.found.facts[name])
        elif name in self.found.away:
            stay_off(run, name)
        if self.changes:
            run.ui.step(f"Tell {', '.join(self.changes)} who is left")
            delivery.push(run, self.changes, {})
        if self.edit:
            self.edit.write()


def remove_member(run: Run, name: str) -> None:
    """Take member ``name`` out of the cluster, off its host where that answers, and out of config.yaml.

    One that config.yaml does not have may be called by its id or its address, too: a half-added one has no name.
    """
    stray = None if name in run.names else _stray(run, name)
    if stray and stray.name in run.names:
        name = stray.name
    if name in run.names:
        removal = _plan(run, name)
    else:
        if stray is None:
            known = ", ".join(run.names)
            where = f"neither in the cluster nor in {run.config.path.name}, which has {known}"
            run.ui.result(f"nothing to do: {name} is {where}")
            return
        removal = _plan_stray(run, stray)
    try:
        _remove(run, removal)
    finally:
        removal.run.close()


def _remove(run: Run, removal: Removal) -> None:
    name = removal.name
    _warn(run, removal)
    if run.decided(removal.lines()):
        return
    cluster = run.config.cluster.name
    run.confirm(
        f"Remove member {name} from cluster {cluster} for good"
        if removal.member
        else f"{name} is not a member of cluster {cluster}: finish its removal"
    )
    removal.carry_out()
    members = "1 member is" if removal.left == 1 else f"{removal.left} members are"
    says = f", and {run.config.path.name} says so" if removal.edit else ""
    run.ui.result(f"{name} is removed: {members} left{says}")


def _stray(run: Run, who: str) -> ClusterMember | None:
    """The member ``who`` of the cluster, which config.yaml does not have; None if nobody is called so."""
    views = [view for view in run.fleet.map(gate.ask).values() if isinstance(view, View) and view.has_quorum]
    cluster = next((view.members for view in views if view.members), None)
    if cluster is None:
        run.config.member(who)  # nobody can tell: it stays unknown
    return membership.called(cluster or (), who)


def _plan(run: Run, name: str) -> Removal:
    """Look at everything; ``Refused`` with every reason at once.  Changes nothing."""
    config = run.config
    if len(run.names) == 1:
        raise Refused("it is the only member", host=name, hint="inv stop ends the cluster; its data stays")
    found = survey(run, name)
    member = membership.known(config, found.cluster, name)
    if member and (why := membership.refusal(found.cluster, found.healthy, member)):
        raise Refused(f"must not be removed: {why}", host=name, hint="inv status; bring the others up first")
    rest = run.of([each for each in config.members if each.name != name])
    changes = lists(rest, found.facts, name, found.incarnation(config, name))
    edit = configedit.remove_member(config, name)
    host = found.facts.get(name) or found.away[name]
    return Removal(run, name, found, member, strange(config, host), changes, edit)


def _plan_stray(run: Run, member: ClusterMember) -> Removal:
    """The same for a member that config.yaml does not have: a learner, or one that never started, mostly."""
    config = run.config
    address = next(iter(membership.hosts_of(member)))
    same = next((each for each in config.members if each.address == address), None)
    name = member.name or f"{member.id:x}"
    with_it = run.of([*config.members, configfile.member(name, address)] if same is None else config.members)
    found = survey(with_it, name)
    if why := membership.refusal(found.cluster, found.healthy, member):
        raise Refused(f"must not be removed: {why}", host=name, hint="inv status; bring the others up first")
    changes = lists(run, found.facts, name, found.incarnation(config, name))
    if same:  # the host of another member is not touched for this one
        why = f"has the address of {same.name}"
    else:
        host = found.facts.get(name) or found.away[name]
        why = strange(config, host)
        if not why and found.facts[name].token != found.incarnation(config, name):
            why = "has nothing of this cluster"
    return Removal(with_it, name, found, member, why, changes, None)


def _warn(run: Run, removal: Removal) -> None:
    """What the operator should know before the answer is given."""
    if removal.edit and removal.left == 2:
        run.ui.warn("two members are left: the cluster stops when either of them is away")
    elif removal.edit and removal.left == 1:
        run.ui.warn("one member is left: the cluster stops when it is away, and its disk is the only copy")
    for name, error in removal.found.away.items():
        if name != removal.name:
            run.ui.warn(f"{name} does not answer ({error.message}): inv deploy tells it who is left once it does")
    if removal.strange:
        run.ui.warn(f"{removal.name} {removal.strange}, and is left as it is")
