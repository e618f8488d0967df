"""New CAs under a cluster that is written to: what clients notice, who is let in then, and runs that are cut short."""

from __future__ import annotations

import shutil
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdops.pki import CA
from tests.hosts import NAMES, Held, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.members import killed_at
from tests.lab.test_rolling import THIEF, leader
from tests.lab.test_rotate_certs import SSL, expire, issued, shown
from tests.lab.writer import Writer

RESTART = '[ "$2" = systemctl ] && [ "$3" = restart ]'
GO_ON = "inv rotate-ca goes on from there"
LONG = 400  # seconds for two restarts of every member, on a machine that is busy


def knock(member: dict[str, str], port: int, ca: Path, pair: Path) -> str:
    """'' when a port shows what ``ca`` has signed and lets ``pair`` in, else who refused whom, and why.

    A peer is let in from the member's own address only, which this machine does not have: etcd hangs up without an
    alert then, as it does not for a certificate of a CA that it does not trust.
    """
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(f"{pair}.pem", f"{pair}-key.pem")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((member["address"], port), timeout=5) as raw:
        try:
            with context.wrap_socket(raw, server_hostname=member["address"]) as tls:
                tls.settimeout(5)
                return "" if tls.recv(1) or port == 2380 else "no answer"
        except ssl.SSLCertVerificationError:
            return "not trusted"
        except (ssl.SSLError, ConnectionError) as error:
            return f"refused: {getattr(error, 'reason', error)}"


class Pki:
    """A copy of pki.dir as it was."""

    def __init__(self, project: Project, to: Path) -> None:
        self.folder = to
        shutil.copytree(project.folder / "pki", to)

    def knocks(self, project: Project) -> set[str]:
        """What one meets who comes with what was in it, on both ports of every member."""
        return {
            knock(member, port, self.folder / ca, pair)
            for member in project.config["members"]
            for port, ca, pair in (
                (2379, "ca.pem", self.folder / "client"),
                (2380, "peer-ca.pem", self.folder / "members" / member["name"] / "peer"),
            )
        }


def two_cas(project: Project) -> None:
    """No certificate of the clients' CA is let in as a peer, and none of the peers' CA as a client."""
    pki = project.folder / "pki"
    for member in project.config["members"]:
        peer, client = pki / "members" / member["name"] / "peer", pki / "client"
        for port, ca, pair in ((2380, "peer-ca.pem", client), (2379, "ca.pem", peer)):
            assert knock(member, port, pki / ca, pair).startswith("refused: "), (port, member)


def ended(project: Project) -> None:
    """Two CAs: every member shows what they have signed, and trusts no others; the old ones are kept."""
    pki = project.folder / "pki"
    assert not [each.name for each in pki.iterdir() if each.name in {"next", "old"}]
    (retired, *_) = pki.glob("retired-*")
    for stem in ("ca", "peer-ca"):
        assert (retired / f"{stem}.pem").read_bytes() != (pki / f"{stem}.pem").read_bytes()
        assert (pki / f"{stem}.pem").read_text().count("BEGIN CERTIFICATE") == 1
    assert shown(project) == issued(project)
    assert Pki(project, project.folder / f"now-{len([*project.folder.iterdir()])}").knocks(project) == {""}
    two_cas(project)
    project.healthy()
    assert project.inv("status", "--json").ok().json()["ca_rotation"] is None
    assert project.inv("deploy").ok().stdout.startswith("nothing to do in ")


def stage(project: Project) -> str:
    """What status says of it, on both its faces; doctor says the same."""
    found = project.inv("status", "--json").json()["ca_rotation"]
    text = project.inv("status").stdout
    assert f"rotation of the CAs, stage {found['number']} of 3" in text and GO_ON in text
    told = [each for each in project.inv("doctor", "--json").json()["findings"] if each["check"] == "pki"]
    assert [each["do"] for each in told] == [GO_ON]
    name: str = found["stage"]
    return name


def killed(project: Project, held: Held, program: str) -> None:
    """A run dies when it has come to ``held``."""
    run = project.start("rotate-ca", "--yes")
    held.reached(LONG)
    killed_at(project, held, program, run)


def test_new_cas_while_clients_write(cluster: Project, hosts: Hosts, tmp_path: Path) -> None:
    before = Pki(cluster, tmp_path / "before")
    assert before.knocks(cluster) == {""}
    lines = cluster.inv("rotate-ca", "--dry-run").ok().lines
    assert next(line for line in lines if line.startswith("stage ")).startswith("stage 1 of 3")
    cluster.refuses(3, "nobody can be asked here", task=("rotate-ca",))
    led = leader(cluster)
    with Writer(cluster, fresh=True) as writer:
        done = cluster.start("rotate-ca", "--yes", "--json").end(LONG).ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    document = done.json()
    assert [each["stage"] for each in document["stages"]] == ["trust", "leaves", "retire"]
    for each in document["stages"]:
        print(f"{each['stage']}: {each['seconds']} s, {each['canary']}")
        assert each["canary"]["writes"] > 0
        assert (each["canary"]["failed"], each["canary"]["lost"]) == (0, 0)
    print(f"{len(writer.acknowledged)} writes, {len(writer.failures)} tried again: {set(writer.failures)}")
    assert writer.lost() == {}
    assert done.stderr.index(f"Restart {led}") > max(done.stderr.index(f"Restart {name}") for name in {*NAMES} - {led})
    for words in ("has to trust both CAs", "has to show a certificate of the new CA", "clients may forget the old CA"):
        assert words in done.stderr
    ended(cluster)
    assert before.knocks(cluster) == {"not trusted"}
    for member in cluster.config["members"]:  # also one who trusts the new CA, and has only the old pair
        pair = before.folder / "client"
        assert knock(member, 2379, cluster.folder / "pki/ca.pem", pair).startswith("refused: ")
    cluster.adopt()


@pytest.mark.chaos
def test_one_brought_ca_is_followed_by_two(project: NewProject, hosts: Hosts) -> None:
    """Its key is elsewhere, and the run stops before each stage that a client would feel; others work in between."""
    new = project()
    pki = new.folder / "pki"
    pki.mkdir()
    ca = CA.create("etcd ca", "ecdsa-p256", timedelta(days=365), datetime.now(UTC))
    (pki / "ca.pem").write_bytes(ca.cert_pem)
    (pki / "ca-key.pem").write_bytes(ca.key_pem or b"")
    new.inv("deploy").ok()
    (pki / "ca-key.pem").rename(new.folder / "elsewhere")
    answers = {"needs the new ca.pem before the second stage": "yes", "ca.pem holds them. Go on?": "no"}
    asked = new.terminal("rotate-ca", answers=answers)
    assert asked.code == 3
    assert stage(new) == "trust"
    assert new.inv("deploy").ok().stdout.startswith("nothing to do in ")
    answers = {"ca.pem holds them. Go on?": "yes", "ca-key.pem. Go on?": "no"}
    assert new.terminal("rotate-ca", answers=answers).code == 3
    assert stage(new) == "leaves"
    new.inv("backup").ok()
    new.start("rotate-ca", "--yes").end(LONG).ok()
    ended(new)


@pytest.mark.chaos
def test_cas_that_have_ended_are_followed_by_new_ones(cluster: Project, hosts: Hosts) -> None:
    """The cluster is down for it, and no stage could be proven: all members get everything at once."""
    pki, then = cluster.folder / "pki", datetime.now(UTC) - timedelta(days=2)
    for stem in ("ca", "peer-ca"):
        ca = CA.create(f"etcd {stem}", "ecdsa-p256", timedelta(days=1), then)
        (pki / f"{stem}.pem").write_bytes(ca.cert_pem)
        (pki / f"{stem}-key.pem").write_bytes(ca.key_pem or b"")
        for name in NAMES:
            hosts.sh(name, f"cat >{SSL}/{stem}.pem <<'END'\n{ca.cert_pem.decode()}END")
    expire(cluster, then)
    hosts.eventually(lambda: cluster.inv("health").code == 5)
    cluster.inv("distribute").failed(2, "the CA expired on", "inv rotate-ca puts new ones in their place")
    assert "etcd01  " in cluster.inv("rotate-ca", "--dry-run").ok().stdout
    killed(cluster, hosts.hold("etcd02", "timeout", when=RESTART), "timeout")
    cluster.start("rotate-ca", "--yes").end(LONG).ok()
    ended(cluster)
    cluster.adopt()


@pytest.mark.chaos
def test_member_that_does_not_come_back_stops_the_run(cluster: Project, hosts: Hosts) -> None:
    led = leader(cluster)
    first, second = sorted(set(NAMES) - {led})
    held = hosts.hold(first, "timeout", when=RESTART)
    run = cluster.start("rotate-ca", "--yes")
    held.reached(LONG)
    hosts.sh(first, f"systemctl stop etcd; {THIEF}")
    held.release()
    failed = run.end().failed(4, first, "address already in use", f"{second}, {led} not touched after it")
    assert "inv rotate-ca --yes" in failed.stderr
    assert "canary: " in failed.stderr
    assert sum(row["healthy"] for row in cluster.inv("health", "--json").json()) == 2
    cluster.inv("rotate-ca", "--yes").failed(3)
    hosts.sh(first, "systemctl stop test-thief; rm /usr/local/sbin/timeout")
    cluster.inv("start").ok()
    assert stage(cluster) == "trust"
    cluster.start("rotate-ca", "--yes").end(LONG).ok()
    ended(cluster)
    cluster.adopt()


@pytest.mark.chaos
@pytest.mark.parametrize("version", ["3.4.23", "3.5.30", "3.7.3"])
def test_with(project: NewProject, version: str) -> None:
    """What proves a stage, or a leaf, is how the ports of that release answer."""
    new = project(version=version)
    new.inv("deploy").ok()
    new.inv("rotate-certs").ok()
    new.start("rotate-ca", "--yes").end(LONG).ok()
    ended(new)


# Where the run dies, on which of the hosts in the order of their turns: a program there, and when it is called.
RUNS = "[ $(grep -c BEGIN /etc/etcd/ssl/ca.pem) = {} ] && " + RESTART
DEATHS = {
    "first is to read both": ("trust", 0, "timeout", RUNS.format(2)),
    "last is to read both": ("trust", 2, "timeout", RUNS.format(2)),
    "first gets new ones": ("leaves", 0, "install", '[ "$2" = 600 ]'),
    "second gets new ones": ("leaves", 1, "install", '[ "$2" = 600 ]'),
    "first is to forget": ("retire", 0, "timeout", RUNS.format(1)),
    "last is to forget": ("retire", 2, "timeout", RUNS.format(1)),
}


@pytest.mark.chaos
@pytest.mark.parametrize("task", ["rotate-ca", "deploy"])
@pytest.mark.parametrize(("at", "turn", "program", "when"), DEATHS.values(), ids=DEATHS.keys())
def test_killed_run_goes_on(
    cluster: Project, hosts: Hosts, at: str, turn: int, program: str, when: str, task: str
) -> None:
    """By the same command, also when another task has come between."""
    led = leader(cluster)
    name = [*sorted(set(NAMES) - {led}), led][turn] if program == "timeout" else NAMES[turn]
    with Writer(cluster, fresh=True) as writer:
        killed(cluster, hosts.hold(name, program, when=when), program)
        assert stage(cluster) == at
        if task == "deploy":
            cluster.inv("deploy").ok()
            assert cluster.inv("status", "--json").ok().json()["ca_rotation"]["behind"] == {}
        cluster.start("rotate-ca", "--yes").end(LONG).ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    assert writer.lost() == {}
    ended(cluster)
    cluster.adopt()
