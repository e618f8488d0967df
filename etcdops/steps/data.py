"""check-data: `endpoint hashkv` of every member at one revision.  Whoever is alone with its hash holds wrong data.

etcd itself does not notice: a member with a flipped byte is healthy, and serves it (etcd-operations 3.14).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etcdops import etcd, gate
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.etcd import View
from etcdops.run import Run
from etcdops.steps import content
from etcdops.steps.content import Content

WAY_OUT = "change nothing yet; the way out is in docs/check-data.md"
AGAIN = "a compaction is going on: inv check-data in a minute"
Contents = Mapping[str, Content | OpsError]


@dataclass(frozen=True)
class Comparison:
    """``good``: members that hold the same and are a majority of all; ``bad``: those that hold something else.  Where
    no majority holds the same, all that differ are ``bad`` and none is good."""

    revision: int
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What is wrong, '' when every member holds the same."""
        if self.good and self.bad:
            verb = "holds" if len(self.bad) == 1 else "hold"
            return (
                f"{', '.join(self.bad)} {verb} other data than {', '.join(self.good)}, the majority, "
                f"at revision {self.revision}"
            )
        if self.bad:
            return f"{', '.join(self.bad)} hold different data at revision {self.revision}, and no majority agrees"
        if self.silent:
            return f"{', '.join(self.silent)} gave no hash of its data at revision {self.revision}"
        return ""


def check_data(run: Run) -> None:
    """Do all members hold the same?  ``Unhealthy`` names those that do not."""
    revision, found = _ask(run)
    result = compare(found, revision)
    rows = [_row(name, each, result) for name, each in found.items()]
    run.emit(
        {"revision": revision, "same": not result.reason, "minority": list(result.bad), "members": rows},
        lambda: _show(run, rows, revision),
    )
    away = [each for each in found.values() if isinstance(each, OpsError)]
    if result.bad:
        raise Unhealthy(result.reason, hint=WAY_OUT)
    if away:
        raise HostsFailed(away)
    if result.reason:
        raise Unhealthy(result.reason, hint="inv status")
    run.ui.line("every member holds the same")


def compare(found: Contents, revision: int) -> Comparison:
    """The verdict on what each member holds at ``revision``."""
    hashes = {name: each.hash for name, each in found.items() if isinstance(each, Content) and each.hash is not None}
    silent = tuple(name for name in found if name not in hashes)
    if not hashes:
        return Comparison(revision, silent=silent)
    ((best, count),) = Counter(hashes.values()).most_common(1)
    if len(set(hashes.values())) > 1 and count < etcd.quorum(len(found)):
        return Comparison(revision, bad=tuple(hashes), silent=silent)
    good = tuple(name for name, hash_ in hashes.items() if hash_ == best)
    return Comparison(revision, good, tuple(name for name in hashes if name not in good), silent)


def _ask(run: Run) -> tuple[int, Contents]:
    """The newest revision that all have, and what each holds there; again where a compaction came in between."""
    deadline = time.monotonic() + run.patience
    while True:
        views = run.fleet.map(lambda host: gate.ask(host, "status members"))
        revision = _common(views)
        answers = _at(run, revision, [name for name, view in views.items() if isinstance(view, View) and view.status])
        compacted = {each.compact_revision for each in answers.values() if isinstance(each, Content)}
        found = {name: answers.get(name, _without(view)) for name, view in views.items()}
        if len(compacted) == 1:
            return revision, found
        if time.monotonic() > deadline:
            if len(compacted - {None}) > 1:
                raise Unhealthy("the members cannot be compared: each is compacted to another revision", hint=AGAIN)
            return revision, found
        time.sleep(gate.POLL)


def _common(views: gate.Views) -> int:
    """The newest revision that every member that answers has."""
    known = [view.status.revision for view in views.values() if isinstance(view, View) and view.status]
    if known:
        return min(known)
    away = [view for view in views.values() if isinstance(view, OpsError)]
    if len(away) == len(views):
        raise HostsFailed(away)
    raise Unhealthy("no member tells its revision", hint="inv status")


def _at(run: Run, revision: int, names: list[str]) -> Contents:
    return run.fleet.map(lambda host: content.ask(host, revision), names)


def _without(view: View | OpsError) -> Content | OpsError:
    return view if isinstance(view, OpsError) else Content()


def _row(name: str, found: Content | OpsError, result: Comparison) -> dict[str, Any]:
    held = found if isinstance(found, Content) else Content()
    agrees = None if name in result.silent else name in result.good
    return {
        "member": name,
        "agrees": agrees,
        "hash": held.hash,
        "keys": held.keys,
        "compact_revision": held.compact_revision,
        "error": found.message if isinstance(found, OpsError) else "" if agrees is not None else "no answer",
    }


def _show(run: Run, rows: list[dict[str, Any]], revision: int) -> None:
    words = {True: "yes", False: "NO", None: "?"}
    run.ui.table(
        ("member", "revision", "keys", "hash", "as the majority", "why not"),
        [
            (row["member"], str(revision), _text(row["keys"]), _text(row["hash"]), words[row["agrees"]], row["error"])
            for row in rows
        ],
    )


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
