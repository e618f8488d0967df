"""alarms: the guide's `alarm list`, with the members' names; and the end of the one that stops writes."""

from __future__ import annotations

from dataclasses import asdict

from etcdops import gate, layout
from etcdops.errors import HostError, HostsFailed, OpsError, Unhealthy
from etcdops.etcd import CORRUPT, Alarm, View
from etcdops.gate import WAY_OUT
from etcdops.judgement import Views
from etcdops.run import Run
from etcdops.ssh import Host

# etcdctl knows no way to end just one kind: nothing is ended where another is raised.
DISARM = r"""
listed=$(client --command-timeout=10s alarm list 2>&1) || { echo "$listed" | tail -n 1 >&2; exit 1; }
case $listed in *CORRUPT*) echo 'CORRUPT is raised, too' >&2; exit 1 ;; esac
client --command-timeout=10s alarm disarm
"""


def alarms(run: Run) -> None:
    """Every alarm of the cluster, as the members that answer tell; ``Unhealthy`` when there is any."""
    views = run.fleet.map(gate.ask)
    found = raised(views)
    run.emit(
        [asdict(alarm) for alarm in found],
        lambda: (
            run.ui.table(
                ("alarm", "raised by", "way out"), [(a.kind, a.member, WAY_OUT.get(a.kind, "")) for a in found]
            )
            if found
            else run.ui.result("no alarm")
        ),
    )
    if found:
        kinds = sorted({alarm.kind for alarm in found})
        raise Unhealthy(
            f"{' and '.join(kinds)} raised", hint="; ".join(WAY_OUT[kind] for kind in kinds if kind in WAY_OUT)
        )
    away = [view for view in views.values() if isinstance(view, OpsError)]
    if away:
        raise HostsFailed(away)


def raised(views: Views) -> list[Alarm]:
    """What the members say; each knows the alarms of all.  ``Unhealthy`` when none tells."""
    statuses = [view.status for view in views.values() if isinstance(view, View) and view.status]
    if not statuses:
        away = [view for view in views.values() if isinstance(view, OpsError)]
        if len(away) == len(views):
            raise HostsFailed(away)
        raise Unhealthy("no member tells its alarms", hint="inv status")
    return sorted({alarm for status in statuses for alarm in status.alarms})


def disarm_nospace(run: Run, name: str) -> None:
    """End the alarm NOSPACE, through member ``name``.  It is raised again by the next write that finds no room."""

    def work(host: Host) -> None:
        done = host.client(layout.script("client") + DISARM, check=False)
        if done.rc != 0:
            raise HostError(f"the alarm was not ended: {done.stderr.strip()}", hint="inv alarms")
        if CORRUPT in done.stdout:
            raise HostError("CORRUPT was raised at that moment, and was ended with it", hint=WAY_OUT[CORRUPT])

    run.fleet.all(work, [name])
