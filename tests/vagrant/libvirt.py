"""A libvirtd that nobody else on this machine sees, and that takes all of its machines along when it ends.

It stands in the namespaces of `tests.namespaces`: a network without a way out, and folders of its own over those that
a libvirtd of this machine would use.  And in a process namespace, whose processes the kernel ends at one stroke.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

CONF = {
    # Its helper for the machines' consoles is another daemon.
    "qemu.conf": 'stdio_handler = "file"\nuser = "root"\ngroup = "root"\nsecurity_driver = "none"\n',
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n',
}
FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/run/libvirt")
# The shell is the first process of the namespace, so it reaps, and is the one that must die with us.
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", '"$@" & wait', "sh"),
)


class Libvirt:
    """The daemon, with what it keeps in ``folder``; mounts are gone with the namespace that it was started in."""

    def __init__(self, folder: Path, seconds: float = 60) -> None:
        for path in FOLDERS:
            ours = folder / path.replace("/", "-").strip("-")
            ours.mkdir(parents=True)
            Path(path).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", ours, path], check=True)
        for name, text in CONF.items():
            (Path("/etc/libvirt") / name).write_text(text)
        self._log = folder / "libvirtd.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*_CONTAINED, "libvirtd", "--config", "/etc/libvirt/libvirtd.conf"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + seconds
        while subprocess.run(["virsh", "--connect", "qemu:///system", "version"], capture_output=True).returncode:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, ("libvirtd does not answer", self._log.read_text())
            time.sleep(0.1)

    def domains(self) -> list[str]:
        """The machines that it knows, on or off."""
        argv = ["virsh", "--connect", "qemu:///system", "list", "--all", "--name"]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    def end(self) -> None:
        """End it, and whatever it has started."""
        self._process.kill()
        self._process.wait(30)
