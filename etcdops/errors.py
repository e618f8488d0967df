"""What can go wrong: every expected error is one line, an exit code and what to do next.

An ``OpsError`` is shown to the user as ``error: MESSAGE`` (and ``hint: HINT``), never as a traceback.
Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence


class OpsError(Exception):
    """A step failed.  ``hint`` says what to do next; ``host`` names the member it happened on."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", host: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.host = host

    def __str__(self) -> str:
        return f"{self.host}: {self.message}" if self.host else self.message


class UsageError(OpsError):
    """The command line or the configuration is wrong; nothing was touched."""

    exit_code = 2


class Damaged(OpsError):
    """What stands in a snapshot or a database is wrong: no trouble of this machine, which could read it."""


class Refused(OpsError):
    """Going on would be unsafe; nothing was changed.  ``findings`` lists every reason at once."""

    exit_code = 3

    def __init__(self, message: str, *, findings: Sequence[OpsError] = (), hint: str = "", host: str = "") -> None:
        super().__init__(message, hint=hint, host=host)
        self.findings = tuple(findings)


class HostError(OpsError):
    """One host could not be reached, or a command on it failed."""

    exit_code = 4


class Unreachable(HostError):
    """Nobody answers on a host: it is off, cut off, or somewhere else than the configuration says."""


class NoForwarding(HostError):
    """A host's sshd makes no connections for us."""


class Lost(HostError):
    """The connection broke while a command ran: whether it came to its end, only the host can tell."""


class LockLost(OpsError):
    """The cluster is another run's by now: what this one has seen counts no more, on whatever host."""

    exit_code = 4


class HostsFailed(OpsError):
    """Some hosts failed; ``errors`` holds one entry per host, in the order of the configuration."""

    exit_code = 4

    def __init__(self, errors: Sequence[OpsError], *, hint: str = "") -> None:
        count = len(errors)
        super().__init__(f"{count} {'host' if count == 1 else 'hosts'} failed", hint=hint)
        self.errors = tuple(errors)


class Unhealthy(OpsError):
    """The work is done, or the question answered, but the cluster is not healthy."""

    exit_code = 5
