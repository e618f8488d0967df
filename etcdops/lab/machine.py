"""One host of the lab: a Debian that boots with systemd, in a container with its own network and disk.

A host is a folder: ``upper`` holds its identity and everything that it ever changed, so that it keeps its
state while it is off; ``root`` is that on top of the base image; ``console.log`` is its console.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etcdops.errors import OpsError
from etcdops.lab import image, network, overlay
from etcdops.lab.cgroup import Group
from etcdops.lab.process import ENVIRONMENT, run

BOOT_SECONDS = 60

# Exit code 133 of nspawn: the host asked for a reboot.
_SUPERVISE = """
log=$1 group=$2; shift 2
echo 0 > "$group/cgroup.procs" || exit
(while "$@"; [ $? = 133 ]; do :; done) < /dev/null >> "$log" 2>&1 &
"""


@dataclass(frozen=True)
class MachineState:
    """What a host is doing now; ``pid`` is of its init, 0 while there is none."""

    name: str
    address: str
    address6: str
    power: Literal["on", "off", "cut"]
    pid: int
    release: str  # of Debian, such as bookworm


@dataclass(frozen=True)
class Machine:
    """The host with this number, which counts from 1, in the folder of a lab's hosts."""

    number: int
    hosts: Path

    @property
    def name(self) -> str:
        """Its name, such as ``etcd01``."""
        return f"etcd{self.number:02d}"

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.hosts / self.name

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return self.folder.is_dir()

    @property
    def host_key(self) -> str:
        """Its public SSH host key, as in ``ssh-ed25519 AAAA...``."""
        public = (self.folder / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text()
        return " ".join(public.split()[:2])

    @property
    def addresses(self) -> tuple[str, str]:
        """Where it can be reached: its IPv4 and its IPv6 address."""
        return (network.address(self.number), network.address6(self.number))

    def state(self, cables: dict[str, network.Cable]) -> MachineState:
        """What it is doing, where ``cables`` is the state of the network."""
        power: Literal["on", "off", "cut"] = "off"
        if self._group.populated():
            power = "cut" if cables.get(self.name) == "cut" else "on"
        return MachineState(self.name, *self.addresses, power, self._group.init(), image.release(self._base))

    def create(self, base: Path) -> None:
        """Make it, with an identity of its own, on top of ``base``."""
        new = self.hosts / f".{self.name}"
        overlay.remove(new)
        upper = new / "upper"
        for name, text in self._identity().items():
            (upper / name).parent.mkdir(parents=True, exist_ok=True)
            (upper / name).write_text(text)
        (upper / "etc/ssh").mkdir()
        for path in (upper, *upper.rglob("*")):  # whatever our umask is
            path.chmod(0o755 if path.is_dir() else 0o644)
        key = upper / "etc/ssh/ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", key])
        (new / "base").write_text(str(base))
        new.rename(self.folder)

    def _identity(self) -> dict[str, str]:
        network_file = f"[Match]\nName=host0\n\n[Network]\nLinkLocalAddressing=no\nAddress={self.addresses[0]}/24\n"
        if network.has_ipv6():  # there is nobody whose address it could be, so do not wait to find out
            network_file += f"\n[Address]\nAddress={self.addresses[1]}/64\nDuplicateAddressDetection=none\n"
        return {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{self.name}\n::1\tlocalhost\n",
            "etc/machine-id": f"{uuid.uuid4().hex}\n",
            "etc/systemd/network/10-lab.network": network_file,
        }

    def admit(self, public_key: str) -> None:
        """Let the owner of this key log in to every account."""
        self._mount()
        for home in image.ACCOUNTS.values():
            keys = self.folder / "root" / home / ".ssh/authorized_keys"
            if public_key not in keys.read_text().splitlines():
                with keys.open("a") as file:
                    file.write(f"{public_key}\n")

    def start(self) -> None:
        """Power it on; nothing happens if it is on.  ``ready`` says when it has booted."""
        if self._group.populated():
            return
        self._mount()
        self._group.create()
        nspawn = [
            *("systemd-nspawn", f"--directory={self.folder}/root", "--boot", f"--machine={self.name}"),
            *("--register=no", "--keep-unit"),  # there may be no machined, D-Bus or even systemd out here
            f"--network-bridge={network.BRIDGE}",
            *("--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe"),
        ]
        words = ["sh", "-c", _SUPERVISE, "sh", self.folder / "console.log", self._group.folder, *nspawn]
        subprocess.run(
            [str(word) for word in words],
            env={**ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            start_new_session=True,  # it must outlive us and our terminal
            timeout=10,
            check=True,
        )

    def ready(self) -> bool:
        """Whether sshd answers; ``OpsError`` if the container has ended instead of booting."""
        if not self._group.populated():
            said = (self.folder / "console.log").read_text(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "nothing was said")
            raise OpsError(f"did not start: {last.strip()}", host=self.name, hint=f"see {self.folder}/console.log")
        if not _is_reachable(self._group.init()):
            return False  # asking for an address before anyone has it would cost a second (ARP)
        with (
            contextlib.suppress(OSError),
            socket.create_connection((self.addresses[0], 22), timeout=0.2) as link,
        ):
            link.settimeout(1)
            return link.recv(4) == b"SSH-"
        return False

    def power_off(self) -> None:
        """Cut its power: no process of it gets to finish anything.  Nothing happens if it is off."""
        self._group.kill()
        self._group.remove()

    def remove(self) -> None:
        """Power it off and delete everything that it ever wrote."""
        self.power_off()
        overlay.remove(self.folder)

    def _mount(self) -> None:
        if not self._base.is_dir():
            raise OpsError(
                f"its base image {self._base} is gone",
                host=self.name,
                hint="inv lab.down deletes the hosts that stood on it",
            )
        overlay.mount(self._base, self.folder)

    @property
    def _base(self) -> Path:
        return Path((self.folder / "base").read_text())

    @property
    def _group(self) -> Group:
        return Group(f"{self.hosts.name}/{self.name}")


def _is_reachable(pid: int) -> bool:
    """Whether the network namespace of this process has its address, and a listener on port 22 (0x16)."""
    listener = re.compile(r"^ *\d+: [0-9A-F]+:0016 [0-9A-F]+:0000 0A ", re.MULTILINE)
    net = Path(f"/proc/{pid}/net")
    with contextlib.suppress(OSError):
        return "host0" in (net / "route").read_text() and any(
            listener.search((net / name).read_text()) for name in ("tcp", "tcp6")
        )
    return False
