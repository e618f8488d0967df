"""The machines of the Vagrantfile, up for real, and the project as shipped in front of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from etcdops import configfile
from etcdops.config import Config
from etcdops.download import sha256_of
from etcdops.errors import OpsError
from etcdops.lab import debian, packages
from etcdops.lab.process import run
from etcdops.layout import ROOT
from tests import hosts
from tests.hosts import Done, Process
from tests.namespaces import Namespaces, outside
from tests.vagrant import box
from tests.vagrant.libvirt import Libvirt

# Not libvirt-daemon-system, which would start one for the whole machine.
PACKAGES = (
    "vagrant",
    "vagrant-libvirt",
    "libvirt-daemon",
    "libvirt-clients",
    "qemu-system-x86",
    "dnsmasq-base",
    "iptables",
)
PLACE = Path(f"{hosts.PLACE}-vagrant")  # a session that was killed leaves it, and the next one clears it away
UP_SECONDS = 1800  # three machines, emulated, beside whatever else this machine does


class Machines:
    """A copy of Vagrantfile and config.yaml as they are, in ``folder``, and a home with nothing but Vagrant's in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        for name in ("Vagrantfile", "config.yaml"):
            shutil.copy(ROOT / name, self.folder)
        self.config: Config = configfile.load(self.folder / "config.yaml")
        self.names = [member.name for member in self.config.members]
        self._home = folder / "home"
        self._home.mkdir()
        self.environment = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "ETCDOPS_CONFIG": str(self.folder / "config.yaml"),
            "ETCD_LAB_BOX": "etcdops-lab",
            "ETCD_LAB_DRIVER": os.environ.get("ETCD_LAB_DRIVER", "qemu"),
            "VAGRANT_CWD": str(self.folder),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        }

    def download(self, archive: Path) -> None:
        """As if an earlier run had: the release of config.yaml is in the user's cache, for there is no way out."""
        version, arch = self.config.cluster.version, archive.name.removesuffix(".tar.gz").rpartition("-")[2]
        url = self.config.release.url.format(version=version, arch=arch)
        cache, digest = self._home / ".cache/etcdops", sha256_of(archive)
        (cache / digest).mkdir(parents=True)
        shutil.copy(archive, cache / digest / url.rpartition("/")[2])
        (cache / "sums").mkdir()
        (cache / "sums" / hashlib.sha256(url.encode()).hexdigest()).write_text(f"{digest}\n")

    def vagrant(self, *words: str) -> str:
        """What vagrant says; it does not outlive us."""
        clean = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "env",
            "-i",
            *(f"{key}={value}" for key, value in self.environment.items()),
        ]
        log = self.folder.parent / "vagrant.log"
        try:
            return run([*clean, "vagrant", *words, "--no-tty"], log=log, seconds=UP_SECONDS)
        except OpsError as error:
            raise AssertionError(f"vagrant {' '.join(words)}: {log.read_text() if log.exists() else error}") from None

    def inv(self, *words: str) -> Done:
        """./inv, from its start to its end."""
        return Process([ROOT / "inv", *words], self.environment, b"").end(600)

    def host(self, name: str) -> Host:
        """testinfra's, as root, by the way that vagrant itself takes."""
        path = self.folder / "ssh_config"
        if not path.exists():
            path.write_text(self.vagrant("ssh-config"))
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(path), sudo=True)

    def etcdctl(self, name: str, words: str) -> str:
        """etcdctl on a machine, through its own member."""
        ssl = "/etc/etcd/ssl"
        flags = f"--cacert={ssl}/ca.pem --cert={ssl}/client.pem --key={ssl}/client-key.pem --command-timeout=60s"
        return self.host(name).check_output(
            f"/usr/local/bin/etcdctl --endpoints=https://127.0.0.1:2379 {flags} {words}"
        )


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """All of them up; destroyed at the end."""
    with Path(f"{PLACE}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(mode=0o700)
        try:
            yield from brought_up(PLACE)
        finally:
            shutil.rmtree(PLACE)


def brought_up(folder: Path) -> Iterator[Machines]:
    """Packages, box and release out where the mirrors are, and the rest in a network without a way out."""
    assert platform.machine() == "x86_64", "the box is for x86_64"
    hosts.install(PACKAGES)
    machines = Machines(folder)
    with outside():
        made = box.ensure(debian.release().codename, key())
        machines.download(packages.obtain(machines.config.cluster.version, print))
    namespaces = Namespaces()
    try:
        libvirt = Libvirt(folder / "libvirt")
        try:
            machines.vagrant("box", "add", "--name", "etcdops-lab", str(made))
            try:
                machines.vagrant("up")
                yield machines
            finally:
                machines.vagrant("destroy", "--force")
                assert libvirt.domains() == []
        finally:
            libvirt.end()
    finally:
        namespaces.close()


def key() -> str:
    """The public key that every box accepts, as Vagrant brings it."""
    files = run(["dpkg-query", "--listfiles", "vagrant"]).splitlines()
    return next(Path(file).read_text().strip() for file in files if re.search(r"/keys/vagrant\.pub$", file))
