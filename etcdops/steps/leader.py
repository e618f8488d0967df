"""move-leader: the guide's `etcdctl move-leader`, with the endpoint, the target and the outcome looked up."""

from __future__ import annotations

import time
from collections.abc import Sequence

from etcdops import gate, judgement, layout
from etcdops.errors import HostError, OpsError, Refused, Unhealthy
from etcdops.etcd import View, reason
from etcdops.judgement import Views, judge
from etcdops.run import Run
from etcdops.ssh import Host


def move_leader(run: Run, to: str) -> None:
    """Hand the lead to member ``to``, or to the voter that is furthest; says who leads before and after."""
    if to:
        run.config.member(to)
    views = run.fleet.map(gate.ask)
    leader = _leader(run, views)
    if leader == to:
        _tell(run, leader, leader, 0.0)
        return
    target = to or furthest(run, views, leader)
    _refuse_unfit(views, target)
    if run.decided([f"{leader}  etcdctl move-leader: {target} leads"]):
        return
    took = hand_over(run, views, leader, target)
    _tell(run, leader, target, took)


def hand_over(run: Run, views: Views, leader: str, target: str) -> float:
    """Let ``leader`` hand over to ``target``; seconds until every member that answers follows it."""
    view = views[target]
    assert isinstance(view, View) and view.status
    id_ = f"{view.status.member_id:x}"
    began = time.monotonic()

    def work(host: Host) -> None:
        done = host.client(
            layout.script("client") + '\nclient --command-timeout=10s move-leader "$1"', id_, check=False
        )
        if done.rc != 0:
            why = reason(done.stderr, done.rc)
            raise HostError(f"did not hand over to {target}: {why}", hint="inv status")

    run.fleet.all(work, [leader])
    answering = [name for name, each in views.items() if isinstance(each, View)]
    wanted = {view.status.member_id}

    def missing(now: Views) -> Sequence[str]:
        leads = {each.status.leader for each in now.values() if isinstance(each, View) and each.status}
        return () if leads == wanted else (f"{leader} handed over to {target}, and not every member follows it",)

    gate.until(run, lambda: run.fleet.map(gate.ask, answering), missing)
    return time.monotonic() - began


def _leader(run: Run, views: Views) -> str:
    if name := judgement.leader(views):
        return name
    raise Unhealthy(
        f"no member leads: {'; '.join(judge(run.config, views).reasons)}",
        hint="inv status shows every member",
    )


def furthest(run: Run, views: Views, leader: str) -> str:
    """The voter that has applied most, of those that can commit."""
    fit = {name: status.applied for name, status in judgement.voters(views).items() if name != leader}
    if not fit:
        raise Refused(f"{leader} leads, and no other voter can take over", hint="inv status")
    return max(fit, key=lambda name: fit[name])


def _refuse_unfit(views: Views, target: str) -> None:
    if target in judgement.voters(views):
        return
    view = views[target]
    if isinstance(view, OpsError):
        why = view.message
    elif view.status and view.status.learner:
        why = "it is a learner still"
    else:
        why = view.complaint or "etcd does not answer"
    raise Refused(f"{target} cannot lead: {why}", hint="inv status")


def _tell(run: Run, before: str, after: str, seconds: float) -> None:
    if before == after:
        run.ui.result(f"{after} leads already")
    else:
        run.ui.result(f"{before} led, {after} leads now; it took {seconds:.2f} s")
