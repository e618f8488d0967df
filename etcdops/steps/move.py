"""move-member: a member whose host has another address now, with its data intact (etcd-operations 3.7).

Nothing is copied: its peer URL in the member list, its certificates and its configuration follow the address.  Without
the first it would look healthy, since it dials the others, and none of them could reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from etcdops import apply, configedit, configfile, desired, etcd, guards, membership
from etcdops.config import Member
from etcdops.configedit import Edit
from etcdops.desired import Want
from etcdops.errors import HostsFailed, OpsError, Refused, UsageError
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts, gather
from etcdops.keystore import Item
from etcdops.plan import Change, diff
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.steps import delivery
from etcdops.steps import membership as cluster
from etcdops.steps.membership import Members

STEPS = ("distribute", "configure")


@dataclass(frozen=True)
class Move:
    """What is to be done so that ``member`` is where its host is."""

    run: Run  # of the cluster with it at its new address
    member: Member
    facts: Mapping[str, HostFacts]
    away: Mapping[str, OpsError]
    listed: ClusterMember  # as the cluster knows it, or as its own data does
    alone: bool  # the others have no quorum without it, so that it must be up before the list can change
    items: Sequence[Item]
    edit: Edit | None

    @property
    def name(self) -> str:
        """Of the member."""
        return self.member.name

    @property
    def fact(self) -> HostFacts:
        """Of its host."""
        return self.facts[self.name]

    @property
    def url(self) -> str:
        """Its peer URL from now on."""
        return membership.peer_url(self.run.config, self.member)

    @property
    def token(self) -> str:
        """Of the cluster."""
        return token(self.run.config, self.facts)

    @property
    def names(self) -> list[str]:
        """The members that the list is changed through: it itself is one only where the others cannot."""
        others = [name for name in self.facts if name != self.name]
        if self.alone:
            return [*(name for name in others if self.facts[name].is_running), self.name]
        return [name for name in others if self.facts[name].view.has_quorum]

    def changes(self) -> Sequence[Change]:
        """What its host needs."""
        config, now = self.run.config, datetime.now(UTC)
        pki = self.run.keystore.member_files(self.member, now) if config.cluster.tls else None
        want = Want(config, self.member, self.fact, self.token, pki)
        return diff(desired.resources(want, STEPS), self.fact)

    @property
    def verb(self) -> str:
        """What systemctl has to do on its host, '' for nothing."""
        if not self.fact.is_running:
            return "start"
        there = self.fact.running.get("ETCD_INITIAL_ADVERTISE_PEER_URLS") == self.url
        return "" if there and not self.changes() else "restart"

    def lists(self) -> Mapping[str, Sequence[Change]]:
        """What the other hosts need."""
        return cluster.lists(self.run, self.facts, self.name, self.token)

    @property
    def updates(self) -> bool:
        """Whether the member list has another address for it."""
        return self.listed.peer_urls != (self.url,)

    def lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        lines = [f"here  {item.action} {self.run.config.pki.dir}/{item.path}  ({item.why})" for item in self.items]
        update = [f"{self.names[0]}  etcdctl member update {self.listed.id:x} --peer-urls={self.url}"]
        lines += update if self.updates and not self.alone else []
        lines += [f"{self.name}  {change}" for change in self.changes()]
        lines += [f"{self.name}  systemctl {self.verb} etcd"] if self.verb else []
        lines += update if self.updates and self.alone else []
        lines += [f"{host}  {change}" for host, changes in self.lists().items() for change in changes]
        return [*lines, f"here  {self.edit.path.name}: {self.name} at {self.member.address}"] if self.edit else lines

    def carry_out(self) -> None:
        """The list, its host, the other hosts, and config.yaml last."""
        run, name = self.run, self.name
        delivery.issue(run.only([name]))
        if not self.alone:
            self._update()
        changes = {name: self.changes()}
        if changes[name]:
            run.ui.step(f"Change {name}")
            run.ui.changes(changes)
            delivery.push(run, changes, {})
        if verb := self.verb:
            if not self.alone:
                cluster.hand_on(run, name)
            run.ui.step(f"{verb.capitalize()} {name}")
            run.fleet.all(lambda host: apply.service(host, verb, seconds=run.patience), [name])
        if self.alone:
            self._update()
        run.ui.step("Check the cluster")
        names = [each for each in run.names if each in {*self.names, name}]
        cluster.settle(run, names, self._is_there, f"{name} is at {self.member.address}")
        if lists := self.lists():
            run.ui.step(f"Tell {', '.join(lists)} where it is")
            delivery.push(run, lists, {})
        if self.edit:
            self.edit.write()

    def _update(self) -> None:
        words = ("update", f"{self.listed.id:x}", f"--peer-urls={self.url}")
        cluster.change(self.run, self.names, words, self._is_there, f"does not learn where {self.name} is")

    def _is_there(self, members: Members) -> bool:
        return any(each.id == self.listed.id and each.peer_urls == (self.url,) for each in members)


def move_member(run: Run, name: str, address: str) -> None:
    """Let the cluster, its certificates and its configuration follow a member to ``address``."""
    known = run.config.member(name)
    if not address:
        raise UsageError(f"where is {name} now?", hint=f"inv move-member {name} --address=IP")
    member = known.model_copy(update={"address": configfile.member(name, address).address})
    edit = configedit.move_member(run.config, name, member.address) if member != known else None
    moved = run.of([member if each.name == name else each for each in run.config.members])
    try:
        _move(run, _plan(moved, known, member, edit))
    finally:
        moved.close()


def _move(run: Run, move: Move) -> None:
    where = f"{move.name} is at {move.member.address}"
    if not move.lines():
        run.ui.result(f"nothing to do: {where}, and everybody knows it")
        return
    for name, error in move.away.items():
        run.ui.warn(f"{name} does not answer ({error.message}): inv deploy tells it later")
    if run.decided(move.lines()):
        return
    if move.alone and move.fact.view.has_quorum and move.verb:
        run.confirm(f"Without {move.name} the others have no quorum: the cluster stops while it is restarted")
    move.carry_out()
    run.ui.result(f"{where}, healthy, and everybody knows it")


def _plan(run: Run, old: Member, member: Member, edit: Edit | None) -> Move:
    """Look at everything; ``Refused`` with every reason at once.  Changes nothing."""
    name = member.name
    run.ui.step(f"Look at {', '.join(run.names)}")
    found = run.fleet.map(gather)
    facts = {each: fact for each, fact in found.items() if not isinstance(fact, OpsError)}
    away = {each: error for each, error in found.items() if isinstance(error, OpsError)}
    if name in away:
        raise HostsFailed([away[name]], hint=f"{name} must be reached at {member.ssh or member.address}")
    now, items = datetime.now(UTC), []
    findings = [*guards.moved(run.config, old, member, facts)]
    if run.config.cluster.tls:
        pki = run.keystore.member_files(member, now)
        findings += [each for fact in facts.values() for each in guards.strangers(fact, pki)]
        items = [item for item in run.keystore.plan_leaves([member], now) if item.action != "keep"]
    guards.refuse(findings)
    return Move(run, member, facts, away, *_standing(run, old, member, facts), items, edit)


def _standing(run: Run, old: Member, member: Member, facts: Mapping[str, HostFacts]) -> tuple[ClusterMember, bool]:
    """The member as the list has it, and whether the others have no quorum without it."""
    name, url = member.name, membership.peer_url(run.config, member)
    known = next((fact.view.members for fact in facts.values() if fact.view.has_quorum and fact.view.members), ())
    id_ = int(facts[name].identity["member_id"], 16)
    before = ClusterMember(id_, name, (membership.peer_url(run.config, old),), (), learner=False)
    listed = next((each for each in known if each.id == id_), None if known else before)
    if listed is None or listed.learner:
        why = "has been removed from the cluster" if listed is None else "is a learner still"
        raise Refused(why, host=name, hint=f"inv remove-member {name}, then inv add-member {name}")
    if taken := next((each.name or f"{each.id:x}" for each in known if each != listed and url in each.peer_urls), ""):
        raise Refused(f"{member.address} is the address of member {taken}", host=name, hint="inv members")
    voters = sum(not each.learner for each in known) or len(run.names)
    others = [fact for each, fact in facts.items() if each != name]
    alone = sum(fact.view.has_quorum for fact in others) < etcd.quorum(voters)
    up = sum(fact.is_running for fact in others) + 1
    if alone and up < etcd.quorum(voters):
        raise Refused(
            f"with {name} {up} of {voters} members run, and {etcd.quorum(voters)} must",
            hint="bring the others up first; where a majority is lost for good: inv recover",
        )
    return listed, alone
