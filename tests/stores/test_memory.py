"""A large snapshot takes no more of the controller's memory than a small one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdops.config import AgeSection, S3Section, SftpSection, SshSection
from tests.stores.conftest import SFTP_ONLY, age
from tests.stores.snapshot import describe

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground

SIZE = 200_000_000
LIMIT = 200  # MiB; the file alone has 191, and the interpreter with its libraries takes some 80

PROGRAM = """
import sys
from pathlib import Path
from etcdops.config import AgeSection, S3Section, SftpSection, SshSection
from etcdops.snapshots.age import Encrypted
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.s3 import S3Store
from etcdops.snapshots.sftp import SftpStore

source, target = Path(sys.argv[1]), Path(sys.argv[2])
manifest = Manifest.load(sys.argv[3].encode(), "argv")
store = Encrypted({store}, {age}, Path)
store.add(source, manifest, lambda name, done, total: None)
store.fetch(store.manifests()[0], target, lambda name, done, total: None)
store.close()
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.parametrize("kind", ["s3", "sftp", "age-s3"])
def test_memory_is_flat(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    block = bytes(range(256)) * 4096
    digest = hashlib.sha256()
    with source.open("wb") as stream:
        for _ in range(SIZE // len(block)):
            stream.write(block)
            digest.update(block)
    manifest = describe(source, source.stat().st_size, digest.hexdigest())
    if "s3" in kind:
        section: S3Section | SftpSection = request.getfixturevalue("s3").section()
        store = f"S3Store({section!r})"
    else:
        ground: Ground = request.getfixturevalue("ground")
        section = SftpSection(host="127.0.0.1", port=ground.sshd(*SFTP_ONLY).port, path=str(ground.folder / "backups"))
        ssh: SshSection = ground.ssh()
        store = f"SftpStore({section!r}, {ssh!r}, Path)"
    keys: AgeSection | None = age(tmp_path) if "age" in kind else None
    program = PROGRAM.format(store=store, age=repr(keys))
    argv = [sys.executable, "-c", program, str(source), str(target), manifest.dump().decode()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size == manifest.size
    assert int(done.stdout) / 1024 < LIMIT
    print(f"{kind}: {int(done.stdout) // 1024} MiB")
