"""Act: one push and one command per host put all its changes in place (files/apply.sh), then the service.

Payloads travel as one tar stream on the command's standard input; nothing secret ever stands in an argument.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence

from etcdops import layout
from etcdops.errors import HostError
from etcdops.plan import Change, Directory, Enabled, File, Link, Release, Reloaded, TakenOver, User
from etcdops.release import Archive
from etcdops.ssh import Host, again

BLOCK = 512
CHUNK = 1 << 18
PUSH_SECONDS = 3600


def push(
    host: Host,
    changes: Sequence[Change],
    archive: Archive | None,
    version: str,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Carry out ``changes`` on one host: all or, when anything fails while staging, none.

    ``archive`` is needed when a ``Release`` is among them, ``version`` is the etcd that a new etcd.conf is for.
    ``progress`` hears of the bytes sent and the total.
    """
    # A release may take long on a slow line, and keepalive sees a dead one: the limit of a command is not for it.
    limit = PUSH_SECONDS if archive else None
    script = layout.script("takeover", "apply")
    again(lambda: host.run(script, stdin=_stream(changes, archive, version, progress), timeout=limit))


def _stream(
    changes: Sequence[Change],
    archive: Archive | None,
    version: str,
    progress: Callable[[int, int], None] | None,
) -> Iterator[bytes]:
    manifest, payloads = _manifest(changes, archive, version)
    buffer = io.BytesIO()
    # The end-of-archive blocks come last of all, after the release that is streamed from its file.
    tar = tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
    for name, content in {"manifest": manifest, **payloads}.items():
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o600
        tar.addfile(entry, io.BytesIO(content))
    yield buffer.getvalue()
    if archive and any(isinstance(change.resource, Release) for change in changes):
        entry = tarfile.TarInfo("release")
        entry.size, entry.mode = archive.size, 0o600
        yield entry.tobuf(tarfile.USTAR_FORMAT)
        sent = 0
        with archive.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
                sent += len(chunk)
                if progress:
                    progress(sent, archive.size)
        yield bytes(-archive.size % BLOCK)
    yield bytes(2 * BLOCK)


def _manifest(changes: Sequence[Change], archive: Archive | None, version: str) -> tuple[bytes, dict[str, bytes]]:
    lines: list[Sequence[str]] = []
    payloads: dict[str, bytes] = {}
    for change in changes:
        match change.resource:
            case User():
                lines.append(("user",))
            case Directory(path, mode, owner):
                lines.append(("dir", f"{mode:o}", owner, path))
            case Release() as release:
                if archive is None:
                    raise ValueError("a release is to be installed, but there is no archive")
                lines.append(("release", release.version, archive.sha256, " ".join(archive.members)))
            case File(path, content, mode, owner):
                if content is None:
                    raise ValueError(f"{path} has no content yet")
                payloads[f"f{len(payloads)}"] = content
                lines.append(("file", f"{mode:o}", owner, path, f"f{len(payloads) - 1}"))
                if path == layout.CONF:
                    lines.append(("settings", path, version))
            case Link(path, target):
                lines.append(("link", target, path))
            case TakenOver():
                lines.append(("take-over",))
            case Reloaded():
                lines.append(("reload",))
            case Enabled():
                lines.append(("enable",))
    text = "".join("\t".join(line) + "\n" for line in lines)
    return text.encode(), payloads


def service(host: Host, action: str, *, seconds: int) -> None:
    """Start, restart or stop etcd on one host and wait for it, ``seconds`` at most from when the old process has gone.

    When it does not come up, the ``HostError`` says what etcd itself said last.
    """
    script = layout.script("service")
    done = again(lambda: host.run(script, action, str(seconds), timeout=seconds + 240, check=False))
    if done.rc != 0:
        verb = {"start": "start", "restart": "come back", "stop": "stop"}[action]
        why = explain(done.stdout) or done.stderr.strip() or "no reason given"
        raise HostError(f"etcd did not {verb}: {why}", host=host.name, hint=way_out(why, host.name))


# What etcd says where it ends, and what to do about it: etcd-operations, section 6.
WAYS_OUT = {
    r"tocommit\(\d+\) is out of range": "it has lost a part of its log, and must not be tried until it comes up: "
    "systemctl stop etcd there, then inv replace-member {name}",
    r"data inconsistency with peers": "inv check-data tells whose data differs; the way out is in docs/check-data.md",
    r"has already been bootstrapped": "it is known to the others and has lost its data: inv replace-member {name}",
    r"no space left on device": "free some space for /var/lib/etcd there, then inv start",
    r"server version is lower than determined": "its data is of a newer release: put cluster.version back",
    r"member count is unequal|unmatched member while checking PeerURLs": "config.yaml has other members than the "
    "cluster: inv members",
}


def way_out(why: str, name: str) -> str:
    """What to do about a member that did not come up, where it is known; else where to read more."""
    known = (do.format(name=name) for words, do in WAYS_OUT.items() if re.search(words, why))
    return next(known, "on the host: journalctl -u etcd -e")


def begin(host: Host, *, seconds: int) -> None:
    """Start etcd and wait until it answers its peers, not until it is ready; at most ``seconds``."""
    host.run(layout.script("service"), "begin", str(seconds), timeout=seconds + 120)


def explain(output: str) -> str:
    """Why etcd did not come up, in one line, from the end of files/service.sh's output."""
    if cut_short := re.search("(a restore|inv recover) was cut short here.*", output):
        return cut_short[0]
    if "AssertResult=no" in output:
        return f"the guard stopped it: {layout.WAL_DIR} is missing, and a member must not come back empty"
    fatal: list[str] = []
    errors: list[str] = []
    plain: list[str] = []
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            plain.append(line.strip())
            continue
        if not isinstance(entry, dict):
            continue
        said = ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key))
        if entry.get("level") in {"fatal", "panic"}:
            fatal.append(said)
        elif entry.get("level") == "error" or entry.get("error"):  # a flag that it cannot parse is a warning to etcd
            errors.append(said)
    telling = [
        line for line in plain if re.search(r"error|invalid|unknown|denied|panic|not ready", line, re.IGNORECASE)
    ]
    said = (fatal or errors or telling or plain or [""])[-1]
    late = next((line for line in plain if line.startswith("not ready after")), "")
    return said if late in said else f"{late}; the last it said: {said}"
