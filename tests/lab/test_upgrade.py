"""Another release on real hosts, from 3.4 to 3.7 and back, while clients write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hosts import Hosts, Project
from tests.lab.conftest import NewProject
from tests.lab.test_restart import left, watched
from tests.lab.writer import Writer

RUNS = "readlink /proc/$(systemctl show etcd -P MainPID)/exe"


def archives(hosts: Hosts, *versions: str) -> dict[str, str]:
    """The release section for all of these."""
    folders = {hosts.archive(version).parent for version in versions}
    (folder,) = folders
    return {"archive": f"{folder}/etcd-v{{version}}-linux-{{arch}}.tar.gz"}


def on(hosts: Hosts) -> set[str]:
    """The releases that run."""
    return {Path(path).parent.name for path in hosts.each(RUNS).values()}


def written(project: Project) -> Any:
    """config.yaml as it stands now."""
    return json.loads((project.folder / "config.yaml").read_text())


def goes(project: Project, hosts: Hosts, task: str, to: str) -> None:
    """One change of release under two kinds of writes: none fails for who tries again, and none is lost."""
    with Writer(project) as writer:
        done = project.start(task, f"--to={to}", "--json").end(600)
    watched(done)
    print(f"{task} to {to}: {done.seconds:.0f} s, {len(writer.acknowledged)} writes of a client\n{done.stderr}")
    assert writer.lost() == {}
    assert on(hosts) == {to}
    assert written(project)["cluster"]["version"] == to
    project.config["cluster"] = written(project)["cluster"]
    project.healthy()
    done = project.inv("deploy").ok()
    assert "nothing to do" in done.stdout, done


def test_from_3_4_to_3_7_and_back(project: NewProject, hosts: Hosts) -> None:
    stops = ("3.4.23", "3.5.16", "3.5.35", "3.6.16", "3.7.3", "3.5.30")
    new = project(version="3.4.23", release=archives(hosts, *stops))
    new.config["cluster"]["settings"] = {"experimental-compaction-batch-limit": 500}
    new.write()
    new.inv("deploy").ok()
    for to in ("3.5.16", "3.6.16", "3.7.3"):
        goes(new, hosts, "upgrade", to)
    assert written(new)["cluster"]["settings"] == {"compaction-batch-limit": 500}
    for to in ("3.6.16", "3.5.30"):
        goes(new, hosts, "downgrade", to)
    assert written(new)["cluster"]["settings"] == {"experimental-compaction-batch-limit": 500}
    assert left(new) == (0, 0)
    assert len(list((new.folder / "backups").glob("*.db"))) == 6
