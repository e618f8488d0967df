"""Clients that write through every member at once, and know which of their writes must still be there.

Each write remembers the cluster and the revision that etcd acknowledged it with.  A restore begins another cluster, and
says which revision of which one it goes on from: so what it must have kept, and what it must have taken back, is exact.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import http.client
import itertools
import json
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hosts import Project
from tests.lab.writer import b64, post

PREFIX = "/clients/"
ALL = 1 << 63  # a revision that none comes up to
PAGE = 20_000  # keys of one answer
PATIENCE = 3.0  # seconds that a client waits for an answer before it tries again


@dataclass(frozen=True)
class Write:
    """One that was acknowledged: ``at`` by the clock of this machine, in seconds."""

    key: str
    at: float
    cluster: str
    revision: int


@dataclass(frozen=True)
class Origin:
    """What a restored cluster began with: all of ``cluster`` up to ``revision``."""

    cluster: str
    revision: int


def kept(writes: Sequence[Write], cluster: str, origins: Mapping[str, Origin]) -> set[str]:
    """The keys that ``cluster`` must have: its own, and its forebears' up to where each restore began."""
    found: set[str] = set()
    last = None
    while cluster:
        found |= {each.key for each in writes if each.cluster == cluster and (last is None or each.revision <= last)}
        origin = origins.get(cluster)
        cluster, last = (origin.cluster, origin.revision) if origin else ("", None)
    return found


def longest(times: Sequence[float], since: float, until: float) -> float:
    """The longest wait for an acknowledgement between two moments; ``times`` are in order."""
    inner = times[bisect.bisect_left(times, since) : bisect.bisect_right(times, until)]
    moments = [since, *inner, until]
    return max(after - before for before, after in itertools.pairwise(moments))


class Clients:
    """One client for each host, member or not, which writes there while the block runs."""

    def __init__(self, project: Project, addresses: Mapping[str, str], *, pause: float = 0.05) -> None:
        self._project = project
        self._addresses = dict(addresses)
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=each, daemon=True) for each in addresses.items()]
        self._origins: dict[str, Origin] = {}
        self.writes: list[Write] = []  # an append is atomic, so this is in the order of ``at`` but for a hair

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def times(self) -> list[float]:
        """When something was acknowledged."""
        return sorted(each.at for each in list(self.writes))

    def go_on(self, count: int = 5) -> None:
        """Wait until so many more writes are acknowledged: the cluster serves."""
        seen = len(self.writes)
        self._project.hosts.eventually(lambda: len(self.writes) >= seen + count)

    def restored(self, cluster: str, origin: Origin) -> None:
        """``cluster`` is one that a restore has begun."""
        self._origins[cluster] = origin

    def lost(self) -> dict[str, list[str]]:
        """For each member of config.yaml what is wrong with its keys: lost ones, and ones that a restore took back."""
        found = {}
        for name in [each["name"] for each in self._project.config["members"]]:
            before = list(self.writes)  # what is acknowledged while we read need not be in what we read
            cluster, there = self._read(self._addresses[name])
            wanted = kept(before, cluster, self._origins)
            back = {each.key for each in before} - wanted
            found[name] = [*sorted(wanted - there), *(f"{key}, which was taken back" for key in sorted(back & there))]
        return {name: keys for name, keys in found.items() if keys}

    def _read(self, address: str) -> tuple[str, set[str]]:
        start, end, keys = PREFIX, PREFIX[:-1] + "0", set[str]()
        connection = self._connect(address, 20)
        with contextlib.closing(connection):
            while True:
                body = {"key": b64(start.encode()), "range_end": b64(end.encode()), "keys_only": True, "limit": PAGE}
                answer = post(connection, "/v3/kv/range", body)
                page = [_text(each["key"]) for each in answer.get("kvs", ())]
                keys |= set(page)
                if not answer.get("more"):
                    return answer["header"]["cluster_id"], keys
                start = page[-1] + "\0"

    def _work(self, name: str, address: str) -> None:
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"{PREFIX}{name}/{number:07d}"
            try:
                connection = connection or self._connect(address, PATIENCE)
                header = post(connection, "/v3/kv/put", {"key": b64(key.encode()), "value": b64(b"x")})["header"]
                self.writes.append(Write(key, time.monotonic(), header["cluster_id"], int(header["revision"])))
                self._stop.wait(self._pause)  # leave the processor to those who are tested
            except (OSError, http.client.HTTPException, ValueError):
                if connection:
                    connection.close()
                connection = None
                self._stop.wait(4 * self._pause)  # many fail while a host is away, and each takes the processor's time

    def _connect(self, address: str, timeout: float) -> http.client.HTTPConnection:
        """By what config.yaml and pki say now: both may change meanwhile."""
        config = json.loads((self._project.folder / "config.yaml").read_text())
        if not config["cluster"]["tls"]:
            return http.client.HTTPConnection(address, 2379, timeout=timeout)
        return http.client.HTTPSConnection(
            address, 2379, timeout=timeout, context=trusting(self._project.folder / "pki")
        )


def trusting(pki: Path) -> ssl.SSLContext:
    """Who the operator is, and whom it trusts."""
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / "client.pem", pki / "client-key.pem")
    return context


def _text(value: str) -> str:
    return base64.b64decode(value).decode()
