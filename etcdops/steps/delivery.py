"""What every step that changes hosts does: issue certificates, obtain archives, ask etcd about its new configuration,
push changes, record who has joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from etcdops import apply, desired, layout, transport
from etcdops.desired import Want
from etcdops.errors import Refused
from etcdops.etcd import View
from etcdops.facts import HostFacts
from etcdops.judgement import Views
from etcdops.keystore import Item
from etcdops.plan import Change, File, Release
from etcdops.release import Archive, Releases, architecture
from etcdops.run import Run


def wants(run: Run, facts: Mapping[str, HostFacts], incarnation: str) -> dict[str, Want]:
    """All that the desired state of each host in ``facts`` follows from, with the certificates that are there now."""
    tls, now = run.config.cluster.tls, datetime.now(UTC)
    return {
        member.name: Want(
            run.config,
            member,
            facts[member.name],
            incarnation,
            run.keystore.member_files(member, now) if transport.kept(facts[member.name], tls) else None,
        )
        for member in run.config.members
        if member.name in facts
    }


def secured(run: Run, tls: bool = True) -> Run:
    """The run as it is with this ``cluster.tls``."""
    config = run.config
    return run.under(config.model_copy(update={"cluster": config.cluster.model_copy(update={"tls": tls})}))


def issue(run: Run) -> None:
    """gen-ca and gen-server-cert, as far as something is missing or stale; nothing for plain http."""
    if not run.config.cluster.tls:
        return
    now = datetime.now(UTC)
    items = [*run.keystore.make_ca(now), *run.keystore.make_leaves(run.config.members, now)]
    made = [item for item in items if item.action != "keep"]
    if made:
        run.ui.step(f"Issue certificates in {run.config.pki.dir}")
        show_items(run, made)


def show_items(run: Run, items: Iterable[Item]) -> None:
    """What was done, or is to be done, to each file of the PKI folder."""
    for item in items:
        run.ui.line(f"{item.action:<6} {item.path}  ({item.why})")


def archives(run: Run, facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> dict[str, Archive]:
    """The archive for each host that needs one; fetched and checked before anything is pushed anywhere."""
    version, needed = run.config.cluster.version, _needing(facts, changes)
    if not needed:
        return {}
    with run.ui.transfer("download") as progress:
        releases = Releases(run.config.release, run.config.resolve, run.cache, progress)
        by_arch = {arch: releases.obtain(version, arch) for arch in sorted(set(needed.values()))}
    return {name: by_arch[arch] for name, arch in needed.items()}


def look_for_archives(run: Run, facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> None:
    """``archives`` for a dry run: what is wrong with the release shows, and nothing is downloaded."""
    releases = Releases(run.config.release, run.config.resolve, run.cache)
    for arch in sorted(set(_needing(facts, changes).values())):
        releases.look(run.config.cluster.version, arch)


def _needing(facts: Mapping[str, HostFacts], changes: Mapping[str, Sequence[Change]]) -> dict[str, str]:
    """The hosts that get a release, with their architecture."""
    return {
        name: str(architecture(facts[name].machine))
        for name, each in changes.items()
        if any(isinstance(change.resource, Release) for change in each)
    }


def push(run: Run, changes: Mapping[str, Sequence[Change]], archives: Mapping[str, Archive]) -> None:
    """Put ``changes`` in place, on all hosts at once."""
    names = [name for name, each in changes.items() if each]
    if not names:
        return
    version = run.config.cluster.version
    with run.ui.transfer("send to") as progress:
        run.fleet.all(
            lambda host: apply.push(
                host,
                changes[host.name],
                archives.get(host.name),
                version,
                lambda done, total: progress(host.name, done, total),
            ),
            names,
        )


def ask(run: Run, changes: Mapping[str, Sequence[Change]]) -> None:
    """The release that is to run, on each host, about the configuration that it is going to get; ``Refused`` with
    what it does not take."""
    confs = {
        name: change.resource.content or b""
        for name, each in changes.items()
        for change in each
        if isinstance(change.resource, File) and change.resource.path == layout.CONF
    }
    version = run.config.cluster.version
    program = f"{layout.RELEASES}/{version}/etcd"
    script = layout.script("accepts")
    said = run.fleet.all(lambda host: host.run(script, program, stdin=confs[host.name]).stdout.strip(), list(confs))
    bad = [
        Refused(f"etcd {version} does not take the configuration: {apply.explain(text)}", host=name)
        for name, text in said.items()
        if text
    ]
    if bad:
        raise Refused("no member was changed", findings=bad)


def record(
    run: Run,
    facts: Mapping[str, HostFacts],
    views: Views,
    incarnation: str,
    names: Sequence[str],
    steps: tuple[str, ...],
) -> None:
    """Tell each of ``names``, members that have joined since ``facts``, who they are, so that they are guarded."""
    now = {name: _joined(facts[name], view) for name, view in views.items() if isinstance(view, View)}
    known = wants(run, now, incarnation)
    push(
        run,
        {name: [Change(each, "it has joined") for each in desired.joined(known[name], steps)] for name in names},
        {},
    )


def _joined(fact: HostFacts, view: View) -> HostFacts:
    """The facts of a member that was started in this run and passed the gate."""
    return replace(fact, view=view, unit=replace(fact.unit, active="active"))
