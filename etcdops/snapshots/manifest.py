"""The manifest beside a snapshot: a small JSON file that says what the snapshot is and how to know it again."""

from __future__ import annotations

import json
import re
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from etcdops.errors import OpsError
from etcdops.snapshots.proof import Proof, RecordedMember
from etcdops.values import Name

LARGEST = 1 << 20  # bytes of a manifest; one with 100 members has 30 KB
FILE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}T\d{6}Z-r\d+(-rescue)?)\.(?P<kind>json|db|db\.age)")

Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{0,16}$")]
UtcTime = Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC).replace(microsecond=0))]


class Manifest(BaseModel):
    """One backup.  ``stored_*`` is of the file in the store, ``size`` and ``sha256`` of the snapshot before encryption.

    Keys that a newer version added are passed over.  ``None`` is what whoever made the backup could not know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = 1
    # rescue: of what a restore or a recovery replaced.  It is nobody's latest backup, and retention leaves it alone.
    purpose: Literal["backup", "rescue"] = "backup"
    cluster: Name
    cluster_id: Hex = ""
    token: str = ""
    member: str
    member_id: Hex
    etcd_version: str
    taken: UtcTime
    revision: int = Field(ge=0)
    keys: int | None = None  # live ones, at that revision
    hash: int | None = None  # etcd's hashkv, at that revision
    compact_revision: int | None = None  # where that hash begins: hashes are equal only if these are
    members: tuple[RecordedMember, ...] = ()
    size: int = Field(ge=0)
    sha256: Sum
    tool_version: str
    encrypted: bool = False
    stored_size: int = Field(ge=0)
    stored_sha256: Sum

    @property
    def name(self) -> str:
        """What the backup is called; its files have this name."""
        rescue = "-rescue" if self.purpose == "rescue" else ""
        return f"{self.cluster}-{self.taken:%Y%m%dT%H%M%SZ}-r{self.revision}{rescue}"

    @property
    def file(self) -> str:
        """The file in the store."""
        return f"{self.name}.db.age" if self.encrypted else f"{self.name}.db"

    @classmethod
    def load(cls, data: bytes, where: object) -> Manifest:
        """``data`` as a manifest; ``where`` it came from is named in the ``OpsError``."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            what = f"{key}: {first['msg']}" if key else first["msg"]
            raise OpsError(
                f"{where}: is not a manifest: {what}", hint="without it nothing vouches for the file"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest in the file ``path``."""
        try:
            with path.open("rb") as stream:
                return cls.load(stream.read(LARGEST), path)
        except OSError as error:
            raise OpsError(f"{path}: {error.strerror or error}") from None

    def dump(self) -> bytes:
        """The file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=2).encode() + b"\n"

    def describes(self, proof: Proof, where: object) -> None:
        """``OpsError`` says what differs if ``where``, the file that ``proof`` is of, is not the one described here."""
        if proof.sha256 == self.sha256:
            return
        ours, theirs = (_names(each) for each in (self.members, proof.members))
        strangers = {each.id for each in self.members}.isdisjoint(each.id for each in proof.members)
        if self.members and proof.members and strangers:
            raise OpsError(
                f"{where}: is another cluster's: its members are {theirs}, those of '{self.cluster}' were {ours}",
                hint="the manifest beside it belongs to another file",
            )
        pairs: dict[str, tuple[Any, Any]] = {
            "size": (proof.size, self.size),
            "revision": (proof.revision, self.revision),
            "sha256": (proof.sha256, self.sha256),
        }
        differing = [f"{what} is {it}, not {said}" for what, (it, said) in pairs.items() if it != said]
        raise OpsError(
            f"{where}: is not the file that {self.name}.json describes: {', '.join(differing)}",
            hint="take another backup; inv snapshot.list",
        )


def beside(snapshot: Path) -> Path:
    """Where the manifest of the file ``snapshot`` is, if it has one."""
    stem = snapshot.name.removesuffix(".age").removesuffix(".db")
    return snapshot.with_name(f"{stem}.json")


def _names(members: tuple[RecordedMember, ...]) -> str:
    return ", ".join(f"{each.name or 'unnamed'} ({each.id})" for each in members)
