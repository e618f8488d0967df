"""What a throw-away etcd (files/throwaway.sh) is started with: certificates of its own, for the time it lives.

A snapshot brings its authentication along, and nobody here needs to know its passwords: to an etcd that asks for
client certificates, whoever shows one with the CN root is root.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from etcdops.credentials import ROOT

LIFETIME = timedelta(days=1)  # longer than any drill, and of use to nobody once its etcd has ended


def certificates() -> bytes:
    """Two lines for the script's standard input, each a PEM file in base64: a CA, and a pair of its for root."""
    from etcdops.pki import CA, LeafRequest

    now = datetime.now(UTC)
    ca = CA.create("throw-away etcd CA", "ecdsa-p256", LIFETIME, now)
    pair = ca.issue(LeafRequest("server", ROOT), "ecdsa-p256", LIFETIME, now)
    return b"".join(base64.b64encode(pem) + b"\n" for pem in (ca.cert_pem, pair.pem))
