"""From plain http to TLS: where members are, the passes, what is said of a cluster on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from etcdops import transport
from etcdops.facts import HostFacts
from etcdops.transport import Pass, Stage
from tests.unit.build import NAMES, address, fresh, member, number, serving, view

PLAIN, BOTH, PEERS, TLS = Stage


def urls(name: str, port: int, *schemes: str) -> str:
    return ",".join(f"{scheme}://{address(name)}:{port}" for scheme in schemes)


def settings(stage: Stage, name: str = "etcd01") -> dict[str, str]:
    return {
        "ETCD_LISTEN_CLIENT_URLS": urls(name, 2379, *stage.clients),
        "ETCD_LISTEN_PEER_URLS": urls(name, 2380, stage.peers),
        "ETCDOPS_STARTED_WITH": "0",
    }


def at(stage: Stage, name: str = "etcd01", *, dialled: str = "", **known: object) -> HostFacts:
    """A member that serves at ``stage``, which the others dial by the scheme ``dialled``."""
    own = member(name, peer_urls=(urls(name, 2380, dialled or stage.peers),))
    running = settings(stage, name)
    return serving(name, **{"running": running, "conf": running, "view": view(name, members=(own,)), **known})


@pytest.mark.parametrize("stage", Stage)
def test_the_stage_is_read_back_from_what_a_process_was_started_with(stage: Stage) -> None:
    assert transport.of_settings(settings(stage)) is stage
    assert transport.stage(at(stage)) is stage
    other = settings(Stage((stage + 1) % 4))
    assert transport.stage(at(stage, conf=other)) is stage, "a file that is newer than the process says nothing"
    assert transport.stage(at(stage, running={}, conf=other)) == (stage + 1) % 4
    assert transport.stage(fresh()) is None


def test_the_order_of_the_schemes_says_nothing() -> None:
    turned = {"ETCD_LISTEN_CLIENT_URLS": "https://192.0.2.11:2379,http://192.0.2.11:2379"}
    assert transport.of_settings(turned) is BOTH
    assert transport.of_settings({**turned, "ETCD_LISTEN_PEER_URLS": "https://192.0.2.11:2380"}) is PEERS


def test_https_is_advertised_no_sooner_than_all_members_speak_it_and_http_as_long_as_it_is_open() -> None:
    assert [stage.advertised for stage in Stage] == [("http",), ("http",), ("https", "http"), ("https",)]


WAYS: dict[str, tuple[tuple[Stage, Stage, Stage], Stage, list[Pass]]] = {
    "to TLS beside http": ((PLAIN, PLAIN, PLAIN), PEERS, [Pass(BOTH, NAMES), Pass(PEERS, NAMES)]),
    "to TLS alone, in no more passes": ((PLAIN, PLAIN, PLAIN), TLS, [Pass(BOTH, NAMES), Pass(TLS, NAMES)]),
    "the first pass was cut short": ((BOTH, PLAIN, PLAIN), PEERS, [Pass(BOTH, NAMES[1:]), Pass(PEERS, NAMES)]),
    "the second one": ((PEERS, BOTH, BOTH), PEERS, [Pass(PEERS, NAMES[1:])]),
    "clients have moved": ((PEERS, PEERS, PEERS), TLS, [Pass(TLS, NAMES)]),
    "closing was cut short": ((PEERS, TLS, PEERS), TLS, [Pass(TLS, [NAMES[0], NAMES[2]])]),
    "what is closed is not opened again": ((PEERS, TLS, PEERS), PEERS, []),
    "there": ((TLS, TLS, TLS), TLS, []),
    "back beside https": ((TLS, TLS, TLS), BOTH, [Pass(BOTH, NAMES)]),
    "back alone": ((TLS, TLS, TLS), PLAIN, [Pass(BOTH, NAMES), Pass(PLAIN, NAMES)]),
    "back from the rest": ((PEERS, PEERS, PEERS), PLAIN, [Pass(BOTH, NAMES), Pass(PLAIN, NAMES)]),
    "back from the middle": ((PEERS, BOTH, BOTH), PLAIN, [Pass(BOTH, NAMES[:1]), Pass(PLAIN, NAMES)]),
    "back from the first pass": ((BOTH, PLAIN, PLAIN), PLAIN, [Pass(PLAIN, NAMES[:1])]),
    "clients are still to move back": ((BOTH, BOTH, BOTH), BOTH, []),
    "forward from the way back": ((BOTH, TLS, TLS), PEERS, [Pass(PEERS, NAMES[:1])]),
}  # fmt: skip


@pytest.mark.parametrize(("stages", "goal", "passes"), WAYS.values(), ids=WAYS.keys())
def test_way(stages: tuple[Stage, ...], goal: Stage, passes: list[Pass]) -> None:
    found = transport.way(dict(zip(NAMES, stages, strict=True)), goal)
    assert [(each.stage, list(each.due)) for each in found] == [(each.stage, list(each.due)) for each in passes]


@pytest.mark.parametrize("goal", Stage)
@pytest.mark.parametrize("start", [(a, b) for a in Stage for b in Stage if not (min(a, b) < BOTH < max(a, b))])
def test_no_member_ever_dials_one_that_it_cannot(start: tuple[Stage, Stage], goal: Stage) -> None:
    """At each instant of each way, from wherever a run may have ended: one without certificates beside https peers."""
    now = dict(zip(NAMES, start, strict=False))
    for each in transport.way(now, goal):
        for name in each.due:
            now[name] = each.stage
            assert not (min(now.values()) is PLAIN and max(now.values()) >= PEERS), (start, goal, now)
    assert all(stage >= goal for stage in now.values()) if goal >= PEERS else max(now.values()) <= goal


@pytest.mark.parametrize(
    ("stage", "tls", "kept", "anew"),
    [
        (PLAIN, False, PLAIN, PLAIN), (BOTH, False, BOTH, BOTH),
        (PEERS, False, PLAIN, PLAIN), (TLS, False, PLAIN, PLAIN),
        (PLAIN, True, TLS, TLS), (BOTH, True, BOTH, PEERS), (PEERS, True, PEERS, PEERS), (TLS, True, TLS, TLS),
    ],
)  # fmt: skip
def test_a_run_that_changes_something_else_leaves_the_transport(
    stage: Stage, tls: bool, kept: Stage, anew: Stage
) -> None:
    assert transport.kept(at(stage), tls) is kept
    assert transport.anew(at(stage), tls) is anew
    assert transport.kept(fresh(), tls) is transport.final(tls)


@pytest.mark.parametrize(
    ("others", "tls", "stage"),
    [((PLAIN, BOTH), False, PLAIN), ((BOTH, PEERS), True, PEERS), ((PEERS, TLS), True, PEERS), ((TLS, TLS), True, TLS)],
)
def test_a_new_member_serves_whom_the_others_serve(others: tuple[Stage, ...], tls: bool, stage: Stage) -> None:
    assert transport.beside([at(each) for each in others], tls) is stage


def test_torn_is_who_is_dialled_in_another_way_than_he_listens() -> None:
    assert [transport.is_torn(at(stage)) for stage in Stage] == 4 * [False]
    assert transport.is_torn(at(BOTH, dialled="https"))
    assert transport.is_torn(at(TLS, dialled="http"))
    stopped = at(BOTH, dialled="https")
    assert not transport.is_torn(replace(stopped, unit=replace(stopped.unit, active="inactive", pid=0)))


def test_a_member_that_fell_in_its_turn_came_from_where_others_are() -> None:
    fallen = at(BOTH, running={}, conf=settings(PEERS))
    assert transport.origin(fallen, [at(BOTH, "etcd02"), at(BOTH, "etcd03")]) is BOTH
    assert transport.origin(fallen, [at(PEERS, "etcd02"), at(BOTH, "etcd03")]) is BOTH
    assert transport.origin(fallen, [at(PEERS, "etcd02"), at(PEERS, "etcd03")]) is None, "it is down for another reason"
    assert transport.origin(fresh(), [at(PEERS, "etcd02")]) is None


STANDING: dict[str, tuple[tuple[Stage | None, ...], bool, str, bool]] = {
    "plain": ((PLAIN, PLAIN, PLAIN), False, "", True),
    "TLS": ((TLS, TLS, TLS), True, "", True),
    "one cannot be asked": ((TLS, None, TLS), True, "", True),
    "nobody can": ((None, None, None), True, "", True),
    "clients are to move": (
        (PEERS, PEERS, PEERS), True,
        "transport: plain http is open to clients still, on etcd01, etcd02, etcd03; "
        "once none needs it: inv enable-tls --close-http", True,
    ),
    "closing was cut short": (
        (PEERS, TLS, TLS), True,
        "transport: plain http is open to clients still, on etcd01; once none needs it: inv enable-tls --close-http",
        True,
    ),
    "the second pass was cut short": (
        (PEERS, BOTH, BOTH), True,
        "transport: on the way to TLS, with etcd02, etcd03 reached by peers by http still; "
        "inv enable-tls goes on; inv disable-tls goes back", False,
    ),
    "clients are to move back": (
        (BOTH, BOTH, BOTH), False,
        "transport: members talk by plain http, and https is open to clients still, on etcd01, etcd02, etcd03; "
        "inv disable-tls --close-https once none needs it; or inv enable-tls, the other way", True,
    ),
    "the first pass was cut short": (
        (BOTH, PLAIN, PLAIN), False,
        "transport: members talk by plain http, and https is open to clients still, on etcd01; "
        "inv disable-tls --close-https once none needs it; or inv enable-tls, the other way", False,
    ),
    "config.yaml is ahead": (
        (PLAIN, PLAIN, PLAIN), True,
        "transport: etcd01, etcd02, etcd03 speak plain http, config.yaml asks for TLS; "
        "inv enable-tls brings them there",
        False,
    ),
    "config.yaml is behind": (
        (BOTH, TLS, BOTH), False,
        "transport: etcd02 speaks TLS alone, config.yaml asks for plain http; inv disable-tls brings them there", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stages", "tls", "text", "rests"), STANDING.values(), ids=STANDING.keys())
def test_standing(stages: tuple[Stage | None, ...], tls: bool, text: str, rests: bool) -> None:
    known: Mapping[str, Stage | None] = dict(zip(NAMES, stages, strict=True))
    found = transport.standing(known, tls)
    assert (str(found or ""), found is None or found.rests) == (text, rests)


def test_numbers_are_those_of_the_facts() -> None:
    """The member list is asked for the member's own id, not for its place in it."""
    other = member("etcd02", peer_urls=("http://192.0.2.12:2380",))
    facts = at(TLS)
    assert number("etcd01") != other.id
    assert not transport.is_torn(replace(facts, view=replace(facts.view, members=(other, *(facts.view.members or ())))))


def test_releases_that_answer_by_both_by_chance() -> None:
    versions = ("3.4.23", "3.4.25", "3.5.1", "3.5.7", "3.5.8", "3.5.30", "3.6.0", "3.7.3")
    assert [version for version in versions if not transport.serves_both(version)] == ["3.4.23", "3.5.1", "3.5.7"]
