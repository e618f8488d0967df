"""What no task may leave, on a host or here, however it ended: looked for after the run that came to its good end."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path

from tests.hosts import Project
from tests.lab.members import host_at

PARTS = {".part", ".new"}

# Staged files and folders, work folders, what bars etcd, units and processes of ours.  One line for each.
SEARCH = r"""
find /etc /opt /usr/local /var/lib /var/tmp /tmp /root /run /dev/shm -xdev \
    \( -path '/var/lib/etcd/*/member' -o -path /var/lib/systemd -o -path '/tmp/systemd-private-*' \
    -o -path '/run/systemd' -o -path '/run/credentials' \) -prune \
    -o \( -name '*.etcdops-*' -o -name '.etcdops*' -o -name 'etcdops*' -o -name '*.part' -o -name 'restore-*' \
    -o -name restoring -o -name 'etcd-v*' \) -print 2>/dev/null |
    grep -vx -e /usr/local/lib/etcdops -e /run/etcdops
[ ! -e /run/etcdops/lock ] || flock -n /run/etcdops/lock true || echo '/run/etcdops/lock is held'
systemctl list-units --all --plain --no-legend 'etcdops-*' 'etcd*' | cut -d' ' -f1-4 | grep -v '^etcd.service '
ls -d /run/systemd/system/etcd.service.d /etc/systemd/system/etcd.service.d 2>/dev/null
pgrep -af '^timeout -k 5 '
true
"""


def left(project: Project, names: Sequence[str], seconds: float = 20.0) -> list[str]:
    """What is left on hosts ``names``, in the cluster and here, once that is ``seconds`` old.

    What a killed run has begun on a host may take a moment to come to its end there.
    """
    until = time.monotonic() + seconds
    while (found := [*_on_hosts(project, names), *_in_cluster(project), *_here(project)]) and time.monotonic() < until:
        time.sleep(1.0)
    return found


def _on_hosts(project: Project, names: Sequence[str]) -> list[str]:
    return [f"{name}: {line}" for name, text in project.hosts.each(SEARCH, names).items() for line in text.splitlines()]


def _in_cluster(project: Project) -> list[str]:
    """Keys of ours that no lease will take away; a snapshot brings those back that a canary wrote meanwhile."""
    name = host_at(project.config["members"][0]["address"])
    found = json.loads(project.etcdctl(name, "get --prefix /etcdops/ --keys-only --write-out=json")).get("kvs", ())
    return [f"key {base64.b64decode(each['key']).decode()}" for each in found if not each.get("lease")]


def _here(project: Project) -> list[str]:
    """In the project's folder, and in the place for temporary files."""
    strange = [path for path in project.folder.rglob("*") if path.name.startswith(".") or path.suffix in PARTS]
    return [str(path) for path in (*strange, *temporary(project).iterdir()) if path.name != ".etcdops"]


def temporary(project: Project) -> Path:
    """Where ./inv puts its temporary files: a folder of the test's own, so that what it forgets is seen."""
    folder = project.folder.parent / "temporary"
    folder.mkdir(exist_ok=True)
    project.env["TMPDIR"] = str(folder)
    return folder
