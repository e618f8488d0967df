"""How fast is the main job? Ratios against a floor measured in the same run, on the lab's hosts.

    ./inv dev.bench            # or: python bench/deploy.py [ROUNDS]

(a) floor.sh, a hand-tuned parallel ssh script; (b) `inv deploy` on fresh hosts; (c) `inv deploy` with nothing to do;
(d) `inv health` against the same etcdctl call over plain ssh; (e) what lock and record add: (c) less `inv deploy
--dry-run`, which has neither and looks at the same; (f) one look of the gate, over open connections.  But for (f)
whole processes, alternating, medians.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from etcdops import configfile, gate, layout  # noqa: E402
from etcdops.config import Config  # noqa: E402
from etcdops.lab import demo  # noqa: E402
from etcdops.run import Run  # noqa: E402

RESET = """systemctl stop etcd 2>/dev/null; systemctl disable --quiet etcd 2>/dev/null
rm -rf /etc/etcd /etc/systemd/system/etcd.service /etc/systemd/system/etcd.service.d /var/lib/etcd /opt/etcd
rm -f /usr/local/bin/etcd /usr/local/bin/etcdctl /usr/local/bin/etcdutl; userdel etcd 2>/dev/null
systemctl daemon-reload"""
HEALTH = (
    "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ssl/ca.pem --cert=/etc/etcd/ssl/server.pem "
    "--key=/etc/etcd/ssl/server-key.pem endpoint health -w json"
)


class Bench:
    """One lab of ``hosts`` hosts, and what is measured on it."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self._run = Run(demo.CONFIG)
        demo.open_lab(self._run).down()  # hosts that are not measured would take their part of this machine
        demo.up(self._run, hosts, "")
        demo.open_lab(self._run).write_config(*self._release(), hosts)
        self._run = Run(demo.CONFIG)
        self._folder = folder
        self.config: Config = configfile.load(demo.CONFIG)
        self._names = [member.name for member in self.config.members]
        self._ssh = folder / f"ssh_config.{hosts}"
        self._ssh.write_text("".join(self._host_block(member.name, member.address) for member in self.config.members))

    def prepare(self) -> None:
        """A first deploy; its result, taken from the hosts, is what the floor puts in place."""
        self.reset()
        self.deploy()
        for name in self._names:
            paths = f"{layout.CONF_DIR}/ssl {layout.CONF} {layout.UNIT}".replace(" /", " ").removeprefix("/")
            taken = subprocess.run(
                ["ssh", "-F", self._ssh, name, f"tar -cf - -C / {paths}"], stdout=subprocess.PIPE, check=True
            ).stdout
            (self._folder / f"{name}.tar").write_bytes(self._payload(taken))

    def floor(self) -> None:
        """(a)"""
        self._quiet([ROOT / "bench" / "floor.sh", self._ssh, self.config.cluster.version, self._folder, *self._names])

    def deploy(self) -> None:
        """(b) on fresh hosts, (c) with nothing to do."""
        self._quiet([ROOT / "inv", "-f", demo.CONFIG, "deploy"])

    def look(self) -> None:
        """(c) without lock and record."""
        self._quiet([ROOT / "inv", "-f", demo.CONFIG, "deploy", "--dry-run"])

    def gate(self) -> None:
        """(f)"""
        gate.pass_through(self._run)

    def health(self) -> None:
        """(d)"""
        self._quiet([ROOT / "inv", "-f", demo.CONFIG, "health"])

    def plain_health(self) -> None:
        """The floor of (d): every member asked by ssh, side by side."""
        running = [
            subprocess.Popen(["ssh", "-F", self._ssh, name, HEALTH], stdout=subprocess.DEVNULL) for name in self._names
        ]
        if any(process.wait(60) for process in running):
            raise SystemExit("etcdctl endpoint health over ssh failed")

    def reset(self) -> None:
        """Hosts as they were before the first deploy."""
        self._run.fleet.all(lambda host: host.run(RESET, check=False))

    def _release(self) -> tuple[str, Path]:
        old = configfile.load(demo.CONFIG)
        return old.cluster.version, Path(old.release.archive)

    def _host_block(self, name: str, address: str) -> str:
        return (
            f"Host {name}\n  HostName {address}\n  User root\n  IdentityFile {layout.LAB / 'id_ed25519'}\n"
            f"  UserKnownHostsFile {layout.LAB / 'known_hosts'}\n  Ciphers aes128-gcm@openssh.com\n  LogLevel ERROR\n"
        )

    def _payload(self, taken: bytes) -> bytes:
        """The host's files as a first start wants them, and the release."""
        archive = Path(self.config.release.archive)
        digest = subprocess.run(["sha256sum", archive], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]
        out = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(taken)) as old, tarfile.open(fileobj=out, mode="w") as new:
            for entry in old:
                content = old.extractfile(entry).read() if entry.isfile() else b""  # type: ignore[union-attr]
                content = content.replace(b'CLUSTER_STATE="existing"', b'CLUSTER_STATE="new"')
                entry.size = len(content)
                new.addfile(entry, io.BytesIO(content))
            new.add(archive, "opt/etcd/archive.tar.gz")
            sums = tarfile.TarInfo("opt/etcd/archive.sha256")
            text = f"{digest}  archive.tar.gz\n".encode()
            sums.size = len(text)
            new.addfile(sums, io.BytesIO(text))
        return out.getvalue()

    def _quiet(self, argv: Sequence[str | Path]) -> None:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}")


def seconds(work: Callable[[], None]) -> float:
    """How long ``work`` takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def measure(folder: Path, hosts: int, rounds: int) -> dict[str, float]:
    """The medians of ``rounds`` rounds on a lab of ``hosts`` hosts."""
    bench = Bench(folder, hosts)
    bench.prepare()
    bench.reset()
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, work, fresh in (
            ("floor", bench.floor, True),
            ("deploy", bench.deploy, True),
            ("deploy again", bench.deploy, False),
            ("dry run", bench.look, False),
            ("gate", bench.gate, False),
            ("ssh health", bench.plain_health, False),
            ("health", bench.health, False),
        ):
            if fresh:
                bench.reset()
            figures.setdefault(name, []).append(seconds(work))
    for name, values in figures.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{hosts} hosts  {name:<13} {statistics.median(values):6.2f} s  ({spread})", flush=True)
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> None:
    """Print the medians, then each ratio beside its limit."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    os.environ.pop("ETCDOPS_CONFIG", None)
    with tempfile.TemporaryDirectory() as name:
        three = measure(Path(name), 3, rounds)
        nine = measure(Path(name), 9, max(1, rounds // 2 + 1))
    growth = {key: nine[key] - three[key] for key in ("floor", "deploy")}
    print(f"deploy / floor              {three['deploy'] / three['floor']:5.2f}  (at most 1.5)")
    print(f"deploy with nothing to do   {three['deploy again']:5.2f} s (at most 1 s)")
    lock = three["deploy again"] - three["dry run"]
    parts = f"{lock:.2f} s and {three['gate']:.2f} s"
    print(f"lock and record, and a gate {lock + three['gate']:5.2f} s (at most 0.3 s; {parts})")
    print(f"health / etcdctl over ssh   {three['health'] / three['ssh health']:5.2f}  (at most 2)")
    print(
        f"growth from 3 to 9 hosts    {growth['deploy']:5.2f} s against {growth['floor']:.2f} s of the floor "
        f"(at most {growth['floor'] * 1.2:.2f} s)"
    )


if __name__ == "__main__":
    main()
