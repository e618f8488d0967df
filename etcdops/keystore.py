"""The folder ``pki.dir`` on this machine: what is in it, what must be made or renewed and why, and making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from etcdops import atomic
from etcdops.config import Member, PkiSection
from etcdops.credentials import ROOT
from etcdops.errors import UsageError
from etcdops.pkifolder import CLIENTS, PEERS, ROTATING, Authority, PkiFolder

if TYPE_CHECKING:  # `cryptography` takes 75 ms to import: a task that touches no certificate does not pay that
    from etcdops.pki import CA, LeafRequest, Pair

COMMON_NAMES = {CLIENTS: "etcd client CA", PEERS: "etcd peer CA"}
NONE_YET = "there is none yet"

Action = Literal["keep", "make", "renew", "tighten"]


@dataclass(frozen=True)
class Item:
    """What happens to one file of the folder: ``path`` is relative to it, ``why`` is for a person.

    A certificate stands for its key, too.  ``tighten`` takes a key's permissions away from all but its owner.
    """

    path: str
    action: Action
    why: str


@dataclass(frozen=True)
class MemberPki:
    """What one member's host gets: whom to trust on each port, and what to show there.

    None is what is still to be made.  An ``issuer`` is the certificate of the CA, of all in the bundle, that signs.
    """

    client_ca: bytes | None
    peer_ca: bytes | None
    server: Pair | None
    peer: Pair | None
    client_issuer: bytes | None = None
    peer_issuer: bytes | None = None
    client: Pair | None = None

    @property
    def server_pem(self) -> bytes | None:
        """Certificate and key of the client port in one file, so that one rename swaps both."""
        return self.server.pem if self.server else None

    @property
    def peer_pem(self) -> bytes | None:
        """The same for the peer port."""
        return self.peer.pem if self.peer else None

    @property
    def client_pem(self) -> bytes | None:
        """The same for etcdctl on the host."""
        return self.client.pem if self.client else None


class _Leaf(NamedTuple):
    """A leaf that there should be: the name of its files, what is in it, who issues it, what happens to it."""

    stem: str
    request: LeafRequest
    ca: CA | None
    items: list[Item]


class Keystore:
    """The certificates and keys in ``folder``.  ``settings`` say how new ones are made; what is valid is kept, but for
    leaves that were issued before ``since``.

    ``UsageError`` says what is wrong with the files there, ``OpsError`` why one could not be written.
    """

    def __init__(self, folder: Path, settings: PkiSection, since: datetime | None = None) -> None:
        self.folder = folder
        self._files = PkiFolder(folder)
        self.settings = settings
        self._since = since

    @property
    def rotating(self) -> datetime | None:
        """Since when every leaf is being replaced; None while that is not so."""
        return self._since or self._files.rotating()

    def to_rotate(self, now: datetime) -> Keystore:
        """The same, for replacing every leaf: those that a run which was cut short has not replaced yet, else all."""
        since = self._files.rotating()
        return Keystore(self.folder, self.settings, min(since, now) if since else now.replace(microsecond=0))

    def rotate(self, members: Sequence[Member], now: datetime) -> None:
        """Say in the folder that every leaf is being replaced, if each can be: any run goes on with it from there."""
        self.plan_leaves(members, now)
        assert self._since is not None  # only what ``to_rotate`` gives is for this
        with atomic.locked(self.folder):
            atomic.write([atomic.NewFile(self.folder / ROTATING, f"{self._since.isoformat()}\n".encode(), 0o644)])

    def rotated(self) -> None:
        """Every leaf is replaced, wherever it belongs."""
        with atomic.locked(self.folder):
            atomic.remove(self.folder / ROTATING)
        self._since = None

    def plan_ca(self, now: datetime) -> list[Item]:
        """What ``make_ca`` would do; reads only."""
        items, authorities = [], self._files.authorities()
        for stem, ca in authorities:
            if ca is None:
                why = "the last run was interrupted" if self._files.interrupted(stem) else NONE_YET
                items.append(Item(f"{stem}.pem", "make", why))
                continue
            with self._files.naming_the_file(stem):
                why = _until(ca.issuer(now).not_valid_after_utc, now)
            both = ", signs for clients and peers" if len(authorities) == 1 else ""
            items += [Item(f"{stem}.pem", "keep", why + both), *self._lax(stem)]
        return items

    def make_ca(self, now: datetime, mark: str = "") -> list[Item]:
        """Make the CAs that are missing, with ``mark`` in their names; one that is there is never replaced."""
        from etcdops.pki import CA

        self.plan_ca(now)  # what is wrong is said before the folder is made
        atomic.private_folder(self.folder)
        with atomic.locked(self.folder):
            items = self.plan_ca(now)
            files: list[atomic.NewFile] = []
            # The peers' CA comes first: a clients' CA on its own is one that the user brought.
            for stem in (PEERS, CLIENTS):
                if self._files.interrupted(stem):
                    atomic.staged(self._files.cert(stem)).replace(self._files.cert(stem))
                elif any(item.path == f"{stem}.pem" and item.action == "make" for item in items):
                    ca = CA.create(COMMON_NAMES[stem] + mark, self.settings.key, self.settings.ca_lifetime, now)
                    files += self._files.pair(stem, ca.cert_pem, ca.key_pem)
            self._apply(items, files)
        return items

    def plan_leaves(self, members: Sequence[Member], now: datetime) -> list[Item]:
        """What ``make_leaves`` would do; reads only.  Before there is a CA, every leaf is to be made."""
        return [item for leaf in self._leaves(members, now) for item in leaf.items]

    def make_leaves(self, members: Sequence[Member], now: datetime) -> list[Item]:
        """Issue what is missing or stale; nothing is written before all of it has been issued."""
        if any(authority.ca is None for authority in self._files.authorities()):
            raise self._no_ca()
        with atomic.locked(self.folder):
            leaves = self._leaves(members, now)
            files: list[atomic.NewFile] = []
            for stem, request, ca, (item, *_) in leaves:
                if item.action != "keep":
                    assert ca is not None  # looked for above, and never removed
                    pair = ca.issue(request, self.settings.key, self.settings.leaf_lifetime, now)
                    files += self._files.pair(stem, pair.cert_pem, pair.key_pem)
            items = [item for leaf in leaves for item in leaf.items]
            self._apply(items, files)
        return items

    def member_files(self, member: Member, now: datetime) -> MemberPki:
        """What goes on the member's host; what ``make_ca`` and ``make_leaves`` would make is still missing in it."""
        authorities = self._files.authorities()
        pairs: dict[str, Pair | None] = {}
        for stem, request in _requests(member):
            leaf = self._leaf(stem, request, _issuing(authorities, request), now)
            kept = leaf.items[0].action == "keep"
            pairs[request.role] = self._check(stem, request, leaf.ca, now)[0] if kept else None
        client_ca, peer_ca = (each.ca.cert_pem if each.ca else None for each in (authorities[0], authorities[-1]))
        client_issuer, peer_issuer = (
            each.ca.issuer_pem(now) if each.ca else None for each in (authorities[0], authorities[-1])
        )
        return MemberPki(
            client_ca, peer_ca, pairs["server"], pairs["peer"], client_issuer, peer_issuer, pairs["client"]
        )

    def _leaves(self, members: Sequence[Member], now: datetime) -> list[_Leaf]:
        from etcdops.pki import LeafRequest

        authorities = self._files.authorities()
        requests = [request for member in members for request in _requests(member)]
        requests.append(("client", LeafRequest("client", ROOT)))
        return [self._leaf(stem, request, _issuing(authorities, request), now) for stem, request in requests]

    def _leaf(self, stem: str, request: LeafRequest, authority: Authority, now: datetime) -> _Leaf:
        pair, why = self._check(stem, request, authority.ca, now)
        action: Action = "make" if why == NONE_YET else "renew"
        if authority.ca:
            if pair and not why:
                action, why = _age(pair, authority.ca, now, self.rotating)
            if action != "keep":
                self._require_issuer(authority.stem, authority.ca, f"{stem}.pem is needed: {why}", now)
        lax = self._lax(stem) if action == "keep" else []
        return _Leaf(stem, request, authority.ca, [Item(f"{stem}.pem", action, why), *lax])

    def _check(self, stem: str, request: LeafRequest, ca: CA | None, now: datetime) -> tuple[Pair | None, str]:
        """The pair that is there, and why it will not do."""
        from etcdops.pki import Pair

        cert, key = self._files.read(self._files.cert(stem)), self._files.read(self._files.key(stem))
        if cert is None:
            return None, NONE_YET
        if key is None:
            return None, "its key is missing"
        pair = Pair(cert, key)
        return pair, ca.fault(pair, request, now) if ca else "the CA is new"

    def _lax(self, stem: str) -> list[Item]:
        """The key, if others may read it: that is how cp and scp leave one that was brought."""
        key = self._files.key(stem)
        mode = key.stat().st_mode & 0o777 if key.exists() else 0
        why = f"others can read it: mode {mode:04o} to 0600"
        return [Item(f"{stem}-key.pem", "tighten", why)] if mode & 0o077 else []

    def _require_issuer(self, stem: str, ca: CA, need: str, now: datetime) -> None:
        with self._files.naming_the_file(stem):
            ca.issuer(now)
        if ca.key_pem is None:
            raise UsageError(
                f"{self._files.key(stem)}: the CA's key is missing, and {need}",
                hint="put the CA's key there, or the certificate and its key, issued where the CA's key is",
            )

    def _apply(self, items: Sequence[Item], files: Sequence[atomic.NewFile]) -> None:
        atomic.write(files)
        for item in items:
            if item.action == "tighten":
                atomic.tighten(self.folder / item.path)

    def _no_ca(self) -> UsageError:
        return UsageError(f"{self.folder}: there is no CA yet", hint="run 'inv gen-ca'")


def _requests(member: Member) -> list[tuple[str, LeafRequest]]:
    """The leaves of one member: what its client port shows, what its peer port shows, and what etcdctl there shows."""
    from etcdops.pki import LeafRequest

    folder = f"members/{member.name}"
    return [
        (f"{folder}/server", LeafRequest("server", member.name, (member.address,))),
        (f"{folder}/peer", LeafRequest("peer", member.name, (member.address,))),
        (f"{folder}/client", LeafRequest("client", ROOT)),
    ]


def _issuing(authorities: Sequence[Authority], request: LeafRequest) -> Authority:
    return authorities[-1] if request.role == "peer" else authorities[0]


def _age(pair: Pair, ca: CA, now: datetime, since: datetime | None) -> tuple[Action, str]:
    """Whether a pair without fault is old enough to be renewed: always, where it was issued before ``since``.

    Else it is kept if a new one would end no later, as close to the end of the CA, or if the CA's key is elsewhere.
    """
    from etcdops.certificate import inspect
    from etcdops.pki import BACKDATE

    info = inspect(pair.cert_pem)
    if since and info.not_before < since - BACKDATE:
        return "renew", f"from before the rotation of {since:%Y-%m-%d %H:%M} UTC"
    why = _until(info.not_after, now)
    gains = ca.key_pem is not None and ca.issuer(now).not_valid_after_utc > info.not_after
    return ("renew", f"only {why}") if now >= info.renew_from and gains else ("keep", why)


def _until(end: datetime, now: datetime) -> str:
    return f"valid until {end:%Y-%m-%d}, days left: {(end - now).days}"
