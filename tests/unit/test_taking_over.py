"""A member that was adopted, until deploy has taken it over: what the hosts say, what is refused, what is done."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from etcdops import desired, guards, layout
from etcdops.desired import Want
from etcdops.facts import HostFacts, Listener, UnitFact, parse
from etcdops.plan import Change, Directory, File, Link, Release, TakenOver, User, diff
from etcdops.rollout import rollout, token
from etcdops.steps.converge import _harmless
from tests.unit.build import TOKEN, config, fresh, number, path, serving, three, view

RUNS = UnitFact("active", "", "/usr/lib/systemd/system/etcd.service", pid=700)
RECORD = """\
CLUSTER=etcd-cluster
TOKEN=old
CLUSTER_ID=c1
NAME={name}
MEMBER_ID={id}
VERSION=3.6.16
UNIT=etcd.service
USER=root
DATA_DIR=/var/lib/etcd/default.etcd
ENDPOINT=https://192.0.2.11:2379
SECURE=--cacert=/etc/etcd/ssl/ca.pem
BIN_DIR=/usr/bin
"""


def told(name: str, **more: str) -> HostFacts:
    """What a host says that was adopted, and nothing else of it."""
    text = RECORD.format(name=name, id=number(name)) + "".join(f"{key}={value}\n" for key, value in more.items())
    rows = {
        "time": "1",
        "machine": "x86_64",
        "boot_id": name,
        "systemd": "252",
        "user": "",
    }
    lines = [f"{key}\t{value}" for key, value in rows.items()]
    lines += [f"text\t{layout.ADOPTED}\t{base64.b64encode(text.encode()).decode()}"]
    lines += ["unit\tUnitFileState\tenabled", "unit\tMainPID\t700", "unit\tActiveState\tactive", "exe\t/usr/bin/etcd"]
    return parse(name, "\n".join([*lines, "data\twal", ""]), asked=1, answered=1)


def adopted(name: str = "etcd01", **known: Any) -> HostFacts:
    """A member that serves as somebody else has set it up."""
    said = told(name)
    usual = fresh(
        name,
        adopted=said.adopted,
        identity=said.identity,
        unit=RUNS,
        executable="/usr/bin/etcd",
        data="wal",
        view=view(name),
        listeners=(Listener(2379, 700, "etcd"),),
        paths={f"{layout.BIN_DIR}/etcd": path()},
    )
    return replace(usual, **known)


def test_what_the_host_says() -> None:
    facts = told("etcd02")
    assert facts.identity == {
        "cluster": "etcd-cluster",
        "token": "old",
        "cluster_id": "c1",
        "name": "etcd02",
        "member_id": "2",
    }
    assert (facts.token, facts.running_version, facts.is_ours) == ("old", "3.6.16", False)
    assert facts.unit == UnitFact("active", "", "", pid=700)  # the unit that will be is not enabled


def test_a_half_written_record_is_no_identity() -> None:
    assert parse_without("CLUSTER").identity == {}


def parse_without(name: str) -> HostFacts:
    text = "".join(line for line in RECORD.splitlines(keepends=True) if not line.startswith(f"{name}="))
    rows = "time\t1\nmachine\tx\nboot_id\tb\nsystemd\t1\nuser\t\n"
    return parse(
        "a", f"{rows}text\t{layout.ADOPTED}\t{base64.b64encode(text.encode()).decode()}\n", asked=1, answered=1
    )


def test_deploy_may_take_over_what_was_adopted_and_nothing_else() -> None:
    assert guards.findings(config(), three(adopted)) == []
    done = serving("etcd02", conf={"ETCD_INITIAL_CLUSTER_TOKEN": "old"})
    assert guards.findings(config(), three(adopted, done)) == []
    strange = adopted("etcd02", adopted={}, identity={})
    assert any("did not set up" in each.message for each in guards.findings(config(), three(adopted, strange)))


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ({"cluster": "other"}, "is a member of another cluster, other"),
        ({"name": "etcd09"}, "is member etcd09 of this cluster"),
    ],
)
def test_one_that_was_adopted_as_something_else(known: dict[str, str], line: str) -> None:
    facts = three(adopted, adopted("etcd02", identity=adopted("etcd02").identity | known))
    assert line in {each.message for each in guards.findings(config(), facts)}


def test_another_transport_or_minor_is_refused() -> None:
    said = [each.message for each in guards.findings(config(tls=False), three(adopted))]
    assert "runs with TLS, and config.yaml asks for plain http" in said
    said = [each.message for each in guards.findings(config("3.7.3"), three(adopted))]
    assert "runs etcd 3.6.16, and config.yaml asks for 3.7.3" in said


def test_the_guide_s_release_is_adopted_as_it_is_and_may_be_left_at_once() -> None:
    old = {name: replace(fact, adopted=fact.adopted | {"VERSION": "3.5.1"}) for name, fact in three(adopted).items()}
    assert guards.findings(config("3.5.1"), old) == []
    assert guards.findings(config("3.5.30"), old) == []


def test_what_else_changes_members_waits_for_the_deploy() -> None:
    one = config().members[0]
    for found in (
        guards.beneath_a_restore(config(), three(adopted)),
        guards.beneath_an_upgrade(config(), three(adopted)),
        guards.moved(config(), one, one, three(adopted)),
    ):
        assert {each.message for each in found} == {"was adopted, and runs as it was set up before"}


def test_every_adopted_member_has_its_turn_the_leader_last() -> None:
    facts = three(adopted, serving("etcd02"))
    wants = {name: Want(config(), config().member(name), fact, TOKEN) for name, fact in facts.items()}
    stale = {name: desired.needs_restart(wants[name]) for name in ("etcd01", "etcd03")}
    assert stale == {"etcd01": "adopted", "etcd03": "adopted"}
    assert list(rollout(facts, stale).restart) == ["etcd03", "etcd01"]
    assert token(config(), three(adopted)) == "old"


def test_what_is_to_be_done_and_what_may_be_done_before() -> None:
    want = Want(config(tls=False), config().member("etcd01"), adopted(), TOKEN)
    changes = diff(desired.resources(want, tuple(desired.STEPS)), want.facts)
    done = {str(each.resource) for each in changes}
    assert {"take over the etcd that runs there", layout.UNIT, layout.IDENTITY, "systemctl enable etcd"} <= done
    early = [each.resource for each in changes if _harmless(each, changes, want.facts.adopted)]
    assert early == [Directory(layout.RELEASES, 0o755), Release("3.6.16")]
    pair = Change(File(layout.SERVER, b"x", 0o600), "changed")
    assert _harmless(pair, [pair], {})
    assert not _harmless(pair, [pair], want.facts.adopted)


def test_a_member_of_ours_is_not_taken_over() -> None:
    want = Want(config(), config().member("etcd01"), serving(), TOKEN)
    assert not any(isinstance(each, TakenOver) for each in desired.configure(want))
    assert isinstance(desired.configure(want)[0], User)
    assert TakenOver().why(serving()) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "stopped, owner root to etcd, what it was set up with to /etc/etcd/adopted/"),
        ({"USER": "etcd"}, "stopped, what it was set up with to /etc/etcd/adopted/"),
        (
            {"USER": "etcd", "DATA_DIR": "/data"},
            "stopped, data from /data, what it was set up with to /etc/etcd/adopted/",
        ),
    ],
)
def test_why(changed: dict[str, str], why: str) -> None:
    assert TakenOver().why(adopted(adopted=adopted().adopted | changed)) == why


def test_programs_of_the_old_one_are_no_hindrance() -> None:
    own = {f"{layout.BIN_DIR}/etcd": path()}
    assert guards.findings(config(), three(adopted, adopted("etcd02", paths=own))) == []
    link = Link(f"{layout.BIN_DIR}/etcd", f"{layout.CURRENT}/etcd")
    assert link.why(adopted(paths=own)) == "was a file"
