"""Dialer: how a member is reached.

Fabric brings ~/.ssh/config, the agent and jump hosts.  What it leaves out is added: host keys are checked (Fabric
accepts any), every wait has an end, Nagle's delay is off (it makes each command four times slower), and a dead
network is noticed.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fabric.config import Config
from fabric.connection import Connection, derive_shorthand
from paramiko import (
    ChannelException,
    MissingHostKeyPolicy,
    PKey,
    ProxyCommandFailure,
    SSHClient,
    SSHConfig,
    SSHException,
    Transport,
)
from paramiko.config import ConfigParseError
from paramiko.ssh_exception import NoValidConnectionsError

from etcdops.config import Member, SshSection
from etcdops.errors import HostError, Unreachable, UsageError
from etcdops.ssh import proxy
from etcdops.ssh.hostkeys import HostKey, KnownHosts, known_name
from etcdops.ssh.identities import Identities
from etcdops.ssh.link import Link, close
from etcdops.ssh.userconfig import user_config

KEEPALIVE = 15  # seconds of silence until we ask whether the other side is still there
REKEY_AFTER = 32 << 30  # bytes: see Dialer._transport
AHEAD = 256 << 10  # bytes that are read at a time
LITTLE = 16 << 10  # bytes: as many come with no other behind them
DEAD_AFTER = 45  # seconds without an acknowledgement until the kernel gives the connection up

# Without a handler of its own, paramiko's log would reach stderr by way of logging.lastResort.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Dialer:
    """Opens the way to each member: config.yaml first, then ~/.ssh/config, then the defaults of config.yaml.

    Host keys are checked on every hop.  A jump host is opened once and shared by all members behind it; without a
    user of its own it gets ssh.user.  Of ~/.ssh/config count HostName, HostKeyAlias, IdentitiesOnly, IdentityFile,
    Port, ProxyCommand (``%p`` is the port written there), ProxyJump and User, below Host, Match and Include.
    """

    def __init__(self, ssh: SshSection, resolve: Callable[[str], Path]) -> None:
        self._ssh = ssh
        self._key = resolve(ssh.key) if ssh.key else None
        self._known = KnownHosts(resolve(ssh.known_hosts), accept_new=ssh.host_keys == "accept-new")
        try:
            self._user_config = SSHConfig.from_text(user_config())
        except ConfigParseError as error:
            raise UsageError(f"~/.ssh/config: {error}") from None
        self._jumps: dict[tuple[str, str, int], Jump] = {}
        self._lock = threading.Lock()
        self._transports: list[Transport] = []
        self._closed = False

    def dial(self, member: Member) -> Link:
        """Connect to a member and log in; ``HostError`` says what is in the way."""
        written = self._ssh.model_fields_set
        address = member.ssh or member.address
        with _address(address, "'ssh' of the member, ssh.gateway"):
            target = derive_shorthand(address)
            connection = self._connection(
                target["host"],
                user=target["user"] or (self._ssh.user if "user" in written else None),
                port=member.port or target["port"] or (self._ssh.port if "port" in written else None),
                gateway=self._connection(self._ssh.gateway) if self._ssh.gateway else None,
            )
        return self._link(connection)

    def dial_other(self, host: str, user: str, port: int) -> Link:
        """The same for a host that is no member: ``user`` and ``port`` may be empty.

        ~/.ssh/config goes before ssh.user here, and ssh.port and ssh.gateway do not count: they are the members'.
        """
        with _address(host, "the host's name in config.yaml"):
            connection = self._connection(host, user=user or None, port=port or None)
        return self._link(connection)

    def close(self) -> None:
        """Close every connection at once, also those that are being opened, and open no more."""
        with self._lock:
            self._closed = True
            transports = self._transports
        for transport in transports:  # jump hosts first, as they were opened: then nothing waits to be sent by them
            close(transport)

    def _link(self, connection: Connection) -> Link:
        self._prepare(connection)
        self._open(connection)
        return Link(connection)

    def _connection(self, target: str, **options: Any) -> Connection:
        # Its own for each: hosts are dialled side by side, and reading a Config merges it anew.  Lazy: settings of
        # other tools in /etc/fabric.yaml, ~/.fabric.yaml and the environment are not ours.
        config = Config(lazy=True, ssh_config=self._user_config, overrides={"user": self._ssh.user})
        # connect_kwargs is replaced later; an empty one would be filled in from a dictionary that all share.
        return Connection(target, config=config, connect_kwargs={"compress": False}, **options)

    def _prepare(self, connection: Connection) -> Connection:
        if isinstance(connection.gateway, Connection):
            connection.gateway = self._jump(connection.gateway).connection
        elif connection.gateway:
            connection.gateway = proxy.deaf(connection.gateway)
        options = connection.ssh_config
        name = options.get("hostkeyalias") or known_name(connection.host, connection.port)
        limit = self._ssh.connect_timeout
        connection.connect_timeout = limit  # Fabric's argument is cut down to whole seconds
        connection.client.set_missing_host_key_policy(HostKeyCheck(self._known, name))
        connection.connect_kwargs = {
            "banner_timeout": limit,
            "auth_timeout": limit,
            "channel_timeout": limit,
            "transport_factory": lambda sock, **rest: self._transport(sock, name, **rest),
            "auth_strategy": Identities(
                connection.user,
                self._key,
                options.get("identityfile", []),
                only=options.get("identitiesonly", "").lower() == "yes",
            ),
        }
        return connection

    def _jump(self, connection: Connection) -> Jump:
        key = (connection.host, connection.user, connection.port)
        with self._lock:
            known = self._jumps.get(key)
        if known is None:
            prepared = Jump(self._prepare(connection))
            with self._lock:
                known = self._jumps.setdefault(key, prepared)
        return known

    def _transport(self, sock: Any, name: str, **options: Any) -> Transport:
        """A transport that favours fast ciphers and the host keys on file, and that gives up in time."""
        if isinstance(sock, socket.socket):
            sock = PromptSocket(fileno=sock.detach())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER * 1000)
        transport = Transport(sock, **options)
        # paramiko 5.1 asks for new keys after 512 MiB, and deadlocks when a command ends meanwhile.  RFC 4344, 3.2,
        # allows 64 GiB for one key of AES, which is also where OpenSSH asks; when the host asks, it goes well.
        transport.packetizer.REKEY_BYTES = REKEY_AFTER
        security = transport.get_security_options()
        security.ciphers = sorted(security.ciphers, key=lambda cipher: "gcm" not in cipher)
        known = self._known.types(name)
        security.key_types = sorted(security.key_types, key=lambda kind: _key_type(kind) not in known)
        with self._lock:
            if self._closed:
                raise HostError("the run has ended")
            living = [other for other in self._transports if other.ident is None or other.is_alive()]
            self._transports = [*living, transport]
        return transport

    def _open(self, connection: Connection) -> None:
        if isinstance(connection.gateway, Connection):
            self._jump(connection.gateway).open(self._open)
        where = f"{connection.host}:{connection.port}"
        start = time.monotonic()
        try:
            connection.open()
            connection.transport.set_keepalive(KEEPALIVE)
        except BaseException as error:
            if (transport := connection.client.get_transport()) is not None:
                close(transport)
            known = explain(error, where, time.monotonic() - start, self._ssh.connect_timeout)
            if known is None:
                raise
            raise known from None


class PromptSocket(socket.socket):
    """Acknowledges at once the little that it has read, and reads much at a time.

    Until a command runs, sshd leaves Nagle's algorithm on, too, and a later packet waits there for our delayed
    acknowledgement of an earlier one: 40 ms for each connection.  In bulk, that would be an acknowledgement for each
    of the two reads that paramiko makes for a packet: a quarter of what half a gigabyte takes here.
    """

    _ahead = b""
    _at = 0  # so much of it has been given

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As a socket does."""
        if self._at == len(self._ahead):
            self._ahead, self._at = super().recv(AHEAD, flags), 0
            if hasattr(socket, "TCP_QUICKACK") and len(self._ahead) < LITTLE:
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        start, self._at = self._at, min(self._at + size, len(self._ahead))
        return self._ahead[start : self._at]


class Jump:
    """A jump host that members share: opened once, and a failure is told to all who waited for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._failed_at = 0.0
        self._failure = HostError("")

    def open(self, connect: Callable[[Connection], None]) -> None:
        """Open it with ``connect`` unless it is open; ``HostError`` names it."""
        asked = time.monotonic()
        with self._lock:
            if self.connection.is_connected:
                return
            if self._failed_at < asked:
                try:
                    connect(self.connection)
                    return
                except HostError as error:
                    self._failed_at = time.monotonic()
                    self._failure = error
            message = f"jump host {self.connection.original_host}: {self._failure.message}"
            raise type(self._failure)(message, hint=self._failure.hint)


class HostKeyCheck(MissingHostKeyPolicy):
    """Asks our known_hosts about every key: paramiko gets no list of its own, so that it knows no host."""

    def __init__(self, known: KnownHosts, name: str) -> None:
        self._known = known
        self._name = name

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        """Called by paramiko before anything secret is sent; raises to refuse."""
        self._known.check(self._name, HostKey(key.get_name(), key.asbytes()))


@contextmanager
def _address(address: str, keys: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(
            f"{address}: this is no way to reach a host: {error}", hint=f"check {keys} and ~/.ssh/config"
        ) from None


def explain(error: BaseException, where: str, seconds: float, limit: float) -> HostError | None:
    """What a failed connection means, in one line; None for what is not to be expected."""
    if isinstance(error, HostError):
        return error
    if isinstance(error, NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(
            f"{where}: connection refused", hint="is sshd running there, and is the port right (ssh.port)?"
        )
    if isinstance(error, socket.gaierror | UnicodeError):  # the latter: none of its parts may have over 63 letters
        why = error.strerror if isinstance(error, socket.gaierror) else "too long, or with an empty part"
        return Unreachable(
            f"{where}: the name cannot be resolved ({why})",
            hint="check the name in config.yaml ('ssh' and 'address' of a member), and ~/.ssh/config",
        )
    if isinstance(error, TimeoutError):
        return Unreachable(
            f"{where}: no answer within {limit:g} s",
            hint="is the host up, and does a firewall drop the port?  ssh.connect_timeout is the limit",
        )
    if isinstance(error, ChannelException):
        return Unreachable(f"{where}: the jump host cannot reach it ({error.text})", hint="try it from there")
    if isinstance(error, ProxyCommandFailure):
        return Unreachable(f"{where}: {proxy.shown(str(error))}", hint="ProxyCommand of ~/.ssh/config")
    if isinstance(error, EOFError | SSHException):
        reason = str(error).rstrip(".") or "hung up"
        if reason == "Timeout opening channel":
            reason = f"the jump host reaches nobody there within {limit:g} s"
        elif seconds >= limit * 0.9 and ("banner" in reason or "No existing session" in reason):
            reason = f"no SSH handshake within {limit:g} s"
        elif "banner" in reason or "protocol version" in reason:
            reason = "whoever answers there speaks no SSH"
        return Unreachable(f"{where}: {reason}", hint=f"see what 'ssh -v' says about {where}")
    if isinstance(error, OSError):
        return Unreachable(f"{where}: {error.strerror or error}", hint="is the host up, and the address right?")
    return None


def _key_type(algorithm: str) -> str:
    """The type of key, as known_hosts writes it, that a signature algorithm belongs to."""
    return "ssh-rsa" if algorithm.startswith("rsa-") else algorithm
