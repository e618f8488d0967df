"""The settings of etcd: which of them each release gets from us, and which each minor knows.

A misspelt one is found before any host is asked.  Recorded from ``etcd --help`` of real releases
(tests/golden/etcd/*.flags), less what config.yaml may not set.  A patch release may bring a new one: beyond ``NEWEST``
nothing is held to be unknown here, and each host asks its own etcd.
"""

from __future__ import annotations

from functools import cache

from etcdops.etcd import release

NEWEST = {"3.4": "3.4.23", "3.5": "3.5.35", "3.6": "3.6.16", "3.7": "3.7.3"}  # the newest release that was asked

_KNOWN_TO = {
    "3.4 3.5 3.6 3.7": """
        auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention backend-batch-interval
        backend-batch-limit bcrypt-cost cipher-suites client-cert-allowed-hostname client-crl-file cors
        election-timeout enable-pprof grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout
        heartbeat-interval host-whitelist listen-metrics-urls log-level log-outputs logger max-concurrent-streams
        max-request-bytes max-snapshots max-txn-ops max-wals metrics peer-cert-allowed-cn peer-cert-allowed-hostname
        peer-crl-file pre-vote quota-backend-bytes snapshot-count strict-reconfig-check
    """,
    "3.4 3.5 3.6": """
        experimental-compaction-batch-limit experimental-corrupt-check-time experimental-enable-lease-checkpoint
        experimental-initial-corrupt-check experimental-peer-skip-client-san-verification
        experimental-warning-apply-duration experimental-watch-progress-notify-interval
    """,
    "3.5 3.6 3.7": """
        backend-bbolt-freelist-type enable-grpc-gateway enable-log-rotation listen-client-http-urls
        log-rotation-config-json raft-read-timeout raft-write-timeout self-signed-cert-validity socket-reuse-address
        socket-reuse-port tls-max-version tls-min-version v2-deprecation
    """,
    "3.4 3.5": """
        enable-v2 experimental-enable-v2v3
    """,
    "3.5 3.6": """
        experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
        experimental-compact-hash-check-time experimental-compaction-sleep-interval
        experimental-distributed-tracing-address experimental-distributed-tracing-instance-id
        experimental-distributed-tracing-sampling-rate experimental-distributed-tracing-service-name
        experimental-downgrade-check-time experimental-enable-distributed-tracing
        experimental-enable-lease-checkpoint-persist experimental-memory-mlock
        experimental-stop-grpc-service-on-defrag experimental-txn-mode-write-with-shared-buffer
    """,
    "3.6 3.7": """
        bootstrap-defrag-threshold-megabytes compact-hash-check-time compaction-batch-limit
        compaction-sleep-interval corrupt-check-time distributed-tracing-address distributed-tracing-instance-id
        distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time
        enable-distributed-tracing feature-gates log-format max-learners memory-mlock
        peer-skip-client-san-verification snapshot-catchup-entries warning-apply-duration
        warning-unary-request-duration watch-progress-notify-interval
    """,
    "3.4": """
        debug experimental-backend-bbolt-freelist-type log-package-levels
    """,
    "3.6": """
        experimental-snapshot-catchup-entries experimental-warning-unary-request-duration
    """,
}


def known(version: str) -> frozenset[str]:
    """The settings of this release; empty where that is not known here."""
    minor = version.rpartition(".")[0]
    if minor not in NEWEST or release(version) > release(NEWEST[minor]):
        return frozenset()
    return _of_minor(minor)


@cache
def _of_minor(minor: str) -> frozenset[str]:
    return frozenset(word for minors, words in _KNOWN_TO.items() if minor in minors.split() for word in words.split())


def default_settings(version: str) -> dict[str, str]:
    """Settings that a production cluster wants and this release does not have of itself.

    Sources: etcd's operations guide, and the CHANGELOG for the release in which each came or went.
    ``settings`` of config.yaml stand above these.
    """
    number = release(version)
    settings = {
        "log-outputs": "stderr",  # the journal
        "listen-metrics-urls": "http://127.0.0.1:2381",  # answers before the member is ready, too
        "auto-compaction-mode": "periodic",  # off by default: history grows until the quota stops all writes
        "auto-compaction-retention": "10h",
    }
    if number < (3, 6):
        settings["snapshot-count"] = "10000"  # 3.6's default; 100000 keeps far more memory and replay
    if number < (3, 5):
        settings["logger"] = "zap"
        settings["pre-vote"] = "true"
        settings["experimental-initial-corrupt-check"] = "true"
    elif number < (3, 6):
        settings["experimental-initial-corrupt-check"] = "true"
        if number >= (3, 5, 5):
            settings["experimental-compact-hash-check-enabled"] = "true"
    else:
        settings["feature-gates"] = "CompactHashCheck=true,InitialCorruptCheck=true"
    return settings
