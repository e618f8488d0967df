"""What the lab asks of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdops.lab import limits


@pytest.mark.parametrize(("allowed", "then"), [("128", "2048"), ("2048", "2048"), ("8192", "8192")])
def test_inotify_instances_are_never_fewer_than_before(tmp_path: Path, allowed: str, then: str) -> None:
    path = tmp_path / "max_user_instances"
    path.write_text(f"{allowed}\n")
    limits.widen(path)
    assert path.read_text().strip() == then


def test_a_kernel_that_lets_nobody_change_it_is_no_error(tmp_path: Path) -> None:
    limits.widen(tmp_path / "not there")
