"""The hosts as one cluster: data and members that do not belong together, or not to what config.yaml says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from etcdops import judgement, layout
from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts
from etcdops.flaws import known_bad
from etcdops.guards.host import ASIDE, other_member
from etcdops.guards.release import installed, is_strange

CLOCK_LIMIT = 1.0  # seconds; etcd itself warns above this drift between peers

Facts = Mapping[str, HostFacts]  # of the hosts that could be asked: a check-up looks at what there is


def same_machine(facts: Facts) -> Iterator[Refused]:
    """Two members whose addresses lead to one host."""
    first: dict[object, str] = {}
    for name, fact in facts.items():
        # Containers on one kernel may share its boot id, but not their addresses.
        other = first.setdefault((fact.boot_id, fact.addresses), name)
        if other != name:
            yield Refused(f"is the same machine as {other}", host=name, hint="one host for each member: correct 'ssh'")


def clocks(facts: Facts) -> Iterator[Refused]:
    """Clocks that differ for certain: the round trip leaves each one known to an interval only."""
    for (one, first), (two, second) in itertools.combinations(facts.items(), 2):
        apart = max(first.clock[0] - second.clock[1], second.clock[0] - first.clock[1])
        if apart > CLOCK_LIMIT:
            yield Refused(
                f"its clock is at least {apart:.1f} s from that of {one}",
                host=two,
                hint="synchronise the clocks (chrony, systemd-timesyncd)",
            )


def bad_release(config: Config, facts: Facts) -> Iterator[Refused]:
    """A release that must not be run, but where it does already."""
    bad = known_bad(config.cluster.version)
    message, hint = f"etcd {config.cluster.version} {bad}", "set cluster.version to a newer release"
    settled = [fact for fact in facts.values() if fact.is_running or fact.has_data]
    if bad and not settled:
        yield Refused(message, hint=hint)
    for fact in settled:
        if bad and not is_strange(fact) and installed(fact) != config.cluster.version:
            yield Refused(message, host=fact.name, hint=hint)


def incarnation(config: Config, facts: Facts) -> Iterator[Refused]:
    """Data directories that do not belong to this cluster, or to no other incarnation of it."""
    tokens = {}
    for name, fact in facts.items():
        foreign = list(other_member(config, fact))
        if foreign:
            yield from foreign
        elif fact.identity and fact.data in {"", "unfinished"}:
            yield Refused(
                f"has been a member, but {layout.DATA_DIR} is empty or not mounted",
                host=name,
                hint=f"mount the disk; if the data is lost: inv replace-member {name}",
            )
        elif fact.data == "files":
            yield Refused(f"{layout.DATA_DIR} holds something that is not etcd's", host=name, hint=ASIDE)
        elif fact.has_data and not fact.token:
            yield Refused(
                f"{layout.DATA_DIR} holds data of another cluster: no {layout.CONF} goes with it",
                host=name,
                hint=ASIDE,
            )
        elif fact.has_data:
            tokens[name] = fact.token
    if len(set(tokens.values())) > 1:
        shown = ", ".join(f"{name}: {token}" for name, token in tokens.items())
        hint = f"on the wrong ones: systemctl stop etcd, then {ASIDE}"
        yield Refused(f"the hosts hold data of different clusters ({shown})", hint=hint)
    yield from split(facts)


def split(facts: Facts) -> Iterator[Refused]:
    """Members that run in different clusters, such as after a recovery that some of them missed."""
    if shown := judgement.split({name: fact.view for name, fact in facts.items()}):
        hint = "which one is to live?  On the others: systemctl disable --now etcd; the way on is in docs/recover.md"
        yield Refused(f"the members run in different clusters ({shown})", hint=hint)


def emptied(config: Config, facts: Facts) -> Iterator[Refused]:
    """Hosts without data whose member the cluster has known before: etcd-operations, fact 2.

    Their own record of it may have gone with the disk or the host, so the others are asked.  Started empty under its
    old identity, such a member votes without what it had acknowledged, and acknowledged writes can be lost.
    """
    live = _live(config, facts)
    joined = [fact.name for fact in _ours(config, facts) if fact.identity]
    for member in config.members:
        fact = facts.get(member.name)
        if fact is None or fact.has_data or fact.identity or fact.is_running:
            continue
        at = _place(member)
        known = next((each for each in live or () if at in _places(each) or each.name == member.name), None)
        if known and known.started:
            yield Refused(
                "is a member of the running cluster, but has no data here: it was lost with the disk or the host",
                host=member.name,
                hint=f"never start it empty: inv replace-member {member.name}",
            )
        elif live is None and joined:
            yield Refused(
                f"has no data, while {', '.join(joined)} have been members, and no cluster runs that could tell "
                "whether it was one, too",
                host=member.name,
                hint="mount its disk if that is what is missing; else bring the others up first: systemctl start etcd",
            )


def _ours(config: Config, facts: Facts) -> list[HostFacts]:
    """Hosts of this cluster; one of another cluster, or with an etcd that is not ours, has a finding of its own."""
    return [
        fact
        for fact in facts.values()
        if fact.identity.get("cluster", config.cluster.name) == config.cluster.name and not is_strange(fact)
    ]


def _live(config: Config, facts: Facts) -> tuple[ClusterMember, ...] | None:
    """The membership as a member tells it that has its quorum, under an alarm, too."""
    views = [fact.view for fact in _ours(config, facts)]
    return next((view.members for view in views if view.has_quorum and view.members), None)


def membership(config: Config, facts: Facts) -> Iterator[Refused]:
    """Members that config.yaml has and the running cluster has not, or the other way round."""
    live = _live(config, facts)
    if live is None:
        yield from _initial(config, facts)
        return
    owners = {_place(member): member.name for member in config.members}
    for each in live:
        places = _places(each)
        name = each.name or next((owners[place] for place in places if place in owners), "")
        expected = next((place for place, owner in owners.items() if owner == name), "")
        if not expected and any(
            owners.get(place) in facts and facts[owners[place]].identity.get("name") == each.name for place in places
        ):
            continue  # renamed in config.yaml: what its own host says is enough
        if not expected:
            add = "inv add-member finishes what was begun" if _half(each) else "add it to config.yaml"
            yield Refused(
                f"member {each.name or 'without a name'} ({', '.join(each.peer_urls)}) is in the running cluster, "
                "not in config.yaml",
                hint=f"{add}; only if it is to go for good: inv remove-member {each.name or f'{each.id:x}'}",
            )
        elif expected not in places:
            yield Refused(
                f"the running cluster knows it at {', '.join(each.peer_urls)}, config.yaml at {expected}",
                host=name,
                hint=f"put the old address back into config.yaml; or, if its host has moved: inv move-member {name} "
                f"--address={config.member(name).address}",
            )
    known = {each.name for each in live} | {owners.get(place, "") for each in live for place in _places(each)}
    yield from _unknown([member.name for member in config.members if member.name not in known])


def _place(member: Member) -> str:
    """Where its peers find a member: a peer URL but for its scheme, which a change of the transport changes."""
    return member.url("", layout.PEER_PORT).removeprefix("://")


def _places(member: ClusterMember) -> list[str]:
    return [url.partition("://")[2] for url in member.peer_urls]


def _half(member: ClusterMember) -> bool:
    """Whether somebody has begun to add it, and not finished."""
    return member.learner or not member.started


def _initial(config: Config, facts: Facts) -> Iterator[Refused]:
    """While the cluster is down, the members that it was set up with are the ones that it will look for."""
    wanted = {f"{member.name}={_place(member)}" for member in config.members}
    for fact in _ours(config, facts):
        told = filter(None, fact.conf.get("ETCD_INITIAL_CLUSTER", "").split(","))
        known = {f"{name}={url.partition('://')[2]}" for name, _, url in (each.partition("=") for each in told)}
        if fact.has_data and known and known != wanted:
            shown = ", ".join(sorted(known ^ wanted))
            yield Refused(
                f"has data of a cluster with other members than config.yaml ({shown})",
                host=fact.name,
                hint="put the members back as they were and start the cluster; they change while it runs",
            )


def _unknown(names: Sequence[str]) -> Iterator[Refused]:
    for name in names:
        yield Refused(
            "is in config.yaml, but not a member of the running cluster",
            host=name,
            hint=f"inv add-member {name} makes it one; or take it out of config.yaml",
        )
