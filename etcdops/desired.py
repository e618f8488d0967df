"""What should be on a host: config.yaml, the templates and the PKI as a list of resources.  No I/O but templates.

Each function is one documented step; ``deploy`` wants all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from etcdops import layout, transport
from etcdops.config import Config, Member
from etcdops.facts import TRUST, HostFacts, fingerprints, parse_conf
from etcdops.flags import default_settings
from etcdops.keystore import MemberPki
from etcdops.plan import ETCD, Directory, Enabled, File, Link, Release, Reloaded, Resource, TakenOver, User
from etcdops.release import architecture
from etcdops.transport import Stage


@dataclass(frozen=True)
class Want:
    """All that the desired state of one host follows from.

    ``token`` is this incarnation's; ``pki`` is None on a plain-http cluster.  ``joining``: a cluster is there already
    when this member first starts.  ``stage``: where to bring the transport; None: it stays where it is.  ``dialled``:
    the schemes that the cluster has for members which are dialled by another one.
    """

    config: Config
    member: Member
    facts: HostFacts
    token: str
    pki: MemberPki | None = None
    joining: bool = False
    stage: Stage | None = None
    dialled: Mapping[str, str] = field(default_factory=dict)

    @property
    def transport(self) -> Stage:
        """How this member is to talk to clients and peers."""
        return transport.kept(self.facts, self.config.cluster.tls) if self.stage is None else self.stage


def install(want: Want) -> list[Resource]:
    """The release, the link to the current one, and the commands."""
    version, pinned = want.config.cluster.version, want.config.release.sha256
    if not isinstance(pinned, str):
        pinned = next((digest for arch, digest in pinned.items() if arch == architecture(want.facts.machine)), "")
    release = Release(version, pinned)
    commands = [Link(f"{layout.BIN_DIR}/{program}", f"{layout.CURRENT}/{program}") for program in release.programs]
    return [Directory(layout.RELEASES, 0o755), release, Link(layout.CURRENT, version), *commands]


def distribute(want: Want) -> list[Resource]:
    """The account and the certificates; on a plain-http cluster the account alone."""
    pki = want.pki
    if pki is None:
        return [User()]
    return [
        User(),
        Directory(layout.CONF_DIR, 0o755),
        Directory(layout.SSL_DIR, 0o750, f"root:{layout.USER}"),
        File(layout.CLIENT_CA, pki.client_ca),
        File(layout.PEER_CA, pki.peer_ca),
        File(layout.TRUST, _trust(pki)),
        File(layout.SERVER, pki.server_pem, 0o600, ETCD),
        Link(layout.SERVER_KEY, "server.pem"),
        File(layout.CLIENT, pki.client_pem, 0o600, ETCD),
        Link(layout.CLIENT_KEY, "client.pem"),
        File(layout.PEER, pki.peer_pem, 0o600, ETCD),
        Link(layout.PEER_KEY, "peer.pem"),
    ]


def configure(want: Want) -> list[Resource]:
    """etcd.conf and etcd.service; once the member has joined, its identity."""
    unit = _unit(want)
    resources: list[Resource] = [
        User(),
        *([TakenOver()] if want.facts.adopted else []),
        Directory(layout.CONF_DIR, 0o755),
        Directory(layout.STATE_DIR, 0o700, ETCD),
        File(layout.CONF, etcd_conf(want, unit)),
        File(layout.UNIT, unit),
    ]
    return [*resources, *record(want), Reloaded()]


def record(want: Want) -> list[Resource]:
    """Who the member is, once it has joined its cluster; from then on the unit guards its data directory."""
    known = identity(want)
    return [File(layout.IDENTITY, (json.dumps(known, indent=2) + "\n").encode())] if known else []


def joined(want: Want, steps: Collection[str]) -> list[Resource]:
    """What a member gets once it has joined: the record, and an etcd.conf that says that the cluster exists.

    Where ``configure`` was not among the ``steps``, no other change of etcd.conf that may be due comes along.
    """
    conf = etcd_conf(want, _unit(want))
    new, old = parse_conf(conf.decode()), want.facts.conf
    other = [name for name in new.keys() | old.keys() if new.get(name) != old.get(name)]
    if "configure" in steps or other == ["ETCD_INITIAL_CLUSTER_STATE"]:
        return [*record(want), File(layout.CONF, conf)]
    return record(want)


def start(_: Want) -> list[Resource]:
    """The unit, enabled at boot.  Starting it is a matter of the whole cluster: see ``rollout``."""
    return [Enabled()]


STEPS: Mapping[str, Callable[[Want], list[Resource]]] = {
    "install": install,
    "distribute": distribute,
    "configure": configure,
    "start": start,
}


def resources(want: Want, steps: tuple[str, ...]) -> list[Resource]:
    """The desired state of one host for ``steps``, each resource once, the account first."""
    wanted = dict.fromkeys(resource for step in steps for resource in STEPS[step](want))
    return sorted(wanted, key=lambda resource: not isinstance(resource, User))


def identity(want: Want) -> dict[str, Any]:
    """Who this member is, for good: recorded once it has joined, {} before.

    A member with a record never starts as a new one again (etcd-operations: a wiped member that comes back under
    its old identity loses acknowledged writes).
    """
    if want.facts.identity:
        return dict(want.facts.identity)
    status = want.facts.view.status
    if want.facts.unit.active != "active" or status is None or not status.leader:
        return {}
    return {
        "cluster": want.config.cluster.name,
        "token": want.token,
        "cluster_id": f"{status.cluster_id:x}",
        "name": want.member.name,
        "member_id": f"{status.member_id:x}",
    }


def etcd_conf(want: Want, unit: bytes) -> bytes:
    """etcd.conf of one member, right for the release that config.yaml names."""
    cluster, members, member, stage = want.config.cluster, want.config.members, want.member, want.transport
    hosts = (member, member.model_copy(update={"address": "127.0.0.1"}))
    schemes = {each.name: want.dialled.get(each.name, stage.peers) for each in members}
    own = {name: _flag_value(value) for name, value in cluster.settings.items()}
    return render(
        "etcd.conf.j2",
        member=member,
        stage=stage,
        minor=cluster.minor,
        peer_url=member.url(stage.peers, layout.PEER_PORT),
        client_urls=[host.url(scheme, layout.CLIENT_PORT) for host in hosts for scheme in stage.clients],
        advertised_urls=[member.url(scheme, layout.CLIENT_PORT) for scheme in stage.advertised],
        initial_cluster=",".join(f"{each.name}={each.url(schemes[each.name], layout.PEER_PORT)}" for each in members),
        token=want.token,
        state="existing" if want.joining or identity(want) else "new",
        settings={**default_settings(cluster.version), **own},
        fingerprint=hashlib.sha256(unit).hexdigest()[:16],
    )


def needs_restart(want: Want) -> str:
    """What the running process was started with that is not what it should run with; '' when nothing is."""
    facts, version = want.facts, want.config.cluster.version
    if facts.adopted:
        return "adopted"
    if facts.executable.endswith("(deleted)"):
        return "its program was replaced"
    if facts.running_version != version:
        return f"etcd {facts.running_version or 'of another source'} -> {version}"
    unit = _unit(want)
    asked = etcd_conf(want, unit) + (_trust(want.pki) or b"" if want.pki and want.transport else b"")
    new, old = (_effective(settings) for settings in (parse_conf(asked.decode()), facts.running))
    if want.transport is Stage.PLAIN:  # which CAs a change of the transport has brought is nothing to it
        old = {name: value for name, value in old.items() if name not in TRUST.values()}
    names = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    flags = [name.removeprefix("ETCD_").lower().replace("_", "-") for name in names if name.startswith("ETCD_")]
    return ", ".join(flags) or ("unit or CA changed" if names else "")


def _unit(want: Want) -> bytes:
    return render("etcd.service.j2", cluster=want.config.cluster, extra=_extra(want.config.cluster.unit))


def _effective(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings without those that only a member's first start reads."""
    return {name: value for name, value in settings.items() if not name.startswith("ETCD_INITIAL_")}


def _trust(pki: MemberPki) -> bytes | None:
    """Which CAs are in the two files: beside them, so that it is as new as they are; None before there are any."""
    if pki.client_ca is None or pki.peer_ca is None:
        return None
    bundles = {layout.CLIENT_CA: pki.client_ca, layout.PEER_CA: pki.peer_ca}
    lines = [f"{TRUST[path]}={','.join(sorted(fingerprints(pem.decode())))}\n" for path, pem in bundles.items()]
    return b"# For the environment of etcd, which reads its CA files at start only\n" + "".join(lines).encode()


def _flag_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _extra(sections: Mapping[str, Mapping[str, Any]]) -> Callable[[str], str]:
    def lines(section: str) -> str:
        rows = []
        for key, value in sections.get(section, {}).items():
            values = value if isinstance(value, list) else [value]
            rows += [f"{key}={'yes' if each is True else 'no' if each is False else each}" for each in values]
        return "\n".join(["# From config.yaml", *rows, ""]) if rows else ""

    return lines


def quoted(value: str) -> str:
    """A value as systemd's EnvironmentFile and a POSIX shell both read it back unchanged."""
    for special in ("\\", '"', "$", "`"):
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


@cache
def _templates() -> Environment:
    environment = Environment(  # noqa: S701 - configuration files, not HTML
        loader=FileSystemLoader(layout.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = quoted
    environment.globals["layout"] = layout
    return environment


def render(template: str, **values: object) -> bytes:
    """A file of templates/ with ``values`` filled in; one that is missing is an error."""
    return _templates().get_template(template).render(**values).encode()
