"""A program of this machine, run to its end."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from etcdops.errors import OpsError

# The answers are read, so they must not be translated; a plain user's PATH lacks where `ip` is.
ENVIRONMENT = {
    **os.environ,
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin",
}
GRACE = 10  # seconds; apt-get must be able to leave dpkg's database in order


def run(argv: Sequence[str | Path], *, log: Path | None = None, seconds: float = 60) -> str:
    """The program's output; ``OpsError`` with its reason if it fails or takes longer than ``seconds``.

    With ``log`` everything it says goes to that file, which a failure names.  Whatever interrupts us,
    neither it nor its children outlive this call.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            umask=0o022,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise OpsError(f"{words[0]}: no such program on this machine") from None
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise OpsError(f"{_short(words)}: did not finish in {seconds:g} s") from None
    except BaseException:
        _end(process)
        raise
    if log:
        log.write_text(out + err)
    if process.returncode:
        said = (err.strip() or out.strip()).splitlines()
        why = next((line for line in said if line.startswith("E: ")), said[-1] if said else "")  # E: is apt
        raise OpsError(
            f"{_short(words)}: {why or f'exit code {process.returncode}'}",
            hint=f"all that it said is in {log}" if log else "",
        )
    return out


def succeeds(argv: Sequence[str]) -> bool:
    """Whether the program exits with 0; what it says is thrown away."""
    try:
        run(argv)
    except OpsError:
        return False
    return True


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and all that it started: politely first, and for certain then."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=GRACE)


def _short(words: Sequence[str]) -> str:
    text = shlex.join(words)
    return text if len(text) <= 100 else f"{text[:97]}..."
