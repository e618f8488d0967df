"""Projects for the scenarios on real hosts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.hosts import Hosts, Project

NewProject = Callable[..., Project]


@pytest.fixture
def project(hosts: Hosts, tmp_path: Path) -> NewProject:
    """Makes the project of a test, which has bare hosts to itself: ``project(version=..., tls=..., ssh={...})``."""
    hosts.bare()
    return partial(Project, hosts, tmp_path)
