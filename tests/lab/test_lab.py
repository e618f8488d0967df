"""The container lab, for real: hosts boot, lose power and network, reboot, and leave nothing behind.

This lab has a network namespace, a mount namespace and a folder of hosts of its own, so that it does not
meet a lab that is up on this machine.  It needs root.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from etcdops import configfile
from etcdops.errors import OpsError, Refused, UsageError
from etcdops.lab import image, network
from etcdops.lab.lab import Lab
from tests.hosts import prepare
from tests.namespaces import Namespaces

ONE, TWO, THREE = "etcd01", "etcd02", "etcd03"
ADDRESS = {ONE: "198.18.40.101", TWO: "198.18.40.102", THREE: "198.18.40.103"}


@dataclass
class Site:
    """A lab, the project folder that it is used from, and where its hosts are kept."""

    lab: Lab
    folder: Path
    hosts: Path

    def ssh(self, name: str, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        options = {
            "IdentityFile": self.folder / "id_ed25519",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 2,
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        argv = ["ssh", "-F", "/dev/null", *flags, f"{user}@{ADDRESS[name]}", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)

    def ask(self, name: str, command: str, user: str = "root") -> str:
        done = self.ssh(name, command, user)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def power(self, *names: str) -> list[str]:
        power = {machine.name: machine.power for machine in self.lab.status()}
        return [power[name] for name in names]

    def pids(self) -> dict[str, int]:
        return {machine.name: machine.pid for machine in self.lab.status()}


def eventually(check: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[None]:
    """A network and mounts that nobody else sees, for this module only."""
    prepare()
    namespaces = Namespaces()
    yield
    namespaces.close()


@pytest.fixture(scope="module")
def place(namespaces: None) -> Iterator[Path]:
    """Where hosts are kept: on a real disk, because an overlay cannot stand on every file system."""
    folder = Path(f"/var/lib/etcdops-lab-test-{os.getpid()}")
    yield folder
    Lab(folder / "unused", print, folder).down()
    (folder / "lock").unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def shared(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("project") / "lab"
    return Site(Lab(folder, print, place), folder, place)


@pytest.fixture
def site(shared: Site) -> Site:
    """Two hosts, on and connected, whatever the test before has done to them."""
    shared.lab.up(2)
    return shared


def leftovers(site: Site) -> list[str]:
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    return [
        *(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if site.hosts.name in line),
        *(str(path) for path in Path("/sys/fs/cgroup").rglob(f"{site.hosts.name}*")),
        *(str(path) for path in site.hosts.iterdir() if path.name != "lock"),
        *(link["ifname"] for link in links if link["ifname"] != "lo"),
    ]


def test_hosts_boot_and_every_account_gets_in(site: Site) -> None:
    for name in (ONE, TWO):
        eventually(lambda name=name: site.ssh(name, "systemctl is-system-running").stdout == "running\n")
        assert site.ask(name, "hostname") == name
    for account in image.ACCOUNTS:
        assert site.ask(ONE, "id -un", account) == account
    assert site.ask(ONE, "cat /etc/machine-id") != site.ask(TWO, "cat /etc/machine-id")


@pytest.mark.parametrize(
    ("account", "command", "works"),
    [
        ("ops", "sudo -n true", True),
        ("opspw", "sudo -n true", False),
        ("opspw", f"echo {image.SUDO_PASSWORD} | sudo -S true", True),
        ("opspw", "echo wrong | sudo -S true", False),
        ("nosudo", "sudo -n true", False),
        ("nosudo", f"echo {image.SUDO_PASSWORD} | sudo -S true", False),
    ],
)
def test_sudo_is_what_the_account_stands_for(site: Site, account: str, command: str, works: bool) -> None:
    assert (site.ssh(ONE, command, account).returncode == 0) is works


def test_hosts_reach_each_other_and_nobody_else(site: Site) -> None:
    site.ask(ONE, f"timeout 2 bash -c 'read -N 4 < /dev/tcp/{ADDRESS[TWO]}/22'")
    site.ask(ONE, f"timeout 2 bash -c 'read -N 4 < /dev/tcp/{network.address6(2)}/22'")
    assert site.ask(ONE, "ip -4 route").split()[:3] == ["198.18.40.0/24", "dev", "host0"]
    assert "default" not in site.ask(ONE, "ip -4 route; ip -6 route")


def test_second_up_leaves_running_hosts_alone(site: Site) -> None:
    before = site.pids()
    key = (site.folder / "id_ed25519").read_text()
    site.lab.up(2)
    assert site.pids() == before
    assert (site.folder / "id_ed25519").read_text() == key


def test_up_adds_hosts_and_never_takes_them_away(site: Site) -> None:
    before = site.pids()
    assert [machine.name for machine in site.lab.up(3).machines] == [ONE, TWO, THREE]
    assert site.ask(THREE, "hostname") == THREE
    site.lab.up(1)
    after = site.pids()
    assert set(after) == {ONE, TWO, THREE}
    assert {name: after[name] for name in before} == before


def test_power_cut_stops_everything_at_once_and_keeps_the_disk(site: Site) -> None:
    unit = "systemd-run --unit=last -p ExecStop='/usr/bin/touch /root/stopped-in-order' sleep infinity"
    site.ask(ONE, f"echo kept > /root/file; {unit}")
    host_key, boot = site.ask(ONE, "cat /etc/ssh/*.pub"), site.ask(ONE, "cat /proc/sys/kernel/random/boot_id")
    site.lab.off(ONE)
    assert site.power(ONE) == ["off"]
    assert site.pids()[ONE] == 0
    assert site.ssh(ONE, "true").returncode == 255
    site.lab.off(ONE)
    site.lab.on(ONE)
    pid = site.pids()[ONE]
    site.lab.on(ONE)
    assert site.pids()[ONE] == pid
    assert site.ask(ONE, "cat /root/file; ls /root") == "kept\nfile"
    assert site.ask(ONE, "cat /etc/ssh/*.pub") == host_key
    assert boot not in site.ask(ONE, "journalctl --boot --output=export --lines=1")


def test_cut_cable_parts_a_running_host_from_all_others(site: Site) -> None:
    before = site.pids()
    site.lab.cut(TWO)
    site.lab.cut(TWO)
    assert site.power(ONE, TWO) == ["on", "cut"]
    assert site.ssh(TWO, "true").returncode == 255
    assert site.ssh(ONE, f"timeout 1 bash -c '< /dev/tcp/{ADDRESS[TWO]}/22'").returncode != 0
    site.lab.heal(TWO)
    site.lab.heal(TWO)
    eventually(lambda: site.ssh(TWO, "true").returncode == 0)
    assert site.power(ONE, TWO) == ["on", "on"]
    assert site.pids() == before


def test_up_mends_what_was_off_or_cut(site: Site) -> None:
    site.lab.off(ONE)
    site.lab.cut(TWO)
    assert {machine.power for machine in site.lab.up(2).machines} == {"on"}
    assert site.ask(ONE, "hostname") + site.ask(TWO, "hostname") == ONE + TWO


def test_reboot_from_inside_comes_back(site: Site) -> None:
    before = site.pids()
    site.ssh(ONE, "echo kept > /root/rebooted; systemctl reboot")
    eventually(lambda: site.pids()[ONE] not in {0, before[ONE]} and site.ssh(ONE, "true").returncode == 0)
    assert site.power(ONE, TWO) == ["on", "on"]
    assert site.ask(ONE, "cat /root/rebooted") == "kept"


def test_shutdown_from_inside_is_off(site: Site) -> None:
    site.ssh(ONE, "systemctl poweroff")
    eventually(lambda: site.power(ONE) == ["off"])
    site.lab.on(ONE)
    assert site.ask(ONE, "hostname") == ONE


def test_systemd_does_what_a_unit_asks_for(site: Site) -> None:
    """The sandbox of a unit and its readiness protocol are real, and journald has its words."""
    sandbox = (
        "ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes ProtectKernelTunables=yes "
        "ProtectKernelModules=yes ProtectControlGroups=yes ProtectProc=invisible RestrictNamespaces=yes "
        "RestrictAddressFamilies=AF_UNIX MemoryDenyWriteExecute=yes NoNewPrivileges=yes LockPersonality=yes "
        "SystemCallFilter=@system-service CapabilityBoundingSet= StateDirectory=probe NotifyAccess=all"
    )
    flags = " ".join(f"-p {each}" for each in sandbox.split())
    body = "touch /var/lib/probe/mine; touch /usr/theirs; ls /root; systemd-notify --ready; exec sleep infinity"
    site.ask(ONE, "systemctl stop probe; systemctl reset-failed probe; rm -rf /var/lib/probe; true")
    site.ask(ONE, f"systemd-run --unit=probe --service-type=notify {flags} sh -c '{body}'")
    assert site.ask(ONE, "systemctl is-active probe; ls /var/lib/probe") == "active\nmine"
    eventually(lambda: "/usr/theirs" in site.ask(ONE, "journalctl --no-pager -u probe -o cat"))
    said = site.ask(ONE, "journalctl --no-pager -u probe -o cat")
    assert "cannot touch '/usr/theirs': Read-only file system" in said
    assert "cannot open directory '/root': Permission denied" in said
    assert "Accepted publickey for root" in site.ask(ONE, "journalctl --no-pager -u ssh")


def test_root_can_fill_a_small_disk(site: Site) -> None:
    mount = "mkdir -p /mnt/small && mount -t tmpfs -o size=64k tmpfs /mnt/small"
    full = site.ssh(ONE, f"{mount} && head -c 128k /dev/zero > /mnt/small/file")
    assert "No space left on device" in full.stderr
    site.ask(ONE, "umount /mnt/small")


def test_config_fits_the_hosts(site: Site, tmp_path: Path) -> None:
    path = site.lab.write_config("3.5.16", tmp_path / "etcd.tar.gz", 2)
    config = configfile.load(path)
    assert path == site.folder / "config.yaml"
    assert [(member.name, member.address) for member in config.members] == [(n, ADDRESS[n]) for n in (ONE, TWO)]
    assert (config.cluster.name, config.cluster.version, config.ssh.user) == ("lab", "3.5.16", "root")
    assert config.resolve(config.ssh.key) == site.folder / "id_ed25519"
    assert config.resolve(config.ssh.known_hosts) == site.folder / "known_hosts"
    assert config.resolve(config.release.archive) == tmp_path / "etcd.tar.gz"
    assert configfile.load(site.lab.write_config("3.6.1", None, 1)).release.archive == ""
    with pytest.raises(UsageError, match="9 members"):
        site.lab.write_config("3.6.1", None, 9)


def test_second_project_gets_in_as_well(site: Site, tmp_path: Path) -> None:
    other = Site(Lab(tmp_path / "lab", print, site.hosts), tmp_path / "lab", site.hosts)
    before = site.pids()
    other.lab.up(2)
    assert site.pids() == before
    assert (site.lab.elsewhere, other.lab.elsewhere) == (None, site.folder)
    assert other.ask(ONE, "hostname") == site.ask(ONE, "hostname") == ONE
    other.lab.up(2)
    keys = site.ask(ONE, "cat /root/.ssh/authorized_keys").splitlines()
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda lab: lab.off("etcd42"), UsageError, "no host 'etcd42'"),
        (lambda lab: lab.up(0), UsageError, "1 to 99 hosts, not 0"),
        (lambda lab: lab.up(100), UsageError, "1 to 99 hosts, not 100"),
        (lambda lab: lab.up(2, ["bookworm", "woody"]), UsageError, "no Debian 'woody'"),
    ],
)
def test_nonsense_is_a_usage_error(site: Site, act: Callable[[Lab], object], error: type[OpsError], words: str) -> None:
    with pytest.raises(error, match=words):
        act(site.lab)


def test_a_host_that_is_off_has_no_cable(site: Site) -> None:
    site.lab.off(ONE)
    for act in (site.lab.cut, site.lab.heal):
        with pytest.raises(OpsError, match=f"{ONE}: is off"):
            act(ONE)


def test_hosts_that_cannot_boot_say_why(site: Site) -> None:
    site.lab.off(ONE)
    (site.hosts / ONE / "root/usr/lib/os-release").rename(site.hosts / ONE / "root/usr/lib/gone")
    try:
        with pytest.raises(OpsError, match=rf"{ONE}: did not start: .*os-release"):
            site.lab.on(ONE)
        assert site.power(ONE) == ["off"]
    finally:
        (site.hosts / ONE / "root/usr/lib/gone").rename(site.hosts / ONE / "root/usr/lib/os-release")


def test_another_interface_in_the_labs_network_is_refused(site: Site) -> None:
    site.lab.down()
    subprocess.run(["ip", "link", "add", "lan0", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "198.18.40.250/24", "dev", "lan0"], check=True)
        with pytest.raises(Refused, match=r"lan0 of this machine is in 198\.18\.40\.0/24"):
            site.lab.up(2)
        assert leftovers(site) == ["lan0"]
    finally:
        subprocess.run(["ip", "link", "delete", "lan0"], check=True)


@pytest.mark.parametrize("act", [Lab.up, Lab.down, Lab.status, lambda lab: lab.off(ONE)])
def test_without_root_it_refuses(site: Site, monkeypatch: pytest.MonkeyPatch, act: Callable[[Lab], object]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match="needs root"):
        act(site.lab)


def test_down_leaves_nothing_but_the_route_that_stops_packets(site: Site) -> None:
    site.lab.off(TWO)  # one on, one off
    known_hosts = (site.folder / "known_hosts").read_text()
    site.lab.down()
    assert leftovers(site) == []
    assert site.lab.status() == []
    assert "unreachable 198.18.40.0/24" in subprocess.check_output(["ip", "route"], text=True)
    started = time.monotonic()
    assert site.ssh(ONE, "true").returncode == 255
    assert time.monotonic() - started < 1  # refused on this machine, not by a time-out
    site.lab.down()
    site.lab.up(2)
    assert (site.folder / "known_hosts").read_text() != known_hosts
    assert site.ask(ONE, "hostname") == ONE


def test_two_at_once_wait_for_each_other(site: Site) -> None:
    site.lab.down()
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(Lab(site.folder, print, site.hosts).up, hosts) for hosts in (2, 2, 3)]
        found = [run.result(timeout=60) for run in runs]
    pids = {(machine.name, machine.pid) for info in found for machine in info.machines}
    assert len(pids) == 3  # nobody started a host twice
    assert site.power(ONE, TWO, THREE) == ["on", "on", "on"]
    site.lab.down()


def test_two_labs_on_one_bridge_leave_each_other_alone(site: Site, tmp_path: Path) -> None:
    other = Site(Lab(tmp_path / "lab", print, site.hosts / "other"), tmp_path / "lab", site.hosts / "other")
    assert other.lab.status() == []
    other.hosts.mkdir()
    other.lab.down()
    (other.hosts / "lock").unlink()
    other.hosts.rmdir()
    assert site.ask(ONE, f"timeout 2 bash -c 'read -N 4 < /dev/tcp/{ADDRESS[TWO]}/22'; hostname") == ONE
