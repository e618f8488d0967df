"""States of hosts that a test comes back to in a second or two, and what a state looks like from outside."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hosts import Project
from tests.lab.members import FIVE, reread

SAVED = "/root/saved"

# All that a task may change on a host; releases by hard links, since nobody writes into one that is in place.
PLACES = "etc/etcd etc/systemd/system usr/local var/lib/etcd var/backups/etcd var/lib/systemd/timers"
# Everywhere before anything is saved or comes back anywhere, and all of it before any member starts: one that still ran
# beside others that had begun again would commit with them what the state knows nothing of.
STOP = "systemctl stop etcd.service 2>/dev/null; true"
START = """
[ ! -e /etc/systemd/system/multi-user.target.wants/etcd.service ] || systemctl start --no-block etcd.service
"""
END = r"""
for pid in $(pgrep -f '^timeout (-k 5|100) '); do kill -9 -$pid 2>/dev/null; done
systemctl kill --signal=KILL etcd.service 'etcdops-*' 2>/dev/null
systemctl stop etcd.service 'etcdops-*' 2>/dev/null
true
"""
SAVE = f"""
rm -rf {SAVED}/STATE && mkdir -p {SAVED}/STATE && cd /
for each in {PLACES}; do [ ! -e $each ] || cp -a --sparse=always --parents $each {SAVED}/STATE; done
rm -rf {SAVED}/STATE.opt && {{ [ ! -d opt/etcd ] || cp -al opt/etcd {SAVED}/STATE.opt; }}
id -u etcd >{SAVED}/STATE.uid 2>/dev/null; id -g etcd >{SAVED}/STATE.gid 2>/dev/null; true
"""
COME_BACK = f"""
cd /
rm -rf {PLACES} opt/etcd opt/.etcdops.* run/etcdops* run/systemd/system/etcd.service.d \\
    var/tmp/.etcdops-* dev/shm/.etcdops-*
cp -a --sparse=always {SAVED}/STATE/. /
[ ! -d {SAVED}/STATE.opt ] || cp -al {SAVED}/STATE.opt opt/etcd
if [ -s {SAVED}/STATE.uid ]; then
    id -u etcd >/dev/null 2>&1 || {{ groupadd -r -g $(cat {SAVED}/STATE.gid) etcd
    useradd -r -u $(cat {SAVED}/STATE.uid) -g etcd -M -d /var/lib/etcd -s /usr/sbin/nologin etcd; }}
else
    userdel etcd 2>/dev/null
fi
systemctl daemon-reload
systemctl reset-failed
"""

# What is to be seen of a state: each path with kind, mode, owner and digest; small texts whole; units; accounts.
PORTRAIT = r"""
cd /
for each in etc/etcd opt usr/local/bin usr/local/lib usr/local/sbin etc/systemd/system var/backups/etcd; do
    [ -e $each ] || continue
    find $each -xdev -type d -printf '%p\t%M %u:%g\t\n' -o -type l -printf '%p\t%M %u:%g\t%l\n'
    find $each -xdev -type f -exec sh -c 'for path; do
        printf "%s\t%s\t" "$path" "$(stat -c "%A %U:%G" "$path")"
        case $path in *.json | */etcd.conf | *.env) base64 -w0 <"$path"; echo ;;
        opt/etcd/*/etcd*) stat -c %s "$path" ;; *) sha256sum <"$path" ;; esac
    done' sh {} +
done
find var/lib/etcd -xdev -maxdepth 3 ! -name 'aside-*' ! -path '*/aside-*/*' ! -path '*/snap/*' ! -path '*/wal/*' \
    -printf '%p\t%M %u:%g\t\n' 2>/dev/null
for each in etcd.service etcdops-backup.timer; do
    systemctl show $each -p ActiveState -p UnitFileState -p NeedDaemonReload -p FragmentPath | sed "s/^/$each\t/"
done
pid=$(systemctl show etcd.service -P MainPID)
[ "${pid:-0}" = 0 ] || printf 'process.env\t%s\t%s\n' "$(readlink /proc/$pid/exe)" \
    "$(tr '\0' '\n' </proc/$pid/environ | grep ^ETCD | grep -v ^ETCD_INITIAL_ | sort | base64 -w0)"
echo "account	$(getent passwd etcd | cut -d: -f1,6,7)"
"""
TIME = re.compile(r"\b\d{8}T\d{6}Z\b")  # in the name of what a run has retired
MASKS = (
    (re.compile(r"test-\d{8}T\d{6}Z-[0-9a-f]{8}"), "TOKEN"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "ID"),
    (re.compile(r'("(?:cluster|member)_id": ?")[0-9a-f]*'), r"\1ID"),
)


@dataclass(frozen=True)
class State:
    """A saved state of all hosts and of the project."""

    name: str
    folder: Path
    members: Sequence[str]  # the hosts that members run on

    @classmethod
    def save(cls, project: Project, name: str) -> State:
        """What is there now, under this name; members run afterwards as they did."""
        folder = project.folder.parent / "saved" / name
        shutil.copytree(project.folder, folder, symlinks=True)
        active = project.hosts.each("systemctl is-active etcd; true", FIVE)
        for script in (STOP, SAVE, START):
            _each(project, script, name)
        return cls(name, folder, [host for host, text in active.items() if text == "active"])

    def come_back(self, project: Project) -> None:
        """All of it as it was, and the cluster serving, if there is one."""
        for script in (END, COME_BACK, START):
            _each(project, script, self.name)
        shutil.rmtree(project.folder)
        shutil.copytree(self.folder, project.folder, symlinks=True)
        reread(project)
        if self.members:
            commit(project, self.members)


def commit(project: Project, names: Sequence[str]) -> None:
    """Wait until the member on each of these hosts can commit."""
    where, secure = "http://127.0.0.1:2379", ""
    if project.config["cluster"]["tls"]:
        ssl = "/etc/etcd/ssl"
        where, secure = (
            "https://127.0.0.1:2379",
            f"--cacert={ssl}/ca.pem --cert={ssl}/client.pem --key={ssl}/client-key.pem",
        )
    ask = f"/usr/local/bin/etcdctl --endpoints={where} {secure} --command-timeout=5s endpoint health >/dev/null 2>&1"
    asked = f"ETCDCTL_API=3 {ask} && echo yes || echo no"
    project.hosts.eventually(lambda: set(project.hosts.each(asked, names).values()) == {"yes"}, 120)


def _each(project: Project, script: str, name: str) -> None:
    project.hosts.each(script.replace("STATE", name), FIVE)


def portrait(project: Project) -> Portrait:
    """What the hosts and the project look like now."""
    raw = project.hosts.each(PORTRAIT, FIVE)
    pki = project.folder / "pki"
    files = {str(path.relative_to(project.folder)): path for path in sorted(pki.rglob("*"))} if pki.exists() else {}
    here = {
        name: (oct(path.lstat().st_mode & 0o7777), path.read_bytes().hex() if path.is_file() else "")
        for name, path in files.items()
    }
    return Portrait(raw, here, (project.folder / "config.yaml").read_text())


@dataclass(frozen=True)
class Portrait:
    """What is to be seen of a state."""

    hosts: Mapping[str, str]
    pki: Mapping[str, tuple[str, str]]
    config: str

    def lines(self, before: Portrait) -> dict[str, str]:
        """It as lines that two ways to one state have in common, each under where it is.

        What is random (keys, certificates, ids) is told by whether it is that of ``before``.
        """
        lines = {"config.yaml": self.config}
        for name, (mode, content) in self.pki.items():
            lines[TIME.sub("TIME", name)] = (
                f"{mode} {'as before' if before.pki.get(name, ('', ''))[1] == content else 'new'}"
            )
        for host, text in self.hosts.items():
            old = _rows(before.hosts[host])
            for place, (what, content) in _rows(text).items():
                if place.endswith(".pem"):
                    content = "as before" if old.get(place, ("", ""))[1] == content else "new"
                lines[f"{host} {place}"] = f"{what} {_masked(content)}"
        return lines


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Where two portraits are not the same."""
    found = []
    for place in sorted({*one, *other}):
        if one.get(place) != other.get(place):
            found.append(f"{place}: {one.get(place, 'not there')!r} is {other.get(place, 'not there')!r}")
    return found


def _rows(text: str) -> dict[str, tuple[str, str]]:
    rows = {}
    for line in text.splitlines():
        place, what, content = [*line.split("\t"), "", ""][:3]
        if place.startswith("etcd") and "=" in what:
            key, _, value = what.partition("=")
            place, what = f"{place} {key}", value
        if place.endswith((".json", "/etcd.conf", ".env")) and content and "link" not in what:
            content = base64.b64decode(content).decode()
        rows[place] = (what, content)
    return rows


def _masked(text: str) -> str:
    for pattern, by in MASKS:
        text = pattern.sub(by, text)
    return text


def members_of(project: Project, name: str) -> list[tuple[object, ...]]:
    """The member list apart from ids, as the member on this host has it."""
    found: Sequence[dict[str, Any]] = json.loads(project.etcdctl(name, "member list --write-out=json"))["members"]
    return sorted(
        (each.get("name", ""), tuple(each["peerURLs"]), tuple(each.get("clientURLs", ())), each.get("isLearner", False))
        for each in found
    )
