"""The lab as a whole: hosts etcd01, etcd02 ... on one bridge; power and cables for each of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import OpsError, UsageError
from etcdops.lab import debian, image, limits, network, overlay
from etcdops.lab.cgroup import Group
from etcdops.lab.folder import Folder
from etcdops.lab.machine import BOOT_SECONDS, Machine, MachineState
from etcdops.release import locked

HOSTS = Path("/var/lib/etcdops-lab")
LOCK_SECONDS = 300  # a first `up` elsewhere installs packages and builds the image


@dataclass(frozen=True)
class LabInfo:
    """The lab that is up: its hosts, and the files with which to reach them as any of ``accounts``."""

    machines: tuple[MachineState, ...]
    key: Path
    known_hosts: Path
    accounts: tuple[str, ...] = tuple(image.ACCOUNTS)


class Lab:
    """The lab of this machine, as seen from one project: ``folder`` holds the project's key and config.yaml.

    ``hosts`` is where the hosts are kept; the folder's name is also that of their control group.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], hosts: Path = HOSTS) -> None:
        self._folder = Folder(folder)
        self._say = say
        self._hosts = hosts
        self._owner = hosts / "project"

    def up(self, hosts: int = 3, releases: Sequence[str] = ()) -> LabInfo:
        """At least so many hosts, all powered on and connected, answering SSH with this project's key.

        Whatever is missing is made, from Debian packages to host keys; what is there is left as it is.  New hosts
        are of these Debian ``releases`` in turn, else of this machine's.
        """
        if not 1 <= hosts <= network.MOST_HOSTS:
            raise UsageError(f"the lab has 1 to {network.MOST_HOSTS} hosts, not {hosts}")
        ours = debian.release().codename
        if unknown := next((each for each in releases if each not in debian.RELEASES), ""):
            raise UsageError(
                f"the lab has no Debian '{unknown}' for its hosts", hint=f"there are: {', '.join(debian.RELEASES)}"
            )
        turns = releases or (ours,)
        with self._changing():
            debian.install_missing(self._say)
            limits.widen()
            network.up()
            wanted = [Machine(number, self._hosts) for number in range(1, hosts + 1)]
            missing = [machine for machine in wanted if not machine.exists]
            bases = [image.ensure(self._say, turns[(machine.number - 1) % len(turns)]) for machine in missing]
            if missing and not self._machines():
                self._owner.write_text(f"{self._folder.path.absolute()}\n")
            for machine, base in zip(missing, bases, strict=True):
                machine.create(base)
            machines = self._machines()
            public_key = self._folder.public_key()
            for machine in machines:
                machine.admit(public_key)
            self._folder.write_known_hosts(machines)
            self._start(machines)
            return LabInfo(tuple(self.status()), self._folder.key, self._folder.known_hosts)

    def down(self) -> None:
        """Delete the hosts, with all that they hold, and the bridge; the base image stays for the next time."""
        with self._changing():
            for machine in self._machines():
                self._say(f"{machine.name}: deleting")
                machine.remove()
            self._owner.unlink(missing_ok=True)
            for unfinished in self._hosts.glob(".etcd*"):
                overlay.remove(unfinished)
            network.down()
            Group(self._hosts.name).remove()

    @property
    def elsewhere(self) -> Path | None:
        """The folder of the project that has made the hosts, where that is another one."""
        debian.require_root()
        try:
            owner = Path(self._owner.read_text().strip())
        except FileNotFoundError:
            return None
        return owner if owner != self._folder.path.absolute() else None

    def status(self) -> list[MachineState]:
        """What each host is doing."""
        debian.require_root()
        machines = self._machines()
        cables = network.cables() if machines else {}
        return [machine.state(cables) for machine in machines]

    def off(self, name: str) -> None:
        """Cut the power of a host, as a broken power supply does."""
        with self._changing():
            self._machine(name).power_off()

    def on(self, name: str) -> None:
        """Power a host on, with its disk as it was, its cable plugged in, and wait until it answers."""
        with self._changing():
            machine = self._machine(name)
            network.up()
            self._start([machine])

    def cut(self, name: str) -> None:
        """Pull the network cable of a host, which itself goes on running."""
        with self._changing():
            network.set_cable(self._machine(name).name, "cut")

    def heal(self, name: str) -> None:
        """Plug the network cable of a host in again."""
        with self._changing():
            network.set_cable(self._machine(name).name, "plugged")

    def write_config(self, version: str, archive: Path | None, members: int = 3) -> Path:
        """``config.yaml`` in the lab's folder: a cluster ``lab`` of the first ``members`` hosts.

        ``archive`` holds the release; None leaves the official download.
        """
        machines = self._machines()
        if not 1 <= members <= len(machines):
            raise UsageError(
                f"a cluster of {members} members does not fit the {len(machines)} hosts of the lab",
                hint=f"inv lab.up --hosts={max(members, 1)}",
            )
        return self._folder.write_config(machines[:members], version, archive)

    def _start(self, machines: Iterable[Machine]) -> None:
        """Power these hosts on, plug them in, and wait until sshd answers on each."""
        waiting = {machine.name: machine for machine in machines}
        cut = [name for name, cable in network.cables().items() if name in waiting and cable == "cut"]
        for name in cut:
            network.set_cable(name, "plugged")
        for machine in waiting.values():
            machine.start()
        until = time.monotonic() + BOOT_SECONDS
        while waiting:
            for machine in list(waiting.values()):
                if machine.ready():
                    del waiting[machine.name]
                    self._say(f"{machine.name}: on, at {machine.addresses[0]}")
            if waiting and time.monotonic() > until:
                raise OpsError(
                    f"{', '.join(waiting)}: sshd did not answer within {BOOT_SECONDS} s of the start",
                    hint=f"see {self._hosts}/{next(iter(waiting))}/console.log",
                )
            time.sleep(0.02)

    def _machines(self) -> list[Machine]:
        """The hosts that there are, in the order of their numbers."""
        folders = self._hosts.iterdir() if self._hosts.is_dir() else []
        numbers = [int(match[1]) for folder in folders if (match := re.fullmatch(r"etcd(\d\d)", folder.name))]
        return [Machine(number, self._hosts) for number in sorted(numbers)]

    def _machine(self, name: str) -> Machine:
        machines = {machine.name: machine for machine in self._machines()}
        if name not in machines:
            there = f"hosts: {', '.join(machines)}" if machines else "the lab is down: inv lab.up"
            raise UsageError(f"the lab has no host '{name}'", hint=there)
        return machines[name]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time on this machine, whoever makes it; ``Refused`` without root."""
        debian.require_root()
        self._hosts.mkdir(parents=True, exist_ok=True)
        self._hosts.chmod(0o700)  # what a host makes set-uid would be that out here too
        with locked(self._hosts / "lock", LOCK_SECONDS, "another run has been changing the lab"):
            yield
