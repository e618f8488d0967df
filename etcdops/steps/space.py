"""space: the way out of NOSPACE, in the one order that works: backup, compact, defragment, look, and only then disarm.

Disarmed first, the alarm comes back with the next write; and a database that is full of what is really there gets no
smaller by any of it (etcd-operations 3.13).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etcdops import gate, layout
from etcdops.database import MIB, Database, too_full
from etcdops.errors import Refused, Unhealthy
from etcdops.etcd import CORRUPT, NOSPACE, Alarm
from etcdops.judgement import Views
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import alarms, backup, compact, defrag

# A grant is refused for want of room like a put, goes through raft, and leaves no key: etcd forgets it after 10 s.
TRIAL = "\nclient --command-timeout=10s lease grant 10 >/dev/null"


def space(run: Run) -> None:
    """Show what the databases take; where the quota is full, make room and end the alarm.

    ``Unhealthy`` when that did not make enough room; the alarm stays then.
    """
    found, raised = _look(run)
    run.ui.table(*_table(found, raised))
    if not any(alarm.kind == NOSPACE for alarm in raised):
        run.ui.result("no alarm; nothing to do")
        return
    if run.dry_run:
        run.ui.result("inv backup")
        compact.drop_history(run, 0)
        defrag.shrink(run, found, list(found))
        run.ui.result("etcdctl alarm disarm, if there is room then, and a trial on every member")
        return
    backup.backup(run)
    run.ui.step("Drop the history")
    compact.drop_history(run, 0)
    defrag.shrink(run, defrag.databases(run, gate_views(run)), list(found))
    found, _ = _look(run)
    full = too_full(found)
    if full:
        run.ui.table(*_table(found, raised))
        raise Unhealthy(
            f"not enough room, and NOSPACE stays: {'; '.join(full)}",
            hint="delete what is not needed (inv keys, inv del), then inv space again; docs/space.md",
        )
    run.ui.step("End the alarm")
    alarms.disarm_nospace(run, run.names[0])
    run.fleet.all(_trial)
    gate.pass_through(run)
    found, raised = _look(run)
    run.ui.table(*_table(found, raised))
    run.ui.result("there is room again, and every member takes writes")


def gate_views(run: Run) -> Views:
    """What every member says, a full quota aside."""
    return run.fleet.map(gate.ask_but_for_nospace)


def _look(run: Run) -> tuple[dict[str, Database], list[Alarm]]:
    """The databases and the alarms; ``Refused`` where anything but the quota is wrong."""
    views = run.fleet.map(gate.ask)
    raised = alarms.raised(views)
    if any(alarm.kind == CORRUPT for alarm in raised):
        raise Refused("CORRUPT is raised: data differs between members, and space is no matter", hint="inv check-data")
    return defrag.databases(run, gate_views(run)), raised


def _trial(host: Host) -> None:
    host.client(layout.script("client") + TRIAL)


def _table(found: Mapping[str, Database], raised: list[Alarm]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    by = {alarm.member: alarm.kind for alarm in raised}
    columns = ("member", "db", "in use", "quota", "free on disk", "alarm")
    return columns, [_cells(name, each, by.get(name, "")) for name, each in found.items()]


def _cells(name: str, each: Database, alarm: str) -> tuple[Any, ...]:
    sizes = (each.size, each.used, each.quota, each.free)
    return (name, *(f"{size / MIB:.1f} MiB" if size else "none" for size in sizes), alarm)
