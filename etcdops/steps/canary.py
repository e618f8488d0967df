"""--canary: a client that writes through the cluster while a run changes it, and tells what clients noticed.

It is etcdctl in a loop on one of the hosts, over the endpoints of all members, so that it needs nothing but SSH: no
port that is forwarded, no way from here to etcd, no gateway.  A start of etcdctl costs 15 ms of processor time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from etcdops import layout
from etcdops.canary import Report, Write
from etcdops.errors import OpsError, Refused, Unhealthy
from etcdops.run import Run

PREFIX = "/etcdops/canary/"
PAUSE = 0.05  # seconds between two writes: with etcdctl's start about ten a second
BEGIN = 12.0  # seconds within which the first write must have come through
END = 30.0  # seconds that the last write and the clearing up may take
DAY = 86400.0  # seconds


class Canary:
    """Writes on one host after the other, as long as they answer, until it is stopped."""

    def __init__(self, run: Run, schemes: tuple[str, str] | None = None) -> None:
        self._run = run
        self._schemes = schemes
        self._over = threading.Event()  # to the second of them
        self._stop = threading.Event()
        self._first = threading.Event()
        self._lock = threading.Lock()
        self._flights: list[list[Write]] = []  # one for each host that it was begun on
        self._lost = 0
        self._blind = 0.0  # seconds in which no host wrote
        self._heard = 0.0  # when the last acknowledgement came, or a host began, by the clock of this machine
        self._aloft = False  # whether the host that writes has been heard of
        self._trouble = ""
        self._thread = threading.Thread(target=self._fly, name="canary", daemon=True)

    def start(self) -> None:
        """``Refused`` unless a write comes through."""
        self._thread.start()
        if not self._first.wait(BEGIN):
            self.stop()
            raise Refused(
                f"no member was restarted: the canary cannot write ({self._trouble or 'no answer'})",
                hint=f"inv status; without watching writes: --no-canary; then {self._run.command}",
            )

    def check(self) -> None:
        """``Unhealthy`` when writes had to wait for longer than allowed."""
        found = self.report(silence=time.monotonic() - self._heard if self._aloft else 0.0)
        if found.gap > self._run.max_gap:
            raise Unhealthy(
                f"stopped, for writes waited {found.gap:.1f} s ({found}), and --max-gap is {self._run.max_gap:g} s",
                hint=f"find out why (inv status, the members' journals); then {self._run.command}",
            )

    def stop(self) -> None:
        """Let it come to its end; its key is deleted then."""
        self._stop.set()
        self._thread.join(END)

    def change_over(self) -> None:
        """Go over to the second of its schemes, which all members speak by now; as an operator's clients do."""
        self._over.set()

    def report(self, silence: float = 0.0) -> Report:
        """What it has noticed so far; ``silence``: the seconds since it was last heard of."""
        with self._lock:
            flights = [list(each) for each in self._flights]
        return Report.of(flights, silence=silence, lost=self._lost, blind=self._blind)

    def _fly(self) -> None:
        script = layout.script("client", "canary")
        usual = "https" if self._run.config.cluster.tls else "http"
        now, later = (self._endpoints(each) for each in self._schemes or (usual, usual))
        keys: list[str] = []  # of hosts that were lost
        while not self._stop.is_set():
            for name in self._run.names:
                flight = Flight(self)
                self._aloft = False
                key = f"{PREFIX}{secrets.token_hex(8)}"
                try:
                    self._run.fleet[name].client(
                        script,
                        later if self._over.is_set() else now,
                        key,
                        str(PAUSE),
                        later,
                        *keys[-10:],
                        stdin=self._until_stopped(),
                        relay=(flight.take, flight.complain),
                        timeout=DAY,
                        check=False,
                    )
                except OpsError as error:
                    self._trouble = str(error)
                keys.append(key)
                if self._stop.wait(PAUSE):
                    return

    def _endpoints(self, scheme: str) -> str:
        return ",".join(each.url(scheme, layout.CLIENT_PORT) for each in self._run.config.members)

    def _until_stopped(self) -> Iterator[bytes]:
        told = False
        while not self._stop.wait(0.2):
            due = self._over.is_set() and not told
            told = told or due
            yield b"over\n" if due else b""

    def note(self, write: Write, flight: list[Write]) -> None:
        """A write came to its end."""
        now = time.monotonic()
        with self._lock:
            if not flight:
                self._blind += max(0.0, now - write.took - self._heard) if self._flights else 0.0
                self._flights.append(flight)
            flight.append(write)
            if write.acknowledged:
                self._heard = now
            self._aloft = True
        if write.acknowledged:
            self._first.set()
        elif write.why:
            self._trouble = write.why

    def count(self, acknowledged: int, known: int) -> None:
        """How many writes were acknowledged, and of how many the cluster knows.

        It may know of some that nobody acknowledged, or of one more than once, so that at least the difference is lost.
        """
        self._lost += max(0, acknowledged - known)


class Flight:
    """The lines of one canary.sh."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._rest = b""
        self._writes: list[Write] = []

    def take(self, chunk: bytes) -> None:
        """What it has written to its standard output."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if write := Write.parse(text):
                self._canary.note(write, self._writes)
            elif text.startswith("version\t"):
                acknowledged = sum(each.acknowledged for each in self._writes)
                self._canary.count(acknowledged, int(text.removeprefix("version\t") or 0))

    def complain(self, chunk: bytes) -> None:
        """What it has written to its standard error: nothing that counts."""


@contextmanager
def alongside(run: Run, schemes: tuple[str, str] | None = None) -> Iterator[Canary | None]:
    """A canary while the block runs, where one is wanted; the run's safe points look after it.

    Its report is told at the end, whatever the end is.  ``schemes``: what it speaks, and what after a change-over; else
    what config.yaml says.
    """
    if not run.max_gap or run.dry_run:
        yield None
        return
    canary = Canary(run, schemes)
    canary.start()
    before, run.safe_point = run.safe_point, canary.check
    try:
        yield canary
    finally:
        run.safe_point = before
        canary.stop()
        run.ui.line(f"canary: {canary.report()}")
    if lost := canary.report().lost:
        raise Unhealthy(
            f"the cluster knows nothing of at least {lost} writes that it has acknowledged", hint="inv check-data"
        )
