"""check-data: `endpoint hashkv` of every member at one revision.  Whoever is alone with its hash holds wrong data."""

from __future__ import annotations

from typing import Any

from etcdops import gate
from etcdops.agreement import Comparison, compare
from etcdops.errors import HostsFailed, OpsError, Unhealthy
from etcdops.run import Run
from etcdops.snapshots.content import Content


def check_data(run: Run) -> None:
    """Do all members hold the same?  ``Unhealthy`` names those that do not."""
    revision, found = gate.contents(run)
    result = compare(found, revision)
    rows = [_row(name, each, result) for name, each in found.items()]
    run.emit(
        {"revision": revision, "same": not result.reason, "minority": list(result.bad), "members": rows},
        lambda: _show(run, rows, revision),
    )
    away = [each for each in found.values() if isinstance(each, OpsError)]
    if result.bad:
        raise Unhealthy(result.reason, hint=gate.CHANGE_NOTHING)
    if away:
        raise HostsFailed(away)
    if result.reason:
        raise Unhealthy(result.reason, hint="inv status")
    run.ui.line("every member holds the same")


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
