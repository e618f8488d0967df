"""Decide, host by host: resources that should be there, minus the facts, give the changes to make.  No I/O.

The list of changes is what --dry-run prints and what ``apply`` carries out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from etcdops import layout
from etcdops.facts import HostFacts, PathFact, parse_conf
from etcdops.release import programs

ROOT = "root:root"
ETCD = f"{layout.USER}:{layout.USER}"


@dataclass(frozen=True)
class User:
    """The system account that etcd runs as."""

    def why(self, facts: HostFacts) -> str:
        """Why this must change, '' when it is as it should be; the same for every resource."""
        return "" if facts.has_user else "new"

    def __str__(self) -> str:
        return f"user {layout.USER}"


@dataclass(frozen=True)
class Directory:
    """A directory with its mode and owner."""

    path: str
    mode: int
    owner: str = ROOT

    def why(self, facts: HostFacts) -> str:
        fact = facts.paths.get(self.path)
        return "new" if fact is None else _metadata(fact, "directory", self.mode, self.owner)

    def __str__(self) -> str:
        return f"{self.path}/"


@dataclass(frozen=True)
class File:
    """A file with content, mode and owner.  ``content`` is None while it is still to be made (a dry run)."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: str = ROOT

    def why(self, facts: HostFacts) -> str:
        fact = facts.paths.get(self.path)
        if fact is None:
            return "new"
        if self.content is None:
            return "changed"  # it will be, by the certificate that is to be issued
        if fact.kind == "file" and fact.sha256 != hashlib.sha256(self.content).hexdigest():
            return self._difference(facts)
        return _metadata(fact, "file", self.mode, self.owner)

    def _difference(self, facts: HostFacts) -> str:
        if self.path != layout.CONF or not facts.conf or self.content is None:
            return "changed"
        old, new = facts.conf, parse_conf(self.content.decode())
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        shown = [_setting(name, old.get(name), new.get(name)) for name in names if name.startswith("ETCD_")]
        return ", ".join(shown) or "changed"

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    def why(self, facts: HostFacts) -> str:
        fact = facts.paths.get(self.path)
        if fact is None:
            return "new"
        if fact.kind == "link" and fact.target == self.target:
            return ""
        return f"pointed to {fact.target}" if fact.kind == "link" else f"was a {fact.kind}"

    def __str__(self) -> str:
        return f"{self.path} -> {self.target}"


@dataclass(frozen=True)
class Release:
    """One etcd release, unpacked.  ``sha256`` is the archive's digest where config.yaml pins it, else ''."""

    version: str
    sha256: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that the archive must hold."""
        return programs(self.version)

    def why(self, facts: HostFacts) -> str:
        installed = facts.releases.get(self.version)
        if not installed:
            return "new"
        return "from another archive" if self.sha256 and self.sha256 != installed else ""

    def __str__(self) -> str:
        return f"{layout.RELEASES}/{self.version}/"


@dataclass(frozen=True)
class TakenOver:
    """The etcd that somebody else set up, and ``inv adopt`` adopted, has made way for ours on the same data."""

    def why(self, facts: HostFacts) -> str:
        if not facts.adopted:
            return ""
        place, user = facts.adopted.get("DATA_DIR", ""), facts.adopted.get("USER", "")
        moved = [f"data from {place}"] if place != layout.DATA_DIR else []
        owned = [f"owner {user} to {layout.USER}"] if user != layout.USER else []
        return ", ".join(["stopped", *moved, *owned, f"what it was set up with to {layout.CONF_DIR}/adopted/"])

    def __str__(self) -> str:
        return "take over the etcd that runs there"


@dataclass(frozen=True)
class Reloaded:
    """systemd has read the units as they are on disk."""

    def why(self, facts: HostFacts) -> str:
        return "units changed on disk" if facts.unit.needs_reload else ""

    def __str__(self) -> str:
        return "systemctl daemon-reload"


@dataclass(frozen=True)
class Enabled:
    """etcd.service starts at boot."""

    def why(self, facts: HostFacts) -> str:
        return "" if facts.unit.enabled == "enabled" else "to start at boot"

    def __str__(self) -> str:
        return "systemctl enable etcd"


Resource = User | Directory | File | Link | Release | TakenOver | Reloaded | Enabled


@dataclass(frozen=True)
class Change:
    """One thing to do on one host, and why."""

    resource: Resource
    why: str

    def __str__(self) -> str:
        return f"{self.resource}  ({self.why})"


def diff(desired: Iterable[Resource], facts: HostFacts) -> tuple[Change, ...]:
    """The changes that bring a host from ``facts`` to ``desired``, in the order to make them."""
    changes = [Change(resource, why) for resource in desired if (why := resource.why(facts))]
    units = [change for change in changes if _is_unit(change.resource)]
    if units and not any(isinstance(change.resource, Reloaded) for change in changes):
        at = changes.index(units[-1]) + 1
        changes.insert(at, Change(Reloaded(), "units changed"))
    return tuple(changes)


def _is_unit(resource: Resource) -> bool:
    return isinstance(resource, File) and resource.path.startswith(f"{layout.UNITS}/")


def _metadata(fact: PathFact, kind: str, mode: int, owner: str) -> str:
    if fact.kind != kind:
        return f"was a {fact.kind}"
    if fact.mode != mode:
        return f"mode {fact.mode:o}, not {mode:o}"
    return f"owner {fact.owner}, not {owner}" if fact.owner != owner else ""


def _setting(name: str, old: str | None, new: str | None) -> str:
    flag = name.removeprefix("ETCD_").lower().replace("_", "-")
    if new is None:
        return f"{flag} removed"
    return f"{flag} {new}" if old is None else f"{flag} {old} -> {new}"
