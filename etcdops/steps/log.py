"""What an upgrade must know of each member's log and data that etcd does not tell: files/renew.sh on every host."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from etcdops import gate, layout
from etcdops.errors import OpsError, Refused
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps.turn import turn, turns


@dataclass(frozen=True)
class Log:
    """Of one member: when its process ``started`` and when the newest ``snapshot`` of its log was written (seconds
    since 1970, 0: none), who its data says was ``removed`` (ids in hexadecimal), the version of the ``cluster`` as its
    journal has it, and settings that it says are ``unknown``."""

    started: int
    snapshot: int
    removed: tuple[str, ...]
    cluster: str
    unknown: str


def look(host: Host) -> Log:
    """The log of the member on ``host``."""
    return parse(host.client(layout.script("prelude", "client", "renew"), "look").stdout)


def parse(text: str) -> Log:
    """The answer of the script."""
    values = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return Log(
        started=int(values.get("started") or 0),
        snapshot=int(values.get("snapshot") or 0),
        removed=tuple(values.get("removed", "").split()),
        cluster=values.get("cluster", ""),
        unknown=values.get("unknown", "").strip(),
    )


def due(logs: dict[str, Log]) -> list[str]:
    """The members whose log may hold what was written before all members ran what they run now."""
    since = max(log.started for log in logs.values())
    return [name for name, log in logs.items() if log.snapshot <= since]


@contextlib.contextmanager
def renewed(run: Run, restarted: Collection[str]) -> Iterator[None]:
    """Have each member where it is due begin its log anew, by a restart with the release that it has.

    Until it restarts again it writes a snapshot of its log at each entry.  So only those take part that what is done
    within restarts, ``restarted``: not one that a run which was killed has brought to the new release.  If it ends
    early, the operator is told what does so.
    """
    script = layout.script("client", "renew")
    begun: list[str] = []
    try:
        names = [name for name in due(run.fleet.all(look)) if name in restarted]
        views = gate.pass_through(run)
        for name, rest in turns(run, sorted(names, key=lambda each: views[each].leads)):
            run.ui.step(f"Restart {name}, so that it begins its log anew")
            turn(run, name, rest, partial(_begin, run, name, begun))
            run.fleet.all(lambda host: host.client(script, "wait"), [name])
        yield
    except BaseException:
        if begun:
            run.ui.warn(
                f"{', '.join(begun)} may write a snapshot of the log at each entry until the next restart, which slows "
                "writes down: unless the same command follows soon, inv restart"
            )
        raise


def _begin(run: Run, name: str, begun: list[str]) -> None:
    begun.append(name)
    run.fleet.all(lambda host: host.run(layout.script("renew"), "begin"), [name])


def doomed(run: Run, ids: Collection[int]) -> list[Refused]:
    """Members whose data says that others were removed which are members: 3.6 believes it, and these end for good."""
    known = {f"{each:016x}" for each in ids}
    return [
        Refused(
            f"its data has {', '.join(wrong)} noted as removed, which are members: 3.6 would end them for good",
            host=name,
            hint="stop all writers; inv backup, then inv restore latest, which writes the data anew",
        )
        for name, log in run.fleet.all(look).items()
        if (wrong := sorted(known.intersection(log.removed)))
    ]


def agreed(run: Run, version: str, seconds: float) -> None:
    """Wait until every member takes the cluster for one of ``version``, as far as they tell."""

    def missing(logs: dict[str, Log | OpsError]) -> Sequence[str]:
        found = {name: log.cluster for name, log in logs.items() if isinstance(log, Log)}
        return [f"{name}: the cluster is one of {each or '?'} still" for name, each in found.items() if each != version]

    def silent(logs: dict[str, Log | OpsError]) -> bool:  # with log-level warn it does not say so
        return all(isinstance(log, Log) and log.cluster in {"", version} for log in logs.values())

    gate.until(run, lambda: run.fleet.map(look), missing, seconds=seconds, enough=silent)
