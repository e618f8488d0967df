"""Logging in: which keys are offered to a host, in which order, and what to say when none is taken."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from paramiko import Agent, PKey, SSHException, Transport

from etcdops.errors import HostError

_DEFAULTS = ("id_ed25519", "id_ecdsa", "id_rsa")


class Identities:
    """The keys for one login, as an authentication strategy of paramiko.

    Offered are the key files that are named (``key`` of config.yaml, then ``IdentityFile``), then the keys of the
    agent, and the usual files in ~/.ssh only where no file was named, as ``ssh -i`` does it.  ``only`` is
    IdentitiesOnly: of the agent's keys, those that belong to a named file.

    paramiko's own strategy tries each file as each type of key, gives up at the first missing one, and reports
    whatever failed last.
    """

    def __init__(self, user: str, key: Path | None, files: Sequence[str], *, only: bool) -> None:
        self._user = user
        self._key = key
        self._files = [Path(name).expanduser() for name in files]
        self._only = only

    def authenticate(self, transport: Transport) -> None:
        """Log in over ``transport``; ``HostError`` says which keys were tried and what is in the way."""
        tried: list[str] = []
        locked: list[Path] = []
        agent = Agent()
        try:
            for label, key in self._offers(agent, tried, locked):
                try:
                    rest = transport.auth_publickey(self._user, key)
                except (SSHException, EOFError) as error:
                    tried.append(label)
                    if "timeout" in str(error):
                        raise HostError(
                            f"login as {self._user} with {label}: no answer within {transport.auth_timeout:g} s",
                            hint="the host is slow to look the user up; ssh.connect_timeout is the limit",
                        ) from None
                    if not transport.is_active():
                        raise HostError(
                            f"login as {self._user} refused, tried {', '.join(tried)}; then the host hung up",
                            hint="it takes only so many keys (MaxAuthTries): name the right one in ssh.key",
                        ) from None
                    continue
                if not rest:
                    return
                tried.append(f"{label} (right, but the host also wants: {', '.join(rest)})")
        finally:
            agent.close()
        raise self._refused(tried, locked)

    def _offers(self, agent: Agent, tried: list[str], locked: list[Path]) -> Iterator[tuple[str, PKey]]:
        if self._key is not None and not self._key.exists():
            raise HostError(
                f"the SSH key {self._key} does not exist",
                hint="ssh.key in config.yaml names it; leave it out to use the agent and ~/.ssh",
            )
        files = [self._key, *self._files] if self._key is not None else self._files
        named = bool(files)
        for path in files if named else [Path("~/.ssh").expanduser() / name for name in _DEFAULTS]:
            key = _load(path, tried, locked) if path.exists() else None
            if key is not None:
                yield _short(path), key
            elif named and not path.exists():
                tried.append(f"{_short(path)} (does not exist)")
        wanted = {_public(path) for path in files} if self._only else None
        for held in agent.get_keys():
            if wanted is None or held.asbytes() in wanted:
                yield f"the agent's {held.comment or held.get_name()}", held

    def _refused(self, tried: Sequence[str], locked: Sequence[Path]) -> HostError:
        offers = ", ".join(tried) or "no key: there is none in ~/.ssh, and no agent holds one"
        if locked:
            hint = f"unlock the key for this session: ssh-add {' '.join(str(path) for path in locked)}"
        else:
            hint = "check ssh.user and ssh.key in config.yaml; ssh-copy-id puts a key on a host"
        return HostError(f"login as {self._user} refused, tried {offers}", hint=hint)


def _load(path: Path, tried: list[str], locked: list[Path]) -> PKey | None:
    try:
        return PKey.from_path(path)
    except TypeError:  # how `cryptography` says that it wants a passphrase
        tried.append(f"{_short(path)} (has a passphrase)")
        locked.append(path)
    except (OSError, ValueError, SSHException, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not a private key that we can read"
        tried.append(f"{_short(path)} ({reason})")
    return None


def _public(path: Path) -> bytes:
    """The wire form of the public half beside ``path``; empty where there is none."""
    try:
        return base64.b64decode(Path(f"{path}.pub").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return b""


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
