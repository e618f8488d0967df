"""history: which runs changed something from here, and what each saw, decided and did; from their records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from etcdops.errors import UsageError
from etcdops.operation import record
from etcdops.operation.record import Event, Past
from etcdops.run import Run


def history(run: Run, which: str, limit: int, *, calls: bool) -> None:
    """All runs in a table, or one of them: its id, enough of it to tell it, or ``latest``."""
    folder = record.folder_of(run.path)
    found = record.runs(folder)
    if which:
        _one(run, folder, _named(found, which), calls=calls)
        return
    shown = found[:limit] if limit > 0 else found
    run.emit([each.document for each in shown], lambda: _table(run, folder, shown))
    if len(found) > len(shown) and not run.json:
        run.ui.warn(f"{len(found) - len(shown)} older ones; --limit=0 shows all")


def _named(found: list[Past], which: str) -> Past:
    if which == "latest" and found:
        return found[0]
    meant = [each for each in found if which in each.run]
    exact = [each for each in meant if each.run == which]
    if len(exact or meant) == 1:
        return (exact or meant)[0]
    if not meant:
        raise UsageError(f"no run {which} is on record", hint="inv history")
    raise UsageError(f"{which} may be {', '.join(each.run for each in meant[:5])}", hint="a bit more of it")


def _table(run: Run, folder: Path, found: list[Past]) -> None:
    if not found:
        run.ui.result(f"no run is on record in {folder}")
        return
    columns = ("run", "began (UTC)", "who", "took", "end", "command")
    rows = [
        (each.run, f"{each.began:%Y-%m-%d %H:%M:%S}", each.who, _took(each), each.end, each.command) for each in found
    ]
    run.ui.table(columns, rows)


def _took(past: Past) -> str:
    return f"{past.seconds:.1f} s" if past.seconds < 120 else f"{past.seconds / 60:.0f} min"


def _one(run: Run, folder: Path, past: Past, *, calls: bool) -> None:
    found = list(record.events(folder / f"{past.run}.jsonl"))

    def show() -> None:
        run.ui.result(f"{past.command}, by {past.who} on {past.cluster}, {past.began:%Y-%m-%d %H:%M:%S} UTC")
        for line in told(found, calls=calls):
            run.ui.result(line)
        if past.code is None:
            run.ui.result("it still runs" if past.alive else "cut short here: its process was killed; the same again")

    run.emit({**past.document, "events": found}, show)


def told(events: Iterable[Event], *, calls: bool) -> Iterator[str]:
    """The events as lines for a person; calls that came to a good end are one line for a round, unless ``calls``."""
    open_: dict[int, Event] = {}
    round_: list[Event] = []
    for event in events:
        kind = event.get("event")
        if kind == "call":
            open_[event.get("n", 0)] = event
            continue
        if kind == "done":
            call = open_.pop(event.get("n", 0), event)
            whole = {**call, **event, "s": call.get("s", 0)}
            if calls or whole.get("rc") != 0:
                yield from _round(round_)
                round_.clear()
                yield _line(whole, _call(whole))
                continue
            if round_ and round_[0].get("what") != whole.get("what"):
                yield from _round(round_)
                round_.clear()
            round_.append(whole)
            continue
        yield from _round(round_)
        round_.clear()
        yield from (_line(event, text) for text in _text(event))
    yield from _round(round_)
    for call in open_.values():
        yield _line(call, f"{_call(call)}, and nobody knows whether it came to its end")


def _line(event: Event, text: str) -> str:
    return f"{event.get('s', 0):>8.1f} s  {text}"


def _call(event: Event) -> str:
    text = f"{event.get('host')}  {event.get('what')} {event.get('args', '')}".rstrip()
    if "took" in event:
        rc = event.get("rc")
        text += f"  {'no end' if rc is None else f'exit {rc}'} after {event['took']:.2f} s"
    return text + (f": {event['error']}" if event.get("error") else "")


def _round(calls: list[Event]) -> Iterator[str]:
    if calls:
        hosts = sorted({str(each.get("host")) for each in calls})
        times = f", {len(calls)} times" if len(calls) > len(hosts) else ""
        took = max(each.get("took", 0.0) for each in calls)
        yield _line(calls[0], f"{', '.join(hosts)}  {calls[0].get('what')}  {took:.2f} s{times}")


def _text(event: Event) -> list[str]:
    """An event but for calls, a line each."""
    match event.get("event"):
        case "locked":
            away = "".join(f"; not on {name}: {why}" for name, why in event.get("away", {}).items())
            return [f"lock held on {', '.join(event.get('hosts', ())) or 'no host'}{away}"]
        case "saw":
            return [f"saw {event.get('host')} as {event.get('digest')}"]
        case "decided":
            return [f"decided: {line}" for line in event.get("lines", ())] or ["decided: nothing to do"]
        case "said":
            return str(event.get("text")).splitlines()
        case "end":
            return [*event.get("error", ()), f"ended with {event.get('code')}, after {event.get('calls')} remote calls"]
    return []
