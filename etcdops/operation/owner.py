"""Who has the lock of a cluster, as files/lock.sh tells it; may it be waited for, and how is it explained.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from etcdops.errors import OpsError, Refused, Unreachable
from etcdops.schedule import span

BEAT = 5.0  # seconds between two signs of life
SILENCE = 20.0  # seconds without one, after which a host takes the controller for gone
LATE = 2.5 * BEAT  # seconds of silence after which it is worth to wait whether it goes on
UNKNOWN = "?"  # it has just been taken, and whose it is was not written yet


@dataclass(frozen=True)
class Controller:
    """The machine that a run is started from; ``boot``: of the boot that it is in, '' where it tells none."""

    name: str
    boot: str


@dataclass(frozen=True)
class Owner:
    """A run: its id, who started it and where, in which process, by which task."""

    run: str
    who: str = UNKNOWN
    boot: str = ""
    pid: int = 0
    task: str = UNKNOWN

    @property
    def text(self) -> str:
        """For a host's journal."""
        return f"inv {self.task} by {self.who} ({self.run})"

    @property
    def line(self) -> str:
        """What files/lock.sh reads of it; it keeps all but the run, and tells it."""
        fields = (self.who, self.boot or UNKNOWN, str(self.pid), self.task, self.text)
        return "\t".join("".join(each if each.isprintable() else "?" for each in field) for field in fields)

    @classmethod
    def parse(cls, run: str, fields: list[str]) -> Owner:
        """``line``, as a host tells it."""
        if len(fields) < 4 or not fields[2].isdecimal():
            return cls(run)
        who, boot, pid, task = fields[:4]
        return cls(run, who, "" if boot == UNKNOWN else boot, int(pid), task)


@dataclass(frozen=True)
class Held:
    """What a host says of a lock that another run has: whether that run has it for good (``confirmed``), or only tries
    to; for how long, and when it was last heard of, in seconds."""

    owner: Owner
    confirmed: bool
    age: float
    silence: float

    @classmethod
    def parse(cls, line: str) -> Held:
        """A line of files/lock.sh that begins with ``held``."""
        _, run, confirmed, age, silence, *rest = line.split("\t")
        return cls(Owner.parse(run, rest), confirmed == "yes", float(age), float(silence))

    def is_ending(self, here: Controller, alive: frozenset[int]) -> bool:
        """Whether it will be free soon: its process is dead, as far as that can be seen ``here``, or is silent.

        ``alive``: the processes of this machine, of those that hold a lock.
        """
        dead = bool(here.boot) and self.owner.boot == here.boot and self.owner.pid not in alive
        return dead or self.silence > LATE


def refusal(held: Mapping[str, Held], command: str) -> OpsError:
    """The one line for whom comes second; ``held``: what each host said."""
    known = next((each for each in held.values() if each.owner.who != UNKNOWN), None)
    if known is None:
        return Refused(f"another run is about to change this cluster ({', '.join(held)})", hint="once more, the same")
    owner, said = known.owner, f", last heard of {_span(known.silence)} ago" if known.silence > BEAT * 2 else ""
    names = ", ".join(sorted(name for name, each in held.items() if each.owner.run == owner.run))
    return Refused(
        f"{owner.who} runs inv {owner.task} (process {owner.pid}), for {_span(known.age)}{said}: the lock on {names}",
        hint=f"wait for its end; if it hangs: {command or 'the same command'} --break-lock",
    )


def minority(names: Sequence[str], away: Mapping[str, OpsError]) -> str:
    """What to say where the lock is held on some of the hosts ``names``, and not on more than half of them; else ''.

    ``away``: those that it could not be taken on, with why; where it is all of them, the run ends with that at once.
    """
    held = len(names) - len(away)
    if not 0 < held <= len(names) // 2:
        return ""
    silent = [name for name in names if isinstance(away.get(name), Unreachable)]
    others = [name for name in names if name in away and name not in silent]
    parts = [f"{', '.join(silent)} {'do' if len(silent) > 1 else 'does'} not answer"] if silent else []
    parts += [f"{name}: {away[name].message}" for name in others]
    return (
        f"the lock could be taken on {held} of {len(names)} hosts only ({'; '.join(parts)}):"
        " make sure that nobody else changes this cluster"
    )


def _span(seconds: float) -> str:
    return span(timedelta(seconds=max(0, int(seconds))))
