"""Is it safe to go on?  One question about the whole cluster, asked through every member, with one answer.

Green on one endpoint proves little (etcd-operations 3.1): a member that never started, a second leader or
a lagging follower hides behind it.  Whatever touches a live member waits here, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from etcdops import etcd, layout
from etcdops.agreement import Contents, compare
from etcdops.config import Config
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.etcd import ClusterMember, EndpointStatus, View
from etcdops.facts import WAIT, parse_answers
from etcdops.snapshots import content
from etcdops.snapshots.content import Content
from etcdops.ssh import Fleet, Host, again
from etcdops.ui import Reporter

LAG_LIMIT = 1000  # raft entries that a follower may be behind
POLL = 0.2  # seconds between two looks
# Of an alarm, by its kind
WAY_OUT = {etcd.NOSPACE: "inv space makes room and ends it", etcd.CORRUPT: "inv check-data says whose data differs"}
QUIET = 2.0  # seconds of waiting before the operator is told for what
AGAIN = 5.0  # seconds before that is said anew
SETTLE = 1.0  # seconds for which a cluster stays healthy before it counts: a member may fall right after it came up
CHANGE_NOTHING = "change nothing yet; the way out is in docs/check-data.md"

T = TypeVar("T")
Views = Mapping[str, View | OpsError]


class Operation(Protocol):
    """What the gate needs of a run: the hosts, whom to tell, how long to wait, the command that goes on from here."""

    @property
    def config(self) -> Config: ...
    @property
    def fleet(self) -> Fleet: ...
    @property
    def ui(self) -> Reporter: ...
    @property
    def patience(self) -> float: ...
    @property
    def command(self) -> str: ...


@dataclass(frozen=True)
class Verdict:
    """``reasons``: what speaks against going on, one line each; none: the cluster is healthy."""

    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.reasons

    def ways(self, *ways: str) -> str:
        """What to do, as a hint: without what a reason says itself."""
        return "; ".join(way for way in ways if not any(reason.endswith(f"; {way}") for reason in self.reasons))


def ask(host: Host, queries: str = "health status members", *also: str) -> View:
    """What the member on ``host`` says, and the scripts ``also``, in one round trip.

    ``Denied`` if etcd does not let us in.
    """
    head = f"QUERIES='{queries}' WAIT={WAIT}"
    script = "\n".join((head, layout.script("prelude", *also, "client", "etcd")))
    view = parse_answers(again(lambda: host.client(script)).stdout)
    if denied := host.credentials.refusal(view.complaint):
        raise denied
    return view


def ask_but_for_nospace(host: Host) -> View:
    """``ask`` for what may go on while the quota is full."""
    return ask(host).but_for_nospace()


def ask_but_for_alarms(host: Host) -> View:
    """``ask`` for what may go on under any alarm: a change of the membership, which is the way out of some."""
    return ask(host).but_for_alarms()


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


def leadership(views: Views) -> Iterator[str]:
    """No cluster that all are in, or no leader that all follow."""
    statuses = _statuses(views).values()
    leaders = {status.leader for status in statuses}
    if len({status.cluster_id for status in statuses}) > 1:
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


def until(
    run: Operation,
    look: Callable[[], T],
    missing: Callable[[T], Sequence[str]],
    *,
    seconds: float | None = None,
    enough: Callable[[T], bool] = lambda found: False,
) -> T:
    """Look until nothing is ``missing`` (else one line each), and say meanwhile for what this waits.

    ``Unhealthy``, with what is still missing and the command that goes on from there, after ``seconds`` (else as long
    as the run has patience), unless what was found is ``enough`` then.
    """
    limit = run.patience if seconds is None else seconds
    began = time.monotonic()
    said: tuple[str, ...] = ()
    due = began + QUIET
    while True:
        found = look()
        reasons = tuple(missing(found))
        now = time.monotonic()
        if not reasons or (now - began >= limit and enough(found)):
            return found
        if now - began >= limit:
            raise Unhealthy("; ".join(reasons), hint=resume(run))
        if now >= due and reasons != said:
            run.ui.line(f"waiting: {'; '.join(reasons)}")
            said, due = reasons, now + AGAIN
        time.sleep(POLL)


def resume(run: Operation) -> str:
    """What to do about a cluster that is not healthy."""
    return f"inv status shows every member; then {run.command}" if run.command else "inv status shows every member"


def pass_through(
    run: Operation, *, look: Callable[[Host], View] = ask, seconds: float | None = None, settle: float = 0.0
) -> Mapping[str, View]:
    """Wait until the cluster is healthy, and has been for ``settle`` seconds; what every member says then.

    ``Unhealthy`` when time is up, with every reason that is left, and at once where that is a full quota alone: no
    waiting makes room.
    """
    since: list[float] = []  # when the first of the looks was that all found it healthy

    def missing(views: Views) -> Sequence[str]:
        verdict = judge(run.config, views)
        if not verdict:
            since.clear()
            if judge(run.config, {name: _but_for_nospace(view) for name, view in views.items()}):
                raise Unhealthy("; ".join(verdict.reasons), hint="inv space makes room and ends the alarm")
            return verdict.reasons
        since.append(time.monotonic())
        return () if since[-1] - since[0] >= settle else (f"it is healthy; whether it stays so for {settle:g} s",)

    views = until(run, lambda: run.fleet.map(look), missing, seconds=seconds)
    return {name: view for name, view in views.items() if isinstance(view, View)}


def _but_for_nospace(view: View | OpsError) -> View | OpsError:
    return view.but_for_nospace() if isinstance(view, View) else view


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


def contents(run: Operation) -> tuple[int, Contents]:
    """The newest revision that all have, and what each holds there; again where a compaction came in between."""

    def look() -> tuple[int, Contents, set[int | None]]:
        views = run.fleet.map(lambda host: ask(host, "status members"))
        revision = _common(views)
        names = [name for name, view in views.items() if isinstance(view, View) and view.status]
        answers = run.fleet.map(lambda host: content.ask(host, revision), names)
        found = {
            name: answers.get(name, view if isinstance(view, OpsError) else Content()) for name, view in views.items()
        }
        return revision, found, {each.compact_revision for each in answers.values() if isinstance(each, Content)}

    revision, found, _ = until(
        run,
        look,
        lambda found: () if len(found[2]) <= 1 else ("the members are compacted to different revisions",),
        enough=lambda found: len(found[2] - {None}) <= 1,
    )
    return revision, found


def _common(views: Views) -> int:
    """The newest revision that every member that answers has."""
    known = [view.status.revision for view in views.values() if isinstance(view, View) and view.status]
    if known:
        return min(known)
    away = [view for view in views.values() if isinstance(view, OpsError)]
    if len(away) == len(views):
        raise HostsFailed(away)
    raise Unhealthy("no member tells its revision", hint="inv status")


def same_data(run: Operation, views: Views) -> None:
    """``Unhealthy`` when members hold different data.

    Not while they run different releases: older ones count keys that are deleted into their hash, newer ones do not
    (CHANGELOG 3.5.14, 3.4.33).
    """
    if len({view.status.version for view in views.values() if isinstance(view, View) and view.status}) > 1:
        return
    revision, found = contents(run)
    result = compare(found, revision)
    if result.bad:
        raise Unhealthy(result.reason, hint=CHANGE_NOTHING)


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
