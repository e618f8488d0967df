"""Host keys: is this the host that we met before?  Reads and extends OpenSSH's known_hosts; knows no SSH library.

The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": hashed names, wildcards and negation, ``[host]:port``
and ``@revoked`` work as they do for ``ssh``.  ``@cert-authority`` lines are passed over, because host certificates
are not supported, and so are comments and lines that make no sense: one odd line must not hide the others.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import HostError

# The types that a server can show us; a line with any other type says nothing about the key that it will show.
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type and its wire form."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"{self.type} SHA256:{digest}"


@dataclass(frozen=True)
class Entry:
    """One line of the file that speaks about a key."""

    line: int
    revoked: bool
    names: tuple[str, ...]
    key: HostKey

    def covers(self, name: str) -> bool:
        """Whether the line is about ``name``; one negated pattern that matches takes it out again."""
        if any(_matches(pattern[1:], name) for pattern in self.names if pattern.startswith("!")):
            return False
        return any(_matches(pattern, name) for pattern in self.names if not pattern.startswith("!"))


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in pattern[3:].split("|"))
        except ValueError:
            return False
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    # Not fnmatch: brackets are part of "[host]:port" here.
    regex = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, name) is not None


def parse(text: str) -> list[Entry]:
    """The lines of ``text`` that speak about a key which a server may show."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in {"", "@revoked"}:
            continue
        names, kind, encoded = fields[:3]
        try:
            blob = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        if kind in KEY_TYPES:
            entries.append(Entry(number, marker == "@revoked", tuple(names.split(",")), HostKey(kind, blob)))
    return entries


def known_name(host: str, port: int) -> str:
    """What known_hosts calls the server at ``host`` and ``port``."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


class KnownHosts:
    """The known_hosts file at ``path``; ``accept_new`` adds the key of a host that is not in it yet."""

    def __init__(self, path: Path, *, accept_new: bool) -> None:
        self._path = path
        self._accept_new = accept_new

    def types(self, name: str) -> list[str]:
        """The key types on file for ``name``: a server with several keys must be asked for one of these."""
        return [entry.key.type for entry in self._read() if not entry.revoked and entry.covers(name)]

    def check(self, name: str, key: HostKey) -> None:
        """Return if ``key`` is the key of ``name``; ``HostError`` if it is revoked, changed or not accepted."""
        if self._judge(self._read(), name, key):
            return
        if not self._accept_new:
            raise HostError(
                f"the host key {key.fingerprint} of {name} is not in {self._path}",
                hint="compare it with 'ssh-keygen -lf' of /etc/ssh/ssh_host_*_key.pub on the host's console, then "
                f"add it: {_keyscan(name)} >> {self._path}",
            )
        try:
            self._add(name, key)
        except OSError as error:
            raise HostError(
                f"the host key of {name} cannot be added to {self._path}: {error.strerror}",
                hint="ssh.known_hosts in config.yaml names the file; it must be writable",
            ) from None

    def _read(self) -> list[Entry]:
        try:
            return parse(self._path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HostError(
                f"{self._path}: {error.strerror}", hint="ssh.known_hosts in config.yaml names the file"
            ) from None

    def _judge(self, entries: Sequence[Entry], name: str, key: HostKey) -> bool:
        """True for a known key, False for a host without any; ``HostError`` for a revoked or changed key."""
        about = [entry for entry in entries if entry.covers(name)]
        same = [entry for entry in about if entry.key == key]
        for entry in same:
            if entry.revoked:
                raise HostError(
                    f"the host key {key.fingerprint} of {name} is revoked ({self._path}:{entry.line})",
                    hint="whoever answers there may hold a stolen key: give the host a new one before you go on",
                )
        others = [str(entry.line) for entry in about if not entry.revoked]
        if same or not others:
            return bool(same)
        raise HostError(
            f"the host key of {name} has changed: it shows {key.fingerprint}, but {self._path}:{','.join(others)} "
            "holds another",
            hint="somebody may be in between.  If the host was rebuilt, verify that fingerprint on its console, then "
            f"forget the old key: ssh-keygen -f {self._path} -R '{name}'",
        )

    def _add(self, name: str, key: HostKey) -> None:
        """Append one whole line.  The lock keeps other threads and processes out between the look and the write."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._judge(self._read(), name, key):  # somebody else met the host meanwhile
                return
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            line = f"{name} {key.type} {base64.b64encode(key.blob).decode()}\n"
            data = ("\n" + line if torn else line).encode()
            try:
                if os.write(handle, data) != len(data):
                    raise OSError(28, "no space left on device")
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def _keyscan(name: str) -> str:
    bracketed = re.fullmatch(r"\[(.+)\]:(\d+)", name)
    return f"ssh-keyscan -p {bracketed[2]} {bracketed[1]}" if bracketed else f"ssh-keyscan {name}"
