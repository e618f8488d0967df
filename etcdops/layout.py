"""Where everything lives on a host: the guide's places, and ours where the guide's way is a hazard.

docs/guide.md says what differs from the guide, and why.
"""

from __future__ import annotations

import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of this project, on the controller
FILES = ROOT / "files"
TEMPLATES = ROOT / "templates"
LAB = ROOT / "lab"  # what belongs to the lab on this machine: key, known hosts, config.yaml

USER = "etcd"
CONF_DIR = "/etc/etcd"
CONF = f"{CONF_DIR}/etcd.conf"
IDENTITY = f"{CONF_DIR}/identity.json"  # off the data disk: a lost disk must not take it along
ADOPTED = f"{CONF_DIR}/adopted.conf"  # what `inv adopt` found, until deploy has taken it over
SSL_DIR = f"{CONF_DIR}/ssl"
CLIENT_CA = f"{SSL_DIR}/ca.pem"
PEER_CA = f"{SSL_DIR}/peer-ca.pem"
TRUST = f"{SSL_DIR}/trust.env"  # which CAs stand in the two files, for the environment of the process
SERVER = f"{SSL_DIR}/server.pem"
SERVER_KEY = f"{SSL_DIR}/server-key.pem"
CLIENT = f"{SSL_DIR}/client.pem"
CLIENT_KEY = f"{SSL_DIR}/client-key.pem"
PEER = f"{SSL_DIR}/peer.pem"
PEER_KEY = f"{SSL_DIR}/peer-key.pem"

UNITS = "/etc/systemd/system"
SERVICE = "etcd.service"
UNIT = f"{UNITS}/{SERVICE}"

LIBRARY = "/usr/local/lib/etcdops"
BACKUP = f"{LIBRARY}/backup"  # the program behind the two units below
BACKUP_SERVICE = f"{UNITS}/etcdops-backup.service"
BACKUP_TIMER = f"{UNITS}/etcdops-backup.timer"

STATE_DIR = "/var/lib/etcd"
DATA_DIR = f"{STATE_DIR}/default.etcd"
WAL_DIR = f"{DATA_DIR}/member/wal"
RESTORING = f"{STATE_DIR}/restoring"  # bars etcd from starting while a restore swaps the data; its id stands in it
RECOVERY = "recover"  # stands in it while inv recover saves what a survivor holds

RELEASES = "/opt/etcd"  # one folder per version
CURRENT = f"{RELEASES}/current"  # the symlink that an upgrade swaps
BIN_DIR = "/usr/local/bin"
HELPERS = {"prelude", "client"}  # scripts that do nothing by themselves
PROGRAMS = ("etcd", "etcdctl", "etcdutl")

CLIENT_PORT = 2379
PEER_PORT = 2380


@functools.cache
def _scripts() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FILES.glob("*.sh"))}


def called(script: str) -> str:
    """What a script does: which of files/ it is made of, as in ``host+etcd``, else the first line of its own."""
    known = {name: script.index(text) for name, text in _scripts().items() if text in script}
    names = sorted(known.keys() - HELPERS, key=known.__getitem__)
    for name in known:
        script = script.replace(_scripts()[name], "")
    lines = (line.strip() for line in script.splitlines())
    return "+".join(names) or next((line for line in lines if line and not line.startswith("#")), "")[:80]


def script(*names: str) -> str:
    """The shell scripts ``names`` of files/, one after the other, as one program."""
    return "\n".join((FILES / f"{name}.sh").read_text(encoding="utf-8") for name in names)
