"""New CAs in the place of those that pki.dir has: files alone say how far that has come, and each change is one rename.

    next/ca.pem, next/ca-key.pem, next/peer-ca.pem ...   the new ones: the key until it issues, the certificate until it
                                                         is trusted alone
    old/ca.pem, old/ca-key.pem, old/peer-ca.pem ...      those from before, as they were
    retired-20261128T151200Z/                            what old/ is called in the end

In between ca.pem and peer-ca.pem hold both.  The stages, in their order: ``trust``: every member is to read both CAs
before the new ones issue anything; ``leaves``: the new ones issue; ``retire``: every member is to forget the old ones.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etcdops import atomic
from etcdops.config import PkiSection
from etcdops.keystore import Item, Keystore
from etcdops.pkifolder import CLIENTS, PEERS, PkiFolder

if TYPE_CHECKING:  # see keystore
    from etcdops.pki import CA

Stage = Literal["", "trust", "leaves", "retire"]
NEXT, OLD = "next", "old"
STAGES: tuple[Stage, ...] = ("trust", "leaves", "retire")
STEMS = (PEERS, CLIENTS)  # in this order: a clients' CA on its own is one that the user brought, for both


def stage(folder: Path) -> Stage:
    """How far it has come in ``folder``, which is a pki.dir; '' when none is under way."""
    new, old = PkiFolder(folder / NEXT), PkiFolder(folder / OLD)
    if any(new.key(stem).exists() for stem in STEMS):
        return "trust"
    if any(new.cert(stem).exists() for stem in STEMS):
        return "leaves"
    return "retire" if any(old.cert(stem).exists() for stem in STEMS) else ""


class Succession:
    """What lies in ``folder``; killed anywhere, each step can be done again.  Errors are those of a ``Keystore``."""

    def __init__(self, folder: Path, settings: PkiSection) -> None:
        self.folder = folder
        self._settings = settings
        self._files, self._next, self._old = (PkiFolder(each) for each in (folder, folder / NEXT, folder / OLD))

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        return stage(self.folder)

    def ended(self, now: datetime) -> bool:
        """Whether a CA from before has expired, so that nobody is let in any more by what it has signed."""
        for stem in STEMS:
            files = self._old if self._old.cert(stem).exists() else self._files
            cert, key = files.read(files.cert(stem)), files.read(files.key(stem))
            if cert and all(each.not_valid_after_utc <= now for each in _ca(cert, key).issuers):
                return True
        return False

    def begin(self, now: datetime) -> list[Item]:
        """Make the new CAs beside the old ones, and have ca.pem and peer-ca.pem hold both; the old ones issue still.

        One CA that the user brought, which has been signing for both, is followed by two.
        """
        made = Keystore(self._next.path, self._settings).make_ca(now, f" {now:%Y-%m-%d}")  # a person tells them apart
        with atomic.locked(self.folder):
            for stem in STEMS:
                self._keep(stem)
            for stem in STEMS:
                if self._next.key(stem).exists():
                    self._bundle(stem)
        return [Item(f"{NEXT}/{item.path}", item.action, item.why) for item in made if item.action != "keep"]

    def _keep(self, stem: str) -> None:
        """The CA as it is now, in old/; its certificate last, which says that it is whole."""
        if self._old.cert(stem).exists():
            return
        source = stem if self._files.cert(stem).exists() else CLIENTS
        cert, key = self._files.read(self._files.cert(source)), self._files.read(self._files.key(source))
        assert cert is not None  # of the CA that a cluster runs with
        if key is not None:
            atomic.write([atomic.NewFile(self._old.key(stem), key, 0o600)])
        atomic.write([atomic.NewFile(self._old.cert(stem), cert, 0o644)])

    def _bundle(self, stem: str) -> None:
        """Both CAs in one file, the old one first: without its key, the first is taken for the one that issues."""
        old, new = self._old.cert(stem).read_bytes(), self._next.cert(stem).read_bytes()
        both, key = old.rstrip() + b"\n" + new, self._files.read(self._old.key(stem))
        if self._files.read(self._files.cert(stem)) != both:
            atomic.write([atomic.NewFile(self._files.cert(stem), both, 0o644)])
        if key is not None and not self._files.key(stem).exists():  # it had signed for the other role, too
            atomic.write([atomic.NewFile(self._files.key(stem), key, 0o600)])

    def switch(self) -> None:
        """The new CAs issue from here on, and no certificate of the old ones will do."""
        for stem in STEMS:
            self._move(self._next.key(stem), self._files.key(stem))

    def drop(self) -> None:
        """ca.pem and peer-ca.pem hold the new CAs alone."""
        for stem in STEMS:
            self._move(self._next.cert(stem), self._files.cert(stem))
        with contextlib.suppress(OSError):  # what a killed run has left in it is in nobody's way
            self._next.path.rmdir()

    def finish(self, now: datetime) -> Path:
        """Nothing is trusted any more that the old CAs have signed: where they are kept."""
        retired = self.folder / f"retired-{now:%Y%m%dT%H%M%SZ}"
        self._move(self._old.path, retired)
        return retired

    def _move(self, path: Path, to: Path) -> None:
        if path.exists():
            with atomic.locked(self.folder):
                atomic.move(path, to)

    def new(self, stem: str) -> CA:
        """The CA that is to stay, with its key."""
        cert = self._next if self._next.cert(stem).exists() else self._files
        key = self._next if self._next.key(stem).exists() else self._files
        return _ca(cert.cert(stem).read_bytes(), key.key(stem).read_bytes())

    def old(self, stem: str) -> CA | None:
        """The one that is to go; None where its key is elsewhere, or the whole of it was moved away."""
        cert, key = self._old.read(self._old.cert(stem)), self._old.read(self._old.key(stem))
        return _ca(cert, key) if cert and key else None


def _ca(cert: bytes, key: bytes | None) -> CA:
    from etcdops.pki import CA

    return CA.load(cert, key)
