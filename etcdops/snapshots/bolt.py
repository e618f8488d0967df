"""A reader of bbolt files, the database under etcd, that trusts nothing it reads.

The format is that of go.etcd.io/bbolt (internal/common: page.go, meta.go): pages of one size; two metas, of which the
valid one with the higher transaction counts; B+ trees of branch and leaf pages (page.py); a long page runs over into
those after it, and of those only what is asked for is read: they are values, most of them, and their length may be a
lie.  Pages are read, not mapped: a bad disk is then an error and not the end of the process, and memory does not grow
with the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from etcdops.errors import Damaged, OpsError
from etcdops.snapshots.page import BRANCH, HEADER, LEAF, PAGE, Node, Torn, parse

MAGIC, VERSION = 0xED0CDAED, 2
FREELIST = 0x10  # flag of a page
NO_FREELIST = 0xFFFFFFFFFFFFFFFF  # it is rebuilt when the file is opened, as etcd has it
PAGE_SIZES = [1024 << power for power in range(7)]

_META = struct.Struct("<IIIIQQQQQ")
_SUM = struct.Struct("<Q")
_BUCKET = struct.Struct("<QQ")  # root page or 0 for an inline one, sequence


@dataclass(frozen=True)
class Meta:
    """One of the two pages from which everything else is found."""

    page_size: int
    root: int
    freelist: int
    pages: int  # high water mark: so many pages are in use, or were
    transaction: int


class NotBolt(Damaged):
    """The file is no bbolt database, or both of its metas are damaged."""


class Bolt:
    """A bbolt file, open for reading.  ``Damaged`` names the file, and the page where its structure is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise OpsError(f"{path}: {error.strerror or error}") from None
        try:
            self.meta = self._newest_meta()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Bolt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def size(self) -> int:
        """Bytes that the database has in use; the file is never shorter."""
        return self.meta.pages * self.meta.page_size

    def check(self) -> None:
        """Walk every page that can be reached: each once, of the right kind, its keys in order, none of them free."""
        reached = bytearray(self.meta.pages)
        reached[0] = reached[1] = 1
        free = self._freelist(reached)
        self._check_tree(self.meta.root, reached)
        for page in free:
            if reached[page]:
                self._damaged(page, "is in use and on the list of free pages")
            reached[page] = 1
        if self.meta.freelist != NO_FREELIST and (lost := reached.find(0)) >= 0:
            self._damaged(lost, "is neither in use nor on the list of free pages")

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of a bucket, in order; none if there is no such bucket.

        For large buckets, too: one page is in memory at a time.
        """
        for value in self._find(name):
            root, inline = self._opened(value)
            for leaf in [inline] if inline else self._leaves(root):
                yield from leaf.items()

    def last(self, name: bytes) -> bytes | None:
        """The highest key of a bucket."""
        for value in self._find(name):
            root, page = self._opened(value)
            while page is None:
                node = self._node(root)
                if node.is_leaf:
                    page = node
                else:
                    root = node.children[-1]
            return page.keys[-1] if page.keys else None
        return None

    def buckets(self) -> list[bytes]:
        """The names of the buckets."""
        return [key for leaf in self._leaves(self.meta.root) for key in leaf.keys]

    def _newest_meta(self) -> Meta:
        first = self._meta(0)
        sizes = [first.page_size] if first else PAGE_SIZES
        metas = [meta for meta in (first, *(self._meta(size) for size in sizes)) if meta]
        if not metas:
            raise NotBolt(f"{self.path}: is not an etcd database", hint="an etcd snapshot is a bbolt file")
        newest = max(metas, key=lambda meta: meta.transaction)
        size = os.fstat(self._file).st_size
        if newest.pages * newest.page_size > size:
            what = f"the database in it has {newest.pages * newest.page_size} bytes, the file only {size}"
            raise Damaged(f"{self.path}: is truncated: {what}", hint="copy it again, or take another backup")
        return newest

    def _meta(self, offset: int) -> Meta | None:
        data = self._read(offset, HEADER + _META.size + _SUM.size)
        if len(data) < HEADER + _META.size + _SUM.size:
            return None
        magic, version, size, _, root, _, freelist, pages, transaction = _META.unpack_from(data, HEADER)
        (stored,) = _SUM.unpack_from(data, HEADER + _META.size)
        good = (magic, version, stored) == (MAGIC, VERSION, fnv64a(data[HEADER : HEADER + _META.size]))
        good = good and size in PAGE_SIZES and offset in (0, size) and root < pages and pages > 3
        return Meta(size, root, freelist, pages, transaction) if good else None

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise OpsError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    def _freelist(self, reached: bytearray) -> Sequence[int]:
        page = self.meta.freelist
        if page == NO_FREELIST:
            return ()
        data, overflow = self._page(page, FREELIST)
        self._reach(page, overflow, reached)
        data = self._read(page * self.meta.page_size, (1 + overflow) * self.meta.page_size)
        count, start = PAGE.unpack_from(data)[2], HEADER
        if count == 0xFFFF:  # more than the header can say
            (count,), start = struct.unpack_from("<Q", data, HEADER), HEADER + 8
        if start + 8 * count > len(data):
            self._damaged(page, "lists more free pages than it has room for")
        free: Sequence[int] = struct.unpack_from(f"<{count}Q", data, start)
        if free and not (free[0] >= 2 and free[-1] < self.meta.pages and all(map(lt, free, islice(free, 1, None)))):
            self._damaged(page, "lists free pages that are out of order or do not exist")
        return free

    def _check_tree(self, root: int, reached: bytearray) -> None:
        # Of each page that waits: the lowest key that may stand in it, and the first one that may not.
        waiting: list[tuple[int, bytes, bytes | None]] = [(root, b"", None)]
        roots = {root}
        while waiting:
            page, low, high = waiting.pop()
            node = self._node(page, reached)
            keys = node.keys
            if not keys:
                if page not in roots or not node.is_leaf:
                    self._damaged(page, "is empty")
                continue
            if (
                keys[0] < low
                or (high is not None and keys[-1] >= high)
                or not all(map(lt, keys, islice(keys, 1, None)))
            ):
                self._damaged(page, "has keys out of order")
            if not node.is_leaf:
                waiting.extend(zip(node.children, keys, (*keys[1:], high), strict=True))
                continue
            for value in node.subbuckets():
                inner, inline = self._opened(value, page)
                if inline is None:
                    roots.add(inner)
                    waiting.append((inner, b"", None))
                elif not all(map(lt, inline.keys, islice(inline.keys, 1, None))):
                    self._damaged(page, "has a bucket in it with keys out of order")

    def _find(self, name: bytes) -> Iterator[bytes]:
        for leaf in self._leaves(self.meta.root):
            for key, value in leaf.items(buckets=True):
                if key == name:
                    yield value

    def _leaves(self, root: int) -> Iterator[Node]:
        waiting, reached = [root], bytearray(self.meta.pages)
        while waiting:
            node = self._node(waiting.pop(), reached)
            if node.is_leaf:
                yield node
            else:
                waiting.extend(reversed(node.children))

    def _opened(self, value: bytes, page: int = 0) -> tuple[int, Node | None]:
        """The root page of a bucket, or the page that stands in its own value when it is small."""
        if len(value) < _BUCKET.size:
            self._damaged(page, "has a bucket without a root")
        root, _ = _BUCKET.unpack_from(value)
        if root:
            return root, None
        data = value[_BUCKET.size :]
        if len(data) < HEADER or PAGE.unpack_from(data)[1] != LEAF:
            self._damaged(page, "has a bucket in it that is no leaf")
        inline = self._parse(page, lambda start, end: data[start:end], len(data))
        if inline.subbuckets():
            self._damaged(page, "has a bucket in a bucket that has no page of its own")
        return 0, inline

    def _page(self, page: int, *kinds: int) -> tuple[bytes, int]:
        """The first bytes of a page, all of it if it does not run over, and how many pages it runs over into."""
        if not 1 < page < self.meta.pages:
            self._damaged(page, f"does not exist: there are {self.meta.pages}")
        data = self._read(page * self.meta.page_size, self.meta.page_size)
        number, flags, _, overflow = PAGE.unpack_from(data)
        if number != page:
            self._damaged(page, f"says that it is page {number}")
        if flags not in kinds:
            self._damaged(page, f"is of the wrong kind: {flags:#x}")
        if overflow >= self.meta.pages - page:
            self._damaged(page, "runs over the end of the database")
        return data, overflow

    def _node(self, page: int, reached: bytearray | None = None) -> Node:
        data, overflow = self._page(page, BRANCH, LEAF)
        if reached is not None:
            self._reach(page, overflow, reached)
        if not overflow:
            return self._parse(page, lambda start, end: data[start:end], len(data))
        offset, first = page * self.meta.page_size, len(data)

        def read(start: int, end: int) -> bytes:
            return data[start:end] if end <= first else self._read(offset + start, end - start)

        return self._parse(page, read, (1 + overflow) * self.meta.page_size)

    def _reach(self, page: int, overflow: int, reached: bytearray) -> None:
        end = page + overflow + 1
        if (used := reached.find(1, page, end)) >= 0:
            self._damaged(page, "is reached twice" if used == page else f"runs over into page {used}, which is used")
        reached[page:end] = b"\1" * (overflow + 1)

    def _parse(self, page: int, read: Callable[[int, int], bytes], length: int) -> Node:
        try:
            return parse(read, length)
        except Torn as error:
            self._damaged(page, str(error))

    def _damaged(self, page: int, what: str) -> NoReturn:
        raise Damaged(f"{self.path}: is damaged: page {page} {what}", hint="take another backup; inv snapshot.list")


def fnv64a(data: bytes) -> int:
    """The checksum of a meta: FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
