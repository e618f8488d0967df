"""Every secret that there is, in every task: sudo's and etcd's password, the store's, the key of the backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyrage

from etcdops.lab.image import SUDO_PASSWORD
from tests.hosts import NAMES, Done, Hosts
from tests.lab.conftest import NewProject
from tests.lab.test_auth import SECRET, WORD, every_task, joins_and_leaves
from tests.lab.test_secrets import SLIP, unseen
from tests.ssh.conftest import free_port
from tests.stores.conftest import BUCKET, KEY, S3Server
from tests.stores.conftest import SECRET as OF_STORE
from tests.watch import Watch

GIVEN = (b"ETCDOPS_", b"ETCDCTL_PASSWORD=")  # here by whoever runs the task; on a host to etcdctl, which must have it


def test_no_task_shows_a_secret(project: NewProject, hosts: Hosts, tmp_path: Path) -> None:
    age = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{age}\n")
    server = S3Server(tmp_path / "s3", free_port())
    server.bucket.mkdir(parents=True)
    server.start()
    store = {
        "s3": {"bucket": BUCKET, "endpoint": f"http://127.0.0.1:{server.port}"},
        "age": {"recipients": [str(age.to_public())], "identity": "identity"},
    }
    new = project(tls=False, ssh={"user": "opspw"}, auth={"user": "root"}, backup=store)
    new.env = {
        WORD: SECRET,
        "ETCDOPS_SUDO_PASSWORD": SUDO_PASSWORD,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": OF_STORE,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    said: list[Done] = []
    run = new.inv

    def noted(*words: str, **how: Any) -> Done:
        said.append(run(*words, **how))
        return said[-1]

    new.inv = noted  # type: ignore[method-assign]
    try:
        with Watch([hosts.pid(name) for name in NAMES], [new.folder]) as watch:
            hosts.sh("etcd02", SLIP)
            new.inv("deploy").ok()
            new.inv("auth-enable", "--yes").ok()
            every_task(new)
            new.inv("restore", "latest", "--yes").ok()
            joins_and_leaves(new, hosts)
            new.inv("auth-disable", "--yes").ok()
    finally:
        server.kill()
    watch.commands = {each for each in watch.commands if b"rclone" not in each}  # the server's own, by the test
    passwords = {"sudo": SUDO_PASSWORD, "etcd": SECRET, "store": OF_STORE, "age": str(age)}
    secrets = {name: each.encode() for name, each in passwords.items()}
    unseen(watch, new, said, secrets)
    told = [each for each in watch.environments if any(secret in each for secret in secrets.values())]
    assert told
    for each in told:
        assert any(word in each for word in GIVEN), each
        assert secrets["age"] not in each
