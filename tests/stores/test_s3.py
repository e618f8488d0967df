"""S3: what goes wrong between us and the server, in one line each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from etcdops.config import S3Section
from etcdops.errors import HostError, OpsError, UsageError
from etcdops.snapshots import s3 as module
from etcdops.snapshots.manifest import Manifest
from etcdops.snapshots.s3 import S3Store, part_size, pieces
from etcdops.snapshots.store import FolderStore
from tests.ssh.conftest import free_port
from tests.stores.conftest import KEY, SECRET
from tests.stores.snapshot import make, quiet

if TYPE_CHECKING:
    from tests.stores.conftest import S3Server


def refused(work: Callable[[], object], kind: type[OpsError]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        work()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    return caught.value


@pytest.mark.parametrize(
    ("environment", "kind", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "somebody"}, OpsError, "refuses the credentials: InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "a guess"}, OpsError, "refuses the credentials: SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": ""}, UsageError, "there are no credentials"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, UsageError, "Partial credentials found in env"),
        ({"AWS_PROFILE": "nobody's"}, UsageError, "nobody's"),
    ],
)
def test_credentials(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], kind: Any, words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "AWS_PROFILE" in environment:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    manifest = make(tmp_path / "source", 100)
    assert words in refused(lambda: S3Store(s3.section()).manifests(), kind).message
    assert words in refused(lambda: S3Store(s3.section()).add(tmp_path / "source", manifest, quiet), kind).message


def test_the_bucket_is_not_there(s3: S3Server, tmp_path: Path) -> None:
    store = S3Store(s3.section(bucket="elsewhere"))
    assert refused(store.manifests, UsageError).message == "s3://elsewhere: there is no such bucket"
    manifest = make(tmp_path / "source", 100)
    refused(lambda: store.add(tmp_path / "source", manifest, quiet), UsageError)


def test_nobody_listens(credentials: None) -> None:
    store = S3Store(S3Section(bucket="backups", endpoint=f"http://127.0.0.1:{free_port()}"))
    assert "backup.s3.endpoint" in refused(store.manifests, HostError).hint


def test_the_server_speaks_no_tls(s3: S3Server) -> None:
    store = S3Store(S3Section(bucket="backups", endpoint=f"https://127.0.0.1:{s3.port}"))
    assert "no trusted TLS connection" in refused(store.manifests, HostError).message


def kernel_holds() -> int:
    """Bytes that can be under way between two sockets of this machine when the one that sent them has gone."""
    limits = (Path("/proc/sys/net/ipv4") / name for name in ("tcp_rmem", "tcp_wmem"))
    return sum(int(limit.read_text().split()[-1]) for limit in limits)


def test_the_server_dies_in_the_middle(s3: S3Server, tmp_path: Path) -> None:
    store = S3Store(s3.section())
    manifest = make(tmp_path / "source", 30_000_000 + kernel_holds())

    def kill(name: str, done: int, total: int) -> None:
        if done > 10_000_000:
            s3.kill()

    refused(lambda: store.add(tmp_path / "source", manifest, kill), HostError)
    s3.start()
    assert store.manifests() == store.damaged == []
    store.add(tmp_path / "source", manifest, quiet)
    (listed,) = store.manifests()
    refused(lambda: store.fetch(listed, tmp_path / "target", kill), HostError)
    assert not (tmp_path / "target").exists()


def test_an_upload_that_failed_leaves_no_parts_behind(s3: S3Server, tmp_path: Path) -> None:
    store = S3Store(s3.section())
    manifest = make(tmp_path / "source", 20_000_000).model_copy(update={"stored_sha256": "0" * 64})
    refused(lambda: store.add(tmp_path / "source", manifest, quiet), OpsError)
    assert "Uploads" not in store._client.list_multipart_uploads(Bucket="backups")


def test_a_server_that_stores_other_bytes_is_found_out(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rclone checks no sums, so it is read back."""
    store = S3Store(s3.section())
    sent = store._client.upload_part

    def tamper(**arguments: Any) -> Any:
        return sent(**{**arguments, "Body": b"x" + arguments["Body"][1:]})

    monkeypatch.setattr(store._client, "upload_part", tamper)
    manifest = make(tmp_path / "source")
    error = refused(lambda: store.add(tmp_path / "source", manifest, quiet), OpsError)
    assert "gives back other bytes" in error.message
    assert store.manifests() == store.damaged == []


def test_what_the_server_has_checked_is_not_read_back(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of Amazon's S3, which names the sum of each part, and the sum of the sums with their number."""
    store = S3Store(s3.section())
    client = store._client
    upload, complete, read = client.upload_part, client.complete_multipart_upload, client.get_object
    sums, reads = [], []

    def upload_part(**arguments: Any) -> Any:
        sums.append(arguments["ChecksumSHA256"])
        return {**upload(**arguments), "ChecksumSHA256": sums[-1]}

    def complete_multipart_upload(**arguments: Any) -> Any:
        assert [part["ChecksumSHA256"] for part in arguments["MultipartUpload"]["Parts"]] == sums
        whole = module.hashlib.sha256(b"".join(module.base64.b64decode(each) for each in sums)).digest()
        return {**complete(**arguments), "ChecksumSHA256": f"{module.base64.b64encode(whole).decode()}-{len(sums)}"}

    def get_object(**arguments: Any) -> Any:
        reads.append(arguments["Key"])
        return read(**arguments)

    for function in (upload_part, complete_multipart_upload, get_object):
        monkeypatch.setattr(client, function.__name__, function)
    manifest = make(tmp_path / "source", 20_000_000)
    store.add(tmp_path / "source", manifest, quiet)
    assert len(sums) == 3
    assert reads == [f"{manifest.name}.json"]


@pytest.mark.parametrize("late", [False, True], ids=["seen in the list", "refused by the condition"])
def test_two_machines_in_the_same_second(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The other one writes to the server's folder; rclone knows no conditions, so it is Amazon's answer."""
    store, other = S3Store(s3.section()), FolderStore(s3.bucket)
    mine, theirs = make(tmp_path / "mine"), make(tmp_path / "theirs", 100, member="etcd02")
    added: list[Manifest] = []

    def meanwhile(name: str = "", done: int = 0, total: int = 0) -> None:
        if not added:
            added.append(other.add(tmp_path / "theirs", theirs, quiet))

    complete = store._client.complete_multipart_upload

    def conditional(IfNoneMatch: str, **arguments: Any) -> Any:
        assert IfNoneMatch == "*"
        meanwhile()
        if (s3.bucket / arguments["Key"]).exists():
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "CompleteMultipartUpload")
        return complete(**arguments)

    monkeypatch.setattr(store._client, "complete_multipart_upload", conditional)
    second = store.add(tmp_path / "mine", mine, quiet if late else meanwhile)
    assert second.taken - mine.taken == timedelta(seconds=1)
    assert (store.manifests(), store.damaged) == ([second, *added], [])
    for source, each in (("mine", second), ("theirs", added[0])):
        store.fetch(each, tmp_path / "target", quiet)
        assert (tmp_path / "target").read_bytes() == (tmp_path / source).read_bytes()


def test_who_fails_takes_nothing_of_anothers_along(s3: S3Server, tmp_path: Path) -> None:
    store, other = S3Store(s3.section()), FolderStore(s3.bucket)
    mine, theirs = make(tmp_path / "mine"), make(tmp_path / "theirs", 100, member="etcd02")
    added: list[Manifest] = []

    def interrupt(name: str, done: int, total: int) -> None:
        added.append(other.add(tmp_path / "theirs", theirs, quiet))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(tmp_path / "mine", mine, interrupt)
    assert (store.manifests(), store.damaged) == (added, [])


def test_a_server_that_refuses_conditions(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store(s3.section())
    complete = store._client.complete_multipart_upload

    def refuse(**arguments: Any) -> Any:
        if "IfNoneMatch" in arguments:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "CompleteMultipartUpload")
        return complete(**arguments)

    monkeypatch.setattr(store._client, "complete_multipart_upload", refuse)
    manifest = make(tmp_path / "source", 100)
    store.add(tmp_path / "source", manifest, quiet)
    assert store.manifests() == [manifest]


def test_a_copy_of_a_manifest_under_another_name_is_in_nobodys_way(s3: S3Server, tmp_path: Path) -> None:
    manifest = make(tmp_path / "source", 100)
    (s3.bucket / f"{manifest.name}.json.old").touch()
    S3Store(s3.section()).add(tmp_path / "source", manifest, quiet)


def test_more_objects_than_one_page_holds(s3: S3Server, tmp_path: Path) -> None:
    store = S3Store(s3.section())
    for number in range(1200):
        (s3.bucket / f"a-stranger-{number}").touch()
    manifest = make(tmp_path / "source", 100)
    store.add(tmp_path / "source", manifest, quiet)
    assert store.manifests() == [manifest]


def test_what_is_deeper_or_beside_the_prefix_is_not_ours(s3: S3Server, tmp_path: Path) -> None:
    manifest = make(tmp_path / "source", 100)
    for prefix in ("etcd", "etcd/prod", "etcd2"):
        S3Store(s3.section(prefix=prefix)).add(tmp_path / "source", manifest, quiet)
    store = S3Store(s3.section(prefix="etcd"))
    assert store.where == "s3://backups/etcd"
    store.remove(*store.manifests())
    assert store.manifests() == S3Store(s3.section()).manifests() == []
    assert S3Store(s3.section(prefix="etcd2")).manifests() == [manifest]
    assert S3Store(s3.section(prefix="etcd/prod")).manifests() == [manifest]


@pytest.mark.parametrize(
    ("size", "part"), [(0, 8 << 20), (80 << 30, 9 << 20), ((8 << 20) * 10_000, 8 << 20), (1 << 40, 105 << 20)]
)
def test_parts_are_few_enough_for_s3(size: int, part: int) -> None:
    assert part_size(size) == part
    assert part * 10_000 >= size


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [([], [b""]), ([b"abc"], [b"abc"]), ([b"abcd"], [b"abcd"]), ([b"abcde", b"fghi"], [b"abcd", b"efgh", b"i"])],
)
def test_pieces(chunks: list[bytes], expected: list[bytes]) -> None:
    assert list(pieces(chunks, 4)) == expected


def test_without_boto3_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    error = refused(lambda: S3Store(S3Section(bucket="backups")), UsageError)
    assert error.message == "backup.s3 needs the Python package boto3, which is not installed"
    command = error.hint.removeprefix("run: ")
    lock = Path(command.split()[-1])
    assert "--require-hashes" in command
    assert "\nboto3==" in lock.read_text()


def test_amazons_own_address_follows_from_bucket_and_region(credentials: None) -> None:
    store = S3Store(S3Section(bucket="backups", region="eu-central-1"))
    url = store._client.generate_presigned_url("get_object", Params={"Bucket": "backups", "Key": "x"})
    assert url.startswith("https://backups.s3.")
    assert "eu-central-1" in url
    assert KEY in url


def test_a_process_prints_nothing_of_boto3s(s3: S3Server) -> None:
    """A whole process, as a user has it: nothing but the list on stdout, nothing on stderr."""
    code = f"""
from etcdops.config import S3Section
from etcdops.snapshots.s3 import S3Store
print(S3Store(S3Section(bucket='backups', endpoint='http://127.0.0.1:{s3.port}')).manifests())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
