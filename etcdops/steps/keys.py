"""keys, get, put, del and etcdctl: the guide's common commands, with endpoints and certificates filled in."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from etcdops import layout
from etcdops.credentials import Credentials
from etcdops.errors import HostError, HostsFailed, OpsError, Unreachable, UsageError
from etcdops.run import Run
from etcdops.ssh import Completed, Host

SCRIPT = f"""command -v etcdctl >/dev/null || {{ echo 'Error: nothing is deployed here; inv deploy' >&2; exit 127; }}
{layout.script("client")}
exec etcdctl $SECURE "$@"
"""
# Those that take what they need from standard input, where it is not among their words.
READS = {"put", "txn", "user", "watch"}
# What etcd, etcdctl or SSH say when nobody knows whether a write came through.
UNSURE = ("timed out", "deadline exceeded", "leader changed", "connection was lost", "took longer than", "no answer")
DAY = 86400.0  # seconds
CHUNK = 1 << 16  # bytes


def keys(run: Run, prefix: str, limit: int) -> None:
    """The names of keys below ``prefix``; all of them when it is empty."""
    words = ["get", "--prefix", "--keys-only", "--write-out=json", f"--limit={limit}", "--", prefix]
    found = _json(run, words)
    names = [_text(each["key"]) for each in found.get("kvs", ())]
    run.emit({"keys": names, "count": found.get("count", 0)}, lambda: _lines(run, names))
    if found.get("more") and not run.json:
        run.ui.warn(f"{found['count'] - len(names)} more; --limit=0 shows all")


def get(run: Run, key: str) -> None:
    """The value of one key, byte for byte."""
    found = _json(run, ["get", "--write-out=json", "--", key]).get("kvs", ())
    if not found:
        raise OpsError(f"there is no key {key}", hint="inv keys")
    value = found[0]
    if run.json:
        revisions = {name: value[name] for name in ("create_revision", "mod_revision", "version")}
        run.ui.json({"key": key, "value": _text(value.get("value", "")), **revisions})
        return
    raw = base64.b64decode(value.get("value", ""))
    sys.stdout.buffer.write(raw if not sys.stdout.isatty() or raw.endswith(b"\n") else raw + b"\n")
    sys.stdout.flush()


def put(run: Run, key: str, value: str) -> None:
    """Set a key; ``-`` takes the value from standard input.  It travels there, too: no ``ps`` shows it."""
    content = sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape")
    words = [key] if content else [key, ""]  # etcdctl takes an empty standard input for no value at all
    revision = _write(run, key, ["put", "--write-out=json", "--", *words], content)["header"]["revision"]
    run.emit({"key": key, "revision": revision}, lambda: run.ui.result(f"{key} set at revision {revision}"))


def delete(run: Run, key: str) -> None:
    """Delete one key."""
    deleted = _write(run, key, ["del", "--write-out=json", "--", key]).get("deleted", 0)
    run.emit({"key": key, "deleted": deleted}, lambda: run.ui.result(f"{deleted} deleted"))


def etcdctl(run: Run) -> int:
    """Any etcdctl command; its output and its exit code are passed through."""
    if not run.words:
        raise UsageError("no command for etcdctl", hint="write it after two dashes: inv etcdctl -- member list")
    # As it comes, so that `watch` can be watched; and for as long as it takes.
    relay = (_writer(sys.stdout.buffer), _writer(sys.stderr.buffer))
    reads = not READS.isdisjoint(run.words) and not sys.stdin.isatty()
    stdin = _chunks(sys.stdin.buffer) if reads else b""
    return _ask(run, list(run.words), stdin, relay=relay, timeout=DAY).rc


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """As they come: who writes there may wait for an answer, or never come to an end."""
    while chunk := os.read(stream.fileno(), CHUNK):
        yield chunk


def _writer(stream: BinaryIO) -> Callable[[bytes], None]:
    def write(chunk: bytes) -> None:
        stream.write(chunk)
        stream.flush()

    return write


def endpoints(run: Run) -> str:
    """etcdctl's flag for reaching the whole cluster from one of its hosts."""
    scheme = "https" if run.config.cluster.tls else "http"
    return f"--endpoints={','.join(member.url(scheme, layout.CLIENT_PORT) for member in run.config.members)}"


def _ask(run: Run, words: list[str], stdin: bytes | Iterable[bytes] = b"", **how: Any) -> Completed:
    """Run etcdctl on the first host that can be reached; the endpoints are those of the whole cluster.

    Once it has begun on one host it is never begun on another: half-done, it may have changed something.
    """
    given = {word.partition("=")[0] for word in words}
    own = [] if "--endpoints" in given else [endpoints(run)]
    who = Credentials() if "--user" in given else run.credentials

    def work(host: Host) -> Completed:
        return host.run(SCRIPT, *own, *words, stdin=who.before(stdin), check=False, **how)

    failed: list[OpsError] = []
    for name in run.names:
        reached = run.fleet.map(lambda host: host.run(":"), [name])[name]
        if isinstance(reached, Completed):
            return run.fleet.all(work, [name])[name]
        failed.append(reached)
    raise HostsFailed(failed)


def _write(run: Run, key: str, words: list[str], stdin: bytes = b"") -> dict[str, Any]:
    """``_json`` for a change: where it is not known whether it was made, the error says so."""
    try:
        return _json(run, words, stdin)
    except OpsError as error:
        failed = error.errors[-1] if isinstance(error, HostsFailed) else error
        if isinstance(failed, Unreachable) or not any(said in failed.message for said in UNSURE):
            raise
        kind = HostError if isinstance(error, HostsFailed) else OpsError
        raise kind(
            f"{failed.message}; the {words[0]} may or may not have happened",
            host=failed.host,
            hint=f"inv get {shlex.quote(key)} tells",
        ) from None


def _json(run: Run, words: list[str], stdin: bytes = b"") -> dict[str, Any]:
    done = _ask(run, words, stdin)
    try:
        value = json.loads(done.stdout)
    except ValueError:
        value = None
    if done.rc != 0 or not isinstance(value, dict):
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
        message = lines[-1].removeprefix("Error: ") if lines else f"etcdctl ended with {done.rc}"
        if denied := run.credentials.refusal(message):
            raise denied
        raise OpsError(message, hint="" if done.rc == 127 else "inv status")
    return value


def _text(value: str) -> str:
    """A key or value that etcdctl gives in base64; bytes that are no text show as \\x.."""
    return base64.b64decode(value).decode("utf-8", "backslashreplace")


def _lines(run: Run, names: list[str]) -> None:
    for name in names:
        run.ui.result(name)
