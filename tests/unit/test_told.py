"""What a running etcd was told, by flags, variables or a file, as etcd itself reads them."""

from __future__ import annotations

import pytest

from etcdops.adoption.told import Told, read

# argv, environ, text of the configuration file -> settings, what is not heeded
CASES: dict[str, tuple[list[str], dict[str, str], str | None, dict[str, str], list[str]]] = {
    "nothing": ([], {}, None, {}, []),
    "flag with =": (["--name=etcd01"], {}, None, {"name": "etcd01"}, []),
    "flag with a word": (["--name", "etcd01"], {}, None, {"name": "etcd01"}, []),
    "one dash": (["-name", "etcd01", "-data-dir=/d"], {}, None, {"name": "etcd01", "data-dir": "/d"}, []),
    "a switch": (
        ["--client-cert-auth", "--name", "a"], {}, None, {"client-cert-auth": "true", "name": "a"}, [],
    ),
    "a switch at the end": (["--name=a", "--pre-vote"], {}, None, {"name": "a", "pre-vote": "true"}, []),
    "a switch off": (["--pre-vote=false"], {}, None, {"pre-vote": "false"}, []),
    "a value with =": (["--initial-cluster=a=http://h:1,b=http://i:1"], {}, None,
                       {"initial-cluster": "a=http://h:1,b=http://i:1"}, []),
    "an empty value": (["--discovery="], {}, None, {"discovery": ""}, []),
    "a negative number": (["--auto-compaction-retention", "-1"], {}, None, {"auto-compaction-retention": "-1"}, []),
    "the last of two": (["--name=a", "--name=b"], {}, None, {"name": "b"}, []),
    "a variable": ([], {"ETCD_HEARTBEAT_INTERVAL": "200"}, None, {"heartbeat-interval": "200"}, []),
    "an empty variable": ([], {"ETCD_NAME": ""}, None, {}, []),
    "variables and flags": (["--cert-file=/c"], {"ETCD_NAME": "a"}, None, {"name": "a", "cert-file": "/c"}, []),
    "a flag above a variable": (["--name=a"], {"ETCD_NAME": "b"}, None, {"name": "a"}, []),
    "a variable that is misspelt": ([], {"ETCD_CLIENT_CERT_AUHT": "true"}, None, {}, ["client-cert-auht"]),
    "a variable of another release": ([], {"ETCD_DEBUG": "true"}, None, {}, ["debug"]),
    "a variable that is no setting": ([], {"ETCD_UNSUPPORTED_ARCH": "riscv64"}, None, {}, []),
    "another's variable": ([], {"ETCDCTL_API": "3", "HOME": "/"}, None, {}, []),
    "a value with blanks": ([], {"ETCD_CORS": "a b"}, None, {"cors": "a b"}, []),
    "a file": (
        ["--config-file=/c"], {}, "name: a\ndata-dir: /d\nquota-backend-bytes: 8589934592\nlog-outputs: [stderr]\n",
        {"name": "a", "data-dir": "/d", "quota-backend-bytes": "8589934592", "log-outputs": "stderr"}, [],
    ),
    "flags beside a file": (["--config-file=/c", "--name=b"], {"ETCD_DATA_DIR": "/e"}, "name: a\n",
                            {"name": "a"}, ["data-dir", "name"]),
    "transport of a file": (
        ["--config-file", "/c"], {},
        "client-transport-security: {cert-file: /s, client-cert-auth: true, auto-tls: false}\n"
        "peer-transport-security:\n  cert-file: /p\n  trusted-ca-file: /ca\n",
        {"cert-file": "/s", "client-cert-auth": "true", "auto-tls": "false", "peer-cert-file": "/p",
         "peer-trusted-ca-file": "/ca"}, [],
    ),
    "allowed names of a file": (
        ["--config-file", "/c"], {}, "peer-transport-security: {allowed-cn: x}\n", {"peer-cert-allowed-cn": "x"}, [],
    ),
    "lists, switches and nothing in a file": (
        ["--config-file=/c"], {}, "cipher-suites: [A, B]\nenable-pprof: true\ndiscovery:\nproxy: ''\n",
        {"cipher-suites": "A,B", "enable-pprof": "true"}, [],
    ),
    "a mapping that is no setting": (["--config-file=/c"], {}, "name: a\nsub: {x: 1}\n", {"name": "a"}, ["sub"]),
    "an empty file": (["--config-file=/c"], {}, "# all\n", {}, []),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "environ", "text", "settings", "unheeded"), CASES.values(), ids=CASES.keys())
def test_read(
    argv: list[str], environ: dict[str, str], text: str | None, settings: dict[str, str], unheeded: list[str]
) -> None:
    found = read(["/usr/bin/etcd", *argv], environ, text, "3.5.30")
    assert found.settings == settings
    assert sorted(found.unheeded) == unheeded
    assert not found.problem


@pytest.mark.parametrize(("text", "problem"), [("a: [", "expected"), ("- a\n", "it is no mapping"), ("", "gone")])
def test_a_file_that_is_none(text: str, problem: str) -> None:
    assert problem in read(["etcd", "--config-file=/c"], {}, text).problem


def test_without_a_release_no_variable_is_held_to_be_unknown() -> None:
    assert read(["etcd"], {"ETCD_FANCY": "1"}, None).settings == {"fancy": "1"}
    assert read(["etcd"], {"ETCD_FANCY": "1"}, None, "3.5.999").settings == {"fancy": "1"}


@pytest.mark.parametrize(("value", "on"), [("true", True), ("1", True), ("T", True), ("false", False), ("", False)])
def test_on(value: str, on: bool) -> None:
    assert Told({"pre-vote": value}).on("pre-vote") is on
