"""doctor, check: a look at everything that an expert would look at; of a cluster, and of hosts that are to be one.

One round trip to each host, all at once; then the rules of ``checkup``, each in a line of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from etcdops import layout, rollout, rotation, succession
from etcdops.checkup import certificates, findings, hosts, members, tables
from etcdops.checkup.exam import ON_DISK, PORTS, Exam, examine
from etcdops.checkup.findings import LEVELS, Picture, Result, Rule
from etcdops.checkup.metrics import Histogram
from etcdops.config import Member
from etcdops.desired import Want
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.keystore import Item
from etcdops.release import Releases, architecture
from etcdops.run import Run
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.opened import open_store
from etcdops.steps import delivery
from etcdops.steps.sources import SKEW


def doctor(run: Run) -> None:
    """Everything about the cluster; ``Unhealthy`` when something needs care."""
    picture = _look(run, "schedule")
    backup, store, shut = _newest(run)
    picture = replace(picture, backup=backup, store=store, shut=shut)
    _report(run, tables.DOCTOR, picture, [_patient(member, picture) for member in run.config.members])


def check(run: Run) -> None:
    """The hosts, before there is a cluster; ``Unhealthy`` when something needs care."""
    picture = _look(run, "disk")
    picture = replace(picture, releases=_unavailable(run, picture))
    _report(run, tables.CHECK, picture, [_host(member, picture) for member in run.config.members])


def _look(run: Run, *also: str) -> Picture:
    exams = run.fleet.map(lambda host: examine(host, run.config, also))
    facts = {name: exam.facts for name, exam in exams.items() if isinstance(exam, Exam)}
    now = datetime.now(UTC)
    wants: Mapping[str, Want] = {}
    items: Sequence[Item] = ()
    trouble = rotating = cas = None
    try:
        if run.config.cluster.tls:
            rotating = run.keystore.rotating
            items = [*run.keystore.plan_ca(now), *run.keystore.plan_leaves(run.config.members, now)]
        wants = delivery.wants(run, facts, rollout.token(run.config, facts))
        if run.config.cluster.tls and (under_way := succession.stage(run.keystore.folder)):
            cas = rotation.standing(under_way, wants)
    except OpsError as error:
        trouble = error
    return Picture(run.config, exams, now, wants, items, trouble, rotating, cas)


def _newest(run: Run) -> tuple[Manifest | None, str, OpsError | None]:
    """The newest backup of this cluster in the store, where that is, and why it cannot be looked into."""
    latest = datetime.now(UTC) + SKEW
    try:
        with open_store(run.config) as store:
            own = [each for each in store.manifests() if each.cluster == run.config.cluster.name]
            kept = [each for each in own if each.purpose == "backup" and each.taken <= latest]
            return max(kept, key=lambda each: each.taken, default=None), store.where, None
    except OpsError as error:
        return None, "", error


def _unavailable(run: Run, picture: Picture) -> list[OpsError]:
    """Why a host would not get the release; nothing is downloaded."""
    releases, version = Releases(run.config.release, run.config.resolve, run.cache), run.config.cluster.version
    needing = [fact for fact in picture.facts.values() if version not in fact.releases]
    found = []
    for arch in sorted({arch for fact in needing if (arch := architecture(fact.machine))}):
        try:
            releases.look(version, arch)
        except OpsError as error:
            found.append(error)
    return found


def _report(run: Run, rules: Sequence[Rule], picture: Picture, rows: list[dict[str, Any]]) -> None:
    results = findings.apply(rules, picture)
    counts = Counter(each.level for result in results for each in result.findings)
    document = {
        "cluster": run.config.cluster.name,
        "well": not (counts["error"] or counts["warning"]),
        "checks": [{"check": each.rule, "state": _state(each), "summary": each.well} for each in results],
        "findings": list(_flat(results)),
        "members": rows,
    }
    run.emit(document, lambda: run.ui.table(("state", "check", "what is so; what to do"), list(_lines(results))))
    away = [exam for exam in picture.exams.values() if isinstance(exam, OpsError)]
    if away:
        raise HostsFailed(away)
    if not document["well"]:
        kinds = [f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}" for level in LEVELS[:2] if counts[level]]
        where = [each.rule for each in results if _state(each) in LEVELS[:2]]
        raise Unhealthy(f"{' and '.join(kinds)}: {', '.join(where)}", hint="what to do stands in each line")


def _state(result: Result) -> str:
    return next((level for level in LEVELS if any(each.level == level for each in result.findings)), _calm(result))


def _calm(result: Result) -> str:
    return "ok" if result.well else "unseen"


def _flat(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    for result in results:
        for each in result.findings:
            yield {
                "check": result.rule, "level": each.level, "member": each.host, "found": each.message, "do": each.hint
            }  # fmt: skip


def _lines(results: Sequence[Result]) -> Iterator[tuple[str, str, str]]:
    """The table: a line for each rule that is well, and for each finding, with all the hosts that have it."""
    for result in results:
        if not result.findings:
            yield _state(result), result.rule, result.well or "nothing to be seen of it"
        having: dict[tuple[str, str, str], list[str]] = {}
        for each in sorted(result.findings, key=lambda each: LEVELS.index(each.level)):
            having.setdefault((each.level, each.message, each.hint), []).append(each.host)
        for (level, message, hint), names in having.items():
            where = ", ".join(filter(None, names))
            yield level, result.rule, f"{where}: {message}; {hint}" if where else f"{message}; {hint}"


def _host(member: Member, picture: Picture) -> dict[str, Any]:
    """What there is in figures about a host."""
    exam = picture.exams[member.name]
    row: dict[str, Any] = {"member": member.name, "address": member.address, "reached": isinstance(exam, Exam)}
    if not isinstance(exam, Exam):
        return row
    facts = exam.facts
    row |= {
        "machine": facts.machine,
        "systemd": facts.systemd,
        "clock_ms": round(1000 * hosts.lead(facts)),
        "disk_free": facts.room.get(layout.DATA_DIR, 0),
        "reach": [{"member": name, "port": port, "state": each.state} for (name, port), each in exam.reach.items()],
    }
    if exam.syncs:
        row["sync_ms"] = _ms(sorted(exam.syncs)[len(exam.syncs) // 2])
    return row


def _patient(member: Member, picture: Picture) -> dict[str, Any]:
    """The same, and about the member on it."""
    row = _host(member, picture)
    exam = picture.exams[member.name]
    if not isinstance(exam, Exam):
        return row
    status, database = exam.facts.view.status, members.databases(picture).get(member.name)
    row |= {
        "running": exam.facts.is_running,
        "at_boot": exam.facts.unit.enabled == "enabled",
        "restarts": exam.restarts,
    }
    if status and database:
        row |= {"version": status.version, "role": status.role, "db_size": database.size, "db_in_use": database.used}
        row |= {"quota": database.quota, "leader_changes": exam.metrics.leader_changes if exam.metrics else None}
    if exam.metrics:
        row |= {
            "fsync_p99_ms": _p99(exam.metrics.fsync),
            "commit_p99_ms": _p99(exam.metrics.commit),
            "round_trip_p99_ms": _p99(exam.metrics.round_trip),
        }
    for port in PORTS:
        disk, shown = exam.pairs.get(ON_DISK[port], ""), exam.served.get(port)
        row[f"days_left_{port}"] = certificates.days_left(disk, picture.now)
        row[f"served_days_left_{port}"] = certificates.days_left(shown.certificate, picture.now) if shown else None
    return row


def _p99(histogram: Histogram) -> float | None:
    value = histogram.quantile(0.99)
    return None if value is None else _ms(value)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
