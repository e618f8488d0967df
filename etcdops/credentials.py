"""Who we are to etcd once authentication is on: a user with a password, or the one that a certificate names.

Every host has a client certificate of its own, whose CN is ``root``.  A user stands above it (etcd: a token goes before
the CN).  The password never stands in an argument, in a file or in a log: it travels on
the standard input of the scripts that run etcdctl, which hand it on in the environment (files/client.sh).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from etcdops.errors import OpsError, UsageError

ROOT = "root"  # etcd's superuser: authentication cannot be turned on without it
PASSWORD = "ETCDOPS_ETCD_PASSWORD"  # the name of the variable  # noqa: S105
BY_CERTIFICATE = "inv distribute gives the hosts a certificate whose CN is root; or set auth.user in config.yaml"

# What etcd says to one who is not let in, what that means, and what to do.
DENIALS = {
    "authentication failed, invalid user ID or password": (
        "etcd does not take the password of {user}",
        f"run the task again with the right one; {PASSWORD} goes before the prompt",
    ),
    "user name is empty": ("authentication is on, and we came without a user", "set auth.user in config.yaml"),
    "user name not found": ("authentication is on, and our certificate names no user of etcd", BY_CERTIFICATE),
    "auth: user not found": ("authentication is on, and our certificate names no user of etcd", BY_CERTIFICATE),
    "permission denied": (
        "authentication is on, and etcd does not let {user} do this",
        "the tasks need a user with the role root",
    ),
}


@dataclass(frozen=True)
class Credentials:
    """``user`` '': the one that the certificate names."""

    user: str = ""
    password: str = field(default="", repr=False)

    def before(self, stdin: bytes | Iterable[bytes]) -> bytes | Iterable[bytes]:
        """``stdin`` with user and password before it, a line each, as files/client.sh reads them."""
        if not self.user and stdin == b"":
            return b""  # its end says the same
        lines = f"{self.user}\n{self.password}\n".encode("utf-8", "surrogateescape")
        return lines + stdin if isinstance(stdin, bytes) else itertools.chain((lines,), stdin)

    def refusal(self, complaint: str) -> Denied | None:
        """The error, where ``complaint`` says that etcd does not let us in."""
        for said, (message, hint) in DENIALS.items():
            if said in complaint:
                return Denied(message.format(user=self.user or ROOT), hint=hint)
        return None


class Denied(OpsError):
    """etcd does not take us for who we say we are, or does not let that user do what is needed: on no other host it
    would, either."""


def obtain(user: str, ask: Callable[[str], str] | None) -> Credentials:
    """Those of ``user``: the password from the environment, else from the one who is asked; ``UsageError`` if there is
    neither."""
    if not user:
        return Credentials()
    password = os.environ.get(PASSWORD) or (ask(f"[etcd] password for {user}: ") if ask else "")
    if not password:
        raise UsageError(f"etcd wants a password for {user}", hint=f"run this in a terminal, or set {PASSWORD}")
    if "\n" in password:
        raise UsageError(f"the password for {user} has a line break", hint=f"what does {PASSWORD} hold?")
    return Credentials(user, password)


def confirm(who: Credentials, ask: Callable[[str], str] | None) -> None:
    """Have a password typed once more that is about to be set; ``UsageError`` where it is another one."""
    if who.user and ask and not os.environ.get(PASSWORD) and ask(f"[etcd] {who.user}'s once more: ") != who.password:
        raise UsageError(f"the two passwords for {who.user} differ", hint="nothing was changed")
