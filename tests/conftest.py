"""The tiers: in which order they run, how long a test of each may take, and who may run it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdops.dev import CHAOS, TIERS
from tests.hosts import Hosts, Project, real

TESTS = Path(__file__).parent
SLOW = ("lab", "infra", "vagrant")
ORDER = (*(each for each in TIERS if each not in SLOW), CHAOS, *SLOW)  # the longest test first, the walk
REAL_HOSTS = {"lab", "infra", "vagrant", CHAOS}
SUM = 64  # digits of a SHA-256
# The first test of real hosts builds their image, and that of virtual machines a box, and waits for three to boot.
SECONDS = {"lint": 300, "lab": 900, "infra": 900, CHAOS: 900, "vagrant": 2400}


def pytest_configure() -> None:
    """Begun by `&` in a script or by nohup, it ignores what the runs that it starts are to be stopped with."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def tier(item: pytest.Item) -> str:
    """The folder of tests/ that ``item`` is in."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(tier(item)))  # stable: the order within a tier stays
    for item in items:
        if tier(item) == CHAOS:
            item.add_marker(CHAOS)
        if tier(item) in SECONDS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS[tier(item)]))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keys and archives are made anew in each process, and all workers must call a test the same."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) >= SUM) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if tier(item) in REAL_HOSTS and os.geteuid() != 0 and "ETCDOPS_VERIFY" not in os.environ:
        pytest.fail("needs root: it starts real hosts on this machine", pytrace=False)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three real hosts, in whatever state the test before has left them."""
    with real(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


@pytest.fixture
def cluster(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A healthy cluster that tests share: for those that only look, or put back what they change."""
    if hosts.cluster is None or not hosts.cluster.as_deployed():
        hosts.cluster = Project(hosts, tmp_path_factory.mktemp("cluster")).deployed()
    return hosts.cluster
