"""Is the cluster healthy?  What its members say of themselves, judged as a whole.  Pure.

Green on one endpoint proves little (etcd-operations 3.1): a member that never started, a second leader or a lagging
follower hides behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etcdops import etcd
from etcdops.config import Config
from etcdops.errors import OpsError
from etcdops.etcd import ClusterMember, EndpointStatus, View

LAG_LIMIT = 1000  # raft entries that a follower may be behind

Views = Mapping[str, View | OpsError]


@dataclass(frozen=True)
class Verdict:
    """``reasons``: what speaks against going on, one line each; none: the cluster is healthy."""

    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.reasons

    def ways(self, *ways: str) -> str:
        """What to do, as a hint: without what a reason says itself."""
        return "; ".join(way for way in ways if not any(reason.endswith(f"; {way}") for reason in self.reasons))


def judge(config: Config, views: Views) -> Verdict:
    """The verdict on what every member said; a host that could not be asked counts against it."""
    reasons = [*unwell(views), *leadership(views), *lagging(views)]
    for name, status in _statuses(views).items():
        reasons += [f"{name}: {error}" for error in status.errors if error not in " ".join(reasons)]
    reasons += [*disagreement(views), *_unlike(config, views), *unfinished(config, views)]
    return Verdict(tuple(dict.fromkeys(reasons)))


def unwell(views: Views) -> Iterator[str]:
    """Members that cannot be asked, or do not say that they are healthy."""
    for name, view in views.items():
        if isinstance(view, OpsError):
            yield f"{name}: {view.message}"
        elif not view.healthy:
            yield f"{name}: {view.complaint or 'etcd does not answer'}"
        elif view.complaint:
            yield f"{name}: {view.complaint}"
        elif view.status is None or view.members is None:  # alarms, on 3.4, stand in the status alone
            yield f"{name}: healthy, but does not tell its status and members"


def split(views: Views) -> str:
    """The cluster that each member runs in, where they are not all in the same one; else ''."""
    ids = {name: status.cluster_id for name, status in _statuses(views).items()}
    return ", ".join(f"{name}: {each:x}" for name, each in ids.items()) if len(set(ids.values())) > 1 else ""


def leadership(views: Views) -> Iterator[str]:
    """No cluster that all are in, or no leader that all follow."""
    statuses = _statuses(views).values()
    leaders = {status.leader for status in statuses}
    if split(views):
        yield "the members are in different clusters"
    if leaders == {0}:
        yield "no leader"
    elif len(leaders) > 1:
        yield "the members do not agree who leads"


def lagging(views: Views) -> Iterator[str]:
    """Members that are too far behind."""
    statuses = _statuses(views)
    head = max((status.index for status in statuses.values()), default=0)
    for name, status in statuses.items():
        if head - status.applied > LAG_LIMIT:
            yield f"{name}: {head - status.applied} entries behind"


def disagreement(views: Views) -> Iterator[str]:
    """Members that list other members than the others do."""
    if len(set(_lists(views))) > 1:
        yield "the members do not agree who is a member"


def _unlike(config: Config, views: Views) -> Iterator[str]:
    configured = {member.name for member in config.members}
    for members in _lists(views)[:1]:
        names = {member.name for member in members if member.started}
        yield from (f"{name} is not a member of the cluster" for name in sorted(configured - names))
        yield from (f"member {name} is not in config.yaml" for name in sorted(names - configured))


def unfinished(config: Config, views: Views) -> Iterator[str]:
    """Members that are none yet, or have no vote."""
    configured = {member.name for member in config.members}
    for members in _lists(views)[:1]:
        missing = configured - {member.name for member in members if member.started}
        for member in members:
            if not member.started and not missing:
                yield f"member {member.id:x} at {', '.join(member.peer_urls)} has never started"
        yield from (
            f"{member.name or format(member.id, 'x')} is a learner still" for member in members if member.learner
        )


def _statuses(views: Views) -> dict[str, EndpointStatus]:
    return {name: view.status for name, view in views.items() if isinstance(view, View) and view.status}


def _lists(views: Views) -> list[frozenset[ClusterMember]]:
    return [frozenset(view.members) for view in views.values() if isinstance(view, View) and view.members]


def voters(views: Views) -> Mapping[str, EndpointStatus]:
    """The voters that can commit, with what they say of themselves."""
    return {
        name: view.status
        for name, view in views.items()
        if isinstance(view, View) and view.commits and view.status is not None
    }


def corrupt(views: Views) -> bool:
    """Whether any member says that CORRUPT is raised."""
    return any(isinstance(view, View) and view.corrupt for view in views.values())


def leader(views: Views) -> str:
    """Who leads, '' when nobody says so."""
    return next((name for name, view in views.items() if isinstance(view, View) and view.leads), "")


def may_take_down(config: Config, views: Views, name: str) -> str:
    """Why ``name`` must not be taken down now, '' when a quorum stays without it."""
    voters = len(config.members)
    healthy = [other for other, view in views.items() if isinstance(view, View) and view.healthy]
    if name not in healthy or voters == 1 or etcd.may_stop_one(voters, len(healthy)):
        return ""
    return (
        f"{len(healthy)} of {voters} members are healthy and {etcd.quorum(voters)} must stay: "
        f"without {name} the cluster would stop"
    )
