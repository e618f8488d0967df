"""Is it safe to go on?  One question about the whole cluster, asked through every member, with one answer.

Whatever touches a live member waits here, and nowhere else, for what judgement.py makes of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from etcdops import etcd, layout
from etcdops.agreement import Contents, compare
from etcdops.config import Config
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.etcd import View
from etcdops.facts import WAIT, parse_answers
from etcdops.judgement import Views, judge
from etcdops.snapshots import content
from etcdops.snapshots.content import Content
from etcdops.ssh import Fleet, Host, again
from etcdops.ui import Reporter

POLL = 0.2  # seconds between two looks
# Of an alarm, by its kind
WAY_OUT = {etcd.NOSPACE: "inv space makes room and ends it", etcd.CORRUPT: "inv check-data says whose data differs"}
QUIET = 2.0  # seconds of waiting before the operator is told for what
AGAIN = 5.0  # seconds before that is said anew
SETTLE = 1.0  # seconds for which a cluster stays healthy before it counts: a member may fall right after it came up
CHANGE_NOTHING = "change nothing yet; the way out is in docs/check-data.md"

T = TypeVar("T")


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
