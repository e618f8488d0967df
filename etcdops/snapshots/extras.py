"""Packages that only some configurations need, and that requirements.lock therefore leaves out."""

from __future__ import annotations

import shlex
import shutil
import sys

from etcdops.errors import UsageError
from etcdops.layout import ROOT

LOCK = ROOT / "requirements-extras.lock"


def missing(package: str, key: str) -> UsageError:
    """The error that ``key`` of config.yaml needs ``package``, with the command that brings it."""
    installer = ["uv", "pip", "install", "--python", sys.executable]
    if shutil.which("uv") is None:
        installer = [sys.executable, "-m", "pip", "install"]
    command = shlex.join([*installer, "--require-hashes", "-r", str(LOCK)])
    return UsageError(f"{key} needs the Python package {package}, which is not installed", hint=f"run: {command}")
