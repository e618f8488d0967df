"""Three real hosts that belong to the tests, and ./inv on a project of theirs, as a real process.

The hosts stand in a network and a mount namespace of this pytest process, so that a lab that somebody works with on
this machine is never touched, and no packet leaves.  They are made when a test first asks and deleted at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcdops.lab import debian, image, network, packages
from etcdops.lab.lab import Lab
from etcdops.lab.machine import Machine
from etcdops.layout import ROOT
from tests.namespaces import Namespaces, outside

NAMES = ("etcd01", "etcd02", "etcd03")
VERSION = "3.6.16"
# One name: a session that was killed leaves hosts that the next one finds.  Another name, and two run side by side.
PLACE = Path(
    (os.environ.get("ETCDOPS_TESTS_PLACE") or "/var/lib/etcdops-lab-tests")
    + os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw", "-")
)
WAIT = 60.0  # seconds within which whatever a test waits for comes true, on a busy machine, too

# Whatever any test, or the project on its behalf, has left on a host.
BARE = r"""
rm -f /run/etcdops-hold
systemctl kill --signal=KILL etcd.service 2>/dev/null
systemctl stop etcd.service 'etcdops-*' 'test-*' 2>/dev/null
for path in /etc/etcd /opt /opt/etcd /var/lib/etcd /var/backups/etcd; do
    while umount -l $path 2>/dev/null; do :; done
done
rm -rf /etc/etcd /etc/systemd/system/etcd.service* /etc/systemd/system/multi-user.target.wants/etcd.service \
    /var/lib/etcd* /opt/.etcdops.* /opt/etcd* /usr/local/bin/* /usr/local/sbin/* /etc/sudoers.d/test* \
    /etc/systemd/system/etcdops-* /etc/systemd/system/timers.target.wants/etcdops-* /var/lib/systemd/timers/*etcdops-* \
    /usr/local/lib/etcdops /var/backups/etcd
userdel etcd 2>/dev/null
systemctl daemon-reload
systemctl reset-failed
! systemctl is-active --quiet etcd.service
"""

# Everything on a host that a deploy could touch, with the time of its last change, but for what etcd itself writes.
LISTING = r"""
find /etc /opt /usr/local /root /home /tmp /var/tmp /var/lib -xdev \
    \( -path /var/lib/systemd -o -path /var/lib/sudo -o -path '/tmp/systemd-private-*' -o -path /tmp \
    -o -path '/var/lib/etcd/*/member' \) -prune -o -printf '%p\t%y\t%M\t%U:%G\t%s\t%T@\t%l\n' | sort
systemctl show etcd.service --property=ActiveState,MainPID,UnitFileState,NRestarts,NeedDaemonReload
"""


@dataclass(frozen=True)
class Done:
    """What ./inv gave back; ``seconds`` is for a report, never for an assertion."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """Its results."""
        return self.stdout.splitlines()

    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.stdout)

    def ok(self) -> Done:
        """Itself, if it ended well."""
        assert self.code == 0, self
        return self

    def failed(self, code: int, *words: str) -> Done:
        """Itself, if it ended with ``code``, without a traceback, and ``words`` stand on its stderr."""
        assert self.code == code, self
        assert "Traceback" not in self.stderr, self
        for each in words:
            assert each in self.stderr, (each, self)
        return self


class Process:
    """./inv while it runs, in a process group of its own."""

    def __init__(self, argv: Sequence[str | Path], env: Mapping[str, str], stdin: bytes) -> None:
        self._began = time.monotonic()
        self._stdin = stdin
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it is read while the process runs
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            argv, env=env, stdin=pipe, stdout=pipe, stderr=self._stderr, start_new_session=True
        )

    def signal(self, number: signal.Signals) -> None:
        """To all of its process group, as a terminal does for Ctrl-C."""
        os.killpg(self._popen.pid, number)

    @property
    def complaints(self) -> str:
        """What it has said on its stderr by now."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def ends_within(self, seconds: float) -> bool:
        """Whether it is at its end after so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is not None

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def end(self, seconds: float = 120) -> Done:
        """Wait for it."""
        try:
            out, _ = self._popen.communicate(self._stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            out, _ = self._popen.communicate()
            raise AssertionError((f"did not end within {seconds} s", out.decode(), self.complaints)) from None
        text = (out.decode(errors="surrogateescape"), self.complaints)
        return Done(self._popen.returncode, *text, time.monotonic() - self._began)


class Hosts:
    """The hosts, and whose cluster is on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = Lab(folder / "lab", lambda text: None, PLACE)
        self.home = folder / "home"
        self.home.mkdir()
        self.cluster: Project | None = None  # one that tests share; None once the hosts have been bare
        self.begun: list[Process] = []  # that may be running still
        self._archives: dict[str, Path] = {}

    def enter(self) -> None:
        """Go into the namespaces, and have three hosts there."""
        prepare()
        self._namespaces = Namespaces()
        self.lab.down()  # of a session that was killed
        self.lab.up(len(NAMES))

    def leave(self) -> None:
        """Delete the hosts and go out again."""
        self.lab.down()
        self._namespaces.close()

    def archive(self, version: str) -> Path:
        """The archive of a release; made, where this machine has none, out where the mirrors are."""
        if version not in self._archives:
            with self.outside():
                self._archives[version] = packages.obtain(version, print)
        return self._archives[version]

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Out where this machine's network is."""
        self._namespaces.go_out()
        try:
            yield
        finally:
            self._namespaces.go_in()

    def pid(self, name: str) -> int:
        """The process number of a host's init out here: another one after each boot, 0 while it is off."""
        return next(each.pid for each in self.lab.status() if each.name == name)

    def sh(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a script on a host as root; not over SSH, so that it works on a host in whatever state."""
        pid = self.pid(name)
        assert pid, f"{name} is off"
        argv = ["nsenter", "--target", str(pid), "--all", "env", "-i", "-C", "/", f"PATH={os.defpath}:/usr/sbin:/sbin"]
        done = subprocess.run(
            [*argv, "sh", "-c", script], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0 or not check, (name, script, done)
        return done.stdout.strip()

    def firewall(self, name: str, rule: str) -> None:
        """Only this rule for what comes in on a host, in the words of nft; '' for none."""
        rules = "flush ruleset\n"
        if rule:
            rules += f"table inet test {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}\n"
        argv = ["nsenter", "--target", str(self.pid(name)), "--net", "nft", "-f", "-"]
        subprocess.run(argv, input=rules, text=True, check=True, timeout=60)

    def each(self, script: str, names: Sequence[str] = NAMES) -> dict[str, str]:
        """``sh`` on several hosts, side by side."""
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(lambda name: self.sh(name, script), names), strict=True))

    def put(self, name: str, path: str, text: str, mode: int = 0o755) -> None:
        """Write a file on a host."""
        self.sh(name, f"mkdir -p {Path(path).parent} && cat >{path} <<'END'\n{text}\nEND\nchmod {mode:o} {path}")

    @contextlib.contextmanager
    def more(self, count: int, releases: Sequence[str] = ()) -> Iterator[list[dict[str, Any]]]:
        """So many hosts for a while, bare beyond the third, of these Debian releases; the members section for all."""
        with self.outside():
            for each in releases:
                image.ensure(print, each)
        self.lab.up(count, releases)
        try:
            yield [{"name": f"etcd{n:02d}", "address": network.address(n)} for n in range(1, count + 1)]
        finally:
            for number in range(len(NAMES) + 1, count + 1):
                Machine(number, PLACE).remove()

    def bare(self) -> None:
        """Power and cables on, and nothing of etcd's on any host, nor any run at work that a failed test has left."""
        for each in self.begun:
            if each.runs:
                each.signal(signal.SIGKILL)
        self.cluster = None
        self.lab.up(len(NAMES))
        self.each(BARE)

    def listing(self) -> dict[str, str]:
        """What must not change on any host when a run refuses."""
        return self.each(LISTING)

    def eventually(self, check: Callable[[], object], seconds: float = WAIT) -> None:
        """Wait until ``check`` is true."""
        until = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < until, "did not come true"
            time.sleep(0.1)

    def hold(self, name: str, program: str, when: str = "true") -> Held:
        """Make ``program`` wait on this host, when it is called with arguments for which ``when`` holds."""
        self.put(
            name,
            f"/usr/local/sbin/{program}",
            f"#!/bin/sh\nreal=/usr/bin/{program}; [ -x $real ] || real=/usr/sbin/{program}\n"
            f"if {when} && [ -e /run/etcdops-hold ]; then\n"
            "  echo held >/run/etcdops-hold; n=0\n"
            "  while [ -e /run/etcdops-hold ] && [ $n -lt 1200 ]; do sleep 0.05; n=$((n + 1)); done\nfi\n"
            'exec $real "$@"',
        )
        self.sh(name, ": >/run/etcdops-hold")
        return Held(self, name)


@dataclass(frozen=True)
class Held:
    """A program on a host that waits to be let go."""

    hosts: Hosts
    name: str

    def reached(self, seconds: float = WAIT) -> None:
        """Wait until somebody has called it."""
        self.hosts.eventually(lambda: "held" in self.hosts.sh(self.name, "cat /run/etcdops-hold"), seconds)

    def release(self) -> None:
        """Let it go on, and hold nobody any more."""
        self.hosts.sh(self.name, "rm -f /run/etcdops-hold")


class Project:
    """A folder with a config.yaml for the hosts, where ./inv is run."""

    def __init__(
        self, hosts: Hosts, folder: Path, *, version: str = VERSION, tls: bool = True, **sections: Any
    ) -> None:
        self.hosts = hosts
        self.folder = folder
        self._state: dict[str, str] = {}
        self.env: dict[str, str] = {}  # for ./inv, beside what ``environment`` has
        self.config: dict[str, Any] = {
            "cluster": {"name": "test", "version": version, "tls": tls},
            "members": members(),
            "ssh": {
                "user": "root",
                "key": str(hosts.folder / "lab/id_ed25519"),
                "known_hosts": str(hosts.folder / "lab/known_hosts"),
                "host_keys": "strict",
                "connect_timeout": 2,
                "command_timeout": 30,
            },
            "release": {"archive": str(hosts.archive(version))},
        }
        for name, section in sections.items():
            self.config[name] = {**self.config.get(name, {}), **section} if isinstance(section, dict) else section
        self.write()

    def write(self) -> None:
        """config.yaml as ``config`` says; JSON is YAML."""
        (self.folder / "config.yaml").write_text(json.dumps(self.config, indent=2))

    @contextlib.contextmanager
    def changed(self, section: str, **values: Any) -> Iterator[None]:
        """config.yaml with other values in one section, for a while."""
        before = self.config[section]
        self.config[section] = {**before, **values}
        self.write()
        try:
            yield
        finally:
            self.config[section] = before
            self.write()

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the account that runs the tests: no agent, no ~/.ssh/config, no cache."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.hosts.home),
            "LANG": "C.UTF-8",
            "ETCDOPS_CONFIG": str(self.folder / "config.yaml"),
            **self.env,
        }

    def start(self, *words: str, stdin: bytes = b"") -> Process:
        """./inv, running."""
        process = Process([ROOT / "inv", *words], self.environment, stdin)
        self.hosts.begun = [*(each for each in self.hosts.begun if each.runs), process]
        return process

    def inv(self, *words: str, stdin: bytes = b"") -> Done:
        """./inv, from its start to its end."""
        return self.start(*words, stdin=stdin).end()

    def terminal(self, *words: str, answers: Mapping[str, str]) -> Done:
        """./inv in a terminal, where somebody answers each prompt once; all it shows is in ``stdout``."""
        began, waiting, seen = time.monotonic(), dict(answers), b""
        argv = [str(ROOT / "inv"), *words]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(argv[0], argv, self.environment)
        with contextlib.suppress(OSError):  # EIO: it has closed the terminal
            while time.monotonic() < began + 120:
                if select.select([terminal], [], [], 1)[0]:
                    if not (chunk := os.read(terminal, 65536)):
                        break
                    seen += chunk
                for prompt in [prompt for prompt in waiting if prompt.encode() in seen]:
                    os.write(terminal, f"{waiting.pop(prompt)}\n".encode())
            else:
                os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(terminal)
        assert not waiting, ("never asked", waiting, seen)
        return Done(code, seen.decode(errors="replace").replace("\r\n", "\n"), "", time.monotonic() - began)

    def refuses(self, code: int, *words: str, task: Sequence[str] = ("deploy",)) -> Done:
        """Run a task that must end with ``code`` and ``words``, and change nothing on any host that is on."""
        before = self.hosts.listing()
        files = self.files()
        done = self.inv(*task).failed(code, *words)
        assert self.hosts.listing() == before
        assert self.files() == files
        return done

    def files(self) -> list[Path]:
        """What is in the folder, but for the records of runs."""
        return sorted(path for path in self.folder.rglob("*") if ".etcdops" not in path.parts)

    def deployed(self) -> Project:
        """Itself, with its cluster on the hosts."""
        self.hosts.bare()
        self.inv("deploy").ok()
        self._state = self.state()
        return self

    def as_deployed(self) -> bool:
        """Whether the cluster runs with what ``deployed`` has put on the hosts."""
        powers = {machine.power for machine in self.hosts.lab.status()}
        return powers == {"on"} and self.state() == self._state

    def adopt(self) -> None:
        """What is on the hosts now, such as after a restore, is what tests share from here on."""
        self._state = self.state()

    def state(self) -> dict[str, str]:
        """What tells one healthy state of the hosts from another."""
        return self.hosts.each(
            "systemctl is-active etcd; readlink /opt/etcd/current; ls /usr/local/sbin; "
            "find /etc/etcd /etc/systemd/system/etcd.service* -type f -exec sha256sum {} + | sort"
        )

    def healthy(self) -> None:
        """The cluster is, and a key written through each member is read through every other."""
        scheme = "https" if self.config["cluster"]["tls"] else "http"
        mark = str(time.monotonic_ns())
        names = [member["name"] for member in self.config["members"]]
        endpoint = {each["name"]: f"{scheme}://{_bracketed(each['address'])}:2379" for each in self.config["members"]}
        self.inv("health").ok()
        etcdctl = "etcdctl"
        if self.config["cluster"]["tls"]:
            ssl = "/etc/etcd/ssl"
            etcdctl += f" --cacert={ssl}/ca.pem --cert={ssl}/client.pem --key={ssl}/client-key.pem"
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda n: self._etcdctl(n, f"{etcdctl} --endpoints={endpoint[n]} put /t/{n} {mark}"), names))
            read = pool.map(lambda n: self._etcdctl(n, f"{etcdctl} --endpoints={endpoint[n]} get --prefix /t/"), names)
        expected = "\n".join(line for name in sorted(names) for line in (f"/t/{name}", mark))
        assert dict(zip(names, read, strict=True)) == dict.fromkeys(names, expected)

    def etcdctl(self, name: str, words: str) -> str:
        """etcdctl on one host, through its own member."""
        flags = "--endpoints=http://127.0.0.1:2379"
        if self.config["cluster"]["tls"]:
            ssl = "/etc/etcd/ssl"
            flags = (
                f"--endpoints=https://127.0.0.1:2379 --cacert={ssl}/ca.pem --cert={ssl}/client.pem "
                f"--key={ssl}/client-key.pem"
            )
        return self._etcdctl(name, f"etcdctl {flags} {words}")

    def _etcdctl(self, name: str, command: str) -> str:
        return self.hosts.sh(name, f"PATH=/usr/local/bin:$PATH ETCDCTL_API=3 {command}")


def members(*names: str, ipv6: bool = False) -> list[dict[str, Any]]:
    """The members section of a config.yaml for these hosts, or for all."""
    address = network.address6 if ipv6 else network.address
    return [{"name": name, "address": address(NAMES.index(name) + 1)} for name in names or NAMES]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def prepare() -> None:
    """What a lab needs of this machine."""
    with mirrors():
        debian.install_missing(print, {"nft": "nftables"})
        image.ensure(print, debian.release().codename)


def install(packages: Sequence[str]) -> None:
    """Packages of this machine's Debian, unless all of them are here."""
    with mirrors():
        argv = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ", *packages]
        states = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.split()
        if states != ["installed"] * len(packages):
            debian.install(packages, print)


@contextlib.contextmanager
def mirrors() -> Iterator[None]:
    """Out where the package mirrors are, and one at a time, for apt's sake."""
    with outside(), Path("/run/etcdops-lab-prepare.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def real(folder: Path) -> Iterator[Hosts]:
    """The hosts of this session; another session of the same machine waits for its turn."""
    with Path(f"{PLACE}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        entered = Hosts(folder)
        entered.enter()
        try:
            yield entered
        finally:
            entered.leave()
