"""lab.up and lab.demo: the main job on an embedded default, from nothing to a cluster that holds a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etcdops import layout
from etcdops.errors import Refused
from etcdops.lab import packages
from etcdops.lab.lab import HOSTS, Lab
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps import backup, converge, drill, health, keys, snapshots

CONFIG = layout.LAB / "config.yaml"


def open_lab(run: Run) -> Lab:
    """The lab of this project, saying what it does on ``run``'s progress lines."""
    return Lab(layout.LAB, run.ui.line, HOSTS)


def up(run: Run, hosts: int, releases: str) -> None:
    """The hosts, and a config.yaml that fits them; ``releases``: Debian's code names, with commas, or ''."""
    _up(run, hosts, [each.strip() for each in releases.split(",") if each.strip()])
    run.ui.result(f"point the tasks at it: export ETCDOPS_CONFIG={CONFIG}; then inv deploy")


def _up(run: Run, hosts: int, releases: Sequence[str] = ()) -> None:
    run.ui.step("Bring the lab up")
    lab = open_lab(run)
    fresh = not lab.status()
    info = lab.up(hosts, releases)
    if fresh or not CONFIG.exists():
        _write_config(run, lab, hosts)
    for machine in info.machines:
        run.ui.result(f"{machine.name}  {machine.address}  {machine.power}  {machine.release}")


def status(run: Run) -> None:
    """What each host is doing."""
    machines = open_lab(run).status()
    shown = ("name", "address", "power", "release")
    rows = [{key: getattr(each, key) for key in shown} for each in machines]

    def show() -> None:
        if rows:
            run.ui.table(("host", *shown[1:]), [tuple(row.values()) for row in rows])
        else:
            run.ui.result("the lab is down: there are no hosts; inv lab.up")

    run.emit(rows, show)


def down(run: Run) -> None:
    """No hosts any more."""
    open_lab(run).down()
    run.ui.result("the lab is down; its image and lab/ stay")


def off(run: Run, name: str) -> None:
    """A power cut."""
    open_lab(run).off(name)
    run.ui.result(f"{name} has no power; inv lab.on {name} gives it back")


def on(run: Run, name: str) -> None:
    """Power again."""
    open_lab(run).on(name)
    run.ui.result(f"{name} is on and answers")


def cut(run: Run, name: str) -> None:
    """A cable pulled."""
    open_lab(run).cut(name)
    run.ui.result(f"{name} runs, and nobody reaches it; inv lab.heal {name} plugs its cable in")


def heal(run: Run, name: str) -> None:
    """The cable plugged in."""
    open_lab(run).heal(name)
    run.ui.result(f"{name} is on the network")


def demo(run: Run) -> None:
    """Hosts, cluster, tables, a key written and read through every member, and a backup that is proven."""
    if owner := open_lab(run).elsewhere:
        raise Refused(
            f"the lab of this machine is that of {owner}, and so is the cluster on it",
            hint="go on there; or inv lab.down, which deletes its hosts, and then the same again",
        )
    _up(run, 3)
    cluster = Run(CONFIG, run.ui)
    try:
        converge.converge(cluster, converge.ALL_STEPS)
        health.status(cluster)
        _write_and_read(cluster)
        backup.backup(cluster)
        snapshots.verify(cluster, "latest", drill.drill)
    finally:
        cluster.close()
    run.ui.result(f"the cluster is yours: ETCDOPS_CONFIG={CONFIG} ./inv status; ./inv lab.down ends the lab")


def _write_config(run: Run, lab: Lab, hosts: int) -> Path:
    run.ui.step("Get the newest etcd that this machine can have at once")
    version, archive = packages.newest(quick=True, say=run.ui.line)
    run.ui.line(f"etcd {version}")
    return lab.write_config(version, archive, hosts)


def _write_and_read(cluster: Run) -> None:
    """A key through every member, each read back through every other."""
    cluster.ui.step("Write a key through every member, read all of them through every member")
    endpoint = f"--endpoints={'https' if cluster.config.cluster.tls else 'http'}://127.0.0.1:{layout.CLIENT_PORT}"

    def write(host: Host) -> None:
        host.client(keys.SCRIPT, endpoint, "put", "--", f"/demo/{host.name}", f"written through {host.name}")

    def read(host: Host) -> list[str]:
        return host.client(keys.SCRIPT, endpoint, "get", "--prefix", "--", "/demo/").stdout.split("\n")[:-1]

    cluster.fleet.all(write)
    for name, lines in cluster.fleet.all(read).items():
        pairs = ", ".join(f"{key} = {value}" for key, value in zip(lines[::2], lines[1::2], strict=True))
        cluster.ui.result(f"read through {name}: {pairs}")
