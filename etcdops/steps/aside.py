"""snapshot.list --set-aside, snapshot.drop: the data that restores have set aside on the hosts, until it is dropped."""

from __future__ import annotations

from datetime import UTC, datetime

from etcdops import restoration
from etcdops.errors import UsageError
from etcdops.run import Run
from etcdops.schedule import span

MIB = 1 << 20


def list_(run: Run) -> None:
    """What is set aside on each host, with its size and age."""
    sides = run.fleet.all(restoration.look)
    now = datetime.now(UTC)
    rows = [
        {"name": name, "host": host, "size": size, "age_s": int((now - time).total_seconds())}
        for host, side in sides.items()
        for name, (size, time) in sorted(side.aside.items())
    ]
    if not rows and not run.json:
        run.ui.result("nothing is set aside on any host")
        return
    run.emit(
        rows,
        lambda: run.ui.table(
            ("name", "host", "age", "size"),
            [
                (name, host, span(now - time), f"{size / MIB:.1f} MiB")
                for host, side in sides.items()
                for name, (size, time) in sorted(side.aside.items())
            ],
        ),
    )


def drop(run: Run, name: str) -> None:
    """Delete what is set aside as ``name``, on every host that has it."""
    sides = run.fleet.all(restoration.look)
    hosts = [host for host, side in sides.items() if name in side.aside]
    if not hosts:
        raise UsageError(f"nothing is set aside as {name} on any host", hint="inv snapshot.list --set-aside")
    if run.dry_run:
        for host in hosts:
            run.ui.result(f"{host}  delete /var/lib/etcd/aside-{name}")
        return
    run.confirm(f"Delete the old data {name} on {', '.join(hosts)} for good")
    run.fleet.all(lambda host: restoration.drop(host, name), hosts)
    run.ui.result(f"{name} is deleted on {', '.join(hosts)}")
