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
from etcdops.etcd import reason
from etcdops.run import Run
from etcdops.ssh import Completed, Host

# client.sh first: it says where the etcdctl of a host is that was adopted.
SCRIPT = f"""{layout.script("client")}
command -v etcdctl >/dev/null || {{ echo 'Error: nothing is deployed here; inv deploy' >&2; exit 127; }}
exec etcdctl $SECURE "$@"
"""
# Whether the member of a host can commit: one that is cut off from the others would hold a write up for ever.
COMMITS = f"{layout.script('client')}\nclient --command-timeout=2s endpoint health >/dev/null 2>&1"
# Those that take what they need from standard input, where it is not among their words.
READS = {"put", "txn", "user", "watch"}
# What etcd, etcdctl or SSH say when nobody knows whether a write came through.
UNSURE = ("timed out", "deadline exceeded", "leader changed", "connection was lost", "took longer than", "no answer")
DAY = 86400.0  # seconds
CHUNK = 1 << 16  # bytes


def keys(run: Run, prefix: str, limit: int, after: str = "", *, in_hex: bool = False) -> None:
    """The names of keys below ``prefix`` (all of them when it is empty), from the first that follows ``after``."""
    if limit < 0:
        raise UsageError("--limit is a number of keys; 0: all")
    first, last = _range(_key(prefix, in_hex), _key(after, in_hex))
    found = _ask_for(run, "get", ["--keys-only", f"--limit={limit}"], first, last)
    names = [base64.b64decode(each["key"]) for each in found.get("kvs", ())]
    count = found.get("count", 0)
    document = {"keys": [_text(name, in_hex) for name in names], "count": count}
    run.emit(document, lambda: _lines(run, [_shown(name, in_hex) for name in names]))
    if found.get("more") and not run.json:
        go_on = shlex.quote(f"--after={_text(names[-1], in_hex)}")
        run.ui.warn(f"{count - len(names)} more; --limit=0 shows all, {go_on} the next ones")


def get(run: Run, key: str, *, in_hex: bool = False) -> None:
    """The value of one key, byte for byte."""
    found = _ask_for(run, "get", [], _key(key, in_hex)).get("kvs", ())
    if not found:
        raise OpsError(f"there is no key {_shown(_key(key, in_hex), in_hex)}", hint="inv keys")
    value, raw = found[0], base64.b64decode(found[0].get("value", ""))
    if run.json:
        revisions = {name: value[name] for name in ("create_revision", "mod_revision", "version")}
        run.ui.json({"key": key, "value": _text(raw, in_hex), **revisions})
        return
    sys.stdout.buffer.write(raw if not sys.stdout.isatty() or raw.endswith(b"\n") else raw + b"\n")
    sys.stdout.flush()


def put(run: Run, key: str, value: str, *, in_hex: bool = False) -> None:
    """Set a key; ``-`` takes the value from standard input."""
    content = sys.stdin.buffer.read() if value == "-" else os.fsencode(value)
    name = _key(key, in_hex)
    revision, shown = _write(run, key, "put", name, content)["header"]["revision"], _shown(name, in_hex)
    run.emit({"key": key, "revision": revision}, lambda: run.ui.result(f"{shown} set at revision {revision}"))


def delete(run: Run, key: str, *, in_hex: bool = False) -> None:
    """Delete one key."""
    deleted = _write(run, key, "del", _key(key, in_hex)).get("deleted", 0)
    run.emit({"key": key, "deleted": deleted}, lambda: run.ui.result(f"{deleted} deleted"))


def etcdctl(run: Run) -> int:
    """Any etcdctl command; its output and its exit code are passed through."""
    if not run.words:
        raise UsageError("no command for etcdctl", hint="write it after two dashes: inv etcdctl -- member list")
    # As it comes, so that `watch` can be watched; and for as long as it takes.
    relay = (_writer(sys.stdout.buffer), _writer(sys.stderr.buffer))
    reads = not READS.isdisjoint(run.words) and not sys.stdin.isatty()
    stdin = _chunks(sys.stdin.buffer) if reads else b""
    return _ask(run, _reached(run), list(run.words), stdin, relay=relay, timeout=DAY).rc


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


def _reached(run: Run, probe: str = ":") -> str:
    """The first host that can be reached and on which ``probe`` ends well; else the first that can be reached."""
    failed: list[OpsError] = []
    reached: list[str] = []
    for name in run.names:
        done = run.fleet.map(lambda host: host.client(probe, check=False), [name])[name]
        if isinstance(done, Completed) and done.rc == 0:
            return name
        if isinstance(done, Completed):
            reached.append(name)
        else:
            failed.append(done)
    if not reached:
        raise HostsFailed(failed)
    return reached[0]


def _ask(run: Run, name: str, words: list[str], stdin: bytes | Iterable[bytes] = b"", **how: Any) -> Completed:
    """Run etcdctl on host ``name``; the endpoints are those of the whole cluster.

    Once it has begun on one host it is never begun on another: half-done, it may have changed something.
    """
    given = {word.partition("=")[0] for word in words}
    own = [] if "--endpoints" in given else [endpoints(run)]
    who = Credentials() if "--user" in given else run.credentials

    def work(host: Host) -> Completed:
        return host.run(SCRIPT, *own, *words, stdin=who.before(stdin), check=False, **how)

    return run.fleet.all(work, [name])[name]


def _write(run: Run, key: str, verb: str, *operands: bytes) -> dict[str, Any]:
    """``_ask_for`` a change: where it is not known whether it was made, the error says so."""
    try:
        return _ask_for(run, verb, [], *operands)
    except OpsError as error:
        failed = error.errors[-1] if isinstance(error, HostsFailed) else error
        if isinstance(failed, Unreachable) or not any(said in failed.message for said in UNSURE):
            raise
        kind = HostError if isinstance(error, HostsFailed) else OpsError
        raise kind(
            f"{failed.message}; the {verb} may or may not have happened",
            host=failed.host,
            hint=f"inv get {shlex.quote(os.fsencode(key).decode(errors='replace'))} tells",
        ) from None


def _ask_for(run: Run, verb: str, flags: list[str], *operands: bytes) -> dict[str, Any]:
    """etcd's answer to one get, put or del.

    As a transaction of this alone: etcdctl reads that from standard input, so that keys and values may be any bytes
    and no ``ps`` shows them.
    """
    request = " ".join([verb, *flags, "--", *map(quoted, operands)])
    done = _ask(run, _reached(run, COMMITS), ["txn", "--write-out=json"], f"\n{request}\n\n\n".encode())
    try:
        (answer,) = json.loads(done.stdout)["responses"][0]["Response"].values()
    except (ValueError, LookupError, TypeError):
        answer = None
    if done.rc != 0 or not isinstance(answer, dict):
        message = reason(done.stderr, done.rc)
        if denied := run.credentials.refusal(message):
            raise denied
        raise OpsError(message, hint="" if done.rc == 127 else "inv status")
    return answer


def quoted(data: bytes) -> str:
    """Any bytes as one word of a transaction: etcdctl unquotes it as Go does."""
    return f'"{"".join(map(WORDS.__getitem__, data))}"'


WORDS = [chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in range(256)]


def _range(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """The first key that counts, and the first after them that does not; a NUL alone there: all that follow."""
    stem = prefix.rstrip(b"\xff")
    return max(prefix or b"\0", after + b"\0" if after else b""), stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def _key(text: str, in_hex: bool) -> bytes:
    """The key that was given on the command line."""
    try:
        return bytes.fromhex(text) if in_hex else os.fsencode(text)
    except ValueError:
        raise UsageError(f"{text!r} is no hexadecimal number of whole bytes", hint="as in 2f61 for /a") from None


def _text(data: bytes, in_hex: bool) -> str:
    """A key or value; bytes that are no text show as \\x.."""
    return data.hex() if in_hex else data.decode("utf-8", "backslashreplace")


def _shown(name: bytes, in_hex: bool) -> str:
    """A key on a line of its own: what would break the line, or command the terminal, is escaped."""
    text = _text(name, in_hex)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _lines(run: Run, names: list[str]) -> None:
    for name in names:
        run.ui.result(name)
