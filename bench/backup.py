"""How fast are backup and restore? Against a floor measured in the same run, with a database of half a gigabyte.

    ./inv dev.bench --what=backup      # or: python bench/backup.py [ROUNDS]

backup: `inv backup` against `etcdctl snapshot save` on the host and `ssh cat` to a file.  restore: for how long nobody
can write, against stop, two renames and start by a parallel ssh script, with the restored data lying ready.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from deploy import Bench, seconds  # noqa: E402

from etcdops import layout  # noqa: E402
from etcdops.lab import demo  # noqa: E402

FLAGS = "--cacert=/etc/etcd/ssl/ca.pem --cert=/etc/etcd/ssl/server.pem --key=/etc/etcd/ssl/server-key.pem"
SIZE = 500 << 20  # bytes
FILL = """
value=$(head -c 7500 /dev/urandom | base64 -w0)
n=0
while [ $n -lt $1 ]; do
    {
        echo
        i=0
        while [ $i -lt 100 ]; do
            echo "put /fill/$n/$i \\"$value\\""
            i=$((i + 1))
        done
        echo
        echo
    } | etcdctl --endpoints=https://127.0.0.1:2379 FLAGS txn >/dev/null || exit 1
    n=$((n + 1))
done
""".replace("FLAGS", FLAGS)
WRITE = """
while :; do
    etcdctl --endpoints=ENDPOINTS --command-timeout=1s --dial-timeout=200ms FLAGS put /probe 1 >/dev/null 2>&1 &&
        { date +%s.%N || exit; } # nobody listens any more
    sleep 0.02
done
""".replace("FLAGS", FLAGS)
PREPARE = """set -e
rm -rf /var/lib/etcd/new /var/lib/etcd/old
etcdutl snapshot restore /root/floor.db --data-dir /var/lib/etcd/new --name {name} --initial-cluster {cluster} \
    --initial-cluster-token {token} --initial-advertise-peer-urls {url} >/dev/null 2>&1
chown -R etcd:etcd /var/lib/etcd/new
sed -i 's/^ETCD_INITIAL_CLUSTER_TOKEN=.*/ETCD_INITIAL_CLUSTER_TOKEN="{token}"/' /etc/etcd/etcd.conf
sync"""
SWAP = "mv /var/lib/etcd/default.etcd /var/lib/etcd/old && mv /var/lib/etcd/new /var/lib/etcd/default.etcd"


class Backups(Bench):
    """A lab of three hosts with a large database."""

    @property
    def names(self) -> list[str]:
        """Its members."""
        return [member.name for member in self.config.members]

    def fill(self) -> None:
        """As many keys as it takes."""
        self.ssh(self.names[0], f"set -- {SIZE // 1_000_000}\n{FILL}")

    def ssh(self, name: str, command: str) -> str:
        """The output of a command on a host."""
        argv = ["ssh", "-F", str(self._ssh), name, command]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout

    def all(self, command: str, *names: str) -> None:
        """A command on several hosts, side by side."""
        running = [subprocess.Popen(["ssh", "-F", self._ssh, name, command]) for name in names or self.names]
        if any(process.wait(300) for process in running):
            raise SystemExit(f"failed: {command}")

    def floor(self) -> None:
        """Save on the host, bring it here."""
        save = f"etcdctl --endpoints=https://127.0.0.1:2379 {FLAGS} snapshot save /root/floor.db >/dev/null 2>&1"
        self.ssh(self.names[1], save)
        with (self._folder / "floor.db").open("wb") as file:
            subprocess.run(["ssh", "-F", self._ssh, self.names[1], "cat /root/floor.db"], stdout=file, check=True)

    def backup(self) -> None:
        """The same, proven."""
        self._quiet([ROOT / "inv", "-f", demo.CONFIG, "backup"])

    def restore(self) -> None:
        """From what the first backup holds."""
        self._quiet([ROOT / "inv", "-f", demo.CONFIG, "restore", "latest", "--yes"])

    def prepare_floor(self) -> None:
        """The restored data beside the old, on every host."""
        with (self._folder / "floor.db").open("rb") as file:
            content = file.read()
        token = f"floor-{time.time():.0f}"
        cluster = ",".join(f"{each.name}={each.url('https', layout.PEER_PORT)}" for each in self.config.members)
        for member in self.config.members:
            subprocess.run(["ssh", "-F", self._ssh, member.name, "cat >/root/floor.db"], input=content, check=True)
            url = member.url("https", layout.PEER_PORT)
            self.ssh(member.name, PREPARE.format(name=member.name, cluster=cluster, token=token, url=url))

    def swap(self) -> None:
        """Stop (the leader last), two renames, start."""
        self.all("systemctl stop etcd", *self.names[1:])
        self.all("systemctl stop etcd", self.names[0])
        self.all(f"{SWAP} && systemctl start etcd")

    @contextmanager
    def writer(self) -> Iterator[list[float]]:
        """Writes to the cluster all the time; afterwards the list holds the longest time without a write."""
        endpoints = ",".join(member.url("https", layout.CLIENT_PORT) for member in self.config.members)
        argv = ["ssh", "-F", str(self._ssh), self.names[0], WRITE.replace("ENDPOINTS", endpoints)]
        gap: list[float] = []
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            time.sleep(1)  # a gap has writes before it
            yield gap
            time.sleep(1)  # and after it
            process.terminate()
            times = [float(line) for line in process.communicate()[0].split()]
        gap.append(max(late - early for early, late in itertools.pairwise(times)))


def main() -> None:
    """Print the medians, then each ratio beside its limit."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    os.environ.pop("ETCDOPS_CONFIG", None)
    with tempfile.TemporaryDirectory() as name:
        bench = Backups(Path(name), 3)
        bench.reset()
        bench.deploy()
        bench.fill()
        saved: list[float] = []
        backed: list[float] = []
        for _ in range(rounds):
            saved.append(seconds(bench.floor))
            backed.append(seconds(bench.backup))
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        bench.prepare_floor()
        with bench.writer() as floor:
            bench.swap()
        bench.deploy()  # the floor leaves the old incarnation's record
        with bench.writer() as gap:
            took = seconds(bench.restore)
        bench.reset()
    for what, values in (("save and ssh cat", saved), ("inv backup", backed)):
        print(f"{what:<17} {statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f})")
    print(f"backup / floor              {statistics.median(backed) / statistics.median(saved):5.2f}  (at most 1.15)")
    print(f"memory of any process here  {memory:5.0f} MiB (at most 200 MB)")
    print(f"without writes: floor {floor[0]:.2f} s, inv restore {gap[0]:.2f} s (of {took:.1f} s in all)")
    print(f"restore / floor             {gap[0] / floor[0]:5.2f}  (at most 1.3)")


if __name__ == "__main__":
    main()
