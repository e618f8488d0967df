"""upgrade and downgrade: another release on every member, by way of each minor between; what is asked for and told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from etcdops import configedit, gate, guards, judgement
from etcdops.config import Config
from etcdops.errors import OpsError, Refused, UsageError
from etcdops.etcd import release
from etcdops.facts import HostFacts, gather
from etcdops.flaws import flaws
from etcdops.guards.release import installed
from etcdops.run import Run
from etcdops.steps import canary
from etcdops.steps.hop import Rolling, client, record, translated, under
from etcdops.steps.service import all_run
from etcdops.values import Version
from etcdops.versions import Hop, down, minor, up


def upgrade(run: Run, to: str, *, plan: bool) -> None:
    """Bring every member to release ``to``, by way of each minor between; with ``plan`` say how, and do nothing."""
    target = _version(to)
    facts = _survey(run)
    running = sorted(map(installed, facts.values()), key=release)
    if release(running[-1]) > release(target) and running[0] != running[-1]:
        ahead = ", ".join(name for name, fact in facts.items() if installed(fact) == running[-1])
        raise Refused(f"{ahead} runs {running[-1]} already", hint=f"inv upgrade --to={running[-1]}, or inv downgrade")
    _change(run, facts, target, up(running[0], target), plan=plan)


def downgrade(run: Run, to: str, *, plan: bool) -> None:
    """Bring every member back to release ``to``, as far as etcd has a way; with ``plan`` say how, and do nothing."""
    target = _version(to)
    facts = _survey(run)
    start = max(map(installed, facts.values()), key=release)
    _change(run, facts, target, down(start, target), plan=plan)


def _version(text: str) -> str:
    if not text:
        raise UsageError("which release?", hint="as in --to=3.6.16")
    try:
        found: str = TypeAdapter(Version).validate_python(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--to={text}: {reason}", hint="as in --to=3.6.16") from None
    return found


def _survey(run: Run) -> dict[str, HostFacts]:
    """The facts of every host; ``Refused`` with everything that speaks against any change."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    facts = run.fleet.all(gather)
    guards.refuse(guards.beneath_an_upgrade(run.config, facts))
    if not all(fact.has_data for fact in facts.values()):
        raise Refused("there is no cluster here that could get another release", hint="inv deploy makes one")
    return facts


def _change(run: Run, facts: Mapping[str, HostFacts], target: str, hops: Sequence[Hop], *, plan: bool) -> None:
    began = time.monotonic()
    _obtainable(run.config, hops)
    for hop in hops:  # what has no other words, and what would keep config.yaml from saying it, is said now
        wanted = under(run.config, hop.end)
        configedit.change_release(run.config, wanted, translated(run.config, hop.end).replaced)
    guards.refuse(each for hop in hops for fact in facts.values() for each in guards.by_chance(hop.end, fact))
    if plan or run.dry_run:
        _show(run, facts, hops, plan=plan)
        return
    run.decided(f"{', '.join(run.names)}  etcd {hop}" for hop in hops)
    if not hops:
        _whole(run, facts, target)
    done: list[dict[str, Any]] = []
    with canary.alongside(run) as bird:
        _call_off(run, target)
        for hop in hops:
            run.ui.step(f"etcd {hop}")
            try:
                Rolling(run, hop).carry_out()
            except Refused as error:
                raise _midway(error, hop) if done else error from None
            done.append(_document(run.config, hop))
    seconds = time.monotonic() - began
    what = " -> ".join([hops[0].start, *(hop.end for hop in hops)]) if hops else f"nothing to do: {target}"
    run.emit(
        {"hops": done, "seconds": round(seconds, 1), "canary": bird.report().document if bird else None},
        lambda: run.ui.result(f"etcd {what} on {len(run.names)} members, in {seconds:.1f} s"),
    )


def _midway(error: Refused, hop: Hop) -> OpsError:
    """A refusal at a later stop: much was changed by then."""
    why = "; ".join(str(each) for each in error.findings or (error,))
    return OpsError(f"all members run {hop.start} now, and stay there: {why}", hint=error.hint)


def _whole(run: Run, facts: Mapping[str, HostFacts], target: str) -> None:
    """What a run that was killed at its last member has left: the same look at the whole cluster, and the record."""
    all_run(run, facts, target)
    gate.same_data(run, gate.pass_through(run, settle=gate.SETTLE))
    record(run, target)


def _obtainable(config: Config, hops: Sequence[Hop]) -> None:
    """``Refused`` where config.yaml names one archive, and several or another are needed."""
    others = [hop.end for hop in hops if hop.end != config.cluster.version]
    if not others:
        return
    if config.release.sha256:
        raise Refused(
            f"release.sha256 in {config.path.name} is of one archive, and {', '.join(others)} is needed",
            hint="take it out (the published sum is compared all the same), or correct it for one stop at a time",
        )
    if config.release.archive and "{version}" not in config.release.archive:
        raise Refused(
            f"release.archive in {config.path.name} names one archive, and {', '.join(others)} is needed",
            hint="write {version} where it has the version, and put the archives there",
        )


def _show(run: Run, facts: Mapping[str, HostFacts], hops: Sequence[Hop], *, plan: bool) -> None:
    def lines() -> None:
        for hop in hops:
            run.ui.result(str(hop))
            for line in _notes(run.config, hop):
                run.ui.result(f"    {line}")
        if not hops:
            run.ui.result("nothing to do")

    run.emit({"hops": [_document(run.config, hop) for hop in hops]}, lines)
    if hops and not plan:
        first = Rolling(run, hops[0])
        for name, changes in first.changes(facts).items():
            for change in changes:
                run.ui.result(f"{name}  {change}")
            if changes:
                run.ui.result(f"{name}  systemctl restart etcd  (etcd {hops[0]})")


def _notes(config: Config, hop: Hop) -> list[str]:
    """What a person should know of a hop, a line each."""
    lines = ["a backup first; then one member at a time, the leader last"]
    if hop.renews_log:
        lines.append("before, each member restarts once to begin its log anew, where it has not done so of late")
    if hop.down and hop.crosses:
        lines.append(f"etcdctl downgrade enable {minor(hop.end)}")
    lines += translated(config, hop.end).lines
    lines += [f"{hop.end} {flaw.what}; {flaw.way_out} does not" for flaw in flaws(hop.end)]
    return [*lines, f"the way back, once all run it: {hop.way_back}"]


def _document(config: Config, hop: Hop) -> dict[str, Any]:
    return {"from": hop.start, "to": hop.end, "way_back": hop.way_back, "notes": _notes(config, hop)}


def _call_off(run: Run, target: str) -> None:
    """End a downgrade that was begun and is not wanted any more: as long as one is pending, etcd keeps its version."""
    views = run.fleet.map(gate.ask)
    statuses = judgement.voters(views)
    pending = {status.downgrade for status in statuses.values()} - {""}
    if pending and minor(target) not in map(minor, pending):
        run.ui.step(f"Call off the downgrade to {', '.join(pending)}")
        newest = max(statuses, key=lambda name: release(statuses[name].version))  # older ones do not know how
        client(run, newest, "downgrade", "cancel")
