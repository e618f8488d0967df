"""Who holds other data, what a defragmentation is worth, and whether there is room: without a host."""

from __future__ import annotations

import pytest

from etcdops.agreement import Comparison, compare
from etcdops.database import MIB, Database, too_full
from etcdops.errors import HostError, OpsError
from etcdops.etcd import CORRUPT, NOSPACE, Alarm
from etcdops.snapshots.content import Content
from etcdops.steps import alarms
from etcdops.steps.defrag import parse
from tests.unit.build import status, view

AWAY = HostError("no route to host")
GIB = 1 << 30


def holding(*hashes: int | OpsError | None) -> dict[str, Content | OpsError]:
    """etcd01, etcd02 ... with these hashes."""
    return {
        f"etcd{number:02d}": each if isinstance(each, OpsError) else Content(9, 3, each, -1)
        for number, each in enumerate(hashes, 1)
    }


E1, E2, E3, E4, E5 = (f"etcd0{number}" for number in range(1, 6))
COMPARED = {
    "same": (holding(7, 7, 7), Comparison(9, (E1, E2, E3)), ""),
    "one of three": (
        holding(7, 7, 8),
        Comparison(9, (E1, E2), (E3,)),
        "etcd03 holds other data than etcd01, etcd02, the majority, at revision 9",
    ),
    "the first of three": (
        holding(8, 7, 7),
        Comparison(9, (E2, E3), (E1,)),
        "etcd01 holds other data than etcd02, etcd03, the majority, at revision 9",
    ),
    "two of five": (
        holding(7, 8, 7, 9, 7),
        Comparison(9, (E1, E3, E5), (E2, E4)),
        "etcd02, etcd04 hold other data than etcd01, etcd03, etcd05, the majority, at revision 9",
    ),
    "each its own": (
        holding(7, 8, 9),
        Comparison(9, (), (E1, E2, E3)),
        "etcd01, etcd02, etcd03 hold different data at revision 9, and no majority agrees",
    ),
    "two differ": (
        holding(7, 8),
        Comparison(9, (), (E1, E2)),
        "etcd01, etcd02 hold different data at revision 9, and no majority agrees",
    ),
    "one away, and two differ": (
        holding(7, 8, AWAY),
        Comparison(9, (), (E1, E2), (E3,)),
        "etcd01, etcd02 hold different data at revision 9, and no majority agrees",
    ),
    "two of five agree, which is not most": (
        holding(7, 7, 8, AWAY, AWAY),
        Comparison(9, (), (E1, E2, E3), (E4, E5)),
        "etcd01, etcd02, etcd03 hold different data at revision 9, and no majority agrees",
    ),
    "one away, and two agree": (
        holding(7, 7, AWAY),
        Comparison(9, (E1, E2), (), (E3,)),
        "etcd03 gave no hash of its data at revision 9",
    ),
    "one silent": (
        holding(7, None, 7),
        Comparison(9, (E1, E3), (), (E2,)),
        "etcd02 gave no hash of its data at revision 9",
    ),
    "all silent": (
        holding(None, AWAY),
        Comparison(9, silent=(E1, E2)),
        "etcd01, etcd02 gave no hash of its data at revision 9",
    ),
    "a hash of zero is one": (holding(0, 0, 0), Comparison(9, (E1, E2, E3)), ""),
}


@pytest.mark.parametrize("found, result, reason", COMPARED.values(), ids=COMPARED)
def test_who_holds_other_data(found: dict[str, Content | OpsError], result: Comparison, reason: str) -> None:
    compared = compare(found, 9)
    assert compared == result
    assert compared.reason == reason


@pytest.mark.parametrize(
    ("size", "used", "worth"),
    [
        (300, 100, True),
        (300, 149, True),
        (300, 150, False),  # half of it
        (150, 40, True),
        (150, 50, False),  # 100 MiB and not more
        (90, 0, False),
        (8192, 8000, False),
    ],
)
def test_defragmentation_is_worth_it(size: int, used: int, worth: bool) -> None:
    assert Database(size * MIB, used * MIB, 2 * GIB, 0).worth is worth


@pytest.mark.parametrize(
    ("told", "quota"),
    [("", 2 * GIB), ("0", 2 * GIB), ("-1", 0), ("16777216", 16 * MIB)],
    ids=["etcd's own", "the same", "none", "set"],
)
def test_database_of_a_member(told: str, quota: int) -> None:
    found = parse(f"quota\t{told}\nfree\t4096\n", view(status=status(db_size=10 * MIB, db_in_use=MIB)))
    assert found == Database(10 * MIB, MIB, quota, 4096)
    assert found.need == MIB + MIB // 10 + 64 * MIB


def test_room_below_the_quota() -> None:
    quota = 100 * MIB
    found = {
        "etcd01": Database(95 * MIB, 0, quota, 0),
        "etcd02": Database(96 * MIB, 0, quota, 0),
        "etcd03": Database(1000 * MIB, 0, 0, 0),
    }
    assert too_full(found) == ["etcd02 takes 96.0 MiB of its quota of 100.0 MiB"]


def test_alarms_are_told_once_by_whoever_answers() -> None:
    views = {
        "etcd01": view(status=status(errors=("alarm NOSPACE on etcd02", "etcdserver: no leader"))),
        "etcd02": view(status=status(errors=("alarm NOSPACE on etcd02", "alarm CORRUPT"))),
        "etcd03": AWAY,
    }
    assert alarms.raised(views) == [Alarm(CORRUPT), Alarm(NOSPACE, "etcd02")]
    with pytest.raises(OpsError, match="1 host failed"):
        alarms.raised({"etcd03": AWAY})
