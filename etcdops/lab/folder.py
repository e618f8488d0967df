"""The project's folder for its lab: the key to the hosts, the hosts' own keys, and a config.yaml that fits."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from etcdops.lab import network
from etcdops.lab.machine import Machine
from etcdops.lab.process import run

_CONFIG = """\
# The container lab of this machine, written by the lab.* tasks: changes here do not last.
cluster:
  name: lab
  version: {version}
members:
{members}
ssh:
  user: root                  # also there: ops (sudo), opspw (sudo asks for a password), nosudo
  key: id_ed25519
  known_hosts: known_hosts
  host_keys: strict           # the lab made these hosts, so it knows their keys
release:
  archive: "{archive}"
pki:
  dir: pki
backup:
  dir: backups
"""


@dataclass(frozen=True)
class Folder:
    """Where a project keeps what it needs to use the lab."""

    path: Path

    @property
    def key(self) -> Path:
        """The private key that every account of every host accepts."""
        return self.path / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys."""
        return self.path / "known_hosts"

    @property
    def config(self) -> Path:
        """The configuration of a cluster on the lab's hosts."""
        return self.path / "config.yaml"

    def public_key(self) -> str:
        """The public half of the key, which is made if there is none yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        public = self.key.with_suffix(".pub")
        if not (self.key.exists() and public.exists()):
            with tempfile.TemporaryDirectory(dir=self.path) as folder:
                new = Path(folder) / self.key.name
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "etcdops-lab", "-f", new])
                new.with_suffix(".pub").replace(public)
                new.replace(self.key)
        return public.read_text().strip()

    def write_known_hosts(self, machines: Iterable[Machine]) -> None:
        """Write the keys of exactly these hosts: a host that was made anew has a new one."""
        lines = [f"{','.join(machine.addresses)} {machine.host_key}\n" for machine in machines]
        _write(self.known_hosts, "".join(lines))

    def write_config(self, machines: Iterable[Machine], version: str, archive: Path | None) -> Path:
        """Write the configuration of a cluster of these hosts; ``archive`` None: the official download."""
        members = [f"  - {{name: {m.name}, address: {network.address(m.number)}}}" for m in machines]
        text = _CONFIG.format(
            version=version, members="\n".join(members), archive=archive.absolute() if archive else ""
        )
        _write(self.config, text)
        return self.config


def _write(path: Path, text: str) -> None:
    """Replace ``path`` as a whole, or leave it as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
