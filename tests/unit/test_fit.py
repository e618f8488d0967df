"""May this snapshot be restored on this cluster?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from etcdops.snapshots import fit
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import Proof, prove
from tests.unit import build, snapshots


@cache
def proof(name: str = "3.6.16") -> Proof:
    with TemporaryDirectory() as folder:
        return prove(snapshots.put(Path(folder) / "a.db", snapshots.content(name)))


def of(version: str, cluster: str = "etcd-cluster") -> Manifest:
    return snapshots.manifest(cluster=cluster, etcd_version=version)


def words(version: str, manifest: Manifest | None, of_cluster: str = "", seen: Proof | None = None) -> list[str]:
    """What speaks against it, with what to do."""
    found = fit.findings(build.config(version), seen or proof(), manifest, of_cluster)
    return [f"{each.message} ({each.hint})" for each in found]


@pytest.mark.parametrize(
    ("taken", "wanted"),
    [("3.6.16", "3.6.16"), ("3.6.1", "3.6.16"), ("3.6.16", "3.6.1"), ("3.5.30", "3.6.16"), ("3.4.23", "3.5.30")],
)
def test_the_same_minor_or_the_one_before(taken: str, wanted: str) -> None:
    assert words(wanted, of(taken)) == []


@pytest.mark.parametrize(
    ("taken", "wanted", "said", "hint"),
    [
        ("3.7.3", "3.6.16", "etcd 3.7.3, newer than 3.6.16", "set cluster.version to a 3.7 release"),
        ("3.6.16", "3.4.23", "etcd 3.6.16, newer than 3.4.23", "set cluster.version to a 3.6 release"),
        ("3.4.23", "3.6.16", "one minor at a time, not that to 3.6.16", "set cluster.version to 3.5.x, restore"),
        ("3.5.30", "3.7.3", "one minor at a time, not that to 3.7.3", "set cluster.version to 3.6.x, restore"),
    ],
)
def test_other_minors(taken: str, wanted: str, said: str, hint: str) -> None:
    (found,) = words(wanted, of(taken))
    assert said in found
    assert hint in found


def test_another_cluster() -> None:
    (found,) = words("3.6.16", of("3.6.16", "prod"))
    assert "the snapshot is of the cluster prod, not of etcd-cluster" in found
    assert "--of-cluster=prod" in found
    assert words("3.6.16", of("3.6.16", "prod"), "prod") == []
    (found,) = words("3.6.16", of("3.6.16"), "prod")
    assert "of the cluster etcd-cluster, not of prod" in found
    assert len(words("3.4.23", of("3.6.16", "prod"))) == 2  # every reason at once


@pytest.mark.parametrize(
    ("name", "agreed"), [("3.4.23", "3.4"), ("3.5.30", "3.5"), ("3.6.16", "3.6"), ("3.7.3", "3.7")]
)
def test_without_a_manifest_the_file_tells(name: str, agreed: str) -> None:
    assert fit.version(proof(name), None).startswith(agreed)
    assert words(name, None, seen=proof(name)) == []
    if name != "3.4.23":
        (found,) = words("3.4.23", None, seen=proof(name))
        assert f"the snapshot is of etcd {agreed}" in found


def test_a_file_that_tells_nothing_is_let_pass() -> None:
    silent = replace(proof(), storage_version="", cluster_version="")
    assert words("3.4.23", None, seen=silent) == []
