"""Link: one open connection, and how one command runs over it.

Commands go over a raw channel: Fabric's ``Connection.run`` handles output in quadratic time and feeds stdin at a
hundred bytes a second.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fabric.connection import Connection
from paramiko import ChannelException, SSHException, Transport
from paramiko.channel import Channel
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, cMSG_CHANNEL_REQUEST
from paramiko.message import Message

from etcdops.errors import HostError, Lost, NoForwarding
from etcdops.ssh.pipe import Pipe

# Bytes that a host may send unasked.  sshd moves all of them about as they wait: of half a gigabyte that takes it 0.5 s
# of a processor with 4 MiB, 0.9 s with 8, 2.4 s with 16.  At 100 ms, 4 MiB are 40 MB/s; the usual 2 are half of that.
WINDOW = 4 << 20
PIECE = 512 << 10  # bytes of output that are taken at a time: no more than a processor's cache holds
PACKET = 32 << 10  # bytes: what OpenSSH takes in one piece


Relay = tuple[Callable[[bytes], object], Callable[[bytes], object]]  # what takes stdout, and stderr


@dataclass(frozen=True)
class Output:
    """What a command gave back.  ``status`` is None when a signal ended it."""

    status: int | None
    stdout: bytes
    stderr: bytes
    seconds: float


class Link:
    """One open connection, good for one command after another."""

    def __init__(self, connection: Connection) -> None:
        self.user: str = connection.user
        self._transport: Transport = connection.transport

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as anybody noticed."""
        return self._transport.is_active()

    def close(self) -> None:
        """Close it at once, also under a command of another thread."""
        close(self._transport)

    def execute(
        self, command: str | bytes, stdin: bytes | Iterable[bytes], limit: float, relay: Relay | None = None
    ) -> Output:
        """Run ``command`` in the login shell, feed it ``stdin`` and take all output, for at most ``limit`` seconds.

        With ``relay``, stdout and stderr go there as they come, and not into the result.
        A command may end before it took all of ``stdin``; what it said is the result.  ``HostError`` if the
        connection breaks or time runs out; the connection is closed then, for nobody knows what is in it.
        """
        start = time.monotonic()
        channel = self._session(limit)
        try:
            self._request(channel, "exec", command)
            feeder = Feeder(self, channel, stdin)
            out, err = relay or (None, None)
            readers = Reader(channel.recv, out), Reader(channel.recv_stderr, err)
            stdout, stderr = [reader.result(start + limit) for reader in readers]
            if not channel.status_event.wait(max(0.0, start + limit - time.monotonic())):
                raise TimeoutError
        except BaseException as error:
            self.close()  # first: a farewell to a host that does not listen could take for ever
            if isinstance(error, TimeoutError):
                raise _silent(limit) from None
            if isinstance(error, EOFError | OSError | SSHException):
                raise _lost() from None
            raise
        finally:
            channel.close()
        feeder.finish()
        if channel.exit_status < 0 and not channel.eof_received:
            raise _lost()  # a command that a signal ended has closed its output properly
        status = channel.exit_status if channel.exit_status >= 0 else None
        return Output(status, stdout, stderr, time.monotonic() - start)

    def subsystem(self, name: str, limit: float) -> Channel:
        """A channel to the server's ``name``, such as sftp; it ends at once where the server has none.

        No wait on it takes longer than ``limit`` seconds.
        """
        channel = self._session(limit)
        channel.settimeout(limit)
        self._request(channel, "subsystem", name)
        return channel

    def tunnel(self, address: str, port: int, limit: float) -> Channel:
        """A connection that the host makes for us; no wait on it takes longer than ``limit`` seconds.

        ``HostError`` where nobody listens there, ``NoForwarding`` where the host's sshd does no such thing.
        """
        try:
            channel = self._transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=limit)
        except ChannelException as error:
            if error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
                raise NoForwarding("its sshd forwards nothing", hint="AllowTcpForwarding in its sshd_config") from None
            raise HostError(f"{address}:{port}: {error.text}") from None
        except (SSHException, EOFError, OSError) as error:
            raise HostError(f"{address}:{port}: {error}") from None
        channel.settimeout(limit)
        return channel

    def _session(self, limit: float) -> Channel:
        start = time.monotonic()
        try:
            channel = self._transport.open_session(window_size=WINDOW, timeout=limit)
        except ChannelException as error:
            raise HostError(f"the host opens no session ({error.text})", hint="see MaxSessions of its sshd") from None
        except (SSHException, EOFError, OSError):
            self.close()
            raise (_silent(limit) if time.monotonic() - start >= limit else _lost()) from None
        channel.in_buffer = Pipe()  # type: ignore[assignment]  # nothing has come yet: nothing was asked for
        if channel.closed:  # just now, and has told the one before
            channel.in_buffer.close()
        return channel

    def _request(self, channel: Channel, kind: str, value: str | bytes) -> None:
        """``Channel.exec_command`` without its wait: that has no limit, and costs a third of a short command's time."""
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string(kind)
        message.add_boolean(True)  # paramiko closes the channel when the answer is no
        message.add_string(value)
        self._transport._send_user_message(message)  # type: ignore[attr-defined]


class Feeder:
    """Sends stdin on a thread of its own, while the caller takes the output: neither waits for the other."""

    def __init__(self, link: Link, channel: Channel, stdin: bytes | Iterable[bytes]) -> None:
        self._link = link
        self._channel = channel
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if stdin == b"":
            channel.shutdown_write()
            return
        chunks = (stdin,) if isinstance(stdin, bytes) else stdin
        self._thread = threading.Thread(target=self._feed, args=(chunks,), name="ssh-stdin", daemon=True)
        self._thread.start()

    def _feed(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                if not self._send(chunk):
                    return
        except BaseException as error:  # the source failed: raised again by finish()
            self._error = error
            self._link.close()  # closing the channel alone would not wake the reader
            return
        with contextlib.suppress(OSError, EOFError, SSHException):  # the connection may be closed by now
            self._channel.shutdown_write()

    def _send(self, chunk: bytes) -> bool:
        """False when nobody takes it any more; why is told by the command's status and stderr."""
        at = 0
        while at < len(chunk):
            try:
                sent = self._channel.send(chunk[at : at + PACKET])
            except (OSError, EOFError, SSHException):
                return False
            if sent == 0:
                return False
            at += sent
        return True

    def finish(self) -> None:
        """Wait for the thread; raise what reading the source raised there."""
        if self._thread is not None:
            self._thread.join(5)  # the channel is closed, so it ends with its next chunk
        if self._error is not None:
            raise self._error


class Reader:
    """Takes one stream of output to its end, on a thread of its own.

    Not by ``Channel.fileno``: the pipe behind that misses wake-ups when both streams are busy.
    """

    def __init__(self, receive: Callable[[int], bytes], take: Callable[[bytes], object] | None = None) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []
        self._take = take or self._chunks.append
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="ssh-output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while chunk := self._receive(PIECE):
                self._take(chunk)
        except BaseException as error:  # raised again by result()
            self._error = error

    def result(self, deadline: float) -> bytes:
        """All of it; ``TimeoutError`` at ``deadline``."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return b"".join(self._chunks)


def _lost() -> Lost:
    return Lost(
        "the connection was lost while a command ran",
        hint="what the command did is unknown: look at the host, then run the task again",
    )


def _silent(limit: float) -> HostError:
    return HostError(
        f"no answer within {limit:g} s",
        hint="does the host hang?  ssh.command_timeout in config.yaml is the limit for a command",
    )


def close(transport: Transport) -> None:
    """Close ``transport`` at once, in whatever state it is."""
    # Behind a jump host that is closed already, the farewell cannot be sent.
    with contextlib.suppress(EOFError, OSError, SSHException):
        transport.close()
