"""~/.ssh/config and /etc/ssh/ssh_config as one text, with what they ``Include`` in place, for a parser that cannot.

paramiko passes over ``Include`` in silence, and Debian's own ssh_config begins with one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from etcdops.errors import UsageError

_DEPTH = 16  # as in OpenSSH

# Left out: we have no use for them, and Fabric fails at some of their values (a socket, "none").
_UNUSED = {"forwardagent", "connecttimeout"}


def user_config(user: Path | None = None, system: Path = Path("/etc/ssh/ssh_config")) -> str:
    """Both files as one text, the user's first: in ssh_config the first value of a setting wins."""
    user = user or Path("~/.ssh/config").expanduser()
    return "\n".join([*_lines(user, user.parent), "Host *", *_lines(system, system.parent)])


def _lines(path: Path, base: Path, depth: int = 0) -> Iterator[str]:
    """The lines of ``path``; what is included by a relative name comes from ``base``.

    The section that an ``Include`` stands in goes on after it.  A ``Host`` inside an included file counts by itself,
    while ``ssh`` also asks for the section around the ``Include``.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if depth > _DEPTH:
        raise UsageError(f"{path}: Include goes deeper than {_DEPTH} files")
    section = "Host *"
    for line in text.splitlines():
        match = re.match(r"\s*(\w+)\s*=?\s*(.*)", line)
        keyword = match[1].lower() if match is not None else ""
        if match is None or keyword != "include":
            if keyword in {"host", "match"}:
                section = line
            if keyword not in _UNUSED:
                yield line
            continue
        for pattern in shlex.split(match[2], comments=True):
            full = base.absolute() / Path(pattern).expanduser()
            for included in sorted(Path("/").glob(str(full.relative_to("/")))):
                yield from _lines(included, base, depth + 1)
                yield section
