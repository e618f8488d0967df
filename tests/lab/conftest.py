"""Projects for the scenarios on real hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.hosts import BARE, Hosts, Project

NewProject = Callable[..., Project]


@pytest.fixture
def project(hosts: Hosts, tmp_path: Path) -> NewProject:
    """Makes the project of a test, which has bare hosts to itself: ``project(version=..., tls=..., ssh={...})``."""
    hosts.bare()
    return partial(Project, hosts, tmp_path)


@pytest.fixture(scope="module")
def five(hosts: Hosts) -> Iterator[Hosts]:
    """Two hosts more, etcd04 and etcd05."""
    with hosts.more(5):
        yield hosts


@pytest.fixture
def ours(project: NewProject, five: Hosts) -> Project:
    """A cluster of the test's own, on three of five hosts."""
    five.each(BARE, ("etcd04", "etcd05"))
    new = project(ssh={"connect_timeout": 1})
    new.inv("deploy").ok()
    return new
