"""What an upgrade reads of each member's log, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from etcdops.steps import log
from etcdops.steps.log import Log

USUAL = Log(started=100, snapshot=0, removed=(), cluster="3.5", unknown="")


def test_the_answer_of_the_script() -> None:
    text = "started\t1795391336\nsnapshot\t1795391340\nremoved\t9b4ae030705854cf f6a7f77cc860ac5f \n"
    found = log.parse(f"{text}cluster\t3.5\nunknown\tETCD_X \n")
    assert found == Log(1795391336, 1795391340, ("9b4ae030705854cf", "f6a7f77cc860ac5f"), "3.5", "ETCD_X")
    assert log.parse("started\t5\nsnapshot\t\nremoved\t\ncluster\t\nunknown\t\n") == Log(5, 0, (), "", "")


def test_a_log_counts_that_begins_after_the_last_member_was_started() -> None:
    logs = {
        "etcd01": replace(USUAL, snapshot=131),
        "etcd02": replace(USUAL, snapshot=130),
        "etcd03": replace(USUAL, started=130),
    }
    assert log.due(logs) == ["etcd02", "etcd03"]


def test_members_that_are_noted_as_removed() -> None:
    logs = {
        "etcd01": replace(USUAL, removed=("00000000000000aa", "00000000000000bb")),
        "etcd02": replace(USUAL, removed=("00000000000000cc",)),  # one that has really gone
    }
    run: Any = SimpleNamespace(fleet=SimpleNamespace(all=lambda work: logs))
    (found,) = log.doomed(run, {0xAA, 0xDD})
    assert found.host == "etcd01"
    assert found.message.startswith("its data has 00000000000000aa noted as removed")
