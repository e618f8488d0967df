"""doctor on a real cluster: each fault is really made, found in the words that name it, and mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdops.checkup.tables import DOCTOR
from etcdops.pki import CA, LeafRequest
from tests.hosts import NAMES, VERSION, Done, Hosts, Project
from tests.lab.conftest import NewProject

SSL = "/etc/etcd/ssl"
QUOTA = 192 << 20  # bytes: room for a database that is worth a defragmentation, and soon full
MIB = 1 << 20
OFF_CLOCK = '#!/bin/sh\n[ "$*" = +%s.%N ] && exec /usr/bin/date -d \'+3 seconds\' +%s.%N\nexec /usr/bin/date "$@"'
MEASURED = {"disk", "peers", "leader"}  # as fast and as steady as the machine that the tests run on
Fault = Callable[[Project], AbstractContextManager[None]]


@pytest.fixture(scope="module", autouse=True)
def end(hosts: Hosts) -> Iterator[None]:
    """No other test takes this cluster, with its small quota, for the usual one."""
    yield
    hosts.cluster = None


@pytest.fixture
def patient(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A healthy cluster with a backup, which the tests here share."""
    settings = {"quota-backend-bytes": QUOTA}
    known = hosts.cluster
    if known is None or known.config["cluster"].get("settings") != settings or not known.as_deployed():
        known = Project(hosts, tmp_path_factory.mktemp("patient"))
        known.config["cluster"]["settings"] = settings
        known.write()
        old_authorities(known.folder / "pki")
        hosts.cluster = known.deployed()
        known.inv("backup").ok()
    return known


def old_authorities(pki: Path) -> None:
    """CAs of two years ago, so that they can have signed what has ended since."""
    pki.mkdir(mode=0o700)
    for stem in ("ca", "peer-ca"):
        made = CA.create(stem, "ecdsa-p256", timedelta(days=3650), datetime.now(UTC) - timedelta(days=730))
        assert made.key_pem
        for path, pem in ((pki / f"{stem}.pem", made.cert_pem), (pki / f"{stem}-key.pem", made.key_pem)):
            path.write_bytes(pem)
            path.chmod(0o600)


def found(done: Done, check: str, level: str = "") -> list[tuple[str, str]]:
    """What a check has found: the member, then words and way out."""
    findings = [each for each in done.json()["findings"] if each["check"] == check and level in {"", each["level"]}]
    return [(each["member"], f"{each['found']}; {each['do']}") for each in findings]


def states(done: Done) -> dict[str, str]:
    return {each["check"]: each["state"] for each in done.json()["checks"]}


def calm(done: Done) -> None:
    """Nothing needs care, but for what the machine that the tests run on is too slow for."""
    ill = {check for check, state in states(done).items() if state in {"error", "warning"}}
    assert ill <= MEASURED, done
    assert done.json()["well"] is (not ill)
    assert done.code == (5 if ill else 0), done


def test_all_well(patient: Project, hosts: Hosts) -> None:
    before = hosts.listing()
    done = patient.inv("doctor", "--json")
    calm(done)
    document = done.json()
    assert document["cluster"] == "test"
    assert list(states(done)) == [rule.name for rule in DOCTOR]
    assert {check for check, state in states(done).items() if state != "ok"} <= MEASURED
    rows = document["members"]
    assert [row["member"] for row in rows] == list(NAMES)
    assert sorted(row["role"] for row in rows) == ["follower", "follower", "leader"]
    for row in rows:
        assert (row["version"], row["quota"], row["running"], row["at_boot"]) == (VERSION, QUOTA, True, True)
        assert {each["state"] for each in row["reach"]} == {"open"}
        assert len(row["reach"]) == 4
        days = {row[f"{kind}days_left_{port}"] for kind in ("", "served_") for port in (2379, 2380)}
        assert days <= {363, 364, 365}
        assert row["leader_changes"] >= 1
    table = patient.inv("doctor")
    assert (table.stderr == "") == (table.code == 0)
    assert [rule.name for rule in DOCTOR if rule.name not in table.stdout.split()] == []
    assert hosts.listing() == before


@contextmanager
def script(project: Project, name: str, make: str, mend: str) -> Iterator[None]:
    project.hosts.sh(name, make)
    try:
        yield
    finally:
        project.hosts.sh(name, mend)
        project.hosts.eventually(lambda: project.inv("health").code == 0)


def on(name: str, make: str, mend: str) -> Fault:
    """A fault that a script on one host makes, and another one mends."""
    return lambda project: script(project, name, make, mend)


@contextmanager
def clock_off(project: Project) -> Iterator[None]:
    """The kernel's clock is all hosts' here, and this machine's: what the host says of it is what is off."""
    project.hosts.put("etcd02", "/usr/local/sbin/date", OFF_CLOCK)
    try:
        yield
    finally:
        project.hosts.sh("etcd02", "rm /usr/local/sbin/date")


@contextmanager
def firewalled(project: Project) -> Iterator[None]:
    project.hosts.firewall("etcd02", "ip saddr 198.18.40.103 tcp dport 2379 drop")
    try:
        yield
    finally:
        project.hosts.firewall("etcd02", "")


@contextmanager
def foreign_member(project: Project) -> Iterator[None]:
    words = "member add ghost --learner --peer-urls=https://198.18.40.199:2380 >/dev/null 2>&1 && echo added; true"
    project.hosts.eventually(lambda: project.etcdctl("etcd01", words))  # not within 5 s of a start
    try:
        yield
    finally:
        listed = project.etcdctl("etcd01", "member list").splitlines()
        (ghost,) = [line.partition(",")[0] for line in listed if "198.18.40.199" in line]
        project.etcdctl("etcd01", f"member remove {ghost}")


@contextmanager
def pair(project: Project, name: str, role: str, ends: timedelta) -> Iterator[None]:
    """Another certificate on one host's disk, of the right CA, that ends that long from now."""
    pki = project.folder / "pki"
    stem = "ca" if role == "server" else "peer-ca"
    now = datetime.now(UTC)
    lifetime = timedelta(days=365)
    authority = CA.load((pki / f"{stem}.pem").read_bytes(), (pki / f"{stem}-key.pem").read_bytes())
    address = next(each["address"] for each in project.config["members"] if each["name"] == name)
    request = LeafRequest("server" if role == "server" else "peer", name, (address,))
    leaf = authority.issue(request, "ecdsa-p256", lifetime, now - lifetime + ends)
    path = f"{SSL}/{role}.pem"
    project.hosts.sh(name, f"cp -a {path} /root/kept.pem; chmod 600 /root/kept.pem")
    project.hosts.sh(name, f"cat >{path}.new <<'END'\n{leaf.pem.decode()}END\nchmod 600 {path}.new")
    with script(project, name, f"chown etcd: {path}.new; mv {path}.new {path}", f"cp -a /root/kept.pem {path}"):
        yield


@contextmanager
def old_pair_served(project: Project) -> Iterator[None]:
    """In etcd's own view of the file system lies another pair than on the host."""
    enter = "nsenter -m -t $(systemctl show -P MainPID etcd)"
    with pair(project, "etcd02", "server", timedelta(days=200)):
        project.hosts.sh(
            "etcd02", f"cp -a {SSL}/server.pem /var/lib/etcd/old.pem; cp -a /root/kept.pem {SSL}/server.pem"
        )
        project.hosts.sh("etcd02", f"{enter} mount --bind /var/lib/etcd/old.pem {SSL}/server.pem")
        try:
            yield
        finally:
            project.hosts.sh("etcd02", f"{enter} umount {SSL}/server.pem; rm /var/lib/etcd/old.pem")


@contextmanager
def stale_backup(project: Project) -> Iterator[None]:
    store = project.folder / "backups"
    manifest = next(store.glob("*.json"))
    told: dict[str, Any] = json.loads(manifest.read_text())
    taken = datetime.now(UTC) - timedelta(days=3)
    name = f"test-{taken:%Y%m%dT%H%M%SZ}-r{told['revision']}"
    moved = {store / f"{manifest.stem}{kind}": store / f"{name}{kind}" for kind in (".json", ".db")}
    text = manifest.read_text()
    manifest.write_text(json.dumps({**told, "taken": f"{taken:%Y-%m-%dT%H:%M:%SZ}"}))
    for old, new in moved.items():
        old.rename(new)
    try:
        yield
    finally:
        for old, new in moved.items():
            new.rename(old)
        manifest.write_text(text)


@contextmanager
def away(path: Path) -> Iterator[None]:
    path.rename(f"{path}.away")
    try:
        yield
    finally:
        Path(f"{path}.away").rename(path)


CRASHES = """
mkdir -p /run/systemd/system/etcd.service.d
printf '[Service]\\nRestartSec=0.1\\n' >/run/systemd/system/etcd.service.d/test.conf && systemctl daemon-reload
for n in 1 2 3; do
    systemctl kill --signal=KILL etcd
    t=0; until [ "$(systemctl show -P NRestarts etcd)" = $n ] && systemctl is-active --quiet etcd; do
        sleep 0.1; t=$((t + 1)); [ $t -lt 250 ] || exit 1
    done
done
"""
CALM = """
rm -r /run/systemd/system/etcd.service.d && systemctl daemon-reload && systemctl restart etcd
"""

FAULTS: dict[str, tuple[Fault, str, str, str, str]] = {
    "member stopped": (
        on("etcd02", "systemctl stop etcd", "systemctl start etcd"),
        "service", "error", "etcd02", "etcd does not run; inv start",
    ),
    "unit disabled": (
        on("etcd02", "systemctl disable etcd", "systemctl enable etcd"),
        "boot", "warning", "etcd02", "etcd does not start at boot: its unit is disabled; inv start",
    ),
    "crashes": (
        on("etcd02", CRASHES, CALM),
        "service", "warning", "etcd02", "etcd has ended by itself, and systemd has started it again 3 times; ",
    ),
    "clock": (clock_off, "clock", "error", "etcd02", "its clock is at least "),
    "firewall": (
        firewalled,
        "reach", "warning", "etcd03",
        "does not reach etcd02 on port 2379: no answer within 2 s; open port 2379 of etcd02 to the other members",
    ),
    "foreign member": (
        foreign_member,
        "membership", "error", "",
        "member without a name (https://198.18.40.199:2380) is in the running cluster, not in config.yaml; ",
    ),
    "another configuration": (
        on("etcd02", "cp -a /etc/etcd/etcd.conf /root/kept && echo 'ETCD_MAX_TXN_OPS=\"99\"' >>/etc/etcd/etcd.conf",
           "cp -a /root/kept /etc/etcd/etcd.conf"),
        "config", "warning", "etcd02",
        "not as config.yaml says: /etc/etcd/etcd.conf  (max-txn-ops removed); inv deploy; --dry-run shows all",
    ),
    "another release installed": (
        on("etcd02", f"ln -s {VERSION} /opt/etcd/3.6.99 && ln -sfn 3.6.99 /opt/etcd/current",
           f"ln -sfn {VERSION} /opt/etcd/current && rm /opt/etcd/3.6.99"),
        "version", "warning", "etcd02", f"runs etcd {VERSION}, and 3.6.99 is installed; inv restart",
    ),
    "restore cut short": (
        on("etcd02", "echo 20260101T000000Z-1 >/var/lib/etcd/restoring", "rm /var/lib/etcd/restoring"),
        "data", "error", "etcd02", "restore 20260101T000000Z-1 was cut short here; inv restore with the same snapshot",
    ),
    "certificate ends soon": (
        lambda project: pair(project, "etcd02", "peer", timedelta(days=10)),
        "certificates", "warning", "etcd02", f"{SSL}/peer.pem ends on ",
    ),
    "certificate has ended": (
        lambda project: pair(project, "etcd02", "server", timedelta(days=-1)),
        "certificates", "error", "etcd02", f"{SSL}/server.pem ended on ",
    ),
    "another certificate served": (
        old_pair_served,
        "served", "warning", "etcd02", f"port 2379 serves another certificate than {SSL}/server.pem holds: one of ",
    ),
    "stale backup": (stale_backup, "backup", "warning", "", "the newest backup in "),
    "no backup": (
        lambda project: away(project.folder / "backups"), "backup", "warning", "", "there is no backup in ",
    ),
    "pki lost": (
        lambda project: away(project.folder / "pki"),
        "trust", "error", "etcd02", f"{SSL}/ca.pem there does not hold the CA that issues in pki.dir here; put the pki",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "check", "level", "member", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_fault(patient: Project, fault: Fault, check: str, level: str, member: str, words: str) -> None:
    with fault(patient):
        done = patient.inv("doctor", "--json").failed(5, "error: ", check)
        assert not done.json()["well"]
        said = found(done, check, level)
        assert [text for name, text in said if name == member and text.startswith(words)], said
        assert [text for _, text in said if text.endswith("; ")] == [], "each says what to do"
    assert patient.as_deployed()


def test_days_left_tell_both_certificates(patient: Project) -> None:
    with old_pair_served(patient):
        row = patient.inv("doctor", "--json").failed(5).json()["members"][1]
        assert (row["served_days_left_2379"], row["served_days_left_2380"]) == (199, row["days_left_2380"])
        assert row["days_left_2379"] >= 363


def test_sshd_that_forwards_nothing(patient: Project, hosts: Hosts) -> None:
    """Then some of it cannot be seen, and that is said."""
    config = "/etc/ssh/sshd_config.d/test.conf"
    hosts.sh("etcd02", f"echo AllowTcpForwarding no >{config} && systemctl reload ssh")
    try:
        done = patient.inv("doctor", "--json")
    finally:
        hosts.sh("etcd02", f"rm {config} && systemctl reload ssh")
    calm(done)
    for check, words in {"disk": "its figures could not be seen: ", "served": "what its ports serve could not"}.items():
        assert [text for name, text in found(done, check, "note") if name == "etcd02" and text.startswith(words)]
    assert done.json()["members"][1]["served_days_left_2379"] is None


def test_host_off_hides_nothing(patient: Project, hosts: Hosts) -> None:
    hosts.lab.off("etcd03")
    try:
        hosts.sh("etcd02", "systemctl disable etcd")
        done = patient.inv("doctor", "--json").failed(4, "error: etcd03: 198.18.40.103:22: ")
        assert [row["reached"] for row in done.json()["members"]] == [True, True, False]
        ((name, text),) = found(done, "hosts")
        assert (name, text.partition(" ")[0]) == ("etcd03", "198.18.40.103:22:")
        assert [name for name, _ in found(done, "boot")] == ["etcd02"]
        assert states(done)["data"] == states(done)["served"] == "ok"
    finally:
        hosts.sh("etcd02", "systemctl enable etcd")
        hosts.lab.on("etcd03")
    hosts.eventually(lambda: patient.inv("health").code == 0)


@pytest.mark.chaos
def test_database_that_is_mostly_empty_then_full(patient: Project, hosts: Hosts) -> None:
    """The last one: what fills it stays on the hosts."""
    hosts.sh("etcd01", FILL.format(count=100, key="/big/$n"))
    patient.etcdctl("etcd01", "del --prefix /big/ >/dev/null")
    revision = patient.inv("put", "/after", "1", "--json").ok().json()["revision"]
    patient.etcdctl("etcd01", f"compact {revision} --physical")
    # Each drops what is compacted at its own pace, and counts it when it next writes.
    write = "put /next 1 >/dev/null"
    hosts.eventually(
        lambda: [patient.etcdctl("etcd01", write), found(patient.inv("doctor", "--json"), "database", "warning")][1][2:]
    )
    lines = [line for line in patient.inv("doctor").failed(5).lines if " database " in line]
    assert all("MiB of it unused; inv defrag gives it back" in line for line in lines), lines
    patient.inv("defrag").ok()
    patient.inv("backup").ok()
    calm(patient.inv("doctor", "--json"))

    hosts.sh("etcd01", FILL.format(count=200, key="/full/$n"))
    done = patient.inv("doctor", "--json").failed(5)
    (_, alarm) = found(done, "alarms")[0]
    assert alarm.startswith("alarm NOSPACE, raised by etcd0")
    assert alarm.endswith("inv space makes room and ends it")
    assert any("MiB of its quota of 192.0 MiB; inv space makes room" in each for _, each in found(done, "database"))
    assert states(done)["service"] == "ok"  # the alarm is told once
    hosts.cluster = None


FILL = f"""
export PATH=/usr/local/bin:$PATH ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
export ETCDCTL_CACERT={SSL}/ca.pem ETCDCTL_CERT={SSL}/server.pem ETCDCTL_KEY={SSL}/server-key.pem
head -c 1400000 /dev/zero | tr '\\0' x >/run/big
n=0
while [ $n -lt {{count}} ] && etcdctl put "{{key}}" </run/big >/dev/null 2>&1; do n=$((n + 1)); done
rm /run/big
"""


@pytest.mark.parametrize(("version", "tls"), [("3.4.23", False), ("3.5.30", True)])
def test_other_releases(project: NewProject, version: str, tls: bool) -> None:
    new = project(version=version, tls=tls)
    new.inv("deploy").ok()
    done = new.inv("doctor", "--json").failed(5, "backup")
    rows = done.json()["members"]
    assert {row["version"] for row in rows} == {version}
    assert {row["leader_changes"] for row in rows} & {1, 2}
    assert {row["served_days_left_2380"] is None for row in rows} == {not tls}
    ill = {name for name, state in states(done).items() if state in {"error", "warning"}}
    assert ill - MEASURED <= {"backup", "release"}


def test_no_cluster_yet(project: NewProject) -> None:
    new = project()
    done = new.inv("doctor", "--json").failed(5, "service")
    assert found(done, "service") == [(name, "nothing is deployed here; inv deploy") for name in NAMES]
    assert [name for name, state in states(done).items() if state in {"error", "warning"}] == ["service"]
    assert states(done)["leader"] == "unseen"
