"""health, status, members: the guide's `endpoint health`, `endpoint status` and `member list`, as tables.

Every member is asked through its own loopback endpoint, all at once, so that a host that is down hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from etcdops import gate, rollout, rotation, schedule, succession, transport
from etcdops.config import Member
from etcdops.errors import HostsFailed, OpsError, Unhealthy, UsageError
from etcdops.etcd import EndpointStatus, View
from etcdops.facts import HostFacts, gather
from etcdops.judgement import Verdict, Views, judge
from etcdops.rotation import Standing
from etcdops.run import Run
from etcdops.steps import delivery

MIB = 1 << 20


def health(run: Run) -> None:
    """Is every member able to commit?"""
    views = run.fleet.map(lambda host: gate.ask(host, "health"))
    rows = [_health(member, views[member.name]) for member in run.config.members]
    columns = ("member", "endpoint", "healthy", "took", "why not")
    run.emit(
        rows,
        lambda: run.ui.table(
            columns,
            [
                (
                    row["member"],
                    row["endpoint"],
                    "yes" if row["healthy"] else "no",
                    f"{row['took_ms']:.1f} ms" if row["healthy"] else "",
                    row["error"],
                )
                for row in rows
            ],
        ),
    )
    _verdict(views, [f"{row['member']}: {row['error']}" for row in rows if not row["healthy"]])


def _health(member: Member, view: View | OpsError) -> dict[str, Any]:
    answered = view if isinstance(view, View) else View()
    return {
        "member": member.name,
        "endpoint": f"{member.address}",
        "healthy": bool(answered.healthy),
        "took_ms": answered.took,
        "error": _complaint(view),
    }


def _complaint(view: View | OpsError) -> str:
    if isinstance(view, OpsError):
        return view.message
    return view.complaint or ("" if view.healthy else "etcd does not run")


def status(run: Run) -> None:
    """Role, version, size, lag, alarms and certificates of every member."""
    views = run.fleet.map(lambda host: gate.ask(host, "health status members listens", "schedule"))
    head = max((view.status.index for view in views.values() if isinstance(view, View) and view.status), default=0)
    rows = [_status(member, views[member.name], head) for member in run.config.members]
    verdict = judge(run.config, views)
    unsettled = [
        f"{name}: restore {view.unsettled} was cut short before its end: the same restore again, or inv restore-undo; "
        "if it was inv recover, or a host is lost for good: inv recover again"
        for name, view in views.items()
        if isinstance(view, View) and view.unsettled
    ]
    verdict = Verdict((*verdict.reasons, *unsettled))
    backup = schedule.judge({name: view for name, view in views.items() if isinstance(view, View)})
    cas = _rotation(run)
    stages = {name: transport.of_view(view) for name, view in views.items() if isinstance(view, View)}
    standing = transport.standing(stages, run.config.cluster.tls)
    document = {"cluster": run.config.cluster.name, "healthy": bool(verdict), "reasons": verdict.reasons}
    run.emit(
        {
            **document,
            "members": rows,
            "backup": _backup(backup) if backup else None,
            "ca_rotation": cas.document if cas else None,
            "transport": str(standing).removeprefix("transport: ") if standing else None,
        },
        lambda: _show_status(
            run, rows, [str(backup or ""), f"{cas}; {rotation.GO_ON}" if cas else "", str(standing or "")]
        ),
    )
    _verdict(views, [*verdict.reasons, *(backup.reasons if backup else ())])


def _rotation(run: Run) -> Standing | None:
    """How far a rotation of the CAs has come, where pki.dir says that one is under way; hosts that answer count."""
    stage = succession.stage(run.config.resolve(run.config.pki.dir))
    if not (stage and run.config.cluster.tls):
        return None
    facts = {name: fact for name, fact in run.fleet.map(gather).items() if isinstance(fact, HostFacts)}
    try:
        found = rotation.standing(stage, delivery.wants(run, facts, rollout.token(run.config, facts)))
    except UsageError as error:  # status answers whatever is the matter with pki.dir
        return Standing(stage, dict.fromkeys(run.names, error.message))
    return Standing(stage, {**found.behind, **{name: "does not answer" for name in run.names if name not in facts}})


def _backup(report: schedule.Report) -> dict[str, Any]:
    row = {"every_s": int(report.every.total_seconds()), "overdue": report.overdue, "reasons": report.reasons}
    newest = report.newest
    if newest is None:
        return row
    return {
        **row,
        "name": newest.name,
        "member": newest.member,
        "taken": newest.taken.isoformat(),
        "age_s": int(report.age.total_seconds()),
        "revision": newest.revision,
    }


def _status(member: Member, view: View | OpsError, head: int) -> dict[str, Any]:
    row: dict[str, Any] = {"member": member.name, "address": member.address, "healthy": False, "role": "down"}
    if isinstance(view, OpsError):
        return {**row, "role": "unreachable", "errors": [view.message]}
    row["healthy"] = bool(view.healthy)
    row["errors"] = [view.complaint] if view.complaint else []
    if view.status:
        row |= _figures(view.status, head)
        row["errors"] += [error for error in view.status.errors if error not in row["errors"]]
    if view.certificate and transport.of_view(view) is not transport.Stage.PLAIN:
        row["certificate_days_left"] = _days_left(view.certificate)
    return row


def _figures(status: EndpointStatus, head: int) -> dict[str, Any]:
    return {
        "role": status.role,
        "version": status.version,
        "member_id": f"{status.member_id:x}",
        "cluster_id": f"{status.cluster_id:x}",
        "db_size": status.db_size,
        "db_in_use": status.db_in_use,
        "revision": status.revision,
        "raft_term": status.term,
        "raft_index": status.index,
        "lag": max(0, head - status.applied),
    }


def _days_left(certificate: str) -> int:
    from etcdops import certificate as x509

    return x509.inspect(certificate.encode()).days_left(datetime.now(UTC))


def _show_status(run: Run, rows: list[dict[str, Any]], notes: list[str]) -> None:
    def cell(key: str, form: Callable[[Any], str] = str) -> Callable[[dict[str, Any]], str]:
        return lambda row: form(row[key]) if key in row else ""

    columns: Mapping[str, Callable[[dict[str, Any]], str]] = {
        "member": cell("member"),
        "role": cell("role"),
        "healthy": cell("healthy", lambda value: "yes" if value else "no"),
        "version": cell("version"),
        "db": lambda row: _size(row["db_size"], row["db_in_use"]) if "db_size" in row else "",
        "term": cell("raft_term"),
        "lag": cell("lag"),
        "cert": cell("certificate_days_left", lambda days: f"{days} d"),
        "errors": cell("errors", "; ".join),
    }
    run.ui.table(list(columns), [[show(row) for show in columns.values()] for row in rows])
    for note in filter(None, notes):
        run.ui.result(note)


def _size(total: int, used: int) -> str:
    share = round(100 * used / total) if total else 0
    return f"{total / MIB:.1f} MiB ({share} %)"


def members(run: Run) -> None:
    """The membership as the cluster itself knows it."""
    views = run.fleet.map(gate.ask)
    lists = [view.members for view in views.values() if isinstance(view, View) and view.members]
    if not lists:
        _verdict(views, ["no member can tell who is in the cluster; inv status"])
    rows: list[dict[str, Any]] = [
        {
            "id": f"{member.id:x}",
            "name": member.name,
            "started": member.started,
            "learner": member.learner,
            "peer_urls": list(member.peer_urls),
            "client_urls": list(member.client_urls),
        }
        for member in lists[0]
    ]
    columns = ("id", "name", "state", "peer URLs", "client URLs")
    run.emit(
        rows,
        lambda: run.ui.table(
            columns,
            [
                (
                    each["id"],
                    each["name"],
                    "learner" if each["learner"] else "voter" if each["started"] else "never started",
                    " ".join(each["peer_urls"]),
                    " ".join(each["client_urls"]),
                )
                for each in rows
            ],
        ),
    )
    _verdict(views, judge(run.config, views).reasons)


def _verdict(views: Views, reasons: list[str] | tuple[str, ...]) -> None:
    """4 when a host could not be asked, 5 when the cluster is not healthy, as the last word on stderr."""
    unreachable = [view for view in views.values() if isinstance(view, OpsError)]
    if unreachable:
        raise HostsFailed(unreachable)
    if reasons:
        raise Unhealthy("; ".join(reasons))
