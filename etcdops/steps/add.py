"""add-member: the guide's `member add`, with everything around it (etcd-operations 3.5).

config.yaml gets the member last: a run that was killed is finished by the same command, from what it has left.
"""

from __future__ import annotations

from dataclasses import replace

from etcdops import configedit, configfile
from etcdops.config import Member
from etcdops.configedit import Edit
from etcdops.errors import HostsFailed, Refused, UsageError
from etcdops.etcd import View
from etcdops.judgement import judge
from etcdops.run import Run
from etcdops.steps.join import Join
from etcdops.steps.membership import Survey, survey


def add_member(run: Run, name: str, address: str, ssh: str) -> None:
    """Bring a member into the cluster, in sync and with a vote; or leave the cluster as it was."""
    member, edit = _asked(run, name, address, ssh)
    base = [each for each in run.config.members if each.name != name]
    if not base:
        raise UsageError(f"{name} is the only member in {run.config.path}", hint="inv deploy starts a cluster")
    grown = run.of([*base, member] if edit else run.config.members)
    try:
        _add(grown, _plan(grown, run.of(base), member, edit))
    finally:
        grown.close()


def _add(run: Run, join: Join) -> None:
    name, voters = join.name, len(run.names)
    if join.is_done:
        run.ui.result(f"nothing to do: {name} is a voter, and {run.config.path.name} has it")
        return
    if voters % 2 == 0:
        run.ui.warn(f"{voters} members stand the loss of no more than {voters - 1} do; an odd number is better")
    if run.decided(join.lines()):
        return
    if join.arrival.slip and join.arrival.drop:
        run.confirm(
            f"Member {join.arrival.drop.id:x} {join.arrival.slip}: it is removed, and {name} added as it should"
        )
    elif join.arrival.known or join.arrival.drop:
        run.ui.line(f"{name} is half-way in already; this run finishes it")
    join.carry_out(join.provide(), "the cluster is as it was, without it")
    run.ui.result(f"{name} is a voter: {voters} members are healthy, and {run.config.path.name} has it")


def _asked(run: Run, name: str, address: str, ssh: str) -> tuple[Member, Edit | None]:
    """The member, and how config.yaml gets it; None where somebody has written it there already."""
    known = next((each for each in run.config.members if each.name == name), None)
    if known is None:
        if not address:
            raise UsageError(f"where is {name}?", hint=f"inv add-member {name} --address=IP")
        member = configfile.member(name, address, ssh)
        return member, configedit.add_member(run.config, member)
    if (address and configfile.member(name, address).address != known.address) or (ssh and ssh != known.ssh):
        raise UsageError(
            f"{name} is in {run.config.path} at {known.address} already",
            hint="another name; inv move-member for one that has moved, inv replace-member for one that is lost",
        )
    return known, None


def _plan(run: Run, base: Run, member: Member, edit: Edit | None) -> Join:
    found = survey(run, member.name)
    if member.name in found.away:
        raise HostsFailed([found.away[member.name]])
    join = Join.plan(run, member, found, found.cluster, edit)
    _gate(base, join, found)
    return join


def _gate(base: Run, join: Join, found: Survey) -> None:
    """All other members healthy but for a full quota: etcd itself adds none while one is away, and a lost one is
    replaced."""
    own = {each.id for each in (join.arrival.known, join.arrival.drop) if each}

    def without(view: View) -> View:
        return replace(
            view.but_for_nospace(), members=tuple(each for each in view.members or () if each.id not in own) or None
        )

    views = {name: found.facts[name].view if name in found.facts else found.away[name] for name in base.names}
    verdict = judge(base.config, {n: without(v) if isinstance(v, View) else v for n, v in views.items()})
    if not verdict:
        lost = [name for name, view in views.items() if not isinstance(view, View) or not view.has_quorum]
        ways = (
            ("inv start", *(f"if {name} is lost: inv replace-member {name}" for name in lost))
            if lost
            else ("inv status",)
        )
        reasons = "; ".join(verdict.reasons)
        raise Refused(f"nobody joins a cluster that is not healthy: {reasons}", hint=verdict.ways(*ways))
