"""The cluster as its owner describes it: the sections and keys of config.yaml.

``configfile`` reads the file.  Relative paths in it resolve from the folder that it stands in.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag

from etcdops.errors import UsageError
from etcdops.values import (
    Address,
    Bucket,
    Endpoint,
    FilledHost,
    FilledPath,
    Given,
    HostFolder,
    HostName,
    Interval,
    Lifetime,
    MemberName,
    Name,
    PathName,
    PlainText,
    Prefix,
    Recipient,
    RemoteFolder,
    Scalar,
    Sha256,
    Sha256ByArch,
    UnitKey,
    UnitSection,
    UnitValue,
    Url,
    UserName,
    Version,
)

# What follows from `members` and `tls` has one source; a second one could contradict it.  The write-ahead log
# stays in the data directory: where it is missing there, a member counts as emptied and must not start.
MANAGED_SETTINGS = re.compile(
    r"name|data-dir|wal-dir|config-file|force-new-cluster|initial-.*|.*advertise-.*|listen-(peer|client)-urls"
    r"|(peer-)?(cert-file|key-file|trusted-ca-file|client-cert-auth|auto-tls)"
    r"|(peer-)?client-(cert|key)-file|discovery.*|unsafe-no-fsync|proxy.*"
)


class Section(BaseModel):
    """A mapping of the file: no unknown keys, no silent conversions, never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClusterSection(Section):
    """What the cluster is: its name, release, transport, and settings passed on to etcd and systemd."""

    name: Name
    version: Version
    tls: bool = True
    settings: dict[str, Scalar] = Field(default_factory=dict)
    unit: dict[UnitSection, dict[UnitKey, UnitValue]] = Field(default_factory=dict)

    @property
    def minor(self) -> str:
        """The release line, such as ``3.6``."""
        return self.version.rpartition(".")[0]


class Member(Section):
    """One etcd member.  ``ssh`` and ``port`` reach its host where ``address`` and ssh.port do not."""

    name: MemberName
    address: Address
    ssh: HostName = ""
    port: int = Field(default=0, ge=0, le=65535)

    def url(self, scheme: str, port: int) -> str:
        """A URL of this member; an IPv6 address stands in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}://{host}:{port}"


class SshSection(Section):
    """How to reach the hosts.  What is not written here comes from ~/.ssh/config, then from the defaults."""

    user: HostName = "root"
    key: PathName = ""
    port: int = Field(default=22, ge=1, le=65535)
    gateway: HostName = ""
    known_hosts: FilledPath = "~/.ssh/known_hosts"
    host_keys: Literal["strict", "accept-new"] = "accept-new"
    connect_timeout: float = Field(default=10, gt=0, le=600)
    command_timeout: float = Field(default=120, gt=0, le=86400)


class ReleaseSection(Section):
    """Where the etcd archive comes from."""

    url: Url = "https://github.com/etcd-io/etcd/releases/download/v{version}/etcd-v{version}-linux-{arch}.tar.gz"
    sha256: Annotated[
        Annotated[Sha256, Tag("one")] | Annotated[Sha256ByArch, Tag("each")],
        Discriminator(lambda value: "each" if isinstance(value, dict) else "one"),
    ] = ""
    archive: PathName = ""


class PkiSection(Section):
    """Where keys and certificates live on this machine, and how new ones are made."""

    dir: FilledPath = "pki"
    key: Literal["ecdsa-p256", "rsa-2048"] = "ecdsa-p256"
    ca_lifetime: Lifetime = timedelta(hours=87600)
    leaf_lifetime: Lifetime = timedelta(hours=8760)


class AuthSection(Section):
    """Who the tasks are to etcd, once authentication is on: this user, or the CN of the hosts' client certificate."""

    user: UserName = ""


class KeepSection(Section):
    """Which backups stay: the last so many, and the newest of each of so many days and weeks that have one (UTC)."""

    last: int = Field(default=0, ge=0, le=10000)
    daily: int = Field(default=0, ge=0, le=10000)
    weekly: int = Field(default=0, ge=0, le=10000)


class S3Section(Section):
    """A bucket of S3, or of what speaks its language.  Credentials come from where boto3 looks for them."""

    bucket: Bucket
    prefix: Prefix = ""
    endpoint: Endpoint = ""
    region: PlainText = ""


class SftpSection(Section):
    """A folder on another host.  What is not written here comes from ~/.ssh/config; the user then from ssh.user."""

    host: FilledHost
    port: int = Field(default=0, ge=0, le=65535)
    user: HostName = ""
    path: RemoteFolder


class AgeSection(Section):
    """Who can read the backups.  ``identity``, a file of secret keys, is needed to read them back only."""

    recipients: list[Recipient] = Field(min_length=1)
    identity: PathName = ""


class ScheduleSection(Section):
    """Backups that the members make themselves: how often, how many stay, and where on each host."""

    every: Interval = timedelta(hours=6)
    keep: int = Field(default=28, ge=1, le=10000)
    dir: HostFolder = "/var/backups/etcd"


class BackupSection(Section):
    """Where snapshots are kept: in ``dir`` on this machine, or in ``s3`` or ``sftp`` (at most one of them)."""

    dir: FilledPath = "backups"
    keep: KeepSection = KeepSection()
    s3: Annotated[S3Section | None, Given] = None
    sftp: Annotated[SftpSection | None, Given] = None
    age: Annotated[AgeSection | None, Given] = None
    schedule: ScheduleSection = ScheduleSection()


class Config(Section):
    """The whole file."""

    cluster: ClusterSection
    members: list[Member] = Field(min_length=1)
    ssh: SshSection = SshSection()
    release: ReleaseSection = ReleaseSection()
    pki: PkiSection = PkiSection()
    auth: AuthSection = AuthSection()
    backup: BackupSection = BackupSection()
    _path: Path = PrivateAttr(default=Path("config.yaml"))

    def model_post_init(self, context: Any) -> None:
        """``context`` of the validation is the path of the file that the values came from."""
        if isinstance(context, Path):
            self._path = context

    @property
    def path(self) -> Path:
        """Where it was read from."""
        return self._path

    def resolve(self, name: str) -> Path:
        """A path written in the file: ``~`` expanded, relative ones from the file's folder."""
        return (self.path.parent / Path(name).expanduser()).absolute()

    def member(self, name: str) -> Member:
        """The member called ``name``; ``UsageError`` lists the names there are."""
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(member.name for member in self.members)
        raise UsageError(f"no member is called '{name}' in {self.path}", hint=f"members: {known}")
