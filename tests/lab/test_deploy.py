"""deploy from nothing, and each documented step alone: as any account, on any release, with TLS and without."""

from __future__ import annotations

import pytest

from etcdops.lab.image import SUDO_PASSWORD
from tests.hosts import NAMES, Done, Hosts, Project, members
from tests.lab.conftest import NewProject

STEPS = ("gen-ca", "gen-server-cert", "install", "distribute", "configure", "start")


def shown(done: Done) -> list[str]:
    """``HOST  LINE`` for each change that a real run has shown, as --dry-run prints them."""
    by_host: dict[str, list[str]] = {"here": [], **{name: [] for name in NAMES}}
    for line in done.stderr.splitlines():
        text = line.removeprefix("    ")
        if text == line:
            continue
        hosts = [word for word in text.split() if word in NAMES]
        change = text.split("  ", 1)[-1].strip() if hosts else text
        for name in hosts:
            by_host[name].append(f"{name}  {change}")
        if not hosts:
            action, rest = text.split(maxsplit=1)
            by_host["here"].append(f"here  {action} pki/{rest}")
    return [line for lines in by_host.values() for line in lines]


SAID = "journalctl --no-pager -o {} _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID etcd)"


def no_stray_words(hosts: Hosts) -> None:
    """etcd only warns of a setting that it does not know."""
    said = hosts.each(SAID.format("cat"))
    for name, text in said.items():
        assert "recognized and used environment variable" in text, name
        assert "unrecognized environment variable" not in text, name


def one_answered_before_the_others_began(hosts: Hosts) -> None:
    """Else each may wait 1 s for each other, whose port is open and who does not answer yet."""
    said = {name: text.splitlines() for name, text in hosts.each(SAID.format("short-unix")).items()}
    began = {name: float(lines[0].split()[0]) for name, lines in said.items()}
    answers = [float(line.split()[0]) for line in said["etcd01"] if "serving peer traffic" in line]
    assert answers[0] < min(began[name] for name in NAMES[1:])


@pytest.mark.parametrize(
    ("version", "tls", "user"),
    [
        ("3.4.23", True, "root"),
        ("3.5.30", True, "ops"),
        ("3.6.16", True, "opspw"),
        ("3.7.3", False, "root"),
        ("3.7.3", True, "ops"),
    ],
)
def test_from_nothing_to_a_cluster_and_then_nothing_to_do(
    project: NewProject, hosts: Hosts, version: str, tls: bool, user: str
) -> None:
    new = project(version=version, tls=tls, ssh={"user": user})
    if user == "opspw":
        new.env["ETCDOPS_SUDO_PASSWORD"] = SUDO_PASSWORD
    listed = new.inv("deploy", "--dry-run").ok()
    assert "nothing to do" not in listed.stdout
    first = new.inv("deploy").ok()
    assert shown(first) == listed.lines
    assert f"3 members healthy, etcd {version}" in first.stdout
    new.healthy()
    no_stray_words(hosts)
    one_answered_before_the_others_began(hosts)
    assert new.inv("deploy", "--dry-run").ok().lines == ["nothing to do"]
    settled(new)


def settled(project: Project) -> None:
    """Another deploy finds nothing to do, and touches nothing."""
    before = project.hosts.listing()
    again = project.inv("deploy").ok()
    assert again.stdout.startswith("nothing to do in ")
    assert shown(again) == []
    assert project.hosts.listing() == before


def test_password_at_the_prompt(project: NewProject) -> None:
    new = project(ssh={"user": "opspw"})
    done = new.terminal("deploy", answers={"[sudo] password for opspw: ": SUDO_PASSWORD}).ok()
    assert done.stdout.count("[sudo]") == 1  # one for all hosts
    assert SUDO_PASSWORD not in done.stdout
    assert "3 members healthy" in done.stdout


@pytest.mark.parametrize("tls", [True, pytest.param(False, marks=pytest.mark.chaos)])
def test_steps_in_the_order_of_the_guide_are_deploy(project: NewProject, tls: bool) -> None:
    new = project(tls=tls)
    for step in STEPS if tls else STEPS[2:]:
        listed = new.inv(step, "--dry-run").ok()
        done = new.inv(step).ok()
        assert listed.lines, step
        if step in STEPS[:2]:
            assert done.lines == listed.lines
        else:
            assert shown(done) == listed.lines, step
    new.healthy()
    settled(new)
    for step in STEPS if tls else STEPS[2:]:
        assert "new" not in new.inv(step, "--dry-run").ok().stdout


def test_members_with_ipv6_addresses(project: NewProject, hosts: Hosts) -> None:
    new = project(members=members(ipv6=True))
    new.inv("deploy").ok()
    new.healthy()
    settled(new)
    urls = [url for member in new.inv("members", "--json").ok().json() for url in member["peer_urls"]]
    assert sorted(urls) == [f"https://[fd00:e7cd:40::{101 + number}]:2380" for number in range(3)]
    assert hosts.sh("etcd01", "journalctl --no-pager -u ssh | grep -c 'from fd00:e7cd:40::1 '") != "0"
    new.inv("etcdctl", "--", "endpoint", "health").ok()


def test_cluster_of_one(project: NewProject, hosts: Hosts) -> None:
    """A cluster of one member is a cluster, too."""
    new = project(members=members("etcd02"))
    new.inv("deploy").ok()
    new.healthy()
    settled(new)
    new.inv("restart").ok()
    assert hosts.sh("etcd01", "ls /etc/etcd /opt/etcd 2>&1; true").count("No such file") == 2
