"""deploy: every step of the guide in order, as one converging run; and each of them alone."""

from __future__ import annotations

from etcdops.run import Run
from etcdops.steps.converge import ALL_STEPS, converge


def deploy(run: Run) -> None:
    """Install or converge the whole cluster."""
    converge(run, ALL_STEPS)


def install(run: Run) -> None:
    """The guide's download, check, unpack and copy."""
    converge(run, ("install",))


def distribute(run: Run) -> None:
    """The guide's copying of certificates to every machine."""
    converge(run, ("distribute",))


def configure(run: Run) -> None:
    """The guide's etcd.conf and etcd.service on every machine."""
    converge(run, ("configure",))


def start(run: Run) -> None:
    """The guide's daemon-reload, start and enable."""
    converge(run, ("start",))
