"""snapshot.list, snapshot.verify and snapshot.prune, on a folder of real snapshots."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from etcdops.errors import OpsError, UsageError
from etcdops.run import Run
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import RecordedMember, prove
from etcdops.snapshots.store import FolderStore
from etcdops.ssh import Fleet
from etcdops.steps import backup, sources
from etcdops.steps import snapshots as steps
from tests.unit import snapshots
from tests.unit.snapshots import manifest, put
from tests.unit.test_docs import documented

WHOLE = snapshots.content("3.6.16")
CONFIG = """
cluster: {name: prod, version: 3.6.16}
members: [{name: etcd01, address: 192.0.2.1}]
backup: {dir: store, keep: {last: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return put(tmp_path / "config.yaml", CONFIG.encode())


@pytest.fixture
def run(config: Path) -> Run:
    return Run(config)


def store(run: Run, hours: float = 0, data: bytes = WHOLE, **known: Any) -> Manifest:
    """A backup from so many hours ago, in the store of ``run``."""
    source = put(run.path.parent / "source", data)
    known = {"taken": datetime.now(UTC) - timedelta(hours=hours), "members": prove(source).members, **known}
    backups = FolderStore(run.config.resolve(run.config.backup.dir))
    return backups.add(source, manifest(data, **known), lambda *bar: None)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.config.resolve("store").iterdir())


def test_list(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = store(run, 50, keys=20), store(run, 2.5, cluster="other")
    (run.config.resolve("store") / "prod-20260101T000000Z-r1.db").write_bytes(b"")
    steps.list_(run)
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if "-r36" in line]
    assert rows == [
        [new.name, "2", "h", "36", "56", "KiB", "3.6.16", "etcd01", "no"],
        [old.name, "2", "d", "36", "20", "56", "KiB", "3.6.16", "etcd01", "no"],
    ]
    assert err.startswith("warning: prod-20260101T000000Z-r1.db: has no manifest")


def test_list_of_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    steps.list_(run)
    assert printed(capsys) == [f"{run.config.resolve('store')}: no backup"]


def test_keys_of_json_are_documented(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(config, json=True)
    new = store(run, 1)
    steps.list_(run)
    listed = json.loads(capsys.readouterr().out)
    assert listed["backups"][0]["age_s"] // 60 == 60
    assert [each["name"] for each in listed["backups"]] == [new.name]
    steps.verify(run, "latest")
    verified = json.loads(capsys.readouterr().out)
    assert (verified["name"], verified["keys"], verified["manifest"]["name"]) == (new.name, 20, new.name)
    page = (Path(__file__).parents[2] / "docs" / "snapshots.md").read_text()
    rows = {key for row in listed["backups"] for key in row}
    assert [key for key in (*listed, "name", "file", "age_s") if f"`{key}`" not in documented("snapshot.list")] == []
    assert [key for key in rows - {"name", "file", "age_s"} if f"`{key}`" not in page] == []
    assert [key for key in verified if f"`{key}`" not in documented("snapshot.verify")] == []


def test_verify_latest_is_this_clusters(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store(run, 30)
    new = store(run, 3, keys=20)
    store(run, 1, cluster="other")
    steps.verify(run, "latest")
    assert printed(capsys) == [f"{new.name}: proven: revision 36, 20 keys, 56 KiB, 3 h old, from etcd01"]
    assert not [name for name in names(run) if name.startswith(".")]


def at(address: str) -> list[RecordedMember]:
    """The members of a cluster of one, at this address."""
    return [RecordedMember("1", "etcd01", (f"https://{address}:2380",))]


def test_two_clusters_of_one_name_are_told_apart(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """As of two that somebody has called prod, and that share a store."""
    old, mine = (store(run, hours, cluster_id="a", members=at("192.0.2.1")) for hours in (5, 3))
    newer = store(run, 1, cluster_id="b", members=at("198.51.100.1"))
    words = "of another cluster of this name, with the id b, at 198.51.100.1"
    steps.verify(run, "latest")
    out, err = capsys.readouterr()
    assert out.startswith(f"{mine.name}: proven: ")
    assert f"warning: {newer.name} is newer, and {words}; passed over" in err
    steps.list_(run)
    rows = {line.split()[0]: line.rstrip() for line in printed(capsys) if "-r36" in line}
    assert [rows[each.name].endswith("another, b") for each in (newer, mine, old)] == [True, False, False]
    steps.prune(run)
    assert printed(capsys) == [
        f"{old.name}  deleted",
        f"{newer.name}  stays: {words}",
        f"{mine.name}  stays: last",
    ]
    assert names(run) == sorted(f"{each.name}.{kind}" for each in (mine, newer) for kind in ("db", "json"))


def test_nothing_tells_which_of_two_clusters_is_meant(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        store(run, hours, cluster_id=id_, members=at(f"198.51.100.{hours}")) for hours, id_ in ((5, "a"), (3, "b"))
    )
    with pytest.raises(OpsError, match="has backups of several clusters called 'prod', and nothing tells which"):
        steps.verify(run, "latest")
    steps.prune(run)
    assert [line.split("  ")[0] for line in printed(capsys)] == [second.name, first.name, "nothing to do"]


def test_after_a_restore_that_was_undone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """And a backup fell in between.  Whoever deletes has to know the id, as `inv backup` does."""
    oldest, old, undone, new = (
        store(run, hours, cluster_id=id_, members=at("192.0.2.1"))
        for hours, id_ in ((7, "a"), (5, "a"), (3, "b"), (1, "a"))
    )
    steps.verify(run, "latest")
    out, err = capsys.readouterr()
    assert (out.startswith(f"{new.name}: proven: "), err) == (True, "==> Prove latest\n")
    steps.prune(run)
    words = "stays: one of several clusters of this name, and nothing tells which is this one"
    assert printed(capsys) == [f"{each.name}  {words}" for each in (new, undone, old, oldest)] + ["nothing to do"]
    assert list(steps.prune_store(run, FolderStore(run.config.resolve("store")), "a")) == [oldest.name, old.name]
    assert names(run) == sorted(f"{each.name}.{kind}" for each in (undone, new) for kind in ("db", "json"))


def test_whoever_has_no_backup_deletes_no_other_clusters(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One name, one store, other addresses: `latest` may take it for its own after a loss of all hosts, prune not."""
    older, newer = (store(run, hours, cluster_id="a", members=at("198.51.100.1")) for hours in (5, 3))
    steps.verify(run, "latest")
    assert printed(capsys)[0].startswith(f"{newer.name}: proven: ")
    before = names(run)
    assert list(steps.prune_store(run, FolderStore(run.config.resolve("store")), "b")) == []
    steps.prune(run)
    words = "stays: of another cluster of this name, with the id a, at 198.51.100.1"
    assert printed(capsys) == [f"{newer.name}  {words}", f"{older.name}  {words}", "nothing to do"]
    assert names(run) == before


def test_what_was_in_a_cluster_before_it_was_built_anew_stays(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store(run, 50, cluster_id="a", members=at("192.0.2.1"))
    real = store(run, 40, cluster_id="a", members=at("192.0.2.1"))
    store(run, 2, cluster_id="b", members=at("192.0.2.1"))
    empty = store(run, 1, cluster_id="b", members=at("192.0.2.1"))
    steps.prune(run)
    assert printed(capsys)[2:] == [f"{empty.name}  stays: last", f"{real.name}  stays: the last of cluster a"]
    assert names(run) == sorted(f"{each.name}.{kind}" for each in (empty, real) for kind in ("db", "json"))


def test_latest_is_not_from_the_future(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """As with a clock that was a year ahead when it was taken."""
    ahead, good = store(run, -365 * 24 - 1), store(run, 3)
    steps.verify(run, "latest")
    out, err = capsys.readouterr()
    assert out.startswith(f"{good.name}: proven: ")
    assert f"warning: {ahead.name} is dated 365 d ahead of this machine's clock; passed over" in err
    steps.verify(run, ahead.name)
    assert ", dated 365 d ahead, from etcd01" in printed(capsys)[0]
    steps.list_(run)
    assert "  dated 365 d ahead  " in capsys.readouterr().out


def test_clocks_of_two_machines_may_differ_a_little(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store(run, 3)
    new = store(run, -1 / 60)
    steps.verify(run, "latest")
    assert printed(capsys)[0].startswith(f"{new.name}: proven: revision 36, 20 keys, 56 KiB, 0 s old")


def test_all_are_from_the_future(run: Run) -> None:
    store(run, -24)
    with pytest.raises(OpsError, match="every backup of 'prod' is dated in the future") as caught:
        steps.verify(run, "latest")
    assert "is the clock of this machine right" in caught.value.hint


HOSTS = "newer ones may be on each host that is left, in /var/backups/etcd: copy NAME.db and NAME.json here"


def test_the_members_may_have_newer_ones(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backups = FolderStore(run.config.resolve("store"))
    with pytest.raises(OpsError, match="has no backup of 'prod'") as caught:
        sources.find(run, backups, "latest", tmp_path)
    assert HOSTS in caught.value.hint
    old = store(run, 7)
    sources.find(run, backups, "latest", tmp_path)
    assert f"warning: {old.name} is 7 h old; " in (said := capsys.readouterr().err)
    assert HOSTS in said
    sources.find(run, backups, old.name, tmp_path)
    steps.verify(run, "latest")  # it does no harm there, and runs every night
    store(run, 5)
    sources.find(run, backups, "latest", tmp_path)
    assert HOSTS not in capsys.readouterr().err


def test_latest_is_of_members_elsewhere(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after all hosts were lost; and a store that is far away is listed once."""
    backups = FolderStore(run.config.resolve("store"))
    new = store(run, 1, members=at("198.51.100.1"))
    source, stored = sources.find(run, backups, "latest", tmp_path)
    assert (source.name, [each.name for each in stored]) == (new.name, [new.name])
    assert f"{new.name} is of members at other addresses than those of config.yaml: 198" in capsys.readouterr().err
    near = store(run, 0.5, members=at("192.0.2.1"))
    source, _ = sources.find(run, backups, "latest", tmp_path)
    assert source.name == near.name
    assert "other addresses" not in capsys.readouterr().err


def test_verify_by_name_or_file(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    old = store(run, 30)
    store(run, 1)
    folder = run.config.resolve("store")
    for which in (old.name, old.file, str(folder / old.file)):
        steps.verify(run, which)
        assert "proven: revision 36, 20 keys, 56 KiB, 30 h old" in printed(capsys)[0]


def test_verify_a_file_without_manifest(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    steps.verify(run, str(put(run.path.parent / "a.db", WHOLE)))
    out, err = capsys.readouterr()
    assert out == "a.db: proven: revision 36, 20 keys, 56 KiB\n"
    assert "warning: a.db has no manifest beside it" in err


def test_what_a_drill_finds_is_part_of_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = store(run := Run(config, json=True))
    steps.verify(run, "latest", lambda run, source: {"path": source.path.name})
    assert json.loads(capsys.readouterr().out)["drill"] == {"path": new.file}


def test_verify_finds_another_file(run: Run) -> None:
    stored = store(run)
    path = run.config.resolve("store") / stored.file
    for data, said in {
        WHOLE[:-40] + b"x" + WHOLE[-39:]: "the SHA-256 at its end is not that of its content",
        snapshots.signed(WHOLE[:-32].replace(b"compaction", b"compactiOn")): "is not the file that",
    }.items():
        put(path, data)
        for which in ("latest", stored.name, str(path)):
            with pytest.raises(OpsError, match=said):
                steps.verify(run, which)


def test_verify_counts_keys(run: Run) -> None:
    store(run, keys=21)
    with pytest.raises(OpsError, match="holds 20 keys; the cluster had 21 at that revision"):
        steps.verify(run, "latest")


def test_another_clusters_file_with_this_ones_manifest(run: Run) -> None:
    stored = store(run)
    put(run.config.resolve("store") / stored.file, snapshots.content("other"))
    with pytest.raises(OpsError, match="is another cluster's"):
        steps.verify(run, str(run.config.resolve("store") / stored.file))
    with pytest.raises(OpsError, match="has no backup of 'prod'"):  # its size is not that of the manifest
        steps.verify(run, "latest")
    with pytest.raises(OpsError, match=f"{stored.file}: has 24608 bytes instead of 57376"):
        steps.verify(run, stored.name)


@pytest.mark.parametrize("which", ["nothing", "prod-20260101T000000Z-r1"])
def test_no_such_snapshot(run: Run, which: str) -> None:
    with pytest.raises(UsageError, match=f"there is no file {which} here and no such backup in "):
        steps.verify(run, which)


def test_no_such_file(run: Run) -> None:
    with pytest.raises(OpsError, match=r"/nowhere/a\.db: No such file or directory"):
        steps.verify(run, "/nowhere/a.db")


def test_prune(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(config)
    oldest, older, newest = (store(run, hours, members=at("192.0.2.1")) for hours in (50, 40, 1))
    others = [store(run, hours, cluster="other") for hours in (200, 100)]
    put(run.config.resolve("store") / "prod-20260101T000000Z-r1.db", b"")
    before = names(run)
    said = [f"{oldest.name}  would be deleted", f"{older.name}  would be deleted", f"{newest.name}  stays: last"]
    steps.prune(Run(config, dry_run=True))
    assert printed(capsys) == said
    assert names(run) == before
    steps.prune(run)
    assert printed(capsys) == [line.replace("would be deleted", "deleted") for line in said]
    assert names(run) == sorted(
        [
            "prod-20260101T000000Z-r1.db",
            *(f"{each.name}.{kind}" for each in (newest, *others) for kind in ("db", "json")),
        ]
    )
    steps.prune(run)
    assert printed(capsys) == [f"{newest.name}  stays: last", "nothing to do"]


def test_what_is_gone_is_told_when_the_next_one_cannot_be_deleted(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nobody:
        def map(self, work: object) -> dict[str, object]:
            return {}

    def from_cluster(run: Run, views: object, path: Path) -> Manifest:
        put(path, WHOLE)
        return manifest(WHOLE, taken=datetime.now(UTC))

    def remove(store: FolderStore, old: Manifest) -> None:
        if old == older:
            raise OpsError("no permission", hint="look at the folder")

    run = Run(config, json=True, _fleet=cast(Fleet, Nobody()))
    oldest, older = (store(run, hours, members=at("192.0.2.1")) for hours in (50, 40))
    monkeypatch.setattr(backup, "from_cluster", from_cluster)
    monkeypatch.setattr(FolderStore, "remove", remove)
    with pytest.raises(OpsError, match="the backup is whole, but old ones were not deleted: no permission"):
        backup.backup(run)
    assert json.loads(capsys.readouterr().out)["pruned"] == [oldest.name]
    with pytest.raises(OpsError, match="no permission"):
        steps.prune(Run(config))
    assert printed(capsys) == [f"{oldest.name}  deleted"]


def test_nothing_is_deleted_that_nobody_asked_for(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(config, CONFIG.replace(", keep: {last: 1}", "").encode())
    run = Run(config)
    for hours in (5000, 4000, 1):
        store(run, hours)
    before = names(run)
    steps.prune(run)
    assert names(run) == before
    assert printed(capsys)[-1] == "nothing to do"
