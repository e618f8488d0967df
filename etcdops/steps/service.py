"""start and stop: the service on every member, side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from etcdops import apply, guards
from etcdops.errors import Refused, Unhealthy
from etcdops.facts import HostFacts, gather
from etcdops.rollout import pioneers
from etcdops.run import Run

ANSWER = 8  # seconds that a member may take to answer its peers: a bit more than one that is away costs it


def stop(run: Run) -> None:
    """Stop every member, side by side, and the leader after them.  The data stays where it is.

    A leader that stops hands over first, and waits 7 s for one that stops as well; alone it does not try.
    """
    run.confirm(
        f"etcd stops on {', '.join(run.names)}, and cluster {run.config.cluster.name} serves nobody until inv start"
    )
    leaders = [name for name, fact in look(run).items() if fact.view.leads]
    if run.decided(f"{name}  systemctl stop etcd" for name in run.names):
        return
    run.ui.step(f"Stop {', '.join(run.names)}")
    for names in ([name for name in run.names if name not in leaders], leaders):
        run.fleet.all(lambda host: apply.service(host, "stop", seconds=run.patience), names)
    run.ui.result("stopped; inv start starts it again")


def look(run: Run) -> dict[str, HostFacts]:
    """Every host, before the first is touched: one that is away would stop us half-way, a wrong one is not ours."""
    facts = run.fleet.all(gather)
    if not any(fact.unit.fragment for fact in facts.values()):
        raise Refused("nothing is deployed here", host=", ".join(run.names), hint="inv deploy")
    guards.refuse(finding for fact in facts.values() for finding in guards.other_member(run.config, fact))
    return facts


def start_members(run: Run, verbs: Mapping[str, str], with_data: Collection[str]) -> None:
    """Start members (``verbs``: systemctl's word for each) and wait until all are ready.

    What all at once takes 7 to 15 s to serve its data again is there in half a second, and a new cluster of nine
    members in one second, not in nine.
    """
    for name in pioneers(run.config, verbs, with_data):
        run.fleet.all(lambda host: apply.begin(host, seconds=ANSWER), [name])
    run.fleet.all(lambda host: apply.service(host, verbs[host.name], seconds=run.patience), list(verbs))


def all_run(run: Run, facts: Mapping[str, HostFacts], version: str) -> None:
    """``Unhealthy`` where a run that was killed has left a member down with ``version``, which config.yaml does not say
    yet: `inv start` would refuse it."""
    down = [name for name, fact in facts.items() if not fact.is_running]
    if down:
        raise Unhealthy(
            f"{', '.join(down)} would run etcd {version}, and {'is' if len(down) == 1 else 'are'} down",
            hint=f"systemctl start etcd there, or journalctl -u etcd -e for why it does not run; then {run.command}",
        )
