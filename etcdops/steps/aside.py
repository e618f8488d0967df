"""snapshot.list --set-aside, snapshot.drop: the data that restores have set aside on the hosts, until it is dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from etcdops import restoration
from etcdops.errors import HostsFailed, OpsError, UsageError
from etcdops.run import Run
from etcdops.schedule import span

MIB = 1 << 20


def list_(run: Run) -> None:
    """What is set aside on each host, with its size and age."""
    sides, away = _look(run)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {"name": name, "host": host, "size": size, "age_s": int((now - time).total_seconds())}
        for host, side in sides.items()
        for name, (size, time) in sorted(side.aside.items())
    ]

    def show() -> None:
        if not rows:
            run.ui.result("nothing is set aside on any host" if not away else "nothing is set aside where hosts answer")
            return
        run.ui.table(
            ("name", "host", "age", "size"),
            [
                (
                    str(row["name"]),
                    str(row["host"]),
                    span(timedelta(seconds=row["age_s"])),
                    f"{row['size'] / MIB:.1f} MiB",
                )
                for row in rows
            ],
        )

    run.emit(rows, show)
    if away:
        raise HostsFailed(away)


def drop(run: Run, name: str) -> None:
    """Delete what is set aside as ``name``, on every host that has it and answers."""
    sides, away = _look(run)
    hosts = [host for host, side in sides.items() if name in side.aside]
    if not hosts and away:
        raise HostsFailed(away)
    if not hosts:
        raise UsageError(f"nothing is set aside as {name} on any host", hint="inv snapshot.list --set-aside")
    if run.decided(f"{host}  delete /var/lib/etcd/aside-{name}" for host in hosts):
        return
    run.confirm(f"The old data {name} on {', '.join(hosts)} is deleted for good")
    run.fleet.all(lambda host: restoration.drop(host, name), hosts)
    run.ui.result(f"{name} is deleted on {', '.join(hosts)}")
    if away:
        raise HostsFailed(away)


def _look(run: Run) -> tuple[dict[str, restoration.Side], list[OpsError]]:
    """What is on the hosts that answer, and the others."""
    both = run.fleet.map(restoration.look)
    away = [each for each in both.values() if isinstance(each, OpsError)]
    return {name: each for name, each in both.items() if not isinstance(each, OpsError)}, away
