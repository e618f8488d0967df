"""The certificates and keys of an adopted cluster, as the folder pki.dir has them: pure, bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from etcdops.adoption.found import PAIRS, Found
from etcdops.certificate import PemError, inspect
from etcdops.errors import Refused
from etcdops.pki import CA, LeafRequest, Pair, Role
from etcdops.pkifolder import CLIENTS, PEERS

TRUSTED = {CLIENTS: "trusted-ca-file", PEERS: "peer-trusted-ca-file"}


@dataclass(frozen=True)
class Authority:
    """A CA of the cluster: its name in pki.dir, and where its key was found ('' where it was not)."""

    stem: str
    ca: CA
    key: bytes | None
    key_at: str
    purpose: str


@dataclass(frozen=True)
class Keys:
    """``files``: what pki.dir gets, by path in it.  ``leaves``: certificates that stay in use, with their end."""

    files: Mapping[str, bytes]
    authorities: tuple[Authority, ...]
    leaves: Mapping[str, datetime]
    findings: tuple[Refused, ...]


def gather(found: Sequence[Found], there: Mapping[str, bytes], now: datetime) -> Keys:
    """``found`` are members with TLS; ``there`` is what stands in pki.dir already."""
    authorities = _authorities(found, there)
    files: dict[str, bytes] = {}
    leaves: dict[str, datetime] = {}
    findings: list[Refused] = []
    for each in authorities:
        files[f"{each.stem}.pem"] = each.ca.cert_pem
        if each.key:
            files[f"{each.stem}-key.pem"] = each.key
            continue
        roles: list[Role] = (
            ["server", "peer"] if len(authorities) == 1 else ["server" if each.stem == CLIENTS else "peer"]
        )
        for role in roles:
            for member in found:
                stem = f"members/{member.name}/{role}"
                pair = _pair(member, role)
                findings += _unusable(each, member, role, pair, now)
                if f"{stem}.pem" not in there:
                    files |= {f"{stem}.pem": pair.cert_pem, f"{stem}-key.pem": pair.key_pem}
                leaves[f"{stem}.pem"] = inspect(there.get(f"{stem}.pem", pair.cert_pem)).not_after
        if "server" in roles:  # the guide's etcdctl shows that one, too
            clients = {"client": found[0], **{f"members/{member.name}/client": member for member in found}}
            for stem, member in clients.items():
                if f"{stem}.pem" not in there:
                    pair = _pair(member, "server")
                    files |= {f"{stem}.pem": pair.cert_pem, f"{stem}-key.pem": pair.key_pem}
    findings += _others(files, authorities, there)
    return Keys(files, tuple(authorities), leaves, tuple(findings))


def _authorities(found: Sequence[Found], there: Mapping[str, bytes]) -> list[Authority]:
    first = found[0]
    pems = {stem: (first.pem(setting) or b"").strip() + b"\n" for stem, setting in TRUSTED.items()}
    candidates = {f"pki.dir:{name}": key for name, key in there.items() if name.endswith("-key.pem")}
    for each in found:
        candidates |= {f"{each.name}:{path}": key for path, key in each.keys.items()}
    one = CA.load(pems[CLIENTS], None).bundle == CA.load(pems[PEERS], None).bundle
    result = []
    for stem in (CLIENTS,) if one else (CLIENTS, PEERS):
        at, key = next(_matching(pems[stem], candidates), ("", None))
        purpose = "clients and peers" if one else "clients" if stem == CLIENTS else "peers"
        result.append(Authority(stem, CA.load(pems[stem], key), key, at, purpose))
    return result


def _matching(cert_pem: bytes, candidates: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for at, key in candidates.items():
        try:
            CA.load(cert_pem, key)
        except PemError:
            continue
        yield at, key


def _pair(member: Found, role: Role) -> Pair:
    cert, key = (member.pem(setting) or b"" for setting in PAIRS[role])
    return Pair(cert, key)


def _unusable(each: Authority, member: Found, role: Role, pair: Pair, now: datetime) -> Iterator[Refused]:
    """A certificate that cannot stay, where none can be issued in its place."""
    why = each.ca.fault(pair, LeafRequest(role, member.name, (member.address,)), now)
    if why:
        yield Refused(
            f"its {role} certificate cannot stay ({why}), and the CA's key was not found to issue another",
            host=member.name,
            hint=f"put that key into pki.dir as {each.stem}-key.pem, then inv adopt again",
        )


def _others(
    files: Mapping[str, bytes], authorities: Sequence[Authority], there: Mapping[str, bytes]
) -> Iterator[Refused]:
    """What stands in pki.dir and is another cluster's: it is never replaced."""
    own = {f"{each.stem}{end}": files.get(f"{each.stem}{end}") for each in authorities for end in (".pem", "-key.pem")}
    for name in (f"{stem}{end}" for stem in TRUSTED for end in (".pem", "-key.pem")):
        old, new = there.get(name), own.get(name)
        if old is not None and (new is None or new.split() != old.split()):
            yield Refused(
                f"{name} in pki.dir is not this cluster's", hint="move that folder away, or name another: pki.dir"
            )
