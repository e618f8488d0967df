"""Sftp: files on a host that is reached like the members, but where the login may be allowed SFTP and nothing else.

paramiko's own ``SFTPFile`` neither sets a mode when it creates a file, nor reports every failure of a pipelined
write, nor knows fsync; so requests are made here, and paramiko encodes and carries them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paramiko import SFTPAttributes, SFTPClient, SFTPError, SSHException
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_OPEN,
    CMD_READ,
    CMD_STATUS,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_EXCL,
    SFTP_FLAG_READ,
    SFTP_FLAG_WRITE,
    int64,
)

from etcdops.config import SshSection
from etcdops.errors import HostError, OpsError
from etcdops.ssh.dialer import Dialer

PIECE = 32 << 10  # bytes: every server takes as much in one request (draft-ietf-secsh-filexfer-02, 3)
IN_FLIGHT = 64 * PIECE  # bytes on the way before the first answer: at 100 ms there and back 20 MB/s
SUMMED = 10 << 20  # bytes a second: no disk is so slow that a sum takes longer


@dataclass(frozen=True)
class RemoteFile:
    """A file there: size in bytes, when it was written (seconds since 1970, by the host's clock)."""

    size: int
    written: float


class Sftp:
    """The files of one host.

    A failure is a ``HostError`` that names the path (``OpsError`` where it is not there); every wait has an end.
    """

    def __init__(self, ssh: SshSection, resolve: Callable[[str], Path], host: str, user: str, port: int) -> None:
        """Connect and log in, by the rules of ``Dialer.dial_other``."""
        self._limit = ssh.command_timeout
        self._dialer = Dialer(ssh, resolve)
        try:
            self._link = self._dialer.dial_other(host, user, port)
            # Typed as Any: its requests, which all of its methods are made of, are private.
            self._client: Any = SFTPClient(self._link.subsystem("sftp", self._limit))
        except (EOFError, OSError, SFTPError, SSHException):
            self._dialer.close()
            raise HostError(
                f"the server gives {self._link.user} no SFTP",
                hint="its sshd_config needs a line such as 'Subsystem sftp internal-sftp'; a start-up file of the "
                "login's shell must print nothing",
            ) from None
        except BaseException:
            self._dialer.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as anybody noticed."""
        return self._link.alive

    def close(self) -> None:
        """Close the connection."""
        self._dialer.close()

    def listing(self, folder: str) -> dict[str, RemoteFile]:
        """The regular files in ``folder``; none where it does not exist."""
        with self._doing(folder):
            try:
                entries = self._client.listdir_attr(folder)
            except FileNotFoundError:
                return {}
        return {
            each.filename: RemoteFile(each.st_size, each.st_mtime) for each in entries if stat.S_ISREG(each.st_mode)
        }

    def make_folder(self, folder: str) -> None:
        """Make ``folder`` (0700), and what is missing above it; leave what is there as it is."""
        path = PurePosixPath(folder)
        with self._doing(folder):
            if self._exists(str(path)):
                return
            for each in [*reversed(path.parents), path]:
                if str(each) not in {"/", "."} and not self._exists(str(each)):
                    self._client.mkdir(str(each), 0o700)

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of ``path``, piece by piece."""
        answers = Answers(self._client)
        with self._doing(path):
            size = self._client.stat(path).st_size
            handle = self._open(path, SFTP_FLAG_READ)
        waiting: deque[tuple[int, int]] = deque()  # number of the request, bytes asked for
        asked = done = 0
        try:
            while done < size:
                with self._doing(path):
                    while asked < size and asked - done < IN_FLIGHT:
                        length = min(PIECE, size - asked)
                        waiting.append((answers.ask(CMD_READ, handle, int64(asked), length), length))
                        asked += length
                    number, length = waiting.popleft()
                    piece = answers.data(number)
                    while 0 < len(piece) < length:  # allowed, though servers hardly do it
                        rest = answers.ask(CMD_READ, handle, int64(done + len(piece)), length - len(piece))
                        if not (more := answers.data(rest)):
                            break
                        piece += more
                yield piece
                if len(piece) < length:
                    return  # it is shorter than it was: whoever knows the size says so
                done += length
        finally:
            with contextlib.suppress(Exception):
                self._client._request(CMD_CLOSE, handle)

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make ``path`` (0600 from the start) of ``chunks``, and have it on the disk where the server can say so.

        ``HostError`` where something is called so; what was written is removed where this fails.
        """
        with self._doing(path):
            handle = self._open(path, SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_EXCL)
        try:
            self._fill(path, handle, chunks)
        except BaseException:
            with contextlib.suppress(Exception):
                self._client._request(CMD_CLOSE, handle)
                self.remove(path)
            raise
        with self._doing(path):
            self._client._request(CMD_CLOSE, handle)

    def is_sha256(self, path: str, expected: str) -> bool:
        """Whether the content of ``path`` has this sum: by ``sha256sum`` there if the login may run it, else read."""
        with self._doing(path):
            size = self._client.stat(path).st_size
        with contextlib.suppress(HostError):  # a server may allow one session, and this would be the second
            said = self._link.execute(f"exec sha256sum < {shlex.quote(path)}", b"", self._limit + size / SUMMED).stdout
            if re.match(rb"[0-9a-f]{64}\s", said) and said[:64].decode() == expected:
                return True  # any other answer may be of a path that means something else there, as outside a chroot
        digest = hashlib.sha256()
        for chunk in self.chunks(path):
            digest.update(chunk)
        return digest.hexdigest() == expected

    def rename(self, old: str, new: str) -> None:
        """Give ``old`` the name ``new``, in place of what has it; at once where the server knows how."""
        with self._doing(new):
            try:
                self._client.posix_rename(old, new)
            except (FileNotFoundError, PermissionError):
                raise
            except OSError:
                self.remove(new)
                self._client.rename(old, new)

    def remove(self, path: str) -> None:
        """Delete ``path``; that it is not there is no error."""
        with self._doing(path), contextlib.suppress(FileNotFoundError):
            self._client.remove(path)

    def _exists(self, path: str) -> bool:
        try:
            self._client.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _open(self, path: str, flags: int) -> bytes:
        attributes = SFTPAttributes()
        if flags & SFTP_FLAG_CREATE:
            attributes.st_mode = 0o600
        _, message = self._client._request(CMD_OPEN, path, flags, attributes)
        handle: bytes = message.get_binary()
        return handle

    def _fill(self, path: str, handle: bytes, chunks: Iterable[bytes]) -> None:
        answers = Answers(self._client)
        waiting: deque[int] = deque()
        offset = 0
        for chunk in chunks:  # outside of _doing: what goes wrong with the source is not the host's
            with self._doing(path):
                for at in range(0, len(chunk), PIECE):
                    piece = chunk[at : at + PIECE]
                    waiting.append(answers.ask(CMD_WRITE, handle, int64(offset), piece))
                    offset += len(piece)
                    if len(waiting) * PIECE > IN_FLIGHT:
                        answers.take(waiting.popleft())
        with self._doing(path):
            while waiting:
                answers.take(waiting.popleft())
            with self._unless_unsupported():
                self._client._request(CMD_EXTENDED, "fsync@openssh.com", handle)

    @contextmanager
    def _unless_unsupported(self) -> Iterator[None]:
        """An extension of OpenSSH that other servers lack: they answer with a status of no number known here."""
        try:
            yield
        except OSError as error:
            if error.errno is not None or "support" not in str(error).lower():
                raise

    @contextmanager
    def _doing(self, path: str) -> Iterator[None]:
        """Say what went wrong with ``path``."""
        try:
            yield
        except OpsError:
            raise
        except TimeoutError:
            self.close()  # nobody knows which answers are still to come
            raise HostError(f"{path}: no answer within {self._limit:g} s", hint="does the host hang?") from None
        except FileNotFoundError:
            raise OpsError(f"{path}: is not there", hint="was it removed meanwhile?") from None
        except PermissionError:
            raise HostError(f"{path}: {self._link.user} may not do this there", hint="whose is the folder?") from None
        except (EOFError, OSError, SFTPError, SSHException) as error:
            if not self._link.alive or isinstance(error, EOFError | SSHException):
                self.close()  # in case only the channel is: whoever asks next connects again
                raise HostError(
                    f"{path}: the connection was lost", hint="is the host up?  then run the same again"
                ) from None
            raise self._failed(path, error) from None

    def _failed(self, path: str, error: Exception) -> HostError:
        """Servers say "Failure", and no more, of a full disk."""
        free = self._free(str(PurePosixPath(path).parent))
        if free is not None and free < IN_FLIGHT:
            return HostError(f"{path}: the disk there is full", hint="make room there, then run the same again")
        return HostError(
            f"{path}: the server says '{error}'", hint="is there a quota, or is the file system read-only?"
        )

    def _free(self, folder: str) -> int | None:
        """Bytes left for us, where the server can tell (an extension of OpenSSH)."""
        with contextlib.suppress(Exception):
            _, message = self._client._request(CMD_EXTENDED, "statvfs@openssh.com", folder)
            _, unit, _, _, available = (message.get_int64() for _ in range(5))
            return int(unit * available)
        return None


class Answers:
    """Takes the answers to requests that do not wait for each other, in whatever order a server gives them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._arrived: dict[int, tuple[int, Message]] = {}

    def ask(self, *request: object) -> int:
        """Send a request; its number."""
        number: int = self._client._async_request(self, *request)
        return number

    def take(self, number: int) -> Message:
        """The answer to request ``number``; an error of the server's is raised as paramiko does."""
        while number not in self._arrived:
            self._client._read_response()
        kind, message = self._arrived.pop(number)
        if kind == CMD_STATUS:
            self._client._convert_status(message)
        return message

    def data(self, number: int) -> bytes:
        """What was read; empty at the end of the file."""
        try:
            data: bytes = self.take(number).get_string()
        except EOFError:
            return b""
        return data

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        """Called by paramiko."""
        self._arrived[number] = kind, message
