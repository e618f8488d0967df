"""Whether authentication is on, as files/client.sh and a stand-in for etcdctl tell it: silence is no "off"."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops.errors import HostError, Refused
from etcdops.etcd import View
from etcdops.run import Run
from etcdops.steps import auth, hop
from etcdops.versions import Hop
from tests.unit.build import NAMES, config, view

DENIED = "Error: etcdserver: authentication failed, invalid user ID or password"
LATE = "Error: context deadline exceeded"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Hosts on each of which etcdctl says what stands in a file of its name, and fails if that is anything."""

    class Fleet:
        def all(self, work: Callable[[Any], Any], names: Any = NAMES) -> dict[str, Any]:
            return {name: work(SimpleNamespace(name=name, client=client(name))) for name in names}

    def client(name: str) -> Callable[..., Any]:
        def ask(script: str, **_: Any) -> Any:
            program = tmp_path / name / "etcdctl"
            program.parent.mkdir(exist_ok=True)
            said = (tmp_path / "said" / name).read_text()
            program.write_text(f"#!/bin/sh\necho '{said}' >&2\n{'exit 1' if said else ''}\n")
            program.chmod(0o755)
            environ = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
            done = subprocess.run(
                ["sh", "-c", script], input="\n\n", env=environ, capture_output=True, text=True, timeout=60
            )
            if done.returncode:
                raise HostError(done.stderr.strip(), host=name)
            return done

        return ask

    (tmp_path / "said").mkdir()
    says(tmp_path)
    fleet: Any = Fleet()
    made = Run(tmp_path / "config.yaml", _fleet=fleet)
    made.__dict__["config"] = config("3.4.44")
    return made


def says(folder: Path, **other: str) -> None:
    for name in NAMES:
        (folder / "said" / name).write_text(other.get(name, ""))


def test_it_is_on_where_a_stranger_is_turned_away(run: Run) -> None:
    assert not auth.is_on(run)
    says(run.path.parent, etcd02=DENIED)
    assert auth.is_on(run)


VIEWS: dict[str, View] = {name: view(name) for name in NAMES}


def test_no_3_5_for_a_cluster_that_has_it_on_or_does_not_tell(run: Run) -> None:
    rolling = hop.Rolling(run, Hop("3.4.44", "3.5.35"))
    rolling._preconditions(VIEWS, NAMES)
    says(run.path.parent, etcd01=DENIED)
    with pytest.raises(Refused, match="auth is enabled"):
        rolling._preconditions(VIEWS, NAMES)
    says(run.path.parent, etcd01=LATE)
    with pytest.raises(HostError, match="deadline exceeded"):
        rolling._preconditions(VIEWS, NAMES)
