"""One run of a task: the configuration, the hosts, the output, and what the operator asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etcdops import configfile, credentials, layout
from etcdops.config import Config, Member
from etcdops.credentials import Credentials
from etcdops.errors import HostsFailed, OpsError, Refused, Unreachable, UsageError
from etcdops.ui import Reporter

if TYPE_CHECKING:
    from etcdops.keystore import Keystore
    from etcdops.operation import Operation
    from etcdops.ssh import Fleet


@dataclass
class Run:
    """What a step works with.  Hosts are connected when the first command is run on them."""

    path: Path
    ui: Reporter = field(default_factory=Reporter)
    dry_run: bool = False
    yes: bool = False
    json: bool = False
    words: tuple[str, ...] = ()  # of the command line, after `--`
    command: str = ""  # as it was typed, to type it again
    max_gap: float = 0.0  # seconds that the writes of a canary may wait; 0: none flies
    safe_point: Callable[[], None] = lambda: None  # called where it may stop, between two members; raises if it should
    operation: Operation | None = None  # of a run that changes hosts or the cluster
    _fleet: Fleet | None = None
    _read: Config | None = None  # what stood in the file, where the configuration is from there
    _base: Run | None = None  # whose connections are used where the hosts are the same

    @cached_property
    def config(self) -> Config:
        """The file, read and checked on first use."""
        self._read = configfile.load(self.path)
        return self._read

    @property
    def fleet(self) -> Fleet:
        """Every host of the cluster; a changing run takes the lock before the first look at them."""
        if self._fleet is None:
            from etcdops.ssh import Fleet

            config, operation = self.config, self.operation
            shared = self._base.fleet if self._base else None
            self._fleet = Fleet(
                config.members,
                config.ssh,
                config.resolve,
                ask=asker(),
                credentials=self.credentials,
                envelope=operation,
                shared=shared,
            )
            if operation and not shared:
                # After an interrupt the file may be by now what this run itself has made it.
                again = bool(operation.lock.hosts)
                operation.take(self._fleet, self.names)
                if self._read is config and not again and configfile.load(self.path) != config:
                    raise Refused(
                        f"{self.path.name} was changed while this run waited for the lock",
                        hint="the same command again",
                    )
        return self._fleet

    @cached_property
    def credentials(self) -> Credentials:
        """Who we are to etcd; a password is asked for once."""
        return credentials.obtain(self.config.auth.user, asker())

    @cached_property
    def keystore(self) -> Keystore:
        """The keys and certificates on this machine."""
        from etcdops.keystore import Keystore

        return Keystore(self.config.resolve(self.config.pki.dir), self.config.pki)

    @property
    def names(self) -> list[str]:
        """The members' names, in the order of the configuration."""
        return [member.name for member in self.config.members]

    @property
    def patience(self) -> int:
        """Seconds to wait for etcd to come up and the cluster to be healthy: ssh.command_timeout."""
        return int(self.config.ssh.command_timeout)

    @property
    def cache(self) -> Path:
        """Where downloads are kept between runs."""
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "etcdops"

    def confirm(self, what: str, *, answer: str = "yes", otherwise: str = "nothing was changed") -> None:
        """Ask before something destructive; ``Refused`` unless the operator types ``answer``, or said --yes before.

        ``what`` is a sentence without its full stop, ``otherwise`` says how things stand without it.
        """
        if self.yes or self.dry_run:
            return
        if not sys.stdin.isatty():
            raise Refused(f"this needs a yes, and nobody can be asked here: {what}", hint="--yes says it beforehand")
        asked = "Go on? [yes/no]" if answer == "yes" else f"Type '{answer}' to go on:"
        print(f"{what}. {asked} ", end="", file=sys.stderr, flush=True)  # noqa: T201 - not among results
        with self.operation.interrupts.asking() if self.operation else nullcontext():
            try:
                given = input()
            except EOFError:  # Ctrl-D
                print(file=sys.stderr)  # noqa: T201 - what is said next has a line of its own
                given = ""
        if given.strip().lower() != answer.lower():
            raise Refused(f"not confirmed; {otherwise}")

    def watch(self, wanted: bool, max_gap: float) -> None:
        """Have a canary write meanwhile, where it is ``wanted``, and stop once writes waited ``max_gap`` seconds."""
        if max_gap <= 0:
            raise UsageError("--max-gap is a number of seconds, above 0")
        self.max_gap = max_gap if wanted else 0.0

    @contextmanager
    def changing(self, task: str, *, breaks: bool = False) -> Iterator[None]:
        """Lock and record around what changes something; the lock is taken when the hosts are first needed.

        ``breaks``: from whoever has it.
        """
        from etcdops.operation import Operation

        def cluster() -> str:
            with suppress(OpsError):
                return self.config.cluster.name
            return "?"

        self.operation = Operation(task, self.command, self.path, self.ui, cluster=cluster, breaks=breaks)
        code, error = 0, None
        try:
            with self.operation.interrupts:
                yield
        except BaseException as trouble:
            error = trouble
            code = (
                trouble.exit_code
                if isinstance(trouble, OpsError)
                else 130
                if isinstance(trouble, KeyboardInterrupt)
                else 1
            )
            raise
        finally:
            self.operation.close(code, error)
            self.close()

    def turns(self, names: Sequence[str], done: str) -> Iterable[str]:
        """Each of ``names`` in turn, which Ctrl-C does not cut short; ``done``: what each is then, as in restarted."""
        return self.operation.turns(names, done) if self.operation else names

    def unbroken(self, standing: str) -> AbstractContextManager[None]:
        """What takes back or puts right goes through, whatever began it; only a second Ctrl-C stops it.

        ``standing``: what was going on then, in words.
        """
        return self.operation.interrupts.unbroken(standing) if self.operation else nullcontext()

    def interrupted(self, error: BaseException) -> OpsError:
        """What Ctrl-C has left, and which command goes on."""
        if self.operation is None:
            return OpsError("interrupted", hint="the same command again")
        message, hint = self.operation.interrupts.words(error, self.command)
        return OpsError(message, hint=hint)

    def decided(self, lines: Iterable[str]) -> bool:
        """What is to be done, a line each: a dry run shows it and ends with that, True; another puts it on record."""
        lines = list(lines)
        if not self.dry_run:
            if self.operation:
                self.operation.decided(lines)
            return False
        for line in lines:
            self.ui.result(line)
        return True

    def emit(self, value: Any, show: Callable[[], None]) -> None:
        """The result: as JSON when asked for, else as ``show`` prints it."""
        if self.json:
            self.ui.json(value)
        else:
            show()

    def located(self, error: OpsError) -> OpsError:
        """``error``; where hosts do not answer, with the file that says where they are."""
        if not isinstance(error, HostsFailed) or error.hint:
            return error
        away = [each for each in error.errors if isinstance(each, Unreachable)]
        if not away:
            return error
        hint = f"the hosts are those of {self.path}"
        if self.path == layout.LAB / "config.yaml" and len(away) == len(self.config.members):
            hint += ", and the lab seems to be down: inv lab.up"
        return HostsFailed(error.errors, hint=hint)

    def only(self, names: Sequence[str]) -> Run:
        """The same run for a cluster of these members alone."""
        return self.of([member for member in self.config.members if member.name in names])

    def of(self, members: Sequence[Member]) -> Run:
        """The same run for a cluster of ``members``, whom config.yaml need not have; close it on its own."""
        other = replace(self, _fleet=None, _base=self)
        other.__dict__["credentials"] = self.credentials
        other.__dict__["config"] = self.config.model_copy(update={"members": list(members)})
        return other

    def under(self, config: Config) -> Run:
        """The same run on the same hosts, for what ``config`` says."""
        part = replace(self, _fleet=self.fleet)
        part.__dict__["config"] = config
        return part

    def reconnect(self) -> None:
        """Hosts can be worked on again after Ctrl-C, which may have closed every connection for good."""
        if self._fleet is None or not self._fleet.closed:
            return
        self._fleet = None
        if self._base:
            self._base.reconnect()

    def close(self) -> None:
        """Close every connection."""
        if self._fleet is not None:
            self._fleet.close()


def asker() -> Callable[[str], str] | None:
    if not sys.stdin.isatty():
        return None
    from getpass import getpass

    return getpass
