"""What members hold, compared with one another and with the manifest of what was restored."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from etcdops.errors import OpsError
from etcdops.snapshots import content
from etcdops.snapshots.content import Content
from etcdops.snapshots.manifest import Manifest
from tests.unit import snapshots

WHOLE = Content(revision=36, keys=20, hash=1234, compact_revision=33)


def manifest(**known: Any) -> Manifest:
    return snapshots.manifest(**{"keys": 20, "hash": 1234, "compact_revision": 33, **known})


def hashed(**known: Any) -> str:
    return base64.b64encode(json.dumps([{"Endpoint": "x", "HashKV": known}]).encode()).decode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Content()),
        ("revision\t\nkeys\t\nhash\t\n", Content()),
        (f"revision\t36\nkeys\t20\nhash\t{hashed(hash=1234, compact_revision=33)}\n", WHOLE),
        (f"revision\t36\nkeys\t0\nhash\t{hashed(hash=0, compact_revision=-1)}\n", Content(36, 0, 0, -1)),
        ("revision\t36\nkeys\t20\nhash\tbm90IEpTT04=\n", Content(36, 20)),
        ("revision\t36\nkeys\t20\nhash\tW10=\n", Content(36, 20)),  # []
        ("starting\nrevision\t36\n", Content(36)),
    ],
)
def test_parse(text: str, found: Content) -> None:
    assert content.parse(text) == found


def complaint(found: dict[str, Content], of: Manifest | None, *, bumped: bool = False) -> str:
    """'' if there is none."""
    try:
        content.compare(found, of, 36, bumped=bumped)
    except OpsError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    "of", [manifest(), None, manifest(keys=None, hash=None), manifest(compact_revision=20, hash=9)]
)
def test_the_same_everywhere(of: Manifest | None) -> None:
    assert complaint({"a": WHOLE, "b": WHOLE}, of) == ""
    assert complaint({"a": Content(40, 20, 1234, 33), "b": WHOLE}, of) == ""  # somebody has written already
    assert complaint({"a": WHOLE, "b": Content(36, 20)}, of) == ""  # its hash took too long: that is no difference


@pytest.mark.parametrize(
    ("found", "of", "said"),
    [
        ({"a": WHOLE, "b": Content()}, manifest(), "b: is at revision None, not at 36"),
        ({"a": WHOLE, "b": Content(35, 20, 1234, 33)}, manifest(), "b: is at revision 35, not at 36"),
        ({"a": WHOLE, "b": Content(36, 19, 1234, 33)}, manifest(), "b: has 19 keys, where the manifest says 20"),
        ({"a": WHOLE, "b": Content(36, 20, 99, 33)}, manifest(), "different data at revision 36 (a: 1234, b: 99)"),
        ({"a": WHOLE}, manifest(hash=99), "what was restored differs from what the cluster held when prod-"),
    ],
)
def test_a_difference_is_told(found: dict[str, Content], of: Manifest, said: str) -> None:
    assert said in complaint(found, of)


def test_raised_revisions_change_the_hash_and_not_the_keys() -> None:
    assert complaint({"a": WHOLE}, manifest(hash=99), bumped=True) == ""
    assert "has 20 keys" in complaint({"a": WHOLE}, manifest(keys=21), bumped=True)
    assert "different data" in complaint({"a": WHOLE, "b": Content(36, 20, 5, 33)}, manifest(), bumped=True)


@pytest.mark.parametrize(
    ("found", "of", "comparable"),
    [
        (WHOLE, manifest(), True),
        (WHOLE, manifest(hash=None), False),
        (Content(36, 20), manifest(), False),
        (Content(36, 20, 99, 34), manifest(), False),  # compacted further since: another hash, and no difference
        (WHOLE, manifest(compact_revision=None), False),
    ],
)
def test_agree(found: Content, of: Manifest, comparable: bool) -> None:
    assert content.agree(found, of, "it") is comparable
