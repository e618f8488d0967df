"""Keys and passwords, while tasks run: every file that is opened and every command, on the hosts and here, is seen."""

from __future__ import annotations

import itertools
import mmap
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from etcdops.lab.image import SUDO_PASSWORD
from tests.hosts import NAMES, PLACE, Done, Hosts, Project
from tests.lab.conftest import NewProject
from tests.watch import Watch

MEMORY = ("run", "tmp", "dev/shm")  # file systems of a host that are not on its disk
OURS = re.compile(r"/(opt/\.|run/|tmp/|var/tmp/|dev/shm/)etcdops\.")  # temporary files on a host
ALLOWED = {0o600, 0o400}
# What must never be: a key that others may open for a moment, and an argument that is a secret.
SLIP = f"""umask 022; (echo '-----BEGIN PRIVATE KEY-----'; echo {"A" * 64}) >/root/slip; chmod 600 /root/slip
env true a-slip; rm /root/slip"""


def key_lines(pki: Path) -> dict[str, bytes]:
    """A line of each private key in there that no other file has."""
    return {str(path.relative_to(pki)): path.read_bytes().splitlines()[2] for path in pki.rglob("*-key.pem")}


def on_host(hosts: Hosts, name: str) -> Iterator[Path]:
    """Every file that a host has written since its image was made, and all that it has in memory."""
    places = [PLACE / name / "upper", *(Path(f"/proc/{hosts.pid(name)}/root/{each}") for each in MEMORY)]
    for place in places:
        for folder, _, names in os.walk(place):
            for each in names:
                path = Path(folder, each)
                if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size:
                    yield path


def where(hosts: Hosts, needles: dict[str, bytes]) -> dict[str, set[tuple[str, str]]]:
    """On which hosts, and in which files there, each of ``needles`` is."""
    found: dict[str, set[tuple[str, str]]] = {each: set() for each in needles}
    for name in NAMES:
        for path in on_host(hosts, name):
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for each in (each for each, needle in needles.items() if content.find(needle) >= 0):
                    found[each].add((name, path.name))
    return found


def test_keys_and_passwords_while_tasks_run(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    age = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{age}\n")
    (tmp_path / "identity").chmod(0o600)
    backup = {"dir": "store", "age": {"recipients": [str(age.to_public())], "identity": "identity"}}
    new = project(ssh={"user": "opspw"}, backup=backup)
    new.env["ETCDOPS_SUDO_PASSWORD"] = SUDO_PASSWORD
    tasks = ["deploy", "put /a b", "backup", "snapshot.verify latest --drill", "restore latest --yes", "status"]
    with Watch([hosts.pid(name) for name in NAMES], [new.folder]) as watch:
        hosts.sh("etcd02", SLIP)
        said = [new.inv(*task.split()).ok() for task in tasks]
    pki = new.folder / "pki"
    keys = key_lines(pki)
    assert len(keys) == 2 + 3 * len(NAMES) + 1
    secrets = {"password": SUDO_PASSWORD.encode(), "age": str(age).encode(), **keys}

    private(watch, pki)
    unseen(watch, new, said, secrets)
    assert any(b"ETCDOPS_SUDO_PASSWORD" in each for each in watch.environments)  # here, where it was given
    for each in watch.environments:
        assert b"ETCDOPS_SUDO_PASSWORD=" in each or not any(secret in each for secret in secrets.values()), each
    found = where(hosts, secrets)
    for name, role in itertools.product(NAMES, ("server", "peer", "client")):
        places = found.pop(f"members/{name}/{role}-key.pem")
        assert (name, f"{role}.pem") in places, "the search finds nothing"
        assert {host for host, _ in places} == {name}
    assert {each: places for each, places in found.items() if places} == {}


def private(watch: Watch, pki: Path) -> None:
    """No key was ever in a file that others could open, under whatever name, nor could they read a temporary file."""
    opened = watch.secrets()
    assert opened.pop("/root/slip") == {0o644}
    for path in ("/etc/etcd/ssl/server.pem.etcdops-new", "/etc/etcd/ssl/peer.pem", f"{pki}/.ca-key.pem.new"):
        assert path in opened, "the watch sees nothing"
    assert {path: modes for path, modes in opened.items() if not modes <= ALLOWED} == {}
    ours = {each for each in watch.files if OURS.match(each.path)}
    assert len(ours) > len(NAMES)
    assert {each for each in ours if each.mode & 0o077} == set()


def unseen(watch: Watch, project: Project, said: list[Done], secrets: dict[str, bytes]) -> None:
    """None of ``secrets`` in the arguments of a command, in what the tasks said, in their records, and in a journal."""
    for words in (b"env\0true\0a-slip\0", b"sudo\0", b"etcdctl\0", b"tar\0-xf\0"):
        assert any(words in each for each in watch.commands), words
    journal = "\n".join(project.hosts.each("journalctl --no-pager --all --output=export --boot").values())
    records = "\n".join(path.read_text() for path in (project.folder / ".etcdops").rglob("*.jsonl"))
    assert "deploy" in records
    shown = "\n".join(f"{done.stdout}{done.stderr}" for done in said)
    for name, secret in secrets.items():
        assert not any(secret in each for each in watch.commands), name
        assert secret.decode() not in shown, name
        assert secret.decode() not in journal, name
        assert secret.decode() not in records, name


@pytest.mark.parametrize("unit", ["etcd.service", "etcdops-backup.service"])
def test_sandbox(cluster: Project, hosts: Hosts, unit: str) -> None:
    """0 is safe, 10 is open to everything; a service without a word of it has 9.6."""
    cluster.inv("snapshot.schedule").ok()
    try:
        said = hosts.sh("etcd01", f"systemd-analyze security --no-pager {unit}")
    finally:
        cluster.inv("snapshot.unschedule").ok()
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure, said
    assert float(exposure[1]) <= 2.5
