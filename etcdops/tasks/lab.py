"""Hosts to try things on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import lab
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task(
    help={
        "hosts": "How many hosts, 1 to 99 [3]",
        "release": "Debian for new ones, or several in turn: bullseye,bookworm,trixie [this machine's]",
    }
)
def up(run: Run, hosts: int = 3, release: str = "") -> None:
    """Start real Debian hosts on this machine (containers; root).

    etcd01, etcd02 ... at 198.18.40.101 and up, with systemd and sshd, on a bridge without a way out. Installs what it
    needs by apt, builds the image once, and writes lab/config.yaml.
    """
    lab.demo.up(run, hosts, release)


@task()
def down(run: Run) -> None:
    """Delete the lab's hosts; the base image stays."""
    lab.demo.down(run)


@task("json")
def status(run: Run) -> None:
    """Which lab hosts are on, off or cut off."""
    lab.demo.status(run)


@task()
def demo(run: Run) -> None:
    """From nothing to a cluster, a key and a backup."""
    lab.demo.demo(run)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def off(run: Run, name: str) -> None:
    """Cut the power of a lab host."""
    lab.demo.off(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def on(run: Run, name: str) -> None:
    """Power a lab host on."""
    lab.demo.on(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def cut(run: Run, name: str) -> None:
    """Pull the network cable of a lab host."""
    lab.demo.cut(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def heal(run: Run, name: str) -> None:
    """Plug the network cable of a lab host in again."""
    lab.demo.heal(run, name)
