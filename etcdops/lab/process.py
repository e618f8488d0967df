"""Programs on this machine: one that runs to its end, and one left running that is found again later."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from etcdops.errors import OpsError

# The answers are read, so they must not be translated; a plain user's PATH lacks where `ip` is.
ENVIRONMENT = {
    **os.environ,
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin",
}


def run(argv: Sequence[str | Path], *, log: Path | None = None, seconds: float = 60) -> str:
    """The program's output; ``OpsError`` with its reason if it fails or takes longer than ``seconds``.

    With ``log`` everything it says goes to that file, which a failure names.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            umask=0o022,
            check=False,
        )
    except FileNotFoundError:
        raise OpsError(f"{words[0]}: no such program on this machine") from None
    except subprocess.TimeoutExpired:
        raise OpsError(f"{_short(words)}: did not finish in {seconds:g} s") from None
    if log:
        log.write_text(done.stdout + done.stderr)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        why = next((line for line in said if line.startswith("E: ")), said[-1] if said else "")  # E: is apt
        raise OpsError(
            f"{_short(words)}: {why or f'exit code {done.returncode}'}",
            hint=f"all that it said is in {log}" if log else "",
        )
    return done.stdout


def succeeds(argv: Sequence[str]) -> bool:
    """Whether the program exits with 0; what it says is thrown away."""
    try:
        run(argv)
    except OpsError:
        return False
    return True


def _short(words: Sequence[str]) -> str:
    text = shlex.join(words)
    return text if len(text) <= 100 else f"{text[:97]}..."


@dataclass(frozen=True)
class Process:
    """A running program that its number alone does not name: numbers are used again.

    ``started`` is the start in clock ticks since the boot called ``boot``, as in proc(5).
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def running(cls, pid: int) -> Process | None:
        """The process that has this number now; None when there is none, or only its remains."""
        try:
            # The name in parentheses may hold anything, so count from the last one.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else cls(pid, int(fields[19]), boot)

    @classmethod
    def saved(cls, path: Path) -> Process | None:
        """The process that ``path`` names, if it still runs."""
        try:
            process = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return process if process.alive() else None

    def save(self, path: Path) -> None:
        """Write what ``saved`` reads."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.running(self.pid) == self

    def children(self) -> list[Process]:
        """The processes that it started and that still run."""
        try:
            pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []
        found = [self.running(int(pid)) for pid in pids]
        return [child for child in found if child and self.alive()]

    def kill(self) -> None:
        """SIGKILL; nothing happens when it has ended, even if another process has its number by now."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)  # from here on the number cannot come to mean another one
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive():
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(seconds * 1000)
        finally:
            os.close(handle)
        return not self.alive()
