"""The manifest beside a snapshot: as it is written, and what is said of a file that it does not describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etcdops.errors import OpsError
from etcdops.snapshots.manifest import Manifest, beside
from etcdops.snapshots.proof import prove
from tests.unit import snapshots
from tests.unit.snapshots import manifest, put

NAME = "prod-20261122T200000Z-r36"


def test_comes_back_as_written() -> None:
    written = manifest(b"abc", keys=20, hash=4294967295, compact_revision=33, encrypted=True)
    assert Manifest.load(written.dump(), "x") == written
    document = json.loads(written.dump())
    assert document["taken"] == "2026-11-22T20:00:00Z"
    assert document["members"] == [
        {
            "id": "5fc40545450d2790",
            "name": "etcd01",
            "peer_urls": ["http://127.0.0.1:23791"],
            "client_urls": [],
            "learner": False,
        }
    ]


def test_names() -> None:
    assert (manifest().name, manifest().file) == (NAME, f"{NAME}.db")
    assert manifest(encrypted=True).file == f"{NAME}.db.age"
    for file in (f"{NAME}.db", f"{NAME}.db.age"):
        assert beside(Path("/a") / file) == Path(f"/a/{NAME}.json")


def test_one_of_a_newer_version_is_read() -> None:
    document = {**json.loads(manifest().dump()), "format": 2, "colour": "green"}
    document["members"][0]["witness"] = True
    assert Manifest.load(json.dumps(document).encode(), "x").name == NAME


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    document = {**json.loads(manifest().dump()), "taken": "2026-11-23T01:30:00.5+05:30"}
    assert Manifest.load(json.dumps(document).encode(), "x").name == NAME


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no time zone": ({"taken": "2026-11-22T20:00:00"}, "taken: Input should have timezone info"),
    "a sum that is none": ({"sha256": "ab"}, "sha256: String should match pattern '^[0-9a-f]{64}$'"),
    "a name that climbs": ({"cluster": "../x"}, "cluster: Value error, use letters"),
    "a size below nothing": ({"size": -1}, "size: Input should be greater than or equal to 0"),
    "a revision that is text": ({"revision": "r"}, "revision: Input should be a valid integer"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG.keys())
def test_one_that_cannot_be_read(wrong: dict[str, Any], said: str) -> None:
    data = json.dumps({**json.loads(manifest().dump()), **wrong}).encode()
    with pytest.raises(OpsError) as caught:
        Manifest.load(data, "a.json")
    assert str(caught.value).startswith(f"a.json: is not a manifest: {said}")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_what_is_no_manifest(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"a\.json: is not a manifest: "):
        Manifest.read(put(tmp_path / "a.json", data))


def test_describes_its_file_and_no_other(tmp_path: Path) -> None:
    whole, other = snapshots.content("3.6.16"), snapshots.content("other")
    path = put(tmp_path / "a.db", whole)
    described = manifest(whole, members=prove(path).members)
    described.describes(prove(path), path)

    def complaint(known: Manifest, data: bytes) -> str:
        with pytest.raises(OpsError) as caught:
            known.describes(prove(put(path, data)), "a.db")
        return caught.value.message

    strange = snapshots.said("other")["header"]["header"]["member_id"]
    assert complaint(described, other) == (
        f"a.db: is another cluster's: its members are etcd01 ({strange:x}), "
        "those of 'prod' were etcd01 (5fc40545450d2790)"
    )
    later = snapshots.signed(whole[:-32].replace(b"compaction", b"compactiOn"))
    sums = [manifest(data).sha256 for data in (later, whole)]
    assert complaint(described, later) == (
        f"a.db: is not the file that {NAME}.json describes: sha256 is {sums[0]}, not {sums[1]}"
    )
    assert "size is 24608, not 57376, revision is 6, not 36, sha256 is" in complaint(
        described.model_copy(update={"members": ()}), other
    )
