"""What a host says of restores (files/restore.sh), who is connected to it, and by how much revisions are raised."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from etcdops import restoration
from etcdops.restoration import BUMP, Side

LOOPBACK, LOOPBACK6 = "0100007F", "00000000000000000000000001000000"


def test_nothing_there() -> None:
    assert restoration.parse("") == Side()
    assert Side().unfinished == ""


def test_all_there_is() -> None:
    side = restoration.parse(
        "swapped\t20261122T211009Z-77ab0c51\n"
        "staged\t20261122T220000Z-00000001\n"
        "restoring\trecover\n"
        "aside\t20261101T000000Z-11111111\t4096 1761955200\n"
        "aside\t20261102T000000Z-22222222\t67108864 1762041600\n"
        "mounted\t/var/lib/etcd/default.etcd\n"
    )
    assert side.swapped == ("20261122T211009Z-77ab0c51",)
    assert side.staged == ("20261122T220000Z-00000001",)
    assert side.barred == "recover"
    assert side.mounted == "/var/lib/etcd/default.etcd"
    assert dict(side.aside) == {
        "20261101T000000Z-11111111": (4096, datetime(2025, 11, 1, tzinfo=UTC)),
        "20261102T000000Z-22222222": (67108864, datetime(2025, 11, 2, tzinfo=UTC)),
    }


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        ("swapped\tA\n", "A"),
        ("restoring\tA\n", "A"),
        ("swapped\tA\nsealed\tA\n", "A"),
        ("staged\tA\nsealed\tA\n", "A"),  # all but its folder is gone
        ("swapped\tA\nrestoring\tA\n", "A"),
        ("swapped\tA\nrestoring\trecover\n", "A"),
        ("staged\tA\naside\tB\t1 1\n", ""),
    ],
)
def test_unfinished_is_what_has_changed_something(text: str, unfinished: str) -> None:
    assert restoration.parse(text).unfinished == unfinished


# As /proc/net/tcp and tcp6 have them, on a little-endian machine: here, there.
@pytest.mark.parametrize(
    ("here", "there", "clients"),
    [
        ("652812C6", "662812C6", {"198.18.40.102"}),
        ("652812C6", "652812C6", set()),  # the host's own
        (LOOPBACK, LOOPBACK, set()),
        ("0000000000000000FFFF0000652812C6", "0000000000000000FFFF0000662812C6", {"198.18.40.102"}),
        ("0000000000000000FFFF0000652812C6", "0000000000000000FFFF0000652812C6", set()),
        (LOOPBACK6, LOOPBACK6, set()),
        ("B80D0120000000000000000001000000", "B80D012000000000000000006500A8C0", {"2001:db8::c0a8:65"}),
    ],
)
def test_who_is_connected(here: str, there: str, clients: set[str]) -> None:
    assert restoration.parse(f"client\t{here}\t{there}\n").clients == clients


def test_a_client_counts_once() -> None:
    text = (
        "client\t652812C6\t662812C6\n" * 3
        + "client\t0000000000000000FFFF0000652812C6\t0000000000000000FFFF0000662812C6\n"
    )
    assert restoration.parse(text).clients == {"198.18.40.102"}


@pytest.mark.parametrize(
    ("version", "restored", "live", "by"),
    [
        ("3.6.16", 100, 100, BUMP),
        ("3.6.16", 100, 0, BUMP),  # nobody runs who could tell
        ("3.6.16", 100, 90, BUMP),  # the live cluster is an older one
        ("3.6.16", 100, 250, BUMP + 150),
        ("3.6.16", 100, 100 + 3 * BUMP, 4 * BUMP),  # restored, itself, three times
        ("3.5.10", 7, 7, BUMP),
        ("3.5.9", 7, 7, 0),
        ("3.4.23", 100, 250, 0),
        ("3.4.27", 100, 250, BUMP + 150),
    ],
)
def test_revisions_are_raised_beyond_all_that_a_client_has_seen(
    version: str, restored: int, live: int, by: int
) -> None:
    assert restoration.bump(version, restored, live) == by
    if by:
        assert restored + by >= live + BUMP
