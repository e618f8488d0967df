"""A member's turn, as every change of a live cluster takes it: begun when it is safe, over when all is healthy again.

What its turn has brought may keep a member from coming back; then it goes back to what it was, and the run ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from etcdops import apply, gate, judgement, layout
from etcdops.errors import HostError, LockLost, OpsError, Refused, Unhealthy
from etcdops.run import Run
from etcdops.steps import leader


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
    """Each member with those that come after it; ``done``: what it is after its turn, as ``Run.turns`` says it.

    Before the first, all have to hold the same data (etcd-operations, fact 9): a turn may hand the lead to any of them.
    """
    if order:
        gate.same_data(run, gate.pass_through(run, look=gate.ask_but_for_nospace))
    for at, name in enumerate(run.turns(order, done)):
        yield name, order[at + 1 :]


def turn(
    run: Run,
    name: str,
    rest: Sequence[str],
    prepare: Callable[[], None] = lambda: None,
    retreat: Retreat | None = None,
) -> None:
    """``restart_member``; what goes wrong once it has begun ends the run, and is told with who was left alone."""
    begun = given = False

    def begin() -> None:
        nonlocal begun, given
        begun = True
        prepare()
        given = True

    try:
        restart_member(run, name, begin)
        if retreat:
            retreat.proof()
    except OpsError as error:
        if not begun:  # the gate before it stayed shut: nothing was done to this member
            raise
        if isinstance(error, LockLost):
            raise LockLost(
                f"{error.message}; {name} was in its turn, and may be down{_left(rest)}", hint=error.hint
            ) from None
        if retreat is None or (isinstance(error, Unhealthy) and retreat.serves()):  # one away is enough
            raise stopped(run, name, error, rest) from None
        how = "did not come back with" if given else "could not be given"
        what = f"{how} {retreat.brought}: {_inner(error).message}"
        raise taken_back(run, name, what, _way_out(error), rest, retreat) from None


def stopped(run: Run, name: str, error: OpsError, rest: Sequence[str]) -> OpsError:
    """The error of the turn of ``name``: it did not come back, or it did, and the cluster is not healthy."""
    if isinstance(error, Unhealthy):
        return Unhealthy(f"{name} was restarted, and then: {error.message}{_left(rest)}", hint=gate.resume(run))
    then = f"; once that is mended: {run.command}" if run.command else ""
    return HostError(f"{_inner(error).message}{_left(rest)}", host=name, hint=f"{_way_out(error)}{then}")


def taken_back(run: Run, name: str, message: str, way_out: str, rest: Sequence[str], retreat: Retreat) -> OpsError:
    """The error of a turn whose member was put back to where it was, if that could be; ``message``: why it was."""
    if why := retreat.stays():
        return HostError(
            f"{message}; {why}: {retreat.before} is not put back",
            host=name,
            hint=f"{way_out}; systemctl start etcd; once it runs: {run.command}",
        )
    try:
        run.ui.step(f"Put {name} back to {retreat.before}")
        retreat.put_back()
    except OpsError as trouble:
        return HostError(
            f"{message}; and putting it back to {retreat.before} failed: {_inner(trouble).message}{_left(rest)}",
            host=name,
            hint=f"inv status; {_way_out(trouble)}; then {run.command}",
        )
    off = f"; {retreat.otherwise}" if retreat.otherwise else ""
    return HostError(
        f"{message}; it is back to {retreat.before}{_left(rest)}",
        host=name,
        hint=f"{way_out}; once that is mended: {run.command}{off}",
    )


def restart_member(run: Run, name: str, prepare: Callable[[], None] = lambda: None) -> None:
    """Restart one member: only while the others keep a quorum, and done when the cluster has been healthy for a while.

    A leader hands over first.  ``prepare`` is called when it is safe, and puts in place what the member takes up at its
    restart.  A full quota stops nothing: it may be a larger one that is taken up.
    """
    views = gate.pass_through(run, look=gate.ask_but_for_nospace)
    unsafe = judgement.may_take_down(run.config, views, name)
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


def _inner(error: OpsError) -> OpsError:
    return next(iter(getattr(error, "errors", ())), error)


def _way_out(error: OpsError) -> str:
    """What is known to help against it, else where to read more."""
    return _inner(error).hint or "on the host: journalctl -u etcd -e"
