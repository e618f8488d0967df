"""move-leader: the guide's `etcdctl move-leader`, with the endpoint, the target and the outcome looked up."""

from __future__ import annotations

import time
from collections.abc import Mapping

from etcdops import gate, layout
from etcdops.errors import HostError, OpsError, Refused, Unhealthy
from etcdops.etcd import View
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
    if run.dry_run:
        run.ui.result(f"{leader}  etcdctl move-leader: {target} leads")
        return
    took = hand_over(run, views, leader, target)
    _tell(run, leader, target, took)


def hand_over(run: Run, views: gate.Views, leader: str, target: str) -> float:
    """Let ``leader`` hand over to ``target``; seconds until every member that answers follows it."""
    view = views[target]
    assert isinstance(view, View) and view.status
    id_ = f"{view.status.member_id:x}"
    began = time.monotonic()

    def work(host: Host) -> None:
        done = host.run(layout.script("client") + '\nclient --command-timeout=10s move-leader "$1"', id_, check=False)
        if done.rc != 0:
            words = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
            why = words[-1].removeprefix("Error: ") if words else f"etcdctl ended with {done.rc}"
            raise HostError(f"did not hand over to {target}: {why}", hint="inv status")

    run.fleet.all(work, [leader])
    answering = [name for name, each in views.items() if isinstance(each, View)]
    deadline = time.monotonic() + run.patience
    while True:
        now = run.fleet.map(gate.ask, answering)
        leads = {each.status.leader for each in now.values() if isinstance(each, View) and each.status}
        if leads == {view.status.member_id}:
            return time.monotonic() - began
        if time.monotonic() > deadline:
            raise Unhealthy(f"{leader} handed over to {target}, and not every member follows it", hint="inv status")
        time.sleep(gate.POLL)


def _leader(run: Run, views: gate.Views) -> str:
    for name, view in views.items():
        if isinstance(view, View) and view.status and view.status.is_leader:
            return name
    raise Unhealthy(
        f"no member leads: {'; '.join(gate.judge(run.config, views).reasons)}", hint="inv status shows every member"
    )


def furthest(run: Run, views: gate.Views, leader: str) -> str:
    """The voter that has applied most, of those that can commit."""
    fit = {name: view.status.applied for name, view in _voters(views).items() if view.status and name != leader}
    if not fit:
        raise Refused(f"{leader} leads, and no other voter can take over", hint="inv status")
    return max(fit, key=lambda name: fit[name])


def _voters(views: gate.Views) -> Mapping[str, View]:
    return {
        name: view
        for name, view in views.items()
        if isinstance(view, View) and view.healthy and view.status and not view.status.learner
    }


def _refuse_unfit(views: gate.Views, target: str) -> None:
    if target in _voters(views):
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
