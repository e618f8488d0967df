"""How far a member's write-ahead log goes, which ranks the survivors of a lost quorum, and how all of it counts.  Pure.

The format is that of go.etcd.io/etcd/server/wal: frames of an 8-byte length, whose highest byte tells the padding, and
a protobuf record; the last file is zero from its end on.  Each record has the CRC-32C of all content so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

ENTRY, STATE, SNAPSHOT = 2, 3, 5  # types of a record
LONGEST = 512 << 20  # bytes of a record; a longer one is no record
SECTOR = bytes(512)  # what a power cut leaves of one that was not written


@dataclass(frozen=True, order=True)
class Reach:
    """The last entry of a log: as raft compares two of them, by its term, then by its index.  ``committed``: the entry
    up to which the member knew that a majority had them all."""

    term: int = 0
    index: int = 0
    committed: int = 0


@dataclass(frozen=True)
class Log:
    """A log as far as it is whole: ``end`` bytes, with the sum ``crc`` of all content, in raft term ``term`` with
    ``vote`` given."""

    reach: Reach = Reach()
    end: int = 0
    crc: int = 0
    term: int = 0
    vote: int = 0

    def all_agreed(self) -> bytes:
        """The record that, appended, says of all entries that a majority had them; b'' where the log says so itself.

        A member that starts with --force-new-cluster drops those beyond it (restartAsStandaloneNode in etcd's server):
        the newest ones, of which the lost members' clients may have been told.
        """
        if self.reach.index <= self.reach.committed:
            return b""
        fields = ((1, self.term), (2, self.vote), (3, self.reach.index))
        state = b"".join(_as_varint(field << 3) + _as_varint(value) for field, value in fields)
        crc = _crc32c(self.crc, state)
        head = _as_varint(1 << 3) + _as_varint(STATE) + _as_varint(2 << 3) + _as_varint(crc)
        record = head + _as_varint(3 << 3 | 2) + _as_varint(len(state)) + state
        padding = -len(record) % 8
        frame = len(record) | ((0x80 | padding) << 56 if padding else 0)
        return frame.to_bytes(8, "little") + record + bytes(padding)


def read(stream: BinaryIO) -> Log:
    """The files of a log, one after the other; what was torn at the end counts for nothing."""
    log = Log()
    term = index = committed = current = vote = 0
    for kind, data, crc, end in _records(stream):
        if kind == ENTRY:
            fields = _numbers(data)
            term, index = fields.get(2, 0), fields.get(3, 0)
        elif kind == STATE:
            fields = _numbers(data)
            current, vote, committed = fields.get(1, 0), fields.get(2, 0), fields.get(3, 0)
        elif kind == SNAPSHOT:
            fields = _numbers(data)
            if fields.get(1, 0) > index:
                index, term = fields.get(1, 0), fields.get(2, 0)
        log = Log(Reach(term, index, committed), end, crc, current, vote)
    return log


def _records(stream: BinaryIO) -> Iterator[tuple[int, bytes, int, int]]:
    """Of each whole record its type, content, sum, and where it ends."""
    before = end = 0
    while len(head := stream.read(8)) == 8:
        frame = int.from_bytes(head, "little")
        length = frame & ((1 << 56) - 1)
        padding = (frame >> 56) & 7 if frame >> 63 else 0
        if not length or length > LONGEST:
            return
        record = stream.read(length + padding)
        if len(record) < length + padding:
            return
        kind, content, crc = _record(record[:length])
        if _may_be_torn(record[:length]) and _crc32c(before, content) != crc:
            return
        before = crc
        end += 8 + length + padding
        yield kind, content, crc, end


def _may_be_torn(record: bytes) -> bool:
    """Whether it may lack a sector, or its part of one: only then are its sums worth their time."""
    return not record[0] or not record[-1] or SECTOR in record


def _record(data: bytes) -> tuple[int, bytes, int]:
    kind, content, crc = 0, b"", 0
    for field, value in _fields(data):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 2 and isinstance(value, int):
            crc = value
        elif field == 3 and isinstance(value, bytes):
            content = value
    return kind, content, crc


def _crc32c(before: int, data: bytes) -> int:
    crc = before ^ 0xFFFFFFFF
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def _numbers(data: bytes) -> dict[int, int]:
    return {field: value for field, value in _fields(data) if isinstance(value, int)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers and byte strings; it ends where something else begins."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            return


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at
