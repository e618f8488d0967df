"""What every member's host must be like, whichever way it came to be so: files, service, ports, sandbox."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from testinfra.host import Host

from etcdops.config import Config, Member
from tests.infra.conftest import Target

FILES = {
    "/etc/etcd": ("directory", 0o755, "root", "root"),
    "/etc/etcd/etcd.conf": ("file", 0o644, "root", "root"),
    "/etc/etcd/identity.json": ("file", 0o644, "root", "root"),
    "/etc/systemd/system/etcd.service": ("file", 0o644, "root", "root"),
    "/var/lib/etcd": ("directory", 0o700, "etcd", "etcd"),
    "/var/lib/etcd/default.etcd": ("directory", 0o700, "etcd", "etcd"),
    "/var/lib/etcd/default.etcd/member/wal": ("directory", 0o700, "etcd", "etcd"),
    "/opt/etcd": ("directory", 0o755, "root", "root"),
}


def programs(config: Config) -> list[str]:
    return ["etcd", "etcdctl"] if config.cluster.minor == "3.4" else ["etcd", "etcdctl", "etcdutl"]


def process(host: Host) -> str:
    return host.check_output("systemctl show etcd.service --property=MainPID --value")


@pytest.mark.parametrize("path", FILES)
def test_file(host: Host, path: str) -> None:
    kind, mode, user, group = FILES[path]
    found = host.file(path)
    assert found.is_directory if kind == "directory" else found.is_file
    assert (oct(found.mode), found.user, found.group) == (oct(mode), user, group)


def test_release(host: Host, config: Config) -> None:
    version = config.cluster.version
    assert host.file("/opt/etcd/current").linked_to == f"/opt/etcd/{version}"
    for program in programs(config):
        assert host.file(f"/usr/local/bin/{program}").linked_to == f"/opt/etcd/{version}/{program}"
        unpacked = host.file(f"/opt/etcd/{version}/{program}")
        assert (oct(unpacked.mode), unpacked.user, unpacked.group) == ("0o755", "root", "root")
    assert host.check_output("readlink /proc/%s/exe", process(host)) == f"/opt/etcd/{version}/etcd"
    assert f"etcd Version: {version}" in host.check_output("/usr/local/bin/etcd --version")
    assert f"etcdctl version: {version}" in host.check_output("/usr/local/bin/etcdctl version")


def test_nobody_but_root_can_change_what_runs(host: Host) -> None:
    managed = "/opt/etcd /etc/etcd /usr/local/bin /etc/systemd/system/etcd.service"
    assert host.check_output(f"find {managed} -perm /022 ! -type l") == ""
    assert host.check_output("find /opt/etcd /usr/local/bin ! -user root") == ""


def test_nothing_half_written(host: Host) -> None:
    places = "/etc/etcd /etc/systemd/system /opt/etcd /usr/local/bin /var/lib/etcd"
    assert host.check_output(f"find {places} -name '*.etcdops-new'") == ""
    assert host.check_output("find /var/lib /run /tmp -maxdepth 1 -name '*etcdops.*'") == ""


def test_account_is_for_nothing_else(host: Host) -> None:
    account = host.user("etcd")
    assert account.shell in {"/usr/sbin/nologin", "/sbin/nologin", "/bin/false"}
    assert account.uid < 1000
    assert account.password in {"!", "!!", "!*", "*"}


def test_service(host: Host) -> None:
    service = host.service("etcd")
    assert service.is_valid
    assert service.is_enabled
    assert service.is_running
    shown = host.check_output("systemctl show etcd.service --property=NeedDaemonReload,FragmentPath")
    assert set(shown.splitlines()) == {"NeedDaemonReload=no", "FragmentPath=/etc/systemd/system/etcd.service"}


def test_process_has_no_rights(host: Host) -> None:
    """Not by what the unit says, but by what the kernel knows."""
    pid = process(host)
    uid = str(host.user("etcd").uid)
    status = dict(re.findall(r"^(\w+):\s+(.*)$", host.file(f"/proc/{pid}/status").content_string, re.MULTILINE))
    assert status["Uid"].split() == [uid] * 4
    assert (status["CapEff"], status["CapBnd"]) == ("0" * 16, "0" * 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = host.check_output("cat /proc/%s/mounts", pid).splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    assert "ro" in options["/"]
    assert "rw" in options["/var/lib/etcd"]


def test_sandbox(host: Host) -> None:
    said = host.check_output("systemd-analyze security --no-pager etcd.service")
    found = re.search(r"Overall exposure level for etcd\.service: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= 2.5


def test_ports(host: Host, member: Member) -> None:
    """Clients at the member's address and on the host itself, peers at the address, figures on the host alone."""
    lines = host.check_output("ss -H -l -t -n").splitlines()
    listening = {line.split()[3] for line in lines if re.search(r":(2379|2380|2381)$", line.split()[3])}
    address = f"[{member.address}]" if ":" in member.address else member.address
    assert listening == {f"{address}:2379", "127.0.0.1:2379", f"{address}:2380", "127.0.0.1:2381"}


def test_figures_are_served_on_the_host(target: Target, member: Member) -> None:
    answer = target.ask(member, "127.0.0.1", 2381, None, "/metrics")
    assert b"etcd_server_has_leader 1" in answer.body


def test_every_setting_was_taken(host: Host) -> None:
    """etcd only warns of a variable that it does not know."""
    invocation = host.check_output("systemctl show etcd.service --property=InvocationID --value")
    said = host.check_output("journalctl --no-pager --output=cat _SYSTEMD_INVOCATION_ID=%s", invocation)
    assert "unrecognized environment variable" not in said
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", process(host)).splitlines()
    started = {line for line in environment if line.startswith("ETCD_")}
    conf = host.file("/etc/etcd/etcd.conf").content_string
    written = {re.sub(r'="(.*)"$', r"=\1", line) for line in conf.splitlines() if line.startswith("ETCD_")}
    # The state of the cluster is read at a member's first start only, when it was another.
    assert {line for line in written ^ started if "INITIAL_CLUSTER_STATE" not in line} == set()
    assert "ETCD_INITIAL_CLUSTER_STATE=existing" in written


def identity(target: Target, member: Member) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(target.host(member).file("/etc/etcd/identity.json").content_string)
    return known


def test_members_are_of_one_cluster(target: Target, config: Config) -> None:
    known = [identity(target, member) for member in config.members]
    assert [each["name"] for each in known] == [member.name for member in config.members]
    assert {each["cluster"] for each in known} == {config.cluster.name}
    assert len({each["cluster_id"] for each in known}) == 1
    assert len({each["token"] for each in known}) == 1
    assert len({each["member_id"] for each in known}) == len(known)
    for member in config.members:
        conf = target.host(member).file("/etc/etcd/etcd.conf").content_string
        assert f'ETCD_INITIAL_CLUSTER_TOKEN="{known[0]["token"]}"' in conf


def test_member_whose_data_is_gone_does_not_start(host: Host) -> None:
    """Without a try: once it has joined, systemd starts it on a data directory that holds its log only, and in no
    restore that was cut short."""
    unit = host.check_output("systemctl cat etcd.service").splitlines()
    assert [line for line in unit if line.startswith("Assert")] == [
        "AssertPathExists=|/var/lib/etcd/default.etcd/member/wal",
        "AssertPathExists=|!/etc/etcd/identity.json",
        "AssertPathExists=!/var/lib/etcd/restoring",
    ]
