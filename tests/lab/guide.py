"""A cluster as somebody builds it who follows the guide: its paths, its cfssl certificates, its root-run unit."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.hosts import NAMES, Hosts, members

ADDRESS = {each["name"]: each["address"] for each in members()}
CERT = "root/kubernetes/resources/cert/etcd"  # on the first host
ALL = [*ADDRESS.values()]

CA_CONFIG = """{
  "signing": {
    "default": {
      "expiry": "87600h"
    },
    "profiles": {
      "etcd": {
         "expiry": "87600h",
         "usages": [
            "signing",
            "key encipherment",
            "server auth",
            "client auth"
        ]
      }
    }
  }
}
"""
NAME = {"key": {"algo": "rsa", "size": 2048}, "names": [{"C": "CN", "L": "Hunan", "ST": "Changsha"}]}

# Word for word, but for the addresses.
CONF = """[Member]
ETCD_NAME="{name}"
ETCD_DATA_DIR="/var/lib/etcd/default.etcd"
ETCD_LISTEN_PEER_URLS="{scheme}://{address}:2380"
ETCD_LISTEN_CLIENT_URLS="{scheme}://{address}:2379,{scheme}://127.0.0.1:2379"

[Clustering]
ETCD_INITIAL_ADVERTISE_PEER_URLS="{scheme}://{address}:2380"
ETCD_ADVERTISE_CLIENT_URLS="{scheme}://{address}:2379"
ETCD_INITIAL_CLUSTER="{cluster}"
ETCD_INITIAL_CLUSTER_TOKEN="etcd-cluster"
ETCD_INITIAL_CLUSTER_STATE="new"
"""
TLS_FLAGS = """ \\
        --cert-file=/etc/etcd/ssl/server.pem \\
        --key-file=/etc/etcd/ssl/server-key.pem \\
        --peer-cert-file=/etc/etcd/ssl/server.pem \\
        --peer-key-file=/etc/etcd/ssl/server-key.pem \\
        --trusted-ca-file=/etc/etcd/ssl/ca.pem \\
        --peer-trusted-ca-file=/etc/etcd/ssl/ca.pem"""
UNIT = """[Unit]
Description=Etcd Server
After=network.target
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
EnvironmentFile=/etc/etcd/etcd.conf
ExecStart=/usr/bin/etcd{flags}
Restart=on-failure
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

# What the guide puts where the tests' own cleaning does not look.
CLEAN = r"""
systemctl disable --now etcd member 2>/dev/null
rm -rf /usr/bin/etcd /usr/bin/etcdctl /usr/bin/etcdutl /usr/lib/systemd/system/etcd.service /root/kubernetes /data
rm -rf /etc/systemd/system/member.service /etc/pki-of-etcd /etc/etcd-cluster.yaml
systemctl daemon-reload
true
"""


def root(hosts: Hosts, name: str) -> Path:
    """The file system of a host, from out here."""
    return Path(f"/proc/{hosts.pid(name)}/root")


def programs(hosts: Hosts, version: str, folder: str = "usr/bin") -> None:
    """The guide's tar xf and cp, on every host."""
    with tarfile.open(hosts.archive(version)) as tar:
        for name in NAMES:
            target = root(hosts, name) / folder
            target.mkdir(parents=True, exist_ok=True)
            for entry in tar.getmembers():
                if entry.isfile() and Path(entry.name).name in {"etcd", "etcdctl", "etcdutl"}:
                    source = tar.extractfile(entry)
                    assert source
                    with (target / Path(entry.name).name).open("wb") as file:
                        shutil.copyfileobj(source, file)
                    (target / Path(entry.name).name).chmod(0o755)


def certificates(hosts: Hosts, ssl: str = "etc/etcd/ssl") -> None:
    """The guide's cfssl steps, in the folder that it names on the first host, and its scp."""
    place = root(hosts, NAMES[0]) / CERT
    place.mkdir(parents=True)
    (place / "ca-config.json").write_text(CA_CONFIG)
    (place / "ca-csr.json").write_text(json.dumps({"CN": "etcd ca", **NAME}))
    (place / "server-csr.json").write_text(json.dumps({"CN": "etcd", "hosts": ALL, **NAME}))
    sign = "cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json -profile=etcd server-csr.json"
    for line in ("cfssl gencert -initca ca-csr.json | cfssljson -bare ca", f"{sign} | cfssljson -bare server"):
        subprocess.run(["sh", "-ec", line], cwd=place, check=True, capture_output=True, timeout=60)
    for name in NAMES:
        target = root(hosts, name) / ssl
        target.mkdir(parents=True, exist_ok=True)
        for file in ("ca.pem", "server-key.pem", "server.pem"):
            shutil.copy(place / file, target / file)


def configuration(hosts: Hosts, *, tls: bool = True, extra: str = "") -> None:
    """The guide's etcd.conf and etcd.service; ``extra`` lines go to the end of etcd.conf."""
    scheme = "https" if tls else "http"
    cluster = ",".join(f"{name}={scheme}://{ADDRESS[name]}:2380" for name in NAMES)
    for name in NAMES:
        conf = CONF.format(name=name, scheme=scheme, address=ADDRESS[name], cluster=cluster)
        hosts.put(name, "/etc/etcd/etcd.conf", conf + extra, 0o644)
        unit = UNIT.format(flags=TLS_FLAGS if tls else "")
        hosts.put(name, "/usr/lib/systemd/system/etcd.service", unit, 0o644)
    hosts.each("mkdir -p /var/lib/etcd")


def start(hosts: Hosts, unit: str = "etcd.service") -> None:
    """The guide's daemon-reload, start and enable, and its check."""
    hosts.each(f"systemctl daemon-reload && systemctl start {unit} && systemctl enable --quiet {unit}")


def build(hosts: Hosts, version: str, *, tls: bool = True, extra: str = "") -> None:
    """The whole guide."""
    hosts.each("mkdir -p /etc/etcd/ssl")
    programs(hosts, version)
    if tls:
        certificates(hosts)
    configuration(hosts, tls=tls, extra=extra)
    start(hosts)


def client(hosts: Hosts, folder: Path, *, tls: bool = True, ssl: str = "etc/etcd/ssl") -> Any:
    """What ``Writer`` needs: a client's certificates, and where the members are."""
    pki = folder / "pki"
    pki.mkdir(parents=True)
    if tls:
        there = root(hosts, NAMES[0]) / ssl
        for old, new in (("ca", "ca"), ("server", "client"), ("server-key", "client-key")):
            shutil.copy(there / f"{old}.pem", pki / f"{new}.pem")
    return SimpleNamespace(hosts=hosts, folder=folder, config={"members": members(), "cluster": {"tls": tls}})


# Not the guide's way, but another that people have: a configuration file, own places, an own unit and user.
FILE = """name: {name}
data-dir: /data/etcd
listen-peer-urls: https://{address}:2380
listen-client-urls: https://{address}:2379
initial-advertise-peer-urls: https://{address}:2380
advertise-client-urls: https://{address}:2379
initial-cluster: {cluster}
snapshot-count: 20000
log-outputs: [/data/etcd.log]
client-transport-security: {tls}
peer-transport-security: {tls}
"""
PKI = "/etc/pki-of-etcd"
TLS_SECTION = (
    f"{{cert-file: {PKI}/server.pem, key-file: {PKI}/server-key.pem, trusted-ca-file: {PKI}/ca.pem, "
    "client-cert-auth: true}"
)
OTHER_UNIT = """[Service]
Type=notify
User=daemon
ExecStartPre=/bin/true
ExecStart=/usr/local/bin/etcd --config-file /etc/etcd-cluster.yaml
MemoryMax=2G
[Install]
WantedBy=multi-user.target
"""


def build_otherwise(hosts: Hosts, version: str) -> None:
    """Another way, and the CA's key on no host."""
    programs(hosts, version, "usr/local/bin")
    certificates(hosts, PKI.lstrip("/"))
    cluster = ",".join(f"{name}=https://{ADDRESS[name]}:2380" for name in NAMES)
    for name in NAMES:
        file = FILE.format(name=name, address=ADDRESS[name], cluster=cluster, tls=TLS_SECTION)
        hosts.put(name, "/etc/etcd-cluster.yaml", file, 0o644)
        hosts.put(name, "/etc/systemd/system/member.service", OTHER_UNIT, 0o644)
    hosts.each(f"install -d -o daemon /data /data/etcd; chown -R daemon {PKI}; rm -rf /root/kubernetes")
    start(hosts, "member.service")
