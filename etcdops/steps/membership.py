"""What add-, remove-, replace- and move-member share: a look at all hosts, and one change of the membership at a time.

A command may fail and have taken effect (a time-out, a leader that died), so that only the member list tells whether
a change has been made (etcd-operations, section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from etcdops import desired, etcd, gate, guards, judgement, layout
from etcdops.agreement import compare
from etcdops.config import Config
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, Refused, Unhealthy
from etcdops.etcd import ClusterMember, View, reason
from etcdops.facts import HostFacts, gather, parse_conf
from etcdops.judgement import Views, judge
from etcdops.membership import OWN
from etcdops.plan import Change, File
from etcdops.rollout import token
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import leader, schedule

FRESH = 15.0  # seconds: etcd counts a peer as there once it has been connected for 5 of them
PASSING = ("unhealthy cluster", "timed out", "deadline exceeded", "leader changed", "no leader", "connect")
AGAIN = "inv status, then the same again"
ALARM_OFF = "inv etcdctl -- alarm disarm"
BY_HAND = f"systemctl disable --now etcd etcdops-backup.timer; rm -r {layout.CONF_DIR}"

Members = tuple[ClusterMember, ...]


@dataclass(frozen=True)
class Survey:
    """What the hosts say, and the cluster as the furthest member knows it; of those that answer."""

    facts: Mapping[str, HostFacts]
    away: Mapping[str, OpsError]
    cluster: Members

    @property
    def views(self) -> Views:
        """What the members said."""
        return {name: fact.view for name, fact in self.facts.items()} | dict(self.away)

    @property
    def healthy(self) -> set[int]:
        """The ids of the members that have a quorum, whatever alarm is raised."""
        return {each.view.status.member_id for each in self.facts.values() if each.view.has_quorum and each.view.status}

    def others(self, but: str) -> list[str]:
        """The members that have a quorum, the leader first, without the one on host ``but``."""
        found = [name for name, fact in self.facts.items() if fact.view.has_quorum and name != but]
        return sorted(found, key=lambda name: not self.facts[name].view.leads)

    def incarnation(self, config: Config, but: str) -> str:
        """The token of the cluster."""
        return token(config, {name: fact for name, fact in self.facts.items() if name != but})


def survey(run: Run, about: str) -> Survey:
    """Look at every host; ``about``: the one that comes or goes, which need not be a member of this cluster.

    ``Refused`` when no other can commit, or is a member of another cluster, or a restore was cut short anywhere; and
    under CORRUPT unless the others hold the same.
    """
    run.ui.step(f"Look at {', '.join(run.names)}")
    found = run.fleet.map(lambda host: gather(host, *schedule.FILES))
    facts = {name: fact for name, fact in found.items() if not isinstance(fact, OpsError)}
    away = {name: error for name, error in found.items() if isinstance(error, OpsError)}
    ours = [fact for name, fact in facts.items() if name != about]
    guards.refuse(finding for fact in ours for finding in guards.other_member(run.config, fact))
    guards.refuse(finding for fact in facts.values() for finding in guards.adopted(fact))
    guards.refuse(guards.cut_short(fact) for fact in facts.values() if fact.barred)
    heads = [fact.view for fact in ours if fact.view.has_quorum and fact.view.members and fact.view.status]
    if not heads:
        views = {name: each.view if isinstance(each, HostFacts) else each for name, each in found.items()}
        raise Refused(
            "no other member can commit, so the membership cannot change: "
            + "; ".join(judge(run.config, views).reasons),
            hint="inv status; where a majority is lost for good: inv recover",
        )
    if any(view.corrupt for view in heads):
        _see_that_the_rest_agree(run, about)
    head = max(heads, key=lambda view: view.status.applied if view.status else 0)
    return Survey(facts, away, head.members or ())


def _see_that_the_rest_agree(run: Run, about: str) -> None:
    """``Refused`` unless a majority holds the same without ``about``, and no other holds anything else: CORRUPT is
    raised, and a new member copies what the others have."""
    revision, found = gate.contents(run)
    rest = compare({name: each for name, each in found.items() if name != about}, revision)
    if rest.bad or len(rest.good) < etcd.quorum(len(run.names)):
        why = rest.reason or "too few members tell what they hold"
        raise Refused(f"CORRUPT is raised, and without {about} {why}", hint=gate.CHANGE_NOTHING)
    if about in compare(found, revision).bad:
        raise Refused(
            f"CORRUPT is raised: it holds other data than {', '.join(rest.good)}, and serves it",
            host=about,
            hint="on its host: systemctl stop etcd; then the same again",
        )
    run.ui.warn(f"CORRUPT is raised; once inv check-data finds no difference: {ALARM_OFF}")


def hand_on(run: Run, name: str) -> None:
    """Where ``name`` leads, let the voter that is furthest take over: that costs no election."""
    views = run.fleet.map(gate.ask)
    if judgement.leader(views) == name:
        successor = leader.furthest(run, views, name)
        run.ui.step(f"Hand the lead to {successor}")
        leader.hand_over(run, views, name, successor)


def change(
    run: Run, names: Sequence[str], words: Sequence[str], done: Callable[[Members], object], what: str
) -> Members:
    """`etcdctl member WORDS` through one of ``names`` until the member list is as ``done`` wants it; that list.

    Repeated while etcd refuses for a moment only, such as until its members have been connected for 5 s.  ``what``
    is for the error, as in "does not remove etcd03".
    """
    said, via = "", names[0]

    def right(views: Views) -> Members:
        able = (view.members for view in views.values() if isinstance(view, View) and view.has_quorum)
        return next((members for members in able if members and done(members)), ())

    def look() -> Views:
        nonlocal said, via
        views = run.fleet.map(gate.ask, names)
        if not right(views):  # whatever was said: it may have taken effect
            if said and not any(each in said for each in PASSING):
                raise HostError(f"{what}: {said}", host=via, hint=AGAIN)
            via = next((name for name, view in views.items() if isinstance(view, View) and view.has_quorum), via)
            said = say(run, via, words)
        return views

    def missing(views: Views) -> Sequence[str]:
        return () if right(views) else (f"{via} {what}: {said or 'its list of members does not show it yet'}",)

    try:
        return right(gate.until(run, look, missing, seconds=FRESH))
    except Unhealthy as error:
        if found := right(run.fleet.map(gate.ask, names)):  # the last word that was said
            return found
        raise HostError(error.message.removeprefix(f"{via} "), host=via, hint=AGAIN) from None


def say(run: Run, via: str, words: Sequence[str]) -> str:
    """`etcdctl member WORDS` on one host; why it did not work, in etcdctl's words, else ''."""
    script = layout.script("client") + '\nclient --command-timeout=10s member "$@"'

    def work(host: Host) -> str:
        done = host.client(script, *words, check=False)
        return reason(done.stderr, done.rc) if done.rc else ""

    said = run.fleet.map(work, [via])[via]
    return f"connection lost: {said.message}" if isinstance(said, OpsError) else said


def leave(run: Run, names: Sequence[str], member: ClusterMember, name: str) -> None:
    """Remove ``member`` through the members ``names``, who are healthy without it then."""
    run.ui.step(f"Remove {name} ({member.id:x}) from the cluster")
    gone: Callable[[Members], bool] = lambda members: all(each.id != member.id for each in members)  # noqa: E731
    change(run, names, ("remove", f"{member.id:x}"), gone, f"does not remove {name}")
    settle(run, names, gone, f"{name} has left")


def settle(run: Run, names: Sequence[str], right: Callable[[Members], object], what: str) -> None:
    """Wait until these members are healthy but for alarms, follow one leader, and have the membership that is
    ``right``.

    ``what`` it is that they should know, for the operator.
    """

    def missing(views: Views) -> Sequence[str]:
        reasons = [*judgement.unwell(views), *judgement.leadership(views)]
        known = [right(view.members or ()) for view in views.values() if isinstance(view, View)]
        return reasons if all(known) else [*reasons, f"not every member knows that {what}"]

    gate.until(run, lambda: run.fleet.map(gate.ask_but_for_alarms, names), missing)


def lists(run: Run, facts: Mapping[str, HostFacts], but: str, incarnation: str) -> dict[str, list[Change]]:
    """etcd.conf with the members of ``run``, for each host where nothing but that list would change.

    etcd reads the list at a member's first start only, so that no restart is due.  Where config.yaml asks for more,
    that is for deploy, which puts the list there, too.  ``but`` is the host that is dealt with in another way.
    """
    config, now = run.config, datetime.now(UTC)
    changes = {}
    for member in config.members:
        fact = facts.get(member.name)
        if fact is None or not fact.conf or member.name == but:
            continue
        pki = run.keystore.member_files(member, now) if config.cluster.tls else None
        wanted = desired.configure(Want(config, member, fact, incarnation, pki))
        (conf,) = (each for each in wanted if isinstance(each, File) and each.path == layout.CONF)
        new = parse_conf((conf.content or b"").decode())
        if [each for each in new.keys() | fact.conf.keys() if new.get(each) != fact.conf.get(each)] == [
            "ETCD_INITIAL_CLUSTER"
        ]:
            changes[member.name] = [Change(conf, "the members as they are")]
    return changes


def strange(config: Config, found: HostFacts | OpsError) -> str:
    """Why a host is not one that this member can be cleaned off, '' where it is."""
    if isinstance(found, OpsError):
        return f"does not answer ({found.message})"
    if found.is_running and not found.is_ours:
        return f"runs an etcd that etcdops did not set up ({found.executable})"
    return next((finding.message for finding in guards.other_member(config, found)), "")


def leftovers(found: HostFacts) -> list[str]:
    """What makes backups on a host, and the files of a member, in the order in which they go."""
    return [path for path in (*schedule.FILES, *OWN) if path in found.paths]


def clean(run: Run, name: str, found: HostFacts) -> None:
    """Nothing on host ``name`` that could start again; its data set aside."""
    if any(path in found.paths for path in schedule.FILES):
        run.fleet.all(lambda host: host.run(layout.script("unschedule"), *schedule.FILES), [name])
    if any(path in found.paths for path in OWN):
        run.ui.step(f"Stop etcd on {name} for good, and set its data aside")
        retire(run, name)


def retire(run: Run, name: str) -> None:
    """files/retire.sh on one host."""
    id_ = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    done = run.fleet.all(lambda host: host.run(layout.script("retire"), id_, *OWN), [name])[name]
    where = f"its data, if it had any, is in {layout.STATE_DIR}/aside-{id_} there"
    run.ui.line(done.stdout.strip() or where)


def stay_off(run: Run, name: str) -> None:
    """What to do with a member's host that did not answer, should it ever come back."""
    run.ui.warn(f"{name} is to stay off the cluster: once its host is back, on it: {BY_HAND}")
