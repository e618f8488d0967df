"""How far a rotation of the CAs has come, from what pki.dir and the hosts say; golden, in the words of status."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops import layout, rotation
from etcdops.desired import Want, distribute
from etcdops.errors import HostError
from etcdops.facts import TRUST, HostFacts, fingerprints
from etcdops.keystore import MemberPki
from etcdops.pki import Pair
from etcdops.plan import Directory, File, Link
from etcdops.run import Run
from etcdops.steps.authorities import Work
from etcdops.succession import Stage
from tests.unit.build import NAMES, TOKEN, config, path, serving


def pem(*names: str) -> bytes:
    """A bundle of CAs: what is in them does not matter here."""
    return "".join(f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in names).encode()


def pki(*cas: str, leaves: str = "old") -> MemberPki:
    """What pki.dir has for a member: these CAs of clients and peers, and ``leaves``."""
    pairs = {role: Pair(f"{leaves} {role}\n".encode(), b"key") for role in ("server", "peer", "client")}
    bundles = [pem(*(f"{ca} {role}" for ca in cas)) for role in ("client", "peer")]
    return MemberPki(*bundles, pairs["server"], pairs["peer"], client=pairs["client"])


def host(lies: MemberPki, read: MemberPki | None = None, **known: Any) -> HostFacts:
    """A member on whose host ``lies`` lies, and which has read the CAs of ``read``, else the same."""
    facts = serving()
    found = {}
    for resource in distribute(Want(config(), config().members[0], facts, TOKEN, lies)):
        match resource:
            case Directory(where, mode, owner):
                found[where] = path("directory", mode, owner)
            case Link(where, target):
                found[where] = path("link", target=target)
            case File(where, content, mode, owner):
                found[where] = path("file", mode, owner, sha256=hashlib.sha256(content or b"").hexdigest())
    told = read or lies
    bundles = {layout.CLIENT_CA: told.client_ca, layout.PEER_CA: told.peer_ca}
    running = {TRUST[where]: ",".join(fingerprints((each or b"").decode())) for where, each in bundles.items()}
    return serving(**{"paths": found, "running": {**facts.running, **running}, **known})


OLD, BOTH, NEW = pki("old"), pki("old", "new"), pki("new", leaves="new")
ISSUED = pki("old", "new", leaves="new")
STOPPED = {"running": {}, "unit": serving().unit.__class__()}

CASES: dict[str, tuple[Stage, MemberPki, list[HostFacts], str]] = {
    "begun": (
        "trust", BOTH, [host(OLD)] * 3,
        "rotation of the CAs, stage 1 of 3: every member reads both CAs, and the old ones issue still (etcd01: ca.pem "
        "peer-ca.pem not there yet, etcd02: ca.pem peer-ca.pem not there yet, etcd03: ca.pem peer-ca.pem not there "
        "yet)",
    ),
    "one has restarted": (
        "trust", BOTH, [host(BOTH), host(BOTH, OLD), host(OLD)],
        "rotation of the CAs, stage 1 of 3: every member reads both CAs, and the old ones issue still (etcd02: not "
        "restarted yet, etcd03: ca.pem peer-ca.pem not there yet)",
    ),
    "one is stopped, and reads them at its start": (
        "trust", BOTH, [host(BOTH), host(BOTH), host(BOTH, OLD, **STOPPED)],
        "rotation of the CAs, stage 1 of 3: every member reads both CAs, and the old ones issue still (all do)",
    ),
    "the new ones issue": (
        "leaves", ISSUED, [host(ISSUED), host(BOTH), host(BOTH)],
        "rotation of the CAs, stage 2 of 3: every member gets certificates of the new CAs (etcd02: server.pem "
        "client.pem peer.pem not there yet, etcd03: server.pem client.pem peer.pem not there yet)",
    ),
    "all have theirs": (
        "leaves", ISSUED, [host(ISSUED)] * 3,
        "rotation of the CAs, stage 2 of 3: every member gets certificates of the new CAs (all do)",
    ),
    "the old ones go": (
        "retire", NEW, [host(NEW), host(NEW, ISSUED), host(ISSUED)],
        "rotation of the CAs, stage 3 of 3: every member forgets the old CAs (etcd02: not restarted yet, etcd03: "
        "ca.pem peer-ca.pem not there yet)",
    ),
    "they are gone": (
        "retire", NEW, [host(NEW)] * 3, "rotation of the CAs, stage 3 of 3: every member forgets the old CAs (all do)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "wanted", "hosts", "words"), CASES.values(), ids=CASES.keys())
def test_standing(stage: Stage, wanted: MemberPki, hosts: list[HostFacts], words: str) -> None:
    wants = {
        name: Want(config(), member, facts, TOKEN, wanted)
        for name, member, facts in zip(NAMES, config().members, hosts, strict=True)
    }
    found = rotation.standing(stage, wants)
    assert str(found) == words
    assert found.document == {
        "stage": stage,
        "number": ("trust", "leaves", "retire").index(stage) + 1,
        "of": 3,
        "behind": dict(found.behind),
    }


def work(stage: Stage, pki: MemberPki, hosts: list[HostFacts], *, ended: bool) -> bool:
    """Whether rotate-ca takes it that nobody is let in any more."""
    run = Run(Path("config.yaml"))
    run.__dict__["config"] = config()
    work = Work(run)
    work.__dict__["files"] = SimpleNamespace(stage=stage, ended=lambda now: ended)
    facts = dict(zip(NAMES, hosts, strict=True))
    work.__dict__["wants"] = lambda facts: {
        name: Want(run.config, run.config.member(name), fact, TOKEN, pki) for name, fact in facts.items()
    }
    return work._ended(facts)


@pytest.mark.parametrize(
    ("stage", "pki", "hosts", "ended", "at_once"),
    [
        ("", OLD, [host(OLD)] * 3, True, True),
        ("", OLD, [host(OLD)] * 3, False, False),
        ("trust", BOTH, [host(BOTH)] * 3, True, True),
        ("leaves", ISSUED, [host(ISSUED)] * 3, True, False),
        ("leaves", ISSUED, [host(ISSUED), host(BOTH), host(ISSUED)], True, True),
        ("leaves", ISSUED, [host(ISSUED), host(ISSUED, OLD), host(ISSUED)], True, True),
        ("leaves", ISSUED, [host(BOTH)] * 3, False, False),
        ("retire", NEW, [host(ISSUED)] * 3, True, False),
    ],
    ids=["old", "valid", "both", "at rest before stage 3", "an old leaf", "not read", "valid, stage 2", "stage 3"],
)
def test_all_at_once_only_where_the_cas_that_count_have_ended(
    stage: Stage, pki: MemberPki, hosts: list[HostFacts], ended: bool, at_once: bool
) -> None:
    assert work(stage, pki, hosts, ended=ended) is at_once


def test_a_stage_that_was_undone_while_it_was_asked_for_the_next_ends_there() -> None:
    """The lock may have been another's meanwhile, and what follows is done here alone."""
    run = Run(Path("config.yaml"), yes=True, command="inv rotate-ca", _fleet=SimpleNamespace(all=lambda work: {}))  # type: ignore[arg-type]
    run.__dict__["config"] = config()
    work, hosts = Work(run), [host(BOTH), host(OLD), host(BOTH)]
    work.__dict__["files"] = SimpleNamespace(stage="trust")
    wants = {n: Want(run.config, run.config.member(n), fact, TOKEN, BOTH) for n, fact in zip(NAMES, hosts, strict=True)}
    work.__dict__["wants"] = lambda facts: wants
    with pytest.raises(HostError, match=r"^etcd02: ca.pem peer-ca.pem"):
        work._ask("leaves", "every client has to trust both")
    hosts[1] = host(BOTH)
    wants["etcd02"] = replace(wants["etcd02"], facts=hosts[1])
    work._ask("leaves", "every client has to trust both")
