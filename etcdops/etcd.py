"""etcd's own terms, without I/O: what its JSON says, quorum arithmetic, the order of releases.

Traps of the JSON, seen on 3.4 to 3.7: zero values are left out (no ``leader`` when there is none), ids are
unsigned 64-bit numbers in decimal while commands want them in hexadecimal, and a failed command may
still have printed an answer.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

TIMED_OUT = "context deadline exceeded"
OF_NO_LEARNER = "rpc not supported for learner"  # of which checking a password is one
NOSPACE = "NOSPACE"
CORRUPT = "CORRUPT"


@dataclass(frozen=True, order=True)
class Alarm:
    """``NOSPACE``: the quota is full, ``CORRUPT``: data differs.  ``member`` raised it: its name, else its id in
    hexadecimal; '' where etcd does not tell."""

    kind: str
    member: str = ""


@dataclass(frozen=True)
class EndpointStatus:
    """`endpoint status` of one member.  Sizes are bytes; ``leader`` is 0 when it knows of none.

    ``storage``: the version of its data, '' below 3.6; ``downgrade``: the version that a downgrade is going on to.
    """

    cluster_id: int
    member_id: int
    version: str
    db_size: int
    db_in_use: int
    leader: int
    term: int
    index: int
    applied: int
    revision: int
    learner: bool
    quota: int
    errors: tuple[str, ...]
    storage: str = ""
    downgrade: str = ""

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Those that are raised anywhere in the cluster; told without a quorum, too."""
        found = (_ALARM.fullmatch(error) for error in self.errors)
        return tuple(Alarm(match[1], match[2] or "") for match in found if match)

    @property
    def is_leader(self) -> bool:
        """Whether this member leads the cluster."""
        return self.leader == self.member_id != 0

    @property
    def role(self) -> str:
        """What the member is: leader, follower, learner, or no leader."""
        if self.learner:
            return "learner"
        return "leader" if self.is_leader else "follower" if self.leader else "no leader"


@dataclass(frozen=True)
class ClusterMember:
    """One line of `member list`.  A member that never started has no name and no client URLs."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool

    @property
    def started(self) -> bool:
        """Whether the member has ever come up: then it has told its client URLs.

        A name proves nothing: a member of the initial cluster has one before it first starts.
        """
        return bool(self.client_urls)


@dataclass(frozen=True)
class View:
    """What one member says: of its own health, of itself, of the membership.  ``None``: no answer."""

    healthy: bool | None = None
    took: float = 0.0  # milliseconds for the health check's linearizable read
    status: EndpointStatus | None = None
    members: tuple[ClusterMember, ...] | None = None
    complaint: str = ""
    certificate: str = ""
    unsettled: str = ""  # the id of a restore that was cut short on its host, and neither completed nor undone
    schedule: str = ""  # of backups on its host, and the newest of them: see ``schedule.installed``
    backup: str = ""
    listens: str = ""  # what its process was started with about that: see ``transport.of_view``

    @property
    def leads(self) -> bool:
        """Whether this member says that it leads the cluster."""
        return self.status is not None and self.status.is_leader

    @property
    def has_quorum(self) -> bool:
        """Whether it could read what the cluster has agreed on: one that could not tells no alarm, either.

        Under every alarm members come, go and elect (etcd-operations 3.13, 3.14).
        """
        return bool(self.healthy) or bool(self.alarms)

    @property
    def corrupt(self) -> bool:
        """Whether CORRUPT is raised; on 3.4 the status alone tells."""
        told = {alarm.kind for alarm in self.status.alarms} if self.status else set()
        return CORRUPT in told or CORRUPT in self.alarms.split()

    @property
    def commits(self) -> bool:
        """Whether it is a voter that can commit: all that was acknowledged can be had there.

        That the quota is full stops writes of keys, and nothing else: no backup, no change of the leader.
        """
        able = bool(self.healthy) or set(self.alarms.split()) == {NOSPACE}
        return able and self.status is not None and not self.status.learner

    @property
    def alarms(self) -> str:
        """The alarms that make ``endpoint health`` say no, such as ``NOSPACE``: writes stop, the cluster does not."""
        return self.complaint.partition("Active Alarm(s): ")[2]

    def but_for_alarms(self) -> View:
        """The same without any alarm, for the one who shows them by himself."""
        status = self.status and replace(self.status, errors=())
        return replace(self, status=status, healthy=True, complaint="") if self.alarms else replace(self, status=status)

    def but_for_nospace(self) -> View:
        """The same without that alarm: all but writes goes on under it, such as what makes room."""
        status = self.status
        if status:
            others = (error for error in status.errors if not error.startswith(f"alarm {NOSPACE}"))
            status = replace(status, errors=tuple(others))
        if set(self.alarms.split()) == {NOSPACE}:
            return replace(self, status=status, healthy=True, complaint="")
        return replace(self, status=status)


def parse_view(answers: Mapping[str, str], complaints: Mapping[str, str]) -> View:
    """The answers of files/etcd.sh, by query, as a ``View``."""
    health = _first(answers.get("health", ""))
    status = _first(answers.get("status", ""))
    members = _json(answers.get("members", ""))
    known = tuple(map(_member, members["members"])) if members.get("members") else None
    complaint = _named(str(health.get("error", "")).strip(), known) or next(
        (reason(text) for query, text in complaints.items() if query != "certificate" and text), ""
    )
    if complaint == TIMED_OUT:  # that it waited long is no reason; why it waited stands in what it logged
        complaint = _cause(complaints.get("health", "")) or complaint
    return View(
        healthy=bool(health["health"]) if "health" in health else None,
        took=_milliseconds(str(health.get("took", ""))),
        status=_status(status["Status"], known) if "Status" in status else None,
        members=known,
        complaint="" if health.get("health") and not health.get("error") else complaint,
        certificate=answers.get("certificate", ""),
        schedule=answers.get("schedule", ""),
        backup=answers.get("backup", ""),
        listens=answers.get("listens", ""),
    )


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(text: str) -> dict[str, Any]:
    """The one entry of a list that endpoint commands print per endpoint."""
    try:
        value = json.loads(text or "[]")
    except ValueError:
        return {}
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _status(value: Mapping[str, Any], known: tuple[ClusterMember, ...] | None) -> EndpointStatus:
    header = value.get("header", {})
    return EndpointStatus(
        cluster_id=header.get("cluster_id", 0),
        member_id=header.get("member_id", 0),
        version=value.get("version", ""),
        db_size=value.get("dbSize", 0),
        db_in_use=value.get("dbSizeInUse", 0),
        leader=value.get("leader", 0),
        term=value.get("raftTerm", 0),
        index=value.get("raftIndex", 0),
        applied=value.get("raftAppliedIndex", value.get("raftIndex", 0)),
        revision=header.get("revision", 0),
        learner=value.get("isLearner", False),
        quota=value.get("dbSizeQuota", 0),
        errors=tuple(_named(error.strip(), known) for error in value.get("errors", ())),
        storage=value.get("storageVersion", ""),
        downgrade=value.get("downgradeInfo", {}).get("targetVersion", ""),
    )


def _member(value: Mapping[str, Any]) -> ClusterMember:
    return ClusterMember(
        id=value["ID"],
        name=value.get("name", ""),
        peer_urls=tuple(value.get("peerURLs", ())),
        client_urls=tuple(value.get("clientURLs", ())),
        learner=value.get("isLearner", False),
    )


_ALARM = re.compile(r"alarm (\w+)(?: on (\S+))?")  # as ``_named`` words it


def _named(error: str, known: tuple[ClusterMember, ...] | None) -> str:
    """An alarm with the name of the member that raised it; etcd gives its id, in decimal, or none."""
    names = {member.id: member.name for member in known or ()}

    def words(alarm: re.Match[str]) -> str:
        id_ = int(alarm[1] or 0)
        return f"alarm {alarm[2]} on {names.get(id_) or f'{id_:x}'}" if id_ else f"alarm {alarm[2]}"

    return re.sub(r"(?:memberID:(\d+)\s+)?\balarm:(\w+)", words, error)


def _cause(text: str) -> str:
    """Why a connection never came about: the last error of gRPC that etcdctl logged."""
    causes = re.findall(r'desc = ((?:[^"\\]|\\.)+)"', text)
    return causes[-1].rpartition("desc = ")[2].replace('\\"', "").removeprefix("transport: ") if causes else ""


def _milliseconds(text: str) -> float:
    """A Go duration such as 3.2ms, 871.5µs or 1.01s."""
    for unit, factor in (("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6), ("s", 1e3)):
        number = text.removesuffix(unit)
        if number != text:
            try:
                return float(number) * factor
            except ValueError:
                return 0.0
    return 0.0


def reason(stderr: str, rc: int | None = None) -> str:
    """The one line of etcdctl's stderr that says why: it logs JSON around it.

    Where it said nothing, with which exit code it ended, if ``rc`` tells that; else ''.
    """
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("{")]
    if lines:
        return lines[-1].removeprefix("Error: ")
    return "" if rc is None else f"etcdctl ended with {rc}"


def parse_hashkv(encoded: str) -> dict[str, int]:
    """etcd's answer to hashkv, JSON in base64; {} where it had none, such as after a compaction in between."""
    try:
        found: dict[str, int] = json.loads(base64.b64decode(encoded))[0]["HashKV"]
    except (ValueError, LookupError, TypeError):
        return {}
    return found


def quorum(voters: int) -> int:
    """How many of ``voters`` must agree: a majority."""
    return voters // 2 + 1


def may_stop_one(voters: int, healthy: int) -> bool:
    """Whether a quorum stays when one of the ``healthy`` voters goes down."""
    return healthy - 1 >= quorum(voters)


def release(version: str) -> tuple[int, ...]:
    """A version as numbers that compare: 3.5.30 is newer than 3.5.9."""
    return tuple(int(part) for part in version.split("."))
