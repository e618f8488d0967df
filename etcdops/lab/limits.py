"""What this machine's kernel allows the lab: its default is enough for a dozen hosts."""

from __future__ import annotations

from pathlib import Path

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 2048  # inotify instances of root's, on all hosts together; systemd and its services take 8 a host


def widen(path: Path = INSTANCES) -> None:
    """Allow root as many inotify instances as a lab of any size takes; never fewer than were allowed before.

    Where the kernel lets nobody change it, the lab does with what there is.
    """
    try:
        if int(path.read_text()) < ENOUGH:
            path.write_text(f"{ENOUGH}\n")
    except OSError:
        return
