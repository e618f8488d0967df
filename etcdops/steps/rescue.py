"""The way back from authentication that is turned on and not proven yet: a user with the role root, and its password.

The password stands in pki.dir, where only secrets are, until the proof: a run that is killed in between would leave a
cluster that lets nobody in, should etcd not take the tasks' certificate.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from etcdops import atomic
from etcdops.credentials import Credentials
from etcdops.errors import UsageError
from etcdops.run import Run

USER = "etcdops-rescue"


@dataclass(frozen=True)
class Rescue:
    """``path`` None: nothing has to be kept, since the tasks' own user comes by a password that somebody knows."""

    path: Path | None

    @classmethod
    def of(cls, run: Run) -> Rescue:
        """That of this configuration."""
        return cls(None if run.credentials.user else run.config.resolve(run.config.pki.dir) / USER)

    def keep(self, spare: Credentials) -> None:
        """Have it outlive this run."""
        if self.path:
            atomic.private_folder(self.path.parent)
            atomic.write([atomic.NewFile(self.path, f"{spare.password}\n".encode(), 0o600)])

    @property
    def left(self) -> Credentials | None:
        """What a run has left that was killed."""
        try:
            password = self.path.read_text().strip() if self.path else ""
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or error}", hint="make it readable for yourself") from None
        return Credentials(USER, password) if password else None

    def forget(self) -> None:
        """It is needed no more."""
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
