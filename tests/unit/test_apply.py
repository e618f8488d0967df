"""What is sent to a host, byte for byte, and what is made of etcd's last words."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from etcdops import layout
from etcdops.apply import _stream, explain, service, way_out
from etcdops.errors import HostError
from etcdops.plan import ETCD, Change, Directory, Enabled, File, Link, Release, Reloaded, Resource, User
from etcdops.release import Archive
from etcdops.ssh import Completed

SECRET = b"-----BEGIN PRIVATE KEY-----\n"
PEM = File(layout.SERVER, SECRET, 0o600, ETCD)


def changes(*resources: Resource) -> list[Change]:
    return [Change(resource, "new") for resource in resources]


def sent(resources: Sequence[Resource], archive: Archive | None = None) -> dict[str, bytes]:
    """The files of the stream, by name."""
    stream = b"".join(_stream(changes(*resources), archive, "3.6.16", None))
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        names = tar.getnames()
        assert len(names) == len(set(names))
        assert {entry.mode for entry in tar} == {0o600}
        return {name: content.read() for name in names if (content := tar.extractfile(name))}


def archive(folder: Path, size: int) -> Archive:
    path = folder / "etcd.tar.gz"
    path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    return Archive("3.6.16", "amd64", path, 64 * "a", size)


MANIFEST: dict[str, tuple[Resource, str]] = {
    "user": (User(), "user\n"),
    "directory": (Directory("/etc/etcd/ssl", 0o750, "root:etcd"), "dir\t750\troot:etcd\t/etc/etcd/ssl\n"),
    "file": (PEM, "file\t600\tetcd:etcd\t/etc/etcd/ssl/server.pem\tf0\n"),
    "etcd.conf is checked against the etcd it is for": (
        File(layout.CONF, b"x"),
        "file\t644\troot:root\t/etc/etcd/etcd.conf\tf0\nsettings\t/etc/etcd/etcd.conf\t3.6.16\n",
    ),
    "link": (Link(layout.CURRENT, "3.6.16"), "link\t3.6.16\t/opt/etcd/current\n"),
    "reload": (Reloaded(), "reload\n"),
    "enable": (Enabled(), "enable\n"),
}


@pytest.mark.parametrize(("resource", "line"), MANIFEST.values(), ids=MANIFEST.keys())
def test_manifest(resource: Resource, line: str) -> None:
    assert sent([resource])["manifest"].decode() == line


def test_manifest_of_a_release(tmp_path: Path) -> None:
    files = sent([Release("3.6.16")], archive(tmp_path, 700))
    top = "etcd-v3.6.16-linux-amd64"
    assert files["manifest"].decode() == f"release\t3.6.16\t{64 * 'a'}\t{top}/etcd {top}/etcdctl {top}/etcdutl\n"


def test_no_field_is_empty_so_that_the_shell_counts_them_right(tmp_path: Path) -> None:
    """To `read` with a tab in IFS, two tabs in a row are one."""
    resources = [resource for resource, _ in MANIFEST.values()]
    manifest = sent([*resources, Release("3.6.16")], archive(tmp_path, 1))["manifest"].decode()
    assert "\t\t" not in manifest
    assert "\t\n" not in manifest


def test_steps_keep_their_order_and_each_file_its_content() -> None:
    unit = File(layout.UNIT, b"unit")
    files = sent([User(), PEM, Link(layout.SERVER_KEY, "server.pem"), unit, Reloaded()])
    steps = [line.split("\t") for line in files["manifest"].decode().splitlines()]
    assert [step[0] for step in steps] == ["user", "file", "link", "file", "reload"]
    assert (files[steps[1][4]], files[steps[3][4]]) == (SECRET, b"unit")
    assert SECRET not in files["manifest"]


def test_an_empty_file_is_sent_too() -> None:
    assert sent([File("/etc/etcd/x", b"")])["f0"] == b""


@pytest.mark.parametrize("size", [1, 511, 512, 513, (1 << 18) + 1], ids=str)
def test_the_release_follows_and_tar_is_content(size: int, tmp_path: Path) -> None:
    parcel = archive(tmp_path, size)
    told: list[tuple[int, int]] = []
    parts = list(
        _stream(changes(PEM, Release("3.6.16")), parcel, "3.6.16", lambda done, total: told.append((done, total)))
    )
    done = subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=b"".join(parts), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "release").read_bytes() == parcel.path.read_bytes()
    assert (tmp_path / "f0").read_bytes() == SECRET
    assert max(map(len, parts)) <= 1 << 18
    assert told[-1] == (size, size)
    assert sorted(told) == told


@pytest.mark.parametrize("left", [("3.6.16.etcdops-old",), ("3.6.16", "3.6.16.etcdops-old")], ids=["before", "after"])
def test_a_release_of_another_archive_where_a_run_was_killed_as_it_changed_it(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    """Before, or after, the new one had its name."""
    releases, top = tmp_path / "opt/etcd", tmp_path / "etcd-v3.6.16-linux-amd64"
    for folder in (top, *(releases / name for name in left)):
        folder.mkdir(parents=True)
        for program in ("etcd", "etcdctl", "etcdutl"):
            (folder / program).write_text(f"#!/bin/sh\necho etcd Version: 3.6.16 # {folder.name}\n")
    parcel = tmp_path / "etcd.tar.gz"
    subprocess.run(["tar", "-czf", parcel, "-C", tmp_path, top.name], check=True)
    digest = hashlib.sha256(parcel.read_bytes()).hexdigest()
    made = Archive("3.6.16", "amd64", parcel, digest, parcel.stat().st_size)
    stream = b"".join(_stream(changes(Release("3.6.16")), made, "3.6.16", None))
    script = layout.script("apply").replace("/opt", f"{tmp_path}/opt")
    done = subprocess.run(["sh", "-c", script], input=stream, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.name for path in releases.iterdir()] == ["3.6.16"]
    assert (releases / "3.6.16/etcd").read_text() == (top / "etcd").read_text()
    assert (releases / "3.6.16/archive.sha256").read_text() == f"{digest}\n"


def test_the_archive_stays_here_when_no_release_is_wanted(tmp_path: Path) -> None:
    assert sent([PEM], archive(tmp_path, 700)).keys() == {"manifest", "f0"}


def test_a_stream_is_whole_blocks() -> None:
    assert len(b"".join(_stream(changes(PEM, User()), None, "3.6.16", None))) % 512 == 0


@pytest.mark.parametrize("resource", [Release("3.6.16"), File(layout.SERVER, None)], ids=["release", "file"])
def test_what_is_still_to_be_made_cannot_be_sent(resource: Resource) -> None:
    with pytest.raises(ValueError, match=r"no archive|no content yet"):
        list(_stream(changes(resource), None, "3.6.16", None))


def log(level: str, msg: str, **more: str) -> str:
    return json.dumps(
        {"level": level, "ts": "2026-08-20T12:00:00.000Z", "caller": "etcdmain/etcd.go:1", "msg": msg, **more}
    )


NAME = 'couldn\'t find local name "etcd09" in the initial cluster configuration'
BUSY = "listen tcp 192.0.2.11:2380: bind: address already in use"

# The last lines of real releases, in short: 3.4 has lines that are no JSON, to 3.5 and later a wrong flag is a warning.
EXPLAINED = {
    "nothing said": ("", ""),
    "guard": (
        "AssertResult=no\n",
        "the guard stopped it: /var/lib/etcd/default.etcd/member/wal is missing, "
        "and a member must not come back empty",
    ),
    "fatal": (
        "\n".join((log("info", "closing etcd server"), log("warn", "failed to start etcd", error=NAME),
                   log("fatal", "discovery failed", error=NAME, stacktrace="main.main\n\tx"))),
        f"discovery failed: {NAME}",
    ),
    "error before the fatal one": (
        log("error", "creating listener failed", error=BUSY) + "\n" + log("fatal", "discovery failed", error=BUSY),
        f"discovery failed: {BUSY}",
    ),
    "panic": (log("panic", "tocommit(40) is out of range"), "tocommit(40) is out of range"),
    "wrong value of a setting": (
        "\n".join((log("info", "Running: "), log("warn", "failed to verify flags",
                   error='invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error'))),
        'failed to verify flags: invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error',
    ),
    "wrong value of a setting, 3.4": (
        "2026-08-20 12:00:00.1 I | pkg/flags: recognized and used environment variable ETCD_NAME=etcd01\n"
        "2026-08-20 12:00:00.2 E | etcdmain: error verifying flags, invalid value \"abc\" for ETCD_PRE_VOTE\n",
        "2026-08-20 12:00:00.2 E | etcdmain: error verifying flags, invalid value \"abc\" for ETCD_PRE_VOTE",
    ),
    "waits for its peers": (
        "not ready after 120 s\n" + log("info", "etcd-server started"),
        "not ready after 120 s",
    ),
    "cannot reach its peers": (
        "not ready after 120 s\n" + log("warn", "prober failed", error="dial tcp: connection refused"),
        "not ready after 120 s; the last it said: prober failed: dial tcp: connection refused",
    ),
    "only informative": (log("info", "ready to serve client requests"), ""),
    "the last of what is no JSON": ("first\n  last  \n", "last"),
    "what tells something, of what is no JSON": ("exec format error\ngoodbye\n", "exec format error"),
    "JSON that is no object": ('3\n"x"\n[1]\nfailed\n', "failed"),
}  # fmt: skip


@pytest.mark.parametrize(("output", "reason"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_explain(output: str, reason: str) -> None:
    assert explain(output) == reason


WAYS: dict[str, tuple[str, str]] = {
    "a part of the log is lost": (
        "tocommit(81) is out of range [lastIndex(3)]. Was the raft log corrupted, truncated, or lost?",
        "systemctl stop etcd there, then inv replace-member etcd02",
    ),
    "wiped": ("member 8e9e05c52164694d has already been bootstrapped", "inv replace-member etcd02"),
    "other data": ("checkInitialHashKV failed: etcd02 found data inconsistency with peers", "inv check-data"),
    "full disk": ("failed to commit tx: write db: no space left on device", "free some space"),
    "older release": (
        "invalid downgrade; server version is lower than determined cluster version",
        "put cluster.version back",
    ),
    "other members": ("error validating peerURLs: member count is unequal", "inv members"),
    "anything else": ("listen tcp 192.0.2.1:2380: bind: address already in use", "journalctl -u etcd -e"),
}


@pytest.mark.parametrize(("why", "words"), WAYS.values(), ids=WAYS.keys())
def test_way_out(why: str, words: str) -> None:
    assert words in way_out(why, "etcd02")


def ended(rc: int, stdout: str = "", stderr: str = "") -> Completed:
    return Completed(rc, stdout, stderr, seconds=0.1)


class Host:
    """Answers every script with ``done``, and keeps what it was asked."""

    name = "etcd01"

    def __init__(self, done: Completed) -> None:
        self.done = done
        self.asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def run(self, script: str, *args: str, **options: Any) -> Completed:
        assert script == layout.script("service")
        self.asked.append((args, options))
        return self.done


def test_a_service_that_comes_up_is_not_talked_about() -> None:
    host = Host(ended(0))
    service(cast(Any, host), "start", seconds=30)
    ((args, options),) = host.asked
    assert args == ("start", "30")
    assert options["timeout"] > 30  # systemctl is given up first, so that the reason still gets here


@pytest.mark.parametrize(
    ("action", "done", "said"),
    [
        (
            "start",
            ended(1, log("fatal", "discovery failed", error=NAME)),
            f"etcd did not start: discovery failed: {NAME}",
        ),
        ("restart", ended(1, "not ready after 30 s\n"), "etcd did not come back: not ready after 30 s"),
        ("stop", ended(1, "", "Failed to stop etcd.service\n"), "etcd did not stop: Failed to stop etcd.service"),
        ("start", ended(1), "etcd did not start: no reason given"),
    ],
)
def test_a_service_that_does_not(action: str, done: Completed, said: str) -> None:
    with pytest.raises(HostError) as caught:
        service(cast(Any, Host(done)), action, seconds=30)
    assert (caught.value.message, caught.value.host) == (said, "etcd01")
    assert caught.value.hint == "on the host: journalctl -u etcd -e"
