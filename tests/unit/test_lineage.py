"""Which backups are one cluster's, where several have its name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from etcdops.snapshots.lineage import own
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import RecordedMember
from tests.unit.snapshots import NOW, manifest

HERE, THERE, ELSEWHERE = "192.0.2.1", "198.51.100.1", "2001:db8::1"


def taken(what: str) -> list[Manifest]:
    """Of ``id@address/age``, in words: a backup of the cluster id, from so many hours ago."""
    made = []
    for word in what.split():
        id_, _, rest = word.partition("@")
        address, _, age = rest.partition("/")
        host = f"[{address}]" if ":" in address else address
        member = RecordedMember("1", "etcd01", (f"https://{host}:2380",))
        made.append(manifest(age=timedelta(hours=int(age)), cluster_id=id_, members=[member]))
    return made


# The backups in the store, addresses of config.yaml, the id that is known, and the ids and ages of this cluster's own.
CASES: dict[str, tuple[str, set[str], str, str]] = {
    "one cluster": (f"a@{HERE}/2 a@{HERE}/1", {HERE}, "", "a/1 a/2"),
    "it was restored, and restored again": (f"a@{HERE}/3 b@{HERE}/2 c@{HERE}/1", {HERE}, "c", "c/1 b/2 a/3"),
    "a restore's cluster has no backup yet": (f"a@{HERE}/3 b@{HERE}/2", {HERE}, "c", "b/2 a/3"),
    "nobody tells its id": (f"a@{HERE}/3 b@{HERE}/2", {HERE}, "", "b/2 a/3"),
    "another, at other addresses": (f"a@{HERE}/3 b@{THERE}/2 a@{HERE}/1", {HERE}, "", "a/1 a/3"),
    "another that is newer": (f"a@{HERE}/3 b@{THERE}/2", {HERE}, "", "a/3"),
    "an address without its brackets": (f"a@{ELSEWHERE}/3 b@{THERE}/2", {ELSEWHERE}, "", "a/3"),
    "it has moved, and was restored since": (f"a@{HERE}/4 a@{THERE}/3 b@{THERE}/2", {THERE}, "", "b/2 a/3 a/4"),
    "restored at other addresses": (f"a@{HERE}/4 b@{THERE}/3", {ELSEWHERE, HERE}, "", "a/4"),
    "fresh hosts elsewhere, one cluster": (f"a@{HERE}/4 b@{HERE}/3", {ELSEWHERE}, "", "b/3 a/4"),
    "fresh hosts elsewhere, two clusters": (f"a@{HERE}/4 b@{THERE}/3", {ELSEWHERE}, "", ""),
    "two side by side at the same addresses": (f"a@{HERE}/4 b@{HERE}/3 a@{HERE}/2 b@{HERE}/1", {HERE}, "", ""),
    "the same, and the id is known": (f"a@{HERE}/4 b@{HERE}/3 a@{HERE}/2 b@{HERE}/1", {HERE}, "a", "a/2 a/4"),
    "a restore was undone, and nobody tells the id": (
        f"a@{HERE}/6 a@{HERE}/5 b@{HERE}/4 b@{HERE}/3 a@{HERE}/2 a@{HERE}/1",
        {HERE},
        "",
        "a/1 a/2 a/5 a/6",
    ),
    "undone, and restored again since": (f"a@{HERE}/4 b@{HERE}/3 a@{HERE}/2 c@{HERE}/1", {HERE}, "d", "c/1 a/2 a/4"),
    "a restore was undone": (f"a@{HERE}/4 b@{HERE}/3 a@{HERE}/2", {HERE}, "a", "a/2 a/4"),
    "what began later is no ancestor": (f"a@{HERE}/4 b@{HERE}/3", {HERE}, "a", "a/4"),
    "none": ("", {HERE}, "a", ""),
}


@pytest.mark.parametrize(("store", "ours", "id_", "expected"), CASES.values(), ids=CASES.keys())
def test_own(store: str, ours: set[str], id_: str, expected: str) -> None:
    manifests = taken(store)
    found = own(manifests, ours, id_)
    assert [f"{m.cluster_id}/{(NOW - m.taken) // timedelta(hours=1)}" for m in found] == expected.split()


def test_an_undone_restore_is_for_whoever_deletes_a_cluster_beside_this_one() -> None:
    manifests = taken(f"a@{HERE}/4 b@{HERE}/3 a@{HERE}/2")
    assert own(manifests, {HERE}, sure=True) == []
    assert [m.cluster_id for m in own(manifests, {HERE}, "a", sure=True)] == ["a", "a"]


def test_whoever_deletes_has_to_be_told_by_an_id_or_an_address() -> None:
    manifests = taken(f"a@{HERE}/4 b@{HERE}/3")
    for ours, id_, expected in (({ELSEWHERE}, "", 0), ({ELSEWHERE}, "c", 0), ({ELSEWHERE}, "b", 2), ({HERE}, "", 2)):
        assert len(own(manifests, ours, id_, sure=True)) == expected
