"""Decide, for the cluster as a whole: its token, and which members to start or restart in which order.  Pure."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from etcdops import layout
from etcdops.config import Config
from etcdops.facts import HostFacts


def token(config: Config, facts: Mapping[str, HostFacts]) -> str:
    """The token of this incarnation: the one the members started with, else one that is left from a run that was
    cut short before any member started, else a new one.

    A token of its own for each incarnation keeps the members of an old one from ever joining the new one.
    """
    started = [fact.token for fact in facts.values() if fact.has_data]
    prepared = [
        fact.token
        for fact in facts.values()
        if fact.conf.get("ETCD_INITIAL_CLUSTER_STATE") == "new"  # once a cluster has formed, it says "existing"
        and fact.conf.get("ETCD_INITIAL_CLUSTER_TOKEN", "").startswith(f"{config.cluster.name}-")
    ]
    for known in filter(None, (*started, *prepared)):
        return known
    return new_token(config)


def new_token(config: Config) -> str:
    """A token that no incarnation has had."""
    return f"{config.cluster.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Rollout:
    """``start``: members that are not ready, with what systemctl has to do, side by side.  ``restart``: members
    that serve, but run with something old, with the reason; one at a time, in this order."""

    start: Mapping[str, str]
    restart: Mapping[str, str]


def rollout(facts: Mapping[str, HostFacts], stale: Mapping[str, str]) -> Rollout:
    """Who is started and who is restarted; ``stale`` says why a running member must be restarted, '' if it
    need not be.

    The leader comes last: each restart before it then costs no election, and it hands over to an up-to-date peer.
    """
    ready = [name for name, fact in facts.items() if fact.unit.active == "active"]
    return Rollout(
        start={
            name: "restart" if fact.is_running and stale.get(name) else "start"
            for name, fact in facts.items()
            if name not in ready
        },
        restart={
            name: stale[name] for name in sorted(ready, key=lambda name: facts[name].view.leads) if stale.get(name)
        },
    )


def pioneers(config: Config, start: Mapping[str, str], with_data: Collection[str]) -> list[str]:
    """Which of the members that ``start`` begin alone, in this order, each until it answers its peers.

    A starting etcd asks its peers, and one that has opened its port and does not answer yet costs it a while.  Where it
    has data, 7 s each, for it wants the hash of theirs (InitialCorruptCheck): of those, one begins after the other.
    Where it has none, 1 s each in the order of their URLs, until one knows the cluster (etcd, getClusterFromRemotePeers
    and BootstrapTimeoutEffective): of those, the one begins that all others ask first.
    """
    cold = [name for name, verb in start.items() if verb == "start"]
    if len(cold) < 2:
        return []
    old = [name for name in cold if name in with_data]
    new = sorted({*cold} - {*old}, key=lambda name: config.member(name).url("https", layout.PEER_PORT))
    return [*old, *new[:1]]
