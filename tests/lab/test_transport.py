"""From plain http to TLS and back on real hosts, while clients write by both."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from typing import Any

import pytest

from tests.hosts import NAMES, Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.test_restart import left, watched
from tests.lab.test_rolling import leader, one_at_a_time
from tests.lab.test_upgrade import AT_RESTART, written
from tests.lab.writer import Writer

BOTH = ("http", "https")
ASK = b"GET /version HTTP/1.0\r\n\r\n"
OPEN = {"http", "https with a certificate"}


def let_in(project: Project, address: str, port: int) -> set[str]:
    """Who gets an answer at a port: asked from here, as any client on the network.

    Peers take a certificate from the address that it names only: that it works there, the run itself has seen.
    """
    pki = project.folder / "pki"
    trust, pair = ("ca", "client") if port == 2379 else ("peer-ca", f"members/{_name(project, address)}/peer")
    found = set()
    for who in ("http", "https", "https with a certificate"):
        try:
            with socket.create_connection((address, port), timeout=5) as plain:
                line = plain
                if who != "http":
                    context = ssl.create_default_context(cafile=str(pki / f"{trust}.pem"))
                    if who != "https":
                        context.load_cert_chain(pki / f"{pair}.pem", pki / f"{pair}-key.pem")
                    line = context.wrap_socket(plain, server_hostname=address)
                line.sendall(ASK)
                if b" 200 OK" in line.recv(4096).partition(b"\r\n")[0]:
                    found.add(who)
        except OSError:
            pass
    return found


def _name(project: Project, address: str) -> str:
    return next(each["name"] for each in project.config["members"] if each["address"] == address)


def doors(project: Project) -> tuple[set[str], set[str]]:
    """Who is let in at both ports; at every member the same."""
    addresses = [each["address"] for each in project.config["members"]]
    (clients,), (peers,) = (
        {frozenset(let_in(project, address, port)) for address in addresses} for port in (2379, 2380)
    )
    return set(clients), set(peers)


def identity(project: Project) -> str:
    """Of the cluster."""
    rows = project.inv("status", "--json").ok().json()["members"]
    (id_,) = {row["cluster_id"] for row in rows}
    return str(id_)


def goes(project: Project, hosts: Hosts, *words: str) -> Any:
    """One change under a canary, the leader last; config.yaml as the tool leaves it, and nothing for deploy to do."""
    led = leader(project)
    done = project.start(*words, "--json", "--yes").end(300)
    print(f"{' '.join(words)}: {done.seconds:.0f} s\n{done.stderr}")
    if done.json()["restarts"]:
        watched(done)
    if done.json()["restarts"] == len(NAMES):
        one_at_a_time(hosts, led)
    project.config["cluster"] = written(project)["cluster"]
    listed = project.inv("deploy", "--dry-run").ok()
    assert listed.lines == ["nothing to do"], listed
    return done.json()


def there_and_back(project: Project, hosts: Hosts, *, rest: bool = True) -> None:
    """The whole way, and back (with a ``rest`` for clients), with a client that writes by whatever gets an answer."""
    project.inv("put", "kept", "from before").ok()
    before = identity(project)
    assert doors(project)[0] == {"http"}
    with Writer(project, BOTH) as writer:
        goes(project, hosts, "enable-tls")
        assert project.config["cluster"]["tls"] is True
        assert doors(project) == (OPEN, set())
        project.inv("backup").ok()
        goes(project, hosts, "enable-tls", "--close-http")
        assert doors(project) == ({"https with a certificate"}, set())
        project.inv("get", "kept").ok()
        if rest:
            goes(project, hosts, "disable-tls")
            assert project.config["cluster"]["tls"] is False
            assert doors(project) == (OPEN, {"http"})
            project.inv("backup").ok()
        goes(project, hosts, "disable-tls", "--close-https")
        assert doors(project) == ({"http"}, {"http"})
    print(f"{len(writer.acknowledged)} writes: {dict(writer.spoken)}, {len(writer.failures)} tries failed")
    assert set(writer.spoken) == set(BOTH)
    assert writer.lost() == {}
    assert identity(project) == before
    assert project.inv("get", "kept").ok().stdout == "from before"
    assert left(project) == (0, 0)
    project.healthy()


@pytest.fixture
def plain(project: NewProject) -> Project:
    """A plain-http cluster of the test's own."""
    new = project(tls=False, backup={"schedule": {"every": "24h"}})
    new.inv("deploy").ok()
    return new


def test_there_and_back(plain: Project, hosts: Hosts) -> None:
    there_and_back(plain, hosts, rest=False)


def scheduled(hosts: Hosts) -> set[str]:
    unit = "/etc/systemd/system/etcdops-backup.service"
    return set(hosts.each(f"sed -n 's/^Environment=ETCDCTL_ENDPOINTS=//p' {unit}").values())


@pytest.mark.chaos
def test_what_is_refused_and_what_goes_on_in_the_middle(plain: Project, hosts: Hosts) -> None:
    plain.inv("snapshot.schedule").ok()
    assert scheduled(hosts) == {"http://127.0.0.1:2379"}
    with plain.changed("cluster", tls=True):
        plain.refuses(3, "runs with plain http, and config.yaml asks for TLS; inv enable-tls changes that")
    plain.refuses(3, "nobody can be asked here: Clients that speak plain http", task=("enable-tls", "--close-http"))
    with plain.changed("cluster", settings={"snapshot-count": 9000}):
        plain.refuses(3, "a restart would bring more than the transport: snapshot-count", task=("enable-tls",))
    hosts.sh("etcd02", "systemctl stop etcd")
    plain.refuses(3, "the cluster is not healthy: etcd02: ", "inv status; inv start", task=("enable-tls",))
    plain.inv("start").ok()
    (rest,) = {plain.inv("enable-tls", "--json", "--no-canary").ok().json()["restarts"]}
    assert rest == 2 * len(NAMES)
    plain.config["cluster"] = written(plain)["cluster"]
    assert scheduled(hosts) == {"https://127.0.0.1:2379"}
    assert "plain http is open to clients still" in plain.inv("status").ok().stdout
    assert plain.inv("enable-tls").ok().lines[0].startswith("nothing to do: plain http is open to clients still")
    plain.refuses(3, "nobody can be asked here: Clients that speak plain http", task=("enable-tls", "--close-http"))
    with plain.changed("cluster", settings={"snapshot-count": 9000}):  # a deploy leaves the transport where it is
        plain.inv("deploy").ok()
        assert doors(plain) == (OPEN, set())
    plain.inv("deploy").ok()
    hosts.sh("etcd01", "systemctl start etcdops-backup.service")
    with plain.changed("cluster", tls=False):
        plain.refuses(3, "inv disable-tls changes that, one member at a time")
    plain.inv("auth-enable", "--yes").ok()
    plain.refuses(3, "without TLS no certificate says who the tasks are", task=("disable-tls", "--yes"))
    plain.inv("auth-disable", "--yes").ok()
    plain.refuses(3, "Who listens on the wire can then read", task=("disable-tls",))


@pytest.mark.chaos
def test_member_that_does_not_come_back_is_put_back_and_the_same_command_goes_on(plain: Project, hosts: Hosts) -> None:
    first = sorted(set(NAMES) - {leader(plain)})[0]
    key = "/etc/etcd/ssl/peer.pem"
    held = hosts.hold(first, "timeout", when=AT_RESTART)
    with Writer(plain, BOTH) as writer:
        run = plain.start("enable-tls")
        held.reached()
        hosts.sh(first, f"chown root {key}")
        held.release()
        failed = run.end(300).failed(4, f"{first}: did not come back with http and https for clients: ", "permission")
        assert "it is back to plain http; " in failed.stderr
        assert "not touched after it" in failed.stderr
        assert "then inv enable-tls" not in failed.stderr
        assert "inv enable-tls" in failed.stderr
        assert "0 failed" in failed.stderr.partition("canary: ")[2]
        plain.inv("health").ok()
        assert written(plain)["cluster"]["tls"] is False
        hosts.sh(first, "rm -f /usr/local/sbin/timeout")
        goes(plain, hosts, "enable-tls")  # which mends the file, too
    assert writer.lost() == {}
    assert doors(plain) == (OPEN, set())


STEPS = {
    "certificates are copied": ("sync", "true", 1),
    "a restart of the first": ("timeout", AT_RESTART, 0),
    "a restart of the last": ("timeout", AT_RESTART, -1),
    "the member list and etcd.conf": ("sync", "grep -q 'https://.*:2379' /etc/etcd/etcd.conf", 0),
    "a restart of the second pass": ("timeout", f"grep -q 'PEER_URLS=\"https' /etc/etcd/etcd.conf && {AT_RESTART}", 1),
}


@pytest.mark.chaos
@pytest.mark.parametrize("then", [("enable-tls",), ("disable-tls", "--close-https")], ids=["on", "back"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at(plain: Project, hosts: Hosts, step: str, then: tuple[str, ...]) -> None:
    program, when, whose = STEPS[step]
    led = leader(plain)
    name = [*sorted(set(NAMES) - {led}), led][whose]
    before = identity(plain)
    held = hosts.hold(name, program, when=when)
    with Writer(plain, BOTH) as writer:
        run = plain.start("enable-tls")
        held.reached(120)
        run.signal(signal.SIGKILL)
        run.end()
        held.release()
        hosts.sh(name, f"rm -f /usr/local/sbin/{program}")
        hosts.eventually(lambda: plain.inv("health").code == 0)
        plain.config["cluster"] = written(plain)["cluster"]
        print(plain.inv("status").stdout)
        goes(plain, hosts, *then)
        expected = (OPEN, set()) if then == ("enable-tls",) else ({"http"}, {"http"})
        assert doors(plain) == expected
    assert writer.lost() == {}
    assert identity(plain) == before


@pytest.mark.chaos
@pytest.mark.parametrize("version", ["3.5.30", "3.7.3"])
def test_there_and_back_with(project: NewProject, hosts: Hosts, version: str) -> None:
    new = project(version=version, tls=False)
    new.inv("deploy").ok()
    there_and_back(new, hosts)


@pytest.mark.chaos
def test_a_release_that_answers_by_both_by_chance_goes_by_way_of_a_backup(project: NewProject, hosts: Hosts) -> None:
    new = project(version="3.4.23", tls=False)
    new.inv("deploy").ok()
    new.inv("put", "kept", "from before").ok()
    new.refuses(3, "with etcd 3.4.23 each start of a member decides by chance", "inv upgrade", task=("enable-tls",))
    new.inv("backup").ok()
    new.config["cluster"]["tls"] = True
    new.write()
    new.inv("restore", "latest", "--yes").ok()
    assert doors(new) == ({"https with a certificate"}, set())
    assert new.inv("get", "kept").ok().stdout == "from before"


@pytest.mark.chaos
def test_a_member_is_lost_while_clients_move(plain: Project, hosts: Hosts) -> None:
    plain.inv("enable-tls", "--no-canary").ok()
    plain.config["cluster"] = written(plain)["cluster"]
    name = sorted(set(NAMES) - {leader(plain)})[0]
    hosts.sh(name, "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/default.etcd")
    plain.inv("replace-member", name, "--yes").ok()
    assert doors(plain) == (OPEN, set())
    assert json.loads(plain.inv("enable-tls", "--close-http", "--json", "--yes").ok().stdout)["restarts"] == len(NAMES)
    assert doors(plain) == ({"https with a certificate"}, set())
