"""What the scripts answer, as facts: recorded on a host, asked of this machine, and the odd cases by hand."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path

import pytest

from etcdops import layout
from etcdops.facts import MANAGED_PATHS, HostFacts, Listener, PathFact, UnitFact, parse, parse_answers, parse_conf
from tests.unit.build import ACTIVE, TOKEN, fresh
from tests.unit.golden import GOLDEN

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 1
        |-- 192.0.2.0
           /32 link BROADCAST
           /24 link UNICAST
        |-- 192.0.2.11
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /32 link BROADCAST
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 192.0.2.11
           /32 link BROADCAST
           /32 host LOCAL
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000011 02 40 00 80     eth0
fe80000000000000505400fffe123456 02 40 20 80     eth0
"""


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def answer(*rows: str, **single: str) -> HostFacts:
    """The facts of a host that says the least it can, and ``rows``: a blank parts fields, '_' stands for a blank."""
    least = {
        "time": "1000.5",
        "machine": "x86_64",
        "boot_id": "b",
        "systemd": "252",
        "user": "",
    } | single
    lines = [f"{key}\t{value}" for key, value in least.items()]
    return parse(
        "etcd01",
        "\n".join([*lines, *(row.replace(" ", "\t").replace("_", " ") for row in rows), ""]),
        asked=1000,
        answered=1001,
    )


def recorded(name: str) -> HostFacts:
    return parse("etcd01", (GOLDEN / "host" / f"{name}.txt").read_text(), asked=1795366552.4, answered=1795366552.5)


def test_recorded_new_host() -> None:
    facts = recorded("fresh")
    assert (facts.machine, facts.systemd, facts.has_user) == ("x86_64", 252, False)
    assert (facts.paths, facts.conf, facts.identity, facts.trust, facts.releases) == ({}, {}, {}, {}, {})
    assert facts.unit == UnitFact()
    assert (facts.data, facts.has_data, facts.is_running, facts.running_version) == ("", False, False, "")
    assert facts.addresses >= {"127.0.0.1", "::1", "192.0.2.11", "2001:db8::11"}
    assert facts.room.keys() == {layout.DATA_DIR, layout.RELEASES}
    assert facts.listeners == ()
    assert facts.view.healthy is None


def test_recorded_member() -> None:
    facts = recorded("serving")
    assert facts.has_user
    assert facts.unit == UnitFact("active", "enabled", layout.UNIT, pid=258)
    assert (facts.is_running, facts.has_data, facts.running_version) == (True, True, "3.6.16")
    assert facts.releases == {"3.6.16": "b5b50e59f8ee799cf25b5c606735c786f05e5eaa06f34b614f8908fb1c4afe85"}
    assert facts.paths[layout.SSL_DIR] == PathFact("directory", 0o750, "root:etcd")
    assert facts.paths[layout.SERVER_KEY] == PathFact("link", 0o777, "root:root", target="server.pem")
    server = facts.paths[layout.SERVER]
    assert (server.kind, server.mode, server.owner, len(server.sha256)) == ("file", 0o600, "etcd:etcd", 64)
    assert facts.paths.keys() == set(MANAGED_PATHS)
    assert facts.conf["ETCD_INITIAL_CLUSTER_TOKEN"] == facts.identity["token"] == TOKEN
    assert facts.conf["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
    assert facts.running["ETCD_INITIAL_CLUSTER_STATE"] == "new"
    assert facts.running["ETCDOPS_STARTED_WITH"] == facts.conf["ETCDOPS_STARTED_WITH"]
    assert facts.trust.keys() == {layout.CLIENT_CA, layout.PEER_CA}
    assert [listener.port for listener in facts.listeners] == [2379, 2380, 2381, 2379]
    assert {(listener.pid, listener.program) for listener in facts.listeners} == {(258, "etcd")}
    assert facts.view.healthy
    assert facts.view.status is not None
    assert facts.view.status.is_leader
    assert f"{facts.view.status.member_id:x}" == facts.identity["member_id"]
    assert facts.view.certificate.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "PRIVATE" not in facts.view.certificate


def test_this_machine_answers(tmp_path: Path) -> None:
    """The scripts read only, and need neither etcd, nor systemd, nor root."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    data = tmp_path / "default.etcd"
    (data / "member" / "wal").mkdir(parents=True)
    script = "\n".join(("QUERIES='health status members' WAIT=1", layout.script("prelude", "host", "etcd")))
    names = ("file", "link", "broken", "missing", "default.etcd")
    before = time.time()
    done = subprocess.run(
        ["sh", "-s", "--", str(data), *(str(tmp_path / name) for name in names)],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    facts = parse("here", done.stdout, asked=before, answered=time.time())
    assert done.stderr == ""
    assert "127.0.0.1" in facts.addresses
    assert facts.clock[0] <= 0 <= facts.clock[1]
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.has_data
    assert facts.room[str(data)] > 0
    assert facts.room[layout.RELEASES] > 0

    seen = {Path(path).name: fact for path, fact in facts.paths.items()}
    digest = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    assert (seen["file"].kind, seen["file"].sha256) == ("file", digest)
    assert (seen["link"].kind, seen["link"].target, seen["link"].sha256) == ("link", "file", "")
    assert (seen["broken"].kind, seen["broken"].target) == ("link", "nowhere")
    assert seen["default.etcd"].kind == "directory"
    assert "missing" not in seen


DATA = {
    "nothing": ([], ""),
    "a member's": (["member/wal/", "member/snap/db 16801792", "member/snap/1.snap 4096"], "wal"),
    "a member's first folder": (["member/"], "unfinished"),
    "no database yet": (["member/snap/"], "unfinished"),
    "no database yet, and etcd looked whether it may write": (["member/snap/.touch 0"], "unfinished"),
    "an empty database": (["member/snap/db 16384"], "unfinished"),
    "an empty database in pages of 64 KiB": (["member/snap/db 262144"], "unfinished"),
    "a write-ahead log under way": (["member/snap/db 16384", "member/wal.tmp/0.tmp 64000000"], "unfinished"),
    "a database that was in use": (["member/snap/db 16801792"], "files"),
    "snapshots": (["member/snap/db 16384", "member/snap/1.snap 4096"], "files"),
    "someone else's": (["notes 5"], "files"),
    "someone else's beside a start cut short": (["member/snap/db 16384", "notes 5"], "files"),
    "someone else's folder": (["lost/"], "files"),
}


@pytest.mark.parametrize(("content", "data"), DATA.values(), ids=DATA.keys())
def test_what_the_data_directory_holds(tmp_path: Path, content: list[str], data: str) -> None:
    for each in content:
        name, _, size = each.partition(" ")
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if size:
            with path.open("wb") as file:
                file.truncate(int(size))  # without blocks of its own, as a file system may have it
    script = layout.script("prelude", "host")
    done = subprocess.run(
        ["sh", "-s", "--", str(tmp_path)], input=script, capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stderr, [line for line in done.stdout.splitlines() if line.startswith("data\t")]) == (
        "",
        [f"data\t{data}"] if data else [],
    )


@pytest.mark.parametrize("mounted", [False, True])
def test_whether_the_data_directory_is_a_mount_point(tmp_path: Path, mounted: bool) -> None:
    where = Path("/proc") if mounted else tmp_path
    script = layout.script("prelude", "host")
    done = subprocess.run(
        ["sh", "-s", "--", str(where)], input=script, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    assert parse("here", done.stdout, asked=0, answered=0).mounted is mounted


def test_clock_is_known_to_the_length_of_the_round_trip() -> None:
    assert answer(time="1000.5").clock == (-0.5, 0.5)
    assert answer(time="1010.25").clock == (9.25, 10.25)
    assert answer(time="990").clock == (-11, -10)
    assert answer(time="1000.25", ended="1000.75").clock == (-0.25, 0.25)  # most of the time passed in the scripts


@pytest.mark.parametrize(("said", "number"), [("252", 252), ("", 0)])
def test_systemd(said: str, number: int) -> None:
    assert answer(systemd=said).systemd == number


@pytest.mark.parametrize(("said", "there"), [("999", True), ("", False)])
def test_user(said: str, there: bool) -> None:
    assert answer(user=said).has_user is there


@pytest.mark.parametrize(
    ("fib_trie", "if_inet6", "addresses"),
    [
        ("", "", set()),
        (FIB_TRIE, "", {"192.0.2.11", "127.0.0.1"}),
        ("", IF_INET6, {"::1", "2001:db8::11", "fe80::5054:ff:fe12:3456"}),
        (FIB_TRIE, IF_INET6, {"192.0.2.11", "127.0.0.1", "::1", "2001:db8::11", "fe80::5054:ff:fe12:3456"}),
    ],
    ids=["none", "no IPv6", "no IPv4", "both"],
)
def test_addresses(fib_trie: str, if_inet6: str, addresses: set[str]) -> None:
    said = {"/proc/net/fib_trie": fib_trie, "/proc/net/if_inet6": if_inet6}
    assert answer(**{f"text\t{path}": b64(text) for path, text in said.items()}).addresses == addresses


SHA = 64 * "a"
PATHS = {
    "missing": ([], None),
    "file": (["stat /f regular_file 644 root:root", f"sha256 {SHA} /f"], PathFact("file", 0o644, "root:root", SHA)),
    "empty file": (["stat /f regular_empty_file 600 etcd:etcd"], PathFact("file", 0o600, "etcd:etcd")),
    "directory": (["stat /f directory 2755 root:staff"], PathFact("directory", 0o2755, "root:staff")),
    "link": (
        ["stat /f_->_/g symbolic_link 777 root:root"],
        PathFact("link", 0o777, "root:root", target="/g"),
    ),
    "the digest of what a link leads to is not its own": (
        ["stat /f_->_/g symbolic_link 777 root:root", f"sha256 {SHA} /f"],
        PathFact("link", 0o777, "root:root", target="/g"),
    ),
    "socket": (["stat /f socket 755 root:root"], PathFact("socket", 0o755, "root:root")),
    "owner without a name": (
        ["stat /f directory 700 UNKNOWN:UNKNOWN"],
        PathFact("directory", 0o700, "UNKNOWN:UNKNOWN"),
    ),
}


@pytest.mark.parametrize(("rows", "fact"), PATHS.values(), ids=PATHS.keys())
def test_path(rows: list[str], fact: PathFact | None) -> None:
    assert answer(*rows).paths.get("/f") == fact


LISTENERS = {
    "none": ([], []),
    "etcd": (["listen 0100007F:094B 700 etcd"], [Listener(2379, 700, "etcd")]),
    "IPv6": (["listen 00000000000000000000000000000000:094C 700 etcd"], [Listener(2380, 700, "etcd")]),
    "owner unknown": (["listen 00000000:094D  "], [Listener(2381, 0, "")]),
    "name with a tab": (["listen 00000000:094B 9 my prog"], [Listener(2379, 9, "my prog")]),
    "several": (
        ["listen 0100007F:094B 700 etcd", "listen 0B0200C0:094B 701 nc"],
        [Listener(2379, 700, "etcd"), Listener(2379, 701, "nc")],
    ),
}


@pytest.mark.parametrize(("rows", "listeners"), LISTENERS.values(), ids=LISTENERS.keys())
def test_listeners(rows: list[str], listeners: list[Listener]) -> None:
    assert list(answer(*rows).listeners) == listeners


@pytest.mark.parametrize(
    ("executable", "version"),
    [
        ("/opt/etcd/3.6.16/etcd", "3.6.16"),
        ("/opt/etcd/3.6.16/etcd (deleted)", "3.6.16"),
        ("/usr/bin/etcd", ""),
        ("/opt/etcd/3.6.16/etcd.old", ""),
        ("/opt/etcd/3.6.16/bin/etcd", ""),
        ("/srv/opt/etcd/3.6.16/etcd", ""),
        ("", ""),
    ],
)
def test_running_version(executable: str, version: str) -> None:
    assert answer(exe=executable).running_version == version


@pytest.mark.parametrize(
    ("said", "data", "has"), [({}, "", False), ({"data": "files"}, "files", False), ({"data": "wal"}, "wal", True)]
)
def test_data(said: dict[str, str], data: str, has: bool) -> None:
    facts = answer(**said)
    assert (facts.data, facts.has_data) == (data, has)


UNITS = {
    "no systemd": (["unit  "], UnitFact()),
    "unknown unit": (
        ["unit ActiveState inactive", "unit MainPID 0", "unit UnitFileState "],
        UnitFact(),
    ),
    "running": (
        ["unit ActiveState active", "unit UnitFileState enabled",
         f"unit FragmentPath {layout.UNIT}", "unit MainPID 700", "unit NeedDaemonReload no"],
        ACTIVE,
    ),
    "starting over and over": (
        ["unit ActiveState activating", "unit MainPID 0"],
        UnitFact("activating"),
    ),
    "changed on disk": (["unit NeedDaemonReload yes"], UnitFact(needs_reload=True)),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "unit"), UNITS.values(), ids=UNITS.keys())
def test_unit(rows: list[str], unit: UnitFact) -> None:
    assert answer(*rows).unit == unit


def test_a_member_that_waits_for_its_peers_is_running() -> None:
    facts = answer("unit ActiveState activating", "unit MainPID 700")
    assert facts.is_running


def test_releases() -> None:
    facts = answer(f"release /opt/etcd/3.6.16/archive.sha256 {SHA}", "release /opt/etcd/3.5.30/archive.sha256 ")
    assert facts.releases == {"3.6.16": SHA, "3.5.30": ""}


@pytest.mark.parametrize(("said", "free"), [("1000_4096", 4096000), ("0_4096", 0)])
def test_room(said: str, free: int) -> None:
    assert answer(f"room {layout.DATA_DIR} {said}").room[layout.DATA_DIR] == free


@pytest.mark.parametrize(
    ("text", "identity"),
    [('{"name": "etcd01"}', {"name": "etcd01"}), ("", {}), ("{", {}), ("[1]", {}), ("null", {})],
)
def test_identity(text: str, identity: dict[str, str]) -> None:
    assert answer(f"text {layout.IDENTITY} {b64(text)}").identity == identity


def test_texts_of_other_paths_are_left_alone() -> None:
    facts = answer(f"text /etc/passwd {b64('ETCD_NAME=x')}")
    assert (facts.conf, facts.identity, facts.trust) == ({}, {}, {})


CONF = {
    "quoted": ('A="b c"', {"A": "b c"}),
    "bare": ("A=b c", {"A": "b c"}),
    "blanks around a line": ('  A="b"  ', {"A": "b"}),
    "blanks inside quotes": ('A=" b "', {"A": " b "}),
    "empty": ('A=\nB=""', {"A": "", "B": ""}),
    "equals signs": ('A="a=b,c=d"', {"A": "a=b,c=d"}),
    "comments and headings": ("# A=1\n; B=2\n[Member]\n\nC=3", {"C": "3"}),
    "the last one counts": ("A=1\nA=2", {"A": "2"}),
    "a comment behind a value is part of it": ('A="x" # c', {"A": '"x" # c'}),
    "escaped": (r'A="\"\\\$\`"', {"A": '"\\$`'}),
    "other backslashes stay": (r'A="\d\n"', {"A": r"\d\n"}),
    "one quote": ('A="', {"A": '"'}),
    "carriage returns": ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    "line separators of Unicode": ('A="a\u2028b\x85c"', {"A": "a\u2028b\x85c"}),
}


@pytest.mark.parametrize(("text", "settings"), CONF.values(), ids=CONF.keys())
def test_conf(text: str, settings: dict[str, str]) -> None:
    assert parse_conf(text) == settings


ENVIRON = {
    "plain": ("ETCD_NAME=a\nETCDOPS_STARTED_WITH=0\n", {"ETCD_NAME": "a", "ETCDOPS_STARTED_WITH": "0"}),
    "quotes and blanks are part of a value": ('ETCD_A="x"\nETCD_B= y \n', {"ETCD_A": '"x"', "ETCD_B": " y "}),
    "equals signs": ("ETCD_A=a=b\n", {"ETCD_A": "a=b"}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize(("text", "running"), ENVIRON.values(), ids=ENVIRON.keys())
def test_environment(text: str, running: dict[str, str]) -> None:
    assert answer(f"text environ {b64(text)}").running == running


def test_the_view_comes_along() -> None:
    health = b64(json.dumps([{"health": False}]))
    facts = answer(
        f"answer health {health}", f"complaint health {b64('Error: no')}", f"answer certificate {b64('PEM')}"
    )
    assert (facts.view.healthy, facts.view.complaint, facts.view.certificate) == (False, "no", "PEM")


def test_answers_alone() -> None:
    assert parse_answers("answer\thealth\t" + b64('[{"health":true}]')).healthy is True
    assert parse_answers("").healthy is None


def test_text_that_is_not_utf8_stops_nothing() -> None:
    broken = base64.b64encode(b'A="\xff"\n').decode()
    assert answer(f"text {layout.CONF} {broken}").conf == {"A": "\N{REPLACEMENT CHARACTER}"}


def test_a_host_of_the_tests_is_like_one_that_answers() -> None:
    """``build.fresh`` must not drift away from what a host says."""
    real, built = recorded("fresh"), fresh()
    assert (built.paths, built.conf, built.releases, built.view) == (real.paths, real.conf, real.releases, real.view)
    assert built.room.keys() == real.room.keys()
