"""What a connection goes through where ~/.ssh/config has a ProxyCommand."""

from __future__ import annotations

import shlex
import shutil

# Ctrl-C at a terminal goes to all that runs in its foreground, and so would end every connection in a member's turn.
# A session of its own would be out of reach, too, but could not ask for a passphrase at the terminal.
DEAF = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")


def deaf(command: str) -> str:
    """``command`` so that it ignores Ctrl-C and the end of the terminal; as it is where there is no such program."""
    return f"{shlex.join(DEAF)} {command}" if shutil.which(shlex.split(command)[0]) else command


def shown(message: str) -> str:
    """``message`` without what ``deaf`` has put before the command."""
    return message.replace(f"{' '.join(DEAF)} ", "")
