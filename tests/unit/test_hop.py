"""The last member of an upgrade that does not come back: its old release is put back only where that can start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import apply
from etcdops.errors import HostError, OpsError
from etcdops.run import Run
from etcdops.steps import log
from etcdops.steps.hop import Rolling
from etcdops.steps.log import Log
from etcdops.versions import Hop
from tests.unit.build import NAMES, config

LAST = "etcd01"
MUTE = HostError("cannot be reached")


def said(cluster: str) -> Log:
    return Log(started=100, snapshot=0, removed=(), cluster=cluster, unknown="")


class Fleet:
    """Hosts whose work fails where it is an error."""

    def map(self, work: Callable[[Any], Any], names: Sequence[str]) -> dict[str, Any]:
        return {name: self._one(work, name) for name in names}

    def _one(self, work: Callable[[Any], Any], name: str) -> Any:
        try:
            return work(SimpleNamespace(name=name))
        except OpsError as error:
            return error


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[OpsError, list[str]]]:
    def give_up(
        change: Hop,
        logs: Mapping[str, Log | OpsError],
        rest: Sequence[str] = (),
        *,
        stops: bool = True,
        back: OpsError | None = None,
    ) -> tuple[OpsError, list[str]]:
        done: list[str] = []

        def look(host: Any) -> Log:
            found = logs[host.name]
            if isinstance(found, OpsError):
                raise found
            return found

        def service(host: Any, verb: str, *, seconds: int) -> None:
            done.append(verb)
            if verb == "stop" and not stops:
                raise MUTE

        def put_back(self: Rolling, name: str) -> None:
            done.append("put back")
            if back:
                raise back

        monkeypatch.setattr(log, "look", look)
        monkeypatch.setattr(apply, "service", service)
        monkeypatch.setattr(Rolling, "_put_back", put_back)
        fleet: Any = Fleet()
        run = Run(Path("config.yaml"), command="inv upgrade", _fleet=fleet)
        run.__dict__["config"] = config(change.start)
        return Rolling(run, change)._given_up(LAST, "broken", rest), done

    return give_up


UP = Hop("3.5.35", "3.6.16")
OLD = {name: said("3.5") for name in NAMES if name != LAST}


@pytest.mark.parametrize(
    "others",
    [
        dict.fromkeys(OLD, said("3.6")),
        {**OLD, "etcd02": said("3.6")},
        {**OLD, "etcd02": said("")},  # its log level does not tell
        {**OLD, "etcd02": MUTE},
    ],
)
def test_the_old_release_stays_away_where_the_cluster_may_have_the_new_version(
    given_up: Any, others: dict[str, Log | OpsError]
) -> None:
    error, done = given_up(UP, others)
    assert done == ["stop", "start"]
    assert str(error) == (
        "etcd01: did not come back with etcd 3.6.16: broken; "
        "the cluster is one of 3.6, or may be: 3.5.35 is not put back"
    )
    assert "systemctl start etcd" in error.hint


def test_it_stays_away_where_the_new_one_may_run_on(given_up: Any) -> None:
    error, done = given_up(UP, OLD, stops=False)
    assert "is not put back" in str(error)
    assert "put back" not in done


@pytest.mark.parametrize(
    ("change", "logs", "rest", "first"),
    [
        (UP, OLD, (), ["stop"]),
        (UP, {}, ("etcd02",), []),  # one that has the old release holds the version
        (Hop("3.6.14", "3.6.16"), {}, (), []),
        (Hop("3.6.16", "3.5.35"), {}, (), []),
    ],
)
def test_it_is_put_back_where_it_can_start(
    given_up: Any, change: Hop, logs: Mapping[str, Log], rest: Sequence[str], first: list[str]
) -> None:
    error, done = given_up(change, logs, rest)
    assert done == [*first, "put back"]
    assert f"it runs {change.start} again" in str(error)


def test_what_was_not_put_back_is_not_said_to_be(given_up: Any) -> None:
    error, _ = given_up(UP, OLD, back=MUTE)
    assert str(error).endswith("; and putting 3.5.35 back failed: cannot be reached")
