"""One file for each documented step, or family of steps; each is loaded when its first task runs."""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
