"""By which stops, and what stands in the way."""

from __future__ import annotations

import pytest

from etcdops.errors import OpsError
from etcdops.versions import Hop, down, up

UP: dict[tuple[str, str], list[str]] = {
    ("3.6.14", "3.6.16"): ["3.6.14 -> 3.6.16"],
    ("3.6.16", "3.6.16"): [],
    ("3.5.1", "3.5.16"): ["3.5.1 -> 3.5.16"],
    ("3.4.23", "3.5.30"): ["3.4.23 -> 3.5.30"],
    ("3.5.30", "3.6.16"): ["3.5.30 -> 3.6.16"],
    ("3.5.26", "3.6.0"): ["3.5.26 -> 3.6.0"],
    ("3.5.25", "3.6.16"): ["3.5.25 -> 3.5.35", "3.5.35 -> 3.6.16"],
    ("3.6.16", "3.7.3"): ["3.6.16 -> 3.7.3"],
    ("3.6.10", "3.7.3"): ["3.6.10 -> 3.6.16", "3.6.16 -> 3.7.3"],
    ("3.4.23", "3.6.14"): ["3.4.23 -> 3.5.35", "3.5.35 -> 3.6.14"],
    ("3.4.23", "3.7.3"): ["3.4.23 -> 3.5.35", "3.5.35 -> 3.6.16", "3.6.16 -> 3.7.3"],
    ("3.5.16", "3.7.1"): ["3.5.16 -> 3.5.35", "3.5.35 -> 3.6.16", "3.6.16 -> 3.7.1"],
}
DOWN: dict[tuple[str, str], list[str]] = {
    ("3.6.16", "3.6.14"): ["3.6.16 -> 3.6.14"],
    ("3.6.16", "3.6.16"): [],
    ("3.7.3", "3.6.16"): ["3.7.3 -> 3.6.16"],
    ("3.6.16", "3.5.30"): ["3.6.16 -> 3.5.30"],
    ("3.7.3", "3.5.30"): ["3.7.3 -> 3.6.16", "3.6.16 -> 3.5.30"],
    ("3.5.30", "3.5.16"): ["3.5.30 -> 3.5.16"],
}


@pytest.mark.parametrize(("ends", "hops"), UP.items(), ids=map("-".join, UP))
def test_up(ends: tuple[str, str], hops: list[str]) -> None:
    assert [str(hop) for hop in up(*ends)] == hops


@pytest.mark.parametrize(("ends", "hops"), DOWN.items(), ids=map("-".join, DOWN))
def test_down(ends: tuple[str, str], hops: list[str]) -> None:
    assert [str(hop) for hop in down(*ends)] == hops


@pytest.mark.parametrize(
    ("road", "start", "to", "code", "words"),
    [
        (up, "3.6.16", "3.5.30", 2, "3.5.30 is older than 3.6.16, which runs"),
        (up, "3.4.23", "3.5.1", 3, "etcd 3.5.1 loses data"),
        (down, "3.5.16", "3.5.2", 3, "etcd 3.5.2 loses data"),
        (down, "3.5.30", "3.6.16", 2, "3.6.16 is newer than 3.5.30, which runs"),
        (down, "3.5.30", "3.4.23", 3, "etcd has no way back from 3.5 to 3.4"),
        (down, "3.7.3", "3.4.23", 3, "etcd has no way back from 3.5 to 3.4"),
    ],
)
def test_no_way(road: object, start: str, to: str, code: int, words: str) -> None:
    with pytest.raises(OpsError, match=words) as caught:
        road(start, to)  # type: ignore[operator]
    assert caught.value.exit_code == code
    assert caught.value.hint


HOPS: dict[tuple[str, str], tuple[bool, str]] = {  # does the log begin anew; the way back
    ("3.4.23", "3.5.35"): (True, "only the backup from before: inv restore"),
    ("3.4.23", "3.5.16"): (False, "only the backup from before: inv restore"),
    ("3.5.16", "3.5.30"): (True, "inv downgrade --to=3.5.16"),
    ("3.5.30", "3.5.35"): (False, "inv downgrade --to=3.5.30"),
    ("3.5.30", "3.6.16"): (False, "inv downgrade --to=3.5.30"),
    ("3.6.14", "3.6.16"): (False, "inv downgrade --to=3.6.14"),
    ("3.6.16", "3.7.3"): (True, "inv downgrade --to=3.6.16"),
    ("3.7.3", "3.6.16"): (False, "inv upgrade --to=3.7.3"),
    ("3.5.1", "3.5.35"): (True, "none that is safe"),
    ("3.5.30", "3.5.16"): (False, "inv upgrade --to=3.5.30"),
}


@pytest.mark.parametrize(("ends", "found"), HOPS.items(), ids=map("-".join, HOPS))
def test_hop(ends: tuple[str, str], found: tuple[bool, str]) -> None:
    hop = Hop(*ends)
    assert (hop.renews_log, hop.way_back) == found
