"""Snapshots of real releases for the tests (tests/golden/snapshots), and manifests of them."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from etcdops.config import Config
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import RecordedMember

GOLDEN = Path(__file__).parent.parent / "golden" / "snapshots"
NAMES = sorted(path.name.removesuffix(".db.gz") for path in GOLDEN.glob("*.db.gz"))
NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)


@cache
def content(name: str) -> bytes:
    """The snapshot file, byte for byte as etcd wrote it."""
    return gzip.decompress((GOLDEN / f"{name}.db.gz").read_bytes())


def said(name: str) -> Any:
    """What etcd and its tools said of it."""
    return json.loads((GOLDEN / f"{name}.db.json").read_text())


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def signed(data: bytes) -> bytes:
    """A database with the SHA-256 at its end that etcd would write."""
    return data + hashlib.sha256(data).digest()


def manifest(data: bytes = b"", *, age: timedelta = timedelta(), **known: Any) -> Manifest:
    """A manifest of ``data`` from ``age`` ago."""
    digest = hashlib.sha256(data).hexdigest()
    usual: dict[str, Any] = {
        "cluster": "prod",
        "member": "etcd01",
        "member_id": "5fc40545450d2790",
        "etcd_version": "3.6.16",
        "taken": NOW - age,
        "revision": 36,
        "members": [RecordedMember("5fc40545450d2790", "etcd01", ("http://127.0.0.1:23791",))],
        "size": len(data),
        "sha256": digest,
        "tool_version": "0",
        "stored_size": len(data),
        "stored_sha256": digest,
    }
    return Manifest.model_validate(usual | known)


def config(folder: Path, **backup: Any) -> Config:
    """Of the cluster `prod`, in a file of ``folder``."""
    return Config.model_validate(
        {
            "cluster": {"name": "prod", "version": "3.6.16"},
            "members": [{"name": "etcd01", "address": "192.0.2.1"}],
            "backup": backup,
        },
        context=folder / "config.yaml",
    )
