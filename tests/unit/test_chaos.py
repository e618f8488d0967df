"""What the chaos tests count with: which writes must be there, how long clients waited, where a run is killed."""

from __future__ import annotations

import random

from tests.chaos.clients import Origin, Write, kept, longest
from tests.chaos.crash import boundaries, death, instead, sample


def write(cluster: str, revision: int) -> Write:
    return Write(f"{cluster}{revision}", 0.0, cluster, revision)


def test_a_restore_keeps_what_its_backup_had_and_what_came_after_it() -> None:
    writes = [write("a", 1), write("a", 5), write("a", 9), write("b", 1001), write("b", 1009), write("c", 2001)]
    assert kept(writes, "a", {}) == {"a1", "a5", "a9"}
    once = {"b": Origin("a", 5)}
    assert kept(writes, "b", once) == {"a1", "a5", "b1001", "b1009"}
    assert kept(writes, "c", {**once, "c": Origin("b", 1001)}) == {"a1", "a5", "b1001", "c2001"}
    assert kept(writes, "c", {**once, "c": Origin("a", 1)}) == {"a1", "c2001"}


def test_the_longest_wait_begins_and_ends_with_the_time_that_is_looked_at() -> None:
    times = [1.0, 2.0, 2.5, 9.0]
    assert longest(times, 0.0, 3.0) == 1.0
    assert longest(times, 2.0, 6.0) == 3.5
    assert longest(times, 3.0, 8.0) == 5.0


LOG = """\
1\tetcd01\tgate.ask
2\tetcd02\tgate.ask
1\ttook\t0.010
2\ttook\t0.020
3\tetcd01\tapply.push
3\ttook\t2.000
4\there\trename pki
5\there\trename pki
"""


def test_a_run_is_killed_before_and_after_each_command_and_within_a_long_one() -> None:
    found = boundaries(LOG, random.Random(1))
    assert [f"{each.phase} {each.number}" for each in found] == [
        "before 1",
        "after 1",
        "before 2",
        "after 2",
        "before 3",
        "after 3",
        "within 3",
        "before 4",
        "before 5",
    ]
    assert [found[n].words for n in (0, 3, 7)] == [
        "before 1 gate.ask",
        "after 2 gate.ask",
        "before 1 rename pki",
    ]
    assert found[6].words == f"within 1 {found[6].delay:.3f} apply.push"
    assert 0.05 <= found[6].delay <= 2.0


def test_a_sample_has_each_kind_before_it_has_any_twice() -> None:
    found = boundaries(LOG, random.Random(1))
    for seed in range(20):
        chosen = sample(found, 6, random.Random(seed))
        assert len({each.kind for each in chosen}) == 6
        assert chosen == sorted(chosen, key=lambda each: (each.number, each.phase))
    assert sample(found, 8, random.Random(1)) != found
    assert sample(found, 9, random.Random(1)) == found


def test_where_a_run_died_is_what_its_own_log_says() -> None:
    found = boundaries(LOG, random.Random(1))
    second, push = (each for each in found if each.words in {"before 2 gate.ask", "before 1 apply.push"})
    assert death(second, LOG) == second
    other = death(push, "1\tetcd01\tgate.ask\n2\tetcd03\tapply.push\n")
    assert other
    assert other.name == "etcd03 apply.push"
    assert death(second, "1\tetcd01\tgate.ask\n2\tetcd03\tapply.push\n") is None


def test_who_dies_in_the_middle_of_a_command_does_not_outlive_it() -> None:
    (at,) = (each for each in boundaries(LOG, random.Random(1)) if each.phase == "within")
    assert death(at, "3\tetcd01\tapply.push\n") == at
    assert death(at, LOG) is None


def test_a_missed_boundary_is_the_turn_of_others_of_its_kind_and_then_its_own_again() -> None:
    found = boundaries(LOG, random.Random(1))
    at, *rest = found
    assert [each.words for each in instead(at, rest)] == [f"before {nth} gate.ask" for nth in (1, 2, 1)]
    within = found[6]
    assert [each.delay for each in instead(within, [])] == [within.delay, within.delay / 10, within.delay / 100]
