"""A control group of each host's own.

nspawn makes two groups, ``payload`` and ``supervisor``, in the group that it is started in.  Two hosts started in
the same one would share them, and each host's systemd would end the services of the other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import OpsError


def hierarchies(mountinfo: str) -> tuple[Path | None, list[Path]]:
    """Where the unified hierarchy is, and all of those that nspawn makes groups in, out of mountinfo.

    Beside the unified hierarchy that is the one named ``systemd``, where cgroups are the hybrid of v1 and v2.
    """
    unified, found = None, []
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        point, (kind, _, options) = Path(mount.split()[4]), source.split(maxsplit=2)
        if kind == "cgroup2":
            unified = unified or point
            found.append(point)
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            found.append(point)
    return unified, found


@dataclass(frozen=True)
class Group:
    """The control group with this path, such as ``etcdops-lab/etcd01``, in every hierarchy."""

    path: str

    def create(self) -> Path:
        """Make it in the unified hierarchy, which is where a process joins it."""
        unified, _ = _mounted()
        if not unified:
            raise OpsError(
                "no cgroup2 file system is mounted, and systemd in a container needs one",
                hint="mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
            )
        folder = unified / self.path
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, seconds: float = 5) -> None:
        """Remove it and all below it from every hierarchy, once its processes are gone."""
        until = time.monotonic() + seconds
        for hierarchy in _mounted()[1]:
            top = hierarchy / self.path
            while top.exists():
                try:
                    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                        folder.rmdir()
                    top.rmdir()
                except FileNotFoundError:
                    continue  # the kernel or a dying systemd was faster
                except OSError as error:  # busy, for as long as the kernel takes to bury a process
                    if time.monotonic() > until:
                        raise OpsError(f"cannot remove the control group {top}: {error.strerror}") from None
                    time.sleep(0.02)


def _mounted() -> tuple[Path | None, list[Path]]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())
