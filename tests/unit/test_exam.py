"""What a host answers in a check-up, as values; the figures of /metrics; and every key of the documents."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etcdops.checkup import metrics
from etcdops.checkup.exam import Exam, Reach, parse
from etcdops.checkup.metrics import ENOUGH, Histogram
from etcdops.errors import OpsError
from etcdops.flaws import flaws
from etcdops.handshake import Served
from etcdops.steps import doctor
from tests.unit.build import config, fresh, serving
from tests.unit.test_checkup import FIGURES, GOOD

JSON = Path(__file__).resolve().parents[2] / "docs" / "json.md"


def answer(*rows: str) -> Exam:
    """Of rows whose fields a blank parts; '_' stands for a blank."""
    return parse("\n".join(row.replace(" ", "\t").replace("_", " ") for row in rows), fresh())


def test_all_that_a_host_says() -> None:
    pem = base64.b64encode(b"PEM").decode()
    found = answer(
        "hostname etcd01", "account etcd:x:9:9::/:/bin/sh", "restarts 3", "filesystem xfs", f"certificate /a.pem {pem}",
        "sync 0.002", "sync 4.2e-05",
    )  # fmt: skip
    assert (found.hostname, found.restarts, found.filesystem) == ("etcd01", 3, "xfs")
    assert found.account.startswith("etcd:x:9")
    assert found.pairs == {"/a.pem": "PEM"}
    assert found.syncs == (0.002, 0.000042)


def test_a_host_that_says_next_to_nothing() -> None:
    assert answer("hostname h", "account ", "restarts ", "filesystem ") == Exam(fresh(), hostname="h")


@pytest.mark.parametrize(
    ("code", "said", "reach"),
    [
        (0, "", Reach("open")),
        (1, "bash:_connect:_Connection_refused", Reach("refused", "Connection refused")),
        (1, "h:_line_1:_/dev/tcp/192.0.2.1/2380:_Connection_refused", Reach("refused", "Connection refused")),
        (124, "", Reach("blocked", "no answer within 2 s")),
        (1, "bash:_connect:_No_route_to_host", Reach("blocked", "No route to host")),
        (1, "bash:_connect:_Network_is_unreachable", Reach("blocked", "Network is unreachable")),
        (1, "h:_/dev/tcp/a/1:_No_such_file_or_directory", Reach("unseen", "No such file or directory")),
    ],
)
def test_what_became_of_a_try_to_connect(code: int, said: str, reach: Reach) -> None:
    assert answer(f"reach etcd02 2380 {code} {said}").reach == {("etcd02", 2380): reach}


TEXT = """\
# HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 90
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 190
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 200
etcd_disk_wal_fsync_duration_seconds_sum 0.3
etcd_disk_wal_fsync_duration_seconds_count 200
etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="0.0001"} 60
etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="+Inf"} 60
etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="0.0001"} 40
etcd_network_peer_round_trip_time_seconds_bucket{To="b",le="+Inf"} 60
etcd_server_leader_changes_seen_total 3
process_open_fds 25
process_max_fds 65536
process_start_time_seconds 1.7953e+09
"""


def test_metrics() -> None:
    found = metrics.parse(TEXT, 1_795_300_060.0)
    assert found.fsync.buckets == ((0.001, 90), (0.002, 190), (float("inf"), 200))
    assert found.round_trip.buckets == ((0.0001, 100), (float("inf"), 120))
    assert (found.commit.count, found.leader_changes, found.uptime) == (0, 3, 60)
    assert (found.open_files, found.most_files) == (25, 65536)
    assert metrics.parse("", 0) == metrics.Metrics()
    assert metrics.parse("<html>\nnot metrics {at} all\n", 0) == metrics.Metrics()


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        (((1.0, 50), (2.0, 100), (float("inf"), 100)), 0.5, 1.0),
        (((1.0, 50), (2.0, 100), (float("inf"), 100)), 0.75, 1.5),
        (((1.0, 100), (2.0, 100), (float("inf"), 100)), 0.99, 0.99),
        (((1.0, 50), (float("inf"), 100)), 0.99, 1.0),  # no more is known of it
        (((1.0, ENOUGH - 1), (float("inf"), ENOUGH - 1)), 0.5, None),
        ((), 0.5, None),
    ],
)
def test_quantile(buckets: Any, share: float, value: float | None) -> None:
    assert Histogram(buckets).quantile(share) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.4.21", ["3.4.22", "3.4.38"]),
        ("3.4.42", ["3.4.43"]),
        ("3.4.45", []),
        ("3.5.1", ["3.5.20", "3.5.23", "3.5.33"]),
        ("3.5.5", ["3.5.6", "3.5.20", "3.5.23", "3.5.33"]),
        ("3.5.28", ["3.5.29", "3.5.33"]),
        ("3.5.33", []),
        ("3.6.3", ["3.6.4", "3.6.5", "3.6.14"]),
        ("3.6.14", []),
        ("3.7.0", ["3.7.1"]),
        ("3.7.1", []),
        ("3.8.0", []),
    ],
)
def test_flaws_of_releases(version: str, fixed: list[str]) -> None:
    assert [flaw.way_out for flaw in flaws(version)] == fixed


def documented(section: str) -> str:
    return JSON.read_text().partition(f"## `{section}`\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("step", [doctor.doctor, doctor.check], ids=["doctor", "check"])
def test_every_key_of_json_is_documented(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = serving("etcd01")
    reach = {("etcd02", 2380): Reach("open")}
    exams = {
        "etcd01": Exam(facts, reach=reach, syncs=(0.1,), metrics=FIGURES, served={2379: Served(GOOD["etcd01"])}),
        "etcd02": Exam(fresh("etcd02")),
        "etcd03": OpsError("away"),
    }
    seen: list[Any] = []
    run: Any = SimpleNamespace(
        config=config(tls=False),
        fleet=SimpleNamespace(map=lambda ask: exams),
        emit=lambda value, show: seen.append(value),
    )
    monkeypatch.setattr(doctor, "_newest", lambda run: (None, "backups", None))
    monkeypatch.setattr(doctor, "_unavailable", lambda run, picture: [])
    with pytest.raises(OpsError):
        step(run)
    (document,) = seen
    names = {*document} | {key for part in ("checks", "findings", "members") for row in document[part] for key in row}
    text = documented("doctor") + documented("check")
    assert "served_days_left_2379" in names or step is doctor.check
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
