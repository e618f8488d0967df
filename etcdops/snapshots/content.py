"""What the members hold at one revision, and whether it is what a snapshot's manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etcdops import layout
from etcdops.errors import OpsError
from etcdops.etcd import parse_hashkv
from etcdops.snapshots.manifest import Manifest
from etcdops.ssh import Host

SCRIPT = r"""
put revision "$(client --command-timeout=10s endpoint status --write-out=json 2>/dev/null | number revision)"
put keys "$(client --command-timeout=60s get '' --prefix --count-only --consistency=s --rev="$1" --write-out=fields \
    2>/dev/null | sed -n 's/^"Count" : //p')"
put hash "$(client --command-timeout=60s endpoint hashkv --rev="$1" --write-out=json 2>/dev/null | base64 -w0)"
"""


@dataclass(frozen=True)
class Content:
    """Of one member: its newest revision, and at the one that was asked for its live keys and etcd's hash over all
    since ``compact_revision``.  ``None``: it has no answer, such as for a revision that is compacted."""

    revision: int | None = None
    keys: int | None = None
    hash: int | None = None
    compact_revision: int | None = None


def ask(host: Host, revision: int) -> Content:
    """The content of the member on ``host`` at ``revision``, as it stands there: it need not reach any other."""
    return parse(host.client(layout.script("prelude", "client") + SCRIPT, str(revision), timeout=120).stdout)


def parse(text: str) -> Content:
    """The answer of the script above, or of files/drill.sh."""
    return of(dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line))


def of(values: Mapping[str, str]) -> Content:
    """The same, of lines that have been parted."""
    hashed = parse_hashkv(values.get("hash", ""))
    return Content(
        revision=int(values["revision"]) if values.get("revision") else None,
        keys=int(values["keys"]) if values.get("keys") else None,
        hash=hashed.get("hash"),
        compact_revision=hashed.get("compact_revision"),
    )


def compare(found: Mapping[str, Content], manifest: Manifest | None, revision: int, *, bumped: bool) -> None:
    """``OpsError`` unless all members are at ``revision`` or beyond, with the same content: that of the manifest.

    A restore that raises revisions adds one of its own, so that hashes can be compared among the members only.
    """
    for name, content in found.items():
        if content.revision is None or content.revision < revision:
            raise OpsError(f"{name}: is at revision {content.revision}, not at {revision}")
        if manifest and None not in (manifest.keys, content.keys) and manifest.keys != content.keys:
            raise OpsError(f"{name}: has {content.keys} keys, where the manifest says {manifest.keys}")
    # Of half a dozen GB a hash may take longer than anybody waits: that is no difference.
    hashes = {
        name: (content.hash, content.compact_revision) for name, content in found.items() if content.hash is not None
    }
    if len(set(hashes.values())) > 1:
        shown = ", ".join(f"{name}: {hash_}" for name, (hash_, _) in hashes.items())
        raise OpsError(f"the members hold different data at revision {revision} ({shown})")
    if manifest and not bumped:
        agree(next(iter(found.values())), manifest, "what was restored")


def agree(content: Content, manifest: Manifest, what: str) -> bool:
    """Whether the hash of ``what`` is the manifest's; False where they cannot be compared, ``OpsError`` where they
    differ."""
    if None in (content.hash, manifest.hash) or content.compact_revision != manifest.compact_revision:
        return False
    if content.hash != manifest.hash:
        raise OpsError(
            f"{what} differs from what the cluster held when {manifest.name} was taken: hash {content.hash} at "
            f"revision {manifest.revision}, not {manifest.hash}"
        )
    return True
