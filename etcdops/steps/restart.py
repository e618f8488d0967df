"""restart: every member in turn, the leader last; and one such turn, as every change of a live cluster takes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from etcdops import apply, gate, layout
from etcdops.errors import HostError, LockLost, OpsError, Refused, Unhealthy
from etcdops.run import Run
from etcdops.steps import canary, leader
from etcdops.steps.service import look


def restart(run: Run) -> None:
    """Restart every member, one at a time, the leader last, each between two looks at the whole cluster."""
    began = time.monotonic()
    views = {name: fact.view.but_for_nospace() for name, fact in look(run).items()}
    verdict = gate.judge(run.config, views)
    if not verdict:
        hint = verdict.ways("inv start", "then the same again")
        raise Refused(f"nothing was restarted: {'; '.join(verdict.reasons)}", hint=hint)
    order = sorted(run.names, key=lambda name: views[name].leads)
    if run.decided(f"{name}  systemctl restart etcd" for name in order):
        return
    with canary.alongside(run) as bird:
        for name, rest in turns(run, order):
            run.ui.step(f"Restart {name}")
            turn(run, name, rest)
        gate.same_data(run, gate.pass_through(run))
    seconds = time.monotonic() - began
    run.emit(
        {"restarted": order, "seconds": round(seconds, 1), "canary": bird.report().document if bird else None},
        lambda: run.ui.result(f"{len(order)} members restarted and healthy in {seconds:.1f} s"),
    )


def turns(run: Run, order: Sequence[str], done: str = "restarted") -> Iterator[tuple[str, Sequence[str]]]:
    """Each member with those that come after it; ``done``: what it is after its turn, as ``Run.turns`` says it."""
    return ((name, order[at + 1 :]) for at, name in enumerate(run.turns(order, done)))


def turn(run: Run, name: str, rest: Sequence[str], prepare: Callable[[], None] = lambda: None) -> None:
    """``restart_member``; what goes wrong once it has begun ends the run, and is told with who was left alone."""
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True
        prepare()

    try:
        restart_member(run, name, begin)
    except OpsError as error:
        if not begun or isinstance(error, LockLost):  # the gate before it stayed shut: nothing was done to this member
            raise
        raise stopped(run, name, error, rest) from None


def stopped(run: Run, name: str, error: OpsError, rest: Sequence[str]) -> OpsError:
    """The error of the turn of ``name``: it did not come back, or it did, and the cluster is not healthy."""
    left = f"; {', '.join(rest)} not touched after it" if rest else ""
    if isinstance(error, Unhealthy):
        return Unhealthy(f"{name} was restarted, and then: {error.message}{left}", hint=gate.resume(run))
    inner = next(iter(getattr(error, "errors", ())), error)
    then = f"; once that is mended: {run.command}" if run.command else ""
    return HostError(f"{inner.message}{left}", host=name, hint=f"on the host: journalctl -u etcd -e{then}")


def restart_member(run: Run, name: str, prepare: Callable[[], None] = lambda: None) -> None:
    """Restart one member: only while the others keep a quorum, and done when the cluster has been healthy for a while.

    A leader hands over first.  ``prepare`` is called when it is safe, and puts in place what the member takes up at its
    restart.  A full quota stops nothing: it may be a larger one that is taken up.
    """
    views = gate.pass_through(run, look=gate.ask_but_for_nospace)
    unsafe = gate.may_take_down(run.config, views, name)
    if unsafe:  # all are healthy, or the gate would not have opened: there are two of them
        hint = "with two members that takes an interruption: inv stop, then the same command"
        raise Refused(unsafe, host=name, hint=hint)
    run.safe_point()
    if views[name].leads and len(views) > 1:  # an election costs a second, and what is handed over nothing
        leader.hand_over(run, views, name, leader.furthest(run, views, name))
    run.fleet.all(lambda host: host.run(layout.script("renew"), "end"), [name])  # of an upgrade that was killed
    prepare()
    run.fleet.all(lambda host: apply.service(host, "restart", seconds=run.patience), [name])
    gate.pass_through(run, look=gate.ask_but_for_nospace, settle=gate.SETTLE)
