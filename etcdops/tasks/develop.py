"""What a developer of etcdops runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdops import dev, pictures
from etcdops.task import task

if TYPE_CHECKING:
    from etcdops.run import Run


@task(words=True, help={"tier": "One: lint, unit, ssh, stores, cli, lab, infra, vagrant, chaos [all but these two]"})
def test(run: Run, tier: str = "") -> None:
    """Run the tests, fast to slow; lab and infra need root.

    Words after -- are pytest's: inv test --tier=unit -- -x -k backup
    """
    dev.test(run, tier)


@task(help={"upgrade": "Take the newest releases that pyproject.toml allows."})
def lock(run: Run, upgrade: bool = False) -> None:
    """Write the lock files anew from pyproject.toml (needs uv)."""
    dev.lock(run, upgrade)


@task(help={"what": "deploy, or backup [deploy]", "rounds": "How often each is measured [5]"})
def bench(run: Run, what: str = "deploy", rounds: int = 5) -> None:
    """Measure against a floor, in the lab.

    The lab is made anew. deploy: and health, with 3 and with 9 hosts, against hand-tuned parallel ssh scripts. backup:
    and restore, with a database of half a gigabyte, against the same by etcdctl, ssh and mv.
    """
    dev.bench(run, what, rounds)


@task(name="format")
def format_(run: Run) -> None:
    """Lay the code out, sort its imports."""
    dev.format_(run)


@task(name="pictures")
def pictures_(run: Run) -> None:
    """Draw the stills of the docs, in a lab made anew.

    Runs deploy, status, a dry run and a refusal on fresh hosts, and writes docs/images/*.svg from what they print.
    """
    pictures.draw_all(run)
