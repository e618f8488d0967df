"""Members that come, go and move: what the tests of it look at."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator

from tests.hosts import LISTING, NAMES, Held, Hosts, Process, Project

FIVE = (*NAMES, "etcd04", "etcd05")

# What must be left of a member on its host: its data, set aside, and nothing that could start.
REMAINS = r"""
systemctl is-active etcd etcdops-backup.timer
ls -A /etc/etcd /etc/systemd/system/etcd.service /etc/systemd/system/*/etcd* /var/lib/etcd/default.etcd 2>/dev/null
ls -d /etc/systemd/system/etcdops-* 2>/dev/null
ls /var/lib/etcd/aside-*
pgrep -x etcd
true
"""
CLEAN = "inactive\ninactive\ndefault.etcd\netc"


def address(name: str) -> str:
    return f"198.18.40.10{FIVE.index(name) + 1}"


def reread(project: Project) -> None:
    """What the tool has made of config.yaml, which is JSON still."""
    project.config = json.loads((project.folder / "config.yaml").read_text())


def members(project: Project, name: str) -> dict[str, int]:
    """The members, with their ids, as the one on host ``name`` knows them."""
    found = json.loads(project.etcdctl(name, "member list --write-out=json"))["members"]
    return {each.get("name", ""): each["ID"] for each in found}


def listed(project: Project, name: str) -> set[str]:
    """Their names alone."""
    return set(members(project, name))


def is_whole(project: Project, hosts: Hosts, *names: str) -> None:
    """The cluster has exactly these members, config.yaml too; each is as deploy would have it, and guarded."""
    reread(project)
    assert {each["name"] for each in project.config["members"]} == set(names)
    where = {each["name"]: host_at(each["address"]) for each in project.config["members"]}
    project.inv("health").ok()
    for name in names:
        project.etcdctl(where[name], f"put /whole/{name} {name}")
    read = "\n".join(line for name in sorted(names) for line in (f"/whole/{name}", name))
    assert {project.etcdctl(host, "get --prefix /whole/") for host in where.values()} == {read}
    project.etcdctl(where[names[0]], "del --prefix /whole/")
    for name in names:
        found = members(project, where[name])
        assert set(found) == set(names)
        identity = json.loads(hosts.sh(where[name], "cat /etc/etcd/identity.json"))
        assert (identity["name"], identity["member_id"]) == (name, f"{found[name]:x}")
    on = sorted(where.values())
    before = hosts.each(LISTING, on)
    assert project.inv("deploy").ok().stdout.startswith("nothing to do in ")
    assert hosts.each(LISTING, on) == before


@contextlib.contextmanager
def cut_off(hosts: Hosts, name: str) -> Iterator[None]:
    """A host that reaches no member, while we reach it."""
    routes = [f"ip route {{}} unreachable {address(each)}" for each in NAMES]
    hosts.sh(name, "; ".join(routes).format(*["add"] * 3))
    try:
        yield
    finally:
        hosts.sh(name, "; ".join(routes).format(*["del"] * 3))


def killed_at(project: Project, held: Held, program: str, run: Process) -> None:
    """The run dies when it has come to ``held``, and the script on the host with it, as with a power cut: what it was
    about to do has not happened."""
    held.reached()
    run.signal(signal.SIGKILL)
    run.end()
    wrapper = f"pgrep -o -f '^/bin/sh /usr/local/sbin/{program}'"
    kill = f"kill -9 -- -$(ps -o pgid= -p $({wrapper}) | tr -d ' ')"
    project.hosts.sh(held.name, f"{kill}; rm /usr/local/sbin/{program} /run/etcdops-hold")


def host_at(where: str) -> str:
    """The host with this address."""
    return f"etcd0{where[-1]}"
