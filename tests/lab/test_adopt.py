"""adopt: what somebody built by hand becomes ours, and the first deploy takes it over without a lost write."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.hosts import NAMES, Hosts, Project
from tests.lab import guide
from tests.lab.conftest import NewProject
from tests.lab.kept import keys
from tests.lab.test_rolling import leader
from tests.lab.writer import Writer

VERSION = "3.5.30"
CFSSL = ["apt-get", "install", "--yes", "--no-install-recommends", "golang-cfssl"]
RUNS = "systemctl show -P MainPID etcd member; stat -c %i /var/lib/etcd/default.etcd/member /data/etcd/member; true"
IS_OURS = r"""
stat -c %U /var/lib/etcd/default.etcd/member/snap/db
stat -c %U /proc/$(systemctl show -P MainPID etcd)
systemctl is-enabled etcd
readlink /proc/$(systemctl show -P MainPID etcd)/exe
ls /etc/etcd/adopted.conf 2>/dev/null
true
"""
# The script that is about to take a member over ends before it has touched it.
CUT_SHORT = r"""
held=$(pgrep -f /usr/local/sbin/cp | head -n 1)
kill -KILL $(ps -o ppid= -p $held) $held
rm -f /run/etcdops-hold /usr/local/sbin/cp
"""
NOT_TO_START = "systemctl is-active etcd; systemctl is-enabled etcd; pgrep -x etcd; true"


@pytest.fixture
def by_hand(hosts: Hosts) -> Iterator[Hosts]:
    """Hosts with nothing of the guide's, before and after; cfssl, Debian's, on this machine."""
    if not shutil.which("cfssl"):
        with hosts.outside():
            subprocess.run(CFSSL, check=True, capture_output=True, timeout=300)
    for _ in ("before", "after"):
        hosts.bare()
        hosts.each(guide.CLEAN)
        if _ == "before":
            yield hosts


def skeleton(project: Project) -> None:
    """A config.yaml that says how the hosts are reached, and no more; with comments that must stay."""
    ssh, release = project.config["ssh"], project.config["release"]
    text = "# ours\nssh:\n" + "".join(f"  {key}: {json.dumps(value)}\n" for key, value in ssh.items())
    text += f"release:  # from here\n  archive: {json.dumps(release['archive'])}\n"
    (project.folder / "config.yaml").write_text(text)


def reread(project: Project) -> dict[str, Any]:
    """What stands in config.yaml now."""
    project.config = YAML(typ="safe").load((project.folder / "config.yaml").read_text())
    return project.config


def who(hosts: Hosts, command: str) -> tuple[str, dict[str, str], str]:
    """Of the cluster, as ``command`` (etcdctl with its flags) on the first host tells: id, members' ids, the leader."""
    found = json.loads(hosts.sh(NAMES[0], f"PATH=/usr/local/bin:$PATH {command} member list --write-out=json"))
    statuses = json.loads(
        hosts.sh(NAMES[0], f"PATH=/usr/local/bin:$PATH {command} endpoint status --cluster --write-out=json")
    )
    names = {each["ID"]: each["name"] for each in found["members"]}
    ids = {name: f"{id_:x}" for id_, name in names.items()}
    return f"{found['header']['cluster_id']:x}", ids, names[statuses[0]["Status"]["leader"]]


def taken_over(project: Project, hosts: Hosts, version: str) -> None:
    """Every member runs as one of ours, and nothing is left to do."""
    expected = f"etcd\netcd\nenabled\n/opt/etcd/{version}/etcd"
    assert hosts.each(IS_OURS) == dict.fromkeys(NAMES, expected)
    project.healthy()
    before = hosts.listing()
    assert project.inv("deploy").ok().stdout.startswith("nothing to do in ")
    again = project.inv("adopt").ok()
    assert again.lines == ["nothing to do: etcd01, etcd02, etcd03 are etcdops' already"]
    assert hosts.listing() == before


def test_the_guide_s_cluster(project: NewProject, by_hand: Hosts, tmp_path: Path) -> None:
    hosts = by_hand
    guide.build(hosts, VERSION, extra='ETCD_QUOTA_BACKEND_BYTES="4294967296"\nETCD_FANCY="1"\n')
    ours = project(version=VERSION)
    skeleton(ours)
    ssl = "/etc/etcd/ssl"
    command = f"etcdctl --cacert={ssl}/ca.pem --cert={ssl}/server.pem --key={ssl}/server-key.pem"
    command += f" --endpoints=https://{guide.ALL[0]}:2379"
    before, runs, (cluster, ids, led) = hosts.listing(), hosts.each(RUNS), who(hosts, command)
    dry = ours.inv("adopt", f"--hosts={guide.ALL[1]}", "--dry-run").ok()
    assert hosts.listing() == before
    assert "here  write pki/ca-key.pem" in dry.lines
    assert not (ours.folder / "pki").exists()
    with Writer(guide.client(hosts, tmp_path / "client")) as writer:
        document = ours.inv("adopt", f"--hosts={guide.ALL[1]}", "--json").ok().json()
        assert hosts.each(RUNS) == runs
        config = reread(ours)
        ours.inv("health").ok()
        ours.inv("backup").ok()
        ours.refuses(3, "was adopted, and runs as it was set up before", task=("configure",))
        deployed = ours.inv("deploy").ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    assert writer.lost() == {}
    assert config["cluster"] == {
        "name": "etcd-cluster",
        "version": VERSION,
        "tls": True,
        "settings": {"quota-backend-bytes": "4294967296"},
    }
    assert [each["name"] for each in config["members"]] == [*NAMES]
    assert "# ours\nssh:\n" in (ours.folder / "config.yaml").read_text()
    assert {"what": "fancy", "why": "etcd does not know it", "members": [*NAMES]} in document["left"]
    assert document["ca_keys"] == {"ca": f"etcd01:/{guide.CERT}/ca-key.pem"}
    assert any("take over the etcd that runs there" in line for line in document["deploy"]["etcd03"])
    turns = [line.split()[2] for line in deployed.stderr.splitlines() if line.startswith("==> Restart ")]
    assert turns == [*(name for name in NAMES if name != led), led]
    now = who(hosts, command)
    assert now[:2] == (cluster, ids)
    kept = hosts.sh("etcd02", "cd /etc/etcd/adopted && find . -type f | sort")
    assert {"./adopted.conf", "./etc/etcd/etcd.conf", "./etc/etcd/ssl/server-key.pem"} <= set(kept.split("\n"))
    assert ours.inv("get", writer.acknowledged[0]).ok().stdout == "x"
    taken_over(ours, hosts, VERSION)


@pytest.mark.chaos
def test_another_way_and_no_key_of_the_ca(project: NewProject, by_hand: Hosts, tmp_path: Path) -> None:
    hosts = by_hand
    guide.build_otherwise(hosts, VERSION)
    ours = project(version=VERSION)
    (ours.folder / "config.yaml").unlink()
    ssh = hosts.home / ".ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / "config").write_text(f"Host 198.18.*\n  IdentityFile {ours.config['ssh']['key']}\n")
    (ssh / "known_hosts").write_text(Path(ours.config["ssh"]["known_hosts"]).read_text())
    archive = ours.config["release"]["archive"]
    try:
        with Writer(guide.client(hosts, tmp_path / "client", ssl=guide.PKI.lstrip("/"))) as writer:
            named = ",".join(f"root@{address}" for address in guide.ALL)
            said = ours.inv("adopt", f"--hosts={named}", "--name=prod").ok()
            config = reread(ours)
            with (ours.folder / "config.yaml").open("a") as file:
                file.write(f"release: {{archive: {json.dumps(archive)}}}\n")
            led = leader(ours)
            first, second = (name for name in NAMES if name != led)
            held = hosts.hold(second, "cp", '[ "$1" = -p ]')
            deploy = ours.start("deploy")
            held.reached()
            deploy.signal(signal.SIGKILL)
            deploy.end()
            hosts.sh(second, CUT_SHORT)
            half = ours.inv("adopt", "--json").ok().json()
            assert {each["member"]: each["taken_over"] for each in half["members"]} == {
                name: name == first for name in NAMES
            }
            assert half["written"] == []
            assert not any("take over" in line for line in half["deploy"][first])
            assert any("take over" in line for line in half["deploy"][led])
            ours.inv("deploy").ok()
            written = len(writer.acknowledged)
            hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
        assert writer.lost() == {}
        assert config["cluster"]["name"] == "prod"
        assert config["cluster"]["settings"] == {"snapshot-count": "20000"}
        assert config["cluster"]["unit"] == {"Service": {"MemoryMax": "2G"}}
        assert config["ssh"] == {"user": "root"}
        for line in (
            "log-outputs /data/etcd.log: a file",
            "ExecStartPre=/bin/true of its unit: not in ours",
            "the key of the CA for clients and peers was not found: the certificates in use stay, until 20",
        ):
            assert line in said.stdout
        pem = guide.root(hosts, "etcd01") / "etc/pki-of-etcd/server.pem"
        assert (ours.folder / "pki/members/etcd01/peer.pem").read_bytes() == pem.read_bytes()
        assert hosts.sh("etcd02", "systemctl is-active member; ls /data/etcd/member 2>&1; true").startswith("inactive")
        taken_over(ours, hosts, VERSION)
        backup = ours.inv("backup", "--json").ok().json()
        assert backup["revision"] > 1
    finally:
        for name in ("config", "known_hosts"):
            (ssh / name).unlink()


@pytest.mark.chaos
def test_plain_http_and_a_power_cut_in_the_middle(project: NewProject, by_hand: Hosts, tmp_path: Path) -> None:
    hosts = by_hand
    guide.build(hosts, "3.5.1", tls=False)
    ours = project(version="3.5.1", tls=False)
    other = ours.folder / "config.yaml"
    other.write_text(other.read_text().replace("198.18.40.103", "198.18.40.113"))
    text = other.read_text()
    ours.refuses(3, "describes another cluster", task=("adopt", f"--hosts={guide.ALL[0]},{guide.ALL[2]}"))
    assert other.read_text() == text
    skeleton(ours)
    hosts.sh("etcd03", "systemctl stop etcd")
    ours.refuses(3, f"{guide.ALL[2]}: no etcd runs here", task=("adopt", f"--hosts={guide.ALL[0]}"))
    hosts.sh("etcd03", "systemctl start etcd")
    hosts.eventually(lambda: ours.inv("adopt", f"--hosts={guide.ALL[0]}").code == 0)
    assert reread(ours)["cluster"] == {"name": "etcd-cluster", "version": "3.5.1", "tls": False}
    again = ours.inv("adopt").ok()
    assert again.lines[-1].startswith("nothing to do: adopted already: etcd-cluster, 3 members, etcd 3.5.1")
    assert "etcd 3.5.1: loses data when a member is killed under load" in again.stdout
    led = who(hosts, f"etcdctl --endpoints=http://{guide.ALL[0]}:2379")[2]
    first = min(set(NAMES) - {led})
    with Writer(guide.client(hosts, tmp_path / "client", tls=False)) as writer:
        held = hosts.hold(first, "chown", '[ "$1" = -R ]')
        deploy = ours.start("deploy")
        held.reached()
        hosts.lab.off(first)
        deploy.signal(signal.SIGKILL)
        deploy.end()
        hosts.lab.on(first)
        hosts.sh(first, "rm -f /run/etcdops-hold /usr/local/sbin/chown")
        assert hosts.sh(first, NOT_TO_START) == "inactive\ndisabled"
        done = ours.inv("deploy").ok()
        written = len(writer.acknowledged)
        hosts.eventually(lambda: len(writer.acknowledged) > written + 10)
    assert "3 members healthy, etcd 3.5.1" in done.stdout
    assert writer.lost() == {}
    assert len(keys(ours)) >= len(writer.acknowledged)
    taken_over(ours, hosts, "3.5.1")


@pytest.mark.chaos
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_cluster_with_authentication_on(project: NewProject, by_hand: Hosts, tls: bool) -> None:
    """As root, by the password that somebody has set; it is refused before anything is changed without one."""
    hosts = by_hand
    # Each command checks the password anew, at a price that two processors of a test need not pay.
    guide.build(hosts, VERSION, tls=tls, extra='ETCD_BCRYPT_COST="4"\n')
    ssl = "/etc/etcd/ssl"
    command = f"etcdctl --endpoints={'https' if tls else 'http'}://{guide.ALL[0]}:2379"
    command += f" --cacert={ssl}/ca.pem --cert={ssl}/server.pem --key={ssl}/server-key.pem" if tls else ""
    for words in ("user add root:Ad0pt-ed", "user grant-role root root", "put /before 1", "auth enable"):
        hosts.sh("etcd01", f"{command} {words}")
    ours = project(version=VERSION, tls=tls)
    skeleton(ours)
    before = hosts.listing()
    task = ("adopt", f"--hosts={guide.ALL[0]}")
    ours.inv(*task).failed(1, "authentication is on, and we came without a user; write auth.user into config.yaml")
    with (ours.folder / "config.yaml").open("a") as file:
        file.write("auth: {user: root}\n")
    ours.inv(*task).failed(2, "etcd wants a password for root")
    ours.env = {"ETCDOPS_ETCD_PASSWORD": "wrong"}
    ours.inv(*task).failed(1, "etcd does not take the password of root")
    assert hosts.listing() == before
    ours.env = {"ETCDOPS_ETCD_PASSWORD": "Ad0pt-ed"}
    hosts.eventually(lambda: ours.inv(*task).code == 0)
    assert reread(ours)["auth"] == {"user": "root"}
    ours.inv("status").ok()
    done = ours.inv("deploy", "--canary").ok()
    assert ", 0 failed" in done.stderr.partition("canary: ")[2]
    assert ours.inv("get", "/before").ok().stdout == "1"
    assert ours.inv("deploy").ok().stdout.startswith("nothing to do in ")
    assert set(
        hosts.each("grep -rl Ad0pt-ed /etc /run /var/lib/etcd --include=*.conf --include=*.json; true").values()
    ) == {""}
