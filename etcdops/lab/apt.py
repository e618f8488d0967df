"""Packages of other Debian releases, by an apt of our own beside the machine's, which it leaves untouched."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from etcdops.download import write_text
from etcdops.errors import OpsError
from etcdops.lab import debian
from etcdops.lab.image import CACHE
from etcdops.lab.process import run
from etcdops.release import locked

SUITES = ("bookworm", "trixie", "testing")  # etcd 3.4.23, 3.5.16, and whatever comes next
DAY = 86400.0
UPDATE_SECONDS = 120.0

FOLDER = CACHE / "apt"
_FRESH = "fresh"  # a file as old as the lists

# Hooks and preferences of the machine are for the machine.
_CONF = """\
#clear APT::Update;
#clear APT::Default-Release;
APT::Update::List-Cleanup "true";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{folder}/none";
Acquire::Languages "none";
Acquire::AllowReleaseInfoChange "true";
"""


def versions(package: str) -> list[str]:
    """The versions of ``package`` that ``SUITES`` have; ``OpsError`` where no mirror answers or this is no Debian."""
    said = run(["apt-cache", f"--config-file={_conf()}", "madison", package])
    return [line.split("|")[1].strip() for line in said.splitlines()]


def fetch(packages: Iterable[str], folder: Path) -> None:
    """Download ``NAME=VERSION`` packages into ``folder``."""
    try:
        run(["env", f"--chdir={folder}", "apt-get", f"--config-file={_conf()}", "download", *packages], seconds=300)
    except OpsError:
        (FOLDER / _FRESH).unlink(missing_ok=True)  # the mirror may have moved on from what the lists say
        raise


def _conf() -> Path:
    """The configuration of an apt that sees ``SUITES`` on this machine's mirror, with lists at most a day old."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    conf, fresh = FOLDER / "apt.conf", FOLDER / _FRESH
    with locked(FOLDER / "lock", UPDATE_SECONDS, "another run has been updating the lab's package lists"):
        if not fresh.exists() or time.time() - fresh.stat().st_mtime > DAY:
            _update(conf)
            fresh.touch()
    return conf


def _update(conf: Path) -> None:
    for name in ("lists/partial", "archives/partial", "sources"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    (FOLDER / "status").touch()
    for name, text in debian.swapped(debian.sources(debian.release().codename), SUITES).items():
        write_text(FOLDER / "sources" / name, text)
    write_text(conf, _CONF.format(folder=FOLDER))
    try:
        run(["apt-get", f"--config-file={conf}", "update"], seconds=UPDATE_SECONDS)
    except OpsError:
        if not any((FOLDER / "lists").glob("*_Packages*")):
            raise  # else it is one suite of several that the mirror does not have
