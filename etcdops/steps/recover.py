"""recover: quorum is lost for good, and no backup is needed: what the survivors hold becomes the new cluster.

etcd-operations 3.9.  No survivor's own data is started or changed: a copy of it is, which gives a snapshot with all
that its write-ahead log holds.  The furthest one is then restored on every host that can be reached, as a new
incarnation.  Members of the old one that come back are no part of it; enough of them would form the old cluster beside
it, which nothing here can prevent: they must never be started again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from etcdops import guards, judgement, restoration
from etcdops.errors import HostError, HostsFailed, OpsError, Refused, Unhealthy, Unreachable
from etcdops.etcd import quorum
from etcdops.facts import gather
from etcdops.run import Run
from etcdops.snapshots import store as stores
from etcdops.snapshots import wal
from etcdops.snapshots.opened import open_store
from etcdops.snapshots.proof import prove
from etcdops.snapshots.take import SECONDS, Sink, salvage
from etcdops.ssh import Host
from etcdops.steps import delivery
from etcdops.steps.before import Cluster
from etcdops.steps.converge import ALL_STEPS
from etcdops.steps.drill import START
from etcdops.steps.exchange import Exchange, complete, findings
from etcdops.steps.sources import Source
from etcdops.steps.survivors import ID, Look, impossible, look, needless

# The files of a log in the order of their names, which are numbers; the size of each, in the same order.
LOG = "cd /var/lib/etcd/default.etcd/member/wal && cat -- *.wal && stat -c %s -- *.wal >&2"


def recover(run: Run) -> None:
    """Make a new cluster of what the survivors hold, on all hosts that can be reached."""
    began = time.monotonic()
    hosts = look(run)
    part = run.only(list(hosts.facts))
    if hosts.unfinished:
        if not _finish(run, part, hosts):
            return
        hosts = look(run)
    survivors = hosts.survivors
    reasons = needless(run, hosts)
    if reasons and hosts.barred:
        _give_up(run, part, hosts, reasons[0])
        return
    guards.refuse([*(reasons or impossible(hosts)), *findings(part, Cluster(hosts.facts, hosts.sides))])
    for error in hosts.lost.values():
        run.ui.line(f"lost: {error}")
    run.ui.line(f"survivors with data: {', '.join(survivors)}; a quorum takes {quorum(len(run.names))}")
    what = "systemctl stop etcd; save what it holds; restore the furthest of them"
    if run.decided(f"{name}  {what}" for name in survivors):
        return
    run.confirm(
        f"Give up {', '.join(hosts.lost) or 'what is missing'} and make a new cluster {run.config.cluster.name} of "
        f"what {', '.join(survivors)} {'holds' if len(survivors) == 1 else 'hold'}",
        answer=run.config.cluster.name,
    )
    _same(hosts, look(run))
    try:
        with (
            open_store(run.config) as store,
            stores.workspace(run.config.resolve(run.config.backup.dir)) as work,
        ):
            source = _salvage(part, survivors, store, work)
            delivery.issue(part)
            before = Cluster(part.fleet.all(gather), hosts.sides)
            exchange = Exchange.plan(part, before, source, standing="nothing was restored")
            exchange.prepare()
            _still_lost(run, exchange, list(hosts.lost))
            exchange.swap()
    except BaseException:
        with run.unbroken("the survivors were being put back"):
            _give_back(part, hosts)
        raise
    exchange.commit()
    part.close()
    run.ui.result(f"recovered in {time.monotonic() - began:.1f} s: {exchange.outcome}")
    if hosts.lost:
        run.ui.warn(
            f"not in the new cluster: {', '.join(hosts.lost)}; their old etcd must never start again; take them out of "
            f"{run.config.path.name}, then inv add-member NAME --address=IP for each new host"
        )


def _same(asked: Look, now: Look) -> None:
    """``Refused`` where somebody has come back while the question stood: it was about other hosts."""
    if now.healthy or now.survivors != asked.survivors or list(now.facts) != list(asked.facts):
        raise Refused("the hosts are not as they were when you were asked", hint="inv status; then inv recover again")


def _still_lost(run: Run, exchange: Exchange, lost: Sequence[str]) -> None:
    """``Refused`` where one answers now, which may serve as the old cluster: saving and sending may have taken long."""
    try:
        found = run.fleet.map(lambda host: host.open(), lost)
        back = [name for name, each in found.items() if not isinstance(each, Unreachable)]
        if back:
            raise Refused(f"{', '.join(back)} can be reached again, and may have the old data", hint="inv status")
    except BaseException:  # Ctrl-C as well, which may have waited for this point
        with run.unbroken("what was staged was being deleted again"):
            exchange.discard()
        raise


def _finish(run: Run, part: Run, hosts: Look) -> bool:
    """What an exchange that was cut short has left; whether there is still something to recover.

    Where etcd was not let start since, the old data comes back.  Where it was, clients may have written to the new
    data: that stays, and the old is set aside.
    """
    id_ = hosts.unfinished
    barred = any(side.barred == id_ for side in hosts.sides.values())
    what = "put the data back that it had replaced" if barred else "keep the data that it has brought"
    if barred and hosts.healthy:
        raise Refused(
            f"restore {id_} was cut short, and {', '.join(hosts.healthy)} can commit",
            hint="inv restore-undo; it needs every host: take those that are lost for good out of config.yaml first",
        )
    if run.decided(f"{name}  restore {id_} was cut short: {what}; then look again" for name in hosts.facts):
        return False
    run.confirm(f"Restore {id_} was cut short: {what}", answer=run.config.cluster.name)
    if barred:
        part.fleet.all(lambda host: restoration.undo(host, id_))
        return True
    if hosts.healthy:
        views = {name: fact.view for name, fact in hosts.facts.items()}
        silent = {name: view.but_for_alarms() for name, view in views.items()}  # they came with the data
        # Not whether they are those of config.yaml: a host that is lost for good is a member still.
        if reasons := [*judgement.unwell(silent), *judgement.leadership(silent), *judgement.disagreement(silent)]:
            raise Unhealthy("; ".join(reasons), hint="inv status; once they are healthy the same again completes it")
        strangers = {name: replace(fact, identity={}) for name, fact in hosts.facts.items()}
        token = next(iter(hosts.facts.values())).token
        delivery.record(part, strangers, views, token, part.names, ALL_STEPS)
    complete(part, id_, part.names)
    if hosts.healthy:
        run.ui.result(f"recovery {id_} had been cut short at its very end; it is complete now")
    return not hosts.healthy


def _give_up(run: Run, part: Run, hosts: Look, reason: Refused) -> None:
    """End a recovery that was cut short, and for which there is no ``reason`` any more: what it stopped runs again."""
    run.ui.line(reason.message)
    names = ", ".join(hosts.barred)
    if run.decided(f"{name}  give up the recovery that was cut short; systemctl start etcd" for name in hosts.barred):
        return
    run.confirm(f"Give up the recovery that was cut short, and start etcd on {names} with the data that it has")
    if failed := _give_back(part, hosts):
        raise HostsFailed(failed, hint="inv recover again")
    run.ui.result(f"the recovery that was cut short is given up, and etcd starts on {names}: inv status")


def _give_back(part: Run, hosts: Look) -> list[OpsError]:
    """The survivors as they were, after an error or Ctrl-C; what failed."""

    def free(host: Host) -> bool:
        if restoration.look(host).swapped:  # its old data is not back: what the exchange has said stands
            return False
        restoration.undo(host, ID)
        if host.name in hosts.running:
            host.run("systemctl start --no-block etcd.service")
        return True

    part.reconnect()  # Ctrl-C has closed every connection
    freed = part.fleet.map(free)
    failed = [each for each in freed.values() if isinstance(each, OpsError)]
    for each in failed:
        part.ui.warn(f"{each}; etcd does not start there as long as /var/lib/etcd/restoring exists")
    if all(each is True for each in freed.values()):
        part.ui.line(f"{', '.join(hosts.survivors)}: the data is as it was, and so is etcd")
    part.close()
    return failed


def _salvage(run: Run, survivors: Sequence[str], store: stores.Store, work: Path) -> Source:
    """What each survivor holds, in the store; the furthest of them, by the last entry of its log."""
    run.ui.step(f"Stop {', '.join(survivors)}, and save what they hold")
    run.fleet.all(lambda host: restoration.halt(host, ID), survivors)
    logs = run.fleet.all(lambda host: _log(host, work / f"{host.name}.wal"), survivors)
    sources: dict[str, Source] = {}
    for name in sorted(survivors, key=lambda name: logs[name][0].reach, reverse=True):
        path = work / f"{name}.db"
        try:
            manifest = run.fleet.all(
                lambda host: salvage(host, run.config.cluster.name, work / f"{host.name}.db", START, *logs[host.name]),
                [name],
            )[name]
        except HostsFailed as error:
            if not isinstance(error.errors[0], HostError):
                error.errors[0].host = ""  # it is this machine's trouble
                raise error.errors[0] from None
            if not sources:  # only it is known to have all that any survivor has
                raise HostsFailed(
                    error.errors,
                    hint=f"no survivor goes further than {name}: mend that, or, to go without it, take it out of "
                    "config.yaml; without any survivor inv restore has the newest backup",
                ) from None
            run.ui.warn(f"{error.errors[0]}")
            continue
        manifest = manifest.model_copy(update={"purpose": "rescue"})
        manifest = store.add(path, manifest, lambda name, done, total: None)
        sources[name] = Source(manifest.name, path, prove(path), manifest)
        log = logs[name][0].reach
        run.ui.line(
            f"{name}: log to term {log.term}, index {log.index}, of which {log.committed} were known as committed; "
            f"revision {manifest.revision}; saved as {manifest.file}"
        )
    best = next(iter(sources))
    run.ui.line(
        f"{best} goes furthest; what only the lost members had acknowledged, and no survivor had received, is lost"
    )
    return sources[best]


def _log(host: Host, path: Path) -> tuple[wal.Log, int]:
    """How far the log on ``host`` goes, and where in its last file that is.

    It comes here in a file, for it may be hundreds of MB.
    """
    said: list[bytes] = []
    with Sink(path) as sink:
        done = host.run(LOG, relay=(sink.write, said.append), timeout=SECONDS, check=False)
    text = b"".join(said).decode(errors="replace")
    if done.rc != 0:
        raise HostError(f"the log cannot be read: {text.strip()}", host=host.name)
    with path.open("rb") as stream:
        found = wal.read(stream)
    path.unlink()
    at = found.end - sum(map(int, text.split()[:-1]))
    if at < 0:
        raise HostError(f"the log is damaged {-at} bytes before its last file begins", host=host.name)
    return found, at
