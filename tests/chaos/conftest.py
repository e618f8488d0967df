"""The fixtures of the lab's tests, for faults on the same hosts."""

from __future__ import annotations

from tests.lab.conftest import five, ours, project

__all__ = ["five", "ours", "project"]
