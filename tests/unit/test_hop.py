"""The last member of an upgrade that does not come back: its old release is put back only where that can start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops import apply, layout
from etcdops.errors import HostError, HostsFailed, OpsError, Refused, Unhealthy
from etcdops.etcd import NOSPACE, View
from etcdops.facts import HostFacts, UnitFact
from etcdops.judgement import Verdict
from etcdops.run import Run
from etcdops.steps import hop, log, turn
from etcdops.steps.hop import Rolling
from etcdops.steps.log import Log
from etcdops.steps.turn import stopped
from etcdops.versions import Hop
from tests.unit.build import NAMES, VERSION, config, path, serving, status, three, view

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
        holding: Sequence[str] | None = None,
        stops: bool = True,
        back: OpsError | None = None,
        serves: str = "",
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

        def restart_member(run: Run, name: str, prepare: Callable[[], None]) -> None:
            prepare()
            raise HostError("broken")

        monkeypatch.setattr(turn, "restart_member", restart_member)
        monkeypatch.setattr(hop.delivery, "push", lambda *known: None)
        monkeypatch.setattr(Rolling, "_put_back", put_back)
        monkeypatch.setattr(Rolling, "_serves", lambda self, name, version: version == serves)
        fleet: Any = Fleet()
        run = Run(Path("config.yaml"), command="inv upgrade", _fleet=fleet)
        run.__dict__["config"] = config(change.start)
        with pytest.raises(HostError) as error:
            Rolling(run, change)._turn(LAST, (), rest, rest if holding is None else holding)
        return error.value, done

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
        "the cluster is one of 3.6, or may be: etcd 3.5.35 is not put back"
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
    assert f"it is back to etcd {change.start}" in str(error)


def test_who_comes_after_it_with_the_new_release_holds_nothing(given_up: Any) -> None:
    """Its turn is for its configuration, which was mended meanwhile."""
    _, done = given_up(UP, OLD, ("etcd02",), holding=())
    assert done == ["stop", "put back"]


def rolling(change: Hop) -> Rolling:
    run = Run(Path("config.yaml"), command="inv upgrade")
    run.__dict__["config"] = config(change.start)
    return Rolling(run, change)


NEXT = Hop(VERSION, "3.7.3")
CRAMPED = serving("etcd02", room={layout.DATA_DIR: 0, layout.RELEASES: 1 << 20})
AHEAD = serving("etcd01", executable="/opt/etcd/3.7.3/etcd")


@pytest.mark.parametrize(
    ("facts", "due", "found"),
    [
        (three(serving), {}, []),
        (three(serving), {"etcd03": "quota"}, ["etcd03: a restart would bring more than the release: quota"]),
        (three(serving), {"etcd03": "snapshot-count"}, []),
        (three(serving, AHEAD), {"etcd03": "quota"}, []),  # a setting had to be mended for it to go on
    ],
    ids=["ready", "a change is pending", "a log begins anew", "under way"],
)
def test_a_release_comes_alone(
    monkeypatch: pytest.MonkeyPatch, facts: Mapping[str, HostFacts], due: Mapping[str, str], found: list[str]
) -> None:
    monkeypatch.setattr(Rolling, "wants", lambda self, run, facts: dict.fromkeys(facts))
    whose = iter(facts)
    monkeypatch.setattr(hop.desired, "needs_restart", lambda want: due.get(next(whose), ""))
    assert [f"{each.host}: {each.message}" for each in rolling(NEXT)._pending(facts)] == found


@pytest.mark.parametrize("ready", [{}, {"3.7.3": "aa"}], ids=["to come", "there"])
def test_no_release_comes_to_a_host_without_room(monkeypatch: pytest.MonkeyPatch, ready: Mapping[str, str]) -> None:
    """A disk that it fills is etcd's own."""
    facts = three(serving, replace(CRAMPED, releases={VERSION: "aa", **ready}))
    done: list[str] = []
    monkeypatch.setattr(Rolling, "_recovered", lambda self, facts: facts)
    monkeypatch.setattr(Rolling, "changes", lambda self, facts: dict.fromkeys(facts, ()))
    monkeypatch.setattr(hop.delivery, "archives", lambda *known: {})
    monkeypatch.setattr(hop.delivery, "push", lambda *known: done.append("pushed"))
    monkeypatch.setattr(hop.delivery, "ask", lambda *known: sys.exit(9))  # far enough
    work = rolling(NEXT)
    work.run._fleet = cast(Any, SimpleNamespace(all=lambda work: facts))
    with pytest.raises((OpsError, SystemExit)) as caught:
        work.carry_out()
    assert done == (["pushed"] if ready else [])
    found = [f"{each.host}: {each.message}" for each in getattr(caught.value, "findings", ())]
    assert found == ([] if ready else ["etcd02: 1 MiB free for /opt/etcd, 256 MiB needed"])


def test_one_of_a_mixed_cluster_that_is_down_is_told_the_way_that_works() -> None:
    """`inv start` refuses there, whichever minor config.yaml has."""
    down = serving(
        "etcd02", view=View(), unit=UnitFact(), executable="", paths={layout.CURRENT: path("link", target=VERSION)}
    )
    with pytest.raises(Unhealthy, match=f"^etcd02 would run etcd {VERSION}, and is down$") as caught:
        rolling(NEXT)._recovered(three(serving, AHEAD, down))
    assert caught.value.hint.startswith("systemctl start etcd there")


def test_nobody_is_stopped_who_was_not_restarted_yet(given_up: Any) -> None:
    """Its files could not be put in place, say: it serves as it did."""
    _, done = given_up(UP, {}, serves=UP.start)
    assert done == ["put back"]


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ({"etcd02": UP.end}, ["etcd02"]),
        ({"etcd02": UP.start}, []),  # not by this hop
        ({"etcd02": UP.end, "etcd03": UP.start}, []),  # a restart would be tried below a quorum
        ({}, []),
    ],
)
def test_one_that_is_down_with_the_new_release_is_put_back_and_no_other(
    monkeypatch: pytest.MonkeyPatch, down: Mapping[str, str], expected: list[str]
) -> None:
    """Of all the others, who are full and serve, none is touched."""
    done: list[str] = []

    def fact(name: str) -> Any:
        found = View() if name in down else view(name, healthy=False, complaint=f"Active Alarm(s): {NOSPACE}")
        return serving(name, view=found, executable=f"/opt/etcd/{down.get(name, UP.end)}/etcd")

    monkeypatch.setattr(Rolling, "_put_back", lambda self, name: done.append(name))
    monkeypatch.setattr(hop, "judge", lambda config, views: Verdict(("stop here",)))
    fleet: Any = SimpleNamespace(map=lambda *_: {})
    run = Run(Path("config.yaml"), command="inv upgrade", _fleet=fleet)
    run.__dict__["config"] = config(UP.start)
    with pytest.raises(Refused, match="stop here"):
        Rolling(run, UP)._recovered({name: fact(name) for name in NAMES})
    assert done == expected


@pytest.mark.parametrize(
    ("told", "way_out"),
    [
        (HostError("tocommit(7) is out of range", hint="inv replace-member etcd02"), "inv replace-member etcd02"),
        (HostsFailed([HostError("it is full", hint="make room there")]), "make room there"),
        (HostError("no reason given"), "on the host: journalctl -u etcd -e"),
    ],
)
def test_a_way_out_that_is_known_is_told(told: OpsError, way_out: str) -> None:
    found = stopped(Run(Path("config.yaml"), command="inv restart"), "etcd02", told, [])
    assert found.hint == f"{way_out}; once that is mended: inv restart"


def test_what_was_not_put_back_is_not_said_to_be(given_up: Any) -> None:
    error, _ = given_up(UP, OLD, back=MUTE)
    assert str(error).endswith("; and putting it back to etcd 3.5.35 failed: cannot be reached")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            view(LAST, status=status(LAST, version=UP.end)),
            "etcd01 was restarted, and then: etcd02: no route; etcd03 not",
        ),
        (view(LAST, status=status(LAST, version=UP.start)), "given up"),
        (View(complaint="etcd does not answer"), "given up"),
        (MUTE, "given up"),
    ],
    ids=["runs", "runs the old one", "does not commit", "cannot be asked"],
)
def test_nobody_is_taken_down_again_for_the_trouble_of_another(
    monkeypatch: pytest.MonkeyPatch, told: View | OpsError, expected: str
) -> None:
    """It has come back with the new release, and another one has gone meanwhile: it is one of the quorum."""

    def restart_member(run: Run, name: str, prepare: Callable[[], None]) -> None:
        prepare()
        raise Unhealthy("etcd02: no route")

    monkeypatch.setattr(turn, "restart_member", restart_member)
    monkeypatch.setattr(hop.delivery, "push", lambda *known: None)
    monkeypatch.setattr(turn, "taken_back", lambda *known: OpsError("given up"))
    run = Run(
        Path("config.yaml"), command="inv upgrade", _fleet=cast(Any, SimpleNamespace(map=lambda *_: {LAST: told}))
    )
    run.__dict__["config"] = config(UP.start)
    with pytest.raises(OpsError, match=expected):
        Rolling(run, UP)._turn(LAST, (), ("etcd03",), ("etcd03",))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Unhealthy("etcd03: no route"),
            "5 etcd02 was restarted, and then: etcd03: no route; etcd01 not touched after it",
        ),
        (
            HostsFailed([HostError("did not start", host="etcd02")]),
            "4 etcd02: did not start; etcd01 not touched after it",
        ),
    ],
)
def test_who_was_left_alone_is_told(error: OpsError, expected: str) -> None:
    found = stopped(Run(Path("config.yaml"), command="inv restart"), "etcd02", error, ["etcd01"])
    assert f"{found.exit_code} {found}" == expected
    assert found.hint.endswith("inv restart")
