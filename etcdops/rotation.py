"""How far a cluster has come with a rotation of its CAs: what pki.dir and the hosts say.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etcdops import desired, layout
from etcdops.desired import Want
from etcdops.facts import fingerprints
from etcdops.plan import File, diff
from etcdops.succession import STAGES, Stage

MEANING: Mapping[Stage, str] = {
    "trust": "every member reads both CAs, and the old ones issue still",
    "leaves": "every member gets certificates of the new CAs",
    "retire": "every member forgets the old CAs",
}
GO_ON = "inv rotate-ca goes on from there"


@dataclass(frozen=True)
class Standing:
    """``behind``: what each member still lacks for this stage; where none lacks anything, its end can be proven."""

    stage: Stage
    behind: Mapping[str, str]

    @property
    def number(self) -> int:
        """Of the stage, from 1."""
        return STAGES.index(self.stage) + 1

    @property
    def document(self) -> dict[str, Any]:
        """For --json."""
        return {"stage": self.stage, "number": self.number, "of": len(STAGES), "behind": dict(self.behind)}

    def __str__(self) -> str:
        left = ", ".join(f"{name}: {what}" for name, what in self.behind.items())
        return f"rotation of the CAs, stage {self.number} of {len(STAGES)}: {MEANING[self.stage]} ({left or 'all do'})"


def standing(stage: Stage, wants: Mapping[str, Want]) -> Standing:
    """How far the members in ``wants``, with what pki.dir has for them now, have come with ``stage``."""
    return Standing(stage, {name: left for name, want in wants.items() if (left := behind(want))})


def behind(want: Want) -> str:
    """What a host has not got yet of the certificates in pki.dir, or its member has not read; '' when all is done."""
    files = {layout.CLIENT_CA, layout.PEER_CA, layout.SERVER, layout.PEER, layout.CLIENT}
    changes = diff(desired.distribute(want), want.facts)
    lacking = [each.resource.path for each in changes if isinstance(each.resource, File)]
    if lacking := [path.rpartition("/")[2] for path in lacking if path in files]:
        return f"{' '.join(lacking)} not there yet"
    return "not restarted yet" if unread(want) else ""


def unread(want: Want) -> bool:
    """Whether the member runs with other CAs than pki.dir has for it."""
    if want.pki is None or not want.facts.is_running:
        return False
    bundles = {layout.CLIENT_CA: want.pki.client_ca, layout.PEER_CA: want.pki.peer_ca}
    return any(want.facts.loaded(path) != fingerprints((pem or b"").decode()) for path, pem in bundles.items())
