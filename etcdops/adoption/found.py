"""An etcd as a host shows it, whoever set it up: parsed from what files/strange.sh and files/adopt.sh tell."""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from etcdops import layout, report
from etcdops.adoption import told
from etcdops.adoption.told import Told
from etcdops.etcd import ClusterMember, View, parse_view

OURS = "ETCDOPS_STARTED_WITH"
PAIRS = {"server": ("cert-file", "key-file"), "peer": ("peer-cert-file", "peer-key-file")}


@dataclass(frozen=True)
class Process:
    """A running etcd, and the unit that runs it ('' in a container, or where a person started it).

    ``others`` are the names of its variables that are not etcd's; ``config`` is its configuration file's text.
    """

    pid: int
    executable: str
    user: str
    cwd: str
    service: str
    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    config: str | None = None
    unit: Mapping[str, str] = field(default_factory=dict)
    unit_text: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether this project set it up."""
        return OURS in self.environ

    def told(self, version: str = "") -> Told:
        """Its settings; ``version`` tells which variables it knows."""
        return told.read(self.argv, self.environ, self.config, version)

    def path(self, name: str) -> str:
        """A path of its settings as an absolute one, '' for none."""
        return posixpath.normpath(posixpath.join(self.cwd, name)) if name else ""

    def file(self, setting: str) -> str:
        """The path that a setting names."""
        return self.path(self.told().get(setting))

    @property
    def data_dir(self) -> str:
        """Where its data is; etcd's default is NAME.etcd where it was started."""
        settings = self.told()
        return self.path(settings.get("data-dir") or f"{settings.get('name', 'default')}.etcd")

    @property
    def wal_dir(self) -> str:
        """Where its write-ahead log is."""
        return self.file("wal-dir") or f"{self.data_dir}/member/wal"

    @property
    def places(self) -> list[str]:
        """What matters of where its data is, and is to be."""
        return list(dict.fromkeys([self.data_dir, layout.DATA_DIR, self.wal_dir, f"{self.data_dir}/member/wal"]))

    @property
    def client_url(self) -> str:
        """Where clients are told to reach it."""
        return self.told().get("advertise-client-urls", "http://localhost:2379").split(",")[0]

    @property
    def secure(self) -> str:
        """etcdctl's flags for its certificates, words that need no quoting."""
        flags = {"cacert": "trusted-ca-file", "cert": "cert-file", "key": "key-file"}
        tls = flags if self.client_url.startswith("https:") else {}
        return " ".join(f"--{flag}={path}" for flag, setting in tls.items() if (path := self.file(setting)))

    @property
    def files(self) -> list[str]:
        """The paths of its certificates and keys."""
        names = ["trusted-ca-file", "peer-trusted-ca-file", *PAIRS["server"], *PAIRS["peer"]]
        return list(dict.fromkeys(path for name in names if (path := self.file(name))))


@dataclass(frozen=True)
class Host:
    """What runs on one host, as SSH reaches it under ``address``; ``keys`` may be those of CAs."""

    address: str
    processes: tuple[Process, ...]
    etcdctl: str
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Place:
    """A folder for data: whether it holds a member's, its inode (or that of what is above it), and its device.

    ``device`` is that of the member's data where there is some.
    """

    holds: bool
    inode: str
    device: str


@dataclass(frozen=True)
class Found:
    """A member that runs on ``host``; ``links``: where symlinks in its places lead to."""

    host: str
    process: Process
    view: View
    etcdctl: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    places: Mapping[str, Place] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def member(self) -> ClusterMember | None:
        """Itself, as its cluster knows it."""
        status = self.view.status
        return next((each for each in self.view.members or () if status and each.id == status.member_id), None)

    @property
    def name(self) -> str:
        """Its name in the cluster; the host's address where that is not known."""
        return self.member.name if self.member and self.member.name else self.host

    @property
    def version(self) -> str:
        """Of the running process."""
        return self.view.status.version if self.view.status else ""

    @property
    def told(self) -> Told:
        """Its settings."""
        return self.process.told(self.version)

    @property
    def address(self) -> str:
        """The host of its peer URL."""
        return next((host_of(url) for url in (self.member.peer_urls if self.member else ())), "")

    def urls(self, setting: str) -> list[str]:
        """The URLs of a setting."""
        return [url for url in self.told.get(setting).split(",") if url]

    def pem(self, setting: str) -> bytes | None:
        """The content of the file that a setting names."""
        return self.files.get(self.process.file(setting))


def host_of(url: str) -> str:
    """The host of a URL, without brackets."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def parse_host(address: str, text: str) -> Host:
    """The answer of files/strange.sh."""
    rows = report.rows(text)
    processes = []
    for _, pid, exe, user, cwd, service in (row for row in rows if row[0] == "process"):
        of_it = [row for row in rows if len(row) > 1 and row[1] == pid]
        lines = report.decode(next((row[2] for row in of_it if row[0] == "environ"), "")).split("\n")
        config = next((row[2] for row in of_it if row[0] == "config"), None)
        argv = report.decode(next((row[2] for row in of_it if row[0] == "argv"), ""))
        processes.append(
            Process(
                pid=int(pid),
                executable=exe,
                user=user,
                cwd=cwd,
                service=service,
                argv=tuple(argv.split("\0")[:-1]),
                environ=dict(line.split("=", 1) for line in lines if line.startswith("ETCD") and "=" in line),
                others=tuple(line for line in lines if line and not line.startswith("ETCD")),
                config=None if config is None else report.decode(config),
                unit={row[2]: row[3] for row in of_it if row[0] == "unit"},
                unit_text=report.decode(next((row[2] for row in of_it if row[0] == "text"), "")),
            )
        )
    keys = {row[1]: base64.b64decode(row[2]) for row in rows if row[0] == "key"}
    return Host(address, tuple(processes), next((row[1] for row in rows if row[0] == "etcdctl"), ""), keys)


def parse_member(host: Host, process: Process, text: str) -> Found:
    """The answer of files/adopt.sh and etcd.sh."""
    rows = report.rows(text)
    devices = {row[1]: row[2] for row in rows if row[0] == "member"}
    places = {
        row[1]: Place(row[2] == "member", row[3], devices.get(row[1], row[3].split(":")[0]))
        for row in rows
        if row[0] == "data"
    }
    return Found(
        host=host.address,
        process=process,
        view=parse_view(report.texts(rows, "answer"), report.texts(rows, "complaint")),
        etcdctl=host.etcdctl,
        files={row[1]: base64.b64decode(row[2]) for row in rows if row[0] == "file"},
        places=places,
        links={row[1]: row[2] for row in rows if row[0] == "link"},
        keys=host.keys,
    )


def unit_lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each setting of a unit, as `systemctl cat` shows it with its drop-ins."""
    section = ""
    for line in re.sub(r"\\\n\s*", " ", text).split("\n"):
        line = line.strip()
        if re.fullmatch(r"\[\w+\]", line):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def agreed(found: Sequence[Found], setting: str) -> tuple[str, list[str]]:
    """The value that most members have of a setting, and the names of those that have another."""
    values = [each.told.get(setting) for each in found]
    most = max(dict.fromkeys(values), key=values.count)
    return most, [each.name for each, value in zip(found, values, strict=True) if value != most]
