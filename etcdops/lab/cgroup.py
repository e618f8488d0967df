"""The control group of a host: all processes of it, and no others, as the kernel itself keeps count of them.

nspawn makes two groups, ``payload`` and ``supervisor``, in the group that it is started in.  Two hosts started in
the same one would share them, and each host's systemd would end the services of the other.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import OpsError


@dataclass(frozen=True)
class Group:
    """The control group with this path, such as ``etcdops-lab/etcd01``, in every hierarchy."""

    path: str

    @property
    def folder(self) -> Path:
        """It in the unified hierarchy; ``OpsError`` if there is none on this machine."""
        unified, _ = _mounted()
        if not unified:
            raise OpsError(
                "no cgroup2 file system is mounted, and systemd in a container needs one",
                hint="mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
            )
        return unified / self.path

    def create(self) -> None:
        """Make it; a process joins by writing 0 to ``folder/cgroup.procs``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "cgroup.kill").exists():
            raise OpsError("this kernel cannot kill a control group", hint="the lab needs Linux 5.14 or newer")

    def populated(self) -> bool:
        """Whether any process is in it or below it."""
        with contextlib.suppress(FileNotFoundError):
            return "populated 1\n" in (self.folder / "cgroup.events").read_text()
        return False

    def init(self) -> int:
        """The process number of the host's own init; 0 while it has none."""
        for place in ("payload/init.scope", "payload"):
            with contextlib.suppress(OSError):
                pids = (self.folder / place / "cgroup.procs").read_text().split()
                if found := next(filter(_is_init, pids), ""):  # others are there for a moment, with lower numbers, too
                    return int(found)
        return 0

    def kill(self, seconds: float = 10) -> None:
        """SIGKILL to all processes of the host at one moment, and wait until those outside have seen it.

        nspawn and its supervisor are spared, so that they clean up after the host.
        """
        until = time.monotonic() + seconds
        while self.populated():
            payload = self.folder / "payload"
            with contextlib.suppress(OSError):  # it is gone already
                ((payload if payload.exists() else self.folder) / "cgroup.kill").write_text("1")
            if time.monotonic() > until:
                raise OpsError(
                    f"the processes of the control group {self.folder} do not end",
                    hint=f"systemd-cgls {self.folder}",
                )
            time.sleep(0.01)

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
                    time.sleep(0.01)


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


def _mounted() -> tuple[Path | None, list[Path]]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def _is_init(pid: str) -> bool:
    """Whether a process is the first one in a namespace of its own."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return any(line.split()[:1] == ["NSpid:"] and line.split()[2:] == ["1"] for line in status.splitlines())
    return False
