"""What a drill makes of what the throw-away etcd holds: file, manifest and running cluster have their say."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from etcdops.errors import OpsError
from etcdops.etcd import View
from etcdops.run import Run
from etcdops.snapshots import content
from etcdops.snapshots.content import Content
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.proof import prove
from etcdops.ssh import Fleet
from etcdops.steps import drill
from etcdops.steps.sources import Source
from tests.unit import build, snapshots

WHOLE = snapshots.content("3.6.16")
ID = f"{build.CLUSTER_ID:x}"


class Members:
    """What ``fleet`` is for: each member's view, and what it holds."""

    def __init__(self, views: dict[str, View | OpsError]) -> None:
        self.views = views

    def map(self, work: object) -> dict[str, View | OpsError]:
        return self.views

    def all(self, work: Callable[[str], Content], names: list[str]) -> dict[str, Content]:
        return {name: work(name) for name in names}


def answer(revision: int = 36, keys: int = 20, hash_: int = 7, compacted: int = 33) -> str:
    hashed = json.dumps([{"HashKV": {"hash": hash_, "compact_revision": compacted}}])
    return f"revision\t{revision}\nkeys\t{keys}\nhash\t{base64.b64encode(hashed.encode()).decode()}\n"


def drilled(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    manifest: Manifest | None = None,
    views: dict[str, View | OpsError] | None = None,
    live: Content | None = None,
) -> dict[str, Any]:
    @contextlib.contextmanager
    def programs(run: Run) -> Iterator[Path]:
        yield folder

    monkeypatch.setattr(drill, "_programs", programs)
    monkeypatch.setattr(drill, "_here", lambda *words: said)
    monkeypatch.setattr(content, "ask", lambda host, revision: live)
    run = Run(folder / "config.yaml", _fleet=cast(Fleet, Members(views or {})))
    run.__dict__["config"] = snapshots.config(folder, dir="store")
    path = snapshots.put(folder / "a.db", WHOLE)
    return drill.drill(run, Source("a", path, prove(path), manifest))


def of(**known: Any) -> Manifest:
    return snapshots.manifest(WHOLE, **{"keys": 20, "hash": 7, "compact_revision": 33, "cluster_id": ID, **known})


def test_a_file_without_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drilled(tmp_path, monkeypatch, answer())
    assert found == {"on": "this machine", "revision": 36, "keys": 20, "hash": 7}


def test_all_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views: dict[str, View | OpsError] = {"etcd01": OpsError("away"), "etcd02": build.view("etcd02")}
    found = drilled(tmp_path, monkeypatch, answer(), of(), views, Content(40, 20, 7, 33))
    assert (found["hash_as_in_manifest"], found["hash_as_in_cluster"]) == (True, True)


@pytest.mark.parametrize(
    ("said", "manifest", "words"),
    [
        (answer(revision=35), None, "restored, it is at revision 35, and the file says 36"),
        ("", None, "restored, it is at revision None, and the file says 36"),
        (answer(keys=19), of(), "restored, it has 19 keys, and its manifest says 20"),
        (answer(hash_=8), of(), "what was restored differs from what the cluster held when prod-"),
    ],
)
def test_a_difference_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, manifest: Manifest | None, words: str
) -> None:
    with pytest.raises(OpsError) as caught:
        drilled(tmp_path, monkeypatch, said, manifest)
    assert words in caught.value.message


def test_the_cluster_holds_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views: dict[str, View | OpsError] = {"etcd01": build.view("etcd01")}
    with pytest.raises(OpsError) as caught:
        drilled(tmp_path, monkeypatch, answer(), of(), views, Content(40, 20, 8, 33))
    assert caught.value.exit_code == 5
    assert "etcd01 holds other data at revision 36 than the snapshot: hash 8, not 7" in caught.value.message


@pytest.mark.parametrize(
    ("view", "live"),
    [
        (OpsError("away"), None),
        (View(), None),
        (build.view("etcd01", healthy=False), None),
        (build.view("etcd01", status=build.status("etcd01", cluster_id=0xC2)), None),  # it was restored since
        (build.view("etcd01"), Content(40, 20, None, None)),  # compacted since
        (build.view("etcd01"), Content(40, 20, 8, 36)),
    ],
)
def test_the_cluster_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: View | OpsError, live: Content | None
) -> None:
    found = drilled(tmp_path, monkeypatch, answer(), of(), {"etcd01": view}, live)
    assert (found["hash_as_in_manifest"], found["hash_as_in_cluster"]) == (True, False)


# On this machine, with programs of etcd that never get ready

PROGRAMS = {
    "etcdutl": "exit 0",
    "etcd": 'echo $$ >"$FAKE/etcd"; exec sleep 300',
    "etcdctl": 'echo >>"$FAKE/asked"; sleep 0.4; exit 1',
}


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """A folder of programs, which leave a trace there."""
    for name, body in PROGRAMS.items():
        path = snapshots.put(tmp_path / name, body.replace("$FAKE", str(tmp_path)).join(("#!/bin/sh\n", "\n")).encode())
        path.chmod(0o700)
    (tmp_path / "work").mkdir()
    return tmp_path


def here(fakes: Path, seconds: int) -> str:
    return drill._here(fakes, snapshots.put(fakes / "a.db", WHOLE), fakes / "work", [str(seconds), "36"])


def nothing_left(fakes: Path) -> None:
    """Its etcd has ended, and its folder is gone."""
    stat = Path(f"/proc/{(fakes / 'etcd').read_text().strip()}/stat")
    with contextlib.suppress(FileNotFoundError):
        assert stat.read_text().rpartition(") ")[2][0] == "Z"
    assert list((fakes / "work").iterdir()) == []


def test_an_etcd_that_does_not_get_ready(fakes: Path) -> None:
    """The seconds are seconds, however long a question takes."""
    with pytest.raises(OpsError, match="the throw-away etcd is not ready after 1 s"):
        here(fakes, 1)
    assert len((fakes / "asked").read_text()) < 9
    nothing_left(fakes)


@pytest.mark.parametrize(
    ("cause", "seen"), [(subprocess.TimeoutExpired("sh", 1800), OpsError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_drill_that_is_ended_leaves_nothing(
    fakes: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException, seen: type[BaseException]
) -> None:
    def communicate(process: subprocess.Popen[str], stdin: str, timeout: int) -> tuple[str, str]:
        assert timeout == drill.SECONDS
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.flush()
        for _ in range(600):
            if (fakes / "asked").exists() and (fakes / "etcd").exists() and (fakes / "etcd").read_text():
                raise cause
            time.sleep(0.05)
        raise AssertionError("it never began")

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    with pytest.raises(seen):
        here(fakes, 300)
    nothing_left(fakes)
