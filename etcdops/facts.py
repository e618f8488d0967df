"""Gather: what is true on a host, asked in one round trip and parsed into ``HostFacts``.

The shell half is files/host.sh and files/etcd.sh; their answer is one ``KEY<tab>VALUE`` a line.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from etcdops import layout, report
from etcdops.etcd import View, parse_view
from etcdops.ssh import Host, again

LAST = 'put ended "$(date +%s.%N)"'  # with the time at the start, it bounds the host's clock from both sides
WAIT = 4  # seconds that etcd may take for one answer; a member without quorum takes them all

MANAGED_PATHS = (
    layout.CONF_DIR, layout.CONF, layout.IDENTITY, layout.SSL_DIR, layout.CLIENT_CA, layout.PEER_CA, layout.TRUST,
    layout.SERVER, layout.SERVER_KEY, layout.CLIENT, layout.CLIENT_KEY, layout.PEER, layout.PEER_KEY, layout.UNIT,
    layout.STATE_DIR, layout.RELEASES, layout.CURRENT,
    *(f"{layout.BIN_DIR}/{program}" for program in layout.PROGRAMS),
)  # fmt: skip


TRUST = {layout.CLIENT_CA: "ETCDOPS_CLIENT_CA", layout.PEER_CA: "ETCDOPS_PEER_CA"}  # variables of layout.TRUST


@dataclass(frozen=True)
class PathFact:
    """One managed path: ``kind`` is file, directory or link (else what stat calls it)."""

    kind: str
    mode: int
    owner: str
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True)
class UnitFact:
    """etcd.service as systemd knows it."""

    active: str = "inactive"
    enabled: str = ""
    fragment: str = ""
    needs_reload: bool = False
    pid: int = 0


@dataclass(frozen=True)
class Listener:
    """A socket that listens on one of etcd's ports; ``pid`` is 0 where its owner cannot be told."""

    port: int
    pid: int
    program: str


@dataclass(frozen=True)
class HostFacts:
    """What one host says of itself.

    ``clock`` is its lead over the controller: at least, at most, in seconds.  ``data`` is what the data directory
    holds: nothing, ``wal`` (a member's data), ``unfinished`` (a first start that was cut short: etcd itself goes on
    from there, seen on 3.4 to 3.7) or ``files`` (anything else).  ``room`` is what is free for a path, in bytes.
    """

    name: str
    machine: str
    boot_id: str
    systemd: int
    has_user: bool
    clock: tuple[float, float]
    paths: Mapping[str, PathFact]
    conf: Mapping[str, str]
    identity: Mapping[str, Any]
    trust: Mapping[str, str]
    releases: Mapping[str, str]
    unit: UnitFact
    adopted: Mapping[str, str] = field(default_factory=dict)  # how it runs until deploy takes it over: ``adoption``
    running: Mapping[str, str] = field(default_factory=dict)
    executable: str = ""
    data: str = ""
    barred: str = ""  # the restore that was cut short here, and until whose end no etcd starts
    mounted: bool = False  # the data directory is a mount point, and so cannot be renamed
    room: Mapping[str, int] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()
    listeners: tuple[Listener, ...] = ()
    view: View = field(default_factory=View)

    @property
    def running_version(self) -> str:
        """The version of the running process, '' when none runs or it was installed by someone else."""
        match = re.fullmatch(re.escape(layout.RELEASES) + r"/([^/]+)/etcd(?: \(deleted\))?", self.executable)
        return match[1] if match else self.adopted.get("VERSION", "")

    @property
    def token(self) -> str:
        """The token of the incarnation that the host was set up for, '' when none is known."""
        told = self.adopted.get("TOKEN", "") or self.conf.get("ETCD_INITIAL_CLUSTER_TOKEN", "")
        return told or str(self.identity.get("token", ""))

    @property
    def is_ours(self) -> bool:
        """Whether the running process was set up by this project."""
        return "ETCDOPS_STARTED_WITH" in self.running

    def loaded(self, path: str) -> frozenset[str]:
        """The fingerprints of the CAs that the process has read from ``path``, which it does at its start only;
        where none runs, or one that does not tell, of those that stand there."""
        told = self.running.get(TRUST[path])
        return fingerprints(self.trust.get(path, "")) if told is None else frozenset(told.split(","))

    @property
    def digest(self) -> str:
        """The same, as long as nothing that is decided from changes here but for what moves by itself."""
        moving = {"clock", "room", "view", "listeners", "addresses"}
        still = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in moving}
        still |= {"addresses": sorted(self.addresses), "members": self.view.members}
        return hashlib.sha256(repr(still).encode()).hexdigest()[:16]

    @property
    def is_running(self) -> bool:
        """Whether an etcd process lives, ready or not."""
        return self.unit.pid != 0

    @property
    def has_data(self) -> bool:
        """Whether the data directory holds a write-ahead log: this member has started at least once."""
        return self.data == "wal"


def gather(host: Host, *paths: str, also: tuple[str, ...] = ()) -> HostFacts:
    """Everything a decision needs about one host, in one round trip; with ``paths`` and the scripts ``also`` more.

    ``Denied`` if the etcd there does not let us in.
    """
    facts = ask(host, *paths, also=also).facts
    host.saw(facts.digest)
    if denied := host.credentials.refusal(facts.view.complaint):
        raise denied
    return facts


@dataclass(frozen=True)
class Answer:
    """What the scripts said: all of it, and the facts in it."""

    text: str
    facts: HostFacts


def ask(host: Host, *paths: str, also: tuple[str, ...] = (), head: str = "") -> Answer:
    """``gather``, for the one who reads what the scripts ``also`` say by himself, and whether we were let in; ``head``
    sets variables for them."""
    queries = f"QUERIES='health status members' WAIT={WAIT}"
    script = "\n".join((queries, head, layout.script("prelude", "host", *also, "client", "etcd"), LAST))
    host.open()  # its clock is known as closely as one command takes
    before = time.time()
    done = again(lambda: host.client(script, layout.DATA_DIR, *MANAGED_PATHS, *paths))
    return Answer(done.stdout, parse(host.name, done.stdout, asked=before, answered=time.time()))


def parse(name: str, text: str, *, asked: float, answered: float) -> HostFacts:
    """The answer of the scripts as facts; ``asked`` and ``answered`` are the controller's clock around it."""
    rows = report.rows(text)
    single = {row[0]: row[1] for row in rows if len(row) == 2}
    told = report.texts(rows, "text")
    unit = {row[1]: row[2] for row in rows if row[0] == "unit"}
    began = float(single["time"])
    ended = float(single.get("ended") or began)
    adopted = parse_conf(told.get(layout.ADOPTED, ""))
    return HostFacts(
        name=name,
        machine=single["machine"],
        boot_id=single["boot_id"],
        systemd=int(single["systemd"] or 0),
        has_user=bool(single["user"]),
        clock=(ended - answered, began - asked),
        paths=_paths(rows),
        conf=parse_conf(told.get(layout.CONF, "")),
        identity=_identity(told.get(layout.IDENTITY, "")) or _adopted_identity(adopted),
        trust={path: told[path] for path in (layout.CLIENT_CA, layout.PEER_CA) if path in told},
        releases={row[1].split("/")[-2]: row[2] for row in rows if row[0] == "release"},
        unit=UnitFact(
            active=unit.get("ActiveState", "inactive"),
            enabled="" if adopted else unit.get("UnitFileState", ""),  # the unit that will be is not, yet
            fragment=unit.get("FragmentPath", ""),
            needs_reload=unit.get("NeedDaemonReload") == "yes",
            pid=int(unit.get("MainPID") or 0),
        ),
        adopted=adopted,
        running=_environment(told.get("environ", "")),
        executable=single.get("exe", ""),
        data=single.get("data", ""),
        barred=single.get("restoring", ""),
        mounted="mounted" in single,
        room={row[1]: _room(row[2]) for row in rows if row[0] == "room"},
        addresses=frozenset(_addresses(told.get("/proc/net/fib_trie", ""), told.get("/proc/net/if_inet6", ""))),
        listeners=tuple(_listeners(rows)),
        view=_view(rows),
    )


def parse_answers(text: str) -> View:
    """The answer of files/etcd.sh alone."""
    return _view(report.rows(text))


def parse_conf(text: str) -> dict[str, str]:
    """NAME=VALUE lines of an EnvironmentFile, unquoted as systemd does it."""
    settings = {}
    for line in text.split("\n"):  # splitlines() would part a value at characters that are none to systemd
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = re.sub(r'\\([\\"$`])', r"\1", value[1:-1])
        settings[name] = value
    return settings


def fingerprints(bundle: str) -> frozenset[str]:
    """The certificates of a PEM bundle, whatever stands around them, each by a short digest of its own."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", bundle, re.DOTALL)
    return frozenset(hashlib.sha256("".join(block.split()).encode()).hexdigest()[:16] for block in blocks)


def _environment(text: str) -> dict[str, str]:
    """NAME=VALUE lines of a process's environment, where a quote or a blank is part of the value."""
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


def _view(rows: list[list[str]]) -> View:
    view = parse_view(report.texts(rows, "answer"), report.texts(rows, "complaint"))
    return replace(view, unsettled=next((row[1] for row in rows if row[0] == "unsettled"), ""))


def _identity(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _adopted_identity(adopted: Mapping[str, str]) -> dict[str, str]:
    """Who an adopted member is: the same as an identity.json, which it gets when it is taken over."""
    names = ("CLUSTER", "TOKEN", "CLUSTER_ID", "NAME", "MEMBER_ID")
    return {name.lower(): adopted[name] for name in names} if all(name in adopted for name in names) else {}


def _paths(rows: list[list[str]]) -> dict[str, PathFact]:
    sums = {row[2]: row[1] for row in rows if row[0] == "sha256"}
    kinds = {"regular file": "file", "regular empty file": "file", "symbolic link": "link"}
    paths = {}
    for _, name, kind, mode, owner in (row for row in rows if row[0] == "stat"):
        path, _, target = name.partition(" -> ")
        digest = "" if target else sums.get(path, "")
        paths[path] = PathFact(kinds.get(kind, kind), int(mode, 8), owner, digest, target)
    return paths


def _room(value: str) -> int:
    blocks, size = value.split()
    return int(blocks) * int(size)


def _addresses(fib_trie: str, if_inet6: str) -> Iterator[str]:
    """Local addresses: `/32 host LOCAL` leaves of the routing trie, and the first column of if_inet6."""
    leaf = ""
    for line in fib_trie.splitlines():
        if "|--" in line:
            leaf = line.split()[-1]
        elif line.strip() == "/32 host LOCAL":
            yield leaf
    for line in if_inet6.splitlines():
        yield str(ipaddress.ip_address(int(line.split()[0], 16).to_bytes(16, "big")))


def _listeners(rows: list[list[str]]) -> Iterator[Listener]:
    for row in rows:
        if row[0] == "listen":
            _, socket, pid, *program = row  # a program may call itself anything, tabs included
            yield Listener(int(socket.rpartition(":")[2], 16), int(pid or 0), " ".join(program))
