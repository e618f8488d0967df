"""What adopting a cluster comes to, as the operator reads it, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etcdops import layout
from etcdops.adoption.carried import Left
from etcdops.adoption.found import Found
from etcdops.adoption.keys import Keys
from etcdops.config import Config


@dataclass(frozen=True)
class Adoption:
    """What is to be written, and what was found."""

    config: Config
    found: Sequence[Found]
    text: str  # of the file; '' where it stays as it is
    keys: Keys | None
    files: Mapping[str, bytes]  # for pki.dir, those that are not there yet
    records: Mapping[str, bytes]  # by the name of the member
    said: Sequence[Left] = field(default_factory=tuple)

    @property
    def empty(self) -> bool:
        """Whether all of it is written already."""
        return not (self.text or self.files or self.records)

    def lines(self) -> list[str]:
        """What is written, a line each."""
        lines = [f"here  write {self.config.path}"] if self.text else []
        lines += [f"here  write {self.config.pki.dir}/{name}" for name in sorted(self.files)]
        return lines + [f"{name}  write {layout.ADOPTED}" for name in self.records]


def by_member(said: Sequence[Left]) -> dict[str, list[str]]:
    """What is left, for each member that it is about."""
    lines: dict[str, list[str]] = {}
    for each in said:
        for member in each.members:
            lines.setdefault(member, []).append(str(each))
    return lines


def of_keys(adoption: Adoption) -> list[str]:
    """What there is of the CAs' keys, and what that means."""
    lines: list[str] = []
    if adoption.keys is None:
        return lines
    folder = adoption.config.pki.dir
    for each in adoption.keys.authorities:
        if each.key is None:
            ends = min(adoption.keys.leaves.values())
            lines.append(
                f"the key of the CA for {each.purpose} was not found: the certificates in use stay, until "
                f"{ends:%Y-%m-%d}; put it into {folder}/{each.stem}-key.pem, and deploy can issue new ones"
            )
        elif not each.key_at.startswith("pki.dir:"):
            host, _, path = each.key_at.partition(":")
            lines.append(
                f"the key of the CA for {each.purpose} is in {folder}/{each.stem}-key.pem now; "
                f"{path} on {host} is a copy that should not be there: shred -u"
            )
    return lines


def member(each: Found) -> dict[str, Any]:
    """A member as JSON: how it runs."""
    return {
        "member": each.name,
        "address": each.address,
        "unit": each.process.service,
        "user": each.process.user,
        "data_dir": each.process.data_dir,
        "taken_over": each.process.is_ours,
    }


def document(adoption: Adoption, lines: Mapping[str, Sequence[str]], *, dry_run: bool) -> dict[str, Any]:
    """All of it as JSON; ``lines`` are what deploy would do."""
    made = adoption.keys
    return {
        "adopted": not dry_run or adoption.empty,
        "config": str(adoption.config.path),
        "cluster": adoption.config.cluster.name,
        "version": adoption.config.cluster.version,
        "tls": adoption.config.cluster.tls,
        "members": [member(each) for each in adoption.found],
        "written": [line.partition("  write ")[2] for line in adoption.lines()],
        "left": [{"what": each.what, "why": each.why, "members": list(each.members)} for each in adoption.said],
        "ca_keys": {each.stem: each.key_at for each in made.authorities} if made else {},
        "certificates_end": f"{min(made.leaves.values()):%Y-%m-%dT%H:%M:%SZ}" if made and made.leaves else None,
        "deploy": {name: list(each) for name, each in lines.items()},
    }
