"""remove-member: the guide's `member remove`, with everything around it (etcd-operations 3.6).

What is to be done follows from what the cluster and the hosts say, so that a run that was killed anywhere is finished
by the same command.  config.yaml loses the member last: as long as it is there, there is something to finish.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from etcdops import configedit, desired, etcd, gate, guards, layout
from etcdops.config import Config, Member
from etcdops.configedit import Edit
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, Refused, Unhealthy, UsageError
from etcdops.etcd import ClusterMember, View
from etcdops.facts import HostFacts, gather, parse_conf
from etcdops.plan import Change, File
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import delivery, leader, schedule

OWN = (  # of a member on its host; the identity last: as long as it is there, the unit's guard holds
    layout.UNIT, layout.CONF, layout.SERVER_KEY, layout.SERVER, layout.PEER_KEY, layout.PEER,
    layout.CLIENT_KEY, layout.CLIENT, layout.CLIENT_CA, layout.PEER_CA, layout.TRUST, layout.IDENTITY,
)  # fmt: skip
FRESH = 15.0  # seconds: etcd counts a peer as there once it has been connected for 5 of them
BY_HAND = f"systemctl disable --now etcd etcdops-backup.timer; rm -r {layout.CONF_DIR}"


@dataclass(frozen=True)
class Removal:
    """What is to be done to remove ``name``, and what that was decided from."""

    name: str
    facts: Mapping[str, HostFacts]  # of the hosts that answer
    away: Mapping[str, OpsError]
    cluster: tuple[ClusterMember, ...]  # as the cluster itself knows its members
    member: ClusterMember | None  # None: it is none any more, or has never been one
    strange: str  # why its host is not ours to clean, '' where it is
    changes: Mapping[str, Sequence[Change]]  # on the hosts of the others
    edit: Edit

    @property
    def views(self) -> gate.Views:
        """What the members said."""
        return {name: fact.view for name, fact in self.facts.items()} | dict(self.away)

    @property
    def others(self) -> list[str]:
        """The other members that can commit, the leader first."""
        healthy = [name for name, fact in self.facts.items() if fact.view.healthy and name != self.name]
        return sorted(healthy, key=lambda name: not _leads(self.facts[name]))

    @property
    def leads(self) -> bool:
        """Whether the member that goes is the leader."""
        return self.name in self.facts and _leads(self.facts[self.name])

    @property
    def left(self) -> int:
        """How many voters there are afterwards."""
        return sum(not each.learner and each != self.member for each in self.cluster)

    @property
    def traces(self) -> list[str]:
        """The files of the member that are still on its host."""
        return [path for path in OWN if not self.strange and path in self.facts[self.name].paths]

    @property
    def timer(self) -> list[str]:
        """What makes backups on its host."""
        return [path for path in schedule.FILES if not self.strange and path in self.facts[self.name].paths]

    def lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        lines = []
        if self.leads:
            lines.append(f"{self.name}  etcdctl move-leader: another voter leads")
        if self.member:
            lines.append(f"{self.others[0]}  etcdctl member remove {self.member.id:x}")
        if self.traces:
            lines.append(f"{self.name}  systemctl disable --now etcd")
            if self.facts[self.name].data:
                lines.append(f"{self.name}  set {layout.DATA_DIR} aside")
        lines += [f"{self.name}  remove {path}" for path in (*self.timer, *self.traces)]
        lines += [f"{name}  {change}" for name, changes in self.changes.items() for change in changes]
        return [*lines, f"here  {self.edit.path.name}: without {self.name}"]


def remove_member(run: Run, name: str) -> None:
    """Take member ``name`` out of the cluster, off its host where that answers, and out of config.yaml."""
    if name not in run.names:
        _unknown(run, name)
        return
    removal = _plan(run, name)
    _warn(run, removal)
    if run.dry_run:
        for line in removal.lines():
            run.ui.result(line)
        return
    cluster = run.config.cluster.name
    run.confirm(
        f"Remove member {name} from cluster {cluster} for good"
        if removal.member
        else f"{name} is not a member of cluster {cluster}: finish its removal"
    )
    if removal.member:
        _leave(run, removal, removal.member)
    _clean(run, removal)
    if removal.changes:
        run.ui.step(f"Tell {', '.join(removal.changes)} who is left")
        delivery.push(run, removal.changes, {})
    removal.edit.write()
    members = "1 member is" if removal.left == 1 else f"{removal.left} members are"
    run.ui.result(f"{name} is removed: {members} left, and {run.config.path.name} says so")


def refusal(cluster: Sequence[ClusterMember], healthy: Collection[int], member: ClusterMember) -> str:
    """Why ``member`` must not be removed while the members with the ids ``healthy`` can commit; '' if it may be.

    The quorum is that of the voters that are left: a dead one can go while the others are enough.
    """
    rest = [each for each in cluster if not each.learner and each.id != member.id]
    if member.learner:
        return ""
    if not rest:
        return "it is the only voter, and there is no cluster without one"
    alive, needed = sum(each.id in healthy for each in rest), etcd.quorum(len(rest))
    if alive >= needed:
        return ""
    voters = "voter" if len(rest) == 1 else "voters"
    return (
        f"of the {len(rest)} {voters} that would be left {alive} can commit, and {needed} must: the cluster would stop"
    )


def _unknown(run: Run, name: str) -> None:
    """A name that config.yaml does not have: removed before, or never there."""
    views = [view for view in run.fleet.map(gate.ask).values() if isinstance(view, View) and view.healthy]
    cluster = next((view.members for view in views if view.members), None)
    if cluster is None:
        run.config.member(name)
        return
    for each in cluster:
        if each.name == name:
            raise UsageError(
                f"{name} is a member of the cluster, but not in {run.config.path}",
                hint=f"add it there, then the same again; or: inv etcdctl -- member remove {each.id:x}",
            )
    known = ", ".join(run.names)
    run.ui.result(f"nothing to do: {name} is neither in the cluster nor in {run.config.path.name}, which has {known}")


def _plan(run: Run, name: str) -> Removal:
    """Look at everything; ``Refused`` with every reason at once.  Changes nothing."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    found = run.fleet.map(lambda host: gather(host, *schedule.FILES))
    facts = {each: fact for each, fact in found.items() if not isinstance(fact, OpsError)}
    away = {each: error for each, error in found.items() if isinstance(error, OpsError)}
    if len(run.names) == 1:
        raise Refused("it is the only member", host=name, hint="inv stop ends the cluster; its data stays")
    ours = [fact for each, fact in facts.items() if each != name]
    guards.refuse(finding for fact in ours for finding in guards.other_member(run.config, fact))
    guards.refuse(_cut_short(fact) for fact in facts.values() if fact.barred)
    heads = [fact.view for fact in ours if fact.view.healthy and fact.view.members and fact.view.status]
    if not heads:
        reasons = "; ".join(gate.judge(run.config, {each: _view(found[each]) for each in found}).reasons)
        raise Refused(
            f"no other member can commit, so none can be removed: {reasons}",
            hint="inv status; where a majority is lost for good: inv recover",
        )
    head = max(heads, key=lambda view: view.status.applied if view.status else 0)
    cluster = head.members or ()
    member = _known(run.config, cluster, name)
    if member:
        healthy = {fact.view.status.member_id for fact in facts.values() if fact.view.healthy and fact.view.status}
        if why := refusal(cluster, healthy, member):
            raise Refused(f"must not be removed: {why}", host=name, hint="inv status; bring the others up first")
    edit = configedit.remove_member(run.config, name)
    strange = _strange(run.config, found[name])
    return Removal(name, facts, away, cluster, member, strange, _lists(run, name, facts), edit)


def _view(found: HostFacts | OpsError) -> View | OpsError:
    return found.view if isinstance(found, HostFacts) else found


def _strange(config: Config, found: HostFacts | OpsError) -> str:
    """Why a host is not one that this member can be cleaned off, '' where it is."""
    if isinstance(found, OpsError):
        return f"does not answer ({found.message})"
    if found.is_running and "ETCDOPS_STARTED_WITH" not in found.running:
        return f"runs an etcd that etcdops did not set up ({found.executable})"
    return next((finding.message for finding in guards.other_member(config, found)), "")


def _cut_short(fact: HostFacts) -> Refused:
    return Refused(
        f"restore {fact.barred} was cut short here", host=fact.name, hint="the same restore again, or inv restore-undo"
    )


def _known(config: Config, cluster: Sequence[ClusterMember], name: str) -> ClusterMember | None:
    """The member as the cluster knows it: by its name, or by its address where it has never started."""
    url = config.member(name).url("https" if config.cluster.tls else "http", layout.PEER_PORT)
    by_name = [each for each in cluster if each.name == name]
    return next(iter([*by_name, *(each for each in cluster if not each.name and url in each.peer_urls)]), None)


def _lists(run: Run, name: str, facts: Mapping[str, HostFacts]) -> dict[str, list[Change]]:
    """etcd.conf with the new list of members, for each other host where nothing but the list would change.

    etcd reads the list at a member's first start only, so that no restart is due.  Where config.yaml asks for more,
    that is for deploy, which puts the list there, too.
    """
    rest: list[Member] = [each for each in run.config.members if each.name != name]
    config = run.config.model_copy(update={"members": rest})
    incarnation, now = token(config, {each: fact for each, fact in facts.items() if each != name}), datetime.now(UTC)
    changes = {}
    for member in rest:
        fact = facts.get(member.name)
        if fact is None or not fact.conf:
            continue
        pki = run.keystore.member_files(member, now) if config.cluster.tls else None
        wanted = desired.configure(Want(config, member, fact, incarnation, pki))
        (conf,) = (each for each in wanted if isinstance(each, File) and each.path == layout.CONF)
        new = parse_conf((conf.content or b"").decode())
        if [each for each in new.keys() | fact.conf.keys() if new.get(each) != fact.conf.get(each)] == [
            "ETCD_INITIAL_CLUSTER"
        ]:
            changes[member.name] = [Change(conf, f"without {name}")]
    return changes


def _warn(run: Run, removal: Removal) -> None:
    """What the operator should know before the answer is given."""
    if removal.left == 2:
        run.ui.warn("two members are left: the cluster stops when either of them is away")
    elif removal.left == 1:
        run.ui.warn("one member is left: the cluster stops when it is away, and its disk is the only copy")
    for name, error in removal.away.items():
        if name != removal.name:
            run.ui.warn(f"{name} does not answer ({error.message}): inv deploy tells it who is left once it does")
    if removal.strange:
        run.ui.warn(f"{removal.name} {removal.strange}, and is left as it is")


def _leave(run: Run, removal: Removal, member: ClusterMember) -> None:
    """Out of the cluster, and the others healthy without it."""
    if removal.leads:
        successor = leader.furthest(run, removal.views, removal.name)
        run.ui.step(f"Hand the lead to {successor}")
        leader.hand_over(run, removal.views, removal.name, successor)
    run.ui.step(f"Remove {removal.name} ({member.id:x}) from the cluster")
    via, deadline = removal.others[0], time.monotonic() + FRESH
    while True:
        said = run.fleet.all(lambda host: _remove(host, member.id), [via])[via]
        view = gate.ask(run.fleet[via])
        if view.members and member.id not in {each.id for each in view.members}:
            break
        if "unhealthy cluster" not in said or time.monotonic() > deadline:
            raise HostError(f"does not remove {removal.name}: {said or view.complaint}", host=via, hint="inv status")
        time.sleep(1.0)
    _settle(run, removal.others, member.id)


def _remove(host: Host, id_: int) -> str:
    """`member remove` on this host; why not, in etcdctl's words, else ''."""
    script = layout.script("client") + '\nclient --command-timeout=10s member remove "$1"'
    done = host.client(script, f"{id_:x}", check=False)
    words = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
    return words[-1].removeprefix("Error: ") if done.rc and words else ""


def _settle(run: Run, names: Sequence[str], gone: int) -> None:
    """Wait until these members are healthy, follow one leader, and know that the member ``gone`` is none."""
    deadline = time.monotonic() + run.patience
    while True:
        views = run.fleet.map(gate.ask, names)
        seen = [view for view in views.values() if isinstance(view, View) and view.healthy and view.status]
        leaders = {view.status.leader for view in seen if view.status}
        known = {each.id for view in seen for each in view.members or ()}
        if len(seen) == len(names) and len(leaders) == 1 and 0 not in leaders and gone not in known:
            return
        if time.monotonic() > deadline:
            reasons = "; ".join(gate.judge(run.config, views).reasons)
            raise Unhealthy(f"removed, and the others are not healthy: {reasons}", hint="inv status; the same again")
        time.sleep(gate.POLL)


def _clean(run: Run, removal: Removal) -> None:
    """Nothing on its host that could start again; its data set aside."""
    name = removal.name
    if removal.strange:
        if name in removal.away:
            run.ui.warn(f"{name} is to stay off the cluster: once its host is back, on it: {BY_HAND}")
        return
    if removal.timer:
        run.fleet.all(lambda host: host.run(layout.script("unschedule"), *schedule.FILES), [name])
    if removal.traces:
        run.ui.step(f"Stop etcd on {name} for good, and set its data aside")
        id_ = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
        done = run.fleet.all(lambda host: host.run(layout.script("retire"), id_, *OWN), [name])[name]
        run.ui.line(done.stdout.strip() or f"its data is in {layout.STATE_DIR}/aside-{id_} there")


def _leads(fact: HostFacts) -> bool:
    return fact.view.status is not None and fact.view.status.is_leader
