"""S3Store: backups in a bucket of Amazon S3, or of any server that speaks its language."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from etcdops.config import S3Section
from etcdops.errors import HostError, OpsError, UsageError
from etcdops.snapshots.extras import missing
from etcdops.snapshots.manifest import FILE, Manifest
from etcdops.snapshots.store import CHUNK, Progress, chunks_of, receive, sort_out, unclaimed, whole

PART = 8 << 20  # bytes: S3 takes no part below 5 MiB, but the last
PARTS = 10_000  # S3 takes no more
CONNECT = 10  # seconds
SILENT = 60  # seconds without a byte
ATTEMPTS = 3  # of each request, with a growing pause between

# What servers call it; the words differ from one to the other.
STRANGER = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound", "ExpiredToken", "InvalidToken"}
FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "403", "Forbidden"}
TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}


class Taken(OpsError):
    """Another run, of another machine, has stored a backup of this name since we looked."""


class S3Store:
    """One bucket, or what is below a prefix in it.  Credentials are boto3's business: they are never seen here.

    Objects get no access rights of their own: they are as private as the bucket, which is what AWS makes of a new one.
    """

    def __init__(self, section: S3Section) -> None:
        """Makes no connection; ``UsageError`` where boto3 is missing or its own configuration is wrong."""
        self.where = f"s3://{section.bucket}/{section.prefix}".rstrip("/")
        self.damaged: list[str] = []
        self._bucket = section.bucket
        self._prefix = f"{section.prefix}/" if section.prefix else ""
        self._client = _client(section)

    def manifests(self) -> list[Manifest]:
        files: dict[str, int] = {}
        with self._doing():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"):
                files |= {each["Key"].removeprefix(self._prefix): each["Size"] for each in page.get("Contents", [])}
        found, self.damaged = sort_out(files, lambda name: b"".join(self._chunks(name)))
        return found

    def add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        manifest = unclaimed(manifest, self._is_taken)
        try:
            return self._add(source, manifest, progress)
        except Taken:
            other = manifest.name
            moved = unclaimed(manifest, lambda each: each.name == other or self._is_taken(each))
            return self._add(source, moved, progress)

    def fetch(self, manifest: Manifest, target: Path, progress: Progress) -> None:
        receive(self._chunks(manifest.file), manifest, target, progress)

    def remove(self, manifest: Manifest) -> None:
        for name in (f"{manifest.name}.json", manifest.file):
            with self._doing():
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _add(self, source: Path, manifest: Manifest, progress: Progress) -> Manifest:
        """``Taken`` where another run was the first.  What is removed where this fails is our own, and no other's."""
        document = f"{manifest.name}.json"
        checked = self._upload(manifest, whole(chunks_of(source), manifest, progress))
        try:
            if not checked:
                self._prove(manifest.file, manifest.stored_sha256)
            data = manifest.dump()
            digest = hashlib.sha256(data)
            with self._doing():
                key = self._prefix + document
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ChecksumSHA256=_text(digest.digest()))
            self._prove(document, digest.hexdigest())
        except BaseException:
            with suppress(OpsError):
                self.remove(manifest)
            raise
        return manifest

    def _is_taken(self, manifest: Manifest) -> bool:
        """Asked of the list: a HEAD request needs the same right, and its refusals have no words."""
        key = f"{self._prefix}{manifest.name}."
        with self._doing():
            found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key).get("Contents", [])
        return any(FILE.fullmatch(each["Key"].removeprefix(self._prefix)) for each in found)

    def _upload(self, manifest: Manifest, chunks: Iterable[bytes]) -> bool:
        """Send the object in parts, each with its SHA-256; whether the server has checked them all.

        One that has answers with the sum of the sums (S3: "checksum of checksums"); others pass over them in silence.
        ``Taken`` where its name is another run's by then.
        """
        where = {"Bucket": self._bucket, "Key": self._prefix + manifest.file}
        with self._doing():
            upload = self._client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")
        where["UploadId"] = upload["UploadId"]
        sums: list[bytes] = []
        parts: list[dict[str, Any]] = []
        try:
            for body in pieces(chunks, part_size(manifest.stored_size)):
                sums.append(hashlib.sha256(body).digest())
                sent = {"PartNumber": len(sums), "ChecksumSHA256": _text(sums[-1])}
                with self._doing():
                    answer = self._client.upload_part(**where, **sent, Body=body)
                checked = answer.get("ChecksumSHA256") == sent["ChecksumSHA256"]
                parts.append({"ETag": answer["ETag"], **(sent if checked else {"PartNumber": len(sums)})})
            if self._is_taken(manifest):  # not every server knows the condition
                raise Taken(f"{self.where}/{manifest.name}: another run has stored it", hint=AGAIN)
            done = self._complete(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(OpsError), self._doing():  # parts of an unfinished upload are invisible, and cost money
                self._client.abort_multipart_upload(**where)
            raise
        said = str(done.get("ChecksumSHA256", "")).partition("-")[0]
        return said == _text(hashlib.sha256(b"".join(sums)).digest())

    def _complete(self, **upload: Any) -> dict[str, Any]:
        """Make the object of its parts, where none has its name; ``Taken`` else."""
        from botocore.exceptions import ClientError

        with self._doing():
            try:
                done: dict[str, Any] = self._client.complete_multipart_upload(**upload, IfNoneMatch="*")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NotImplemented":
                    raise
                done = self._client.complete_multipart_upload(**upload)
        return done

    def _prove(self, name: str, sha256: str) -> None:
        """``OpsError`` unless the server gives back what it was given."""
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise OpsError(f"{self.where}/{name}: gives back other bytes than were sent", hint="look at that server")

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._doing():
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"]
        with body:
            while True:
                with self._doing():
                    chunk = body.read(CHUNK)
                if not chunk:
                    return
                yield chunk

    @contextmanager
    def _doing(self) -> Iterator[None]:
        """Say what went wrong at the server."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._refusal(error.response.get("Error", {})) from None
        except BotoCoreError as error:
            raise self._failure(error) from None

    def _refusal(self, said: dict[str, Any]) -> OpsError:
        """The server has answered, and the answer is no."""
        code, words = str(said.get("Code", "")), str(said.get("Message", ""))
        if code in {"NoSuchKey", "404"}:
            return OpsError(f"{self.where}: the object is not there", hint="was it removed meanwhile?")
        if code == "NoSuchBucket":
            return UsageError(f"{self.where}: there is no such bucket", hint="make it first, or mend backup.s3.bucket")
        if code in STRANGER:
            return OpsError(f"{self.where}: the server refuses the credentials: {code}", hint=CREDENTIALS)
        if code in FORBIDDEN:
            hint = (
                "they need ListBucket on the bucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload in it"
            )
            return OpsError(f"{self.where}: the credentials do not allow this: {code}", hint=hint)
        if code in ELSEWHERE:
            return UsageError(f"{self.where}: the bucket is in another region", hint="set backup.s3.region")
        if code in TAKEN:
            return Taken(f"{self.where}: another run has stored a backup of this name: {code}", hint=AGAIN)
        if code == "BadDigest":
            return OpsError(f"{self.where}: the data was damaged on its way: {_line(words)}", hint=AGAIN)
        if code == "RequestTimeTooSkewed":
            return OpsError(f"{self.where}: the clock here or there is wrong", hint="set it: timedatectl")
        return OpsError(f"{self.where}: the server says {code}: {_line(words)}", hint="see the server's log")

    def _failure(self, error: Exception) -> OpsError:
        """There was no answer, or no question."""
        from botocore.exceptions import (
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
            NoCredentialsError,
            PartialCredentialsError,
            SSLError,
        )

        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return UsageError(f"{self.where}: there are no credentials: {_line(error)}", hint=CREDENTIALS)
        if isinstance(error, SSLError):
            return HostError(
                f"{self.where}: no trusted TLS connection: {_line(error)}",
                hint="AWS_CA_BUNDLE names a file with the server's CA",
            )
        if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError):
            return HostError(f"{self.where}: {_line(error)}", hint="is the server up, and backup.s3.endpoint right?")
        return UsageError(f"{self.where}: {_line(error)}", hint="see backup.s3 in config.yaml, and ~/.aws/config")


AGAIN = "run the same again"
CREDENTIALS = "boto3 looks in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then in ~/.aws/credentials (AWS_PROFILE)"


def part_size(size: int) -> int:
    """Bytes of a part so that an object of ``size`` bytes has few enough, in whole MiB."""
    return max(PART, -(-size // PARTS // CHUNK) * CHUNK)


def pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """``chunks`` in pieces of ``size`` bytes; the last one may be shorter, and there is always one."""
    waiting = bytearray()
    sent = False
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
            sent = True
    if waiting or not sent:
        yield bytes(waiting)


def _client(section: S3Section) -> Any:
    try:
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise missing("boto3", "backup.s3") from None
    config = Config(
        s3={"addressing_style": "path"} if section.endpoint else {},
        connect_timeout=CONNECT,
        read_timeout=SILENT,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # Sums are ours to send and check; boto3's own, sent behind the data, are an error to many servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = Session()
        # What only signs a request needs some region, though a server of one's own has none.
        region = section.region or session.region_name or ("us-east-1" if section.endpoint else None)
        return session.client("s3", endpoint_url=section.endpoint or None, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(f"s3://{section.bucket}: {_line(error)}", hint="see ~/.aws/config and AWS_PROFILE") from None


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _line(words: object) -> str:
    return " ".join(str(words).split())
