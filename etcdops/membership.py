"""Who may leave a cluster, how one comes into it, and what earlier attempts have left.  Pure.

All of it follows from the member list and from the hosts, never from what a run before had in mind: a learner, or a
member that was added and never started, tells by itself how far somebody has come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from etcdops import etcd, layout
from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.etcd import ClusterMember, View
from etcdops.facts import HostFacts, UnitFact

OWN = (  # of a member on its host; the identity last: as long as it is there, the unit's guard holds
    layout.UNIT, layout.CONF, layout.SERVER_KEY, layout.SERVER, layout.PEER_KEY, layout.PEER,
    layout.CLIENT_KEY, layout.CLIENT, layout.CLIENT_CA, layout.PEER_CA, layout.TRUST, layout.IDENTITY,
)  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """How a member becomes a voter."""

    known: ClusterMember | None = None  # in the list already: it goes on from there
    drop: ClusterMember | None = None  # in the list in a way that leads nowhere: removed first
    slip: str = ""  # what somebody did wrong when adding ``drop``; '' where a run was cut short
    clear: str = ""  # what an earlier member has left on its host, to be set aside first; '' for nothing

    @property
    def is_voter(self) -> bool:
        """Whether it has got there already."""
        return self.known is not None and self.known.started and not self.known.learner


def peer_url(config: Config, member: Member) -> str:
    """Where the other members find this one."""
    return member.url("https" if config.cluster.tls else "http", layout.PEER_PORT)


def hosts_of(member: ClusterMember) -> set[str]:
    """The addresses in the peer URLs of a member, in the form that config.yaml gives them."""
    found = set()
    for url in member.peer_urls:
        host = urlsplit(url).hostname or ""
        try:
            found.add(str(ipaddress.ip_address(host)))
        except ValueError:
            found.add(host)
    return found


def known(config: Config, cluster: Sequence[ClusterMember], name: str) -> ClusterMember | None:
    """Member ``name`` of config.yaml as the cluster knows it: by its name, or by its address if it never started."""
    url = peer_url(config, config.member(name))
    by_name = [each for each in cluster if each.name == name]
    return next(iter([*by_name, *(each for each in cluster if not each.name and url in each.peer_urls)]), None)


def called(cluster: Sequence[ClusterMember], who: str) -> ClusterMember | None:
    """The member that ``who`` means: its name, its id in hexadecimal, or its address."""
    return next(
        (each for each in cluster if who in {each.name, f"{each.id:x}", f"{each.id:016x}"} | hosts_of(each)), None
    )


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


def leaving(
    cluster: Sequence[ClusterMember], old: tuple[str, str], new: tuple[str, str], fact: HostFacts
) -> ClusterMember | None:
    """The member ``old`` (its name and peer URL) that ``new`` is to replace; None if it has gone already.

    Where both have one name, a voter that has started is the old one, unless it stands where the new one is to
    stand and, as ``fact`` has it, can commit there; whatever else has the name is what an earlier run has begun.
    """
    name, url = old
    found = [each for each in cluster if each.name == name or (not each.name and url in each.peer_urls)]
    if new[0] == name:
        tells = new[1] == url or urlsplit(new[1]).hostname in fact.addresses  # ``fact`` is of the host at new[1]
        there = [each for each in found if new[1] in each.peer_urls]
        begun = [each for each in there if each.learner or not each.started]
        done = [each for each in there if commits(fact, each) or not tells]
        found = [each for each in found if each not in (*begun, *done)]
    return next(iter(found), None)


def arrival(config: Config, cluster: Sequence[ClusterMember], member: Member, fact: HostFacts) -> Arrival:
    """How ``member`` gets into ``cluster`` from where it is; ``Refused`` if somebody or something is in its way.

    A learner is gone on with only where its own etcd runs: one that lost its data, or starts from other data, would
    be missing what the leader counts on it to have.  It has no vote, so it is cheap to begin anew.
    """
    mine = [each for each in cluster if each.name == member.name or member.address in hosts_of(each)]
    for each in cluster:
        if each not in mine and (each.learner or not each.started):
            raise _in_the_way(each)
    if len(mine) > 1:
        shown = ", ".join(f"{each.id:x} at {', '.join(each.peer_urls)}" for each in mine)
        raise Refused(
            f"the cluster has two members of this name or address: {shown}",
            host=member.name,
            hint=f"inv remove-member {mine[-1].id:x} for the one that is to go",
        )
    if not mine:
        return Arrival(clear=_remains(fact))
    (each,) = mine
    url = peer_url(config, member)
    if each.started:
        return _started(each, member, url, fact)
    if each.peer_urls != (url,):
        slip = f"was added at {', '.join(each.peer_urls)} instead of {url}, and has never started"
        return Arrival(drop=each, slip=slip, clear=_remains(fact))
    if runs_as(fact, each) or not (fact.data or fact.identity):
        return Arrival(known=each)
    return Arrival(drop=each, clear=_remains(fact))


def _started(each: ClusterMember, member: Member, url: str, fact: HostFacts) -> Arrival:
    if each.name != member.name:
        raise Refused(
            f"{member.address} is the address of member {each.name}",
            host=member.name,
            hint=f"another address; or, to put it in the place of {each.name}: inv replace-member {each.name} "
            f"--with={member.name}",
        )
    if url not in each.peer_urls:
        raise Refused(
            f"the cluster knows it at {', '.join(each.peer_urls)}",
            host=member.name,
            hint=f"another name; or inv move-member {member.name} --address={member.address} if its host has moved",
        )
    if runs_as(fact, each):
        return Arrival(known=each)
    if each.learner:
        return Arrival(drop=each, clear=_remains(fact))
    raise Refused(
        "is a voter, and its etcd does not run there as such",
        host=member.name,
        hint=f"systemctl start etcd there; if its data is lost: inv replace-member {member.name}",
    )


def _in_the_way(each: ClusterMember) -> Refused:
    """Somebody else is half-way in; etcd takes one at a time."""
    kind = "a learner" if each.learner else "a member that has never started"
    where = ", ".join(each.peer_urls)
    return Refused(
        f"{each.name or f'{each.id:x}'} at {where} is {kind}: another attempt was not finished",
        hint=f"to finish it: inv add-member {each.name or 'NAME'} --address={next(iter(hosts_of(each)), 'A')}; "
        f"to take it out: inv remove-member {each.name or f'{each.id:x}'}",
    )


def runs_as(fact: HostFacts, member: ClusterMember) -> bool:
    """Whether the etcd on a host runs, and is this member."""
    return fact.is_running and fact.view.status is not None and fact.view.status.member_id == member.id


def commits(fact: HostFacts, member: ClusterMember) -> bool:
    """Whether it has a quorum, too."""
    return runs_as(fact, member) and fact.view.has_quorum


def _remains(fact: HostFacts) -> str:
    """``Refused`` where it cannot be set aside; what stayed would keep the new member from starting."""
    if fact.data and fact.mounted:
        raise Refused(
            f"{layout.DATA_DIR} is a mount point, and what is in it cannot be set aside",
            host=fact.name,
            hint=f"mount the disk at {layout.STATE_DIR}; or, where its data is not needed: stop etcd there, empty it",
        )
    if fact.identity:
        return f"what is left of member {fact.identity.get('name')}"
    if fact.data:
        return "the data of an attempt that was cut short"
    return "the etcd that runs" if fact.is_running else ""


def cleared(fact: HostFacts) -> HostFacts:
    """The facts of a host once what was left on it has been set aside (files/retire.sh)."""
    gone = {*OWN, layout.SSL_DIR, layout.CONF_DIR}
    paths = {path: each for path, each in fact.paths.items() if path not in gone}
    unit = UnitFact()
    return replace(fact, identity={}, conf={}, trust={}, data="", paths=paths, unit=unit, running={}, view=View())
