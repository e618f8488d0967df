"""A cluster that somebody else has set up: what cannot be adopted, what comes along, what is left, and the files."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from etcdops import configfile, layout
from etcdops.adoption import carried, fit, keys, proposal, text
from etcdops.adoption.found import Found, Host, Place, Process, agreed, parse_host, parse_member, unit_lines
from etcdops.adoption.proposal import Given
from etcdops.config import Member
from etcdops.errors import Refused, UsageError
from etcdops.etcd import View
from etcdops.facts import parse_conf
from etcdops.keystore import Keystore
from etcdops.pki import CA, LeafRequest
from etcdops.steps import adopt as steps_adopt
from tests.unit.build import NAMES, address, member, number, status, view

NOW = datetime.now(UTC)
VERSION = "3.5.30"
FILE = Path("/etcdops/config.yaml")
DATA = layout.DATA_DIR
SSL = "/etc/etcd/ssl"
TLS = {
    "cert-file": f"{SSL}/server.pem",
    "key-file": f"{SSL}/server-key.pem",
    "peer-cert-file": f"{SSL}/server.pem",
    "peer-key-file": f"{SSL}/server-key.pem",
    "trusted-ca-file": f"{SSL}/ca.pem",
    "peer-trusted-ca-file": f"{SSL}/ca.pem",
}
UNIT = """# /usr/lib/systemd/system/etcd.service
[Unit]
Description=Etcd Server
After=network.target
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
EnvironmentFile=/etc/etcd/etcd.conf
ExecStart=/usr/bin/etcd \\
        --cert-file=/etc/etcd/ssl/server.pem
Restart=on-failure
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
_CA = CA.create("etcd ca", "ecdsa-p256", timedelta(days=3650), NOW)
_PEER_CA = CA.create("other ca", "ecdsa-p256", timedelta(days=3650), NOW)
# The guide's: one for all, with the addresses of all, and without a name or loopback.
_LEAF = _CA.issue(LeafRequest("server", "etcd", tuple(map(address, NAMES))), "ecdsa-p256", timedelta(days=365), NOW)
FILES = {f"{SSL}/ca.pem": _CA.cert_pem, f"{SSL}/server.pem": _LEAF.cert_pem, f"{SSL}/server-key.pem": _LEAF.key_pem}
KEY = {"/root/ca-key.pem": _CA.key_pem or b""}


def guide(name: str, scheme: str = "https", **more: str | None) -> dict[str, str]:
    """The settings that the guide gives a member; ``more`` with underscores, None takes one away."""
    url = f"{scheme}://{address(name)}"
    usual = {
        "name": name,
        "data-dir": DATA,
        "listen-peer-urls": f"{url}:2380",
        "listen-client-urls": f"{url}:2379,{scheme}://127.0.0.1:2379",
        "initial-advertise-peer-urls": f"{url}:2380",
        "advertise-client-urls": f"{url}:2379",
        "initial-cluster": ",".join(f"{each}={scheme}://{address(each)}:2380" for each in NAMES),
        "initial-cluster-token": "etcd-cluster",
        "initial-cluster-state": "new",
        **(TLS if scheme == "https" else {}),
    }
    changed = {**usual, **{key.replace("_", "-"): value for key, value in more.items()}}
    return {key: value for key, value in changed.items() if value is not None}


def process(settings: dict[str, str], **known: Any) -> Process:
    """What runs with ``settings`` as flags."""
    usual = Process(
        pid=700,
        executable="/usr/bin/etcd",
        user="root",
        cwd="/",
        service="etcd.service",
        argv=("/usr/bin/etcd", *(f"--{key}={value}" for key, value in settings.items())),
        unit={"MainPID": "700", "FragmentPath": "/usr/lib/systemd/system/etcd.service", "DropInPaths": ""},
        unit_text=UNIT,
    )
    return replace(usual, **known)


def places(**known: Place) -> dict[str, Place]:
    return {DATA: Place(True, "8:1", "8"), f"{DATA}/member/wal": Place(False, "8:2", "8"), **known}


def found(name: str = "etcd01", *, scheme: str = "https", of: Any = (), **more: Any) -> Found:
    """A member as the guide builds it; ``of`` is what else is true of its process, ``more`` are settings."""
    known = {
        key: more.pop(key) for key in ("view", "files", "places", "links", "keys", "host", "etcdctl") if key in more
    }
    said = view(name, status=status(name, version=VERSION))
    if scheme == "http":
        plain = [
            replace(
                member(each), peer_urls=(f"http://{address(each)}:2380",), client_urls=(f"http://{address(each)}:2379",)
            )
            for each in NAMES
        ]
        said = replace(said, members=tuple(plain))
    usual = Found(
        host=address(name),
        process=process(guide(name, scheme, **more), **dict(of)),
        view=said,
        etcdctl="/usr/bin/etcdctl",
        files=FILES,
        places=places(),
    )
    return replace(usual, **known)


def three(*others: Found, **more: Any) -> list[Found]:
    """All members alike, but for ``others``."""
    named = {each.name: each for each in others}
    return [named.get(name) or found(name, **more) for name in NAMES]


def members(names: Sequence[str] = NAMES) -> list[Member]:
    return [Member(name=name, address=address(name)) for name in names]


def peer(url: str, name: str = "etcd01") -> View:
    """A view in which a member has another peer URL."""
    said = view(name, status=status(name, version=VERSION))
    return replace(
        said, members=tuple(member(each, **({"peer_urls": (url,)} if each == name else {})) for each in NAMES)
    )


# --- what cannot be ---

PROCESSES: dict[str, tuple[tuple[Process, ...], str, str]] = {
    "nothing runs": ((), "/usr/bin/etcdctl", "no etcd runs here"),
    "two run": (
        (process({}), process({}, pid=8, service="")), "e",
        "2 etcd run here: pid 700 (etcd.service), pid 8 (no service)",
    ),
    "in a container": ((process({}, service=""),), "e", "its etcd (pid 700) is run by no systemd service"),
    "a wrapper": (
        (process({}, unit={"MainPID": "699"}),), "e",
        "etcd (pid 700) is not the main process of etcd.service, but a child of it",
    ),
    "a path with a blank": ((process({"data-dir": "/my data"}),), "e", "'/my data': adopt takes no blanks"),
    "a URL that is a command": (
        (process(guide("etcd01", advertise_client_urls="http://a';reboot;':2379")),), "e",
        "\"http://a';reboot;':2379\": adopt takes no blanks",
    ),
    "an etcdctl that is a command": ((process({}),), "/opt/a';reboot;'/etcdctl", "\"/opt/a';reboot;'/etcdctl\": adopt"),
    "no etcdctl": ((process({"data-dir": "/d"}),), "", "there is no etcdctl"),
    "a file that is gone": (
        (process({"config-file": "/c"}, config=""),), "e",
        "its configuration file cannot be read: it is empty, or gone",
    ),
    "the guide's": ((process(guide("etcd01")),), "/usr/bin/etcdctl", ""),
}  # fmt: skip


@pytest.mark.parametrize(("processes", "etcdctl", "line"), PROCESSES.values(), ids=PROCESSES.keys())
def test_process(processes: tuple[Process, ...], etcdctl: str, line: str) -> None:
    said = [each.message for each in fit.process(Host("h", processes, etcdctl))]
    assert len(said) == bool(line), said
    assert not line or said[0].startswith(line), said


def test_addresses() -> None:
    urls = ["https://[2001:db8::11]:2380", "https://one.example:2380", "http://192.0.2.11:2380"]
    assert list(fit.addresses(urls)) == ["2001:db8::11", "192.0.2.11"]


OTHER = Place(True, "9:1", "9")
ELSEWHERE = {"/data/etcd": Place(True, "8:7", "8"), "/data/etcd/member/wal": Place(False, "8:8", "8")}
STRANGER = _PEER_CA.issue(LeafRequest("server", "x", (address("etcd01"),)), "ecdsa-p256", timedelta(days=9), NOW)

MEMBERS: dict[str, tuple[Found, str]] = {
    "the guide's": (found(), ""),
    "plain http": (found(scheme="http"), ""),
    "not healthy": (found(view=View(healthy=False, complaint="no leader")), "is not healthy: no leader"),
    "silent": (found(view=View()), "is not healthy: it does not tell its status and members"),
    "too old": (found(view=view(status=status(version="3.3.10"))), "runs etcd 3.3.10"),
    "force-new-cluster": (found(force_new_cluster="true"), "was started with force-new-cluster"),
    "names of peers": (found(peer_cert_allowed_cn="etcd"), "peer-cert-allowed-cn is set"),
    "another peer port": (found(view=peer("https://192.0.2.11:7001")), "its peer URL is https://192.0.2.11:7001"),
    "a host name": (found(view=peer("https://one.example:2380")), "its peer URL is https://one.example:2380"),
    "IPv6": (found(view=peer("https://[2001:db8::11]:2380")), ""),
    "http among peers": (found(view=peer("http://192.0.2.11:2380")), "peers speak http, clients https"),
    "another client port": (
        found(advertise_client_urls="https://192.0.2.11:4001"), "serves clients on port 4001; here that is always 2379",
    ),
    "no client certificates": (found(trusted_ca_file=None), "lets clients in without a certificate"),
    "no peer certificates": (found(peer_trusted_ca_file=None), "lets peers in without a certificate"),
    "auto-tls": (found(auto_tls="true"), "auto-tls: its certificates are of no CA"),
    "peer-auto-tls": (found(peer_auto_tls="true"), "peer-auto-tls: its certificates are of no CA"),
    "a lost key": (
        found(files={k: v for k, v in FILES.items() if "key" not in k} | {"/p": _LEAF.key_pem}, peer_key_file="/p"),
        f"{SSL}/server-key.pem (key-file) is not there",
    ),
    "another CA": (
        found(files={**FILES, "/x": STRANGER.cert_pem, "/y": STRANGER.key_pem}, cert_file="/x", key_file="/y"),
        f"/x was not signed by the CA in {SSL}/ca.pem",
    ),
    "no CA": (found(files={**FILES, "/x": b"x"}, trusted_ca_file="/x"), "/x is not a PEM certificate"),
    "no data": (found(places=places(**{DATA: Place(False, "8:1", "8")})), f"{DATA} holds no member's data"),
    "its log elsewhere": (
        found(wal_dir="/wal", places=places(**{"/wal": Place(False, "8:9", "8")})),
        "its write-ahead log is in /wal, not in the data directory",
    ),
    "its log named": (found(wal_dir=f"{DATA}/member/wal"), ""),
    "its log mounted": (found(wal_dir="/wal", places=places(**{"/wal": Place(False, "8:2", "8")})), ""),
    "data elsewhere": (
        found(data_dir="/data/etcd", places=places(**ELSEWHERE, **{DATA: Place(False, "8:0", "8")})), "",
    ),
    "data on another disk": (
        found(data_dir="/data/etcd", places={**ELSEWHERE, "/data/etcd": OTHER, DATA: Place(False, "8:0", "8")}),
        f"its data is in /data/etcd, which is another file system than that of {DATA}",
    ),
    "data mounted": (found(data_dir="/data/etcd", places={**ELSEWHERE, "/data/etcd": OTHER, DATA: OTHER}), ""),
    "data behind a symlink": (found(links={DATA: "/srv/etcd"}), f"{DATA} is a symlink to /srv/etcd"),
    "its log behind a symlink": (
        found(links={f"{DATA}/member/wal": "/wal"}), f"{DATA}/member/wal is a symlink to /wal",
    ),
    "data elsewhere, its name a symlink": (
        found(
            data_dir="/data/etcd", links={"/data/etcd": "/d"},
            places=places(**ELSEWHERE, **{DATA: Place(False, "8:0", "8")}),
        ), "",
    ),
    "data in both": (
        found(data_dir="/data/etcd", places=places(**ELSEWHERE)), f"runs with /data/etcd, and {DATA} holds data, too",
    ),
    "a vendor's drop-in": (
        found(of={"unit": {"MainPID": "700", "DropInPaths": "/usr/lib/systemd/system/etcd.service.d/a.conf"}}),
        "/usr/lib/systemd/system/etcd.service.d/a.conf would hold for the unit",
    ),
    "a drop-in for all services": (
        found(of={"unit": {"MainPID": "700", "DropInPaths": "/usr/lib/systemd/system/service.d/a.conf"}}), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("each", "line"), MEMBERS.values(), ids=MEMBERS.keys())
def test_member(each: Found, line: str) -> None:
    said = [finding.message for finding in fit.member(each)]
    assert len(said) == bool(line), said
    assert not line or said[0].startswith(line), said
    assert all(finding.hint for finding in fit.member(each))


@pytest.mark.parametrize("link", ["", "/member", "/member/wal", "/member/snap"])
def test_a_symlink_is_told_and_is_not_taken_over(tmp_path: Path, link: str) -> None:
    data, real = tmp_path / "data", tmp_path / "real"
    data.mkdir()
    for each in ("wal", "snap"):
        (data / "member" / each).mkdir(parents=True)

    def sh(body: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["/bin/sh", "-c", body, "sh", *words], input="\n\n", capture_output=True, text=True)

    reachable = f"{layout.script('takeover')}\ndata=$1 new=$1 reachable"
    assert sh(reachable, str(data)).returncode == 0
    path = Path(f"{data}{link}")
    path.rename(real)
    path.symlink_to(real)
    told = sh(layout.script("prelude", "adopt"), str(data), "--").stdout
    assert parse_member(Host("h", (), "e"), process({}), told).links == {str(path): str(real)}
    refused = sh(reachable, str(data))
    assert (refused.returncode, refused.stderr) == (1, f"{path} is a symlink\n")


def listed(**known: Any) -> View:
    """What etcd01 says when etcd03 is otherwise."""
    return view(
        status=status(version=VERSION),
        members=tuple(replace(member(n), **(known if n == "etcd03" else {})) for n in NAMES),
    )


CLUSTERS: dict[str, tuple[list[Found], list[str]]] = {
    "the guide's": (three(), []),
    "two clusters": (
        three(found("etcd03", view=view("etcd03", status=status("etcd03", cluster_id=5, version=VERSION)))),
        ["they are in different clusters"],
    ),
    "one that was not looked at": (three()[:2], ["is a member, and its host was not looked at"]),
    "a learner": (
        [found("etcd01", view=listed(learner=True))], ["is a member, and its host", "is a learner"],
    ),
    "one that never started": (
        [found("etcd01", view=listed(client_urls=()))],
        ["is a member, and its", "member 3 at https://192.0.2.13:2380 has"],
    ),
    "two lists": (three(found("etcd01", view=listed(name="x"))), ["the members do not agree who is a member"]),
    "two releases": (
        three(found("etcd03", view=view("etcd03", status=status("etcd03", version="3.5.29")))),
        ["they run different releases (etcd01: 3.5.30, etcd02: 3.5.30, etcd03: 3.5.29)"],
    ),
    "two CAs": (
        three(found("etcd03", files={**FILES, f"{SSL}/ca.pem": _PEER_CA.cert_pem})),
        ["they do not trust the same CA (trusted-ca-file)", "they do not trust the same CA (peer-trusted-ca-file)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("all_", "lines"), CLUSTERS.values(), ids=CLUSTERS.keys())
def test_cluster(all_: list[Found], lines: list[str]) -> None:
    said = [each.message for each in fit.cluster(all_)]
    assert len(said) == len(lines), said
    assert all(any(each.startswith(line) for each in said) for line in lines), said


# --- what comes along, and what does not ---

SETTINGS: dict[str, tuple[list[Found], dict[str, str], list[str]]] = {
    "the guide's": (three(), {}, []),
    "what is known": (
        three(quota_backend_bytes="4294967296", heartbeat_interval="200"),
        {"quota-backend-bytes": "4294967296", "heartbeat-interval": "200"}, [],
    ),
    "what is not": (
        three(experimental_peer_magic="1"), {}, ["experimental-peer-magic 1: etcd 3.5.30 has no such setting"],
    ),
    "variables that etcd does not know": (
        three(found("etcd02", of={"environ": {"ETCD_FANCY": "1"}})), {}, ["fancy: etcd does not know it"],
    ),
    "a log file": (
        three(log_outputs="/var/log/etcd.log"), {},
        ["log-outputs /var/log/etcd.log: a file, and ours may write nowhere but to its data; it logs to the journal"],
    ),
    "the journal": (three(log_outputs="systemd/journal"), {"log-outputs": "systemd/journal"}, []),
    "no fsync": (
        three(unsafe_no_fsync="true"), {}, ["unsafe-no-fsync true: a power cut would cost acknowledged writes"],
    ),
    "discovery": (three(discovery="https://d"), {}, ["discovery https://d: counts at a member's first start only"]),
    "one that differs": (
        three(found("etcd02", log_level="debug"), log_level="warn"), {"log-level": "warn"},
        ["log-level debug: most members have warn, and config.yaml has one for all"],
    ),
    "one that most have": (
        three(found("etcd02"), log_level="warn"), {"log-level": "warn"},
        ["log-level warn: is new to it: most members have it"],
    ),
    "one that one has": (
        three(found("etcd02", log_level="warn")), {},
        ["log-level warn: most members have none, and config.yaml has one for all"],
    ),
    "a list of revoked ones": (
        three(client_crl_file="/crl"), {"client-crl-file": "/crl"},
        ["client-crl-file /crl: comes along; the file must be readable by user etcd"],
    ),
    "a certificate for calls": (
        three(peer_client_cert_file="/c"), {},
        ["peer-client-cert-file /c: the certificate of the port serves for calls, too"],
    ),
    "all addresses": (
        three(found("etcd02", listen_client_urls="https://0.0.0.0:2379")), {},
        ["listen-client-urls https://0.0.0.0:2379: it will listen on https://192.0.2.12:2379 and "
         "https://127.0.0.1:2379 only"],
    ),
    "plain http on loopback": (
        three(found("etcd02", listen_client_urls="https://192.0.2.12:2379,http://127.0.0.1:2379")), {},
        ["listen-client-urls http://127.0.0.1:2379: it will listen on https://192.0.2.12:2379 and "
         "https://127.0.0.1:2379 only"],
    ),
    "a hook of the unit": (
        three(of={"unit_text": UNIT.replace("Type=", "ExecStartPre=/bin/x\nType=")}), {},
        ["ExecStartPre=/bin/x of its unit: not in ours; cluster.unit takes it if it is to stay"],
    ),
    "a variable of another": (
        three(of={"others": ("PATH", "HTTPS_PROXY")}), {},
        ["variable HTTPS_PROXY: not in our unit; cluster.unit.Service.Environment takes it if it is to stay"],
    ),
}  # fmt: skip


def usual(line: str) -> bool:
    """What deploy adds to any cluster; the last test looks at it."""
    return "set by deploy" in line or "older history" in line


@pytest.mark.parametrize(("all_", "settings", "left"), SETTINGS.values(), ids=SETTINGS.keys())
def test_nothing_is_silent(all_: list[Found], settings: dict[str, str], left: list[str]) -> None:
    assert carried.settings(all_) == settings
    assert [str(each) for each in carried.left(all_) if not usual(str(each))] == left


def test_what_deploy_adds_is_said() -> None:
    added, compaction = (str(each) for each in carried.left(three()))
    assert "snapshot-count 10000" in added
    assert compaction.startswith("auto-compaction-retention 10h: older history of keys is dropped")
    (added,) = (str(each) for each in carried.left(three(auto_compaction_retention="1h")))
    assert "auto-compaction-retention" not in added


def test_limits_of_all_units_come_along() -> None:
    limits = UNIT.replace("Type=", "MemoryMax=4G\nNice=-5\nType=")
    assert carried.unit(three(of={"unit_text": limits})) == {"MemoryMax": ["4G"], "Nice": ["-5"]}
    some = three(found("etcd02"), of={"unit_text": limits})
    assert carried.unit(some) == {}
    assert "MemoryMax=4G of its unit" in {each.what for each in carried.left(some)}


def test_unit_lines() -> None:
    lines = list(unit_lines(UNIT))
    assert ("Service", "ExecStart", "/usr/bin/etcd  --cert-file=/etc/etcd/ssl/server.pem") in lines
    assert ("Install", "WantedBy", "multi-user.target") in lines


def test_agreed() -> None:
    assert agreed(three(found("etcd02", log_level="debug")), "log-level") == ("", ["etcd02"])


# --- the files ---


def described(all_: list[Found], old: str = "", **known: Any) -> str:
    return proposal.describe(Given(FILE, old, **known), all_, members())[0]


NEW = """# Written by `inv adopt` from the cluster that runs on these hosts. Every key: docs/config.md
cluster:
  name: etcd-cluster
  version: 3.5.30
  tls: true
members:
  - {name: etcd01, address: 192.0.2.11}
  - {name: etcd02, address: 192.0.2.12}
  - {name: etcd03, address: 192.0.2.13}
"""


def test_a_new_file() -> None:
    assert described(three()) == NEW
    assert described(three(), ssh={"user": "ops"}) == f"{NEW}ssh:\n  user: ops\n"
    assert "name: prod\n" in described(three(), name="prod")
    assert "tls: false" in described(three(scheme="http"))


def test_settings_and_limits_stand_in_it() -> None:
    limits = UNIT.replace("Type=", "MemoryMax=4G\nCPUAffinity=0\nCPUAffinity=1\nType=")
    new = described(three(log_level="warn", cors="*", of={"unit_text": limits}))
    config = configfile.parse(new, FILE)
    assert config.cluster.settings == {"log-level": "warn", "cors": "*"}
    assert config.cluster.unit == {"Service": {"MemoryMax": "4G", "CPUAffinity": ["0", "1"]}}


def test_a_file_with_other_sections_is_kept() -> None:
    old = "# mine\nssh:  # how\n  user: ops\n# where\nbackup: {dir: b}\n"
    assert described(three(), old) == NEW.partition("\n")[2] + old


def test_a_file_that_says_it_already_stays_to_the_byte() -> None:
    old = NEW.replace("  tls: true\n", "  tls: true # yes\n  settings: {log-level: debug}\n") + "ssh: {user: ops}\n"
    assert described(three(), old) == old


def test_a_section_that_says_otherwise_is_corrected_and_no_other() -> None:
    old = (
        "# mine\ncluster: {name: prod, version: 3.6.14, settings: {log-level: debug}}\n\n# all\n"
        + NEW[NEW.index("members") :]
    )
    new = described(three(heartbeat_interval="200"), old)
    config = configfile.parse(new, FILE)
    assert (config.cluster.name, config.cluster.version) == ("prod", VERSION)
    assert config.cluster.settings == {"log-level": "debug", "heartbeat-interval": "200"}
    assert new.startswith("# mine\ncluster:\n")
    assert new.endswith("\n\n# all\n" + NEW[NEW.index("members") :])


def test_names_are_those_of_the_cluster() -> None:
    old = NEW.replace("etcd02", "other")
    assert described(three(), old) == NEW


def test_what_cannot_be_described_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        proposal.describe(
            Given(FILE, ""), three(), [Member.model_construct(name="default", address="::1", ssh="", port=0)]
        )
    said = [each.message for each in caught.value.findings]
    assert len(said) == 2
    assert all(each.startswith("what runs cannot be described: members[0].") for each in said)


@pytest.mark.parametrize(
    "value", ["a", "a b", "1", "true", "no", "0x1", "3.5.30", "1.5", "a: b", "#x", "*", "", '"', "~"]
)
def test_scalar(value: str) -> None:
    old = NEW.replace("ssh", "") + f"ssh: {{key: {text.scalar(value)}}}\n"
    assert configfile.parse(old, FILE).ssh.key == value


def test_a_file_that_cannot_be_taken_apart() -> None:
    with pytest.raises(UsageError, match="does not take apart"):
        described(three(), '{"ssh": {"user": "ops"}}')
    whole = json.dumps(YAML(typ="safe").load(NEW))
    assert described(three(), whole) == whole


def test_the_record() -> None:
    config = configfile.parse(NEW, FILE)
    found_ = parse_conf(proposal.record(config, found("etcd02")).decode())
    assert found_ == {
        "CLUSTER": "etcd-cluster",
        "TOKEN": "etcd-cluster",
        "CLUSTER_ID": "c1",
        "NAME": "etcd02",
        "MEMBER_ID": f"{number('etcd02'):x}",
        "VERSION": VERSION,
        "UNIT": "etcd.service",
        "USER": "root",
        "DATA_DIR": DATA,
        "TRUSTED_CA": f"{SSL}/ca.pem",
        "PEER_TRUSTED_CA": f"{SSL}/ca.pem",
        "ENDPOINT": "https://192.0.2.12:2379",
        "SECURE": f"--cacert={SSL}/ca.pem --cert={SSL}/server.pem --key={SSL}/server-key.pem",
        "BIN_DIR": "/usr/bin",
    }
    plain = parse_conf(proposal.record(config, found("etcd02", scheme="http")).decode())
    assert plain["ENDPOINT"] == "http://192.0.2.12:2379"
    assert "SECURE" not in plain


# --- the keys ---


def test_the_ca_s_key_is_found_and_no_certificate_is_taken() -> None:
    made = keys.gather(three(found("etcd03", keys=KEY | {"/other": _PEER_CA.key_pem or b""})), {}, NOW)
    assert set(made.files) == {"ca.pem", "ca-key.pem"}
    assert [(each.stem, each.key_at) for each in made.authorities] == [("ca", "etcd03:/root/ca-key.pem")]
    assert made.findings == ()


def test_the_key_may_stand_in_pki_dir() -> None:
    made = keys.gather(three(), {"ca-key.pem": _CA.key_pem or b""}, NOW)
    assert [each.key_at for each in made.authorities] == ["pki.dir:ca-key.pem"]
    assert "members/etcd01/server.pem" not in made.files


def test_without_the_key_certificates_stay_and_deploy_keeps_them(tmp_path: Path) -> None:
    made = keys.gather(three(), {}, NOW)
    pairs = {f"members/{name}/{role}.pem" for name in NAMES for role in ("server", "peer")}
    assert set(made.leaves) == pairs
    assert min(made.leaves.values()) - NOW > timedelta(days=364)
    for name, data in made.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    items = Keystore(tmp_path, configfile.parse(NEW, FILE).pki).plan_leaves(members(), NOW)
    assert {item.action for item in items} == {"keep"}
    pki = Keystore(tmp_path, configfile.parse(NEW, FILE).pki).member_files(members()[0], NOW)
    assert pki.peer == pki.server == _LEAF


def test_two_cas_stay_two() -> None:
    peer_leaf = _PEER_CA.issue(
        LeafRequest("peer", "p", tuple(map(address, NAMES))), "ecdsa-p256", timedelta(days=9), NOW
    )
    files = {**FILES, "/ca2": _PEER_CA.cert_pem, "/p": peer_leaf.cert_pem, "/k": peer_leaf.key_pem}
    own = {"peer_trusted_ca_file": "/ca2", "peer_cert_file": "/p", "peer_key_file": "/k", "files": files}
    made = keys.gather(three(found("etcd01", keys=KEY, **own), **own), {}, NOW)
    assert {"ca.pem", "ca-key.pem", "peer-ca.pem", "members/etcd01/peer.pem"} <= set(made.files)
    assert not {"peer-ca-key.pem", "members/etcd01/server.pem", "client.pem"} & set(made.files)


def test_a_certificate_that_cannot_stay() -> None:
    short = _CA.issue(LeafRequest("server", "x", (address("etcd01"),)), "ecdsa-p256", timedelta(days=9), NOW)
    files = {**FILES, f"{SSL}/server.pem": short.cert_pem, f"{SSL}/server-key.pem": short.key_pem}
    said = [f"{each.host}: {each.message}" for each in keys.gather(three(files=files), {}, NOW).findings]
    assert len(said) == 4
    assert said[0].startswith("etcd02: its server certificate cannot stay (it does not cover 192.0.2.12)")


@pytest.mark.parametrize("name", ["ca.pem", "peer-ca.pem"])
def test_another_cluster_s_folder_is_refused(name: str) -> None:
    made = keys.gather(three(found("etcd01", keys=KEY)), {name: _PEER_CA.cert_pem}, NOW)
    assert [each.message for each in made.findings] == [f"{name} in pki.dir is not this cluster's"]


# --- what the scripts tell ---


def b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def test_parse() -> None:
    rows = [
        "process\t7\t/usr/bin/etcd\troot\t/\tetcd.service",
        f"argv\t7\t{b64(chr(0).join(['/usr/bin/etcd', '--name', 'a', '']))}",
        f"environ\t7\t{b64('PATH' + chr(10) + 'ETCD_DATA_DIR=/d e=f' + chr(10))}",
        "unit\t7\tMainPID\t7",
        f"text\t7\t{b64(UNIT)}",
        "etcdctl\t/usr/bin/etcdctl",
        f"key\t/root/ca-key.pem\t{b64('k')}",
        "",
    ]
    host = parse_host("h", "\n".join(rows))
    (one,) = host.processes
    assert (one.pid, one.service, one.unit["MainPID"], one.unit_text) == (7, "etcd.service", "7", UNIT)
    assert one.told().settings == {"name": "a", "data-dir": "/d e=f"}
    assert (one.others, one.config, host.keys) == (("PATH",), None, {"/root/ca-key.pem": b"k"})
    said = parse_member(host, one, f"data\t/d\tmember\t8:1\nmember\t/d\t9\nfile\t/f\t{b64('x')}\n")
    assert said.places == {"/d": Place(True, "8:1", "9")}
    assert said.files == {"/f": b"x"}
    assert said.name == "h"


def test_the_file_as_it_was_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    run = cast(Any, SimpleNamespace(ui=SimpleNamespace(step=lambda line: None, line=lambda line: None)))
    path.write_text("mine")
    for new in ("first", "second"):
        config = SimpleNamespace(resolve=Path, pki=SimpleNamespace(dir="pki"))
        changes = cast(Any, SimpleNamespace(config=config, files={}, records={}, text=new))
        steps_adopt._write(run, Given(path, path.read_text(), ""), changes)
        assert path.read_text() == new
        assert (tmp_path / "config.yaml.before-adopt").read_text() == "mine"
