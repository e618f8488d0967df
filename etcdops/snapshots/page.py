"""A page of a bbolt tree: a branch has keys and the pages below them, a leaf has keys and values.

The format is that of go.etcd.io/bbolt (internal/common: page.go, inode.go); nothing in it is trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from operator import add

BRANCH, LEAF = 0x01, 0x02
SUBBUCKET = 0x01  # flag of a leaf's element
LONGEST_KEY = 32768  # bytes: bbolt takes no longer one

PAGE = struct.Struct("<QHHI")  # id, flags, count of elements, pages that it runs over into
HEADER = PAGE.size
ELEMENT = 16  # bytes, in a branch (position, key size, page) and in a leaf (flags, position, key size, value size)


class Torn(Exception):
    """A page whose elements cannot be: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Node:
    """What stands in a page."""

    is_leaf: bool
    keys: list[bytes]
    children: tuple[int, ...]
    flags: tuple[int, ...]
    read: Callable[[int, int], bytes]
    starts: list[int]  # of the values
    ends: list[int]

    def items(self, *, buckets: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values; or those that are buckets."""
        for key, flags, start, end in zip(self.keys, self.flags, self.starts, self.ends, strict=True):
            if (flags & SUBBUCKET == SUBBUCKET) is buckets:
                yield key, self.read(start, end)

    def subbuckets(self) -> list[bytes]:
        """The values that are buckets."""
        return [value for _, value in self.items(buckets=True)] if any(self.flags) else []


def parse(read: Callable[[int, int], bytes], length: int) -> Node:
    """The page whose ``length`` bytes ``read(start, end)`` gives, with every element inside of it; ``Torn`` if not."""
    _, flags, count, _ = PAGE.unpack(read(0, HEADER))
    body = HEADER + ELEMENT * count
    if body > length:
        raise Torn(f"has no room for {count} elements")
    leaf = flags == LEAF
    numbers = _elements(leaf, count).unpack(read(HEADER, body))
    at, sizes = (numbers[1::4], numbers[2::4]) if leaf else (numbers[0::3], numbers[1::3])
    starts = list(map(add, at, range(HEADER, body, ELEMENT)))
    ends = list(map(add, starts, sizes))
    values = list(map(add, ends, numbers[3::4])) if leaf else ends
    if count and (min(starts) < body or max(values) > length or max(sizes) > LONGEST_KEY):
        raise Torn("has an element that points out of it")
    keys = list(map(read, starts, ends))
    return Node(leaf, keys, () if leaf else numbers[2::3], numbers[0::4] if leaf else (), read, ends, values)


@cache
def _elements(leaf: bool, count: int) -> struct.Struct:
    return struct.Struct("<" + count * ("IIII" if leaf else "IIQ"))
