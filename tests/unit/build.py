"""Configurations, facts and members' answers for the tests: each case states only what matters to it.

The cluster is always etcd01 to etcd03 at 192.0.2.11 to 13, led by etcd01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from etcdops import layout
from etcdops.config import Config
from etcdops.etcd import ClusterMember, EndpointStatus, View
from etcdops.facts import HostFacts, Listener, PathFact, UnitFact

NAMES = ("etcd01", "etcd02", "etcd03")
VERSION = "3.6.16"
TOKEN = "etcd-cluster-20260820T120000Z-0a1b2c3d"
CLUSTER_ID = 0xC1
ACTIVE = UnitFact("active", "enabled", layout.UNIT, pid=700)
ROOM = {layout.DATA_DIR: 8 << 30, layout.RELEASES: 8 << 30}


def address(name: str) -> str:
    return f"192.0.2.{10 + number(name)}"


def number(name: str) -> int:
    return int(name.removeprefix("etcd"))


def config(version: str = VERSION, members: tuple[Any, ...] = NAMES, *, release: Any = (), **cluster: Any) -> Config:
    """``members`` are names, or mappings as in config.yaml; ``cluster`` is what else stands in that section."""
    return Config.model_validate(
        {
            "cluster": {"name": "etcd-cluster", "version": version, **cluster},
            "members": [
                each if isinstance(each, dict) else {"name": each, "address": address(each)} for each in members
            ],
            "release": dict(release),
        }
    )


def fresh(name: str = "etcd01", **known: Any) -> HostFacts:
    """A new host that nobody has touched; ``known`` says what differs."""
    facts = HostFacts(
        name=name,
        machine="x86_64",
        boot_id=f"boot-of-{name}",
        systemd=252,
        has_user=False,
        clock=(-0.02, 0.02),
        paths={},
        conf={},
        identity={},
        trust={},
        releases={},
        unit=UnitFact(),
        room=ROOM,
        addresses=frozenset({"127.0.0.1", "::1", address(name)}),
    )
    return replace(facts, **known)


def prepared(name: str = "etcd01", **known: Any) -> HostFacts:
    """Everything is in place for a first start, which has not happened."""
    conf = {"ETCD_INITIAL_CLUSTER_TOKEN": TOKEN, "ETCD_INITIAL_CLUSTER_STATE": "new"}
    unit = UnitFact(enabled="enabled", fragment=layout.UNIT)
    return fresh(name, **{"has_user": True, "conf": conf, "releases": {VERSION: "aa"}, "unit": unit, **known})


def cut_short(name: str = "etcd01", **known: Any) -> HostFacts:
    """Started for the first time and stopped before the cluster had formed: data, but no identity."""
    return prepared(name, **{"data": "wal", **known})


def serving(name: str = "etcd01", **known: Any) -> HostFacts:
    """A member that runs, healthy, in a cluster that etcdops set up."""
    running = {
        "ETCD_LISTEN_CLIENT_URLS": f"https://{address(name)}:2379,https://127.0.0.1:2379",
        "ETCDOPS_STARTED_WITH": "0",
    }
    return cut_short(
        name,
        **{
            "conf": {"ETCD_INITIAL_CLUSTER_TOKEN": TOKEN, "ETCD_INITIAL_CLUSTER_STATE": "existing"},
            "identity": identity(name),
            "unit": ACTIVE,
            "running": running,
            "executable": f"{layout.RELEASES}/{VERSION}/etcd",
            "listeners": tuple(Listener(port, ACTIVE.pid, "etcd") for port in (2379, 2380, 2381)),
            "view": view(name),
            **known,
        },
    )


def three(make: Callable[[str], HostFacts], *others: HostFacts) -> dict[str, HostFacts]:
    """Every host as ``make`` has it, but for ``others``."""
    return {name: make(name) for name in NAMES} | {each.name: each for each in others}


def identity(name: str) -> dict[str, Any]:
    return {
        "cluster": "etcd-cluster",
        "token": TOKEN,
        "cluster_id": f"{CLUSTER_ID:x}",
        "name": name,
        "member_id": f"{number(name):x}",
    }


def status(name: str = "etcd01", *, leader: str = "etcd01", **known: Any) -> EndpointStatus:
    """What a member says of itself; ``leader`` is '' when it knows of none."""
    usual = EndpointStatus(
        cluster_id=CLUSTER_ID,
        member_id=number(name),
        version=VERSION,
        db_size=20480,
        db_in_use=16384,
        leader=number(leader) if leader else 0,
        term=2,
        index=5000,
        applied=5000,
        revision=41,
        learner=False,
        quota=2 << 30,
        errors=(),
    )
    return replace(usual, **known)


def member(name: str, **known: Any) -> ClusterMember:
    """A line of the member list."""
    peer, client = (f"https://{address(name)}:{port}" for port in (2380, 2379))
    return replace(ClusterMember(number(name), name, (peer,), (client,), learner=False), **known)


def unstarted(name: str, **known: Any) -> ClusterMember:
    """A member that was added and has never come up."""
    return replace(member(name, **known), name="", client_urls=())


def view(name: str = "etcd01", **known: Any) -> View:
    """What a healthy member answers."""
    return replace(View(True, 2.0, status(name), tuple(member(each) for each in NAMES)), **known)


def path(kind: str = "file", mode: int = 0o644, owner: str = "root:root", **known: Any) -> PathFact:
    return PathFact(kind, mode, owner, **known)
