"""The fault matrix: every scenario has its tests, they are there, and none of chaos/ is without a scenario."""

from __future__ import annotations

import ast
import re

from etcdops.dev import CHAOS, TESTS
from tests.chaos.matrix import MATRIX

NAMED = {each for scenario in MATRIX.values() for each in scenario.tests}


def named_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def test_every_scenario_has_tests() -> None:
    assert list(MATRIX) == list(range(1, 26))
    assert all(scenario.tests for scenario in MATRIX.values())


def test_they_are_there() -> None:
    for each in NAMED:
        found = re.fullmatch(r"(.*)::(\w+)(?:\[(.*)\])?", each)
        assert found, each
        file, name, id_ = found.groups()
        assert name in named_in(file), each
        assert f'"{(id_ or "").replace("-", " ")}":' in (TESTS / file).read_text() or not id_, each


def test_those_of_chaos_stand_in_a_line() -> None:
    """Each that is about a fault of the cluster; the crash matrix and others have tables of their own."""
    for file in {each.partition("::")[0] for each in NAMED if each.startswith(f"{CHAOS}/")}:
        assert {f"{file}::{name}" for name in named_in(file)} <= NAMED
