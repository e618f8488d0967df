"""drill: a snapshot restored into a throw-away etcd of one member, and what it holds compared with what it should."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from etcdops import gate, layout
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.etcd import View
from etcdops.release import Releases, architecture
from etcdops.run import Run
from etcdops.snapshots import content
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import Proof
from etcdops.snapshots.store import chunks_of, workspace
from etcdops.snapshots.throwaway import certificates
from etcdops.steps.sources import Source

SECONDS = 1800  # that a drill may take, sending included
START = 300  # seconds that the throw-away member may take to load its database
PATIENCE = 10  # seconds for what is told to end

# Receives certificates and the snapshot, of $1 bytes, on standard input, where there is room for it twice, and holds
# the drill there.
ON_HOST = r"""
need=$(($1 * 22 / 10 + (256 << 20))) place=
for dir in /var/tmp /var/lib/etcd; do
    if [ -z "$place" ] && [ -d "$dir" ] && [ "$(($(stat -f -c '%a * %S' -- "$dir")))" -gt $need ]; then place=$dir; fi
done
[ -n "$place" ] || { echo "no room for a drill in /var/tmp or /var/lib/etcd: $((need >> 20)) MiB needed" >&2; exit 1; }
find "$place" -maxdepth 1 -name '.etcdops-drill.*' -mmin +1440 -exec rm -rf -- {} + # of runs that were killed
umask 077
folder=$(mktemp -d "$place/.etcdops-drill.XXXXXXXX") || exit 1
trap 'rm -rf -- "$folder"' EXIT
trap 'exit 129' HUP INT TERM PIPE
IFS= read -r ca && IFS= read -r pair || exit 1 # for files/throwaway.sh
head --bytes="$1" >"$folder/snapshot.db" || exit 1
shift
programs=$1
shift
printf '%s\n' "$ca" "$pair" | sh -c "$DRILL" drill "$programs" "$folder/snapshot.db" "$folder" "$@"
"""


def drill(run: Run, source: Source) -> dict[str, Any]:
    """Restore, start, compare; what was found, for --json.  ``OpsError`` when anything differs."""
    path, proof, manifest = source.path, source.proof, source.manifest
    run.ui.step("Restore it into a throw-away etcd")
    words = [str(START), str(proof.revision), *(["--skip-hash-check"] if proof.raw else [])]
    with _programs(run) as programs:
        if programs:
            with workspace(run.config.resolve(run.config.backup.dir)) as work:
                where, answer = "this machine", _here(programs, path, work, words)
        else:
            where, answer = _there(run, path, proof, words)
    found = content.parse(answer)
    if found.revision != proof.revision:
        raise OpsError(f"restored, it is at revision {found.revision}, and the file says {proof.revision}")
    result: dict[str, Any] = {"on": where, "revision": found.revision, "keys": found.keys, "hash": found.hash}
    if manifest:
        if manifest.keys is not None and found.keys != manifest.keys:
            raise OpsError(f"restored, it has {found.keys} keys, and its manifest says {manifest.keys}")
        result["hash_as_in_manifest"] = content.agree(found, manifest, "what was restored")
        result["hash_as_in_cluster"] = _as_in_cluster(run, found, manifest)
    return result


def _as_in_cluster(run: Run, found: content.Content, manifest: Manifest) -> bool:
    """Whether the running cluster holds the same at that revision; False where it cannot tell any more."""
    views = run.fleet.map(gate.ask)
    for name, view in views.items():
        ours = isinstance(view, View) and view.status and f"{view.status.cluster_id:x}" == manifest.cluster_id
        if not ours or not view.healthy:  # type: ignore[union-attr]
            continue
        live = run.fleet.all(lambda host: content.ask(host, manifest.revision), [name])[name]
        if None in (live.hash, found.hash) or live.compact_revision != found.compact_revision:
            return False
        if live.hash != found.hash:
            raise Unhealthy(
                f"{name} holds other data at revision {manifest.revision} than the snapshot: hash {live.hash}, not "
                f"{found.hash}",
                hint="one of the two is damaged; compare the members: inv etcdctl -- endpoint hashkv --cluster",
            )
        return True
    return False


@contextlib.contextmanager
def _programs(run: Run) -> Iterator[Path | None]:
    """A folder with etcd's programs for this machine, if it has an archive of them."""
    arch = architecture(platform.machine())
    if sys.platform != "linux" or not arch or not run.config.release.archive:
        yield None
        return
    try:
        archive = Releases(run.config.release, run.config.resolve, run.cache).obtain(run.config.cluster.version, arch)
    except OpsError:
        yield None  # an archive for another architecture, say: the members have what is needed
        return
    folder = run.cache / archive.sha256 / "programs"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive.path) as tar:
            for name in archive.members:
                entry = tar.getmember(name)
                entry.name = Path(name).name
                tar.extract(entry, folder, filter="data")
        (folder / "complete").touch()
    yield folder


def _here(programs: Path, path: Path, work: Path, words: list[str]) -> str:
    script = layout.script("throwaway", "drill")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    with subprocess.Popen(
        ["sh", "-c", script, "drill", programs, path.absolute(), work, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, complaint = process.communicate(certificates().decode(), timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise OpsError(
                f"the drill has not ended within {SECONDS // 60} min",
                hint="is this machine very slow, or its disk full?",
            ) from None
        finally:
            _end(process)
    if process.returncode != 0:
        raise OpsError(complaint.strip() or f"the drill ended with {process.returncode}", hint="take another backup")
    return said


def _end(process: subprocess.Popen[str]) -> None:
    """Leave nothing behind of what it has started.  On TERM it stops its etcd and tidies up by itself."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, signal_)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)


def _there(run: Run, path: Path, proof: Proof, words: list[str]) -> tuple[str, str]:
    """On the first member that can be reached, followers first."""
    views = run.fleet.map(gate.ask)
    able = [name for name, view in views.items() if isinstance(view, View)]
    if not able:
        raise HostsFailed([view for view in views.values() if isinstance(view, OpsError)])
    able.sort(key=lambda name: bool((s := views[name].status) and s.is_leader))  # type: ignore[union-attr]
    name = able[0]
    script = f"DRILL=$(cat <<'END_OF_DRILL'\n{layout.script('throwaway', 'drill')}\nEND_OF_DRILL\n)\n{ON_HOST}"
    stdin = chain((certificates(),), chunks_of(path))
    done = run.fleet.all(
        lambda host: host.run(script, str(proof.size), layout.CURRENT, *words, stdin=stdin, timeout=SECONDS),
        [name],
    )[name]
    return name, done.stdout
