"""What must not be: everything that makes a run unsafe, found on all hosts before the first change on any.

Pure: facts in, findings out.  A finding is a ``Refused`` that names the host, the trouble and the way out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.guards.cluster import Facts, bad_release, clocks, emptied, incarnation, membership, same_machine, split
from etcdops.guards.host import (
    adopted,
    between,
    cut_short,
    other_member,
    other_way,
    plain_peers,
    room,
    still_there,
    strangers,
    torn,
    unfit,
    unlike,
    unread,
    unready,
    unwelcome,
)
from etcdops.guards.release import ahead, by_chance, other_release

__all__ = [
    "Facts",
    "adopted",
    "bad_release",
    "beneath_a_crossing",
    "beneath_a_restore",
    "beneath_an_upgrade",
    "by_chance",
    "check",
    "clocks",
    "cut_short",
    "emptied",
    "findings",
    "incarnation",
    "membership",
    "moved",
    "other_member",
    "plain_peers",
    "refuse",
    "room",
    "same_machine",
    "split",
    "strangers",
    "torn",
    "unfit",
    "unlike",
    "unread",
    "unready",
    "welcome",
]


def findings(config: Config, facts: Facts) -> list[Refused]:
    """Every reason not to go on, host by host, then those of the cluster as a whole."""
    found: list[Refused] = []
    for member in config.members:
        found += [*unfit(config, member, facts[member.name]), *unlike(config, member, facts[member.name])]
    return [*found, *_together(config, facts)]


def beneath_an_upgrade(config: Config, facts: Facts) -> list[Refused]:
    """The same for a run that brings another release."""
    found: list[Refused] = []
    for member in config.members:
        fact = facts[member.name]
        found += [*unfit(config, member, fact), *other_way(config, member, fact), *adopted(fact)]
    return [*found, *_together(config, facts)]


def beneath_a_crossing(config: Config, facts: Facts) -> list[Refused]:
    """The same for a run that changes the transport, which may have been begun."""
    found: list[Refused] = []
    for member in config.members:
        fact = facts[member.name]
        found += [*unfit(config, member, fact), *other_release(config, member, fact), *adopted(fact)]
        found += [cut_short(fact)] if fact.barred else []
        if not fact.has_data:
            hint = "inv deploy makes a cluster, by cluster.tls with TLS or without"
            found.append(Refused("no member has ever run here", host=member.name, hint=hint))
        elif not fact.identity:  # whom the member list is to be changed for
            found.append(Refused("its joining is not recorded yet", host=member.name, hint="inv deploy first"))
    return [*found, *_together(config, facts)]


def _together(config: Config, facts: Facts) -> list[Refused]:
    return [
        *same_machine(facts),
        *clocks(facts),
        *bad_release(config, facts),
        *incarnation(config, facts),
        *emptied(config, facts),
        *membership(config, facts),
    ]


def beneath_a_restore(config: Config, facts: Facts) -> list[Refused]:
    """The same for a restore, which brings data, membership and release of its own: what is there makes way."""
    found: list[Refused] = []
    for member in config.members:
        fact = facts[member.name]
        found += [*unfit(config, member, fact), *other_member(config, fact), *adopted(fact)]
    return [*found, *same_machine(facts), *clocks(facts), *bad_release(config, facts)]


def welcome(config: Config, member: Member, facts: Facts, ids: Collection[int], token: str) -> list[Refused]:
    """The same for ``member``, which joins the others: its host as for a deploy, and they run as config.yaml says.

    Or some run the next minor, in the middle of an upgrade: for as long as one does not, the cluster's version is that
    of config.yaml, and etcd takes a member with it.  Else a host that is lost meanwhile could not be replaced, and no
    upgrade goes on without it.

    ``facts`` are those of the hosts that answer, ``ids`` the members of the cluster, ``token`` is its incarnation's.
    """
    found = [*unwelcome(config, member, facts[member.name], ids, token)]
    others = [each for each in config.members if each.name != member.name and each.name in facts]
    upgraded = {each.name for each in others if ahead(config, facts[each.name])}
    for other in others:
        fact = facts[other.name]
        in_between = other.name in upgraded and len(upgraded) < len(others)
        found += [*(other_way if in_between else unlike)(config, other, fact), *other_member(config, fact)]
    return [*found, *same_machine(facts), *clocks(facts)]


def moved(config: Config, old: Member, member: Member, facts: Facts) -> list[Refused]:
    """The same for a member whose host has another address now, and all its data still."""
    fact = facts[member.name]
    found = [*unfit(config, member, fact), *still_there(config, old, member, fact)]
    for each in config.members:
        if each.name in facts:
            other = facts[each.name]
            found += [*unlike(config, each, other), *other_member(config, other), *adopted(other), *between(other)]
    return [*found, *same_machine(facts), *clocks(facts)]


def check(config: Config, facts: Facts) -> None:
    """Raise one ``Refused`` that holds every finding, if there is any."""
    refuse(findings(config, facts))


def refuse(found: Iterable[Refused]) -> None:
    """Raise one ``Refused`` that holds all of ``found``, if there is any."""
    together = list(found)
    if together:
        raise Refused("nothing was changed", findings=together)
