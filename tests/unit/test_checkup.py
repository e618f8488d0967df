"""What doctor and check find, rule by rule, in the words that the operator reads; and that a healthy picture is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etcdops import layout
from etcdops.certificate import inspect
from etcdops.checkup.exam import Exam, Reach
from etcdops.checkup.findings import Finding, Picture, Rule, apply
from etcdops.checkup.metrics import Histogram, Metrics
from etcdops.checkup.tables import CHECK, DOCTOR
from etcdops.config import Config
from etcdops.credentials import Denied
from etcdops.desired import Want
from etcdops.errors import HostError, OpsError, UsageError
from etcdops.etcd import View
from etcdops.facts import HostFacts, UnitFact
from etcdops.handshake import Served
from etcdops.keystore import Item, MemberPki
from etcdops.pki import CA, LeafRequest
from etcdops.transport import Stage
from tests.unit import snapshots
from tests.unit.build import (
    ACTIVE,
    NAMES,
    TOKEN,
    VERSION,
    address,
    config,
    cut_short,
    fresh,
    identity,
    member,
    path,
    serving,
    status,
    view,
)
from tests.unit.test_transport import settings

NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
USUAL = config()
DAY = timedelta(days=1)
MIB = 1 << 20
GIB = 1 << 30
DATA = layout.DATA_DIR
RULES = {rule.name: rule for rule in DOCTOR} | {f"check {rule.name}": rule for rule in CHECK}
AWAY = HostError("192.0.2.13:22: no answer within 10 s", hint="is the host up?", host="etcd03")
CURRENT = {layout.CURRENT: path("link", 0o777, target=VERSION)}


def leaf(name: str = "etcd01", start: timedelta = -DAY, end: timedelta = 300 * DAY, at: str = "") -> str:
    """A certificate (PEM) of one of the members, valid from and to so long from now."""
    authority = CA.create("ca", "ecdsa-p256", 9999 * DAY, NOW - 1000 * DAY)
    request = LeafRequest("server", name, (at or address(name),))
    return authority.issue(request, "ecdsa-p256", end - start, NOW + start).cert_pem.decode()


GOOD = {name: leaf(name) for name in NAMES}
AUTHORITY = CA.create("etcd client CA", "ecdsa-p256", 3650 * DAY, NOW - DAY).cert_pem.decode()
OTHER = CA.create("etcd client CA", "ecdsa-p256", 3650 * DAY, NOW - DAY).cert_pem
OLD = CA.create("etcd client CA", "ecdsa-p256", 3650 * DAY, NOW - 3500 * DAY).cert_pem.decode()


def histogram(**counts: int) -> Histogram:
    """``ms8=5``: five events that took up to 8 ms."""
    total, buckets = 0, []
    for name, count in counts.items():
        total += count
        buckets.append((int(name.removeprefix("ms")) / 1000, float(total)))
    return Histogram((*buckets, (float("inf"), float(total))))


FIGURES = Metrics(histogram(ms1=200), histogram(ms2=200), histogram(ms4=200), leader_changes=1, uptime=9000)


def exam(facts: HostFacts, **known: Any) -> Exam:
    """Of a host on which nothing is wrong; that of a member that runs shows its certificates and figures."""
    name = facts.name
    usual: dict[str, Any] = {
        "hostname": name,
        "filesystem": "ext2/ext3",
        "reach": {(other, port): Reach("open") for other in NAMES if other != name for port in (2379, 2380)},
        "syncs": (0.001,) * 100,
    }
    if facts.is_running:
        usual |= {
            "pairs": {layout.SERVER: GOOD[name], layout.PEER: GOOD[name]},
            "served": {2379: Served(GOOD[name]), 2380: Served(GOOD[name])},
            "metrics": FIGURES,
        }
    return Exam(facts, **{**usual, **known})


def patient(name: str, **known: Any) -> HostFacts:
    """A member that runs; what is not about its trust or paths is as everywhere."""
    return serving(name, **{"paths": CURRENT, "trust": {layout.CLIENT_CA: AUTHORITY}, **known})


def picture(*others: Exam | HostFacts | HostError, config: Config = USUAL, **known: Any) -> Picture:
    """Three healthy members, but for ``others``."""
    exams: dict[str, Exam | OpsError] = {name: exam(patient(name)) for name in NAMES}
    for each in others:
        if isinstance(each, HostError):
            exams[each.host] = each
        else:
            found = each if isinstance(each, Exam) else exam(each)
            exams[found.facts.name] = found
    backup = snapshots.manifest(taken=NOW - timedelta(hours=2))
    return Picture(config, exams, NOW, **{"backup": backup, "store": "backups", **known})


def hosts(*others: Exam | HostFacts | HostError, **known: Any) -> Picture:
    """Three new hosts, but for ``others``."""
    return picture(*(exam(fresh(name)) for name in NAMES), *others, **known)


def each(change: Callable[[str], HostFacts]) -> list[Exam]:
    return [exam(change(name)) for name in NAMES]


def said(rule: str, seen: Picture) -> list[str]:
    return [f"{found.level} {found.host or '-'}: {found.message}; {found.hint}" for found in RULES[rule].find(seen)]


def test_all_is_well() -> None:
    for results, state in ((apply(DOCTOR, picture()), "a healthy cluster"), (apply(CHECK, hosts()), "new hosts")):
        assert {result.rule: result.findings for result in results if result.findings} == {}, state
    assert all(result.well for result in apply(DOCTOR, picture()) if result.rule not in {"config", "trust", "pki"})


def test_new_hosts_are_no_sick_cluster() -> None:
    ill = {result.rule for result in apply(DOCTOR, hosts()) if result.findings}
    assert ill == {"service"}
    unseen = {result.rule for result in apply(DOCTOR, hosts()) if not result.findings and not result.well}
    assert {"leader", "lag", "alarms", "database", "disk", "peers", "backup"} <= unseen


def test_no_host_answers() -> None:
    away = [HostError("no route", hint="is it up?", host=name) for name in NAMES]
    for rules in (DOCTOR, CHECK):
        results = apply(rules, picture(*away))
        assert [result.rule for result in results if result.findings] == ["hosts"]
        assert {result.well for result in results if result.rule not in {"hosts", "release", "backup"}} == {""}


def tuned(**known: Any) -> Picture:
    """A cluster whose second member has these figures."""
    return picture(exam(patient("etcd02"), metrics=replace(FIGURES, **known)))


def stopped(name: str, **known: Any) -> HostFacts:
    unit = UnitFact(enabled="enabled", fragment=layout.UNIT)
    gone = View(complaint="etcd does not run; inv start")
    return cut_short(name, **{"identity": identity(name), "unit": unit, "view": gone, **known})


def database(name: str = "etcd02", free: int = 8 * GIB, quota: int = 0, **known: int) -> HostFacts:
    running = patient(name).running | ({"ETCD_QUOTA_BACKEND_BYTES": str(quota)} if quota else {})
    return patient(name, view=view(name, status=status(name, **known)), room={DATA: free}, running=running)


def on_disk(pem: str, where: str = layout.PEER) -> Picture:
    return picture(exam(patient("etcd02"), pairs={where: pem}))


def shown(served: Served) -> Picture:
    return picture(exam(patient("etcd02"), served={2380: served}))


def wanting(pki: MemberPki | None = None, **known: Any) -> Picture:
    """A cluster of which the desired state of the second member is known."""
    facts = patient("etcd02", **known)
    want = Want(config(), config().member("etcd02"), facts, TOKEN, pki)
    return picture(facts, wants={"etcd02": want})


def scheduled(name: str, armed: str = "active") -> HostFacts:
    """A member with a schedule; it is three days old, and there is no backup."""
    head = f"now={int(NOW.timestamp())}\nsince={int((NOW - 3 * DAY).timestamp())}\nevery=21600\nfuture="
    text = f"{head}\nId=etcdops-backup.timer\nActiveState={armed}\n\nId=etcdops-backup.service\nActiveState=inactive"
    return patient(name, view=view(name, schedule=text))


BOTH = frozenset({address("etcd01"), address("etcd02")})
RENEW = "inv distribute issues a new one; no restart is needed"
REPLACE = "inv rotate-ca puts another one in its place, while clients write"
PUT_BACK = "put the pki folder that this cluster was deployed with in its place"
READ = "inv restart makes it read its files; inv deploy, if it was told of other files"
AT_ONCE = "journalctl -u etcdops-backup on the hosts says why"
SYNCHRONISE = "synchronise the clocks (chrony, systemd-timesyncd)"
FASTER = "a faster disk, or one that it does not share with something busy"
HEARTBEAT = "raise heartbeat-interval and election-timeout in cluster.settings, then inv deploy"
JOURNAL = "journalctl -u etcd on the host says why; inv start"
SPACE = "free some space, or set quota-backend-bytes in cluster.settings, then inv deploy"
WRONG_PEER = leaf("etcd02", at="192.0.2.99")
ENDED = leaf("etcd02", -300 * DAY, -DAY)
SOON = leaf("etcd02", -300 * DAY, 20 * DAY)
LATER = leaf("etcd02", DAY, 300 * DAY)
OTHER_PAIR = leaf("etcd02", -100 * DAY, 100 * DAY)

FOUND: dict[str, tuple[str, Picture, list[str]]] = {
    # hosts
    "host away": ("hosts", picture(AWAY), ["error etcd03: 192.0.2.13:22: no answer within 10 s; is the host up?"]),
    "riscv": (
        "machine", picture(patient("etcd02", machine="riscv64")),
        ["error etcd02: riscv64 has no supported etcd release; use a host with x86_64 or aarch64"],
    ),
    "old systemd": (
        "machine", hosts(fresh("etcd02", systemd=219)),
        ["error etcd02: systemd 219 is too old, 235 is needed; use a host with a newer one",
         "note etcd02: systemd 219 does not know all of the unit's sandbox, as 247 does; etcd runs all the same; "
         "systemd-analyze security etcd.service there says how closed it is"],
    ),
    "no systemd": (
        "machine", hosts(fresh("etcd02", systemd=0)),
        ["error etcd02: systemd does not run here; use a host with systemd"],
    ),
    "one machine twice": (
        "machine", hosts(fresh("etcd02", boot_id="boot-of-etcd01", addresses=BOTH), fresh(addresses=BOTH)),
        ["error etcd02: is the same machine as etcd01; one host for each member: correct 'ssh'"],
    ),
    "hosts mixed up": (
        "names", picture(exam(patient("etcd02"), hostname="etcd03.example.org")),
        ["warning etcd02: calls itself etcd03, which is another member's name; if the hosts are mixed up, correct "
         "'address' or 'ssh' in config.yaml; else rename the host"],
    ),
    "any other name": ("names", picture(exam(patient("etcd02"), hostname="db7")), []),
    "own name with a domain": ("names", picture(exam(patient("etcd02"), hostname="etcd02.example.org")), []),
    "clocks apart": (
        "clock", picture(patient("etcd02", clock=(60, 60.1))),
        [f"error etcd02: its clock is at least 60.0 s from that of etcd01; {SYNCHRONISE}",
         f"error etcd03: its clock is at least 60.0 s from that of etcd02; {SYNCHRONISE}"],
    ),
    "data in memory": (
        "room", hosts(exam(fresh("etcd02"), filesystem="tmpfs")),
        ["error etcd02: /var/lib/etcd/default.etcd is in memory (tmpfs): a reboot loses the member; mount a disk at "
         "/var/lib/etcd"],
    ),
    "data on NFS": (
        "room", hosts(exam(fresh("etcd02"), filesystem="nfs")),
        ["warning etcd02: /var/lib/etcd/default.etcd is on a remote file system (nfs); etcd wants a local disk: mount "
         "one at /var/lib/etcd"],
    ),
    "firewall before the peer port": (
        "reach", hosts(exam(fresh("etcd02"), reach={("etcd01", 2380): Reach("blocked", "no answer within 2 s")})),
        ["error etcd02: does not reach etcd01 on port 2380: no answer within 2 s; open port 2380 of etcd01 to the "
         "other members in every firewall between them"],
    ),
    "firewall before the client port": (
        "reach", hosts(exam(fresh("etcd02"), reach={("etcd01", 2379): Reach("blocked", "No route to host")})),
        ["warning etcd02: does not reach etcd01 on port 2379: No route to host; open port 2379 of etcd01 to the other "
         "members in every firewall between them"],
    ),
    "a host that is away is not behind a firewall": (
        "reach", picture(exam(patient("etcd02"), reach={
            ("etcd01", 2380): Reach("open"), ("etcd03", 2380): Reach("blocked", "no answer within 2 s"),
        }), AWAY), [],
    ),
    "nobody listens yet": ("reach", hosts(exam(fresh("etcd02"), reach={("etcd01", 2380): Reach("refused")})), []),
    "no bash": (
        "reach", hosts(exam(fresh("etcd02"), reach={})),
        ["note etcd02: whom it reaches could not be seen: it has no bash with /dev/tcp; try ports 2380 and 2379 of the "
         "others from there by hand"],
    ),
    "bash without /dev/tcp": (
        "reach", hosts(exam(fresh("etcd02"), reach={("etcd01", 2380): Reach("unseen", "No such file or directory")})),
        ["note etcd02: whom it reaches could not be seen: it has no bash with /dev/tcp; try ports 2380 and 2379 of the "
         "others from there by hand"],
    ),
    "restore cut short": (
        "data", picture(patient("etcd02", barred="20260820T1")),
        ["error etcd02: restore 20260820T1 was cut short here; inv restore with the same snapshot goes on from there; "
         "inv restore-undo puts the old data back; if it was inv recover, or a host is lost for good: inv recover "
         "again"],
    ),
    "emptied": (
        "data", picture(stopped("etcd02", data="")),
        ["error etcd02: has been a member, but /var/lib/etcd/default.etcd is empty or not mounted; mount the disk; if "
         "the data is lost: inv replace-member etcd02"],
    ),
    "a bad release is told once": ("data", hosts(config=config("3.5.1")), []),
    "slow disk": (
        "check disk", hosts(exam(fresh("etcd02"), syncs=(0.020,) * 99 + (0.5,))),
        ["warning etcd02: a write takes 20.0 ms to be on the disk, the slowest of 100 500.0 ms; etcd wants 10 ms at "
         "most: put /var/lib/etcd on an SSD"],
    ),
    "disk that is slow at times": (
        "check disk", hosts(exam(fresh("etcd02"), syncs=(0.002,) * 98 + (0.030,) * 2)),
        ["note etcd02: a write takes 2.0 ms to be on the disk, the slowest of 100 30.0 ms; etcd wants 10 ms at most; "
         "is the disk shared with something busy?"],
    ),
    "disk that was not measured": (
        "check disk", hosts(exam(fresh("etcd02"), syncs=())),
        ["note etcd02: the speed of its disk could not be measured; is there room for 1 MiB?"],
    ),
    "account of a person": (
        "check account", hosts(exam(fresh("etcd02"), account="etcd:x:1001:1001::/home/etcd:/bin/bash")),
        ["note etcd02: user etcd can log in there (/bin/bash); usermod --shell /usr/sbin/nologin"],
    ),
    "account that is root": (
        "check account", hosts(exam(fresh("etcd02"), account="etcd:x:0:0::/root:/usr/sbin/nologin")),
        ["error etcd02: user etcd is root there (uid 0); rename that account"],
    ),
    "account for a service": (
        "check account", hosts(exam(fresh("etcd02"), account="etcd:x:998:998::/nonexistent:/usr/sbin/nologin")), [],
    ),
    "folder of somebody else": (
        "check account", hosts(fresh("etcd02", paths={layout.STATE_DIR: path("directory", 0o755)})),
        ["note etcd02: /var/lib/etcd/: mode 755, not 700; inv deploy puts it right"],
    ),
    # members
    "etcd stopped": (
        "service", picture(stopped("etcd02")), ["error etcd02: etcd does not run; inv start"],
    ),
    "etcd without quorum": (
        "service", picture(patient("etcd02", view=View(False, complaint="context deadline exceeded"))),
        [f"error etcd02: context deadline exceeded; {JOURNAL}"],
    ),
    "an alarm is no illness of a member": (
        "service", picture(patient("etcd02", view=view("etcd02", healthy=False, complaint="Active Alarm(s): NOSPACE"))),
        [],
    ),
    "authentication is on, and we are nobody": (
        "service", picture(exam(patient("etcd02", view=View(False, complaint="etcdserver: user name is empty")),
                                denied=Denied("authentication is on", hint="set auth.user"))),
        ["error etcd02: authentication is on; set auth.user"],
    ),
    "crash loop": (
        "service", picture(exam(patient("etcd02"), restarts=7)),
        ["warning etcd02: etcd has ended by itself, and systemd has started it again 7 times; journalctl -u etcd on "
         "the host says why; inv restart begins the count anew"],
    ),
    "crashed once": ("service", picture(exam(patient("etcd02"), restarts=1)), []),
    "unit disabled": (
        "boot", picture(patient("etcd02", unit=replace(ACTIVE, enabled="disabled"))),
        ["warning etcd02: etcd does not start at boot: its unit is disabled; inv start"],
    ),
    "unit gone": (
        "boot", picture(stopped("etcd02", unit=UnitFact())),
        ["warning etcd02: etcd does not start at boot: its unit is not there; inv start"],
    ),
    "no unit where nothing is": ("boot", hosts(), []),
    "lists differ": (
        "membership", picture(patient("etcd02", view=view("etcd02", members=(member("etcd01"), member("etcd02"))))),
        ["error -: the members do not agree who is a member; inv members; stop the one whose list is wrong"],
    ),
    "learner": (
        "membership",
        picture(*each(lambda name: patient(name, view=view(name, members=(
            member("etcd01"), member("etcd02"), member("etcd03", learner=True)))))),
        ["error -: etcd03 is a learner still; inv add-member NAME finishes it; "
         "inv remove-member NAME (or its id: inv members) takes it out"],
    ),
    "clients are still to move": (
        "transport", picture(*each(lambda name: patient(name, running=settings(Stage.PEERS, name)))),
        ["note -: plain http is open to clients still, on etcd01, etcd02, etcd03; "
         "once none needs it: inv enable-tls --close-http"],
    ),
    "a change of the transport was cut short": (
        "transport", picture(patient("etcd02", running=settings(Stage.BOTH, "etcd02"))),
        ["error etcd02: a change of the transport was cut short: the others reach it by another scheme than it "
         "listens with; inv enable-tls finishes it, inv disable-tls takes it back; where another host is lost, "
         "neither can: inv etcdctl -- member update 2 --peer-urls=http://192.0.2.12:2380",
         "warning -: on the way to TLS, with etcd02 reached by peers by http still; "
         "inv enable-tls goes on; inv disable-tls goes back"],
    ),
    "no leader": (
        "leader", picture(*each(lambda name: patient(name, view=view(name, status=status(name, leader=""))))),
        ["error -: no leader; inv status; with a quorum for good away: inv recover"],
    ),
    "another leader every minute": (
        "leader", tuned(leader_changes=21, uptime=1200.0),
        ["warning etcd02: has seen 21 leaders in 20 min; a slow disk or network; see the rules disk and peers, or "
         "raise election-timeout in config.yaml"],
    ),
    "as many leaders in a month": ("leader", tuned(leader_changes=21, uptime=2.6e6), []),
    "four leaders at the start": ("leader", tuned(leader_changes=4, uptime=60.0), []),
    "behind": (
        "lag", picture(patient("etcd02", view=view("etcd02", status=status("etcd02", applied=10)))),
        ["error etcd02: 4990 entries behind; a slow disk, or one that just came back: inv status again"],
    ),
    "quota full": (
        "alarms", picture(patient("etcd02", view=view("etcd02", status=status("etcd02", errors=(
            "alarm NOSPACE on etcd03", "alarm CORRUPT"))))),
        ["error -: alarm CORRUPT, raised; inv check-data says whose data differs",
         "error -: alarm NOSPACE, raised by etcd03; inv space makes room and ends it"],
    ),
    "another version is installed": (
        "version", picture(patient("etcd02", paths={layout.CURRENT: path("link", 0o777, target="3.6.17")})),
        ["warning etcd02: runs etcd 3.6.16, and 3.6.17 is installed; inv restart"],
    ),
    "versions differ": (
        "version", picture(patient("etcd02", view=view("etcd02", status=status("etcd02", version="3.6.17")),
                                   paths={layout.CURRENT: path("link", 0o777, target="3.6.17")})),
        ["warning -: the members run different releases (etcd01: 3.6.16, etcd02: 3.6.17, etcd03: 3.6.16); inv "
         "upgrade --to=3.6.17 goes on with one that was cut short; else inv deploy"],
    ),
    "release that loses data runs": (
        "release", picture(*each(lambda name: patient(name, view=view(name, status=status(name, version="3.5.1")))))
        , ["error -: etcd 3.5.1 loses data when a member is killed under load (etcd issue 13766, fixed in 3.5.3); inv "
           "upgrade --to=RELEASE, the newest of this line"],
    ),
    "release with flaws": (
        "release", picture(*each(lambda name: patient(name, view=view(name, status=status(name, version="3.5.22"))))),
        ["warning -: etcd 3.5.22 can damage data when a member is defragmented while it receives a snapshot; inv "
         "upgrade --to=3.5.23, or newer",
         "warning -: etcd 3.5.22 has security holes (GHSA-6vch: TLS handshakes without end; GHSA-xg4h: watches); inv "
         "upgrade --to=3.5.33, or newer"],
    ),
    "release with flaws is wanted": (
        "check release", hosts(config=config("3.6.13")),
        ["warning -: etcd 3.6.13 has security holes (GHSA-6vch: TLS handshakes without end; GHSA-xg4h: watches); set "
         "cluster.version to 3.6.14, or newer"],
    ),
    "release that loses data is wanted": (
        "check release", hosts(config=config("3.5.0")),
        ["error -: etcd 3.5.0 loses data when a member is killed under load (etcd issue 13766, fixed in 3.5.3); set "
         "cluster.version to a newer release"],
    ),
    "end of a line": (
        "release", picture(*each(lambda name: patient(name, view=view(name, status=status(name, version="3.4.45"))))),
        ["note -: 3.4 gets no corrections any more (its support ended in June 2026); inv upgrade --to=RELEASE, of a "
         "newer line; with --plan it tells how"],
    ),
    "release that cannot be had": (
        "check release", hosts(releases=[UsageError("etcd.tar.gz: No such file", hint="correct release.archive")]),
        ["error -: etcd.tar.gz: No such file; correct release.archive"],
    ),
    "mostly empty": (
        "database", picture(database(db_size=400 * MIB, db_in_use=100 * MIB)),
        ["warning etcd02: 400.0 MiB, 300.0 MiB of it unused; inv defrag gives it back"],
    ),
    "a little empty": ("database", picture(database(db_size=150 * MIB, db_in_use=60 * MIB)), []),
    "nearly full": (
        "database", picture(database(db_size=2000 * MIB, db_in_use=1999 * MIB)),
        ["error etcd02: takes 2000.0 MiB of its quota of 2048.0 MiB; inv space makes room"],
    ),
    "own quota nearly full": (
        "database", picture(database(quota=100 * MIB, db_size=97 * MIB, db_in_use=96 * MIB)),
        ["error etcd02: takes 97.0 MiB of its quota of 100.0 MiB; inv space makes room"],
    ),
    "no quota": ("database", picture(database(quota=-1, db_size=9 * GIB, db_in_use=9 * GIB, free=0)), []),
    "disk is full before the quota": (
        "database", picture(database(free=GIB, db_size=48 * MIB, db_in_use=48 * MIB)),
        [f"warning etcd02: 1024 MiB free on the disk, and its database may grow by 2000 MiB: a full disk stops the "
         f"member, a full quota only its writes; {SPACE}"],
    ),
    # figures
    "slow log": (
        "disk", tuned(fsync=histogram(ms8=900, ms32=100)),
        ["note etcd02: p99 of wal fsync is 30 ms since its start, 10 ms or less is good; " + FASTER],
    ),
    "very slow log": (
        "disk", tuned(fsync=histogram(ms8=900, ms1024=100)),
        ["warning etcd02: p99 of wal fsync is 922 ms since its start, 10 ms or less is good; " + FASTER],
    ),
    "slow commits": (
        "disk", tuned(commit=histogram(ms8=900, ms64=100)),
        ["note etcd02: p99 of backend commit is 58 ms since its start, 25 ms or less is good; " + FASTER],
    ),
    "too few to tell": ("disk", tuned(fsync=histogram(ms1024=99)), []),
    "no figures": (
        "disk", picture(exam(patient("etcd02"), metrics=None, unseen="x")),
        ["note etcd02: its figures could not be seen: x; AllowTcpForwarding in its sshd_config, and "
         "listen-metrics-urls in cluster.settings, decide that"],
    ),
    "far peers": (
        "peers", tuned(round_trip=histogram(ms128=900, ms256=100)),
        ["warning etcd02: p99 of round trip to its peers is 243 ms since its start, 50 ms or less is good; "
         + HEARTBEAT],
    ),
    "files": (
        "peers", tuned(open_files=900, most_files=1000),
        ["warning etcd02: has 900 of 1000 files open; who connects so often? Else LimitNOFILE in cluster.unit, then "
         "inv deploy"],
    ),
    # certificates
    "ended": (
        "certificates", on_disk(ENDED), [f"error etcd02: /etc/etcd/ssl/peer.pem ended on 2026-08-19; {RENEW}"],
    ),
    "ends soon": (
        "certificates", on_disk(SOON),
        [f"warning etcd02: /etc/etcd/ssl/peer.pem ends on 2026-09-09, days left: 20; {RENEW}"],
    ),
    "begins later": (
        "certificates", on_disk(LATER),
        ["error etcd02: /etc/etcd/ssl/peer.pem is not valid before 2026-08-21 11:55 UTC; is the clock of this machine "
         "right?"],
    ),
    "for another address": (
        "certificates", on_disk(WRONG_PEER, layout.SERVER),
        ["error etcd02: /etc/etcd/ssl/server.pem is not for 192.0.2.12, but for "
         f"{', '.join(inspect(WRONG_PEER.encode()).sans)}; {RENEW}"],
    ),
    "no certificate": (
        "certificates", on_disk("rubbish"),
        [f"error etcd02: /etc/etcd/ssl/peer.pem holds no certificate; {RENEW}"],
    ),
    "CA ends soon": (
        "certificates", picture(patient("etcd02", trust={layout.PEER_CA: OLD})),
        ["warning etcd02: /etc/etcd/ssl/peer-ca.pem, the CA of peers, ends on 2027-01-17, days left: 150; " + REPLACE],
    ),
    "another one is served": (
        "served", shown(Served(OTHER_PAIR)),
        ["warning etcd02: port 2380 serves another certificate than /etc/etcd/ssl/peer.pem holds: one of 2026-05-12 to "
         "2026-11-28, with 100 days left; " + READ],
    ),
    "one that has ended is served": (
        "served", shown(Served(ENDED)),
        ["error etcd02: port 2380 serves another certificate than /etc/etcd/ssl/peer.pem holds: one of 2025-10-24 to "
         "2026-08-19, with -1 days left; " + READ],
    ),
    "none is served": (
        "served", shown(Served(trouble="it hung up in the TLS handshake")),
        ["warning etcd02: port 2380 shows no certificate: it hung up in the TLS handshake; inv status"],
    ),
    "ports that cannot be seen": (
        "served", shown(Served(unseen="its sshd forwards nothing")),
        ["note etcd02: what its ports serve could not be seen: its sshd forwards nothing; AllowTcpForwarding local in "
         "its sshd_config; or inv verify, from elsewhere"],
    ),
    "another CA": (
        "trust", wanting(MemberPki(None, None, None, None, client_issuer=OTHER)),
        [f"error etcd02: /etc/etcd/ssl/ca.pem there does not hold the CA that issues in pki.dir here; {PUT_BACK}"],
    ),
    "pki.dir cannot be read": (
        "pki", picture(pki=UsageError("pki/ca.pem: is not a PEM certificate")),
        ["error -: pki/ca.pem: is not a PEM certificate; put the pki folder of this cluster back"],
    ),
    "pki.dir is gone": (
        "pki", picture(items=[Item("ca.pem", "make", "x")]), [f"error -: pki/ca.pem is missing; {PUT_BACK}"],
    ),
    "operator's certificate is due": (
        "pki", picture(items=[Item("client.pem", "renew", "only valid until 2026-09-01, days left: 12")]),
        ["warning -: pki/client.pem is due: only valid until 2026-09-01, days left: 12; inv distribute puts it right"],
    ),
    "a key that others can read": (
        "pki", picture(items=[Item("client-key.pem", "tighten", "others can read it: mode 0644 to 0600")]),
        ["warning -: pki/client-key.pem is open: others can read it: mode 0644 to 0600; inv distribute puts it right"],
    ),
    "leaves are being replaced": (
        "pki", picture(rotating=NOW - timedelta(hours=1)),
        [f"warning -: every certificate is being replaced since {NOW - timedelta(hours=1):%Y-%m-%d %H:%M} UTC, and not "
         "yet proven; inv rotate-certs goes on from there"],
    ),
    "nothing is made yet": ("pki", hosts(items=[Item("ca.pem", "make", "x"), Item("client.pem", "make", "x")]), []),
    # backups
    "no backup": (
        "backup", picture(backup=None),
        ["warning -: there is no backup in backups; inv backup; or inv snapshot.schedule"],
    ),
    "old backup": (
        "backup", picture(backup=snapshots.manifest(taken=NOW - 3 * DAY)),
        ["warning -: the newest backup in backups is 3 d old; inv backup; in cron, or inv snapshot.schedule"],
    ),
    "store away": (
        "backup", picture(shut=HostError("no route", hint="is it up?")),
        ["warning -: the store cannot be looked into: no route; is it up?"],
    ),
    "schedule missed": (
        "backup", picture(*each(scheduled), backup=None),
        ["warning -: there is no backup, and one is due every 6 h; " + AT_ONCE],
    ),
    "timer stopped": (
        "backup", picture(*each(lambda name: scheduled(name, "inactive")), backup=None),
        [f"warning {name}: the timer of its backups does not run; inv snapshot.schedule" for name in NAMES]
        + ["warning -: there is no backup, and one is due every 6 h; " + AT_ONCE],
    ),
    "no backup of nothing": ("backup", hosts(backup=None), []),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "seen", "expected"), FOUND.values(), ids=FOUND.keys())
def test_finding(rule: str, seen: Picture, expected: list[str]) -> None:
    assert said(rule, seen) == expected


def test_every_rule_has_a_case() -> None:
    tried = {rule.removeprefix("check ") for rule, _, expected in FOUND.values() if expected}
    assert tried | {"config"} >= {rule.name for rule in (*DOCTOR, *CHECK)}


def test_configuration_that_differs_and_is_not_taken_up() -> None:
    (line,) = said("config", wanting())
    assert line.startswith("warning etcd02: not as config.yaml says: /opt/etcd/  (new), ")
    assert line.endswith(" more; inv deploy; --dry-run shows all")
    assert said("config", wanting(unit=replace(ACTIVE, enabled="disabled"))) == [line]  # boot says that


def test_a_finding_of_two_rules_is_told_once() -> None:
    one = Finding("error", "x", "etcd01", "y")
    rules = [Rule("first", lambda _: [one, one], lambda _: "well"), Rule("second", lambda _: [one], lambda _: "well")]
    assert [(each.rule, each.findings, each.well) for each in apply(rules, picture())] == [
        ("first", (one,), ""),
        ("second", (), "well"),
    ]
