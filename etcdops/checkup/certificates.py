"""Rules about certificates: on the hosts' disks, as they are served, in pki.dir; and whom the members trust."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from etcdops import guards, layout, rotation, transport
from etcdops.checkup.exam import ON_DISK
from etcdops.checkup.findings import Finding, Picture, refused
from etcdops.config import Member
from etcdops.pkifolder import CLIENTS, PEERS
from etcdops.transport import Stage

if TYPE_CHECKING:
    from etcdops.certificate import CertInfo

FORWARD = "AllowTcpForwarding local in its sshd_config; or inv verify, from elsewhere"
RENEW = "inv distribute issues a new one; no restart is needed"
CA_FILES = (f"{CLIENTS}.pem", f"{PEERS}.pem")
AUTHORITIES = {layout.CLIENT_CA: "the CA of clients", layout.PEER_CA: "the CA of peers"}


def on_disk(picture: Picture) -> Iterator[Finding]:
    """Certificates and CAs on a host that have ended, or will soon, or are not for its address."""
    for member in picture.config.members:
        exam = picture.seen.get(member.name)
        if exam is None or transport.stage(exam.facts) is Stage.PLAIN:  # what lies there is not used
            continue
        for path, pem in exam.pairs.items():
            info = _read(pem)
            if info is None:
                yield Finding("error", f"{path} holds no certificate", member.name, RENEW)
                continue
            yield from _dates(info, path, member.name, picture.now, RENEW)
            if path in ON_DISK.values():
                yield from _names(info, path, member)
        for path, what in AUTHORITIES.items():
            info = _read(exam.facts.trust.get(path, ""))
            if info:
                hint = "inv rotate-ca puts another one in its place, while clients write"
                yield from _dates(info, f"{path}, {what},", member.name, picture.now, hint)


def days(picture: Picture) -> str:
    found = [_read(pem) for exam in picture.seen.values() for pem in exam.pairs.values()]
    left = [info.days_left(picture.now) for info in found if info]
    return f"{min(left)} days left or more" if left else _none(picture)


def served(picture: Picture) -> Iterator[Finding]:
    """Ports that show no certificate, or another one than lies on the disk."""
    for name, exam in picture.seen.items():
        for port, shown in exam.served.items():
            if shown.unseen:
                yield Finding("note", f"what its ports serve could not be seen: {shown.unseen}", name, FORWARD)
                continue
            if shown.trouble:
                yield Finding("warning", f"port {port} shows no certificate: {shown.trouble}", name, "inv status")
                continue
            info, disk = _read(shown.certificate), _read(exam.pairs.get(ON_DISK[port], ""))
            if info is None or disk is None or info.serial == disk.serial:
                continue
            yield Finding(
                "error" if info.not_after <= picture.now else "warning",
                f"port {port} serves another certificate than {ON_DISK[port]} holds: one of {info.not_before:%Y-%m-%d} "
                f"to {info.not_after:%Y-%m-%d}, with {info.days_left(picture.now)} days left",
                name,
                "inv restart makes it read its files; inv deploy, if it was told of other files",
            )


def shown(picture: Picture) -> str:
    ports = sum(1 for exam in picture.seen.values() for shown in exam.served.values() if shown.certificate)
    return f"{ports} ports serve what lies on the disk" if ports else _none(picture)


def trust(picture: Picture) -> Iterator[Finding]:
    """Members that do not trust the CA that issues here, or have not read that they should."""
    for want in picture.wants.values():
        if want.pki:
            yield from refused([*guards.strangers(want.facts, want.pki), *guards.unread(want.facts, want.pki)])


def trusted(picture: Picture) -> str:
    known = any(want.facts.trust for want in picture.wants.values())
    return "every member trusts the CAs in pki.dir" if known else _none(picture)


def folder(picture: Picture) -> Iterator[Finding]:
    """What is wrong with pki.dir here, and which certificates in it are due."""
    where = picture.config.pki.dir
    if picture.pki:
        yield Finding("error", picture.pki.message, hint=picture.pki.hint or "put the pki folder of this cluster back")
        return
    if picture.cas:
        yield Finding("warning", f"not finished: {picture.cas}", hint=rotation.GO_ON)
    if picture.rotating:
        text = f"every certificate is being replaced since {picture.rotating:%Y-%m-%d %H:%M} UTC, and not yet proven"
        yield Finding("warning", text, hint="inv rotate-certs goes on from there")
    for item in picture.items:
        if item.action == "keep" or (item.action == "make" and picture.is_bare):
            continue
        if item.action == "make" and item.path in CA_FILES:
            hint = "put the pki folder that this cluster was deployed with in its place"
            yield Finding("error", f"{where}/{item.path} is missing", hint=hint)
            continue
        verb = "is missing" if item.action == "make" else "is due" if item.action == "renew" else "is open"
        yield Finding("warning", f"{where}/{item.path} {verb}: {item.why}", hint="inv distribute puts it right")


def kept(picture: Picture) -> str:
    if not picture.items:
        return _none(picture)
    made = sum(1 for item in picture.items if item.action == "make")
    return f"{made} are made by inv deploy" if made else f"{len(picture.items)} in {picture.config.pki.dir} are good"


def days_left(pem: str, now: datetime) -> int | None:
    """Until the certificate ends, in whole days; None where there is none."""
    info = _read(pem)
    return info.days_left(now) if info else None


def _dates(info: CertInfo, what: str, name: str, now: datetime, hint: str) -> Iterator[Finding]:
    left = info.days_left(now)
    if info.not_after <= now:
        yield Finding("error", f"{what} ended on {info.not_after:%Y-%m-%d}", name, hint)
    elif info.not_before > now:
        message = f"{what} is not valid before {info.not_before:%Y-%m-%d %H:%M} UTC"
        yield Finding("error", message, name, "is the clock of this machine right?")
    elif now >= info.renew_from:
        yield Finding("warning", f"{what} ends on {info.not_after:%Y-%m-%d}, days left: {left}", name, hint)


def _names(info: CertInfo, path: str, member: Member) -> Iterator[Finding]:
    from etcdops.certificate import general_name, san_texts

    (address,) = san_texts([general_name(member.address)])
    if address not in info.sans:
        text = f"{path} is not for {member.address}, but for {', '.join(info.sans) or 'no address'}"
        yield Finding("error", text, member.name, RENEW)


def _read(pem: str) -> CertInfo | None:
    from etcdops.certificate import PemError, inspect

    try:
        return inspect(pem.encode())
    except PemError:
        return None


def _none(picture: Picture) -> str:
    return "" if picture.config.cluster.tls else "plain http: there are none"
