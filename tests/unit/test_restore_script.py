"""files/restore.sh and retire.sh in a folder that stands for a host: what a swap changes comes back, the rest goes."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from etcdops import layout, restoration
from etcdops.apply import explain
from etcdops.restoration import Side

ID = "20261122T211001Z-1f3c9a02"
SYSTEMCTL = """#!/bin/sh
case $1 in
show) echo loaded ;;
start) exit 1 ;;
is-enabled) [ -e "$ROOT/enabled" ] ;;
enable) : >"$ROOT/enabled" ;;
disable) rm -f "$ROOT/enabled" ;;
esac
"""


class Host:
    """A root folder, with a systemctl that knows whether etcd is enabled and nothing else."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.root = folder / "root"
        for each in ("etc/etcd", "etc/systemd/system", "opt/etcd", "var/lib/etcd", "proc/net"):
            (self.root / each).mkdir(parents=True)
        for each in ("tcp", "tcp6"):
            (self.root / "proc/net" / each).touch()
        (folder / "systemctl").write_text(SYSTEMCTL)
        (folder / "systemctl").chmod(0o755)
        self.env = {"PATH": f"{folder}:{os.environ['PATH']}", "ROOT": str(self.root)}
        script = layout.script(*(names or ("restore",)))
        for place in ("/var/lib/etcd", "/etc/etcd", "/etc/systemd", "/proc/"):
            script = script.replace(f" {place}", f" {self.root}{place}").replace(f"={place}", f"={self.root}{place}")
        self.script = script.replace("tar -C / ", f"tar -C {self.root} ").replace('"/$each"', f'"{self.root}/$each"')

    def run(self, *words: str, env: Mapping[str, str] = MappingProxyType({}), fails: bool = False) -> str:
        argv = ["sh", "-c", self.script, "sh", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env={**self.env, **env}, timeout=60, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout

    def look(self) -> Side:
        return restoration.parse(self.run("look"))

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def files(self) -> dict[str, str]:
        paths = (each for each in self.root.rglob("*") if each.is_file())
        return {str(each.relative_to(self.root)): each.read_text() for each in paths}

    def exchange(self) -> None:
        """All of a restore but its end: the data, then what a deploy of the new cluster puts there."""
        self.put(f"var/lib/etcd/restore-{ID}/new/default.etcd/db", "new")
        self.run("halt", ID)
        self.run("swap", ID)
        self.put("etc/etcd/etcd.conf", "new")
        self.put("etc/systemd/system/etcd.service", "new")
        self.put("etc/etcd/identity.json", "new")
        self.put("enabled", "")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


MEMBER = {
    "var/lib/etcd/default.etcd/db": "old",
    "etc/etcd/etcd.conf": "old",
    "etc/etcd/identity.json": "old",
    "etc/systemd/system/etcd.service": "old",
    "enabled": "",
}
PREPARED = {"etc/etcd/etcd.conf": "old", "etc/systemd/system/etcd.service": "old"}
BEFORE = {
    "a member": MEMBER,
    "a member that does not start at boot": {key: value for key, value in MEMBER.items() if key != "enabled"},
    "a host that was prepared": PREPARED,
    "a fresh host": {},
}


@pytest.mark.parametrize("case", BEFORE)
def test_undone_it_is_as_it_was(host: Host, case: str) -> None:
    for path, text in BEFORE[case].items():
        host.put(path, text)
    before = host.files()
    host.exchange()
    assert host.files() != before
    assert host.look().swapped == (ID,)
    host.run("undo", ID)
    assert host.files() == before
    assert host.look() == Side()


@pytest.mark.parametrize("case", BEFORE)
def test_sealed_until_it_is_committed(host: Host, case: str) -> None:
    """Told even where a commit has come to its last step, and no trace is left of it after that."""
    for path, text in BEFORE[case].items():
        host.put(path, text)
    host.exchange()
    host.run("release")
    assert host.look().sealed == ()
    host.run("seal", ID)
    assert (host.look().swapped, host.look().sealed) == ((ID,), (ID,))
    (host.root / f"var/lib/etcd/restore-{ID}/swapping").unlink()
    assert (host.look().unfinished, host.look().sealed) == (ID, (ID,))
    host.run("commit", ID)
    side = host.look()
    assert (side.unfinished, side.staged, side.sealed) == ("", (), ())
    assert set(side.aside) == ({ID} if case.startswith("a member") else set())
    host.run("seal", ID)  # the same again, where another host was cut short
    host.run("commit", ID)
    assert host.look() == side


def test_what_it_would_put_back_is_not_deleted_where_it_cannot_be_read(host: Host) -> None:
    for path, text in MEMBER.items():
        host.put(path, text)
    host.exchange()
    (host.root / f"var/lib/etcd/restore-{ID}/old/host.tar").write_bytes(b"damaged")
    with pytest.raises(AssertionError):
        host.run("undo", ID)
    assert host.files()["etc/etcd/etcd.conf"] == "new"


@pytest.mark.parametrize("case", ["a member", "a fresh host"])
def test_a_disk_that_is_full_at_the_swap_keeps_the_old_data_in_place(host: Host, case: str) -> None:
    """/dev/full stands for it, where nothing can be synced either."""
    for path, text in BEFORE[case].items():
        host.put(path, text)
    host.put(f"var/lib/etcd/restore-{ID}/new/default.etcd/db", "new")
    (host.root / f"var/lib/etcd/restore-{ID}/swapping").symlink_to("/dev/full")
    host.script = f"sync() {{ :; }}\n{host.script}"
    host.run("swap", ID, fails=True)
    assert host.files().get("var/lib/etcd/default.etcd/db") == BEFORE[case].get("var/lib/etcd/default.etcd/db")


@pytest.mark.parametrize("last", ["release", "undo"])
def test_after_a_power_cut_etcd_may_still_start(host: Host, last: str) -> None:
    """What frees it is on the disk."""
    host.exchange()
    host.script = 'sync() { [ -e "$ROOT/var/lib/etcd/restoring" ] || echo "synced $*"; }\n' + host.script
    said = host.run(last, *([ID] if last == "undo" else []))
    assert said.splitlines()[-1:] == [f"synced -- {host.root}/var/lib/etcd"]


@pytest.mark.parametrize(
    ("argv", "runs"),
    [("etcd", True), ("etcd --name drill --data-dir /x", False), ("etcd --name salvage --data-dir /x", False)],
    ids=["the member's", "a drill's", "one that saves what a member held"],
)
@pytest.mark.parametrize("script", ["restore", "retire"])
def test_whose_etcd_runs_there(tmp_path: Path, script: str, argv: str, runs: bool) -> None:
    host = Host(tmp_path, script)
    host.put("proc/77/cmdline", argv.replace(" ", "\0") + "\0")
    (host.root / "proc/77/exe").symlink_to("/opt/etcd/3.6.16/etcd")
    words = ("halt", ID) if script == "restore" else (ID, str(host.root / "etc/etcd/etcd.conf"))
    if runs:
        with pytest.raises(AssertionError, match="an etcd still runs: pid "):
            host.run(*words)
    else:
        host.run(*words)


@pytest.mark.parametrize(
    ("id_", "said", "ways"),
    [
        ("recover", "inv recover was cut short", ["inv recover again"]),
        (
            ID,
            "a restore was cut short",
            ["inv restore-undo", "if it was inv recover, or a host is lost for good: inv recover again"],
        ),
    ],
    ids=["a recovery", "a restore, or what a recovery swaps"],
)
def test_what_keeps_etcd_down_names_the_task_that_ends_it(tmp_path: Path, id_: str, said: str, ways: list[str]) -> None:
    host = Host(tmp_path, "prelude", "etcd")
    host.put("var/lib/etcd/restoring", f"{id_}\n")
    (line,) = host.run(env={"QUERIES": "", "WAIT": "1"}).splitlines()
    seen = base64.b64decode(line.split("\t")[2]).decode()
    service = Host(tmp_path / "start", "service")
    service.put("var/lib/etcd/restoring", f"{id_}\n")
    started = explain(service.run("start", "9", fails=True))
    for text in (seen, started):
        assert text.startswith(said)
        assert all(way in text for way in ways)
        assert ("restore-undo" in text) == (id_ != "recover")
