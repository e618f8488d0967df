"""What a host should be like: the rendered files byte for byte, the resources of each step, and when to restart."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdops import desired, layout, transport
from etcdops.config import Config
from etcdops.desired import Want, quoted
from etcdops.facts import HostFacts, UnitFact, parse_conf
from etcdops.keystore import MemberPki
from etcdops.pki import Pair
from etcdops.plan import ETCD, ROOT, Directory, Enabled, File, Link, Release, Reloaded, Resource, User, diff
from etcdops.transport import Stage
from tests.unit import golden
from tests.unit.build import (
    CLUSTER_ID,
    NAMES,
    TOKEN,
    VERSION,
    config,
    cut_short,
    fresh,
    identity,
    path,
    prepared,
    serving,
    status,
    view,
)


def ca(name: str) -> bytes:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n".encode()


PKI = MemberPki(
    ca("client"),
    ca("peer"),
    Pair(b"server\n", b"server key\n"),
    Pair(b"peer\n", b"peer key\n"),
    client=Pair(b"client\n", b"client key\n"),
)
TRUST = b"""\
# For the environment of etcd, which reads its CA files at start only
ETCDOPS_CLIENT_CA=948fe603f61dc036
ETCDOPS_PEER_CA=2ffc1d06387ef8bb
"""
VERSIONS = ("3.4.23", "3.5.1", "3.5.30", "3.6.16", "3.7.3")
JSON = '{"maxsize":100,"compress":true}'
EXTRAS: dict[str, Any] = {
    "settings": {
        "quota-backend-bytes": 8589934592,
        "snapshot-count": 50000,
        "strict-reconfig-check": False,
        "log-rotation-config-json": JSON,
        "cipher-suites": "TLS_A,TLS_B",
        "odd": "\"'$HOME `id` \\ # 50 %",
    },
    "unit": {
        "Unit": {"RequiresMountsFor": "/var/lib/etcd/default.etcd"},
        "Service": {
            "MemoryMax": "8G",
            "Nice": -5,
            "IOAccounting": True,
            "CPUAccounting": False,
            "Environment": ["GOGC=50", "GODEBUG=x=1"],
        },
        "Install": {"Alias": "kv.service"},
    },
}


def want(config: Config, facts: HostFacts | None = None, *, pki: MemberPki | None = PKI, **known: Any) -> Want:
    """The desired state of the first member."""
    (member, *_) = config.members
    return Want(config, member, facts or fresh(member.name), TOKEN, pki=pki if config.cluster.tls else None, **known)


def files(want: Want) -> dict[str, bytes]:
    return {each.path: each.content or b"" for each in desired.configure(want) if isinstance(each, File)}


def conf(want: Want) -> dict[str, str]:
    return parse_conf(files(want)[layout.CONF].decode())


# Golden files


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_golden_etcd_conf(version: str, tls: bool) -> None:
    name = f"etcd.conf/{version}-{'tls' if tls else 'plain'}.conf"
    golden.check(name, files(want(config(version, tls=tls)))[layout.CONF])


@pytest.mark.parametrize("stage", [Stage.BOTH, Stage.PEERS])
def test_golden_etcd_conf_between_plain_http_and_tls(stage: Stage) -> None:
    rendered = files(want(config(), serving(), stage=stage))
    golden.check(f"etcd.conf/stage-{stage.name.lower()}.conf", rendered[layout.CONF])
    assert transport.of_settings(parse_conf(rendered[layout.CONF].decode())) is stage


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_the_ends_of_the_way_are_what_deploy_makes(tls: bool) -> None:
    asked = config(tls=tls)
    (member, *_) = asked.members
    ends = Want(asked, member, serving(), TOKEN, pki=PKI, stage=Stage.TLS if tls else Stage.PLAIN)
    assert files(ends)[layout.CONF] == files(want(asked, serving()))[layout.CONF]


@pytest.mark.parametrize(
    ("stage", "tls", "kept"),
    [(Stage.BOTH, False, True), (Stage.BOTH, True, True), (Stage.PEERS, True, True), (Stage.PEERS, False, False)],
)
def test_deploy_leaves_a_change_of_the_transport_where_it_is(stage: Stage, tls: bool, kept: bool) -> None:
    running = {**conf(want(config(), serving(), stage=stage)), **parse_conf(TRUST.decode())}
    facts = serving(running=running)
    asked = config(tls=tls)
    (member, *_) = asked.members
    assert (desired.needs_restart(Want(asked, member, facts, TOKEN, pki=PKI)) == "") is kept


def test_certificates_that_a_change_has_brought_are_nothing_to_a_plain_member() -> None:
    running = {**conf(want(config(tls=False), serving())), **parse_conf(TRUST.decode())}
    assert desired.needs_restart(want(config(tls=False), serving(running=running))) == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_unit(version: str) -> None:
    golden.check(f"etcd.service/{version}.service", files(want(config(version)))[layout.UNIT])


def test_golden_ipv6() -> None:
    members = tuple({"name": name, "address": f"2001:db8::{name[-1]}"} for name in NAMES)
    golden.check("etcd.conf/ipv6.conf", files(want(config(members=members)))[layout.CONF])


def test_golden_settings_and_unit_of_config_yaml() -> None:
    rendered = files(want(config(**EXTRAS)))
    golden.check("etcd.conf/settings.conf", rendered[layout.CONF])
    golden.check("etcd.service/extras.service", rendered[layout.UNIT])


def test_golden_member_that_has_joined() -> None:
    rendered = files(want(config(), serving(identity={})))
    golden.check("etcd.conf/joined.conf", rendered[layout.CONF])
    golden.check("identity.json", rendered[layout.IDENTITY])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_every_setting_is_a_flag_of_the_release(version: str, tls: bool) -> None:
    flags = (golden.GOLDEN / "etcd" / f"{version}.flags").read_text().split()
    names = [name for name in conf(want(config(version, tls=tls))) if name.startswith("ETCD_")]
    assert len(names) > 12
    assert [name for name in names if name.removeprefix("ETCD_").lower().replace("_", "-") not in flags] == []


def test_every_line_of_a_unit_is_a_section_a_setting_or_a_comment() -> None:
    lines = files(want(config(**EXTRAS)))[layout.UNIT].decode().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    assert [line for line in lines if not re.fullmatch(r"|#.*|\[\w+\]|[A-Za-z]+=(.*[^\\])?", line)] == []


def test_a_shell_reads_etcd_conf_as_systemd_does(tmp_path: Path) -> None:
    file = tmp_path / "etcd.conf"
    file.write_bytes(files(want(config(**EXTRAS)))[layout.CONF])
    done = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env -0', "sh", file],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    seen = dict(line.split("=", 1) for line in done.stdout.rstrip("\0").split("\0") if line.startswith("ETCD"))
    assert seen == conf(want(config(**EXTRAS)))


# etcd.conf


def test_settings_of_config_yaml_stand_above_ours_and_arrive_unharmed() -> None:
    seen = conf(want(config("3.5.30", **EXTRAS)))
    assert seen["ETCD_SNAPSHOT_COUNT"] == "50000"
    assert seen["ETCD_LOG_ROTATION_CONFIG_JSON"] == JSON
    assert seen["ETCD_ODD"] == EXTRAS["settings"]["odd"]
    assert seen["ETCD_STRICT_RECONFIG_CHECK"] == "false"
    assert seen["ETCD_AUTO_COMPACTION_RETENTION"] == "10h"


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (fresh(), "new"),
        (prepared(), "new"),
        (cut_short(), "new"),
        (serving(), "existing"),
        (serving(identity={}), "existing"),
        (cut_short(identity=identity("etcd01")), "existing"),
    ],
    ids=["fresh", "prepared", "cut short", "serving", "just joined", "down"],
)
def test_initial_cluster_state(facts: HostFacts, state: str) -> None:
    assert conf(want(config(), facts))["ETCD_INITIAL_CLUSTER_STATE"] == state


def test_the_members_of_one_cluster_agree_on_it() -> None:
    cluster = config()
    confs = [conf(Want(cluster, member, fresh(member.name), TOKEN, pki=PKI)) for member in cluster.members]
    assert len({each["ETCD_INITIAL_CLUSTER"] for each in confs}) == 1
    for each in confs:
        assert f"{each['ETCD_NAME']}={each['ETCD_INITIAL_ADVERTISE_PEER_URLS']}" in each["ETCD_INITIAL_CLUSTER"].split(
            ","
        )
        assert each["ETCD_LISTEN_PEER_URLS"] == each["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
        assert each["ETCD_ADVERTISE_CLIENT_URLS"] in each["ETCD_LISTEN_CLIENT_URLS"].split(",")


# Identity and guard


IDENTITY = {
    "fresh": (fresh(), {}),
    "cut short": (cut_short(), {}),
    "waits for its peers": (serving(identity={}, unit=UnitFact("activating", pid=700)), {}),
    "does not answer": (serving(identity={}, view=view(status=None)), {}),
    "knows of no leader": (serving(identity={}, view=view(status=status(leader=""))), {}),
    "has joined": (serving(identity={}), identity("etcd01")),
    "large ids in hexadecimal": (
        serving(identity={}, view=view(status=status(member_id=0xFEDCBA9876543210))),
        identity("etcd01") | {"member_id": "fedcba9876543210"},
    ),
    "once recorded it stays": (
        serving(identity=identity("etcd01") | {"member_id": "77"}),
        identity("etcd01") | {"member_id": "77"},
    ),
    "is down": (cut_short(identity=identity("etcd01")), identity("etcd01")),
}


@pytest.mark.parametrize(("facts", "known"), IDENTITY.values(), ids=IDENTITY.keys())
def test_identity(facts: HostFacts, known: dict[str, Any]) -> None:
    assert desired.identity(want(config(), facts)) == known


@pytest.mark.parametrize(("facts", "known"), IDENTITY.values(), ids=IDENTITY.keys())
def test_a_member_is_recorded_as_soon_as_it_has_an_identity(facts: HostFacts, known: dict[str, Any]) -> None:
    recorded = {each.path: each for each in desired.record(want(config(), facts)) if isinstance(each, File)}
    assert recorded.keys() == ({layout.IDENTITY} if known else set())
    if known:
        assert json.loads(recorded[layout.IDENTITY].content or b"") == known


def test_the_unit_starts_a_recorded_member_only_with_its_data() -> None:
    unit = files(want(config()))[layout.UNIT].decode()
    assert f"AssertPathExists=|{layout.WAL_DIR}\nAssertPathExists=|!{layout.IDENTITY}\n" in unit


def test_identity_tells_the_cluster_id() -> None:
    assert desired.identity(want(config(), serving(identity={})))["cluster_id"] == f"{CLUSTER_ID:x}"


def test_start_alone_takes_only_the_state_along() -> None:
    """An etcd.conf that says "new" for a cluster that exists is corrected; other changes wait for `configure`."""
    cluster = config()
    first = conf(want(cluster, prepared()))
    joined = serving(identity={}, conf=first)
    assert recorded_conf(want(cluster, joined)) == {**first, "ETCD_INITIAL_CLUSTER_STATE": "existing"}
    assert recorded_conf(want(config(settings={"log-level": "debug"}), joined)) == {}
    assert recorded_conf(want(cluster, serving(identity={}, conf={**first, "ETCD_LOG_LEVEL": "debug"}))) == {}
    assert recorded_conf(want(cluster, serving(identity={}, conf={}))) == {}
    assert recorded_conf(want(config(settings={"log-level": "debug"}), joined), "configure", "start")


def recorded_conf(want: Want, *steps: str) -> dict[str, str]:
    content = {each.path: each.content or b"" for each in desired.joined(want, steps) if isinstance(each, File)}
    return parse_conf(content.get(layout.CONF, b"").decode())


# Resources of each step


def test_install() -> None:
    assert desired.install(want(config())) == [
        Directory("/opt/etcd", 0o755),
        Release(VERSION),
        Link("/opt/etcd/current", VERSION),
        Link("/usr/local/bin/etcd", "/opt/etcd/current/etcd"),
        Link("/usr/local/bin/etcdctl", "/opt/etcd/current/etcdctl"),
        Link("/usr/local/bin/etcdutl", "/opt/etcd/current/etcdutl"),
    ]


def test_install_of_3_4_has_no_etcdutl() -> None:
    assert all("etcdutl" not in str(each) for each in desired.install(want(config("3.4.23"))))


def test_a_pinned_sum_is_wanted_on_the_host() -> None:
    pinned = config(release={"sha256": 64 * "a"})
    assert Release(VERSION, 64 * "a") in desired.install(want(pinned))


def test_distribute() -> None:
    assert desired.distribute(want(config())) == [
        User(),
        Directory("/etc/etcd", 0o755),
        Directory("/etc/etcd/ssl", 0o750, "root:etcd"),
        File("/etc/etcd/ssl/ca.pem", ca("client")),
        File("/etc/etcd/ssl/peer-ca.pem", ca("peer")),
        File("/etc/etcd/ssl/trust.env", TRUST),
        File("/etc/etcd/ssl/server.pem", b"server\nserver key\n", 0o600, ETCD),
        Link("/etc/etcd/ssl/server-key.pem", "server.pem"),
        File("/etc/etcd/ssl/client.pem", b"client\nclient key\n", 0o600, ETCD),
        Link("/etc/etcd/ssl/client-key.pem", "client.pem"),
        File("/etc/etcd/ssl/peer.pem", b"peer\npeer key\n", 0o600, ETCD),
        Link("/etc/etcd/ssl/peer-key.pem", "peer.pem"),
    ]


def test_distribute_before_the_certificates_exist() -> None:
    resources = desired.distribute(want(config(), pki=MemberPki(None, None, None, None)))
    assert [each.content for each in resources if isinstance(each, File)] == 6 * [None]


def test_distribute_of_a_plain_http_cluster() -> None:
    assert desired.distribute(want(config(tls=False))) == [User()]


def test_configure() -> None:
    (user, folder, state, conf_file, unit, reloaded) = desired.configure(want(config()))
    assert (user, folder, state) == (User(), Directory("/etc/etcd", 0o755), Directory("/var/lib/etcd", 0o700, ETCD))
    for each, where in ((conf_file, layout.CONF), (unit, layout.UNIT)):
        assert isinstance(each, File)
        assert (each.path, each.mode, each.owner) == (where, 0o644, ROOT)
    assert reloaded == Reloaded()


def test_start() -> None:
    assert desired.start(want(config())) == [Enabled()]


def test_deploy_wants_each_resource_once_and_the_account_first() -> None:
    resources = desired.resources(want(config()), tuple(desired.STEPS))
    assert len(resources) == len(set(resources))
    assert resources[0] == User()
    paths = [each.path for each in resources if isinstance(each, Directory | File | Link)]
    assert len(paths) == len(set(paths))
    # etcd.conf is checked against the etcd of the release, and nothing may be put where its folder is not yet
    order = {each: at for at, each in enumerate(resources)}
    assert order[Release(VERSION)] < next(at for each, at in order.items() if getattr(each, "path", "") == layout.CONF)
    folders = {each.path: at for at, each in enumerate(resources) if isinstance(each, Directory)}
    for each, at in order.items():
        if isinstance(each, File | Link):
            assert folders.get(str(Path(each.path).parent), -1) < at


@pytest.mark.parametrize("step", desired.STEPS)
def test_a_step_alone_wants_no_more_than_deploy(step: str) -> None:
    for facts in (fresh(), serving()):
        alone = desired.resources(want(config(), facts), (step,))
        assert set(alone) <= set(desired.resources(want(config(), facts), tuple(desired.STEPS)))


def test_keys_are_for_etcd_alone_and_nothing_is_writable_by_others() -> None:
    for each in desired.resources(want(config(), serving()), tuple(desired.STEPS)):
        if isinstance(each, File | Directory):
            assert each.mode & 0o022 == 0
        if isinstance(each, File) and b"key" in (each.content or b"") and each.path.startswith(layout.SSL_DIR):
            assert (each.mode, each.owner) == (0o600, ETCD)


# needs_restart


def started(config: Config, facts: HostFacts | None = None, **known: Any) -> HostFacts:
    """A member that runs with exactly what ``config`` asks for."""
    facts = facts or serving()
    return replace(facts, running={**conf(want(config, facts)), **parse_conf(TRUST.decode())}, **known)


def test_no_restart_when_it_runs_with_what_it_should() -> None:
    assert desired.needs_restart(want(config(), started(config()))) == ""


def test_no_restart_for_what_only_a_first_start_reads() -> None:
    first = started(config(), cut_short())
    assert first.running["ETCD_INITIAL_CLUSTER_STATE"] == "new"
    facts = serving(running={**first.running, "ETCD_INITIAL_CLUSTER_TOKEN": "an older one"})
    assert desired.needs_restart(want(config(), facts)) == ""


def test_no_restart_for_the_value_that_no_unquoting_may_touch() -> None:
    odd = config(settings={"odd": '"quoted" '})
    assert desired.needs_restart(want(odd, started(odd))) == ""


@pytest.mark.parametrize(
    ("asked", "known", "why"),
    [
        (config("3.6.17"), {}, "etcd 3.6.16 -> 3.6.17"),
        (config(), {"executable": "/usr/bin/etcd"}, "etcd of another source -> 3.6.16"),
        (config(), {"executable": "/opt/etcd/3.6.16/etcd (deleted)"}, "its program was replaced"),
        (config(settings={"log-level": "debug"}), {}, "log-level"),
        (
            config(settings={"log-level": "debug", "auto-compaction-retention": "1h"}),
            {},
            "auto-compaction-retention, log-level",
        ),
        (config(unit={"Service": {"Nice": 5}}), {}, "unit or CA changed"),
        (config(members=("etcd01", "etcd02", "etcd03", "etcd04")), {}, ""),
        (config(members=({"name": "etcd01", "address": "192.0.2.99"}, *NAMES[1:])), {}, "advertise-client-urls, "
         "listen-client-urls, listen-peer-urls"),
    ],
    ids=["patch release", "somebody else's etcd", "same release, binary replaced", "a setting", "two settings", "unit",
         "one more member", "another address"],
)  # fmt: skip
def test_restart(asked: Config, known: dict[str, Any], why: str) -> None:
    assert desired.needs_restart(want(asked, started(config(), **known))) == why


def test_a_setting_that_was_taken_out_needs_a_restart() -> None:
    facts = started(config(settings={"log-level": "debug"}))
    assert desired.needs_restart(want(config(), facts)) == "log-level"


@pytest.mark.parametrize(
    ("pki", "why"),
    [
        (replace(PKI, client_ca=ca("another")), "unit or CA changed"),
        (replace(PKI, peer_ca=ca("peer") + ca("another")), "unit or CA changed"),
        (replace(PKI, peer_ca=b"# since 2026\n" + ca("peer")), ""),
        (replace(PKI, server=Pair(b"renewed\n", b"new key\n"), peer=Pair(b"renewed\n", b"new key\n")), ""),
    ],
    ids=["client CA", "peer CA", "a comment beside the CA", "leaves, which etcd reads at each handshake"],
)
def test_restart_for_certificates(pki: MemberPki, why: str) -> None:
    assert desired.needs_restart(want(config(), started(config()), pki=pki)) == why


# A second run


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_a_host_as_it_should_be_has_nothing_to_do(tls: bool) -> None:
    """Everything a run puts in place is what the next run finds there."""
    cluster = config(tls=tls)
    wanted = desired.resources(want(cluster, serving()), tuple(desired.STEPS))
    assert diff(wanted, applied(wanted, serving())) == ()


def applied(resources: list[Resource], facts: HostFacts) -> HostFacts:
    """``facts`` after the changes, as files/apply.sh leaves the host."""
    paths = {}
    for each in resources:
        if isinstance(each, Directory):
            paths[each.path] = path("directory", each.mode, each.owner)
        elif isinstance(each, File):
            sha256 = hashlib.sha256(each.content or b"").hexdigest()
            paths[each.path] = path("file", each.mode, each.owner, sha256=sha256)
        elif isinstance(each, Link):
            paths[each.path] = path("link", 0o777, target=each.target)
    return replace(facts, paths=paths, releases={VERSION: "aa"}, unit=replace(facts.unit, enabled="enabled"))


# Quoting

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from("\"'\\$`#; =%{}")).filter(
    str.isprintable
)


@given(value=PRINTABLE)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_quoted_value_is_read_back(value: str) -> None:
    assert parse_conf(f'# head\nA={quoted(value)}\nB="x"\n') == {"A": value, "B": "x"}


@given(values=st.lists(PRINTABLE, min_size=1, max_size=30))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_quoted_value_is_read_back_by_a_shell(values: list[str]) -> None:
    lines = [f"X{at}={quoted(value)}\n" for at, value in enumerate(values)]
    shown = " ".join(f'"$X{at}"' for at in range(len(values)))
    script = "".join(lines) + f"printf '%s\\0' {shown}"
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True, timeout=60)
    assert (done.stdout.decode(), done.stderr) == ("".join(f"{value}\0" for value in values), b"")
