"""A client that writes to all endpoints in turn, and remembers each write that was acknowledged."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

from tests.hosts import Project

PREFIX = "/written/"


class Writer:
    """Writes on a thread of its own while the block runs; a write that failed is tried again elsewhere.

    ``fresh``: it shakes hands anew for each write, with what lies in pki.dir then.  With both ``schemes`` it is one
    that somebody moves from one to the other: where one gets no answer, it tries the other.
    """

    def __init__(self, project: Project, schemes: Sequence[str] = (), *, fresh: bool = False) -> None:
        self._pki = project.folder / "pki"
        self._hosts = project.hosts
        self._addresses = [member["address"] for member in project.config["members"]]
        self._fresh = fresh
        usual = "https" if project.config["cluster"]["tls"] else "http"
        self._schemes = {address: list(schemes or (usual,)) for address in self._addresses}  # the one that worked last
        self.spoken: Counter[str] = Counter()  # writes by each scheme
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.acknowledged: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def goes_on(self, writes: int = 5) -> None:
        """Wait until so many more have been acknowledged: the cluster serves."""
        seen = len(self.acknowledged)
        self._hosts.eventually(lambda: len(self.acknowledged) >= seen + writes)

    def lost(self, *, without: Collection[str] = ()) -> dict[str, set[str]]:
        """For each member but those at the addresses ``without``, the acknowledged writes that it does not have."""
        assert self.acknowledged
        start, end = PREFIX.encode(), PREFIX[:-1].encode() + b"0"
        body = {"key": b64(start), "range_end": b64(end), "keys_only": True}
        lost = {}
        for address in set(self._addresses) - set(without):
            for _ in self._schemes[address]:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    found = post(self._connect(address), "/v3/kv/range", body).get("kvs", ())
                    break
                self._schemes[address].reverse()
            else:
                raise AssertionError(f"{address} does not answer")
            lost[address] = set(self.acknowledged) - {base64.b64decode(each["key"]).decode() for each in found}
        return {address: keys for address, keys in lost.items() if keys}

    def _work(self) -> None:
        open_: dict[str, http.client.HTTPConnection] = {}
        number = 0
        while not self._stop.is_set():
            number += 1
            address, key = self._addresses[number % len(self._addresses)], f"{PREFIX}{number:06d}"
            try:
                connection = open_.get(address) or open_.setdefault(address, self._connect(address))
                post(connection, "/v3/kv/put", {"key": b64(key.encode()), "value": b64(b"x")})
                self.acknowledged.append(key)
                self.spoken[self._schemes[address][0]] += 1
                if self._fresh:
                    open_.pop(address).close()
                self._stop.wait(0.005)  # leave the processor to those who are tested
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                if address in open_:
                    open_.pop(address).close()
                self._schemes[address].reverse()
                self._stop.wait(0.02)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._pki / "ca.pem"))
        until = time.monotonic() + 1
        while True:
            try:
                context.load_cert_chain(self._pki / "client.pem", self._pki / "client-key.pem")
                return context
            except ssl.SSLError:  # of its two files, one is new already
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _connect(self, address: str) -> http.client.HTTPConnection:
        if self._schemes[address][0] == "http":
            return http.client.HTTPConnection(address, 2379, timeout=5)
        return http.client.HTTPSConnection(address, 2379, timeout=5, context=self._context())


def post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What etcd's gateway answers; ``HTTPException`` when that is no 200."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise http.client.HTTPException(text)
    found: dict[str, Any] = json.loads(text)
    return found


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
