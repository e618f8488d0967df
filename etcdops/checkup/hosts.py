"""Rules about the hosts: what etcd runs on, and how they reach each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from etcdops import guards, layout
from etcdops.checkup.findings import Finding, Level, Picture, refused
from etcdops.database import MIB
from etcdops.errors import OpsError
from etcdops.facts import HostFacts
from etcdops.plan import ETCD, Directory

SLOW = 0.010  # seconds for a write to be on the disk: what etcd wants of its slowest in a hundred
FULL_SANDBOX = 247  # systemd that knows every line of the unit; an older one leaves out what it does not know
VOLATILE = ("tmpfs", "ramfs")
REMOTE = ("nfs", "cifs", "smb2", "fuseblk", "ceph", "9p", "v9fs")
FOLDERS = (
    Directory(layout.CONF_DIR, 0o755),
    Directory(layout.SSL_DIR, 0o750, f"root:{layout.USER}"),
    Directory(layout.STATE_DIR, 0o700, ETCD),
    Directory(layout.RELEASES, 0o755),
)
OPEN = "open port {} of {} to the other members in every firewall between them"


def unreachable(picture: Picture) -> Iterator[Finding]:
    """Hosts that do not answer, or answer with an error."""
    for name, exam in picture.exams.items():
        if isinstance(exam, OpsError):
            yield Finding("error", exam.message, name, exam.hint)


def reached(picture: Picture) -> str:
    return f"{len(picture.seen)} answer" if picture.seen else ""


def machines(picture: Picture) -> Iterator[Finding]:
    """What keeps etcd from running on a host, as deploy sees it."""
    for member in picture.config.members:
        if member.name in picture.facts:
            yield from refused(guards.unfit(picture.config, member, picture.facts[member.name]))
    yield from refused(guards.same_machine(picture.facts))
    for name, fact in picture.facts.items():
        if 0 < fact.systemd < FULL_SANDBOX:
            yield Finding(
                "note",
                f"systemd {fact.systemd} does not know all of the unit's sandbox, as {FULL_SANDBOX} does",
                name,
                "etcd runs all the same; systemd-analyze security etcd.service there says how closed it is",
            )


def kinds(picture: Picture) -> str:
    facts = picture.facts.values()
    machines = Counter(fact.machine for fact in facts)
    systemds = sorted({fact.systemd for fact in facts})
    return f"{', '.join(sorted(machines))}, systemd {', '.join(map(str, systemds))}" if facts else ""


def names(picture: Picture) -> Iterator[Finding]:
    """A host that calls itself what another member is called: somebody has mixed up the addresses."""
    others = {member.name for member in picture.config.members}
    for name, exam in picture.seen.items():
        own = exam.hostname.partition(".")[0]
        if own != name and own in others:
            yield Finding(
                "warning",
                f"calls itself {own}, which is another member's name",
                name,
                "if the hosts are mixed up, correct 'address' or 'ssh' in config.yaml; else rename the host",
            )


def named(picture: Picture) -> str:
    return "each host has its member's address" if picture.seen else ""


def account(picture: Picture) -> Iterator[Finding]:
    """An account or a folder that somebody else has made; deploy puts the folders right."""
    for name, exam in picture.seen.items():
        fields = exam.account.split(":")
        if len(fields) == 7 and fields[2].isdigit() and int(fields[2]) == 0:
            yield Finding("error", f"user {layout.USER} is root there (uid 0)", name, "rename that account")
        elif len(fields) == 7 and not fields[6].endswith(("/nologin", "/false")):
            yield Finding(
                "note", f"user {layout.USER} can log in there ({fields[6]})", name, "usermod --shell /usr/sbin/nologin"
            )
        for folder in FOLDERS:
            why = folder.why(exam.facts)
            if why not in {"", "new"}:
                yield Finding("note", f"{folder}: {why}", name, "inv deploy puts it right")


def owned(picture: Picture) -> str:
    there = sum(1 for fact in picture.facts.values() if fact.has_user)
    return f"user {layout.USER} on {there} of {len(picture.seen)}, no folder in the way" if picture.seen else ""


def clock(picture: Picture) -> Iterator[Finding]:
    """Clocks that differ for certain."""
    yield from refused(guards.clocks(picture.facts))


def apart(picture: Picture) -> str:
    leads = [lead(fact) for fact in picture.facts.values()]
    return f"about {1000 * (max(leads) - min(leads)):.0f} ms apart" if len(leads) > 1 else ""


def lead(facts: HostFacts) -> float:
    """Seconds that its clock is ahead of ours, nearly: it is read at the start of the script."""
    return facts.clock[1]


def room(picture: Picture) -> Iterator[Finding]:
    """File systems that lose data, or have none of their own."""
    for name, exam in picture.seen.items():
        if exam.filesystem in VOLATILE:
            yield Finding(
                "error",
                f"{layout.DATA_DIR} is in memory ({exam.filesystem}): a reboot loses the member",
                name,
                f"mount a disk at {layout.STATE_DIR}",
            )
        elif exam.filesystem in REMOTE:
            yield Finding(
                "warning",
                f"{layout.DATA_DIR} is on a remote file system ({exam.filesystem})",
                name,
                f"etcd wants a local disk: mount one at {layout.STATE_DIR}",
            )


def free(picture: Picture) -> str:
    rooms = [fact.room[layout.DATA_DIR] // MIB for fact in picture.facts.values() if layout.DATA_DIR in fact.room]
    return f"{min(rooms) / 1024:.1f} GiB or more free for {layout.DATA_DIR}" if rooms else ""


def disks(picture: Picture) -> Iterator[Finding]:
    """Disks on which the trial writes took longer than etcd wants."""
    for name, exam in picture.seen.items():
        if not exam.syncs:
            yield Finding("note", "the speed of its disk could not be measured", name, "is there room for 1 MiB?")
            continue
        middle, slowest = _of(exam.syncs, 0.5), _of(exam.syncs, 0.99)
        text = f"a write takes {1000 * middle:.1f} ms to be on the disk, the slowest of 100 {1000 * slowest:.1f} ms"
        if middle > SLOW:
            yield Finding("warning", text, name, f"etcd wants 10 ms at most: put {layout.STATE_DIR} on an SSD")
        elif slowest > SLOW:
            yield Finding("note", text, name, "etcd wants 10 ms at most; is the disk shared with something busy?")


def speeds(picture: Picture) -> str:
    middles = [_of(exam.syncs, 0.5) for exam in picture.seen.values() if exam.syncs]
    return f"a write takes {1000 * max(middles):.1f} ms or less to be on the disk" if middles else ""


def _of(values: tuple[float, ...], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def reach(picture: Picture) -> Iterator[Finding]:
    """Ports of members that another member does not get through to; that nobody listens there is no matter here."""
    for name, exam in picture.seen.items():
        for (other, port), found in exam.reach.items():
            if found.state == "blocked" and other in picture.seen:  # a host that is away is a finding of its own
                level: Level = "error" if port == layout.PEER_PORT else "warning"
                message = f"does not reach {other} on port {port}: {found.why}"
                yield Finding(level, message, name, OPEN.format(port, other))
        if len(picture.exams) > 1 and all(found.state == "unseen" for found in exam.reach.values()):
            yield Finding(
                "note",
                "whom it reaches could not be seen: it has no bash with /dev/tcp",
                name,
                f"try ports {layout.PEER_PORT} and {layout.CLIENT_PORT} of the others from there by hand",
            )


def reaching(picture: Picture) -> str:
    ports = f"{layout.CLIENT_PORT} and {layout.PEER_PORT}"
    return f"each reaches every other on {ports}" if len(picture.seen) > 1 else ""


def data(picture: Picture) -> Iterator[Finding]:
    """Data and members that do not belong together, as deploy sees it."""
    config, facts = picture.config, picture.facts
    for member in config.members:
        if member.name in facts:
            yield from refused(guards.unlike(config, member, facts[member.name]))
    yield from refused(guards.incarnation(config, facts))
    yield from refused(guards.emptied(config, facts))


def held(picture: Picture) -> str:
    with_data = [name for name, fact in picture.facts.items() if fact.has_data]
    return (
        f"{len(with_data)} of {len(picture.seen)} have data, of one cluster"
        if with_data
        else "none yet"
        if picture.seen
        else ""
    )
