"""compact: the guide's `compact`, to the newest revision less those that stay."""

from __future__ import annotations

import time
from typing import NoReturn

from etcdops import gate, judgement, layout
from etcdops.errors import HostError, HostsFailed, OpsError, Unhealthy, UsageError
from etcdops.etcd import View
from etcdops.judgement import Views, judge
from etcdops.run import Run
from etcdops.ssh import Host

SECONDS = 600  # that etcd may take to drop what is compacted
STILL = 1.0  # seconds in which no member's data gets less, after which all is dropped
NOISE = 256 << 10  # bytes by which it goes up and down where clients write all the time; etcd drops megabytes a second

# $1 the revision  $2 seconds  $3 dry: only look.  A read just below a compaction's revision says that there was one.
SCRIPT = r"""
old=$(client --command-timeout=10s get --rev="$(($1 - 1))" etcdops 2>&1) || case $old in
*'has been compacted'*) echo already; exit 0 ;;
*) echo "$old" | tail -n 1 >&2; exit 1 ;;
esac
[ "$3" != dry ] || exit 0
said=$(client --command-timeout="$2s" compact --physical "$1" 2>&1) && exit 0
case $said in *'has been compacted'*) echo already; exit 0 ;; esac
echo "$said" | grep -v '^{' | tail -n 1 >&2
exit 1
"""


def compact(run: Run, keep: int) -> None:
    """Drop the history before the newest ``keep`` revisions; the keys as they are stay."""
    if keep < 0:
        raise UsageError("--keep is a number of revisions, 0 or more")
    drop_history(run, keep)


def drop_history(run: Run, keep: int) -> None:
    """``compact``, on every member that answers; returns when they have dropped it, as far as can be seen."""
    views = run.fleet.map(gate.ask_but_for_nospace)
    newest = {name: status.revision for name, status in judgement.voters(views).items()}
    if not newest:
        _nobody(run, views)
    name, revision = max(newest.items(), key=lambda each: each[1])
    target = revision - keep
    dry = "dry" if run.dry_run else ""

    def work(host: Host) -> bool:
        script = layout.script("client") + SCRIPT
        done = host.client(script, str(target), str(SECONDS), dry, timeout=SECONDS + 60, check=False)
        if done.rc != 0:
            why = done.stderr.strip().removeprefix("Error: ")
            raise HostError(f"did not compact to revision {target}: {why}", hint="inv status")
        return "already" in done.stdout

    if target <= 1 or run.fleet.all(work, [name])[name]:
        run.ui.result(f"nothing to compact: no history before revision {max(target, 1)}")
    elif run.dry_run:
        run.ui.result(f"{name}  etcdctl compact {target}, of {revision}")
    else:
        _wait(run, list(newest))
        run.ui.result(f"compacted to revision {target}, of {revision}")


def _wait(run: Run, names: list[str]) -> None:
    """etcd waits for the member that was asked; the others drop it at their own pace, and tell by their size alone."""
    last: dict[str, int] = {}
    since = time.monotonic()

    def look() -> float:
        nonlocal last, since
        views = run.fleet.map(gate.ask, names)
        used = {n: view.status.db_in_use for n, view in views.items() if isinstance(view, View) and view.status}
        if not last or any(used[name] < last.get(name, 0) - NOISE for name in used):
            since = time.monotonic()
        last = used
        return time.monotonic() - since

    gate.until(
        run,
        look,
        lambda still: () if still >= STILL else ("the members drop what is compacted",),
        seconds=SECONDS,
        enough=lambda still: True,
    )


def _nobody(run: Run, views: Views) -> NoReturn:
    away = [view for view in views.values() if isinstance(view, OpsError)]
    if len(away) == len(views):
        raise HostsFailed(away)
    raise Unhealthy(f"no member can commit: {'; '.join(judge(run.config, views).reasons)}", hint="inv status")
