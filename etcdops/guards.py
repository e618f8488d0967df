"""What must not be: everything that makes a run unsafe, found on all hosts before the first change on any.

Pure: facts in, findings out.  A finding is a ``Refused`` that names the host, the trouble and the way out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etcdops import etcd, layout
from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.etcd import ClusterMember
from etcdops.facts import HostFacts
from etcdops.keystore import MemberPki
from etcdops.release import architecture

CLOCK_LIMIT = 1.0  # seconds; etcd itself warns above this drift between peers
ASIDE = f"mv {layout.DATA_DIR} {layout.DATA_DIR}.old, if its data is not needed"
ROOM_FOR_DATA = 512 << 20  # bytes; a first start alone preallocates two 64 MB write-ahead logs
ROOM_FOR_RELEASE = 256 << 20  # bytes; archive and unpacked programs, side by side

Facts = Mapping[str, HostFacts]


def findings(config: Config, facts: Facts) -> list[Refused]:
    """Every reason not to go on, host by host, then those of the cluster as a whole."""
    found: list[Refused] = []
    for member in config.members:
        found += _host(config, member, facts[member.name])
    return [
        *found,
        *_same_machine(facts),
        *_clocks(facts),
        *_incarnation(config, facts),
        *_emptied(config, facts),
        *membership(config, facts),
    ]


def check(config: Config, facts: Facts) -> None:
    """Raise one ``Refused`` that holds every finding, if there is any."""
    refuse(findings(config, facts))


def refuse(found: Iterable[Refused]) -> None:
    """Raise one ``Refused`` that holds all of ``found``, if there is any."""
    together = list(found)
    if together:
        raise Refused("nothing was changed", findings=together)


def _host(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=member.name, hint=hint)

    if architecture(facts.machine) is None:
        yield finding(f"{facts.machine} has no supported etcd release", "use a host with x86_64 or aarch64")
    if not facts.systemd:
        yield finding("systemd does not run here", "use a host with systemd")
    if member.address not in facts.addresses:
        own = ", ".join(sorted(address for address in facts.addresses if address not in {"127.0.0.1", "::1"}))
        yield finding(
            f"{member.address} is not an address of this host, which has {own or 'none'}",
            f"correct 'address' of {member.name} in config.yaml, or 'ssh' if this is another host",
        )
    yield from _room(config, member, facts)
    for program in layout.PROGRAMS:
        path = f"{layout.BIN_DIR}/{program}"
        fact = facts.paths.get(path)
        if fact and fact.kind != "link":
            yield finding(f"{path} was not put there by etcdops", f"move it away: mv {path} {path}.old")
    for listener in dict.fromkeys(facts.listeners):  # one program may listen on IPv4 and IPv6
        if listener.pid != facts.unit.pid or not facts.is_running:
            owner = f"{listener.program} (pid {listener.pid})" if listener.pid else "another program"
            yield finding(f"port {listener.port} is taken by {owner}", "stop it; etcd needs this port")
    yield from _running(config, member, facts)


def _room(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    needs = []
    if not facts.has_data:
        needs.append((layout.DATA_DIR, ROOM_FOR_DATA))
    if config.cluster.version not in facts.releases:
        needs.append((layout.RELEASES, ROOM_FOR_RELEASE))
    for path, need in needs:
        free, _ = facts.room[path]
        if free < need:
            yield Refused(
                f"{free >> 20} MiB free for {path}, {need >> 20} MiB needed",
                host=member.name,
                hint="free some space or mount a larger file system there",
            )


def _running(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A member that runs, or has data to run on, in a way that deploy must not change."""

    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=member.name, hint=hint)

    if facts.is_running and "ETCDOPS_STARTED_WITH" not in facts.running:
        yield finding(
            f"an etcd that etcdops did not set up runs here ({facts.executable}, {facts.unit.fragment})",
            "stop it and move its unit and data directory away, if nobody needs it",
        )
        return
    if not (facts.is_running or facts.has_data):
        return
    if (facts.running or facts.conf) and _is_plain(facts) == config.cluster.tls:
        was, will = ("TLS", "plain http") if not config.cluster.tls else ("plain http", "TLS")
        yield finding(
            f"runs with {was}, and config.yaml asks for {will}",
            f"set cluster.tls: {str(not config.cluster.tls).lower()}; deploy does not change the transport",
        )
    current = facts.paths.get(layout.CURRENT)
    version = facts.running_version or (current.target if current else "")
    if version and version.rpartition(".")[0] != config.cluster.minor:
        yield finding(
            f"runs etcd {version}, and config.yaml asks for {config.cluster.version}",
            f"set cluster.version to a {version.rpartition('.')[0]} release; deploy changes the patch level only",
        )
    bad = etcd.known_bad(config.cluster.version)
    if bad and version != config.cluster.version:
        yield finding(f"etcd {config.cluster.version} {bad}", "set cluster.version to a newer release")


def _is_plain(facts: HostFacts) -> bool:
    """Whether the etcd that runs there, or will on the data there, speaks plain http."""
    return (facts.running or facts.conf).get("ETCD_LISTEN_CLIENT_URLS", "").startswith("http:")


def strangers(facts: HostFacts, pki: MemberPki) -> Iterator[Refused]:
    """A member with data that does not trust the CA which its next certificates come from.

    They would cut it off from the other members and from clients.  A change of CA goes by way of a bundle that holds
    both, on every host, before the new one issues anything (etcd-operations 3.11).
    """
    for path, issuer in ((layout.CLIENT_CA, pki.client_issuer), (layout.PEER_CA, pki.peer_issuer)):
        theirs = facts.trust.get(path, "")
        if facts.has_data and theirs and not (issuer and _certificates(issuer.decode()) & _certificates(theirs)):
            yield Refused(
                f"{path} there does not hold the CA that issues in pki.dir here",
                host=facts.name,
                hint="put the pki folder that this cluster was deployed with in its place",
            )


def _certificates(bundle: str) -> set[str]:
    """The certificates of a PEM bundle, whatever stands around them."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", bundle, re.DOTALL)
    return {"".join(block.split()) for block in blocks}


def _same_machine(facts: Facts) -> Iterator[Refused]:
    first: dict[object, str] = {}
    for name, fact in facts.items():
        # Containers on one kernel may share its boot id, but not their addresses.
        other = first.setdefault((fact.boot_id, fact.addresses), name)
        if other != name:
            yield Refused(f"is the same machine as {other}", host=name, hint="one host for each member: correct 'ssh'")


def _clocks(facts: Facts) -> Iterator[Refused]:
    """Clocks that differ for certain: the round trip leaves each one known to an interval only."""
    for (one, first), (two, second) in itertools.combinations(facts.items(), 2):
        apart = max(first.clock[0] - second.clock[1], second.clock[0] - first.clock[1])
        if apart > CLOCK_LIMIT:
            yield Refused(
                f"its clock is at least {apart:.1f} s from that of {one}",
                host=two,
                hint="synchronise the clocks (chrony, systemd-timesyncd)",
            )


def unready(config: Config, facts: HostFacts) -> Iterator[Refused]:
    """A host on which `start` alone finds nothing to start."""
    needed = [(layout.CURRENT, "install"), (layout.CONF, "configure"), (layout.UNIT, "configure")]
    if config.cluster.tls:
        needed += [(layout.SERVER, "distribute"), (layout.PEER, "distribute")]
    for path, task in needed:
        if path not in facts.paths:
            yield Refused(f"{path} is not there yet", host=facts.name, hint=f"inv {task}, or inv deploy for all of it")


def other_member(config: Config, facts: HostFacts) -> Iterator[Refused]:
    """A host that is a member of another cluster, or another member of this one than config.yaml says."""
    if facts.identity and facts.identity.get("cluster") != config.cluster.name:
        yield Refused(
            f"is a member of another cluster, {facts.identity.get('cluster')}",
            host=facts.name,
            hint="use another host, or correct cluster.name"
            + ("" if facts.is_running else f"; to give it up: rm {layout.IDENTITY}, {ASIDE}"),
        )
    elif facts.identity and facts.identity.get("name") != facts.name:
        yield Refused(
            f"is member {facts.identity.get('name')} of this cluster",
            host=facts.name,
            hint="correct 'ssh' or 'name'",
        )


def _incarnation(config: Config, facts: Facts) -> Iterator[Refused]:
    """Data directories that do not belong to this cluster, or to no other incarnation of it."""
    bad = etcd.known_bad(config.cluster.version)
    if bad and not any(fact.is_running or fact.has_data for fact in facts.values()):
        yield Refused(f"etcd {config.cluster.version} {bad}", hint="set cluster.version to a newer release")
    tokens = {}
    for name, fact in facts.items():
        foreign = list(other_member(config, fact))
        if foreign:
            yield from foreign
        elif fact.identity and fact.data in {"", "unfinished"}:
            yield Refused(
                f"has been a member, but {layout.DATA_DIR} is empty or not mounted",
                host=name,
                hint="mount the disk; if the data is lost, remove this member and add it again, never start it empty",
            )
        elif fact.data == "files":
            yield Refused(f"{layout.DATA_DIR} holds something that is not etcd's", host=name, hint=ASIDE)
        elif fact.has_data and not fact.token:
            yield Refused(
                f"{layout.DATA_DIR} holds data of another cluster: no {layout.CONF} goes with it",
                host=name,
                hint=ASIDE,
            )
        elif fact.has_data:
            tokens[name] = fact.token
    if len(set(tokens.values())) > 1:
        shown = ", ".join(f"{name}: {token}" for name, token in tokens.items())
        yield Refused(f"the hosts hold data of different clusters ({shown})", hint=f"on the wrong ones: {ASIDE}")
    ids = {name: fact.view.status.cluster_id for name, fact in facts.items() if fact.view.status}
    if len(set(ids.values())) > 1:
        shown = ", ".join(f"{name}: {value:x}" for name, value in ids.items())
        yield Refused(f"the members run in different clusters ({shown})", hint="stop the wrong ones")


def _emptied(config: Config, facts: Facts) -> Iterator[Refused]:
    """Hosts without data whose member the cluster has known before: etcd-operations, fact 2.

    Their own record of it may have gone with the disk or the host, so the others are asked.  Started empty under its
    old identity, such a member votes without what it had acknowledged, and acknowledged writes can be lost.
    """
    live = _live(config, facts)
    joined = [fact.name for fact in _ours(config, facts) if fact.identity]
    for member in config.members:
        fact = facts[member.name]
        if fact.has_data or fact.identity or fact.is_running:
            continue
        url = member.url("https" if config.cluster.tls else "http", layout.PEER_PORT)
        known = next((each for each in live or () if url in each.peer_urls or each.name == member.name), None)
        if known and known.started:
            yield Refused(
                "is a member of the running cluster, but has no data here: it was lost with the disk or the host",
                host=member.name,
                hint=f"never start it empty: inv etcdctl -- member remove {known.id:x}, and take it out of config.yaml",
            )
        elif live is None and joined:
            yield Refused(
                f"has no data, while {', '.join(joined)} have been members, and no cluster runs that could tell "
                "whether it was one, too",
                host=member.name,
                hint="mount its disk if that is what is missing; else bring the others up first: systemctl start etcd",
            )


def _ours(config: Config, facts: Facts) -> list[HostFacts]:
    """Hosts of this cluster; one of another cluster, or of another transport, has a finding of its own."""
    return [
        fact
        for fact in facts.values()
        if fact.identity.get("cluster", config.cluster.name) == config.cluster.name
        and _is_plain(fact) != config.cluster.tls
    ]


def _live(config: Config, facts: Facts) -> tuple[ClusterMember, ...] | None:
    """The membership as a healthy member tells it."""
    views = [fact.view for fact in _ours(config, facts)]
    return next((view.members for view in views if view.healthy and view.members), None)


def membership(config: Config, facts: Facts) -> Iterator[Refused]:
    """Members that config.yaml has and the running cluster has not, or the other way round."""
    live = _live(config, facts)
    if live is None:
        yield from _initial(config, facts)
        return
    scheme = "https" if config.cluster.tls else "http"
    urls = {member.url(scheme, layout.PEER_PORT): member.name for member in config.members}
    for each in live:
        name = each.name or next((urls[url] for url in each.peer_urls if url in urls), "")
        expected = next((url for url, owner in urls.items() if owner == name), "")
        if not expected and any(
            url in urls and facts[urls[url]].identity.get("name") == each.name for url in each.peer_urls
        ):
            continue  # renamed in config.yaml: what its own host says is enough
        if not expected:
            yield Refused(
                f"member {each.name or 'without a name'} ({', '.join(each.peer_urls)}) is in the running cluster, "
                "not in config.yaml",
                hint=f"add it to config.yaml; only if it is to go for good: inv etcdctl -- member remove {each.id:x}",
            )
        elif expected not in each.peer_urls:
            yield Refused(
                f"the running cluster knows it at {', '.join(each.peer_urls)}, config.yaml at {expected}",
                host=name,
                hint="put the old address back into config.yaml",
            )
    known = {each.name for each in live} | {urls[url] for each in live for url in each.peer_urls if url in urls}
    yield from _unknown([member.name for member in config.members if member.name not in known])


def _initial(config: Config, facts: Facts) -> Iterator[Refused]:
    """While the cluster is down, the members that it was set up with are the ones that it will look for."""
    scheme = "https" if config.cluster.tls else "http"
    wanted = {f"{member.name}={member.url(scheme, layout.PEER_PORT)}" for member in config.members}
    for fact in _ours(config, facts):
        known = set(filter(None, fact.conf.get("ETCD_INITIAL_CLUSTER", "").split(",")))
        if fact.has_data and known and known != wanted:
            shown = ", ".join(sorted(known ^ wanted))
            yield Refused(
                f"has data of a cluster with other members than config.yaml ({shown})",
                host=fact.name,
                hint="put the members back as they were and start the cluster; they change while it runs",
            )


def _unknown(names: Sequence[str]) -> Iterator[Refused]:
    for name in names:
        yield Refused(
            "is in config.yaml, but not a member of the running cluster",
            host=name,
            hint="take it out of config.yaml; deploy does not add members to a running cluster",
        )
