"""What cannot be adopted as it runs, and what to do about it: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from etcdops import layout
from etcdops.adoption.found import PAIRS, Found, Host, Process, host_of
from etcdops.certificate import PemError
from etcdops.errors import Refused
from etcdops.pki import CA
from etcdops.values import SUPPORTED_MINORS

PLAIN = re.compile(r"[A-Za-z0-9/._@:+,=\[\]-]*")  # what needs no quotes in a shell
BIND = "mkdir -p {new} && mount --bind {old} {new}, and the same in /etc/fstab; then inv adopt again"
UNLINK = "stop this member; rm {new} && mkdir {new} && mount --bind {old} {new}, and the same in /etc/fstab; start it"


def process(host: Host) -> Iterator[Refused]:
    """What runs there, before it is asked anything."""

    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=host.address, hint=hint)

    if not host.processes:
        yield finding("no etcd runs here", "adopt takes a whole cluster while it serves: start it, or correct --hosts")
        return
    if len(host.processes) > 1:
        shown = ", ".join(f"pid {each.pid} ({each.service or 'no service'})" for each in host.processes)
        yield finding(f"{len(host.processes)} etcd run here: {shown}", "one member for each host; move the others away")
        return
    (each,) = host.processes
    if not each.service:
        yield finding(
            f"its etcd (pid {each.pid}) is run by no systemd service",
            "what runs in a container, or was started by hand, cannot be taken over",
        )
    elif each.unit.get("MainPID") != str(each.pid):
        yield finding(
            f"etcd (pid {each.pid}) is not the main process of {each.service}, but a child of it",
            "write 'exec' before etcd in what starts it, restart it, then inv adopt again",
        )
    if each.told().problem:
        yield finding(f"its configuration file cannot be read: {each.told().problem}", "correct it, then restart etcd")
    # They stand in a script that a root shell reads: what a host says must not become a command.
    said = [*each.files, each.data_dir, each.client_url, host.etcdctl]
    odd = next((text for text in said if not PLAIN.fullmatch(text)), "")
    if odd:
        yield finding(f"{odd!r}: adopt takes no blanks or special characters in a path or URL", "choose another one")
    if not host.etcdctl:
        yield finding("there is no etcdctl", f"put the one that belongs to {each.executable} beside it")


def member(found: Found) -> Iterator[Refused]:
    """A member that does not run as one of ours could, or that does not serve."""

    def finding(message: str, hint: str) -> Refused:
        return Refused(message, host=found.name, hint=hint)

    view = found.view
    if not view.healthy or view.status is None or found.member is None:
        why = view.complaint or "it does not tell its status and members"
        yield finding(f"is not healthy: {why}", "adopt takes a healthy cluster only: mend that first")
        return
    if found.version.rpartition(".")[0] not in SUPPORTED_MINORS:
        yield finding(f"runs etcd {found.version}", f"only {', '.join(SUPPORTED_MINORS)} are supported")
    if found.told.on("force-new-cluster"):
        yield finding(
            "was started with force-new-cluster: its next start would expel the others", "take it out, and restart it"
        )
    for name in found.told.settings:
        if "cert-allowed-" in name:
            yield finding(
                f"{name} is set, and the certificates that deploy makes have other names",
                "take it out and restart the members, one at a time; then inv adopt again",
            )
    yield from _urls(found)
    yield from _transport(found)
    yield from _data(found)
    yield from _drop_ins(found.process, found.name)


def _urls(found: Found) -> Iterator[Refused]:
    member, name = found.member, found.name
    assert member is not None
    peers = ", ".join(member.peer_urls)
    scheme = "https" if found.process.client_url.startswith("https:") else "http"
    schemes = {urlsplit(url).scheme for url in (*member.peer_urls, found.process.client_url)}
    if len(schemes) > 1:
        yield Refused(
            f"peers speak {urlsplit(member.peer_urls[0]).scheme}, clients {scheme}",
            host=name,
            hint="TLS for both or for none: peer URLs change by `etcdctl member update`, member by member; "
            "then inv adopt again",
        )
        return
    hosts = (f"[{host}]" if ":" in host else host for host in addresses(member.peer_urls))
    known = {f"{scheme}://{host}:{layout.PEER_PORT}" for host in hosts}
    if len(member.peer_urls) != 1 or not known & set(member.peer_urls):
        yield Refused(
            f"its peer URL is {peers}; here it is an IP address and port {layout.PEER_PORT}",
            host=name,
            hint=f"have it listen on port {layout.PEER_PORT}, then: etcdctl member update {member.id:x} "
            f"--peer-urls={scheme}://ADDRESS:{layout.PEER_PORT}",
        )
    port = urlsplit(found.process.client_url).port or 80
    if port != layout.CLIENT_PORT:
        yield Refused(
            f"serves clients on port {port}; here that is always {layout.CLIENT_PORT}",
            host=name,
            hint=f"have it listen on {layout.CLIENT_PORT}, too, and advertise that; move its clients there",
        )


def addresses(urls: Sequence[str]) -> Iterator[str]:
    """The IP addresses among the hosts of URLs."""
    return (host for url in urls if ":" in (host := host_of(url)) or re.fullmatch(r"[\d.]+", host))


def _transport(found: Found) -> Iterator[Refused]:
    if not found.process.client_url.startswith("https:"):
        return
    told, name = found.told, found.name
    for prefix, who in (("", "clients"), ("peer-", "peers")):
        if told.on(f"{prefix}auto-tls") or (prefix and not told.get("peer-cert-file")):
            yield Refused(
                f"{prefix}auto-tls: its certificates are of no CA",
                host=name,
                hint="give it certificates of a CA, member by member; then inv adopt again",
            )
        elif not told.get(f"{prefix}trusted-ca-file"):
            yield Refused(
                f"lets {who} in without a certificate; after a deploy it would refuse them",
                host=name,
                hint=f"give them certificates, then set {prefix}trusted-ca-file, one by one; then inv adopt again",
            )
        else:
            yield from _pair(found, prefix)


def _pair(found: Found, prefix: str) -> Iterator[Refused]:
    """Files that cannot be read, and a certificate that another CA than the trusted one has signed."""
    role = "peer" if prefix else "server"
    settings = (f"{prefix}trusted-ca-file", *PAIRS[role])
    lost = [each for each in settings if found.pem(each) is None]
    for each in lost:
        yield Refused(f"{found.process.file(each)} ({each}) is not there", host=found.name, hint="put it back")
    if lost:
        return
    ca_pem, cert, _ = (found.pem(each) or b"" for each in settings)
    try:
        ca = CA.load(ca_pem, None)
    except PemError as error:
        yield Refused(f"{found.process.file(settings[0])} {error.message}", host=found.name, hint=error.hint)
        return
    if not ca.signed(cert):
        yield Refused(
            f"{found.process.file(settings[1])} was not signed by the CA in {found.process.file(settings[0])}",
            host=found.name,
            hint="one CA for what is shown and what is trusted on a port: put both into that file, and restart etcd",
        )


def _data(found: Found) -> Iterator[Refused]:
    here, there = found.places[found.process.data_dir], found.places[layout.DATA_DIR]
    old, new = found.process.data_dir, layout.DATA_DIR
    if not here.holds:
        yield Refused(f"{old} holds no member's data", host=found.name, hint="is data-dir another one by now?")
        return
    # What becomes etcd's is followed through no symlink: its member could not read its data after its turn.
    links = [path for path in (new, *(f"{old}/member{each}" for each in ("", "/wal", "/snap"))) if path in found.links]
    for path in links:
        target = found.links[path]
        yield Refused(f"{path} is a symlink to {target}", host=found.name, hint=UNLINK.format(old=target, new=path))
    if links:
        return
    wal, usual = found.process.wal_dir, f"{old}/member/wal"
    if found.places[wal].inode != found.places[usual].inode:
        yield Refused(
            f"its write-ahead log is in {wal}, not in the data directory",
            host=found.name,
            hint=BIND.format(old=wal, new=usual),
        )
    if old == new or here.inode == there.inode:
        return
    if there.holds:
        yield Refused(f"runs with {old}, and {new} holds data, too", host=found.name, hint=f"mv {new} {new}.old")
    elif here.device != there.device:
        yield Refused(
            f"its data is in {old}, which is another file system than that of {new}",
            host=found.name,
            hint=BIND.format(old=old, new=new),
        )


def _drop_ins(each: Process, name: str) -> Iterator[Refused]:
    for path in each.unit.get("DropInPaths", "").split():
        if f"/{layout.SERVICE}.d/" in path and not path.startswith(("/etc/systemd/system/", "/run/systemd/system/")):
            yield Refused(
                f"{path} would hold for the unit that deploy writes, too",
                host=name,
                hint=f"ln -s /dev/null /etc/systemd/system/{layout.SERVICE}.d/{path.rpartition('/')[2]}",
            )


def cluster(found: Sequence[Found]) -> Iterator[Refused]:
    """Members that are not one cluster of voters, each of them looked at."""
    ids = {each.view.status.cluster_id for each in found if each.view.status}
    if len(ids) > 1:
        shown = ", ".join(f"{each.name}: {each.view.status.cluster_id:x}" for each in found if each.view.status)
        yield Refused(f"they are in different clusters ({shown})", hint="name the hosts of one")
        return
    first = next((each for each in found if each.view.members), None)
    if first is None:
        return
    lists = {frozenset(each.view.members) for each in found if each.view.members}
    if len(lists) > 1:
        yield Refused("the members do not agree who is a member", hint="wait, then inv adopt again")
    seen = {each.member.id for each in found if each.member}
    for each in first.view.members or ():
        if not each.started:
            yield Refused(
                f"member {each.id:x} at {', '.join(each.peer_urls)} has never started",
                hint=f"etcdctl member remove {each.id:x}, or start it",
            )
        elif each.learner:
            yield Refused("is a learner", host=each.name, hint=f"etcdctl member promote {each.id:x}, or remove it")
        elif each.id not in seen:
            yield Refused(
                "is a member, and its host was not looked at",
                host=each.name,
                hint=f"its peer URL is {', '.join(each.peer_urls)}: name the host in --hosts",
            )
    versions = {each.name: each.version for each in found if each.version}
    if len(set(versions.values())) > 1:
        shown = ", ".join(f"{name}: {version}" for name, version in versions.items())
        yield Refused(f"they run different releases ({shown})", hint="finish the upgrade first")
    transports = {each.process.client_url.partition(":")[0] for each in found}
    if len(transports) > 1:
        yield Refused("some serve clients with TLS, others without", hint="finish that first")
    for setting in ("trusted-ca-file", "peer-trusted-ca-file"):
        if len({bytes(each.pem(setting) or b"").strip() for each in found}) > 1:
            yield Refused(f"they do not trust the same CA ({setting})", hint="give all of them the same file")
