"""replace-member: a dead host, a dead disk or a wiped data directory, in one command (etcd-operations 3.7).

The old member leaves first, and the new one joins as a learner with an identity and data of its own.  Adding first is
what etcd refuses while one is away, and coming back empty under the old identity is what loses acknowledged writes.
config.yaml says what is to be done until all of it is: a run that was killed is finished by the same command.
"""

from __future__ import annotations

from dataclasses import dataclass

from etcdops import configedit, configfile, judgement, layout, membership
from etcdops.config import Member
from etcdops.configedit import Edit
from etcdops.errors import HostsFailed, OpsError, Refused
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts, gather
from etcdops.run import Run
from etcdops.steps import add, schedule
from etcdops.steps import membership as cluster
from etcdops.steps.join import Join


@dataclass(frozen=True)
class Replacement:
    """What is to be done to put a new member in the place of ``old``."""

    old: Member
    member: ClusterMember | None  # as the cluster knows it; None once it has left
    healthy: bool
    idle: bool  # it has its data, and its etcd does not run
    host: HostFacts | OpsError | None  # that of the old one; None where the new one takes it over
    join: Join

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.member is None and self.join.is_done

    def strange(self, host: HostFacts) -> str:
        """Why a host is not one that the old member can be cleaned off, '' where it is.

        What led to the old host (an alias of ssh, its address) may lead to the new one by now.
        """
        new = self.join.found.facts[self.join.name]
        if (host.boot_id, host.addresses) == (new.boot_id, new.addresses):
            return "is reached at the new member's own host"
        stays = {each.id for each in self.join.found.cluster if each != self.member}
        if int(str(host.identity.get("member_id") or "0"), 16) in stays:
            return f"is reached at the host of {host.identity.get('member_id')}, a member of the cluster"
        return cluster.strange(self.join.run.config, host)

    def lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        lines = []
        if self.member:
            lines.append(f"{self.join.others[0]}  etcdctl member remove {self.member.id:x}")
        if isinstance(self.host, HostFacts) and not self.strange(self.host):
            lines += [f"{self.old.name} ({self.old.address})  remove {path}" for path in cluster.leftovers(self.host)]
        return [*lines, *self.join.lines()]


def replace_member(run: Run, old: str, new: str, address: str, ssh: str) -> None:
    """Put a new member in the place of ``old``: of the same name unless ``new`` is given, on the same address or
    another."""
    if old not in run.names and new in run.names:  # the new one stands there: all but the last word has been said
        add.add_member(run, new, address, ssh)
        return
    known = run.config.member(old)
    elsewhere = bool(address) and configfile.member(old, address).address != known.address
    member = configfile.member(
        new or old, address or known.address, ssh or ("" if elsewhere else known.ssh), called="--with"
    )
    member = member.model_copy(update={"port": known.port})
    edit = None if member == known else configedit.replace_member(run.config, old, member)
    others = [each for each in run.config.members if each.name != old]
    if not others:
        raise Refused("it is the only member: no other has its data", host=old, hint="inv restore, from a backup")
    in_place = [member if each.name == old else each for each in run.config.members]
    moved = member == known.model_copy(update={"address": member.address})
    # In the order that config.yaml will have: it shows in everybody's etcd.conf.
    grown, gone = run.of(in_place if moved else [*others, member]), run.only([old])
    try:
        _replace(run, gone, _plan(grown, gone, known, member, edit, elsewhere=elsewhere))
    finally:
        grown.close()
        gone.close()


def _plan(run: Run, gone: Run, old: Member, member: Member, edit: Edit | None, *, elsewhere: bool) -> Replacement:
    """Look at everything; ``Refused`` with every reason at once.  Changes nothing."""
    found = cluster.survey(run, member.name)
    if member.name in found.away:
        raise HostsFailed([found.away[member.name]], hint="another host: --address=IP, and --with=NAME if it has one")
    fact = found.facts[member.name]
    host = gone.fleet.map(lambda host: gather(host, *schedule.FILES))[old.name] if elsewhere else None
    seen = host if elsewhere else fact
    names = [(each.name, membership.peer_url(run.config, each)) for each in (old, member)]
    leaver = membership.leaving(found.cluster, names[0], names[1], fact)
    healthy = isinstance(seen, HostFacts) and leaver is not None and membership.commits(seen, leaver)
    if leaver and (why := membership.refusal(found.cluster, found.healthy, leaver)):
        raise Refused(f"must not be removed: {why}", host=old.name, hint="inv status; bring the others up first")
    idle = isinstance(seen, HostFacts) and leaver is not None and seen.has_data and not seen.is_running
    voters = tuple(each for each in found.cluster if each != leaver)
    return Replacement(old, leaver, healthy, idle, host, Join.plan(run, member, found, voters, edit))


def _replace(run: Run, gone: Run, plan: Replacement) -> None:
    old, join = plan.old, plan.join
    if plan.is_done:
        run.ui.result(f"nothing to do: {join.name} at {join.member.address} is a voter, and healthy")
        return
    for reason in judgement.unwell({name: view for name, view in join.found.views.items() if name != join.name}):
        run.ui.warn(f"not healthy, either: {reason}")
    if plan.healthy:
        run.ui.warn(f"{old.name} is healthy: add-member, then remove-member would keep one more copy meanwhile")
    if plan.idle:
        run.ui.warn(f"{old.name} has its data, and its etcd does not run: if that is all, inv start brings it back")
    if run.decided(plan.lines()):
        return
    by = f"{join.name} at {join.member.address}"
    run.confirm(
        f"Replace member {old.name} of cluster {run.config.cluster.name} by {by}, which gets its data from the others"
        if plan.member
        else f"{old.name} has left cluster {run.config.cluster.name}: finish putting {by} in its place"
    )
    archives = join.provide()
    if plan.member:
        if plan.healthy:
            cluster.hand_on(run, old.name)
        cluster.leave(join.run, join.others, plan.member, old.name)
    _clean(gone, plan, plan.host)
    join.carry_out(
        archives, f"{old.name} has left and {join.name} is not in its place yet: the same command goes on from here"
    )
    if isinstance(plan.host, OpsError):  # it may have come back meanwhile
        again = gone.fleet.map(lambda host: gather(host, *schedule.FILES))[old.name]
        _clean(gone, plan, again)
        if isinstance(again, OpsError):
            cluster.stay_off(run, f"{old.name} at {old.address}")
    voters = len(join.run.names)
    run.ui.result(f"{by} is a voter in the place of {old.name}: {voters} members are healthy")


def _clean(gone: Run, plan: Replacement, host: HostFacts | OpsError | None) -> None:
    """Nothing on the old member's own host that could start again, if it answers and is still its."""
    if not isinstance(host, HostFacts):
        return
    if why := plan.strange(host):
        gone.ui.warn(f"{plan.old.name} {why}, and is left as it is")
        return
    if layout.UNIT in host.paths or layout.IDENTITY in host.paths:
        cluster.clean(gone, plan.old.name, host)
