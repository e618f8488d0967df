"""Rules about the members: whether they run, agree, keep up, and are what config.yaml says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from etcdops import desired, etcd, gate, guards, judgement, layout, transport
from etcdops.checkup.findings import Finding, Picture, refused, told
from etcdops.database import MIB, Database, quota, too_full
from etcdops.etcd import EndpointStatus
from etcdops.flaws import ENDED, flaws, known_bad
from etcdops.plan import Enabled, diff

STEPS = ("install", "distribute", "configure", "start")
MANY = 4  # elections in a quarter of an hour: etcd's own alert
QUARTER = 900.0  # seconds
SHOWN = 3  # changes of one host, in words; the others are counted
UNFINISHED = "inv add-member NAME finishes it; inv remove-member NAME (or its id: inv members) takes it out"
LOOPING = 3  # restarts by systemd since the last start by a person


def service(picture: Picture) -> Iterator[Finding]:
    """Members whose etcd does not run, or is not healthy."""
    views = {name: view for name, view in picture.views.items() if not picture.seen[name].denied}
    yield from told(judgement.unwell(views), picture, "journalctl -u etcd on the host says why; inv start")
    for name, exam in picture.seen.items():
        if exam.denied:
            yield Finding("error", exam.denied.message, name, exam.denied.hint)
        if exam.restarts >= LOOPING:
            yield Finding(
                "warning",
                f"etcd has ended by itself, and systemd has started it again {exam.restarts} times",
                name,
                "journalctl -u etcd on the host says why; inv restart begins the count anew",
            )


def serving(picture: Picture) -> str:
    return f"{len(picture.running)} members healthy" if picture.running else ""


def boot(picture: Picture) -> Iterator[Finding]:
    """Units that systemd does not start when the host does."""
    for name, fact in picture.facts.items():
        if (fact.is_running or fact.has_data) and fact.unit.enabled != "enabled":
            state = fact.unit.enabled or "not there"
            yield Finding("warning", f"etcd does not start at boot: its unit is {state}", name, "inv start")


def enabled(picture: Picture) -> str:
    return "etcd starts at boot" if any(fact.has_data for fact in picture.facts.values()) else ""


def membership(picture: Picture) -> Iterator[Finding]:
    """Members that disagree who is one; who is one and should not be; who is none, or none yet."""
    views = picture.views
    yield from told(judgement.disagreement(views), picture, "inv members; stop the one whose list is wrong")
    yield from refused(guards.membership(picture.config, picture.facts))
    yield from told(judgement.unfinished(picture.config, views), picture, UNFINISHED)


def agreed(picture: Picture) -> str:
    lists = [view.members for view in picture.views.values() if view.members]
    return f"{len(lists[0])} voters, and {len(lists)} members say so" if lists else ""


def transported(picture: Picture) -> Iterator[Finding]:
    """Members between plain http and TLS, and those that the others dial in another way than they listen."""
    for fact in picture.facts.values():
        yield from refused(guards.torn(fact))
    found = transport.standing(_stages(picture), picture.config.cluster.tls)
    if found:
        yield Finding("note" if found.rests else "warning", found.what, hint=found.hint)


def talks(picture: Picture) -> str:
    found = {str(stage) for stage in _stages(picture).values() if stage is not None}
    return " and ".join(sorted(found))


def _stages(picture: Picture) -> dict[str, transport.Stage | None]:
    return {name: transport.stage(fact) for name, fact in picture.facts.items()}


def leader(picture: Picture) -> Iterator[Finding]:
    """No leader, several, or one after the other."""
    yield from told(
        judgement.leadership(picture.views), picture, "inv status; with a quorum for good away: inv recover"
    )
    for name, exam in picture.running.items():
        seen = exam.metrics
        if seen and seen.uptime and seen.leader_changes > MANY:
            often = (seen.leader_changes - 1) / max(1.0, seen.uptime / QUARTER)  # the first one is no change
            if often >= MANY:
                yield Finding(
                    "warning",
                    f"has seen {seen.leader_changes} leaders in {seen.uptime / 60:.0f} min",
                    name,
                    "a slow disk or network; see the rules disk and peers, or raise election-timeout in config.yaml",
                )


def leads(picture: Picture) -> str:
    names = [name for name, view in picture.views.items() if view.status and view.status.is_leader]
    terms = {view.status.term for view in picture.views.values() if view.status}
    return f"{names[0]}, in term {max(terms)}" if names else ""


def lag(picture: Picture) -> Iterator[Finding]:
    """Followers that are far behind."""
    yield from told(
        judgement.lagging(picture.views), picture, "a slow disk, or one that just came back: inv status again"
    )


def behind(picture: Picture) -> str:
    statuses = _statuses(picture).values()
    head = max((status.index for status in statuses), default=0)
    return f"{max(head - status.applied for status in statuses)} entries at most" if statuses else ""


def alarms(picture: Picture) -> Iterator[Finding]:
    """What any member knows to be raised."""
    raised = {alarm for fact in picture.facts.values() if fact.view.status for alarm in fact.view.status.alarms}
    for alarm in sorted(raised):
        by = f"raised by {alarm.member}" if alarm.member else "raised"
        yield Finding("error", f"alarm {alarm.kind}, {by}", hint=gate.WAY_OUT.get(alarm.kind, "inv alarms"))


def quiet(picture: Picture) -> str:
    return "none" if _statuses(picture) else ""


def config(picture: Picture) -> Iterator[Finding]:
    """What deploy would change on a host, and what a member runs with that is not so any more."""
    if picture.is_bare:
        return
    for name, want in picture.wants.items():
        changes = [
            change for change in diff(desired.resources(want, STEPS), want.facts) if change.resource != Enabled()
        ]
        if changes:
            more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
            shown = "; ".join(str(change) for change in changes[:SHOWN]).replace("; ", ", ")
            yield Finding("warning", f"not as config.yaml says: {shown}{more}", name, "inv deploy; --dry-run shows all")
        stale = desired.needs_restart(want) if want.facts.is_running else ""
        if stale and not changes:
            yield Finding("warning", f"runs with something older than is in place: {stale}", name, "inv restart")


def same(picture: Picture) -> str:
    return f"{len(picture.wants)} hosts as config.yaml says" if picture.wants and not picture.is_bare else ""


def version(picture: Picture) -> Iterator[Finding]:
    """Members that run another release than is installed beside them, or than the others."""
    running = _versions(picture)
    for name, fact in picture.facts.items():
        current = fact.paths.get(layout.CURRENT)
        if current and name in running and current.target != running[name]:
            yield Finding(
                "warning", f"runs etcd {running[name]}, and {current.target} is installed", name, "inv restart"
            )
    if len(set(running.values())) > 1:
        shown = ", ".join(f"{name}: {each}" for name, each in running.items())
        newest = max(running.values(), key=etcd.release)
        hint = f"inv upgrade --to={newest} goes on with one that was cut short; else inv deploy"
        yield Finding("warning", f"the members run different releases ({shown})", hint=hint)


def versions(picture: Picture) -> str:
    running = sorted(set(_versions(picture).values()))
    if picture.is_bare:
        return f"{picture.config.cluster.version} is to be installed"
    return f"{running[0]} is installed and runs" if running else ""


def release(picture: Picture) -> Iterator[Finding]:
    """What is known to be wrong with the releases that run, or are to."""
    running = set(_versions(picture).values())
    yield from refused(guards.bad_release(picture.config, picture.facts))
    for each in sorted(running or {picture.config.cluster.version}, key=etcd.release):
        bad = known_bad(each)
        if bad and each in running:
            yield Finding("error", f"etcd {each} {bad}", hint="inv upgrade --to=RELEASE, the newest of this line")
        for flaw in () if bad else flaws(each):
            way = f"inv upgrade --to={flaw.way_out}" if running else f"set cluster.version to {flaw.way_out}"
            yield Finding("warning", f"etcd {each} {flaw.what}", hint=f"{way}, or newer")
        ended = ENDED.get(each.rpartition(".")[0])
        if ended:
            yield Finding("note", ended, hint="inv upgrade --to=RELEASE, of a newer line; with --plan it tells how")
    yield from refused(picture.releases)


def flawless(picture: Picture) -> str:
    return "nothing bad is known of it"


def database(picture: Picture) -> Iterator[Finding]:
    """Databases that are nearly full, mostly empty, or too large for their disk."""
    found = databases(picture)
    for line in too_full(found):
        name, _, words = line.partition(" ")
        yield Finding("error", words, name, "inv space makes room")
    for name, each in found.items():
        if each.worth:
            yield Finding("warning", f"{each}", name, "inv defrag gives it back")
        if each.quota and each.free < each.quota - each.size:
            yield Finding(
                "warning",
                f"{each.free // MIB} MiB free on the disk, and its database may grow by "
                f"{(each.quota - each.size) // MIB} MiB: a full disk stops the member, a full quota only its writes",
                name,
                "free some space, or set quota-backend-bytes in cluster.settings, then inv deploy",
            )


def sizes(picture: Picture) -> str:
    found = databases(picture).values()
    if not found:
        return ""
    most = max(each.size / MIB for each in found)
    share = max((100 * each.size / each.quota for each in found if each.quota), default=0)
    return f"{most:.1f} MiB or less, {share:.0f} % of the quota"


def databases(picture: Picture) -> Mapping[str, Database]:
    """The database of each member that tells."""
    return {
        name: Database(
            status.db_size,
            status.db_in_use,
            quota(picture.facts[name].running.get("ETCD_QUOTA_BACKEND_BYTES", "")),
            picture.facts[name].room.get(layout.DATA_DIR, 0),
        )
        for name, status in _statuses(picture).items()
    }


def _statuses(picture: Picture) -> dict[str, EndpointStatus]:
    return {name: view.status for name, view in picture.views.items() if view.status}


def _versions(picture: Picture) -> dict[str, str]:
    told_ = {name: status.version for name, status in _statuses(picture).items()}
    return {name: told_.get(name) or fact.running_version for name, fact in picture.facts.items() if fact.is_running}
