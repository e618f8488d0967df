"""The lock of a cluster: one changing run at a time, from however many machines.

On each host it is a process of ours (files/lock.sh) that keeps a file locked for as long as it hears of us.  So nothing
is ever left over: when this machine dies, sshd ends it; when the line is cut, silence does; a reboot takes all with it.
Whoever was away for longer, such as a laptop that was closed, meets the fence (files/fence.sh) at its next command.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from etcdops import layout
from etcdops.errors import HostError, LockLost, OpsError
from etcdops.operation.hold import Hold
from etcdops.operation.owner import SILENCE, Controller, Held, Owner, refusal
from etcdops.ssh import Outcome

if TYPE_CHECKING:
    from etcdops.ssh import Fleet, Host, Session

PATIENCE = 10.0  # seconds for a host to say whether it has the lock free
TRIES = 12  # rounds of two that began in the same instant
ENDING = SILENCE + 10.0  # seconds to wait for a lock whose run has ended, or seems to
FAREWELL = 3.0  # seconds for the hosts to note how the run ended


class Locked(OpsError):
    """A host is another run's."""

    def __init__(self, held: Held) -> None:
        super().__init__(f"{held.owner.text} has the lock")
        self.held = held


class Lock:
    """What one run holds, on each host by a ``Hold``."""

    def __init__(
        self,
        owner: Owner,
        here: Controller,
        *,
        command: str = "",
        say: Callable[[str], None] = lambda text: None,
        breaks: bool = False,
        alive: Callable[[int], bool] = lambda pid: True,
        call: Callable[[str], AbstractContextManager[Outcome]] = lambda host: nullcontext(Outcome()),
        linger: float = 150.0,
    ) -> None:
        """``alive`` tells whether a process of this machine lives; ``call`` is around each taking on a host;
        ``linger``: seconds that a command of a run that has ended may go on for on a host."""
        self.owner = owner
        self._here = here
        self._command = command
        self._say = say
        self._breaks = breaks
        self._alive = alive
        self._call = call
        self._linger = linger
        self._holds: dict[str, Hold] = {}
        self._hosts: dict[str, Host] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._known: set[str] = set()  # where it was held: the keys of hosts
        self._elsewhere: set[str] = set()  # of machines that are held over another address of theirs
        self._looking = threading.Lock()
        self._fence = f"LOCK={owner.run}\n{layout.script('fence')}"
        self._taken = False
        self._lost: LockLost | None = None

    @property
    def fence(self) -> str:
        """What goes before each command of the run."""
        return self._fence

    @property
    def hosts(self) -> list[str]:
        """The names of the hosts where it is held."""
        return sorted({hold.host for hold in self._holds.values() if not hold.ended})

    def take(self, fleet: Fleet, names: list[str]) -> dict[str, OpsError]:
        """Take it on all hosts at once, one round trip; those that it could not be taken on, with why.

        Every host that answers has to give it.  Of two that begin in the same instant the one goes on that a majority
        has; whoever has less gives it back and asks again.  ``Refused``, with who has it.
        """
        said = False
        until, tries = time.monotonic() + ENDING, 0
        while True:
            found = fleet.map(lambda host: host.enter(), names)
            held = {name: each.held for name, each in found.items() if isinstance(each, Locked)}
            if not held:
                break
            settled = {name: each for name, each in held.items() if each.confirmed}
            ending = all(each.is_ending(self._here, self._living(settled)) for each in settled.values())
            if settled or sum(each is None for each in found.values()) <= len(names) // 2:
                self.release()
            if (settled and (not ending or time.monotonic() > until)) or (not settled and tries > TRIES):
                raise refusal({**settled, **held}, self._command)
            if settled and not said:
                said = True
                self._say(f"waiting: {next(iter(settled.values())).owner.text} seems to have ended without a word")
            tries += not settled
            # So that two do not meet again; the more often they did, the longer: on a busy machine a round takes long.
            time.sleep(random.uniform(0.05, 0.4 * (1 + tries / 2)))  # noqa: S311
        for hold in self._holds.values():
            hold.confirm()
        self._taken = True
        return {name: each for name, each in found.items() if isinstance(each, OpsError)}

    def enter(self, host: Host, session: Session) -> None:
        """Hold it on ``host``, before a command there; ``LockLost`` where another run has had it since."""
        if self._lost:
            raise self._lost
        with self._guard:
            turn = self._turns.setdefault(host.key, threading.Lock())
            self._hosts[host.key] = host
        with turn:
            before = self._holds.get(host.key)
            if host.key in self._elsewhere or (before is not None and before.stands()):
                return
            again = self._taken and host.key in self._known
            if before is not None:
                self._holds.pop(host.key, None)
                before.end("its connection stalled, and it is taken again")
            with self._call(host.name) as outcome:
                self._take_one(host, session, again=again)
                outcome.rc = 0
        if again:
            self._look_around(host.key)

    def lost(self, host: Host, told: list[str]) -> LockLost:
        """``host`` is another run's since, as it ``told``: for this one all is over."""
        run, *about = told
        return self._lost_to(host, Owner.parse(run, about))

    def release(self, how: str = "") -> None:
        """Give it back everywhere; the hosts note ``how`` the run ended."""
        holds, self._holds, self._known, self._elsewhere = list(self._holds.values()), {}, set(), set()
        for hold in holds:
            hold.end(how)
        until = time.monotonic() + FAREWELL
        for hold in holds:
            hold.wait(until - time.monotonic())

    def _take_one(self, host: Host, session: Session, *, again: bool) -> None:
        how = "again" if again else "break" if self._breaks and not self._taken else "first"
        hold = Hold(host, session, self.owner, how, self._linger)
        answer = hold.answer(PATIENCE + SILENCE * again)
        if answer == ["busy"]:
            self._say(f"waiting: on {host.name} a command of an earlier run still runs")
            answer = hold.answer(self._linger + PATIENCE)
        match answer:
            case ["taken"]:
                self._holds[host.key] = hold
                self._known.add(host.key)
                if self._taken:
                    hold.confirm()
            case ["held", *_]:
                found = Held.parse("\t".join(answer))
                ours = found.owner.run == self.owner.run
                if ours and not again:  # the fence before each command asks that machine all the same
                    self._elsewhere.add(host.key)
                    return
                if again and found.confirmed and not ours:
                    raise self._lost_to(host, found.owner)
                if again:  # it may be free when the host is asked once more
                    who = "an older connection of this run" if ours else "a run that only begins"
                    raise HostError(f"{who} has the lock, and does not end", host=host.name)
                raise refusal({host.name: found}, self._command) if self._taken else Locked(found)
            case ["lost", *told]:
                raise self.lost(host, told)
            case _:
                hold.end("")
                raise HostError(hold.trouble or "no answer about the lock", host=host.name)

    def _lost_to(self, host: Host, owner: Owner) -> LockLost:
        self._lost = LockLost(
            f"stopped: {host.name} has been taken by {owner.text}, by --break-lock or while this run was not heard of",
            hint="look at what that run did (inv status); then the same command again",
        )
        return self._lost

    def _look_around(self, key: str) -> None:
        """One hold was lost and is back: whether another run had the others meanwhile decides, where they answer."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            for host in [each for other, each in self._hosts.items() if other != key and other in self._known]:
                with contextlib.suppress(HostError):
                    host.enter()
        finally:
            self._looking.release()

    def _living(self, held: Mapping[str, Held]) -> frozenset[int]:
        return frozenset(each.owner.pid for each in held.values() if self._alive(each.owner.pid))
