"""One host that is unfit, or whose etcd is not one that a run may change."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from etcdops import layout, transport
from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.facts import HostFacts, fingerprints
from etcdops.guards.release import by_chance, is_strange, other_release, undead
from etcdops.keystore import MemberPki
from etcdops.release import architecture

ASIDE = f"mv {layout.DATA_DIR} {layout.DATA_DIR}.old, if its data is not needed"
SYSTEMD = 235  # the first that knows StateDirectory= and `systemctl show --value`
ROOM_FOR_DATA = 512 << 20  # bytes; a first start alone preallocates two 64 MB write-ahead logs
ROOM_FOR_RELEASE = 256 << 20  # bytes; archive and unpacked programs, side by side


def unfit(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A host that etcd cannot run on, or on which something else is in its place."""

    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=member.name, hint=hint)

    if architecture(facts.machine) is None:
        yield finding(f"{facts.machine} has no supported etcd release", "use a host with x86_64 or aarch64")
    if not facts.systemd:
        yield finding("systemd does not run here", "use a host with systemd")
    elif facts.systemd < SYSTEMD:
        yield finding(f"systemd {facts.systemd} is too old, {SYSTEMD} is needed", "use a host with a newer one")
    if member.address not in facts.addresses:
        own = ", ".join(sorted(address for address in facts.addresses if address not in {"127.0.0.1", "::1"}))
        yield finding(
            f"{member.address} is not an address of this host, which has {own or 'none'}",
            f"correct 'address' of {member.name} in config.yaml, or 'ssh' if this is another host",
        )
    yield from room(config, member, facts)
    for program in layout.PROGRAMS:
        path = f"{layout.BIN_DIR}/{program}"
        fact = facts.paths.get(path)
        if fact and fact.kind != "link" and not facts.adopted:
            yield finding(f"{path} was not put there by etcdops", f"move it away: mv {path} {path}.old")
    for listener in dict.fromkeys(facts.listeners):  # one program may listen on IPv4 and IPv6
        if listener.pid != facts.unit.pid or not facts.is_running:
            owner = f"{listener.program} (pid {listener.pid})" if listener.pid else "another program"
            yield finding(f"port {listener.port} is taken by {owner}", "stop it; etcd needs this port")
    if is_strange(facts):
        yield finding(
            f"an etcd that etcdops did not set up runs here ({facts.executable}, {facts.unit.fragment})",
            "inv adopt, if this is the cluster; else stop it and move its unit and data directory away",
        )


def room(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """Too little of it for what this config brings there."""
    needs = []
    if not facts.has_data:
        needs.append((layout.DATA_DIR, ROOM_FOR_DATA))
    if config.cluster.version not in facts.releases:
        needs.append((layout.RELEASES, ROOM_FOR_RELEASE))
    for path, need in needs:
        free = facts.room[path]
        if free < need:
            yield Refused(
                f"{free >> 20} MiB free for {path}, {need >> 20} MiB needed",
                host=member.name,
                hint="free some space or mount a larger file system there",
            )


def unlike(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A member that runs, or has data to run on, in a way that deploy must not change."""
    yield from other_way(config, member, facts)
    yield from other_release(config, member, facts)
    yield from by_chance(config.cluster.version, facts)
    yield from undead(config.cluster.version, facts)


def other_way(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A member that has a restore before it, or another transport."""

    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=member.name, hint=hint)

    if facts.barred:
        yield cut_short(facts)
    if is_strange(facts) or not (facts.is_running or facts.has_data):
        return
    if (found := transport.stage(facts)) is not None and not transport.agrees(found, config.cluster.tls):
        will, task, before = ("TLS", "enable", "false") if config.cluster.tls else ("plain http", "disable", "true")
        was = "plain http" if config.cluster.tls else "TLS"
        yield finding(
            f"runs with {was}, and config.yaml asks for {will}",
            f"inv {task}-tls changes that, one member at a time; or set cluster.tls: {before}, as it was",
        )
    else:
        yield from torn(facts)


def torn(facts: HostFacts) -> Iterator[Refused]:
    """A member that the others dial by another scheme than it listens with."""
    if right := transport.correction(facts):
        id_, urls = right
        yield Refused(
            "a change of the transport was cut short: the others reach it by another scheme than it listens with",
            host=facts.name,
            hint="inv enable-tls finishes it, inv disable-tls takes it back; where another host is lost, neither can: "
            f"inv etcdctl -- member update {id_:x} --peer-urls={','.join(urls)}",
        )


def between(facts: HostFacts) -> Iterator[Refused]:
    """A member that has certificates, and is dialled by plain http: what becomes of its address would take both."""
    if transport.stage(facts) is transport.Stage.BOTH:
        yield Refused(
            "is between plain http and TLS",
            host=facts.name,
            hint="inv enable-tls or inv disable-tls --close-https ends that; where neither can, with a host at another "
            "address already: inv replace-member with its --address",
        )


def plain_peers(facts: HostFacts) -> Iterator[Refused]:
    """A member that its peers reach by http still, midway between plain http and TLS: its port 2380 shows no
    certificate, so that none can be proven there."""
    found = transport.stage(facts)
    if found is not None and found < transport.Stage.PEERS:
        yield Refused(
            f"speaks {found}, and other members reach it by plain http: port 2380 shows no certificate",
            host=facts.name,
            hint="inv enable-tls first, which goes on to TLS; or inv disable-tls, which goes back",
        )


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


def unwelcome(config: Config, member: Member, facts: HostFacts, ids: Collection[int], token: str) -> Iterator[Refused]:
    """A host on which ``member`` must not begin: unfit, or with what is not to be set aside for it.

    ``ids`` are the members of the cluster: what one that is none any more has left may be set aside.
    """
    yield from unfit(config, member, facts)
    current = int(str(facts.identity.get("member_id") or "0"), 16) in ids
    ours = facts.identity.get("cluster", config.cluster.name) == config.cluster.name
    if facts.barred:
        yield cut_short(facts)
    elif not ours or (current and facts.identity.get("name") != member.name):
        yield from other_member(config, facts)
    elif facts.data == "files":
        yield Refused(f"{layout.DATA_DIR} holds something that is not etcd's", host=facts.name, hint=ASIDE)
    elif facts.has_data and facts.token != token:
        yield Refused(f"{layout.DATA_DIR} holds data of another cluster", host=facts.name, hint=ASIDE)


def still_there(config: Config, old: Member, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A member that has moved must have its data, and its old address no more.

    Peers let nobody in who calls from an address that his certificate does not name (etcd, "Transport security
    model"), and which of two addresses its calls come from is up to the kernel.
    """
    if not (facts.has_data and facts.identity):
        yield Refused(
            "has no data of a member here", host=member.name, hint=f"inv replace-member {member.name} if it is lost"
        )
    if config.cluster.tls and old.address != member.address and old.address in facts.addresses:
        yield Refused(
            f"still has its old address {old.address}, from which its peers would not let it in",
            host=member.name,
            hint="take that address off the host first",
        )


def cut_short(facts: HostFacts) -> Refused:
    """A host where a restore or recovery was cut short.  What a recovery swaps has an id like that of any restore."""
    if facts.barred == layout.RECOVERY:
        return Refused("inv recover was cut short here", host=facts.name, hint="inv recover again")
    return Refused(
        f"restore {facts.barred} was cut short here",
        host=facts.name,
        hint="inv restore with the same snapshot goes on from there; inv restore-undo puts the old data back; "
        "if it was inv recover, or a host is lost for good: inv recover again",
    )


def adopted(facts: HostFacts) -> Iterator[Refused]:
    """A member that runs as ``inv adopt`` found it: it becomes ours in one piece or not at all."""
    if facts.adopted:
        yield Refused(
            "was adopted, and runs as it was set up before", host=facts.name, hint="inv deploy takes it over first"
        )


def unready(config: Config, facts: HostFacts) -> Iterator[Refused]:
    """A host on which `start` alone finds nothing to start."""
    needed = [(layout.CURRENT, "install"), (layout.CONF, "configure"), (layout.UNIT, "configure")]
    if config.cluster.tls:
        needed += [(layout.SERVER, "distribute"), (layout.PEER, "distribute")]
    for path, task in needed:
        if path not in facts.paths:
            yield Refused(f"{path} is not there yet", host=facts.name, hint=f"inv {task}, or inv deploy for all of it")


def strangers(facts: HostFacts, pki: MemberPki) -> Iterator[Refused]:
    """A member with data that does not trust the CA which its next certificates come from.

    They would cut it off from the other members and from clients.  A change of CA goes by way of a bundle that holds
    both, on every host, and read by every member, before the new one issues anything (etcd-operations 3.11).
    """
    for path, issuer in ((layout.CLIENT_CA, pki.client_issuer), (layout.PEER_CA, pki.peer_issuer)):
        theirs = facts.trust.get(path, "")
        if not (facts.has_data and theirs):
            continue
        if not fingerprints((issuer or b"").decode()) & fingerprints(theirs):
            yield Refused(
                f"{path} there does not hold the CA that issues in pki.dir here",
                host=facts.name,
                hint="put the pki folder that this cluster was deployed with in its place",
            )


def unread(facts: HostFacts, pki: MemberPki) -> Iterator[Refused]:
    """A member that runs with an older bundle than lies on its disk: without the CA of its next certificates."""
    for path, issuer in ((layout.CLIENT_CA, pki.client_issuer), (layout.PEER_CA, pki.peer_issuer)):
        theirs = facts.trust.get(path, "")
        ours = fingerprints((issuer or b"").decode())
        if facts.has_data and ours & fingerprints(theirs) and not ours & facts.loaded(path):
            yield Refused(
                f"runs with an older {path}, without the CA that issues in pki.dir here",
                host=facts.name,
                hint="inv restart makes it read the file; then the same again",
            )
