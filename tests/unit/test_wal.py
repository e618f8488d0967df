"""How far a write-ahead log goes: those of real members (tests/golden/wal), as they said themselves, and torn ones."""

from __future__ import annotations

import io
import json
import lzma
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from etcdops.snapshots import wal
from etcdops.snapshots.wal import Reach

GOLDEN = Path(__file__).parent.parent / "golden" / "wal"
NAMES = sorted(path.name.removesuffix(".wal.xz") for path in GOLDEN.glob("*.wal.xz"))
ZEROS = bytes(1 << 16)  # what follows the last record


@cache
def log(name: str) -> bytes:
    return lzma.decompress((GOLDEN / f"{name}.wal.xz").read_bytes())


def said(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def of(data: bytes) -> Reach:
    return wal.read(io.BytesIO(data)).reach


def frames(data: bytes) -> list[bytes]:
    """Each record with the 8 bytes before it."""
    found, at = [], 0
    while at < len(data):
        frame = struct.unpack_from("<Q", data, at)[0]
        length = 8 + (frame & ((1 << 56) - 1)) + ((frame >> 56) & 7)
        found.append(data[at : at + length].ljust(length, b"\0"))
        at += length
    return found


def entries(data: bytes) -> list[tuple[int, int]]:
    """Term and index of each entry, in the order in which they were written."""
    found = []
    for kind, content, *_ in wal._records(io.BytesIO(b"".join(frames(data)))):
        if kind == wal.ENTRY:
            fields = wal._numbers(content)
            found.append((fields[2], fields[3]))
    return found


def record(content: bytes, crc: int) -> bytes:
    """A frame with an entry's record of ``content``, as etcd writes it."""
    varint = wal._as_varint(crc)
    length = wal._as_varint(len(content))
    data = b"\x08\x02\x10" + varint + b"\x1a" + length + content
    padding = -len(data) % 8
    flag = (0x80 | padding) << 56 if padding else 0
    return struct.pack("<Q", len(data) | flag) + data + bytes(padding)


def entry(term: int, index: int, value: bytes) -> bytes:
    size = len(value)
    return (
        bytes([0x08, 0, 0x10, term, 0x18, index, 0x22, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + value
    )


def test_there_are_logs_of_each_minor() -> None:
    assert {"3.4.23", "3.5.30", "3.6.16", "3.7.3", "segments", "overwritten", "snapshot"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_goes_as_far_as_the_member_said(name: str) -> None:
    found = of(log(name) + ZEROS)
    assert (found.term, found.index) == (said(name)["term"], said(name)["index"])
    assert said(name)["index"] - 1 <= found.committed <= said(name)["index"]


def test_segments_are_read_one_after_the_other() -> None:
    assert said("segments")["segments"] == 2
    first = next(i for i, each in enumerate(frames(log("segments"))[1:], 1) if each[8:10] == b"\x08\x04")
    assert of(b"".join(frames(log("segments"))[:first])).index < said("segments")["index"]


def test_the_later_term_counts_where_entries_were_replaced() -> None:
    """The next leader's entry of an index comes after that which it replaces, which may have been further."""
    written = entries(log("overwritten"))
    (at,) = (i for i in range(1, len(written)) if written[i][1] <= written[i - 1][1])
    assert written[at][0] > written[at - 1][0]
    assert of(log("overwritten")) > of(b"".join(frames(log("overwritten"))[:-1]))


def test_a_snapshot_stands_for_the_entries_that_the_member_never_got() -> None:
    data = log("snapshot")
    written = entries(data)
    (at,) = (i for i in range(1, len(written)) if written[i][1] > written[i - 1][1] + 1)
    last = [i for i, each in enumerate(frames(data)) if each[8:10] == b"\x08\x05"][-1]
    assert written[at - 1][1] < of(b"".join(frames(data)[: last + 1])).index < written[at][1] + 1


def test_an_empty_log() -> None:
    assert of(b"") == of(ZEROS) == Reach()


@pytest.mark.parametrize("name", ["3.4.23", "3.7.3"])
def test_what_was_torn_at_the_end_counts_for_nothing(name: str) -> None:
    data = b"".join(frames(log(name)))
    last = next(i for i in range(len(frames(data)) - 1, 0, -1) if frames(data)[i][8:10] == b"\x08\x02")
    start = len(b"".join(frames(data)[:last]))
    end = start + len(frames(data)[last])
    for cut in range(start, end, 7):
        found = of(data[:cut])
        assert found.index == said(name)["index"] - 1, cut
    assert of(data[:end]).index == said(name)["index"]


def test_an_entry_with_a_sector_that_never_reached_the_disk() -> None:
    data = b"".join(frames(log("3.6.16")))
    before = wal._record(frames(data)[-1][8:])[2]
    content = entry(3, 30, b"x" * 2000)
    whole = record(content, wal._crc32c(before, content))
    assert of(data + whole + ZEROS).index == 30
    for start, end in ((1024, 1536), (2000, len(whole)), (8, 300)):
        torn = bytearray(whole)
        torn[start:end] = bytes(end - start)
        assert of(data + bytes(torn) + ZEROS).index == 29, start
    again = entry(3, 31, b"y")
    later = record(again, wal._crc32c(wal._crc32c(before, content), again))
    assert of(data + whole + later + ZEROS).index == 31
    assert of(data + bytes(torn) + later + ZEROS).index == 29


def test_zeros_that_a_client_wrote_are_no_damage() -> None:
    data = b"".join(frames(log("3.6.16")))
    before = wal._record(frames(data)[-1][8:])[2]
    content = entry(3, 30, bytes(2000))
    assert of(data + record(content, wal._crc32c(before, content)) + ZEROS).index == 30


@pytest.mark.parametrize(
    ("less", "more"),
    [(Reach(2, 900, 900), Reach(3, 10, 5)), (Reach(3, 10, 10), Reach(3, 11, 5)), (Reach(3, 11, 5), Reach(3, 11, 6))],
)
def test_logs_compare_as_raft_does(less: Reach, more: Reach) -> None:
    assert less < more


def test_crc_is_castagnolis() -> None:
    assert wal._crc32c(0, b"123456789") == 0xE3069283  # RFC 3720, B.4; the check value of CRC-32C
    assert wal._crc32c(wal._crc32c(0, b"1234"), b"56789") == 0xE3069283


def test_each_records_crc_in_real_logs_is_understood() -> None:
    """Else a whole entry with zeros in it would be taken for a torn one."""
    for name in NAMES:
        if name == "segments":  # 60 MB of pure Python; its records are like those of the others
            continue
        before = 0
        for each in frames(log(name)):
            _, content, crc = wal._record(each[8:])
            assert wal._crc32c(before, content) == crc, name
            before = crc


@pytest.mark.parametrize("name", [name for name in NAMES if name != "segments"])
def test_the_record_that_makes_all_of_it_count_is_as_etcd_writes_it(name: str) -> None:
    """That of the last change of state, made anew from what was before it, is the same to the byte."""
    records = frames(log(name))
    states = [i for i, each in enumerate(records) if each[8:10] == b"\x08\x03"]
    compared = 0
    for at in states:
        before = wal.read(io.BytesIO(b"".join(records[:at])))
        after = wal.read(io.BytesIO(b"".join(records[: at + 1])))
        same = (before.term, before.vote, before.reach.index) == (after.term, after.vote, after.reach.committed)
        if same and before.reach.committed < before.reach.index:
            compared += 1
            assert before.all_agreed() == records[at]
    assert compared


def test_what_is_agreed_needs_no_record() -> None:
    agreed = next(
        found
        for count in range(len(frames(log("3.6.16"))), 0, -1)
        if (found := wal.read(io.BytesIO(b"".join(frames(log("3.6.16"))[:count])))).reach.index == found.reach.committed
    )
    assert agreed.all_agreed() == b""


def test_appended_where_the_log_ends_it_agrees_on_all() -> None:
    torn = b"".join(frames(log("3.6.16")))[:-5]
    found = wal.read(io.BytesIO(torn))
    data = torn[: found.end] + found.all_agreed() + ZEROS
    assert of(data).committed == of(data).index
