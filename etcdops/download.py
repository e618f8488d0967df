"""One file over HTTP into one place: timeouts, resume after a break, errors as one line each."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etcdops.errors import OpsError

TIMEOUT = 30.0  # seconds without a byte
DEADLINE = 1800.0  # seconds for one file in one run, however slowly its bytes trickle in
TRIES = 3  # requests for one file in one run; after a break the next one resumes
CHUNK = 256 * 1024

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all (0: unknown)

_OTHER_SOURCE = "set release.url to a mirror or release.archive to a local copy"
_AGAIN = "run the same command again: it goes on where it stopped"


class NotFound(OpsError):
    """The server, or the file system behind a file URL, has no such file."""


class OutOfRange(OpsError):
    """The file ends before the byte that was asked for."""


class Download:
    """One file on its way into ``part``, which outlives a broken run so that the next one resumes it."""

    def __init__(self, url: str, part: Path, progress: Progress) -> None:
        self._url = url
        self._part = part
        self._validator = part.with_name(part.name + ".etag")
        self._name = part.name.removesuffix(".part")
        self._progress = progress
        self._deadline = time.monotonic() + DEADLINE

    def run(self, sha256: str) -> None:
        """Leave ``part`` complete with this sum; ``OpsError`` (and OSError for the disk) where that fails."""
        reason = ""
        for _ in range(TRIES):
            start = self._size()
            reason = self._request(start)
            if reason:
                continue
            digest = sha256_of(self._part)
            if digest == sha256:
                self._validator.unlink(missing_ok=True)
                return
            error = wrong_sum(self._url, self._part, digest, sha256)
            self._discard()
            if start == 0:
                raise error
            reason = "what an earlier run left was of another file"
        raise OpsError(f"{self._url}: the download broke off: {reason}", hint=_AGAIN)

    def _request(self, start: int) -> str:
        """One request, from byte ``start`` where the server can; says why it broke off, or nothing."""
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator := read_text(self._validator):
                headers["If-Range"] = validator
        try:
            response = open_url(self._url, headers)
        except OutOfRange:
            self._discard()
            return "the file is shorter than what an earlier run left of it"
        with response:
            if response.status != 206:
                start = 0
                self._discard()
                write_text(self._validator, _strong_validator(response.headers))
            length = response.headers.get("Content-Length", "")
            return self._copy(response, start, start + int(length) if length.isdecimal() else 0)

    def _copy(self, response: Any, done: int, total: int) -> str:
        with self._part.open("ab") as file:
            while True:
                try:
                    chunk = response.read1(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    return f"{_reason(error)} after {done} bytes"
                if not chunk:
                    break
                try:
                    file.write(chunk)
                    file.flush()
                except OSError:
                    self._discard()  # a full disk should not stay full of our piece
                    raise
                done += len(chunk)
                self._progress(self._name, done, total)
                if time.monotonic() > self._deadline:
                    spent = f"{done} of {total or '?'} bytes in {DEADLINE / 60:.0f} minutes"
                    raise OpsError(f"{self._url}: too slow: {spent}", hint=_AGAIN)
            os.fsync(file.fileno())
        return f"only {done} of {total} bytes came" if total and done != total else ""

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._validator.unlink(missing_ok=True)


def fetch_text(url: str) -> str:
    """A small text file; ``NotFound`` or another ``OpsError`` where it cannot be had."""
    try:
        with open_url(url, {}) as response:
            return str(response.read(1 << 20).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        raise OpsError(f"{url}: broke off: {_reason(error)}", hint="run the same command again") from None


def open_url(url: str, headers: dict[str, str]) -> Any:
    """urllib, with its proxies from the environment, and its many exceptions as one line each."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - config.py lets http, https, file in
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise OutOfRange(f"{url}: 416 {error.reason}") from None
        if error.code == 404:
            raise NotFound(
                f"{url}: 404 {error.reason}",
                hint="check cluster.version and release.url: no such release, or not for this architecture",
            ) from None
        raise OpsError(f"{url}: {error.code} {error.reason}", hint=f"try again later, or {_OTHER_SOURCE}") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", None), FileNotFoundError):
            raise NotFound(f"{url}: no such file", hint="check release.url") from None
        raise OpsError(
            f"{url}: cannot be reached: {_reason(error)}",
            hint=f"{_OTHER_SOURCE}; behind a proxy, set https_proxy",
        ) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def _strong_validator(headers: Any) -> str:
    """What If-Range may carry: a strong ETag or a date (RFC 9110, 13.1.5); a weak ETag proves nothing."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def wrong_sum(where: str, path: Path, digest: str, expected: str) -> OpsError:
    """The error for a file whose sum is not the published one."""
    with path.open("rb") as file:
        page = "" if file.read(2) == b"\x1f\x8b" else " (it is no gzip file at all: a proxy's page?)"
    return OpsError(
        f"{where}: its SHA-256 is {digest}, but it should be {expected}{page}",
        hint="do not use this file: fetch it again from a source that you trust, or mend release.sha256",
    )


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal; about 15 ms for 20 MB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """The text of a small file without surrounding space; empty where there is none."""
    return path.read_text().strip() if path.exists() else ""


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
