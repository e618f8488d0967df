"""Every reason not to go on: the host, the trouble and the way out, as the operator reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etcdops import guards, layout
from etcdops.config import Config
from etcdops.errors import Refused
from etcdops.etcd import View
from etcdops.facts import TRUST, HostFacts, Listener, UnitFact, fingerprints
from etcdops.keystore import MemberPki
from tests.unit.build import (
    ACTIVE,
    NAMES,
    TOKEN,
    address,
    config,
    cut_short,
    fresh,
    identity,
    member,
    path,
    prepared,
    serving,
    status,
    three,
    unstarted,
    view,
)

BOTH = frozenset(address(name) for name in NAMES)  # of a host that is all of them
NOT_RUNNING = UnitFact(fragment=layout.UNIT)
ASIDE = "mv /var/lib/etcd/default.etcd /var/lib/etcd/default.etcd.old, if its data is not needed"
DATA = "/var/lib/etcd/default.etcd"
STARTING = UnitFact("activating", "start", pid=700)
PLAIN = {"ETCD_LISTEN_CLIENT_URLS": "http://192.0.2.12:2379", "ETCDOPS_STARTED_WITH": "0"}
SYNCHRONISE = "synchronise the clocks (chrony, systemd-timesyncd)"


UNTOLD = (
    "has no data, while {} have been members, and no cluster runs that could tell whether it was one, too; "
    "mount its disk if that is what is missing; else bring the others up first: systemctl start etcd"
)


def down(name: str = "etcd01", **known: Any) -> HostFacts:
    """A member that was stopped, with its data and its record."""
    return cut_short(name, **{"identity": identity(name), "unit": NOT_RUNNING, **known})


def said(config: Config, facts: dict[str, HostFacts]) -> list[str]:
    return [f"{finding}; {finding.hint}" for finding in guards.findings(config, facts)]


def members(*others: Any) -> Any:
    """A view whose member list holds ``others`` instead of the usual three."""
    return view(members=others)


SAFE: dict[str, tuple[Config, dict[str, HostFacts]]] = {
    "new hosts": (config(), three(fresh)),
    "new hosts, plain http": (config(tls=False), three(fresh)),
    "prepared, not started": (config(), three(prepared)),
    "the third of a bootstrap never came up": (
        config(),
        three(
            lambda name: serving(name, view=view(members=(
                *map(member, NAMES[:2]), member("etcd03", client_urls=())
            ))),
            prepared("etcd03"),
        ),
    ),
    "one prepared, the others new": (config(), three(fresh, prepared("etcd02"))),
    "bootstrap cut short: all have data": (config(), three(cut_short)),
    "bootstrap cut short: some have data": (config(), three(prepared, cut_short("etcd02"), cut_short("etcd03"))),
    "bootstrap cut short: two wait for each other": (
        config(),
        three(prepared, *(serving(name, identity={}, unit=STARTING, view=View(healthy=False)) for name in NAMES[:2])),
    ),
    "bootstrap cut short: formed, and not recorded yet": (
        config(),
        three(lambda name: serving(name, identity={}, conf={"ETCD_INITIAL_CLUSTER_TOKEN": TOKEN})),
    ),
    "recorded on one host only": (config(), three(cut_short, cut_short("etcd01", identity=identity("etcd01")))),
    "running": (config(), three(serving)),
    "running, plain http": (
        config(tls=False),
        three(lambda name: serving(
            name,
            running={"ETCD_LISTEN_CLIENT_URLS": f"http://{address(name)}:2379", "ETCDOPS_STARTED_WITH": "0"},
            view=view(name, members=tuple(
                member(each, peer_urls=(f"http://{address(each)}:2380",)) for each in NAMES
            )),
        )),
    ),
    "all stopped": (config(), three(lambda name: cut_short(name, identity=identity(name), unit=NOT_RUNNING))),
    "one down": (config(), three(serving, cut_short("etcd03", identity=identity("etcd03"), unit=NOT_RUNNING))),
    "one without quorum": (config(), three(serving, serving("etcd03", view=view("etcd03", healthy=False)))),
    "another patch level": (config("3.6.17"), three(serving)),
    "bootstrap cut short: before any write-ahead log": (
        config(),
        three(prepared, prepared("etcd01", data="unfinished"), cut_short("etcd02")),
    ),
    "bootstrap cut short: before any record of it": (config(), three(fresh, fresh("etcd03", data="unfinished"))),
    "in order to get away from a release that loses data": (
        config("3.5.16"),
        three(lambda name: serving(name, executable="/opt/etcd/3.5.1/etcd", releases={"3.5.16": "aa"})),
    ),
    "a release that loses data runs already": (
        config("3.5.1"),
        three(lambda name: serving(name, executable="/opt/etcd/3.5.1/etcd", releases={"3.5.1": "aa"})),
    ),
    "no room for data that is there already": (
        config(),
        three(serving, serving("etcd01", room={layout.DATA_DIR: 0, layout.RELEASES: 0})),
    ),
    "our own links in /usr/local/bin": (
        config(),
        three(fresh, fresh("etcd01", paths={"/usr/local/bin/etcd": path("link", 0o777, target="x")})),
    ),
    "arm64": (config(), three(lambda name: fresh(name, machine="aarch64"))),
    "IPv6": (
        config(members=({"name": "etcd01", "address": "2001:db8::1"},)),
        {"etcd01": fresh(addresses=frozenset({"::1", "2001:db8::1"}))},
    ),
    "clocks that may agree": (config(), three(fresh, fresh("etcd02", clock=(0.9, 5.0)))),
    "a member added by hand that has not started yet": (
        config(),
        three(lambda name: serving(name, view=members(member("etcd01"), member("etcd02"), unstarted("etcd03")))),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "facts"), SAFE.values(), ids=SAFE.keys())
def test_nothing_speaks_against_it(config: Config, facts: dict[str, HostFacts]) -> None:
    assert said(config, facts) == []
    guards.check(config, facts)


def foreign(**running: str) -> HostFacts:
    return serving("etcd02", running=running, executable="/usr/bin/etcd", unit=ACTIVE)


FOUND: dict[str, tuple[Config, dict[str, HostFacts], list[str]]] = {
    # the host
    "architecture": (
        config(),
        three(fresh, fresh("etcd02", machine="riscv64")),
        ["etcd02: riscv64 has no supported etcd release; use a host with x86_64 or aarch64"],
    ),
    "no systemd": (
        config(),
        three(fresh, fresh("etcd02", systemd=0)),
        ["etcd02: systemd does not run here; use a host with systemd"],
    ),
    "wrong address": (
        config(),
        three(fresh, fresh("etcd02", addresses=frozenset({"127.0.0.1", "::1", "192.0.2.77", "192.0.2.66"}))),
        ["etcd02: 192.0.2.12 is not an address of this host, which has 192.0.2.66, 192.0.2.77; "
         "correct 'address' of etcd02 in config.yaml, or 'ssh' if this is another host"],
    ),
    "no address at all": (
        config(),
        three(fresh, fresh("etcd02", addresses=frozenset({"127.0.0.1"}))),
        ["etcd02: 192.0.2.12 is not an address of this host, which has none; "
         "correct 'address' of etcd02 in config.yaml, or 'ssh' if this is another host"],
    ),
    "no room": (
        config(),
        three(fresh, fresh("etcd02", room={layout.DATA_DIR: 511 << 20, layout.RELEASES: 0})),
        [f"etcd02: 511 MiB free for {DATA}, 512 MiB needed; free some space or mount a larger file system there",
         "etcd02: 0 MiB free for /opt/etcd, 256 MiB needed; free some space or mount a larger file system there"],
    ),
    "no room for another release": (
        config("3.6.17"),
        three(serving, serving("etcd02", room={layout.DATA_DIR: 0, layout.RELEASES: 0})),
        ["etcd02: 0 MiB free for /opt/etcd, 256 MiB needed; free some space or mount a larger file system there"],
    ),
    "somebody else's program": (
        config(),
        three(fresh, fresh("etcd02", paths={"/usr/local/bin/etcdctl": path("file", 0o755)})),
        ["etcd02: /usr/local/bin/etcdctl was not put there by etcdops; "
         "move it away: mv /usr/local/bin/etcdctl /usr/local/bin/etcdctl.old"],
    ),
    "port taken": (
        config(),
        three(fresh, fresh("etcd02", listeners=(Listener(2379, 88, "nginx"), Listener(2381, 0, "")))),
        ["etcd02: port 2379 is taken by nginx (pid 88); stop it; etcd needs this port",
         "etcd02: port 2381 is taken by another program; stop it; etcd needs this port"],
    ),
    "port taken for IPv4 and IPv6": (
        config(),
        three(fresh, fresh("etcd02", listeners=(Listener(2379, 88, "nginx"), Listener(2379, 88, "nginx")))),
        ["etcd02: port 2379 is taken by nginx (pid 88); stop it; etcd needs this port"],
    ),
    "port of a running member taken": (
        config(),
        three(serving, serving("etcd02", listeners=(Listener(2379, 700, "etcd"), Listener(2381, 88, "nginx")))),
        ["etcd02: port 2381 is taken by nginx (pid 88); stop it; etcd needs this port"],
    ),
    "etcd, started by hand": (
        config(),
        three(fresh, fresh("etcd02", listeners=(Listener(2379, 88, "etcd"),))),
        ["etcd02: port 2379 is taken by etcd (pid 88); stop it; etcd needs this port"],
    ),
    # what runs there
    "foreign etcd": (
        config(),
        three(fresh, foreign(ETCD_LISTEN_CLIENT_URLS="http://0.0.0.0:2379")),
        ["etcd02: an etcd that etcdops did not set up runs here (/usr/bin/etcd, /etc/systemd/system/etcd.service); "
         "inv adopt, if this is the cluster; else stop it and move its unit and data directory away"],
    ),
    "TLS wanted, plain http runs": (
        config(),
        three(serving, serving("etcd02", running=PLAIN)),
        ["etcd02: runs with plain http, and config.yaml asks for TLS; "
         "inv enable-tls changes that, one member at a time; or set cluster.tls: false, as it was"],
    ),
    "plain http wanted, TLS runs: that says it all": (
        config(tls=False),
        three(serving),
        [f"{name}: runs with TLS, and config.yaml asks for plain http; "
         "inv disable-tls changes that, one member at a time; or set cluster.tls: true, as it was" for name in NAMES],
    ),
    "a member of another cluster has no say in who is a member": (
        config(),
        three(fresh, serving(
            "etcd01", identity=identity("etcd01") | {"cluster": "other"}, view=view(members=(member("etcd09"),))
        )),
        ["etcd01: is a member of another cluster, other; use another host, or correct cluster.name"],
    ),
    "a release that may read the log of 3.4 amiss": (
        config("3.5.30"),
        three(lambda name: serving(name, executable="/opt/etcd/3.5.16/etcd", releases={"3.5.30": "aa"})),
        [f"{name}: etcd 3.5.30 may take members in a log that etcd 3.5.16 or an older one has written for removed "
         "ones; set cluster.version back to 3.5.16; inv upgrade --to=3.5.30 has each log begun anew before"
         for name in NAMES],
    ),
    "another minor": (
        config("3.7.3"),
        three(lambda name: serving(name, releases={"3.7.3": "aa"})),
        [f"{name}: runs etcd 3.6.16, and config.yaml asks for 3.7.3; "
         "set cluster.version to a 3.6 release; inv upgrade and inv downgrade change the minor" for name in NAMES],
    ),
    "a minor back": (
        config("3.5.30"),
        three(fresh, serving("etcd02", identity={}, releases={"3.5.30": "aa"}, view=view(members=None))),
        ["etcd02: runs etcd 3.6.16, and config.yaml asks for 3.5.30; "
         "set cluster.version to a 3.6 release; inv upgrade and inv downgrade change the minor"],
    ),
    "emptied, the others serve": (
        config(),
        three(serving, fresh("etcd03")),
        ["etcd03: is a member of the running cluster, but has no data here: it was lost with the disk or the host; "
         "never start it empty: inv replace-member etcd03"],
    ),
    "emptied, the others are down": (
        config(),
        three(down, fresh("etcd03")),
        [f"etcd03: {UNTOLD.format('etcd01, etcd02')}"],
    ),
    "two emptied, the third is down": (
        config(),
        three(fresh, down("etcd02")),
        [f"{name}: {UNTOLD.format('etcd02')}" for name in ("etcd01", "etcd03")],
    ),
    "another minor, the cluster is down": (
        config("3.7.3"),
        three(lambda name: down(name, paths={layout.CURRENT: path("link", target="3.6.16")}, releases={"3.7.3": "aa"})),
        [f"{name}: runs etcd 3.6.16, and config.yaml asks for 3.7.3; "
         "set cluster.version to a 3.6 release; inv upgrade and inv downgrade change the minor" for name in NAMES],
    ),
    "another transport, the cluster is down": (
        config(),
        three(lambda name: down(name, conf={**PLAIN, "ETCD_INITIAL_CLUSTER_TOKEN": TOKEN})),
        [f"{name}: runs with plain http, and config.yaml asks for TLS; "
         "inv enable-tls changes that, one member at a time; or set cluster.tls: false, as it was" for name in NAMES],
    ),
    "other members, the cluster is down": (
        config(),
        three(lambda name: down(name, conf={
            "ETCD_INITIAL_CLUSTER_TOKEN": TOKEN,
            "ETCD_INITIAL_CLUSTER": ",".join(f"{each}=https://{address(each)}:2380" for each in NAMES[:2]),
        })),
        [f"{name}: has data of a cluster with other members than config.yaml (etcd03=192.0.2.13:2380); "
         "put the members back as they were and start the cluster; they change while it runs" for name in NAMES],
    ),
    "down to a bad release": (
        config("3.5.1"),
        three(lambda name: serving(name, executable="/opt/etcd/3.5.30/etcd", releases={"3.5.1": "aa"})),
        [f"{name}: etcd 3.5.1 loses data when a member is killed under load (etcd issue 13766, fixed in 3.5.3); "
         "set cluster.version to a newer release" for name in NAMES],
    ),
    # the hosts together
    "one machine twice": (
        config(),
        three(fresh, fresh("etcd03", boot_id="boot-of-etcd01", addresses=BOTH), fresh("etcd01", addresses=BOTH)),
        ["etcd03: is the same machine as etcd01; one host for each member: correct 'ssh'"],
    ),
    "one machine for all": (
        config(),
        three(lambda name: fresh(name, boot_id="b", addresses=BOTH)),
        ["etcd02: is the same machine as etcd01; one host for each member: correct 'ssh'",
         "etcd03: is the same machine as etcd01; one host for each member: correct 'ssh'"],
    ),
    "clock ahead": (
        config(),
        three(fresh, fresh("etcd02", clock=(3.02, 3.06))),
        [f"etcd02: its clock is at least 3.0 s from that of etcd01; {SYNCHRONISE}",
         f"etcd03: its clock is at least 3.0 s from that of etcd02; {SYNCHRONISE}"],
    ),
    "clock behind": (
        config(members=NAMES[:2]),
        {"etcd01": fresh(), "etcd02": fresh("etcd02", clock=(-61.0, -60.52))},
        [f"etcd02: its clock is at least 60.5 s from that of etcd01; {SYNCHRONISE}"],
    ),
    # incarnations
    "a release that loses data": (
        config("3.5.1"),
        three(fresh),
        ["etcd 3.5.1 loses data when a member is killed under load (etcd issue 13766, fixed in 3.5.3); "
         "set cluster.version to a newer release"],
    ),
    "member of another cluster": (
        config(),
        three(fresh, cut_short("etcd02", identity=identity("etcd02") | {"cluster": "other"})),
        ["etcd02: is a member of another cluster, other; use another host, or correct cluster.name; "
         f"to give it up: rm /etc/etcd/identity.json, {ASIDE}"],
    ),
    "another member's host": (
        config(),
        three(serving, cut_short("etcd02", identity=identity("etcd03"))),
        ["etcd02: is member etcd03 of this cluster; correct 'ssh' or 'name'"],
    ),
    "emptied data directory": (
        config(),
        three(serving, prepared("etcd02", identity=identity("etcd02"))),
        [f"etcd02: has been a member, but {DATA} is empty or not mounted; mount the disk; "
         "if the data is lost: inv replace-member etcd02"],
    ),
    "emptied, the others serve with their quota full": (
        config(),
        three(lambda name: serving(name, view=view(name, healthy=False, complaint="Active Alarm(s): NOSPACE")),
              fresh("etcd03")),
        ["etcd03: is a member of the running cluster, but has no data here: it was lost with the disk or the host; "
         "never start it empty: inv replace-member etcd03"],
    ),
    "emptied data directory, and a start in it that was cut short": (
        config(),
        three(serving, prepared("etcd02", identity=identity("etcd02"), data="unfinished")),
        [f"etcd02: has been a member, but {DATA} is empty or not mounted; mount the disk; "
         "if the data is lost: inv replace-member etcd02"],
    ),
    "lost disk, and a start on a new one that was cut short": (
        config(),
        three(serving, fresh("etcd02", data="unfinished")),
        ["etcd02: is a member of the running cluster, but has no data here: it was lost with the disk or the host; "
         "never start it empty: inv replace-member etcd02"],
    ),
    "data directory without a log": (
        config(),
        three(serving, prepared("etcd02", identity=identity("etcd02"), data="files")),
        [f"etcd02: {DATA} holds something that is not etcd's; {ASIDE}"],
    ),
    "something else in the data directory": (
        config(),
        three(fresh, fresh("etcd02", data="files")),
        [f"etcd02: {DATA} holds something that is not etcd's; {ASIDE}"],
    ),
    "data without etcd.conf": (
        config(),
        three(fresh, cut_short("etcd02", conf={})),
        [f"etcd02: {DATA} holds data of another cluster: no /etc/etcd/etcd.conf goes with it; {ASIDE}"],
    ),
    "data of two incarnations": (
        config(),
        three(cut_short, cut_short("etcd02", conf={"ETCD_INITIAL_CLUSTER_TOKEN": "old"})),
        [f"the hosts hold data of different clusters (etcd01: {TOKEN}, etcd02: old, etcd03: {TOKEN}); "
         f"on the wrong ones: systemctl stop etcd, then {ASIDE}"],
    ),
    "two running clusters": (
        config(),
        three(serving, serving("etcd02", view=view("etcd02", status=status("etcd02", cluster_id=0xBAD)))),
        ["the members run in different clusters (etcd01: c1, etcd02: bad, etcd03: c1); which one is to live?  "
         "On the others: systemctl disable --now etcd; the way on is in docs/recover.md"],
    ),
    # membership
    "one member too many": (
        config(members=NAMES[:2]),
        {name: serving(name) for name in NAMES[:2]},
        ["member etcd03 (https://192.0.2.13:2380) is in the running cluster, not in config.yaml; "
         "add it to config.yaml; only if it is to go for good: inv remove-member etcd03"],
    ),
    "an unstarted member too many": (
        config(),
        three(lambda name: serving(name, view=members(*map(member, NAMES), unstarted("etcd04", id=0xABCD)))),
        ["member without a name (https://192.0.2.14:2380) is in the running cluster, not in config.yaml; "
         "inv add-member finishes what was begun; only if it is to go for good: inv remove-member abcd"],
    ),
    "one member too few": (
        config(members=(*NAMES, "etcd04")),
        three(serving) | {"etcd04": fresh("etcd04")},
        ["etcd04: is in config.yaml, but not a member of the running cluster; "
         "inv add-member etcd04 makes it one; or take it out of config.yaml"],
    ),
    "a member with another name": (
        config(),
        three(lambda name: serving(name, view=members(*map(member, NAMES[:2]), replace(member("etcd03"), name="old")))),
        ["member old (https://192.0.2.13:2380) is in the running cluster, not in config.yaml; "
         "add it to config.yaml; only if it is to go for good: inv remove-member old"],
    ),
    "a member at another address": (
        config(),
        three(lambda name: serving(
            name, view=members(*map(member, NAMES[:2]), member("etcd03", peer_urls=("https://192.0.2.99:2380",)))
        )),
        ["etcd03: the running cluster knows it at https://192.0.2.99:2380, config.yaml at 192.0.2.13:2380; "
         "put the old address back into config.yaml; or, if its host has moved: "
         "inv move-member etcd03 --address=192.0.2.13"],
    ),
    "dialled by https, listens with http": (
        config(tls=False),
        three(lambda name: serving(name, running=PLAIN, view=view(name, members=(
            member("etcd01"), *(member(each, peer_urls=(f"http://{address(each)}:2380",)) for each in NAMES[1:]),
        )))),
        ["etcd01: a change of the transport was cut short: the others reach it by another scheme than it listens with; "
         "inv enable-tls finishes it, inv disable-tls takes it back; where another host is lost, "
         "neither can: inv etcdctl -- member update 1 --peer-urls=http://192.0.2.11:2380"],
    ),
    "a member without quorum has no say in it": (
        config(),
        three(serving, serving("etcd01", view=view(healthy=False, members=(member("etcd01"),)))),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "facts", "findings"), FOUND.values(), ids=FOUND.keys())
def test_finding(config: Config, facts: dict[str, HostFacts], findings: list[str]) -> None:
    assert said(config, facts) == findings


def test_everything_is_found_at_once_host_by_host() -> None:
    facts = {
        "etcd01": fresh(machine="i686", systemd=0, addresses=BOTH),
        "etcd02": fresh("etcd02", data="files", clock=(9.0, 9.1)),
        "etcd03": fresh("etcd03", boot_id="boot-of-etcd01", addresses=BOTH, listeners=(Listener(2380, 9, "nc"),)),
    }
    with pytest.raises(Refused) as caught:
        guards.check(config("3.5.2"), facts)
    error = caught.value
    assert (error.message, error.exit_code) == ("nothing was changed", 3)
    assert [(finding.host if isinstance(finding, Refused) else None) for finding in error.findings] == [
        "etcd01", "etcd01", "etcd03", "etcd03", "etcd02", "etcd03", "", "etcd02",
    ]  # fmt: skip
    assert all(finding.hint for finding in error.findings)


# The CA of a member that has data


def pem(*names: str) -> str:
    return "".join(f"-----BEGIN CERTIFICATE-----\n{name}\n{name}\n-----END CERTIFICATE-----\n" for name in names)


def trusting(client: str, peer: str, **known: Any) -> HostFacts:
    return serving(trust={layout.CLIENT_CA: client, layout.PEER_CA: peer}, **known)


STRANGERS: dict[str, tuple[HostFacts, list[str]]] = {
    "ours": (trusting(pem("client"), pem("peer")), []),
    "ours, wrapped otherwise": (trusting("# CA\n" + pem("client").replace("\n", "\r\n"), pem("peer") + "\n"), []),
    "a bundle with ours": (trusting(pem("old", "client"), pem("peer", "old")), []),
    "another client CA": (trusting(pem("x"), pem("peer")), [layout.CLIENT_CA]),
    "another peer CA": (trusting(pem("client"), pem("x")), [layout.PEER_CA]),
    "two other CAs": (trusting(pem("x"), pem("x")), [layout.CLIENT_CA, layout.PEER_CA]),
    "nothing there": (serving(), []),
    "no data yet: nobody is cut off": (trusting(pem("x"), pem("x"), data=""), []),
    "no certificate in it": (trusting("garbage", pem("peer")), [layout.CLIENT_CA]),
}


@pytest.mark.parametrize(("facts", "paths"), STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers(facts: HostFacts, paths: list[str]) -> None:
    found = list(guards.strangers(facts, MemberPki(b"", b"", None, None, pem("client").encode(), pem("peer").encode())))
    assert [str(finding) for finding in found] == [
        f"etcd01: {path} there does not hold the CA that issues in pki.dir here" for path in paths
    ]
    assert all("pki folder" in finding.hint for finding in found)


def running_with(client: str, peer: str, **known: Any) -> HostFacts:
    """On disk stands a bundle of the old CAs and ours, whatever the process has read."""
    told = {
        variable: ",".join(fingerprints(text)) for variable, text in zip(TRUST.values(), (client, peer), strict=True)
    }
    both = {layout.CLIENT_CA: pem("old", "client"), layout.PEER_CA: pem("old", "peer")}
    return serving(trust=both, running={**serving().running, **told}, **known)


@pytest.mark.parametrize(
    ("facts", "paths"),
    [
        (running_with(pem("old", "client"), pem("old", "peer")), []),
        (running_with(pem("old"), pem("old", "peer")), [layout.CLIENT_CA]),
        (running_with(pem("old", "client"), pem("old")), [layout.PEER_CA]),
        (running_with("", pem("old", "peer")), [layout.CLIENT_CA]),
        (running_with(pem("client"), pem("peer")), []),
        (trusting(pem("old", "client"), pem("old", "peer"), running={}, unit=UnitFact()), []),
    ],
    ids=["both", "old client CA", "old peer CA", "none", "ours alone", "stopped: the next start reads them"],
)
def test_a_ca_that_was_not_read_yet_is_not_trusted_yet(facts: HostFacts, paths: list[str]) -> None:
    pki = MemberPki(b"", b"", None, None, pem("client").encode(), pem("peer").encode())
    assert not list(guards.strangers(facts, pki))
    found = list(guards.unread(facts, pki))
    assert [str(finding) for finding in found] == [
        f"etcd01: runs with an older {path}, without the CA that issues in pki.dir here" for path in paths
    ]
    assert all("inv restart" in finding.hint for finding in found)


def speaking(clients: str, peers: str) -> HostFacts:
    """A member that listens with these schemes."""
    urls = ",".join(f"{scheme}://192.0.2.11:2379" for scheme in clients.split("+"))
    listens = {"ETCD_LISTEN_CLIENT_URLS": urls, "ETCD_LISTEN_PEER_URLS": f"{peers}://192.0.2.11:2380"}
    return serving(running={**serving().running, **listens})


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        (speaking("http", "http"), True),
        (speaking("http+https", "http"), True),
        (speaking("https+http", "https"), False),
        (speaking("https", "https"), False),
        (fresh(), False),
    ],
    ids=["plain", "both", "peers", "tls", "nothing there"],
)
def test_no_certificate_is_proven_where_peers_use_plain_http(facts: HostFacts, refused: bool) -> None:
    found = list(guards.plain_peers(facts))
    assert [finding.host for finding in found] == (["etcd01"] if refused else [])
    assert all("inv enable-tls first" in finding.hint for finding in found)


@pytest.mark.parametrize(
    ("id_", "said", "ways"),
    [
        ("recover", "inv recover was cut short here", ["inv recover again"]),
        ("20261122T1-77ab", "restore 20261122T1-77ab was cut short here", ["restore-undo", "inv recover again"]),
    ],
)
def test_what_was_cut_short_is_gone_on_with_by_its_own_task(id_: str, said: str, ways: list[str]) -> None:
    found = guards.cut_short(serving(barred=id_))
    assert found.message == said
    assert all(way in found.hint for way in ways)
    assert ("inv restore" in found.hint) == (id_ != "recover")


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        (three(fresh), True),
        (three(serving), True),  # of 3.6.16
        (three(lambda name: serving(name, executable="/opt/etcd/3.5.1/etcd", releases={"3.5.1": "aa"})), False),
    ],
    ids=["fresh hosts", "another runs", "it runs already"],
)
def test_a_restore_brings_no_release_that_loses_data(facts: dict[str, HostFacts], refused: bool) -> None:
    found = [each for each in guards.beneath_a_restore(config("3.5.1"), facts) if "etcd 3.5.1 " in each.message]
    assert bool(found) == refused
