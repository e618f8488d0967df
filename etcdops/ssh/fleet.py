"""Fleet: every host of a cluster, worked on side by side."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from etcdops.config import Member, SshSection
from etcdops.credentials import Credentials, Denied
from etcdops.errors import HostError, HostsFailed, LockLost, OpsError
from etcdops.ssh.host import Envelope, Host

if TYPE_CHECKING:
    from etcdops.ssh.dialer import Dialer
    from etcdops.ssh.link import Link

T = TypeVar("T")
Call = Callable[[], None]
PASSWORD = "ETCDOPS_SUDO_PASSWORD"  # the name of the variable  # noqa: S105


class Fleet:
    """The hosts of ``members``; a context manager that closes every connection at its end.

    Work runs on daemon threads, one for each host: a pool would join them when the interpreter ends, and so hold up
    Ctrl-C.  ``resolve`` turns a path of config.yaml into a real one.  ``ask`` shows a prompt and returns a
    password, always on the thread that waits for the work (a prompt must be able to give the terminal back);
    None where there is nobody to ask.  ``credentials``: who we are to etcd, on every host.  ``envelope``: what a
    changing run has around each command.  ``shared``: whose connections are used, where a host is one of its, too;
    they stay open when this one is closed.
    """

    def __init__(
        self,
        members: Sequence[Member],
        ssh: SshSection,
        resolve: Callable[[str], Path],
        *,
        ask: Callable[[str], str] | None,
        credentials: Credentials = Credentials(),  # noqa: B008 - frozen
        envelope: Envelope | None = None,
        shared: Fleet | None = None,
    ) -> None:
        self._shared = shared
        self._members = {member.name: member for member in members}
        self._envelope = envelope
        self._ssh = ssh
        self._credentials = credentials
        self._resolve = resolve
        self._dialer: Dialer | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._password = Password(ask)
        self._hosts = {member.name: self._host(member) for member in members}

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(self, work: Callable[[Host], T], names: Sequence[str] | None = None) -> dict[str, T | OpsError]:
        """Run ``work`` on all hosts (or those in ``names``) at once: results in the order of the configuration.

        An ``OpsError`` is the result of its host, and names it; ``Denied`` and ``LockLost``, which go for all, are
        raised.  Anything else is a bug and propagates, once all work has ended.  Ctrl-C closes every connection and
        propagates at once.
        """
        if self._envelope:
            self._envelope.safe_point()
        chosen = self._hosts.values() if names is None else [self[name] for name in names]
        hosts = [host for host in self._hosts.values() if host in chosen]
        desk: queue.SimpleQueue[Call] = queue.SimpleQueue()
        results: dict[str, T | BaseException] = {}

        def on_thread(host: Host) -> None:
            self._password.desk.queue = desk
            try:
                result: T | BaseException = work(host)
            except BaseException as error:
                result = error
            desk.put(lambda: results.update({host.name: result}))

        try:
            for host in hosts:
                threading.Thread(target=on_thread, args=(host,), name=host.name, daemon=True).start()
            while len(results) < len(hosts):
                # With an end: a Ctrl-C that comes just before an endless wait would not end it (Python checks after).
                with contextlib.suppress(queue.Empty):
                    desk.get(timeout=0.2)()
        except BaseException:
            self.close()
            if self._shared:
                self._shared.close()
            raise
        found = {host.name: _expected(host, results[host.name]) for host in hosts}
        for result in found.values():
            if isinstance(result, Denied | LockLost):
                result.host = ""
                raise result
        return found

    def all(self, work: Callable[[Host], T], names: Sequence[str] | None = None) -> dict[str, T]:
        """``map`` where nothing may fail: ``HostsFailed`` lists every host that did."""
        results = self.map(work, names)
        errors = [result for result in results.values() if isinstance(result, OpsError)]
        if errors:
            raise HostsFailed(errors)
        return {name: result for name, result in results.items() if not isinstance(result, OpsError)}

    @property
    def closed(self) -> bool:
        """Whether every connection has been closed for good."""
        return self._closed

    def close(self) -> None:
        """Close every connection at once, also under work that is going on."""
        with self._lock:
            self._closed = True
            dialer = self._dialer
        if dialer is not None:
            dialer.close()

    def _host(self, member: Member) -> Host:
        if self._shared and self._shared.has(member, self._ssh):
            return self._shared[member.name]
        limit = self._ssh.command_timeout
        dial = lambda: self._dial(member)  # noqa: E731
        return Host(member.name, dial, self._password.of, limit, self._credentials, self._envelope, _key(member))

    def has(self, member: Member, ssh: SshSection) -> bool:
        """Whether ``member``, reached as ``ssh`` says, is one of its hosts."""
        return self._members.get(member.name) == member and self._ssh == ssh

    def _dial(self, member: Member) -> Link:
        # Fabric and paramiko take a fifth of a second to import; `inv --list` must not pay for that.
        from etcdops.ssh.dialer import Dialer

        with self._lock:
            if self._closed:
                raise HostError("the run has ended")
            if self._dialer is None:
                self._dialer = Dialer(self._ssh, self._resolve)
        return self._dialer.dial(member)


class Desk(threading.local):
    """Where the thread that waits for this one takes calls; None on any other thread."""

    queue: queue.SimpleQueue[Call] | None = None


class Password:
    """The password for sudo: one for all hosts, asked for once."""

    def __init__(self, ask: Callable[[str], str] | None) -> None:
        self.desk = Desk()
        self._ask = ask
        self._lock = threading.Lock()
        self._value: str | None = None

    def of(self, user: str) -> str:
        """From the environment, else from the user; ``HostError`` if there is neither."""
        with self._lock:
            if self._value is None:
                self._value = os.environ.get(PASSWORD) or self._prompt(f"[sudo] password for {user}: ")
            if not self._value:
                raise HostError(
                    f"sudo wants a password for {user}",
                    hint=f"run this in a terminal, or set {PASSWORD}, or allow sudo without a password (NOPASSWD)",
                )
            return self._value

    def _prompt(self, prompt: str) -> str:
        ask, desk = self._ask, self.desk.queue
        if ask is None:
            return ""
        if desk is None:
            return ask(prompt)
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        desk.put(lambda: answer.put(ask(prompt)))
        return answer.get()


def _key(member: Member) -> str:
    return f"{member.ssh or member.address}:{member.port}"


def _expected(host: Host, result: T | BaseException) -> T | OpsError:
    if isinstance(result, OpsError):
        result.host = result.host or host.name
    elif isinstance(result, BaseException):
        result.add_note(f"on {host.name}")
        raise result
    return result
