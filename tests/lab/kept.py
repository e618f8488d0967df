"""Keys of a test in a cluster: written, read, and compared with what was there at some moment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.hosts import NAMES, Project

PREFIX = "/kept/"


def fill(project: Project, mark: str, count: int = 30, name: str = NAMES[0]) -> None:
    """``count`` keys of ``mark`` in one revision, and three more of one revision each."""
    puts = "".join(f"put {PREFIX}{mark}/{n:03d} {mark}{n}\n" for n in range(count))
    project.etcdctl(name, f"txn >/dev/null <<'END'\n\n{puts}\n\nEND")
    for n in range(3):
        project.etcdctl(name, f"put {PREFIX}{mark}/more{n} {mark}")


def wipe(project: Project, name: str = NAMES[0]) -> None:
    """No key of any test."""
    project.etcdctl(name, "del --prefix / >/dev/null")


def keys(project: Project, name: str = NAMES[0]) -> dict[str, str]:
    """Every key with its value, as one member has it after all that the cluster has agreed on."""
    lines = project.etcdctl(name, "get --prefix ''").split("\n")
    return dict(zip(lines[::2], lines[1::2], strict=True)) if lines != [""] else {}


def status(project: Project, name: str = NAMES[0]) -> dict[str, Any]:
    """`endpoint status` of one member."""
    found: dict[str, Any] = json.loads(project.etcdctl(name, "endpoint status --write-out=json"))[0]["Status"]
    return found


def revision(project: Project, name: str = NAMES[0]) -> int:
    """The newest revision."""
    return int(status(project, name)["header"]["revision"])


def cluster_id(project: Project, name: str = NAMES[0]) -> int:
    """Which incarnation of the cluster this is."""
    return int(status(project, name)["header"]["cluster_id"])


@dataclass(frozen=True)
class Moment:
    """What a cluster was and held."""

    cluster: int
    keys: dict[str, str]
    revision: int
    data: dict[str, str]  # inode of each host's data directory

    @classmethod
    def of(cls, project: Project) -> Moment:
        """Now."""
        names = [each["name"] for each in project.config["members"]]
        return cls(
            cluster_id(project),
            keys(project),
            revision(project),
            project.hosts.each("stat -c %i /var/lib/etcd/default.etcd", names),
        )
