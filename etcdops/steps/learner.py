"""A learner on its way to a vote: it is started, copies, and is promoted once it is in sync (etcd-operations 3.5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from etcdops import apply, etcd, gate, layout, membership
from etcdops.config import Member
from etcdops.errors import HostError, OpsError
from etcdops.etcd import ClusterMember, View
from etcdops.facts import HostFacts, gather
from etcdops.run import Run
from etcdops.ssh import Host
from etcdops.steps.membership import PASSING, Members, say

TOLD = 5.0  # seconds between two lines about how far it has come
LONGEST = 6 * 3600.0  # seconds for a learner that gets on and never catches up
RESTART, TRIES = 20, 3  # seconds for another start of one that ended, and how many of them
IN_SYNC = 0.9  # of what the leader has: etcd promotes no learner below it

Guard = Callable[[HostFacts], None]


@dataclass
class Progress:
    """How far a learner has come (entries applied, KiB of data), and for how long it has come no further; seconds."""

    began: float
    since: float = field(init=False)
    told: float = field(init=False)
    best: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.since = self.told = self.began

    @property
    def lasts(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began

    @property
    def stands(self) -> float:
        """Since it has come no further."""
        return time.monotonic() - self.since

    def note(self, applied: int, size: int) -> None:
        """It has come so far."""
        if applied > self.best[0] or size > self.best[1]:
            self.best, self.since = (applied, size), time.monotonic()

    def is_due(self) -> bool:
        """Whether to say so, every few seconds."""
        due = time.monotonic() - self.told >= TOLD
        if due:
            self.told = time.monotonic()
        return due


def follow(run: Run, member: Member, others: Sequence[str], entry: ClusterMember, guard: Guard) -> None:
    """Start ``member``, which the list has as ``entry``, and wait until it is a voter.

    ``others`` are the members to ask; ``guard`` is called with what its host says before it votes.  ``HostError``
    when it does not come up, comes no further, or cannot be reached by one of the others.
    """
    name, id_ = member.name, entry.id
    run.ui.step(f"Start {name}, and wait until it is in sync")
    run.fleet.all(lambda host: apply.begin(host, seconds=0), [name])
    progress, starts = Progress(time.monotonic()), 0
    while True:
        fact, size = run.fleet.all(_look, [name])[name]
        views = [view for view in run.fleet.map(gate.ask, others).values() if isinstance(view, View)]
        heads = [view for view in views if view.has_quorum and view.members and view.status]
        listed = next((each for view in heads for each in view.members or () if each.id == id_), None)
        if heads and listed is None:
            raise HostError("has been removed from the cluster by somebody else meanwhile", host=name)
        applied = fact.view.status.applied if fact.view.status else 0
        if fact.view.status is None and heads and etcd.OF_NO_LEARNER in fact.view.complaint:
            fact = _unseen(fact, heads[0], id_)
        head = max((view.status.index for view in heads if view.status), default=0)
        ready = fact.unit.active == "active" and membership.runs_as(fact, entry)
        if ready and listed and listed.started and fact.view.status and fact.view.status.applied >= IN_SYNC * head:
            guard(fact)
            if not listed.learner or _promote(run, member, others, id_):
                run.ui.line(f"in sync after {progress.lasts:.1f} s, and a voter")
                return
        if not fact.is_running:  # it ended, and systemd will start it anew
            starts += 1
            _explain(run, name, RESTART if starts < TRIES else 1)
        progress.note(applied, size)
        if progress.stands > run.patience or progress.lasts > LONGEST:
            _see_it_reached(run, member, others)
            _explain(run, name, 1)
            raise HostError(f"is not in sync after {progress.lasts:.0f} s", host=name)
        if progress.is_due():
            run.ui.line(f"{name}: {size >> 10} MiB, {applied} of {head} entries")
        time.sleep(gate.POLL)


def is_voter(members: Members, id_: int) -> bool:
    """Whether the member with this id has started, and votes."""
    return any(each.id == id_ and each.started and not each.learner for each in members)


def _promote(run: Run, member: Member, others: Sequence[str], id_: int) -> bool:
    """Whether it is a voter now; not yet, where etcd finds that it lags.

    One that the others cannot dial would do until one of them has to send it a snapshot, so that is seen before.
    """
    _see_it_reached(run, member, others)
    for via in others:
        said = say(run, via, ("promote", f"{id_:x}"))
        view = run.fleet.map(gate.ask, [via])[via]
        if isinstance(view, View) and view.members and is_voter(view.members, id_):
            return True
        if said and "in sync" not in said and not any(each in said for each in PASSING):
            raise HostError(f"does not promote {member.name}: {said}", host=via)
    return False


def _see_it_reached(run: Run, member: Member, others: Sequence[str]) -> None:
    """``HostError`` unless every other member reaches its peer port, as far as that can be seen."""
    for other, why in run.fleet.map(lambda host: _reach(host, member.address), others).items():
        if why and not isinstance(why, OpsError):
            raise HostError(f"{other} does not reach {member.address}:{layout.PEER_PORT}: {why}", host=member.name)


def _explain(run: Run, name: str, seconds: int) -> None:
    """``HostError`` with what etcd on its host says, if it does not come up within ``seconds``."""
    run.fleet.all(lambda host: apply.service(host, "start", seconds=seconds), [name])


def _look(host: Host) -> tuple[HostFacts, int]:
    """Its facts, and how many KiB of data have arrived."""
    size = host.run('du -sk -- "$1" 2>/dev/null || true', layout.DATA_DIR).stdout.split()
    return gather(host), int(size[0]) if size else 0


def _reach(host: Host, address: str) -> str:
    """Why a host does not reach the peer port there, else ''; also '' where it has no bash to see it with."""
    script = 'command -v bash >/dev/null || exit 0; timeout 5 bash -c \'exec 3<>"/dev/tcp/$0/$1"\' "$1" "$2" 2>&1'
    done = host.run(script, address, str(layout.PEER_PORT), check=False)
    if done.rc == 0 or "No such file" in done.stdout:
        return ""
    lines = done.stdout.strip().splitlines() or ["no answer within 5 s"]
    return lines[-1].rpartition(": ")[2]


def _unseen(fact: HostFacts, head: View, id_: int) -> HostFacts:
    """A learner that checks no password, and so tells nothing of itself, as one that may be promoted: etcd refuses
    that as long as it lags."""
    assert head.status
    return replace(fact, view=replace(fact.view, status=replace(head.status, member_id=id_, learner=True)))
