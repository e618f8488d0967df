"""Snapshots of real etcd releases: what is read from them, and that no damage goes unseen."""

from __future__ import annotations

import hashlib
import random
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdops.errors import OpsError
from etcdops.snapshots.bolt import fnv64a
from etcdops.snapshots.page import BRANCH, LEAF
from etcdops.snapshots.proof import Sum, count_keys, prove
from tests.unit import snapshots
from tests.unit.snapshots import NAMES, put

PAGE = 4096
SUM = "the SHA-256 at its end is not that of its content"
NO_SUM = "has no SHA-256 at its end: it was cut off, or this is a member's own database and no snapshot"


def complaint(path: Path, *, raw: bool = False) -> str:
    with pytest.raises(OpsError) as caught:
        prove(path, raw=raw)
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message.removeprefix(f"{path}: ")


@pytest.fixture
def whole() -> bytes:
    return snapshots.content("3.6.16")


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_etcd(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.db", snapshots.content(name))
    said = snapshots.said(name)
    header, status = said["header"]["header"], said["status"]
    proof = prove(path)
    assert proof.revision == header["revision"] >= status["revision"]
    assert proof.stored_revision == status["revision"]
    assert proof.size == status["totalSize"] + 32
    assert proof.storage_version == status.get("version", "")
    assert said["release"].startswith(proof.cluster_version.removesuffix(".0"))
    assert [(each.id, each.name) for each in proof.members] == [(f"{header['member_id']:x}", "etcd01")]
    assert [each.peer_urls for each in proof.members] == [("http://127.0.0.1:23791",)]
    assert proof.consistent_index > header["revision"]
    assert proof.term == (0 if said["release"].startswith("3.4") else header["raft_term"])
    assert proof.auth_enabled is (name == "large")
    assert count_keys(path) == said["keys"]
    if said["release"] >= "3.6":
        assert count_keys(path) == status["totalKey"]


def test_the_revision_is_not_below_compaction(tmp_path: Path) -> None:
    """`snapshot status` overlooks deletions that compaction has removed; etcd goes on above them."""
    path = put(tmp_path / "a.db", snapshots.content("deleted-3.4.23"))
    assert snapshots.said("deleted-3.4.23")["status"]["revision"] == 2
    assert (prove(path).revision, prove(path).compact_revision) == (4, 4)


def test_keys_are_counted_in_the_midst_of_a_compaction(whole: bytes, tmp_path: Path) -> None:
    """Then the older revisions of a key may or may not be there: it is the newest that tells."""
    data = bytearray(whole)
    finished = data.rindex(b"finishedCompactRev") + len("finishedCompactRev")
    assert data[finished : finished + 8] == (33).to_bytes(8)
    data[finished : finished + 8] = bytes(8)
    version = data.index(b"\x20\x01", data.index(b"pod-02")) + 1
    data[version] = 2
    path = put(tmp_path / "a.db", snapshots.signed(data[:-32]))
    assert prove(path).compact_revision == 33
    assert count_keys(path) == 20


def test_a_flipped_byte_anywhere_is_found(whole: bytes, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for at in random.Random(seed).sample(range(len(whole)), 20):
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        assert SUM in complaint(put(tmp_path / "a.db", data)), at


def test_truncation_anywhere_is_found(whole: bytes, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for length in random.Random(seed).sample(range(len(whole) - 32), 20):
        assert complaint(put(tmp_path / "a.db", whole[:length])).startswith(("is truncated", "is too short")), length


@pytest.mark.parametrize("length", [0, 1, 4095])
def test_too_short(whole: bytes, tmp_path: Path, length: int) -> None:
    assert complaint(put(tmp_path / "a.db", whole[:length])) == f"is too short for a snapshot: {length} bytes"


ENDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: data[:-32], NO_SUM),
    "cut short": (lambda data: data[:-1], "is truncated: 31 bytes of 32 are left of the SHA-256 at its end"),
    "a database that has grown": (lambda data: data[:-32] + bytes(2 * PAGE), NO_SUM),
    "twice": (lambda data: data + data[-32:], "is damaged: 32 bytes follow after its end"),
    "a newline more": (lambda data: data + b"\n", "is damaged: 1 bytes follow after its end"),
    "another's": (lambda data: data[:-32] + bytes(32), f"is damaged: {SUM}"),
    "no database": (lambda data: bytes(len(data)), "is not an etcd database"),
    "both metas gone": (lambda data: bytes(2 * PAGE) + data[2 * PAGE :], "is not an etcd database"),
    "encrypted": (lambda data: b"age-encryption.org/v1\n" + data, "is encrypted"),
}


@pytest.mark.parametrize(("change", "said"), ENDS.values(), ids=ENDS.keys())
def test_what_is_no_snapshot(whole: bytes, tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    assert complaint(put(tmp_path / "a.db", change(whole))) == said


def test_no_file(tmp_path: Path) -> None:
    assert complaint(tmp_path / "missing") == "No such file or directory"
    assert complaint(tmp_path) == "is not a file"


@pytest.mark.parametrize("name", NAMES)
def test_a_members_own_database(name: str, tmp_path: Path) -> None:
    data = snapshots.content(name)[:-32]
    proof = prove(put(tmp_path / "db", data), raw=True)
    grown = prove(put(tmp_path / "db", data + bytes(16 * PAGE)), raw=True)
    assert proof.raw
    assert grown == replace(proof, size=grown.size, sha256=grown.sha256)
    assert proof.revision == snapshots.said(name)["header"]["header"]["revision"]


def test_one_meta_is_enough(whole: bytes, tmp_path: Path) -> None:
    """A member that lost power while it wrote one goes on from the other."""
    for page in (0, 1):
        data = bytearray(whole[:-32])
        data[page * PAGE + 16 + 40] ^= 1
        assert prove(put(tmp_path / "db", data), raw=True).revision == 36


def page_of(data: bytes, kind: int) -> int:
    """The page at the top of etcd's keys, a branch, or the first leaf below it."""
    metas = [struct.unpack_from("<32x6Q", data, at) for at in (0, PAGE)]
    root = max(metas, key=lambda meta: int(meta[4]))[0] * PAGE
    for at in range(root + 16, root + 16 + 16 * struct.unpack_from("<H", data, root + 10)[0], 16):
        _, position, key, _ = struct.unpack_from("<4I", data, at)
        if data[at + position : at + position + key] == b"key":
            (branch,) = struct.unpack_from("<Q", data, at + position + key)
            (leaf,) = struct.unpack_from("<Q", data, branch * PAGE + 16 + 8)
            return int({BRANCH: branch, LEAF: leaf}[kind])
    raise AssertionError("no bucket of keys")


def change(form: str, offset: int, value: int, kind: int = LEAF) -> Callable[[bytearray], int]:
    """A page that has ``value`` at ``offset``; says which."""

    def apply(data: bytearray) -> int:
        page = page_of(data, kind)
        struct.pack_into(form, data, page * PAGE + offset, value)
        return page

    return apply


def swap_keys(data: bytearray) -> int:
    page = page_of(data, LEAF) * PAGE
    first, second = data[page + 16 : page + 32], data[page + 32 : page + 48]
    shift = [struct.unpack_from("<I", each, 4)[0] for each in (first, second)]
    struct.pack_into("<I", first, 4, shift[0] - 16)
    struct.pack_into("<I", second, 4, shift[1] + 16)
    data[page + 16 : page + 32], data[page + 32 : page + 48] = second, first
    return page // PAGE


def foreign_key(element: int, revision: int) -> Callable[[bytearray], int]:
    """The first or last key of a leaf is one that belongs before or after it."""

    def apply(data: bytearray) -> int:
        page = page_of(data, LEAF) * PAGE
        (count,) = struct.unpack_from("<H", data, page + 10)
        at = page + 16 + 16 * (element % count)
        struct.pack_into(">Q", data, at + struct.unpack_from("<I", data, at + 4)[0], revision)
        return page // PAGE

    return apply


def same_child_twice(data: bytearray) -> int:
    page = page_of(data, BRANCH) * PAGE
    (child,) = struct.unpack_from("<Q", data, page + 32 + 8)
    struct.pack_into("<Q", data, page + 16 + 8, child)
    return int(child)


STRUCTURE: dict[str, tuple[Callable[[bytearray], int], str]] = {
    "a page that is another": (change("<Q", 0, 7777), "says that it is page 7777"),
    "a page of another kind": (change("<H", 8, 0x04), "is of the wrong kind: 0x4"),
    "more elements than there is room": (change("<H", 10, 4000), "has no room for 4000 elements"),
    "a long page": (change("<I", 12, 1 << 20), "runs over the end of the database"),
    "an element outside": (change("<I", 16 + 4, 1 << 20), "has an element that points out of it"),
    "a value that does not end": (change("<I", 16 + 12, PAGE), "has an element that points out of it"),
    "keys out of order": (swap_keys, "has keys out of order"),
    "a key from before the page": (foreign_key(0, 0), "has keys out of order"),
    "a key from after the page": (foreign_key(-1, 1 << 40), "has keys out of order"),
    "a branch without children": (change("<H", 10, 0, BRANCH), "is empty"),
    "a page that two lead to": (same_child_twice, "is reached twice"),
}


@pytest.mark.parametrize(("damage", "said"), STRUCTURE.values(), ids=STRUCTURE.keys())
def test_structural_damage_below_a_good_sum(
    whole: bytes, tmp_path: Path, damage: Callable[[bytearray], int], said: str
) -> None:
    data = bytearray(whole[:-32])
    page = damage(data)
    assert complaint(put(tmp_path / "a.db", snapshots.signed(data))) == f"is damaged: page {page} {said}"
    assert complaint(put(tmp_path / "a.db", data), raw=True) == f"is damaged: page {page} {said}"


def test_a_page_that_runs_over_into_another(whole: bytes, tmp_path: Path) -> None:
    data = bytearray(whole[:-32])
    leaf = page_of(data, LEAF)
    change("<I", 12, len(data) // PAGE - leaf - 1)(data)
    said = re.fullmatch(
        rf"is damaged: page {leaf} runs over into page (\d+), which is used",
        complaint(put(tmp_path / "a.db", snapshots.signed(data))),
    )
    assert said
    assert int(said[1]) > leaf


def test_a_child_that_does_not_exist(whole: bytes, tmp_path: Path) -> None:
    data = bytearray(whole[:-32])
    change("<Q", 16 + 8, 1 << 40, BRANCH)(data)
    said = f"is damaged: page {1 << 40} does not exist: there are {len(data) // PAGE}"
    assert complaint(put(tmp_path / "a.db", snapshots.signed(data))) == said


def test_any_damage_below_a_good_sum_is_an_error_or_a_proof(whole: bytes, tmp_path: Path) -> None:
    """No traceback, no endless loop, whatever the bytes are: here in the pages' own numbers."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    found = 0
    for _ in range(300):
        data = bytearray(whole[:-32])
        page = chance.randrange(2, len(data) // PAGE)
        struct.pack_into(
            "<I", data, page * PAGE + chance.randrange(80), chance.choice((0, 1, 2, chance.getrandbits(32)))
        )
        path = put(tmp_path / "a.db", snapshots.signed(data))
        try:
            prove(path)
            count_keys(path)
        except OpsError:
            found += 1
    assert found > 50


def with_freelist(data: bytes, free: list[int]) -> bytes:
    """The database with a list of free pages, as bbolt writes one unless it is told not to, as etcd tells it."""
    last = len(data) // PAGE
    page = struct.pack("<QHHI", last, 0x10, len(free), 0) + struct.pack(f"<{len(free)}Q", *free)
    changed = bytearray(data + page.ljust(PAGE, b"\0"))
    for meta in (0, PAGE):
        struct.pack_into("<QQ", changed, meta + 16 + 32, last, last + 1)
        struct.pack_into("<Q", changed, meta + 16 + 56, fnv64a(changed[meta + 16 : meta + 16 + 56]))
    return snapshots.signed(changed)


def test_the_list_of_free_pages(whole: bytes, tmp_path: Path) -> None:
    path, free = tmp_path / "a.db", []
    for _ in range(len(whole) // PAGE):
        put(path, with_freelist(whole[:-32], free))
        try:
            prove(path)
            break
        except OpsError as error:
            (lost,) = re.findall(r"page (\d+) is neither in use nor on the list of free pages", str(error))
            free.append(int(lost))
    assert 0 < len(free) < len(whole) // PAGE - 4
    used = page_of(whole, BRANCH)
    for wrong, said in {
        (*free, len(whole)): "lists free pages that are out of order or do not exist",
        (*reversed(free),): "lists free pages that are out of order or do not exist",
        (*sorted([*free, used]),): "is in use and on the list of free pages",
    }.items():
        assert said in complaint(put(path, with_freelist(whole[:-32], [*wrong])))


def test_not_etcds(whole: bytes, tmp_path: Path) -> None:
    data = whole[:-32].replace(b"meta", b"metb")
    assert complaint(put(tmp_path / "a.db", snapshots.signed(data))).endswith("it has no bucket meta")


@given(st.lists(st.binary(max_size=80), max_size=8), st.booleans())
def test_sum_of_what_comes_in_pieces(chunks: list[bytes], ended: bool) -> None:
    data = b"".join(chunks)
    end = hashlib.sha256(data).digest()
    pieces = [*chunks, end[:20], end[20:]] if ended else chunks
    total = Sum()
    for piece in pieces:
        total.update(piece)
    assert total.result() == (hashlib.sha256(b"".join(pieces)).hexdigest(), ended)
