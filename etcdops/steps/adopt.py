"""adopt: a cluster that somebody built by hand, such as by the guide, becomes this project's without a stop.

It reads how the members run, writes config.yaml and what it can have of the keys, and leaves a record on each host.
Nothing that runs is touched: the first deploy takes the members over, one at a time, like any rolling change.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from etcdops import apply, atomic, guards, layout, ui
from etcdops.adoption import carried, fit, keys, proposal, text
from etcdops.adoption.found import Found, parse_host, parse_member
from etcdops.adoption.found import Host as Strange
from etcdops.adoption.proposal import Given
from etcdops.adoption.report import Adoption, by_member, document, member, of_keys
from etcdops.config import Config, Member
from etcdops.credentials import Denied
from etcdops.errors import HostsFailed, OpsError, Refused, UsageError
from etcdops.facts import WAIT
from etcdops.plan import Change, Directory, File
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps.converge import ALL_STEPS, Decision, decide, survey


def adopt(run: Run, hosts: str, name: str) -> None:
    """Describe what runs in config.yaml, and have deploy take it over."""
    given, base = _given(run, hosts, name)
    run.config = base
    found = _look(run, base)
    ours = [each.name for each in found if each.process.is_ours]
    if len(ours) == len(found):
        _already(run, base, given, found)
        return
    adoption = _decide(run, base, given, found)
    if not run.dry_run and not adoption.empty:
        _write(run, given, adoption)
    lines, trouble = ({}, "") if run.dry_run else _preview(run)
    run.emit(document(adoption, lines, dry_run=run.dry_run), lambda: _show(run, adoption, lines))
    if trouble:
        run.ui.warn(f"inv deploy would not begin yet: {trouble}")


def _given(run: Run, hosts: str, name: str) -> tuple[Given, Config]:
    """The file as it is, and the hosts to look at as members of a cluster that is not known yet."""
    try:
        there = run.path.read_text(encoding="utf-8") if run.path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{run.path}: cannot be read: {error}") from None
    words = [word.strip() for word in hosts.split(",") if word.strip()]
    base = text.skeleton(there, run.path)
    if text.has(there, run.path, "members") and there.strip():
        strange = [word for word in words if word not in {each.address for each in base.members} | _aliases(base)]
        if strange:
            addresses = ", ".join(each.address for each in base.members)
            raise Refused(
                f"{run.path} describes another cluster ({addresses}), and is left as it is",
                hint="name another file: inv -f FILE adopt --hosts=..., or ETCDOPS_CONFIG",
            )
        return Given(run.path, there, name), base
    if not words:
        raise UsageError("which hosts?", hint="inv adopt --hosts=192.0.2.1,192.0.2.2,192.0.2.3; one is enough")
    user, ssh = _user(words), None
    if user and not there.strip():
        words, ssh = [word.partition("@")[2] for word in words], {"user": user}
        base = base.model_copy(update={"ssh": base.ssh.model_validate({"user": user})})
    members = [Member.model_construct(name=word, address=word, ssh="", port=0) for word in words]
    return Given(run.path, there, name, ssh), base.model_copy(update={"members": members})


def _aliases(base: Config) -> set[str]:
    return {each.ssh for each in base.members} | {each.name for each in base.members}


def _user(words: Sequence[str]) -> str:
    """The account that all hosts are reached with, '' where they do not say one and the same."""
    users = {word.partition("@")[0] if "@" in word else "" for word in words}
    return users.pop() if len(users) == 1 else ""


def _look(run: Run, base: Config) -> list[Found]:
    """Every member: those that were named, and those that they know besides; ``Refused`` with what cannot be."""
    run.ui.step(f"Look at {', '.join(each.name for each in base.members)}")
    found = _ask(run, base.members)
    seen = {each.member.id for each in found if each.member}
    known = next((each.view.members for each in found if each.view.members), None) or ()
    others = {next(fit.addresses(each.peer_urls), ""): each for each in known if each.id not in seen}
    missing = [
        Member.model_construct(name=address, address=address, ssh="", port=0)
        for address, each in others.items()
        if address and each.started
    ]
    if missing:
        run.ui.step(f"Look at {', '.join(each.address for each in missing)}, too")
        found = sorted([*found, *_ask(run, missing)], key=lambda each: each.name)
    guards.refuse([*(each for one in found for each in fit.member(one)), *fit.cluster(found)])
    return found


def _ask(run: Run, members: Sequence[Member]) -> list[Found]:
    part = run.of(members)
    try:
        results = part.fleet.map(_ask_host)
    finally:
        part.close()
    if away := [each for each in results.values() if isinstance(each, OpsError)]:
        raise HostsFailed(
            away, hint="adopt takes a whole cluster; a member that is gone for good must be removed first"
        )
    told = {name: each for name, each in results.items() if not isinstance(each, OpsError)}
    guards.refuse(finding for strange, _ in told.values() for finding in fit.process(strange))
    return [each for _, each in told.values() if each is not None]


def _ask_host(host: Host) -> tuple[Strange, Found | None]:
    strange = parse_host(host.name, host.run(layout.script("prelude", "strange")).stdout)
    if list(fit.process(strange)):
        return strange, None
    (process,) = strange.processes
    client = f"{strange.etcdctl} --endpoints={process.client_url} {process.secure} --dial-timeout=4s"
    head = f"QUERIES='health status members' WAIT={WAIT} CLIENT='{client}'"
    script = "\n".join((head, layout.script("prelude", "adopt", "etcd")))
    done = host.client(script, *process.places, "--", *process.files, layout.ADOPTED)
    found = parse_member(strange, process, done.stdout)
    if denied := host.credentials.refusal(found.view.complaint):
        raise Denied(denied.message, host=host.name, hint="write auth.user into config.yaml: docs/adopt.md")
    return strange, found


def _already(run: Run, base: Config, given: Given, found: Sequence[Found]) -> None:
    """Every member is ours: there is nothing to adopt, and whose it is stands in its own config.yaml."""
    mine = bool(given.text.strip()) and text.has(given.text, given.path, "members")
    line = f"nothing to do: {', '.join(each.name for each in found)} are etcdops' already"
    if not mine:
        line += "; their config.yaml and pki folder are where they were deployed from"
    said = {"adopted": True, "members": [member(each) for each in found], "left": [], "written": []}
    run.emit(said, lambda: run.ui.result(line))


def _decide(run: Run, base: Config, given: Given, found: Sequence[Found]) -> Adoption:
    """What is to be written; ``Refused`` where something else stands there."""
    described = text.has(given.text, given.path, "members")
    members = _members(base, found, described)
    if described:
        text.same_cluster(base, [each.address for each in base.members], [each.address for each in members])
    strange = [each for each in found if not each.process.is_ours]
    partly = len(strange) < len(found)
    new, config = (given.text, base) if partly else proposal.describe(given, found, members)
    made = keys.gather(found, _pki(config), datetime.now(UTC)) if config.cluster.tls and not partly else None
    guards.refuse(made.findings if made else ())
    there = _pki(config)
    files = {name: data for name, data in (made.files if made else {}).items() if name not in there}
    records = {each.name: proposal.record(config, each) for each in strange}
    due = {each.name: data for each in strange if each.files.get(layout.ADOPTED) != (data := records[each.name])}
    said = [*proposal.warnings(config, found), *(() if partly else carried.left(found))]
    return Adoption(config, found, new if new != given.text else "", made, files, due, said)


def _members(base: Config, found: Sequence[Found], described: bool) -> list[Member]:
    """The members as the cluster names them, reached as they were reached."""
    known = {each.name: each for each in base.members} if described else {}
    members = []
    for each in found:
        was = known.get(each.host)
        ssh = was.ssh if was else "" if each.host == each.address else each.host
        port = was.port if was else 0
        members.append(Member.model_construct(name=each.name, address=each.address, ssh=ssh, port=port))
    return members


def _pki(config: Config) -> dict[str, bytes]:
    """The certificates and keys in pki.dir, by their path in it."""
    folder = config.resolve(config.pki.dir)
    try:
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.pem"))}
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error}") from None


def _write(run: Run, given: Given, adoption: Adoption) -> None:
    """The keys, then the file, then the records: what a later run takes for adopted is there last."""
    folder = adoption.config.resolve(adoption.config.pki.dir)
    if adoption.files:
        run.ui.step(f"Write {adoption.config.pki.dir}")
        atomic.private_folder(folder)
        with atomic.locked(folder):
            atomic.write(
                [
                    atomic.NewFile(folder / name, data, 0o600 if name.endswith("-key.pem") else 0o644)
                    for name, data in adoption.files.items()
                ]
            )
    if adoption.text:
        run.ui.step(f"Write {given.path}")
        path = given.path.resolve()
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        new = [atomic.NewFile(path, adoption.text.encode(), mode)]
        old = path.with_name(f"{path.name}.before-adopt")
        if given.text.strip() and not old.exists():  # a later run must not put its own result there
            run.ui.line(f"as it was: {old}")
            new.insert(0, atomic.NewFile(old, given.text.encode(), mode))
        with atomic.locked(path.parent):
            atomic.write(new)
    if adoption.records:
        run.ui.step(f"Record it on {', '.join(adoption.records)}")
        run.config = adoption.config
        part = run.of(run.config.members)
        try:
            part.fleet.all(lambda host: _record(host, adoption.records[host.name]), list(adoption.records))
        finally:
            part.close()


def _record(host: Host, content: bytes) -> None:
    changes = [Change(File(layout.ADOPTED, content), "adopted")]
    if host.run('[ -d "$1" ]', layout.CONF_DIR, check=False).rc:
        changes.insert(0, Change(Directory(layout.CONF_DIR, 0o755), "new"))
    apply.push(host, changes, None, "")


def _preview(run: Run) -> tuple[dict[str, list[str]], str]:
    """What deploy would do now, and why it would not begin."""
    fresh = Run(run.path, run.ui, dry_run=True)
    fresh.credentials = run.credentials  # a password is asked for once
    try:
        decision: Decision = decide(fresh, survey(fresh), ALL_STEPS)
    except OpsError as error:
        return {}, "; ".join(ui.error_lines(error))
    finally:
        fresh.close()
    here = [f"{item.action} {fresh.config.pki.dir}/{item.path}  ({item.why})" for item in decision.certificates]
    return {**({"here": here} if here else {}), **decision.lines()}, ""


def _show(run: Run, adoption: Adoption, lines: Mapping[str, Sequence[str]]) -> None:
    done = "nothing to do: adopted already" if adoption.empty else "adopted"
    if run.dry_run:
        for line in adoption.lines():
            run.ui.result(line)
        for line in adoption.text.splitlines():
            run.ui.result(f"    {line}")
        if adoption.empty:
            run.ui.result("nothing to do")
    if adoption.said:
        run.ui.result("left behind, or other after the first deploy:")
        for line in ui.grouped(by_member(adoption.said)):
            run.ui.result(f"    {line}")
    for line in of_keys(adoption):
        run.ui.result(line)
    if lines:
        run.ui.result("inv deploy will change:")
        for line in ui.grouped(lines):
            run.ui.result(f"    {line}")
    if not run.dry_run:
        cluster = adoption.config.cluster
        run.ui.result(
            f"{done}: {cluster.name}, {len(adoption.found)} members, etcd {cluster.version}; inv deploy takes it over"
        )
