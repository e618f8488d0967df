"""config.yaml as people write it: what is accepted, and every mistake with line, key and what to do."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdops.config import Config
from etcdops.configfile import ConfigError, load, parse
from etcdops.errors import UsageError

FLAG = "write the flag's name, as in heartbeat-interval"
TRAILING = "a '\\' at the end would make systemd take the next line for a part of this one"
INTERVAL = "write a time from 15m that divides a day, such as 6h, or 1d or 7d"
FOLDER = "write an absolute path of letters, digits, '.', '_' and '-', such as /var/backups/etcd"
OWN_FOLDER = "etcd's own folders are no place for backups"
BUCKET = "write the name of a bucket: 3 to 63 letters, digits, '.', '-' and '_'"
LIFETIME = "write hours or days, such as 8760h or 365d"
ONE_HOST = "leave out the '%' and what follows; it means something on one host only"
PATH = Path("config.yaml")
CLUSTER = "cluster: {name: c, version: 3.6.14}\n"
MEMBERS = "members: [{name: a, address: 192.0.2.1}]\n"
GOOD = CLUSTER + MEMBERS
MAPPING = "must be a mapping, as in 'key: value'"
INVISIBLE = "line breaks, control characters and other invisible ones cannot stand here"
SCALAR = "write text, a number, true or false; text with '{' or '[' in it needs single quotes around it"
NO_ADDRESS = (
    "is not an IP address, and etcd listens on IP addresses only; put the address here and a host name, "
    "if that is how you reach it, under 'ssh'"
)


def mistakes(text: str) -> list[str]:
    """What is said of ``text``, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH)
    return [line.removeprefix("config.yaml:") for line in str(caught.value).splitlines()]


def cluster(line: str) -> str:
    """A file with ``line`` in its section `cluster`, as line 4."""
    return f"cluster:\n  name: c\n  version: 3.6.14\n  {line}\n{MEMBERS}"


def members(*lines: str) -> str:
    """A file with these members, the first in line 3."""
    return f"{CLUSTER}members:\n" + "".join(f"- {line}\n" for line in lines)


def section(line: str) -> str:
    """A file with ``line`` at its end, as line 3."""
    return f"{GOOD}{line}\n"


MISTAKES = {
    # the file as a whole
    "empty": ("", ["1: a mapping with 'cluster' and 'members' must stand here"]),
    "only a comment": ("# nothing\n", ["1: a mapping with 'cluster' and 'members' must stand here"]),
    "a list": ("- a\n- b\n", ["1: a mapping with 'cluster' and 'members' must stand here"]),
    "one word": ("etcd\n", ["1: a mapping with 'cluster' and 'members' must stand here"]),
    "an empty mapping": ("{}", ["1: cluster: is missing", "1: members: is missing"]),
    "no members": (CLUSTER, ["1: members: is missing"]),
    # not YAML
    "open bracket": (GOOD + "ssh: [\n", ["4: not valid YAML: expected the node content, but found '<stream end>'"]),
    "tab": ("cluster:\n\tname: c\n", ["2: not valid YAML: found character '\\t' that cannot start any token"]),
    "indentation": (
        "cluster:\n  name: c\n version: 3.6.14\n",
        ["3: not valid YAML: expected <block end>, but found '<block mapping start>'"],
    ),
    "raw control character": (
        section("pki: {dir: 'a\x01'}"),
        ["3: not valid YAML: unacceptable character #x0001: special characters are not allowed"],
    ),
    "unknown alias": (section("ssh: *nobody"), ["3: not valid YAML: found undefined alias 'nobody'"]),
    "two documents": (GOOD + "---\na: b\n", ["3: not valid YAML: but found another document"]),
    "wrong tag": (section("x: !!int y"), ["3: not valid YAML: invalid literal for int() with base 10: 'y'"]),
    "too deep": (section("x: " + 500 * "["), ["1: not valid YAML: nested too deeply"]),
    # keys
    "unknown key, near": (section("clutser: 1"), ["3: clutser: unknown key; did you mean 'cluster'?"]),
    "unknown key, far": (
        section("etcd: 1"),
        ["3: etcd: unknown key; known: cluster, members, ssh, release, pki, auth, backup"],
    ),
    "unknown key of a section": (cluster("tsl: true"), ["4: cluster.tsl: unknown key; did you mean 'tls'?"]),
    "unknown key of a member": (
        members("{name: a, address: 192.0.2.1, ip: 192.0.2.1}"),
        ["3: members[0].ip: unknown key; known: name, address, ssh, port"],
    ),
    "our own word for the file": (
        section("path: /etc/passwd"),
        ["3: path: unknown key; did you mean 'auth'?"],
    ),
    "duplicate key": (cluster("name: d"), ["4: name: stands here twice, first in line 2"]),
    "duplicate section": (
        GOOD + CLUSTER + "pki: {dir: a, dir: b}\n",
        ["3: cluster: stands here twice, first in line 1", "4: dir: stands here twice, first in line 4"],
    ),
    "a number as key": (section("ssh: {3: x}"), ["3: 3: a key must be text; put it in quotes"]),
    "true as key": (section("true: x"), ["3: true: a key must be text; put it in quotes"]),
    "a list as key": (section("? [a]\n: x"), ["3: a key must be text; put it in quotes"]),
    "invisible key": (
        section('"a\\nb": 1'),
        [
            "3: 'a\\nb': unknown key; known: cluster, members, ssh, release, pki, auth, backup",
        ],
    ),
    # kinds of value
    "cluster is a list": ("cluster: [a]\n" + MEMBERS, [f"1: cluster: {MAPPING}"]),
    "cluster is empty": ("cluster:\n" + MEMBERS, ["1: cluster: is empty: give it a value, or leave it out"]),
    "members is a mapping": (
        CLUSTER + "members: {a: 192.0.2.1}\n",
        ["2: members: must be a list, with a '-' before each item"],
    ),
    "no member": (CLUSTER + "members: []\n", ["2: members: at least one member is needed"]),
    "a member is text": (members("etcd01"), [f"3: members[0]: {MAPPING}, not 'etcd01'"]),
    "a member lacks all": (members("{}"), ["3: members[0].address: is missing", "3: members[0].name: is missing"]),
    "section without content": (section("ssh:"), ["3: ssh: is empty: give it a value, or leave it out"]),
    "section is text": (section("ssh: root"), [f"3: ssh: {MAPPING}, not 'root'"]),
    "yes is not true": (cluster("tls: yes"), ["4: cluster.tls: must be true or false, not 'yes'"]),
    "text for a number": (section("ssh: {port: '22'}"), ["3: ssh.port: must be a whole number, not '22'"]),
    "fraction for a number": (section("ssh: {port: 22.0}"), ["3: ssh.port: must be a whole number, not 22.0"]),
    "true for a number": (section("ssh: {port: true}"), ["3: ssh.port: must be a whole number, not true"]),
    "number for text": (section("pki: {dir: 12}"), ["3: pki.dir: must be text, not 12; put it in quotes"]),
    "list for text": (section("pki: {dir: [a]}"), ["3: pki.dir: must be text"]),
    "empty text": (section("backup: {dir: ''}"), ["3: backup.dir: must not be empty"]),
    # cluster
    "name": (
        "cluster: {name: my cluster, version: 3.6.14}\n" + MEMBERS,
        ["1: cluster.name: use letters, digits, '.', '_' and '-', at most 63, with a letter or digit at both ends"],
    ),
    "settings as a list": (cluster("settings: [a]"), [f"4: cluster.settings: {MAPPING}"]),
    "setting without value": (
        cluster("settings: {heartbeat-interval: }"),
        [
            f"4: cluster.settings.heartbeat-interval: {SCALAR}",
        ],
    ),
    "setting is a mapping": (
        cluster('settings: {log-rotation-config-json: {"maxsize": 100}}'),
        [f"4: cluster.settings.log-rotation-config-json: {SCALAR}"],
    ),
    "setting with a line break": (
        cluster('settings: {log-level: "a\\nb"}'),
        [f"4: cluster.settings.log-level: {INVISIBLE}"],
    ),
    "setting, not as a flag": (
        cluster("settings: {ETCD_LOG_LEVEL: debug, log_level: debug}"),
        [
            f"4: cluster.settings.ETCD_LOG_LEVEL: {FLAG}",
            f"4: cluster.settings.log_level: {FLAG}",
        ],
    ),
    "unit: unknown section": (
        cluster("unit: {Socket: {Backlog: 1}}"),
        ["4: cluster.unit.Socket: a service has the sections Unit, Service, Install"],
    ),
    "unit: section in small letters": (
        cluster("unit: {service: {MemoryMax: 1G}}"),
        ["4: cluster.unit.service: a service has the sections Unit, Service, Install"],
    ),
    "unit: key with a line of its own": (
        cluster('unit: {Service: {"MemoryMax=1\\nExecStart": x}}'),
        ["4: cluster.unit.Service.'MemoryMax=1\\nExecStart': write the name of a unit's setting, such as MemoryMax"],
    ),
    "unit: key with a dash": (
        cluster("unit: {Service: {Memory-Max: 1G}}"),
        ["4: cluster.unit.Service.Memory-Max: write the name of a unit's setting, such as MemoryMax"],
    ),
    "unit: backslash at the end": (
        cluster("unit: {Service: {Nice: '5\\'}, Unit: {After: [a.target, 'b\\']}}"),
        [
            f"4: cluster.unit.Service.Nice: {TRAILING}",
            f"4: cluster.unit.Unit.After: {TRAILING}",
        ],
    ),
    "unit: line break": (
        cluster('unit: {Service: {Nice: "5\\nUser=root"}}'),
        [
            f"4: cluster.unit.Service.Nice: {INVISIBLE}",
        ],
    ),
    "unit: a mapping as value": (
        cluster("unit: {Service: {Nice: {a: b}}}"),
        [f"4: cluster.unit.Service.Nice: {SCALAR}"],
    ),
    "unit: section is a list": (cluster("unit: {Service: [Nice=5]}"), [f"4: cluster.unit.Service: {MAPPING}"]),
    "unit: etcd's own settings": (
        cluster("unit: {Service: {Environment: [GOGC=50, ETCD_LOG_LEVEL=debug]}}"),
        ["4: cluster.unit.Service.Environment: what is meant for etcd goes under cluster.settings"],
    ),
    # members
    "same name": (
        members("{name: a, address: 192.0.2.1}", "{name: a, address: 192.0.2.2}"),
        ["4: members[1].name: 'a' is also members[0].name"],
    ),
    "same address": (
        members("{name: a, address: 192.0.2.1}", "{name: b, address: 192.0.2.2}", "{name: d, address: 192.0.2.1}"),
        ["5: members[2].address: '192.0.2.1' is also members[0].address"],
    ),
    "same IPv6 address, spelt otherwise": (
        members("{name: a, address: '2001:db8::1'}", "{name: b, address: '2001:0DB8:0:0::1'}"),
        ["4: members[1].address: '2001:0DB8:0:0::1' is also members[0].address"],
    ),
    "same host name twice": (
        members("{name: a, address: Host}", "{name: b, address: host}"),
        [
            f"3: members[0].address: 'Host' {NO_ADDRESS}",
            "4: members[1].address: 'host' is also members[0].address",
            f"4: members[1].address: 'host' {NO_ADDRESS}",
        ],
    ),
    "host name as address": (
        members("{name: a, address: etcd01.example}"),
        [f"3: members[0].address: 'etcd01.example' {NO_ADDRESS}"],
    ),
    "two host names": (
        members("{name: a, address: a.example}", "{name: b, address: b.example}"),
        [f"3: members[0].address: 'a.example' {NO_ADDRESS}", f"4: members[1].address: 'b.example' {NO_ADDRESS}"],
    ),
    "address with a port": (
        members("{name: a, address: '192.0.2.1:2379'}"),
        [f"3: members[0].address: '192.0.2.1:2379' {NO_ADDRESS}"],
    ),
    "address in brackets": (
        members("{name: a, address: '[2001:db8::1]'}"),
        [f"3: members[0].address: '[2001:db8::1]' {NO_ADDRESS}"],
    ),
    "terminal escape as address": (
        members('{name: a, address: "\\e[2J"}'),
        [f"3: members[0].address: '\\x1b[2J' {NO_ADDRESS}"],
    ),
    **{
        f"address {address}": (
            members(f"{{name: a, address: '{address}'}}"),
            [f"3: members[0].address: '{address}' cannot be reached from the other members"],
        )
        for address in ("127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "169.254.1.1", "fe80::1%eth0")
    },
    "address with a scope": (
        members("{name: a, address: 'fd00::1%eth0'}"),
        [f"3: members[0].address: 'fd00::1%eth0': {ONE_HOST}"],
    ),
    "IPv4 address in IPv6": (
        members("{name: a, address: '::ffff:192.0.2.1'}"),
        ["3: members[0].address: '::ffff:192.0.2.1': write it as 192.0.2.1"],
    ),
    "address is a number": (
        members("{name: a, address: 10}"),
        ["3: members[0].address: must be text, not 10; put it in quotes"],
    ),
    "nobody's name": (
        members("{name: default, address: 192.0.2.1}"),
        ["3: members[0].name: 'default' is the name of every etcd that nobody named; choose another"],
    ),
    "ssh with an option": (
        members("{name: a, address: 192.0.2.1, ssh: -oProxyCommand=x}"),
        ["3: members[0].ssh: a host or alias has no spaces and does not begin with '-'"],
    ),
    "ssh with a space": (
        members("{name: a, address: 192.0.2.1, ssh: a b}"),
        ["3: members[0].ssh: a host or alias has no spaces and does not begin with '-'"],
    ),
    "port of a member": (
        members("{name: a, address: 192.0.2.1, port: 65536}"),
        ["3: members[0].port: must be less than or equal to 65535, not 65536"],
    ),
    # the rest
    "host keys": (section("ssh: {host_keys: off}"), ["3: ssh.host_keys: must be 'strict' or 'accept-new', not 'off'"]),
    "no patience": (section("ssh: {command_timeout: 0}"), ["3: ssh.command_timeout: must be greater than 0, not 0"]),
    "endless": (
        section("ssh: {connect_timeout: .inf}"),
        ["3: ssh.connect_timeout: must be less than or equal to 600, not inf"],
    ),
    "not a number": (
        section("ssh: {connect_timeout: .nan}"),
        ["3: ssh.connect_timeout: must be less than or equal to 600, not nan"],
    ),
    "nobody's home": (section("ssh: {key: ~nobody-here/id}"), ["3: ssh.key: there is no user 'nobody-here' here"]),
    "NUL in a path": (section('pki: {dir: "a\\0"}'), [f"3: pki.dir: {INVISIBLE}"]),
    "half a surrogate pair": (section('pki: {dir: "\\ud800"}'), [f"3: pki.dir: {INVISIBLE}"]),
    "sum": (section("release: {sha256: abc}"), ["3: release.sha256: a SHA-256 sum has 64 hexadecimal digits"]),
    "sum of one architecture": (
        section(f"release: {{sha256: {{amd64: abc, riscv64: {64 * 'a'}}}}}"),
        [
            "3: release.sha256.amd64: a SHA-256 sum has 64 hexadecimal digits",
            "3: release.sha256.riscv64: must be 'amd64' or 'arm64', not 'riscv64'",
        ],
    ),
    "sum as a list": (section("release: {sha256: [a]}"), ["3: release.sha256: must be text"]),
    "unknown field of a URL": (
        section("release: {url: 'https://example.net/{tag}/{version}'}"),
        ["3: release.url: '{tag}' is unknown: {version} and {arch} can stand here"],
    ),
    **{
        f"URL {url!r}": (
            section(f"release: {{url: {json.dumps(url)}}}"),
            ["3: release.url: write an http, https or file URL"],
        )
        for url in (
            "",
            "example.net/etcd.tar.gz",
            "ftp://example.net/x",
            "https:/example.net/x",
            "https://",
            "https:///x",
            "https://[::1/x",
            "https://example.net:port/x",
            "https://example.net:99999/x",
            "https://a b/x",
            "https://x/'y'",
            "https://x/\ty",
        )
    },
    # backups
    "unknown key of a store": (
        section("backup: {s3: {bucket: abc, bukcet: abc}}"),
        ["3: backup.s3.bukcet: unknown key; did you mean 'bucket'?"],
    ),
    "no bucket": (section("backup: {s3: {prefix: a}}"), ["3: backup.s3.bucket: is missing"]),
    "empty store": (section("backup: {sftp: }"), ["3: backup.sftp: is empty: give it a value, or leave it out"]),
    "two stores": (
        section("backup: {s3: {bucket: abc}, sftp: {host: h, path: p}}"),
        ["3: backup.sftp: there is one store: leave out this or backup.s3"],
    ),
    "bucket with a folder": (section("backup: {s3: {bucket: a/b}}"), [f"3: backup.s3.bucket: {BUCKET}"]),
    "prefix that climbs": (
        section("backup: {s3: {bucket: abc, prefix: ../x}}"),
        ["3: backup.s3.prefix: write it as in backups/prod, without an empty part, '.' or '..'"],
    ),
    "password in an endpoint": (
        section("backup: {s3: {bucket: abc, endpoint: 'https://a:b@h'}}"),
        ["3: backup.s3.endpoint: write an http or https URL without user, query or fragment"],
    ),
    "no host": (section("backup: {sftp: {host: '', path: p}}"), ["3: backup.sftp.host: must not be empty"]),
    "home of the other side": (
        section("backup: {sftp: {host: h, path: ~/x}}"),
        ["3: backup.sftp.path: nothing expands '~' there; a path without '/' in front begins at the login's home"],
    ),
    "no recipient": (
        section("backup: {age: {recipients: []}}"),
        ["3: backup.age.recipients: at least one recipient is needed"],
    ),
    "secret key": (
        section("backup: {age: {recipients: [AGE-SECRET-KEY-1XYZ]}}"),
        ["3: backup.age.recipients[0]: this is the secret key: put the public one here, age1..., and make a new pair"],
    ),
    "no key": (
        section("backup: {age: {recipients: [ada]}}"),
        ["3: backup.age.recipients[0]: a recipient of age begins with age1, as age-keygen prints it"],
    ),
    "keep none": (
        section("backup: {schedule: {keep: 0}}"),
        ["3: backup.schedule.keep: must be greater than or equal to 1, not 0"],
    ),
    **{
        f"interval {text}": (
            section(f"backup: {{schedule: {{every: {text}}}}}"),
            [f"3: backup.schedule.every: {INTERVAL}"],
        )
        for text in ("6", "14m", "8d", "7h", "2d", "0h", "-6h", "1.5h", "1w", "''", "[6h]")
    },
    **{
        f"folder on the hosts {folder}": (
            section(f"backup: {{schedule: {{dir: '{folder}'}}}}"),
            [f"3: backup.schedule.dir: {why}"],
        )
        for folder, why in {
            "backups": FOLDER,
            "/": FOLDER,
            "/srv/a b": FOLDER,
            "/srv/../etc": FOLDER,
            "/srv/": FOLDER,
            "/var/lib/etcd/default.etcd": OWN_FOLDER,
            "/etc/etcd/x": OWN_FOLDER,
        }.items()
    },
    **{
        f"lifetime {text}": (section(f"pki: {{leaf_lifetime: {text}}}"), [f"3: pki.leaf_lifetime: {LIFETIME}"])
        for text in ("8760", "1y", "0h", "-1d", "1.5d", "''", "\u0661d", "[1d]")
    },
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(text: str, said: list[str]) -> None:
    assert mistakes(text) == said


def test_every_mistake_at_once_in_the_order_of_the_file() -> None:
    text = """\
cluster:
  name: -x
  version: 3.6
  tls: maybe
  tls: yes
  settings:
    name: a
    log-level: [debug]
  unit: {Srevice: {Nice: 1}}
members:
- name: default
  address: host1
- {name: a}
- {name: a, address: 192.0.2.1, port: '22'}
ssh: {port: 70000, hostkeys: strict}
relaese: {}
"""
    assert [line.rpartition(": ")[0].split(": ")[:2] for line in mistakes(text)] == [
        ["2", "cluster.name"],
        ["3", "cluster.version"],
        ["4", "cluster.tls"],
        ["5", "tls"],
        ["7", "cluster.settings.name"],
        ["8", "cluster.settings.log-level"],
        ["9", "cluster.unit.Srevice"],
        ["11", "members[0].name"],
        ["12", "members[0].address"],
        ["13", "members[1].address"],
        ["14", "members[2].name"],
        ["14", "members[2].port"],
        ["15", "ssh.hostkeys"],
        ["15", "ssh.port"],
        ["16", "relaese"],
    ]


@pytest.mark.parametrize(
    "version",
    ["3.6", "3.10", "3", "latest", "3.6.x", "3.6.14-rc.0", "3.6.014", "3.6.1\u0661", "2020-01-01", "''", "[3, 6]"],
)
def test_version_that_is_none(version: str) -> None:
    text = f"cluster: {{name: c, version: {version}}}\n{MEMBERS}"
    assert mistakes(text) == ["1: cluster.version: write all three parts of an etcd release, such as 3.6.14"]


@pytest.mark.parametrize("version", ["2.3.8", "3.3.27", "3.8.0", "v4.0.0"])
def test_version_that_is_not_supported(version: str) -> None:
    text = f"cluster: {{name: c, version: {version}}}\n{MEMBERS}"
    assert mistakes(text) == ["1: cluster.version: only 3.4, 3.5, 3.6, 3.7 are supported"]


@pytest.mark.parametrize(
    ("written", "version", "minor"),
    [("3.4.45", "3.4.45", "3.4"), ("v3.5.33", "3.5.33", "3.5"), ("'3.7.1'", "3.7.1", "3.7")],
)
def test_version(written: str, version: str, minor: str) -> None:
    section = parse(f"cluster: {{name: c, version: {written}}}\n{MEMBERS}", PATH).cluster
    assert (section.version, section.minor) == (version, minor)


# fmt: off
MANAGED = [
    "name", "data-dir", "wal-dir", "config-file", "force-new-cluster", "unsafe-no-fsync", "proxy", "discovery",
    "discovery-srv", "initial-cluster", "initial-cluster-token", "initial-cluster-state", "advertise-client-urls",
    "initial-advertise-peer-urls", "listen-peer-urls", "listen-client-urls", "cert-file", "key-file", "auto-tls",
    "trusted-ca-file", "client-cert-auth", "client-cert-file", "client-key-file", "peer-cert-file", "peer-key-file",
    "peer-trusted-ca-file", "peer-client-cert-auth", "peer-auto-tls", "peer-client-cert-file",
]
# fmt: on


@pytest.mark.parametrize("key", MANAGED)
def test_managed_setting_is_refused(key: str) -> None:
    assert mistakes(cluster(f"settings: {{{key}: x}}")) == [
        f"4: cluster.settings.{key}: follows from the rest of this file; leave it out"
    ]


@pytest.mark.parametrize(
    "key", ["quota-backend-bytes", "listen-metrics-urls", "cipher-suites", "peer-cert-allowed-cn", "client-crl-file"]
)
def test_other_settings_are_the_users(key: str) -> None:
    assert parse(cluster(f"settings: {{{key}: x}}"), PATH).cluster.settings == {key: "x"}


def test_settings_arrive_unharmed() -> None:
    text = cluster("""settings:
    max-txn-ops: 0x10
    quota-backend-bytes: 8589934592
    pre-vote: true
    distributed-tracing-sampling-rate: 0.5
    log-level: 'no'
    cors: https://a.example,https://b.example
    log-rotation-config-json: '{"maxsize":100,"compress":false}'
    cipher-suites: "TLS_A,TLS_B"
    auth-token: ''
    host-whitelist: 2020-02-30
    feature-gates: "'\\"\\\\$`#%"
  """)
    settings = parse(text, PATH).cluster.settings
    assert {type(value) for value in settings.values()} == {str, int, float, bool}  # and none of the YAML reader's own
    assert settings == {
        "max-txn-ops": 16,
        "quota-backend-bytes": 8589934592,
        "pre-vote": True,
        "distributed-tracing-sampling-rate": 0.5,
        "log-level": "no",
        "cors": "https://a.example,https://b.example",
        "log-rotation-config-json": '{"maxsize":100,"compress":false}',
        "cipher-suites": "TLS_A,TLS_B",
        "auth-token": "",
        "host-whitelist": "2020-02-30",
        "feature-gates": "'\"\\$`#%",
    }


def test_unit_keeps_every_section_and_lists() -> None:
    text = cluster("""unit:
    Unit: {After: a.mount}
    Service: {Nice: -5, IOAccounting: true, Environment: [GOGC=50, '']}
    Install: {Alias: 'x\\\\y'}
""")
    assert parse(text, PATH).cluster.unit == {
        "Unit": {"After": "a.mount"},
        "Service": {"Nice": -5, "IOAccounting": True, "Environment": ["GOGC=50", ""]},
        "Install": {"Alias": "x\\\\y"},
    }


ACCEPTED: list[tuple[str, str, str, object]] = [
    ("ssh", "port", "1", 1),
    ("ssh", "port", "65535", 65535),
    ("ssh", "user", "ada", "ada"),
    ("ssh", "gateway", "ada@jump.example:2222", "ada@jump.example:2222"),
    ("ssh", "host_keys", "strict", "strict"),
    ("ssh", "connect_timeout", "0.5", 0.5),
    ("ssh", "connect_timeout", "600", 600),
    ("ssh", "command_timeout", "86400", 86400),
    ("pki", "key", "rsa-2048", "rsa-2048"),
    ("pki", "dir", "/srv/p k i", "/srv/p k i"),
    ("pki", "ca_lifetime", "2h", timedelta(hours=2)),
    ("pki", "leaf_lifetime", "90d", timedelta(days=90)),
    ("release", "url", "http://[2001:db8::1]:80/{version}/{arch}", "http://[2001:db8::1]:80/{version}/{arch}"),
    ("release", "url", "file:///srv/etcd-{version}.tar.gz", "file:///srv/etcd-{version}.tar.gz"),
    ("release", "url", "https://u:p@example.net/x?y=z#w", "https://u:p@example.net/x?y=z#w"),
    ("release", "archive", "~/etcd-{version}.tar.gz", "~/etcd-{version}.tar.gz"),
    ("release", "sha256", 32 * "aB", 32 * "ab"),
    ("backup", "dir", "../backups", "../backups"),
]

BACKUP = """backup:
  keep: {last: 7, daily: 14, weekly: 8}
  s3: {bucket: a.b-c, prefix: etcd/prod/, endpoint: 'http://[::1]:9000/', region: x}
  age: {recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p], identity: ~/key}
  schedule: {every: 15m, keep: 1, dir: /var/backups/etcd-1}
"""


@pytest.mark.parametrize(("part", "key", "written", "value"), ACCEPTED)
def test_accepted(part: str, key: str, written: str, value: object) -> None:
    quote = "'" if isinstance(value, str) else ""
    config = parse(section(f"{part}: {{{key}: {quote}{written}{quote}}}"), PATH)
    assert getattr(getattr(config, part), key) == value


def test_every_key_of_backups() -> None:
    backup = parse(GOOD + BACKUP, PATH).backup
    assert (backup.keep.last, backup.keep.daily, backup.keep.weekly) == (7, 14, 8)
    assert backup.s3
    assert (backup.s3.bucket, backup.s3.prefix, backup.s3.endpoint) == ("a.b-c", "etcd/prod", "http://[::1]:9000")
    assert backup.age
    assert backup.age.identity == "~/key"
    assert backup.sftp is None
    assert (backup.schedule.every, backup.schedule.dir) == (timedelta(minutes=15), "/var/backups/etcd-1")


@pytest.mark.parametrize(("text", "minutes"), [("15m", 15), ("90m", 90), ("6h", 360), ("7d", 10080)])
def test_intervals(text: str, minutes: int) -> None:
    config = parse(section(f"backup: {{schedule: {{every: {text}}}}}"), PATH)
    assert config.backup.schedule.every == timedelta(minutes=minutes)


def test_a_sum_for_each_architecture() -> None:
    text = section(f"release: {{sha256: {{amd64: {64 * 'A'}, arm64: {64 * 'b'}}}}}")
    assert parse(text, PATH).release.sha256 == {"amd64": 64 * "a", "arm64": 64 * "b"}


def test_how_a_member_is_reached() -> None:
    (member,) = parse(members("{name: a, address: 192.0.2.1, ssh: etcd01.example, port: 65535}"), PATH).members
    assert (member.ssh, member.port) == ("etcd01.example", 65535)


def test_names_differ_by_case() -> None:
    config = parse(members("{name: a, address: 192.0.2.1}", "{name: A, address: 192.0.2.2}"), PATH)
    assert [member.name for member in config.members] == ["a", "A"]


def test_defaults() -> None:
    config = parse(GOOD, PATH)
    assert config.cluster.tls is True
    assert (config.ssh.user, config.ssh.port, config.ssh.host_keys) == ("root", 22, "accept-new")
    assert config.pki.leaf_lifetime == timedelta(days=365)
    assert "{version}" in config.release.url
    assert config.path == PATH.absolute()


def test_the_shipped_file_is_valid() -> None:
    config = load(Path(__file__).parent.parent.parent / "config.yaml")
    assert [member.name for member in config.members] == ["etcd01", "etcd02", "etcd03"]


@pytest.mark.parametrize(
    ("address", "url"),
    [("192.0.2.1", "https://192.0.2.1:2380"), ("2001:DB8:0:0::1", "https://[2001:db8::1]:2380")],
)
def test_url_of_a_member(address: str, url: str) -> None:
    (member,) = parse(members(f"{{name: a, address: '{address}'}}"), PATH).members
    assert member.url("https", 2380) == url


def test_anchors_aliases_and_merges_are_plain_values() -> None:
    text = """\
cluster: {name: c, version: 3.6.14, tls: &no false, settings: &s {max-wals: &one 1, max-snapshots: *one, pre-vote: *no}}
members:
- &base {name: a, address: 192.0.2.1, port: &port 2222}
- {<<: *base, name: b, address: 192.0.2.2}
ssh: {port: *port}
"""
    config = parse(text, PATH)
    assert config.cluster.tls is False
    assert config.cluster.settings == {"max-wals": 1, "max-snapshots": 1, "pre-vote": False}
    assert [member.port for member in config.members] == [2222, 2222]
    assert config.ssh.port == 2222


@pytest.mark.parametrize("text", ["cluster: &a\n  name: *a\n", "members: &m\n- *m\n", "cluster: &c {settings: *c}\n"])
def test_an_alias_inside_its_own_anchor_ends_the_check(text: str) -> None:
    assert mistakes(text)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("pki", "/conf/pki"),
        ("../pki", "/conf/../pki"),
        ("/srv/pki", "/srv/pki"),
        ("~/pki", "/home/ada/pki"),
        ("a b", "/conf/a b"),
    ],
)
def test_paths_resolve_from_the_folder_of_the_file(written: str, means: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    config = parse(section(f"pki: {{dir: '{written}'}}"), Path("/conf/config.yaml"))
    assert config.resolve(config.pki.dir) == Path(means)


def test_member_by_name() -> None:
    config = parse(members("{name: a, address: 192.0.2.1}", "{name: b, address: 192.0.2.2}"), PATH)
    assert config.member("b").address == "192.0.2.2"
    with pytest.raises(UsageError, match="no member is called 'd'") as caught:
        config.member("d")
    assert caught.value.hint == "members: a, b"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: No such file or directory"
    assert caught.value.hint == "name another file with -f or ETCDOPS_CONFIG"
    assert caught.value.exit_code == 2


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"name: \xff\xfe", "cluster: {}".encode("utf-16")])
def test_not_utf8(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a text file in UTF-8"):
        load(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load(path).cluster.name == "c"


def test_a_mistake_names_the_file_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(GOOD + "a: b\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:3: a: unknown key")


def test_nothing_can_be_changed_after_loading() -> None:
    config = parse(GOOD, PATH)
    with pytest.raises(ValueError, match="frozen"):
        config.cluster.name = "other"  # type: ignore[misc]


# Any text in any field: a ConfigError or a Config, never anything else.
PLACES = [
    "cluster: {name: @, version: 3.6.14}\n" + MEMBERS,
    "cluster: {name: c, version: @}\n" + MEMBERS,
    cluster("tls: @"),
    cluster("settings: {x: @}"),
    cluster("settings: {@: x}"),
    cluster("settings: @"),
    cluster("unit: {Service: {Nice: @}}"),
    cluster("unit: {Service: {Nice: [@]}}"),
    cluster("unit: {Service: {@: x}}"),
    cluster("unit: {@: {Nice: x}}"),
    members("{name: @, address: 192.0.2.1}"),
    members("{name: a, address: @}", "{name: b, address: @}"),
    members("{name: a, address: 192.0.2.1, ssh: @, port: @}"),
    members("@"),
    *(
        section(f"ssh: {{{key}: @}}")
        for key in ("user", "key", "gateway", "known_hosts", "host_keys", "connect_timeout")
    ),
    *(section(f"release: {{{key}: @}}") for key in ("url", "sha256", "archive")),
    section("release: {sha256: {amd64: @, @: x}}"),
    *(section(f"pki: {{{key}: @}}") for key in ("dir", "key", "ca_lifetime")),
    section("backup: {dir: @}"),
    section("@: x"),
    section("@"),
]
QUOTE = {
    "as it is": str,
    "in double quotes": json.dumps,
    "in single quotes": lambda text: "'" + text.replace("'", "''") + "'",
}


@pytest.mark.parametrize("quote", QUOTE.values(), ids=QUOTE.keys())
@given(
    place=st.sampled_from(PLACES), text=st.text() | st.from_regex(r"[0-9a-z~:./%{}\[\]!&*'\"\\-]{1,20}", fullmatch=True)
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_text_anywhere_is_accepted_or_a_mistake_in_the_file(quote: object, place: str, text: str) -> None:
    assert callable(quote)
    try:
        config = parse(place.replace("@", quote(text)), PATH)
    except ConfigError as error:
        assert error.problems
        assert len(str(error).splitlines()) == len(error.problems)
    else:
        assert isinstance(config, Config)
        for path in (config.pki.dir, config.backup.dir, config.ssh.known_hosts, config.ssh.key, config.release.archive):
            os.fsencode(config.resolve(path))
