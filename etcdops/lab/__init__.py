"""The lab: real Debian hosts on this machine, each a systemd-nspawn container on one bridge."""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
