"""What etcd says, as recorded from real releases, and what we make of it; arithmetic; settings of each release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from etcdops import etcd
from etcdops.etcd import CORRUPT, NOSPACE, Alarm, EndpointStatus, View, parse_view, reason
from etcdops.flags import default_settings
from etcdops.flaws import known_bad
from tests.unit.build import status
from tests.unit.golden import GOLDEN

RECORDED = ("3.4.23", "3.5.1", "3.5.30", "3.6.16", "3.7.3")
REFUSED = "dial tcp 127.77.0.1:2379: connect: connection refused"
DEADLINE = "context deadline exceeded"
NO_SPACE = "Active Alarm(s): NOSPACE"
NOT_FOR_LEARNERS = "etcdserver: rpc not supported for learner"


def recorded(version: str, situation: str) -> View:
    seen = json.loads((GOLDEN / "etcd" / f"{version}.json").read_text())[situation]
    return parse_view(seen["answers"], seen["complaints"])


# situation: healthy, role, members (started, learners), complaint; then where a release answers otherwise
SITUATIONS: dict[str, tuple[tuple[object, ...], dict[str, tuple[object, ...]]]] = {
    "down": (
        (False, None, None, f"Error while dialing: {REFUSED}"),
        {
            "3.4.23": (False, None, None, "latest balancer error: all SubConns are in TransientFailure"),
            "3.5.1": (False, None, None, f"Error while dialing {REFUSED}"),
        },
    ),
    "alone": (
        (False, None, None, f"{DEADLINE} while waiting for connections to become ready"),
        dict.fromkeys(("3.4.23", "3.5.1"), (False, None, None, DEADLINE)),
    ),
    "leader": ((True, "leader", (3, 0), ""), {}),
    "follower": ((True, "follower", (3, 0), ""), {}),
    "member added": ((True, "leader", (3, 1), ""), {}),
    "learner": ((False, "learner", None, NOT_FOR_LEARNERS), {}),
    "no space": ((False, "leader", (4, 1), NO_SPACE), {"3.4.23": (True, "leader", (4, 1), "")}),
    "no quorum": (
        (False, "no leader", None, DEADLINE),
        {
            "3.4.23": (False, "no leader", (4, 1), f"rpc error: code = Unknown desc = {DEADLINE}"),
            "3.5.1": (False, "no leader", None, f"rpc error: code = Unknown desc = {DEADLINE}"),
        },
    ),
}


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_recorded_answer(version: str, situation: str) -> None:
    view = recorded(version, situation)
    usual, others = SITUATIONS[situation]
    counts = None
    if view.members is not None:
        counts = (sum(each.started for each in view.members), sum(each.learner for each in view.members))
    seen = (view.healthy, view.status.role if view.status else None, counts, view.complaint)
    assert seen == others.get(version, usual)


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_status(version: str) -> None:
    leader, follower = recorded(version, "leader").status, recorded(version, "follower").status
    assert leader is not None
    assert follower is not None
    assert leader.version == version
    assert leader.cluster_id == follower.cluster_id > 1 << 32
    assert leader.leader == follower.leader == leader.member_id != follower.member_id
    assert leader.term == follower.term > 1
    assert 0 < leader.applied <= leader.index
    assert 0 < leader.db_in_use <= leader.db_size
    assert leader.revision == 1
    assert leader.quota == (1 << 20 if etcd.release(version) >= (3, 6) else 0)  # told from 3.6 on
    assert leader.errors == ()


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_alarm_stands_in_the_status(version: str) -> None:
    view = recorded(version, "no space")
    assert view.status is not None
    (owner,) = [each.name for each in view.members or () if each.id == view.status.member_id]
    assert view.status.errors == (f"alarm NOSPACE on {owner}",)


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_full_quota_is_all_that_is_wrong(version: str) -> None:
    view = recorded(version, "no space").but_for_nospace()
    assert view.status is not None
    assert (view.healthy, view.complaint, view.status.errors, view.status.alarms) == (True, "", (), ())


@pytest.mark.parametrize(
    ("error", "words", "alarm"),
    [
        ("memberID:1 alarm:NOSPACE ", "alarm NOSPACE on etcd01", Alarm(NOSPACE, "etcd01")),
        ("memberID:1  alarm:CORRUPT", "alarm CORRUPT on etcd01", Alarm(CORRUPT, "etcd01")),
        ("memberID:3054 alarm:NOSPACE", "alarm NOSPACE on bee", Alarm(NOSPACE, "bee")),
        ("alarm:CORRUPT ", "alarm CORRUPT", Alarm(CORRUPT)),
        ("etcdserver: no leader", "etcdserver: no leader", None),
    ],
    ids=["full", "3.7 has two blanks", "a member that is gone", "nobody in particular", "no alarm"],
)
def test_alarm_in_the_status(error: str, words: str, alarm: Alarm | None) -> None:
    answers = {
        "status": json.dumps([{"Status": {"errors": [error]}}]),
        "members": json.dumps({"members": [{"ID": 1, "name": "etcd01", "clientURLs": ["u"]}]}),
    }
    status = parse_view(answers, {}).status
    assert status is not None
    assert status.errors == (words,)
    assert status.alarms == ((alarm,) if alarm else ())


def test_full_quota_hides_nothing_else() -> None:
    both = View(False, complaint="Active Alarm(s): NOSPACE CORRUPT ")
    assert both.but_for_nospace() == both
    down = View(False, complaint="context deadline exceeded")
    assert down.but_for_nospace() == down
    errors = ("alarm CORRUPT on etcd01", "alarm NOSPACE on etcd02", "etcdserver: no leader")
    status = parse_view({"status": json.dumps([{"Status": {"errors": list(errors)}}])}, {}).but_for_nospace().status
    assert status is not None
    assert status.errors == (errors[0], errors[2])


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_loss_of_the_leader(version: str) -> None:
    view = recorded(version, "no quorum")
    assert view.status is not None
    assert view.status.leader == 0
    assert "etcdserver: no leader" in view.status.errors


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_members(version: str) -> None:
    members = recorded(version, "member added").members
    assert members is not None
    by_url = {each.peer_urls: each for each in members}
    new, old = by_url[("http://127.77.0.4:2380",)], by_url[("http://127.77.0.1:2380",)]
    assert (new.started, new.learner, new.name, new.client_urls) == (False, True, "", ())
    assert (old.started, old.learner, old.name) == (True, False, "etcd01")
    assert old.client_urls == ("http://127.77.0.1:2379",)


HEALTHY = '[{"endpoint":"http://127.0.0.1:2379","health":true,"took":"1.5ms"}]'
COMPLAINTS = {
    "nothing at all": ({}, {}, (None, "")),
    "no text": ({"health": "", "status": "", "members": ""}, {}, (None, "")),
    "text that is no JSON": ({"health": "killed", "status": "{", "members": "]"}, {}, (None, "")),
    "JSON of another shape": ({"health": '{"health":true}', "status": "[3]", "members": "[]"}, {}, (None, "")),
    "null": ({"health": "null", "status": "null", "members": "null"}, {}, (None, "")),
    "healthy": ({"health": HEALTHY}, {}, (True, "")),
    "healthy, and yet an error": ({"health": '[{"health":true,"error":"odd"}]'}, {}, (True, "odd")),
    "healthy, and a log line": ({"health": HEALTHY}, {"health": '{"level":"warn","msg":"x"}\n'}, (True, "")),
    "only stderr": ({}, {"health": "Error: open /etc/etcd/ssl/ca.pem: permission denied\n"}, (
        None, "open /etc/etcd/ssl/ca.pem: permission denied",
    )),
    "log lines before the reason": ({}, {"health": '{"level":"warn"}\nError: unhealthy cluster\n\n'}, (
        None, "unhealthy cluster",
    )),
    "only log lines": ({}, {"health": '{"level":"warn"}\n'}, (None, "")),
    "the first query that complains": ({}, {"health": "", "status": "Error: a", "members": "Error: b"}, (None, "a")),
    "a certificate is no query": ({}, {"certificate": "sed: no such file"}, (None, "")),
    "its own reason before that on stderr": (
        {"health": '[{"health":false,"error":"Active Alarm(s): CORRUPT "}]'},
        {"health": "Error: unhealthy cluster"},
        (False, "Active Alarm(s): CORRUPT"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "complaints", "seen"), COMPLAINTS.values(), ids=COMPLAINTS.keys())
def test_complaint(answers: dict[str, str], complaints: dict[str, str], seen: tuple[bool | None, str]) -> None:
    view = parse_view(answers, complaints)
    assert (view.healthy, view.complaint) == seen
    assert (view.status, view.members) == (None, None)


@pytest.mark.parametrize(
    ("stderr", "rc", "said"),
    [
        ('{"level":"warn"}\nError: etcdserver: not leader\n', 1, "etcdserver: not leader"),
        ("first\nFailed to defragment etcd member[x]. took 1s. (no)\n  \n", 1,
         "Failed to defragment etcd member[x]. took 1s. (no)"),
        ('Error: a\n{"level":"warn"}\n', 1, "a"),
        ('{"level":"warn"}\n', 127, "etcdctl ended with 127"),
        ("", 0, "etcdctl ended with 0"),
        ("", None, ""),
    ],
    ids=["behind a log line", "the last", "before a log line", "nothing", "nothing, and no answer", "no exit code"],
)  # fmt: skip
def test_the_reason_that_etcdctl_tells(stderr: str, rc: int | None, said: str) -> None:
    assert reason(stderr, rc) == said


def test_zero_values_are_left_out_of_the_json() -> None:
    view = parse_view(
        {"status": '[{"Status":{"header":{}}}]', "members": '{"members":[{"ID":18446744073709551615}]}'}, {}
    )
    assert view.status == EndpointStatus(0, 0, "", 0, 0, 0, 0, 0, 0, 0, False, 0, ())
    assert view.status.role == "no leader"
    assert view.members is not None
    assert view.members[0].id == 0xFFFF_FFFF_FFFF_FFFF
    assert not view.members[0].started


def test_applied_index_of_a_release_that_does_not_tell_it() -> None:
    view = parse_view({"status": '[{"Status":{"raftIndex":7}}]'}, {})
    assert view.status is not None
    assert view.status.applied == 7


@pytest.mark.parametrize(
    ("known", "role"),
    [
        ({"leader": "etcd01"}, "leader"),
        ({"leader": "etcd02"}, "follower"),
        ({"leader": ""}, "no leader"),
        ({"leader": "etcd02", "learner": True}, "learner"),
        ({"leader": "", "member_id": 0}, "no leader"),
    ],
)
def test_role(known: dict[str, Any], role: str) -> None:
    assert status("etcd01", **known).role == role


@pytest.mark.parametrize(
    ("took", "milliseconds"),
    [
        ("3.2ms", 3.2),
        ("871.5µs", 0.8715),
        ("900ns", 0.0009),
        ("1.01s", 1010.0),
        ("1m3s", 0.0),
        ("", 0.0),
        ("soon", 0.0),
    ],
)
def test_duration(took: str, milliseconds: float) -> None:
    view = parse_view({"health": json.dumps([{"health": True, "took": took}])}, {})
    assert view.took == pytest.approx(milliseconds)


@pytest.mark.parametrize(("voters", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_quorum(voters: int, quorum: int) -> None:
    assert etcd.quorum(voters) == quorum


@pytest.mark.parametrize(
    ("voters", "healthy", "may"),
    [
        (1, 1, False),
        (2, 2, False),
        (3, 3, True),
        (3, 2, False),
        (4, 4, True),
        (4, 3, False),
        (5, 4, True),
        (5, 3, False),
    ],
)
def test_may_stop_one(voters: int, healthy: int, may: bool) -> None:
    assert etcd.may_stop_one(voters, healthy) is may


def test_releases_compare_as_numbers() -> None:
    assert etcd.release("3.5.30") > etcd.release("3.5.9") > etcd.release("3.4.100")


@pytest.mark.parametrize(
    ("version", "bad"),
    [
        ("3.4.23", False),
        ("3.5.0", True),
        ("3.5.1", True),
        ("3.5.2", True),
        ("3.5.3", False),
        ("3.5.20", False),
        ("3.6.0", False),
    ],
)
def test_known_bad(version: str, bad: bool) -> None:
    assert bool(known_bad(version)) is bad


@pytest.mark.parametrize("version", [*RECORDED, "3.5.16"])
def test_the_release_knows_every_setting_that_we_choose(version: str) -> None:
    flags = (GOLDEN / "etcd" / f"{version}.flags").read_text().split()
    assert set(default_settings(version)) <= set(flags)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("3.4.23", "pre-vote"),
        ("3.4.23", "experimental-initial-corrupt-check"),
        ("3.5.4", "experimental-initial-corrupt-check"),
        ("3.5.5", "experimental-compact-hash-check-enabled"),
        ("3.6.0", "feature-gates"),
        ("3.7.0", "feature-gates"),
        *((version, "auto-compaction-retention") for version in RECORDED),
        *((version, "listen-metrics-urls") for version in RECORDED),
    ],
)
def test_a_setting_that_each_release_gets(version: str, name: str) -> None:
    assert default_settings(version)[name]


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("3.5.0", "pre-vote"),  # on by default
        ("3.5.0", "logger"),
        ("3.5.4", "experimental-compact-hash-check-enabled"),
        ("3.6.0", "snapshot-count"),
        ("3.6.0", "experimental-initial-corrupt-check"),
        ("3.7.0", "experimental-initial-corrupt-check"),  # only a warning to it, and dead
    ],
)
def test_a_setting_that_a_release_does_not_get(version: str, name: str) -> None:
    assert name not in default_settings(version)
