"""A member's turn, as every change of a live cluster takes it: begun when it is safe, over when all is healthy again.

What its turn has brought may keep a member from coming back; then it goes back to what it was, and the run ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from etcdops import apply, gate, layout
from etcdops.errors import HostError, LockLost, OpsError, Refused, Unhealthy
from etcdops.run import Run
from etcdops.steps import leader

JOURNAL = "on the host: journalctl -u etcd -e"


@dataclass(frozen=True)
class Retreat:
    """The way back for a member that does not come back with what its turn has ``brought``, to how it was ``before``.

    ``serves`` tells whether it commits, with what was brought: then the trouble is another's, and it stays.  ``proof``
    raises where it is back, but not as it should be; ``stays`` tells why it may not go back, and '' where it may.
    ``otherwise``: what to say of calling the whole change off.
    """

    brought: str
    before: str
    serves: Callable[[], bool]
    put_back: Callable[[], None]
    proof: Callable[[], None] = lambda: None
    stays: Callable[[], str] = lambda: ""
    otherwise: str = ""


def turns(run: Run, order: Sequence[str], done: str = "restarted") -> Iterator[tuple[str, Sequence[str]]]:
    """Each member with those that come after it; ``done``: what it is after its turn, as ``Run.turns`` says it."""
    return ((name, order[at + 1 :]) for at, name in enumerate(run.turns(order, done)))


def turn(
    run: Run,
    name: str,
    rest: Sequence[str],
    prepare: Callable[[], None] = lambda: None,
    retreat: Retreat | None = None,
) -> None:
    """``restart_member``; what goes wrong once it has begun ends the run, and is told with who was left alone."""
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True
        prepare()

    try:
        restart_member(run, name, begin)
        if retreat:
            retreat.proof()
    except OpsError as error:
        if not begun or isinstance(error, LockLost):  # the gate before it stayed shut: nothing was done to this member
            raise
        if retreat is None or (isinstance(error, Unhealthy) and retreat.serves()):  # one away is enough
            raise stopped(run, name, error, rest) from None
        raise taken_back(run, name, error, rest, retreat) from None


def stopped(run: Run, name: str, error: OpsError, rest: Sequence[str]) -> OpsError:
    """The error of the turn of ``name``: it did not come back, or it did, and the cluster is not healthy."""
    if isinstance(error, Unhealthy):
        return Unhealthy(f"{name} was restarted, and then: {error.message}{_left(rest)}", hint=gate.resume(run))
    then = f"; once that is mended: {run.command}" if run.command else ""
    return HostError(f"{_said(error)}{_left(rest)}", host=name, hint=f"{JOURNAL}{then}")


def taken_back(run: Run, name: str, error: OpsError, rest: Sequence[str], retreat: Retreat) -> OpsError:
    """The error of a turn whose member was put back to where it was, if that could be."""
    message = f"did not come back with {retreat.brought}: {_said(error)}"
    if why := retreat.stays():
        return HostError(
            f"{message}; {why}: {retreat.before} is not put back",
            host=name,
            hint=f"{JOURNAL}; systemctl start etcd; once it runs: {run.command}",
        )
    try:
        run.ui.step(f"Put {name} back to {retreat.before}")
        retreat.put_back()
    except OpsError as trouble:
        return HostError(
            f"{message}; and putting it back to {retreat.before} failed: {_said(trouble)}{_left(rest)}",
            host=name,
            hint=f"inv status; {JOURNAL}; then {run.command}",
        )
    off = f"; {retreat.otherwise}" if retreat.otherwise else ""
    return HostError(
        f"{message}; it is back to {retreat.before}{_left(rest)}",
        host=name,
        hint=f"{JOURNAL}; once that is mended: {run.command}{off}",
    )


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


def _left(rest: Sequence[str]) -> str:
    return f"; {', '.join(rest)} not touched after it" if rest else ""


def _said(error: OpsError) -> str:
    return next(iter(getattr(error, "errors", ())), error).message
