"""What comes over a channel: the same bytes in the same order, in whatever pieces they come and are taken."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.buffered_pipe import PipeTimeout

from etcdops.ssh.link import Link
from etcdops.ssh.pipe import Pipe


def filled(*pieces: bytes, closed: bool = False) -> Pipe:
    pipe = Pipe()
    for piece in pieces:
        pipe.feed(piece)
    if closed:
        pipe.close()
    return pipe


@given(st.lists(st.binary(max_size=9)), st.lists(st.integers(1, 20), min_size=1))
def test_the_same_bytes_come_out(pieces: list[bytes], sizes: list[int]) -> None:
    pipe = filled(*pieces, closed=True)
    out = [b"start"]
    turn = 0
    while out[-1]:
        size = sizes[turn % len(sizes)]
        out.append(pipe.read(size))
        assert len(out[-1]) <= size
        turn += 1
    assert b"".join(out[1:]) == b"".join(pieces)


@pytest.mark.parametrize(
    ("pieces", "size", "taken"),
    [
        ((b"abc",), 9, b"abc"),
        ((b"abc", b"de"), 9, b"abcde"),
        ((b"abc", b"de"), 5, b"abcde"),
        ((b"abc", b"de"), 4, b"abc"),  # what has come in one piece is not cut without need
        ((b"abc", b"de"), 2, b"ab"),
        ((b"", b"ab"), 9, b"ab"),
    ],
)
def test_what_is_taken_at_once(pieces: tuple[bytes, ...], size: int, taken: bytes) -> None:
    assert filled(*pieces).read(size) == taken


def test_nothing_is_no_end() -> None:
    with pytest.raises(PipeTimeout):
        filled(b"").read(9, 0.0)


def test_a_closed_one_gives_what_it_has_and_then_nothing() -> None:
    pipe = filled(b"abc", closed=True)
    assert [pipe.read(9), pipe.read(9), pipe.read(9, 0.0)] == [b"abc", b"", b""]


def test_a_reader_is_woken() -> None:
    pipe = Pipe()
    threading.Timer(0.05, pipe.feed, (b"abc",)).start()
    assert pipe.read(9, 5.0) == b"abc"


def test_a_reader_is_woken_by_the_end() -> None:
    pipe = Pipe()
    threading.Timer(0.05, pipe.close).start()
    assert pipe.read(9, 5.0) == b""


def test_a_session_that_ends_as_it_begins_is_not_waited_for() -> None:
    transport = SimpleNamespace(open_session=lambda **_: SimpleNamespace(closed=True, in_buffer=None))
    link = Link(cast(Any, SimpleNamespace(user="root", transport=transport)))
    assert link._session(1.0).in_buffer.read(9, 1.0) == b""


def test_all_of_it_at_once() -> None:
    pipe = filled(b"abc", b"de")
    assert pipe.read_ready()
    assert pipe.empty() == b"abcde"
    assert not pipe.read_ready()
