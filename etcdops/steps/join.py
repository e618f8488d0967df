"""A member joins a cluster that serves (etcd-operations 3.5): as a learner, which has no vote until it is in sync.

So nothing is at stake until the last step, and whatever goes wrong before it is taken back: the learner leaves the
cluster, and its host is cleaned.  What add-member and replace-member share.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from etcdops import desired, gate, guards, layout, membership, transport
from etcdops.config import Member
from etcdops.configedit import Edit
from etcdops.desired import Want
from etcdops.errors import HostError, HostsFailed, OpsError
from etcdops.etcd import ClusterMember, View
from etcdops.facts import HostFacts
from etcdops.flaws import flaws
from etcdops.keystore import Item
from etcdops.membership import Arrival
from etcdops.plan import Change, Enabled, diff
from etcdops.release import Archive
from etcdops.run import Run
from etcdops.steps import delivery, learner
from etcdops.steps import membership as cluster
from etcdops.steps.membership import Members, Survey, lists

STEPS = ("install", "distribute", "configure")


@dataclass(frozen=True)
class Join:
    """What is to be done until ``member`` is a voter, and what that was decided from."""

    run: Run  # of the cluster with it
    member: Member
    found: Survey
    arrival: Arrival
    token: str
    items: Sequence[Item]
    lists: Mapping[str, Sequence[Change]]  # on the hosts of the others
    edit: Edit | None  # None: config.yaml has it already

    @classmethod
    def plan(cls, run: Run, member: Member, found: Survey, voters: Members, edit: Edit | None) -> Join:
        """Decide it; ``Refused`` with every reason at once.  Changes nothing.

        ``voters``: the cluster as it will be found, without a member that leaves before.
        """
        name = member.name
        token = found.incarnation(run.config, name)
        ids = {each.id for each in voters}
        now = datetime.now(UTC)
        findings = guards.welcome(run.config, member, found.facts, ids, token)
        items: list[Item] = []
        if run.config.cluster.tls:
            pki = run.keystore.member_files(member, now)
            findings += [each for fact in found.facts.values() for each in guards.strangers(fact, pki)]
        guards.refuse(findings)
        arrival = membership.arrival(run.config, voters, member, found.facts[name])
        if run.config.cluster.tls:
            items = [item for item in run.keystore.plan_leaves([member], now) if item.action != "keep"]
        rest = lists(run, found.facts, name, token)
        return cls(run, member, found, arrival, token, items, rest, edit)

    @property
    def name(self) -> str:
        """Of the new member."""
        return self.member.name

    @property
    def others(self) -> list[str]:
        """The members through which the cluster is asked and changed, the leader first."""
        return self.found.others(self.name)

    @property
    def url(self) -> str:
        """Its peer URL, by which the member list tells it before it has a name."""
        return membership.peer_url(self.run.config, self.member)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.arrival.is_voter and not (self.changes() or self.lists or self.edit)

    def changes(self) -> Sequence[Change]:
        """What its host needs before it starts; of a voter, what guards it."""
        fact = self.found.facts[self.name]
        if self.arrival.is_voter:
            return self._guards(fact)
        fact = membership.cleared(fact) if self.arrival.clear else fact
        want = self._want(fact)
        return diff(desired.resources(want, STEPS), fact)

    def _want(self, fact: HostFacts) -> Want:
        config, now = self.run.config, datetime.now(UTC)
        pki = self.run.keystore.member_files(self.member, now) if config.cluster.tls else None
        others = (each for name, each in self.found.facts.items() if name != self.name)
        stage = transport.beside(others, config.cluster.tls)
        dialled = {  # etcd takes no list of members at a first start that differs from the cluster's
            each.name: urlsplit(each.peer_urls[0]).scheme
            for each in self.found.cluster
            if each.peer_urls and each.name != self.name
        }
        return Want(config, self.member, fact, self.token, pki, joining=True, stage=stage, dialled=dialled)

    def lines(self) -> list[str]:
        """What happens, a line each; the same for --dry-run and for a real run."""
        name, via, arrival = self.name, self.others[0], self.arrival
        lines = [f"here  {item.action} {self.run.config.pki.dir}/{item.path}  ({item.why})" for item in self.items]
        if arrival.drop:
            lines.append(f"{via}  etcdctl member remove {arrival.drop.id:x}")
        if arrival.clear:
            lines.append(f"{name}  systemctl disable --now etcd; set aside {arrival.clear}")
        lines += [f"{name}  {change}" for change in self.changes()]
        if not arrival.known:
            lines.append(f"{via}  etcdctl member add {name} --learner --peer-urls={self.url}")
        if not arrival.is_voter:
            lines.append(f"{name}  systemctl enable --now etcd")
            lines.append(f"{via}  once it is in sync: etcdctl member promote")
        lines += [f"{host}  {change}" for host, changes in self.lists.items() for change in changes]
        return [*lines, f"here  {self.edit.path.name}: with {name}"] if self.edit else lines

    def provide(self) -> Mapping[str, Archive]:
        """Its certificates and its release, here: before anything is changed, for a download may fail."""
        delivery.issue(self.run.only([self.name]))
        return delivery.archives(self.run, self.found.facts, {self.name: self.changes()})

    def carry_out(self, archives: Mapping[str, Archive], undone: str) -> None:
        """Make it a voter, and say so everywhere; ``undone`` is true when that failed and was taken back."""
        run, name = self.run, self.name
        for flaw in flaws(run.config.cluster.version):
            if flaw.of_learners:
                run.ui.warn(f"etcd {run.config.cluster.version} {flaw.what}; {flaw.way_out} does not")
        try:
            changes = {name: self.changes()}
            if self.arrival.drop:
                cluster.leave(run, self.others, self.arrival.drop, name)
            if self.arrival.clear:
                run.ui.step(f"Set aside {self.arrival.clear} on {name}")
                cluster.retire(run, name)
            if changes[name]:
                run.ui.step(f"Prepare {name}")
                run.ui.changes(changes)
                delivery.push(run, changes, archives)
            learner.follow(run, self.member, self.others, self._enter(), self._guard)
        except BaseException as error:
            with run.unbroken(f"{name} was being taken back out"):
                outcome = self._take_back(error, undone)
            inner = error.errors[0] if isinstance(error, HostsFailed) and len(error.errors) == 1 else error
            if isinstance(inner, OpsError):
                inner.hint = outcome
                raise inner from None
            raise
        run.ui.step("Check the cluster")
        cluster.settle(run, [*self.others, name], self._is_voter, f"{name} is a voter")
        if self.lists:
            run.ui.step(f"Tell {', '.join(self.lists)} who has come")
            delivery.push(run, self.lists, {})
        if self.edit:
            self.edit.write()
        if any(layout.BACKUP_TIMER in self.found.facts[other].paths for other in self.others):
            run.ui.line(f"the others make scheduled backups: inv snapshot.schedule lets {name} make them, too")

    def _entry(self, members: Members) -> ClusterMember | None:
        return next((each for each in members if self.url in each.peer_urls), None)

    def _is_voter(self, members: Members) -> bool:
        entry = self._entry(members)
        return entry is not None and entry.started and not entry.learner

    def _enter(self) -> ClusterMember:
        """It is in the member list."""
        if self.arrival.known is None:
            self.run.ui.step(f"Add {self.name} to the cluster as a learner")
        words = ("add", self.name, "--learner", f"--peer-urls={self.url}")
        members = cluster.change(self.run, self.others, words, self._entry, f"does not add {self.name}")
        entry = self._entry(members)
        assert entry
        return entry

    def _guard(self, fact: HostFacts) -> None:
        """Before it votes: once it does, it must never start empty under this identity."""
        delivery.push(self.run, {self.name: self._guards(fact)}, {})

    def _guards(self, fact: HostFacts) -> Sequence[Change]:
        return diff([*desired.record(self._want(fact)), Enabled()], fact)

    def _take_back(self, error: BaseException, undone: str) -> str:
        """Out of the cluster and off its host again, unless it is a voter; says how it stands then."""
        run, name = self.run, self.name
        run.reconnect()  # Ctrl-C has closed every connection
        run.ui.step(f"{'Interrupted' if isinstance(error, KeyboardInterrupt) else 'That failed'}: take {name} back out")
        try:
            outcome = self._out() or undone
        except OpsError as trouble:
            run.ui.warn(str(trouble))
            outcome = f"it is not out again: the same command finishes it, inv remove-member {name} takes it out"
        run.ui.line(outcome)
        return outcome

    def _out(self) -> str:
        run, name = self.run, self.name
        for _ in range(2):
            views = run.fleet.map(gate.ask, self.others)
            able = {n: view.members for n, view in views.items() if isinstance(view, View) and view.has_quorum}
            members = next(filter(None, able.values()), ())
            if entry := self._entry(members):
                break
            time.sleep(1.0)  # an `add` whose connection was cut may be on its way still
        if not members:  # silence is no absence: a promotion may have gone through
            raise HostError(f"no other member tells whether {name} has a vote; its host is left as it is", host=name)
        if entry and self._is_voter(members):
            return f"{name} is a voter already: the same command again finishes the rest"
        if entry:
            cluster.leave(run, list(able), entry, name)
        cluster.retire(run, name)
        return ""
