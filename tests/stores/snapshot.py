"""A file to store, and the manifest of it.  What stores do is the same for any bytes."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etcdops.snapshots.manifest import Manifest

TAKEN = datetime(2026, 11, 22, 19, 49, 24, tzinfo=UTC)


def quiet(name: str, done: int, total: int) -> None:
    """A progress that nobody looks at."""


def make(path: Path, size: int = 300_001, **values: Any) -> Manifest:
    """Write ``size`` bytes to ``path``, the same ones each time; its manifest, with ``values`` in it."""
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return describe(path, size, hashlib.sha256(data).hexdigest(), **values)


def describe(path: Path, size: int, sha256: str, **values: Any) -> Manifest:
    """The manifest of a file that is there."""
    fields: dict[str, Any] = {
        "cluster": "prod",
        "member": "etcd01",
        "member_id": "8211f1d0f64f3269",
        "etcd_version": "3.6.14",
        "taken": TAKEN,
        "revision": 7,
        "size": size,
        "sha256": sha256,
        "stored_size": size,
        "stored_sha256": sha256,
        "tool_version": "1.0",
    }
    return Manifest(**{**fields, **values})
