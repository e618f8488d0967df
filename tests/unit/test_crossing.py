"""A change of the transport: whose trouble it is when a turn fails, and what is asked before anybody is shut out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops import desired, guards
from etcdops.desired import Want
from etcdops.errors import HostError, LockLost, OpsError, Refused, Unhealthy
from etcdops.etcd import View
from etcdops.facts import HostFacts, parse_conf
from etcdops.membership import Arrival
from etcdops.run import Run
from etcdops.steps import crossing, transport, turn
from etcdops.steps.crossing import Crossing
from etcdops.steps.join import Join
from etcdops.steps.membership import Survey
from etcdops.transport import Stage
from tests.unit.build import NAMES, TOKEN, config, fresh, member, three, view
from tests.unit.test_transport import at

PLAIN, BOTH, PEERS, TLS = Stage
FIRST = "etcd01"
LOST = Unhealthy("etcd02: no route")


def crossed(*, goal: Stage = PEERS, stages: tuple[Stage, ...] = (PLAIN, PLAIN, PLAIN), told: Any = None) -> Crossing:
    fleet = cast(Any, SimpleNamespace(map=lambda *_: {FIRST: told}, all=lambda *_: {FIRST: told}))
    run = Run(Path("config.yaml"), command="inv enable-tls", _fleet=fleet)
    run.__dict__["config"] = config(tls=False)
    return Crossing(run, goal, {name: at(stage, name) for name, stage in zip(NAMES, stages, strict=True)})


@pytest.mark.parametrize(
    ("error", "told", "expected"),
    [
        (LOST, at(BOTH), "etcd01 was restarted, and then: etcd02: no route; etcd03 not touched"),
        (LOST, at(PLAIN), "given up"),
        (LOST, at(BOTH, view=View(complaint="etcd does not answer")), "given up"),
        (LOST, HostError("cannot be reached"), "given up"),
        (HostError("did not start"), at(BOTH), "given up"),
        (
            LockLost("another run has it"),
            at(BOTH),
            "another run has it; etcd01 was in its turn, and may be down; etcd03 not touched after it",
        ),
    ],
    ids=["another's", "not there yet", "its own", "cannot be asked", "did not start", "lock lost"],
)
def test_nobody_is_taken_down_again_for_the_trouble_of_another(
    monkeypatch: pytest.MonkeyPatch, error: OpsError, told: HostFacts | OpsError, expected: str
) -> None:
    def restart_member(run: Run, name: str, prepare: Callable[[], None]) -> None:
        prepare()
        raise error

    monkeypatch.setattr(turn, "restart_member", restart_member)
    monkeypatch.setattr(crossing.delivery, "push", lambda *_: None)
    monkeypatch.setattr(Crossing, "_announce", lambda *_: None)
    monkeypatch.setattr(Crossing, "_changes", lambda *_: ())
    monkeypatch.setattr(turn, "taken_back", lambda *_: OpsError("given up"))
    with pytest.raises(OpsError, match=expected):
        crossed(told=told)._turn(FIRST, BOTH, ("etcd03",))


@pytest.mark.parametrize(("told", "restarts"), [(at(PLAIN), 0), (at(BOTH), 1), (at(PLAIN, view=View()), 1)])
def test_who_was_not_restarted_yet_is_put_back_without(
    monkeypatch: pytest.MonkeyPatch, told: HostFacts, restarts: int
) -> None:
    done: list[str] = []
    monkeypatch.setattr(crossing.delivery, "push", lambda *_: None)
    monkeypatch.setattr(crossing.gate, "pass_through", lambda *_, **__: None)
    monkeypatch.setattr(Crossing, "_announce", lambda *_: None)
    monkeypatch.setattr(Crossing, "_changes", lambda *_: ())
    here = crossed(told=told)
    monkeypatch.setattr(crossing.apply, "service", lambda host, verb, seconds: done.append(verb))

    def everywhere(work: Callable[[Any], Any], names: Any) -> dict[str, Any]:
        return {FIRST: told if work is crossing._look else work(None)}

    monkeypatch.setattr(here.run.fleet, "all", everywhere)
    here._put_back(FIRST, PLAIN)
    assert len(done) == restarts


@pytest.mark.parametrize(
    ("task", "closes", "stages", "asked"),
    [
        ("enable", False, (PLAIN, PLAIN, PLAIN), ""),
        ("enable", True, (PLAIN, PLAIN, PLAIN), "Clients that speak plain http, which are all of them so far, are"),
        ("enable", True, (BOTH, BOTH, BOTH), "Clients that speak plain http are turned away, by one"),
        ("enable", True, (PEERS, PEERS, PEERS), "Clients that speak plain http are turned away, by one"),
        ("enable", True, (TLS, PEERS, TLS), "Clients that speak plain http are turned away, by one"),
        ("enable", True, (TLS, TLS, TLS), ""),
        ("disable", False, (TLS, TLS, TLS), "can change it, without a certificate$"),
        ("disable", True, (TLS, TLS, TLS), "certificate; clients that speak https are turned away, by one"),
        ("disable", True, (BOTH, BOTH, BOTH), "certificate; clients that speak https are turned away, by one"),
        ("disable", True, (PLAIN, PLAIN, PLAIN), ""),
    ],
)  # fmt: skip
def test_who_shuts_clients_out_is_asked_as_long_as_any_can_come(
    monkeypatch: pytest.MonkeyPatch, task: str, closes: bool, stages: tuple[Stage, ...], asked: str
) -> None:
    def plan(run: Run, goal: Stage) -> Crossing:
        return replace(crossed(goal=goal, stages=stages), run=run)

    monkeypatch.setattr(Crossing, "plan", plan)
    monkeypatch.setattr(Crossing, "make", lambda _: None)
    monkeypatch.setattr(transport, "_lockouts", lambda *_: [])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    run = crossed().run

    def change() -> None:
        if task == "enable":
            transport.enable_tls(run, close_http=closes)
        else:
            transport.disable_tls(run, close_https=closes)

    if asked:
        with pytest.raises(Refused, match=asked):
            change()
    else:
        change()


def test_a_member_that_is_not_recorded_yet_is_one_for_deploy() -> None:
    unrecorded = at(PLAIN, "etcd02", view=view("etcd02"), identity={})
    unrecorded = replace(unrecorded, conf=unrecorded.conf | {"ETCD_INITIAL_CLUSTER_TOKEN": TOKEN})
    facts = three(lambda name: at(PLAIN, name, view=view(name)), unrecorded)
    (found,) = guards.beneath_a_crossing(config(tls=False), facts)
    assert f"{found}; {found.hint}" == "etcd02: its joining is not recorded yet; inv deploy first"


TOLD = "speaks http and https, and with etcd 3.5.1 each start decides by chance whether it answers by http"


@pytest.mark.parametrize(
    ("stage", "version", "runs", "found"),
    [
        (BOTH, "3.5.1", "3.5.16", [TOLD]),
        (PEERS, "3.5.1", "3.5.16", [TOLD]),
        (TLS, "3.5.1", "3.5.16", []),
        (PLAIN, "3.5.1", "3.5.16", []),
        (PEERS, "3.5.16", "3.5.9", []),
        (PEERS, "3.5.1", "3.5.1", []),  # it runs so already: no reason to keep it from anything
    ],
)
def test_no_release_comes_half_way_that_cannot_be_there(
    stage: Stage, version: str, runs: str, found: list[str]
) -> None:
    facts = at(stage, executable=f"/opt/etcd/{runs}/etcd")
    known = config(version, tls=stage >= PEERS)
    assert [each.message for each in guards.by_chance(version, facts)] == found
    assert [each.message for each in guards.unlike(known, known.member(FIRST), facts)] == found


@pytest.mark.parametrize("stage", Stage)
def test_no_member_moves_while_any_is_dialled_by_http_and_has_certificates(stage: Stage) -> None:
    known = config(tls=stage >= PEERS)
    facts = three(lambda name: at(stage, name), at(max(stage, BOTH) if stage < PEERS else stage, "etcd02"))
    third = known.member("etcd03")
    found = [each.host for each in guards.moved(known, third, third, facts) if each.message.startswith("is between")]
    assert found == {PLAIN: ["etcd02"], BOTH: list(NAMES), PEERS: [], TLS: []}[stage]


def test_who_is_torn_is_told_the_way_out_that_needs_no_other_host() -> None:
    (found,) = guards.torn(at(BOTH, dialled="https"))
    assert found.hint.endswith(": inv etcdctl -- member update 1 --peer-urls=http://192.0.2.11:2380")
    (found,) = guards.torn(at(PEERS, dialled="http"))
    assert found.hint.endswith(": inv etcdctl -- member update 1 --peer-urls=https://192.0.2.11:2380")


def test_a_new_member_lists_each_of_the_others_as_the_cluster_does() -> None:
    """Else etcd does not start it: "unmatched member while checking PeerURLs"."""
    dialled = {"etcd01": "https", "etcd02": "http"}
    want = Want(config(), config().member("etcd03"), fresh("etcd03"), TOKEN, None, True, PEERS, dialled)
    assert parse_conf(desired.etcd_conf(want, b"").decode())["ETCD_INITIAL_CLUSTER"] == (
        "etcd01=https://192.0.2.11:2380,etcd02=http://192.0.2.12:2380,etcd03=https://192.0.2.13:2380"
    )
    members = (member("etcd01"), member("etcd02", peer_urls=("http://192.0.2.12:2380",)), member("etcd03"))
    facts = {"etcd01": at(PEERS), "etcd02": at(BOTH, "etcd02"), "etcd03": fresh("etcd03")}
    run = Run(Path("config.yaml"))
    run.__dict__["config"] = config(tls=False)
    join = Join(run, run.config.member("etcd03"), Survey(facts, {}, members), Arrival(), TOKEN, (), {}, None)
    assert join._want(facts["etcd03"]).dialled == dialled


@pytest.mark.parametrize(
    "told", [{}, {"healthy": False, "complaint": "Active Alarm(s): NOSPACE"}], ids=["well", "full"]
)
def test_member_that_a_run_has_left_half_way_is_found_under_a_full_quota_too(told: dict[str, Any]) -> None:
    facts = {name: at(BOTH, name, view=view(name, **told)) for name in NAMES}
    facts[FIRST] = at(PEERS, FIRST, view=View(complaint="etcd does not answer"))
    run = Run(Path("config.yaml"))
    run.__dict__["config"] = config(tls=False)
    assert crossing._fallen(run, facts) == FIRST
