"""What adopting a cluster comes to: config.yaml, the files of pki.dir, and a record on each host."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etcdops import configfile, layout
from etcdops.adoption import carried, text
from etcdops.adoption.carried import Left
from etcdops.adoption.found import Found
from etcdops.config import Config, Member
from etcdops.configfile import ConfigError
from etcdops.errors import Refused
from etcdops.flaws import known_bad

DEFAULT_TOKEN = "etcd-cluster"  # etcd's own  # noqa: S105


@dataclass(frozen=True)
class Given:
    """What the user says: the file as it is ('' where there is none), the name if any, and what a new file gets."""

    path: Path
    text: str
    name: str = ""
    ssh: Mapping[str, str] | None = None


def describe(given: Given, found: Sequence[Found], members: Sequence[Member]) -> tuple[str, Config]:
    """The new text of the file and what it means; ``Refused`` where it cannot describe what runs."""
    base = text.skeleton(given.text, given.path) if given.text.strip() else None
    wanted: dict[str, str] = {}
    settings, unit = carried.settings(found), carried.unit(found)
    version, tls = found[0].version, found[0].process.client_url.startswith("https:")
    there = base.cluster if base and text.has(given.text, given.path, "cluster") else None
    if there is None:
        name = given.name or _name(found)
        wanted["cluster"] = text.cluster(name, version, tls, settings, unit)
    elif (there.version, there.tls) != (version, tls) or any(
        _plain(there.settings.get(name)) != value for name, value in settings.items()
    ):
        both = {**{name: _plain(value) for name, value in there.settings.items()}, **settings}
        wanted["cluster"] = text.cluster(there.name, version, tls, both, unit)
    known = base.members if base and text.has(given.text, given.path, "members") else []
    if [(each.name, each.address) for each in known] != [(each.name, each.address) for each in members]:
        wanted["members"] = text.members(members)
    if not wanted:
        new = given.text
    else:
        new = text.merged(given.text, given.path, wanted)
        if given.ssh and not given.text.strip():
            new += text.ssh(given.ssh)
    try:
        return new, configfile.parse(new, given.path)
    except ConfigError as error:
        findings = [Refused(f"what runs cannot be described: {each.key}: {each.message}") for each in error.problems]
        raise Refused("nothing was changed", findings=findings) from None


def _name(found: Sequence[Found]) -> str:
    return found[0].told.get("initial-cluster-token") or DEFAULT_TOKEN


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def record(config: Config, each: Found) -> bytes:
    """/etc/etcd/adopted.conf of a member: who it is, and how it runs until deploy has taken it over.

    Values are without quotes and blanks, but for SECURE, which are flags: the scripts in files/ read it with sed.
    """
    assert each.view.status is not None
    process = each.process
    values = {
        "CLUSTER": config.cluster.name,
        "TOKEN": each.told.get("initial-cluster-token") or DEFAULT_TOKEN,
        "CLUSTER_ID": f"{each.view.status.cluster_id:x}",
        "NAME": each.name,
        "MEMBER_ID": f"{each.view.status.member_id:x}",
        "VERSION": each.version,
        "UNIT": process.service,
        "USER": process.user,
        "DATA_DIR": process.data_dir,
        "TRUSTED_CA": process.file("trusted-ca-file"),
        "PEER_TRUSTED_CA": process.file("peer-trusted-ca-file"),
        "ENDPOINT": process.client_url,
        "SECURE": process.secure,
        "BIN_DIR": posixpath.dirname(each.etcdctl),
    }
    head = "# Written by `inv adopt`: how it runs until `inv deploy` has taken it over. Delete it to give that up.\n"
    return (head + "".join(f"{name}={value}\n" for name, value in values.items() if value)).encode()


def warnings(config: Config, found: Sequence[Found]) -> list[Left]:
    """What else the operator should know before the first deploy."""
    everyone = tuple(each.name for each in found)
    said = []
    if bad := known_bad(config.cluster.version):
        said.append(
            Left(
                f"etcd {config.cluster.version}",
                f"{bad}: set cluster.version to a newer {config.cluster.minor} release, also before the first deploy",
                everyone,
            )
        )
    if len(found) == 1:
        said.append(Left("one member", "the first deploy interrupts it for as long as a restart takes", everyone))
    if len(found) == 2:
        said.append(
            Left(
                "two members", "neither can be restarted without an interruption: inv stop before the deploy", everyone
            )
        )
    token = {each.told.get("initial-cluster-token") or DEFAULT_TOKEN for each in found}
    if token == {DEFAULT_TOKEN}:
        said.append(
            Left(
                f"initial-cluster-token {DEFAULT_TOKEN}",
                "stays, as it is part of the cluster's id: never restore one of its snapshots by hand beside it",
                everyone,
            )
        )
    if layout.USER not in {each.process.user for each in found}:
        said.append(Left(f"user {found[0].process.user}", f"becomes {layout.USER}, and owns the data then", everyone))
    return said
