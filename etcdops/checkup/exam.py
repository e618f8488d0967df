"""Examine one host: its facts, what its ports show to a client, its figures, and whom it reaches.

One script, and on the same connection a look at each port of etcd: a certificate on the disk need not be the one that
is served, and a host has no program of which one could be sure that it speaks HTTP or TLS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from etcdops import layout, report, transport
from etcdops.checkup import metrics
from etcdops.checkup.metrics import Metrics
from etcdops.config import Config, Member
from etcdops.credentials import Denied
from etcdops.errors import HostError
from etcdops.facts import HostFacts, ask
from etcdops.handshake import Served, look, stream, words
from etcdops.ssh import Host, Stream
from etcdops.transport import HTTPS

PATIENCE = 2  # seconds until a port that says nothing counts as one that a firewall drops
LARGEST = 16 << 20  # bytes of metrics
PORTS = (layout.CLIENT_PORT, layout.PEER_PORT)
ON_DISK = {layout.CLIENT_PORT: layout.SERVER, layout.PEER_PORT: layout.PEER}


@dataclass(frozen=True)
class Reach:
    """What became of a try to connect: ``open``, ``refused`` (nobody listens: the way is free), ``blocked``, or
    ``unseen`` where the host has no means to try.  ``why`` is the system's own word."""

    state: str
    why: str = ""


@dataclass(frozen=True)
class Exam:
    """``pairs``: the certificates on the disk, by their path.  ``served``, by port, and ``metrics``: of a process that
    runs; ``unseen`` says why there are no metrics.  ``denied``: why etcd does not let us in.  ``reach``: other members'
    ports, by name and port; ``syncs``: seconds that single writes took to be on the disk for good."""

    facts: HostFacts
    hostname: str = ""
    account: str = ""
    filesystem: str = ""
    restarts: int = 0
    pairs: Mapping[str, str] = field(default_factory=dict)
    served: Mapping[int, Served] = field(default_factory=dict)
    metrics: Metrics | None = None
    unseen: str = ""
    denied: Denied | None = None
    reach: Mapping[tuple[str, int], Reach] = field(default_factory=dict)
    syncs: tuple[float, ...] = ()


def examine(host: Host, config: Config, also: tuple[str, ...]) -> Exam:
    """Everything about one member's host; ``also``: files/disk.sh, files/schedule.sh."""
    member = config.member(host.name)
    answer = ask(host, also=("exam", *also), head=_targets(config, member))
    exam = replace(parse(answer.text, answer.facts), denied=host.credentials.refusal(answer.facts.view.complaint))
    if not exam.facts.is_running:
        return exam
    figures, unseen = _figures(host, exam.facts, time.time() + exam.facts.clock[1])
    served = _ports(host, config, member, exam.facts)
    return replace(exam, metrics=figures, unseen=unseen, served=served)


def parse(text: str, facts: HostFacts) -> Exam:
    """What files/exam.sh and files/disk.sh said."""
    rows = report.rows(text)
    single = {row[0]: row[1] for row in rows if len(row) == 2}
    return Exam(
        facts,
        hostname=single.get("hostname", ""),
        account=single.get("account", ""),
        filesystem=single.get("filesystem", ""),
        restarts=int(single.get("restarts") or 0),
        pairs=report.texts(rows, "certificate"),
        reach={(row[1], int(row[2])): _reach(int(row[3]), row[4]) for row in rows if row[0] == "reach"},
        syncs=tuple(float(row[1]) for row in rows if row[0] == "sync"),
    )


def _targets(config: Config, member: Member) -> str:
    """Whom the host tries to reach; names and addresses are checked by ``config`` and hold nothing odd."""
    lines = [f"{each.name} {each.address} {port}" for each in config.members if each != member for port in PORTS]
    return f"PATIENCE={PATIENCE} TARGETS='{chr(10).join(lines)}'"


def _reach(code: int, said: str) -> Reach:
    why = said.rpartition(": ")[2]
    if code == 0:
        return Reach("open")
    if code == 124:
        return Reach("blocked", f"no answer within {PATIENCE} s")
    if why == "Connection refused":
        return Reach("refused", why)
    return Reach("blocked", why) if "unreachable" in why.lower() or "No route" in why else Reach("unseen", why)


def _figures(host: Host, facts: HostFacts, now: float) -> tuple[Metrics | None, str]:
    """From where the process was told to serve them without TLS; else why there are none."""
    urls = facts.running.get("ETCD_LISTEN_METRICS_URLS", "").split(",")
    plain = next((urlsplit(url) for url in urls if url.startswith("http:")), None)
    if plain is None or plain.hostname is None:
        return None, "etcd has no listen-metrics-urls with http"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain.hostname, plain.hostname)  # noqa: S104
    try:
        with stream(host, address, plain.port or layout.CLIENT_PORT) as opened:
            opened.sendall(f"GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            head, _, body = _all(opened).partition(b"\r\n\r\n")
    except (HostError, OSError) as error:
        return None, words(error)
    said = head.decode(errors="replace").partition("\r\n")[0]
    if " 200 " not in said:
        return None, f"{plain.geturl()}/metrics answers {said or 'nothing'}"
    return metrics.parse(body.decode(errors="replace"), now), ""


def _ports(host: Host, config: Config, member: Member, facts: HostFacts) -> dict[int, Served]:
    """What each port with TLS shows to one who comes with the operator's, or the member's own, certificate."""
    folder, stage = config.resolve(config.pki.dir), transport.kept(facts, config.cluster.tls)
    pairs = {layout.CLIENT_PORT: folder / "client"} if HTTPS in stage.clients else {}
    if stage.peers == HTTPS:
        pairs[layout.PEER_PORT] = folder / "members" / member.name / "peer"
    return {port: look(host, member.address, port, stem) for port, stem in pairs.items()}


def _all(opened: Stream) -> bytes:
    got = b""
    while (chunk := opened.recv(65536)) and len(got) < LARGEST:
        got += chunk
    return got
