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
from etcdops.facts import HostFacts
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
    return [*found, *_same_machine(facts), *_clocks(facts), *_incarnation(config, facts), *membership(config, facts)]


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
    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=member.name, hint=hint)

    if not facts.is_running:
        return
    if "ETCDOPS_STARTED_WITH" not in facts.running:
        yield finding(
            f"an etcd that etcdops did not set up runs here ({facts.executable}, {facts.unit.fragment})",
            "stop it and move its unit and data directory away, if nobody needs it",
        )
        return
    if _is_plain(facts) == config.cluster.tls:
        was, will = ("TLS", "plain http") if not config.cluster.tls else ("plain http", "TLS")
        yield finding(
            f"runs with {was}, and config.yaml asks for {will}",
            f"set cluster.tls: {str(not config.cluster.tls).lower()}; deploy does not change the transport",
        )
    running = facts.running_version
    if running and running.rpartition(".")[0] != config.cluster.minor:
        yield finding(
            f"runs etcd {running}, and config.yaml asks for {config.cluster.version}",
            f"set cluster.version to a {running.rpartition('.')[0]} release; deploy changes the patch level only",
        )


def _is_plain(facts: HostFacts) -> bool:
    """Whether the etcd that runs there speaks plain http."""
    return facts.running.get("ETCD_LISTEN_CLIENT_URLS", "").startswith("http:")


def strangers(facts: HostFacts, client_ca: bytes, peer_ca: bytes) -> Iterator[Refused]:
    """A member with data that trusts no CA of ours: another pki.dir made its certificates.

    New certificates under a new CA would cut it off from members and clients; a change of CA goes by way of a
    bundle that holds the old one, too (etcd-operations 3.11).
    """
    for path, ours in ((layout.CLIENT_CA, client_ca), (layout.PEER_CA, peer_ca)):
        theirs = facts.trust.get(path, "")
        if facts.has_data and theirs and not _certificates(theirs) & _certificates(ours.decode()):
            yield Refused(
                f"{path} there is not from the CA in pki.dir here",
                host=facts.name,
                hint="put the pki folder that this cluster was deployed with in its place",
            )


def _certificates(bundle: str) -> set[str]:
    """The certificates of a PEM bundle, whatever stands around them."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", bundle, re.DOTALL)
    return {"".join(block.split()) for block in blocks}


def _same_machine(facts: Facts) -> Iterator[Refused]:
    first: dict[str, str] = {}
    for name, fact in facts.items():
        other = first.setdefault(fact.boot_id, name)
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


def unready(facts: HostFacts) -> Iterator[Refused]:
    """A host on which `start` alone finds nothing to start."""
    for path, task in ((layout.CURRENT, "install"), (layout.CONF, "configure"), (layout.UNIT, "configure")):
        if path not in facts.paths:
            yield Refused(f"{path} is not there yet", host=facts.name, hint=f"inv {task}, or inv deploy for all of it")


def other_member(config: Config, facts: HostFacts) -> Iterator[Refused]:
    """A host that is a member of another cluster, or another member of this one than config.yaml says."""
    if facts.identity and facts.identity.get("cluster") != config.cluster.name:
        yield Refused(
            f"is a member of another cluster, {facts.identity.get('cluster')}",
            host=facts.name,
            hint=f"use another host, or correct cluster.name; to give it up: rm {layout.IDENTITY}, {ASIDE}",
        )
    elif facts.identity and facts.identity.get("name") != facts.name:
        yield Refused(
            f"is member {facts.identity.get('name')} of this cluster",
            host=facts.name,
            hint="correct 'ssh' or 'name'",
        )


def _incarnation(config: Config, facts: Facts) -> Iterator[Refused]:
    """Data directories that do not belong to this cluster, or to no other incarnation of it."""
    if etcd.known_bad(config.cluster.version) and not any(fact.is_running for fact in facts.values()):
        yield Refused(
            f"etcd {config.cluster.version} {etcd.known_bad(config.cluster.version)}",
            hint="set cluster.version to a newer release",
        )
    tokens = {}
    for name, fact in facts.items():
        foreign = list(other_member(config, fact))
        if foreign:
            yield from foreign
        elif fact.identity and not fact.data:
            yield Refused(
                f"has been a member, but {layout.DATA_DIR} is empty or not mounted",
                host=name,
                hint="mount the disk; if the data is lost, remove this member and add it again, never start it empty",
            )
        elif fact.data == "files":
            yield Refused(f"{layout.DATA_DIR} holds something that is not etcd's", host=name, hint=ASIDE)
        elif fact.has_data and "ETCD_INITIAL_CLUSTER_TOKEN" not in fact.conf:
            yield Refused(
                f"{layout.DATA_DIR} holds data of another cluster: no {layout.CONF} goes with it",
                host=name,
                hint=ASIDE,
            )
        elif fact.has_data:
            tokens[name] = fact.conf["ETCD_INITIAL_CLUSTER_TOKEN"]
    if len(set(tokens.values())) > 1:
        shown = ", ".join(f"{name}: {token}" for name, token in tokens.items())
        yield Refused(f"the hosts hold data of different clusters ({shown})", hint=f"on the wrong ones: {ASIDE}")
    ids = {name: fact.view.status.cluster_id for name, fact in facts.items() if fact.view.status}
    if len(set(ids.values())) > 1:
        shown = ", ".join(f"{name}: {value:x}" for name, value in ids.items())
        yield Refused(f"the members run in different clusters ({shown})", hint="stop the wrong ones")


def membership(config: Config, facts: Facts) -> Iterator[Refused]:
    """Members that config.yaml has and the running cluster has not, or the other way round."""
    ours = [  # a host of another cluster, or of another transport, has a finding of its own
        fact
        for fact in facts.values()
        if fact.identity.get("cluster", config.cluster.name) == config.cluster.name
        and _is_plain(fact) != config.cluster.tls
    ]
    live = next((fact.view.members for fact in ours if fact.view.healthy and fact.view.members), None)
    if live is None:
        return
    scheme = "https" if config.cluster.tls else "http"
    urls = {member.url(scheme, layout.PEER_PORT): member.name for member in config.members}
    for each in live:
        name = each.name or next((urls[url] for url in each.peer_urls if url in urls), "")
        expected = next((url for url, owner in urls.items() if owner == name), "")
        if not expected:
            yield Refused(
                f"member {each.name or 'without a name'} ({', '.join(each.peer_urls)}) is in the running cluster, "
                "not in config.yaml",
                hint=f"add it to config.yaml, or remove it: inv etcdctl -- member remove {each.id:x}",
            )
        elif expected not in each.peer_urls:
            yield Refused(
                f"the running cluster knows it at {', '.join(each.peer_urls)}, config.yaml at {expected}",
                host=name,
                hint="put the old address back into config.yaml",
            )
    known = {each.name for each in live} | {urls[url] for each in live for url in each.peer_urls if url in urls}
    yield from _unknown([member.name for member in config.members if member.name not in known])


def _unknown(names: Sequence[str]) -> Iterator[Refused]:
    for name in names:
        yield Refused(
            "is in config.yaml, but not a member of the running cluster",
            host=name,
            hint="take it out of config.yaml; deploy does not add members to a running cluster",
        )
