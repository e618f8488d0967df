"""snapshot.schedule, snapshot.unschedule: backups that the members make themselves, by a systemd timer on each.

The same three moves as deploy: what the hosts have, what they should have, the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from etcdops import __version__, apply, guards, layout
from etcdops import schedule as timetable
from etcdops.config import Config
from etcdops.credentials import PASSWORD
from etcdops.desired import render
from etcdops.errors import Refused
from etcdops.facts import HostFacts, gather
from etcdops.plan import ETCD, Change, Directory, File, Link, Resource, diff
from etcdops.run import Run
from etcdops.ssh import Host

WANTS = f"{layout.UNITS}/timers.target.wants"
ENABLED = f"{WANTS}/etcdops-backup.timer"  # what `systemctl enable` makes
FILES = (layout.BACKUP, layout.BACKUP_SERVICE, layout.BACKUP_TIMER, ENABLED)


def resources(config: Config) -> list[Resource]:
    """What makes the backups on a host."""
    plan = config.backup.schedule
    shift = timetable.offset(config.cluster.name, plan.every)
    service = render(
        "etcdops-backup.service.j2",
        cluster=config.cluster.name,
        tls=config.cluster.tls,
        schedule=plan,
        every=int(plan.every.total_seconds()),
        offset=int(shift.total_seconds()),
        limit=int(min(plan.every, timetable.LONGEST_RUN).total_seconds()),
        tool_version=__version__,
    )
    timer = render(
        "etcdops-backup.timer.j2",
        cluster=config.cluster.name,
        interval=timetable.span(plan.every),
        calendar=timetable.calendar(plan.every, shift),
    )
    return [
        Directory(layout.LIBRARY, 0o755),
        Directory(plan.dir, 0o700, ETCD),
        File(layout.BACKUP, (layout.FILES / "backup.sh").read_bytes(), 0o755),
        File(layout.BACKUP_SERVICE, service),
        File(layout.BACKUP_TIMER, timer),
        Directory(WANTS, 0o755),
        Link(ENABLED, layout.BACKUP_TIMER),
    ]


def schedule(run: Run) -> None:
    """Put the timer on every host, and start it; a host that has it as it should be is left alone."""
    wanted = resources(run.config)
    facts = _look(run)
    guards.refuse(finding for f in facts.values() for finding in (*guards.adopted(f), *_unready(run.config, f)))
    changes = {name: diff(wanted, fact) for name, fact in facts.items()}
    starts = {name: why for name in facts if (why := _start(facts[name], changes[name]))}
    lines = {name: [str(each) for each in changes[name]] for name in facts}
    for name, why in starts.items():
        lines[name].append(f"systemctl restart etcdops-backup.timer  ({why})")
    changed = [name for name in facts if lines[name]]
    if _rehearsed(run, lines):
        return
    if changed:
        run.ui.step(f"Schedule backups on {', '.join(changed)}")
        run.ui.changes({name: lines[name] for name in changed})
        run.fleet.all(lambda host: _put(host, changes[host.name], host.name in starts), changed)
    plan = run.config.backup.schedule
    due = timetable.next_due(plan.every, timetable.offset(run.config.cluster.name, plan.every), datetime.now(UTC))
    run.ui.result(
        f"{'done' if changed else 'nothing to do'}: a backup every {timetable.span(plan.every)}, the next at "
        f"{due:%Y-%m-%d %H:%M} UTC; {plan.keep} stay on each host, in {plan.dir}"
    )


def unschedule(run: Run) -> None:
    """Stop the timer on every host and remove what made the backups.  The backups stay."""
    facts = _look(run)
    lines = {name: [f"remove {path}" for path in FILES if path in fact.paths] for name, fact in facts.items()}
    changed = [name for name in facts if lines[name]]
    if _rehearsed(run, lines):
        return
    if changed:
        run.ui.step(f"Remove the schedule from {', '.join(changed)}")
        run.ui.changes({name: lines[name] for name in changed})
        run.fleet.all(lambda host: host.run(layout.script("unschedule"), *FILES), changed)
    run.ui.result("done: no backups are made any more; those on the hosts stay" if changed else "nothing to do")


def _look(run: Run) -> dict[str, HostFacts]:
    """Every host before the first is touched; one of another cluster is refused."""
    paths = (layout.LIBRARY, run.config.backup.schedule.dir, WANTS, *FILES)
    facts = run.fleet.all(lambda host: gather(host, *paths, also=("schedule",)))
    guards.refuse(finding for fact in facts.values() for finding in guards.other_member(run.config, fact))
    return facts


def _unready(config: Config, facts: HostFacts) -> Iterator[Refused]:
    yield from guards.unready(config, facts)
    if config.cluster.tls and layout.CLIENT not in facts.paths:
        yield Refused(f"{layout.CLIENT} is not there yet", host=facts.name, hint="inv distribute")
    if config.auth.user and not config.cluster.tls:
        yield Refused(
            f"without TLS a backup needs the password of {config.auth.user}, and none is left on a host",
            host=facts.name,
            hint=f"inv backup in cron here instead, with {PASSWORD}",
        )


def _start(facts: HostFacts, changes: tuple[Change, ...]) -> str:
    """Why the timer must be started, or started anew; '' when it runs with what is on disk."""
    known = timetable.installed(facts.view)
    if known is None or not known.armed:
        return "does not run"
    new = any(isinstance(each.resource, File) and each.resource.path == layout.BACKUP_TIMER for each in changes)
    return "changed" if new else ""


def _put(host: Host, changes: tuple[Change, ...], start: bool) -> None:
    if changes:
        apply.push(host, changes, None, "")
    if start:
        host.run("systemctl restart etcdops-backup.timer")


def _rehearsed(run: Run, lines: dict[str, list[str]]) -> bool:
    ends = run.decided(f"{name}  {line}" for name, each in lines.items() for line in each)
    if ends and not any(lines.values()):
        run.ui.result("nothing to do")
    return ends
