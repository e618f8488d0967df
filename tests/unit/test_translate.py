"""Settings of one release in the words of another."""

from __future__ import annotations

from typing import Any

import pytest

from etcdops.translate import translate

DEFAULT = "CompactHashCheck=true,InitialCorruptCheck=true"
# settings, the release that comes: its settings, problems
CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any], list[str]]] = {
    "nothing": ({}, "3.7.3", {}, []),
    "the same everywhere": ({"heartbeat-interval": 200}, "3.7.3", {"heartbeat-interval": 200}, []),
    "no experiment any more": (
        {"experimental-compaction-batch-limit": 500},
        "3.6.16",
        {"compaction-batch-limit": 500},
        [],
    ),
    "an experiment again": (
        {"compaction-batch-limit": 500},
        "3.5.30",
        {"experimental-compaction-batch-limit": 500},
        [],
    ),
    "3.4's freelist": (
        {"experimental-backend-bbolt-freelist-type": "map"},
        "3.5.30",
        {"backend-bbolt-freelist-type": "map"},
        [],
    ),
    "a switch becomes a gate, beside ours": (
        {"experimental-initial-corrupt-check": False},
        "3.6.16",
        {"feature-gates": "CompactHashCheck=true,InitialCorruptCheck=false"},
        [],
    ),
    "two switches": (
        {"experimental-enable-lease-checkpoint": True, "experimental-compact-hash-check-enabled": False},
        "3.6.16",
        {"feature-gates": "CompactHashCheck=false,InitialCorruptCheck=true,LeaseCheckpoint=true"},
        [],
    ),
    "a switch and gates": (
        {"feature-gates": "LeaseCheckpoint=true", "experimental-stop-grpc-service-on-defrag": True},
        "3.7.3",
        {"feature-gates": "LeaseCheckpoint=true,StopGRPCServiceOnDefrag=true"},
        [],
    ),
    "gates become switches": (
        {"feature-gates": DEFAULT},
        "3.5.30",
        {"experimental-compact-hash-check-enabled": True, "experimental-initial-corrupt-check": True},
        [],
    ),
    "a gate without a switch": (
        {"feature-gates": "SetMemberLocalAddr=true"},
        "3.5.30",
        {},
        ["etcd 3.5.30 has nothing for the feature gate SetMemberLocalAddr"],
    ),
    "v2, switched off": ({"enable-v2": False}, "3.6.16", {}, []),
    "v2": (
        {"enable-v2": True},
        "3.6.16",
        {"enable-v2": True},
        ["etcd 3.6.16 has nothing for cluster.settings.enable-v2: true"],
    ),
    "v2 on 3.5": ({"enable-v2": True}, "3.5.30", {"enable-v2": True}, []),
    "3.4's log": ({"logger": "capnslog", "debug": True}, "3.5.30", {"log-level": "debug"}, []),
    "what only 3.6 has": (
        {"max-learners": 2},
        "3.5.30",
        {"max-learners": 2},
        ["etcd 3.5.30 has nothing for cluster.settings.max-learners: 2"],
    ),
    "newer than what was asked": (
        {"brand-new": 2, "experimental-compaction-batch-limit": 500},
        "3.7.99",
        {"brand-new": 2, "compaction-batch-limit": 500},
        [],
    ),
}


@pytest.mark.parametrize(("settings", "version", "wanted", "problems"), CASES.values(), ids=CASES.keys())
def test_translate(settings: dict[str, Any], version: str, wanted: dict[str, Any], problems: list[str]) -> None:
    found = translate(settings, version)
    assert list(found.problems) == problems
    assert found.settings == wanted
    replaced = dict(pair for name, value in settings.items() for pair in found.replaced.get(name, ((name, value),)))
    assert replaced == wanted


def test_what_happens_is_told() -> None:
    settings = {"experimental-initial-corrupt-check": False, "enable-v2": False, "heartbeat-interval": 200}
    assert translate(settings, "3.6.16").lines == [
        "cluster.settings.experimental-initial-corrupt-check becomes feature-gates: "
        "CompactHashCheck=true,InitialCorruptCheck=false",
        "cluster.settings.enable-v2 goes",
    ]
