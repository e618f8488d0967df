"""May this snapshot be restored on this cluster?  Pure: what is known of both in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from etcdops.config import Config
from etcdops.errors import Refused
from etcdops.etcd import release
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import Proof


def findings(config: Config, proof: Proof, manifest: Manifest | None, of_cluster: str) -> Iterator[Refused]:
    """Reasons not to.  ``of_cluster``: the other cluster that the operator said the snapshot is of, '' for this one."""
    expected = of_cluster or config.cluster.name
    if manifest and manifest.cluster != expected:
        yield Refused(
            f"the snapshot is of the cluster {manifest.cluster}, not of {expected}",
            hint=f"if that is what you want: --of-cluster={manifest.cluster}",
        )
    if proof.auth_enabled and not (config.cluster.tls or config.auth.user):
        yield Refused(
            "authentication is on in the snapshot, and nobody here could look into what comes of it",
            hint="set auth.user in config.yaml to a user of that time with the role root, such as root",
        )
    taken, wanted = version(proof, manifest), config.cluster.version
    if not taken:
        return
    newer = release(taken)[:2]
    ours = release(wanted)[:2]
    if newer > ours:
        yield Refused(
            f"the snapshot is of etcd {taken}, newer than {wanted}, which may not understand it",
            hint=f"set cluster.version to a {taken.rpartition('.')[0]} release",
        )
    elif newer[0] == ours[0] and ours[1] - newer[1] > 1:
        yield Refused(
            f"the snapshot is of etcd {taken}, and etcd takes one minor at a time, not that to {wanted}",
            hint=f"set cluster.version to {newer[0]}.{newer[1] + 1}.x, restore, and upgrade from there",
        )


def version(proof: Proof, manifest: Manifest | None) -> str:
    """The etcd that the snapshot is of: as the manifest says, else as the cluster had agreed; '' if neither tells."""
    return (manifest.etcd_version if manifest else "") or proof.storage_version or proof.cluster_version
