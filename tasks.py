"""The steps of the etcd cluster guide as tasks: this file is their table of contents.

Each task is its flags, its help and one call; what it does stands in etcdops/steps/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.exceptions import Exit

from etcdops import dev, lab, pictures, steps
from etcdops.cli import task

if TYPE_CHECKING:
    from etcdops.run import Run

MAX_GAP = 5.0  # seconds
WATCHED = {
    "canary": "Write through the cluster meanwhile, and report what clients notice.",
    "max_gap": "Stop between two members once writes have waited so long [5 seconds]",
}

HEX = "Keys stand in hexadecimal, here and in the result; in JSON the value, too."


@task("dry_run")
def gen_ca(run: Run) -> None:
    """Make the certificate authorities; keep what is there.

    One for clients (ca.pem) and one for peers (peer-ca.pem), in pki.dir. Put a CA of your own there (ca.pem and
    ca-key.pem, such as cfssl's) and it is used for both. No host is touched.
    """
    steps.certificates.gen_ca(run)


@task("dry_run")
def gen_server_cert(run: Run) -> None:
    """Make and sign the members' certificates; keep valid ones.

    A server and a peer certificate for each member, and a client certificate for the operator, in pki.dir.
    """
    steps.certificates.gen_server_cert(run)


@task("dry_run")
def install(run: Run) -> None:
    """Put the etcd release on every host.

    Downloads the archive of cluster.version (or takes release.archive), checks its SHA-256 and unpacks it to
    /opt/etcd/VERSION; the commands in /usr/local/bin follow. A running member goes on with what it has.
    """
    steps.deploy.install(run)


@task("dry_run")
def distribute(run: Run) -> None:
    """Copy certificates to every host.

    Each host gets its own pairs and the CA certificates; missing ones are made first. Running members take renewed
    pairs up at once, without a restart.
    """
    steps.deploy.distribute(run)


@task("dry_run")
def configure(run: Run) -> None:
    """Write etcd.conf and etcd.service on every host.

    A running member goes on with the old configuration until it is restarted.
    """
    steps.deploy.configure(run)


@task("dry_run")
def start(run: Run) -> None:
    """Start etcd on every host, at boot too.

    All members side by side, then waits until the cluster is healthy.
    """
    steps.deploy.start(run)


@task("dry_run", "yes")
def stop(run: Run) -> None:
    """Stop etcd on every host (the cluster is down then)."""
    steps.service.stop(run)


@task("dry_run", "json", help=WATCHED)
def restart(run: Run, canary: bool = False, max_gap: float = MAX_GAP) -> None:
    """Restart the members one at a time, the leader last.

    Each only while the others keep a quorum; a leader hands over first. Ends when every member is healthy again.
    """
    run.watch(canary, max_gap)
    steps.restart.restart(run)


@task("dry_run", help=WATCHED)
def deploy(run: Run, canary: bool = False, max_gap: float = MAX_GAP) -> None:
    """Install or converge the whole cluster; safe to repeat.

    gen-ca, gen-server-cert, install, distribute, configure and start in one run. Looks at every host first and
    refuses when anything is unsafe; does only what is not yet so; restarts members that run with something old one
    at a time, the leader last.
    """
    run.watch(canary, max_gap)
    steps.deploy.deploy(run)


ANOTHER = {
    "to": "The release, as in --to=3.6.16",
    "plan": "Say by which stops, what changes and which way leads back; do nothing.",
    **WATCHED,
}


@task("dry_run", "json", help=ANOTHER)
def upgrade(run: Run, to: str, plan: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """Another release on every member, one at a time.

    By way of each minor between, with its settings translated and a backup first. Asks the new etcd on every host
    before any member stops; one that does not come back gets its old release again, and the run ends there. Then
    config.yaml says the new version. A canary writes meanwhile; --no-canary goes without.
    """
    run.watch(canary, max_gap)
    steps.upgrade.upgrade(run, to, plan=plan)


@task("dry_run", "json", help=ANOTHER)
def downgrade(run: Run, to: str, plan: bool = False, canary: bool = True, max_gap: float = MAX_GAP) -> None:
    """An older release: another patch, 3.7 to 3.6, 3.6 to 3.5.

    The same as upgrade, the other way. From 3.5 to 3.4 etcd has no way back but a backup.
    """
    run.watch(canary, max_gap)
    steps.upgrade.downgrade(run, to, plan=plan)


@task(
    "dry_run",
    "json",
    help={
        "hosts": "One of its hosts, or all, as in: a,b,c [those of config.yaml]",
        "name": "Of the cluster [its token]",
    },
)
def adopt(run: Run, hosts: str = "", name: str = "") -> None:
    """Take over a cluster that was built by hand; no stop.

    Reads how it runs, writes config.yaml, places its CA and keys in pki.dir as far as they can be had, and leaves a
    record on each host. Nothing that runs is touched: the first deploy takes the members over, one at a time.
    Says what it leaves behind, and what deploy will change.
    """
    steps.adopt.adopt(run, hosts, name)


@task("json")
def health(run: Run) -> None:
    """Can every member commit? A table; exit 5 when not."""
    steps.health.health(run)


@task("json")
def status(run: Run) -> None:
    """Role, version, size, lag, alarms, certificate days left."""
    steps.health.status(run)


@task("json")
def members(run: Run) -> None:
    """The members as the cluster itself knows them."""
    steps.health.members(run)


@task("json")
def doctor(run: Run) -> None:
    """Everything that an expert would look at; exit 5.

    Members and what they agree on, configuration and releases against what runs, alarms, space, disks, network,
    clocks, certificates on disk and as served, start at boot, backups: each in a line, with what to do. Always
    answers, whatever is down; changes nothing.
    """
    steps.doctor.doctor(run)


@task("json")
def check(run: Run) -> None:
    """Are the hosts fit for a cluster? Before deploy; exit 5.

    Machine, names, clocks, space, ports, who reaches whom, the disk's speed (a trial file of half a megabyte, removed
    again), accounts, the release and the certificates here. All that deploy would refuse, and more.
    """
    steps.doctor.check(run)


@task("dry_run", help={"to": "The member that is to lead [the voter that is furthest]"})
def move_leader(run: Run, to: str = "") -> None:
    """Hand the lead to another member."""
    steps.leader.move_leader(run, to)


@task(
    "dry_run",
    "yes",
    bare=["name"],
    help={
        "name": "The new member, as in: inv add-member etcd04 --address=192.168.40.103",
        "address": "Its address [that in config.yaml, if it stands there already]",
        "ssh": "How to reach its host, where the address does not",
    },
)
def add_member(run: Run, name: str, address: str = "", ssh: str = "") -> None:
    """Bring a new member into the running cluster.

    Checks its host, prepares it, adds it as a learner, and gives it a vote once it is in sync; only then config.yaml
    and the other hosts' etcd.conf get it. If anything fails before, or on Ctrl-C, the cluster is as it was. Finishes
    what an attempt has left that was cut short.
    """
    steps.add.add_member(run, name, address, ssh)


@task("dry_run", "yes", bare=["name"], help={"name": "Its name, as in: inv remove-member etcd03; or its id or address"})
def remove_member(run: Run, name: str) -> None:
    """Take a member out of the cluster for good.

    Refuses what would cost the quorum. Hands the lead over first, removes the member, stops etcd on its host, sets
    the data aside there and removes what could start it again; then config.yaml and the other hosts' etcd.conf lose
    it. Works when its host is dead. After a run that was killed: the same command again.
    """
    steps.remove.remove_member(run, name)


@task(
    "dry_run",
    "yes",
    bare=["old"],
    help={
        "old": "The member that is lost, as in: inv replace-member etcd02",
        "with": "The name of the new one [the same]",
        "address": "Its address [the same]",
        "ssh": "How to reach its host, where the address does not",
    },
)
def replace_member(run: Run, old: str, with_: str = "", address: str = "", ssh: str = "") -> None:
    """Put a new member in the place of a lost one.

    For a dead host, a dead disk or a wiped data directory. The new host is checked first; then the old member leaves,
    and the new one joins as a learner, with an identity of its own, and gets a vote once it is in sync. After a run
    that was killed: the same command again.
    """
    steps.replace.replace_member(run, old, with_, address, ssh)


@task(
    "dry_run",
    "yes",
    bare=["name"],
    help={
        "name": "The member, as in: inv move-member etcd02 --address=192.168.40.120",
        "address": "The address that its host has now",
    },
)
def move_member(run: Run, name: str, address: str) -> None:
    """Follow a member whose host has a new address.

    With its data intact: the member list, its certificates, its configuration, the other hosts' etcd.conf and
    config.yaml get the new address, and it is restarted.
    """
    steps.move.move_member(run, name, address)


@task(
    "dry_run",
    help={"member": "Only this one [all]", "force": "Also where it is not worth it."},
)
def defrag(run: Run, member: str = "", force: bool = False) -> None:
    """Give unused space of the databases back, member by member.

    The leader last, and after it has handed over. Each serves nobody meanwhile: done where less than half is in use
    and more than 100 MiB can be freed. The next one begins when the last one answers.
    """
    steps.defrag.defrag(run, member, force=force)


@task("dry_run", help={"keep": "How many revisions stay [1000]"})
def compact(run: Run, keep: int = 1000) -> None:
    """Drop old revisions of the keys; the keys stay.

    A watcher that is further behind has to read anew. The databases get no smaller by it: defrag gives the space back.
    """
    steps.compact.compact(run, keep)


@task("json")
def alarms(run: Run) -> None:
    """Which alarms are raised, and by which members; exit 5."""
    steps.alarms.alarms(run)


@task("dry_run")
def space(run: Run) -> None:
    """What the databases take; the way out of NOSPACE.

    Where that alarm is raised: a backup, all history dropped, every database defragmented; and if there is room then,
    the alarm is ended, and every member takes a write. Never touches CORRUPT.
    """
    steps.space.space(run)


@task("json")
def check_data(run: Run) -> None:
    """Do all members hold the same? Compares hashes; exit 5."""
    steps.data.check_data(run)


@task("dry_run", "yes")
def auth_enable(run: Run) -> None:
    """Turn authentication (users and roles) on, and lock nobody out.

    Makes root and the user of the tasks, turns it on, proves on every member that the tasks are let in, and turns it
    off again if not. Refuses what would lock them out.
    """
    steps.auth.auth_enable(run)


@task("dry_run", "yes")
def auth_disable(run: Run) -> None:
    """Turn authentication off; users and roles stay."""
    steps.auth.auth_disable(run)


@task(
    "json",
    help={
        "prefix": "Only keys that begin with this [all]",
        "limit": "At most so many; 0: all [100]",
        "after": "From the key that follows this one: the next page",
        "hex": HEX,
    },
)
def keys(run: Run, prefix: str = "", limit: int = 100, after: str = "", hex: bool = False) -> None:
    """List the names of keys."""
    steps.keys.keys(run, prefix, limit, after, in_hex=hex)


@task("json", bare=["key"], help={"key": "The key, as in: inv get /school/class/name", "hex": HEX})
def get(run: Run, key: str, hex: bool = False) -> None:
    """Print the value of a key."""
    steps.keys.get(run, key, in_hex=hex)


@task(
    "json",
    bare=["key", "value"],
    help={"key": "The key", "value": "Its value; - reads it from standard input", "hex": HEX},
)
def put(run: Run, key: str, value: str, hex: bool = False) -> None:
    """Set a key: inv put /school/class/name helios."""
    steps.keys.put(run, key, value, in_hex=hex)


@task("json", bare=["key"], name="del", help={"key": "The key", "hex": HEX})
def del_(run: Run, key: str, hex: bool = False) -> None:
    """Delete a key."""
    steps.keys.delete(run, key, in_hex=hex)


@task(words=True)
def etcdctl(run: Run) -> None:
    """Run any etcdctl command: inv etcdctl -- member list.

    On the first host that answers, with the endpoints of all members and the certificates filled in. Output and exit
    code are etcdctl's.
    """
    code = steps.keys.etcdctl(run)
    if code:
        raise Exit(code=code)


@task("json")
def backup(run: Run) -> None:
    """Take a snapshot and prove it; safe in cron.

    From a healthy member, checked there and here, with a manifest beside it, in backup.dir (or the store that
    config.yaml names). Then backup.keep decides which old ones go. A failed attempt leaves nothing behind.
    """
    steps.backup.backup(run)


@task(
    "dry_run",
    "yes",
    bare=["snapshot"],
    help={
        "snapshot": "A file, the name of a backup, or latest",
        "raw": "It is a member/snap/db from a dead member's disk, whose content nothing vouches for.",
        "of_cluster": "The cluster that it is of, where that is not this one",
    },
)
def restore(run: Run, snapshot: str, raw: bool = False, of_cluster: str = "") -> None:
    """Restore the whole cluster from a backup, or nothing.

    Proves it, restores it on every host beside the old data, takes a last snapshot, and only then stops the cluster,
    swaps the data and starts it. If anything fails, the old data is put back and the old cluster started. Works on
    fresh hosts, too. The old data is set aside, not deleted. After a run that was killed: the same command again, or
    restore-undo.
    """
    steps.restore.restore(run, snapshot, raw=raw, of_cluster=of_cluster)


@task("dry_run", "yes")
def restore_undo(run: Run) -> None:
    """Put the old data back where a restore was cut short."""
    steps.restore.undo(run)


@task("dry_run", "yes")
def recover(run: Run) -> None:
    """Quorum lost for good: a new cluster of what survived.

    Needs no backup. Stops the survivors, saves what each holds (its write-ahead log included), and restores the
    furthest of them on all hosts that can be reached. Refuses while a quorum is there or can be had.
    """
    steps.recover.recover(run)


@task("json", name="list", help={"set_aside": "The data that restores have set aside on the hosts instead"})
def snapshot_list(run: Run, set_aside: bool = False) -> None:
    """List the backups in the store, newest first."""
    if set_aside:
        steps.aside.list_(run)
    else:
        steps.snapshots.list_(run)


@task("dry_run", "yes", bare=["name"], help={"name": "As snapshot.list --set-aside shows it"})
def drop(run: Run, name: str) -> None:
    """Delete data that a restore has set aside."""
    steps.aside.drop(run, name)


@task(
    "json",
    bare=["snapshot"],
    name="verify",
    help={
        "snapshot": "A file, the name of a backup, or latest",
        "drill": "Restore it into a throw-away etcd, too, and compare what it holds.",
    },
)
def snapshot_verify(run: Run, snapshot: str, drill: bool = False) -> None:
    """Prove a backup from its bytes; changes nothing.

    Its SHA-256, every page of the database in it, and that it is the one that its manifest describes.
    """
    steps.snapshots.verify(run, snapshot, steps.drill.drill if drill else None)


@task("dry_run")
def prune(run: Run) -> None:
    """Delete the backups that backup.keep lets go.

    Never the newest, never one that is not whole, never another cluster's, and nothing that no backup put there.
    """
    steps.snapshots.prune(run)


@task("dry_run")
def schedule(run: Run) -> None:
    """Have the members make backups, in turn, on a timer.

    A systemd timer on every host, as backup.schedule in config.yaml says. The members take turns; the leader stands
    in for one that does not answer. `inv status` shows the newest.
    """
    steps.schedule.schedule(run)


@task("dry_run")
def unschedule(run: Run) -> None:
    """Stop that; the backups stay on the hosts."""
    steps.schedule.unschedule(run)


@task(help={"hosts": "How many hosts, 1 to 99 [3]"})
def up(run: Run, hosts: int = 3) -> None:
    """Start real Debian hosts on this machine (containers; root).

    etcd01, etcd02 ... at 198.18.40.101 and up, with systemd and sshd, on a bridge without a way out. Installs what it
    needs by apt, builds the image once, and writes lab/config.yaml.
    """
    lab.demo.up(run, hosts)


@task()
def down(run: Run) -> None:
    """Delete the lab's hosts; the base image stays."""
    lab.demo.down(run)


@task("json", name="status")
def lab_status(run: Run) -> None:
    """Which lab hosts are on, off or cut off."""
    lab.demo.status(run)


@task()
def demo(run: Run) -> None:
    """From nothing to a cluster, a key and a backup."""
    lab.demo.demo(run)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def off(run: Run, name: str) -> None:
    """Cut the power of a lab host."""
    lab.demo.off(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def on(run: Run, name: str) -> None:
    """Power a lab host on."""
    lab.demo.on(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def cut(run: Run, name: str) -> None:
    """Pull the network cable of a lab host."""
    lab.demo.cut(run, name)


@task(bare=["name"], help={"name": "The host, such as etcd02"})
def heal(run: Run, name: str) -> None:
    """Plug the network cable of a lab host in again."""
    lab.demo.heal(run, name)


@task(words=True)
def verify(run: Run) -> None:
    """Check every host from outside: files, ports, TLS; changes nothing.

    Files, modes, owners, the unit, listening addresses, the certificates served, and that no stranger is let in; with
    pytest-testinfra, on the members of config.yaml. Needs OpenSSH's ssh and, for a user other than root, sudo without
    a password. Words after -- are pytest's.
    """
    dev.verify(run)


@task(words=True, help={"tier": "One: lint, unit, ssh, stores, cli, lab, infra, chaos [all but chaos]"})
def test(run: Run, tier: str = "") -> None:
    """Run the tests, fast to slow; lab and infra need root.

    Words after -- are pytest's: inv test --tier=unit -- -x -k backup
    """
    dev.test(run, tier)


@task(help={"upgrade": "Take the newest releases that pyproject.toml allows."})
def lock(run: Run, upgrade: bool = False) -> None:
    """Write the lock files anew from pyproject.toml (needs uv)."""
    dev.lock(run, upgrade)


@task(help={"what": "deploy, or backup [deploy]", "rounds": "How often each is measured [5]"})
def bench(run: Run, what: str = "deploy", rounds: int = 5) -> None:
    """Measure against a floor, in the lab.

    The lab is made anew. deploy: and health, with 3 and with 9 hosts, against hand-tuned parallel ssh scripts. backup:
    and restore, with a database of half a gigabyte, against the same by etcdctl, ssh and mv.
    """
    dev.bench(run, what, rounds)


@task(name="format")
def format_(run: Run) -> None:
    """Lay the code out, sort its imports."""
    dev.format_(run)


@task(name="pictures")
def pictures_(run: Run) -> None:
    """Draw the stills of the docs, in a lab made anew.

    Runs deploy, status, a dry run and a refusal on fresh hosts, and writes docs/images/*.svg from what they print.
    """
    pictures.draw_all(run)


ns = Collection(
    gen_ca,
    gen_server_cert,
    install,
    distribute,
    configure,
    start,
    stop,
    restart,
    deploy,
    upgrade,
    downgrade,
    adopt,
    health,
    status,
    members,
    doctor,
    check,
    move_leader,
    add_member,
    remove_member,
    replace_member,
    move_member,
    check_data,
    defrag,
    compact,
    alarms,
    space,
    auth_enable,
    auth_disable,
    keys,
    get,
    put,
    del_,
    etcdctl,
    backup,
    restore,
    restore_undo,
    recover,
    verify,
    test,
)

ns.add_collection(Collection("snapshot", snapshot_list, snapshot_verify, prune, drop, schedule, unschedule))
ns.add_collection(Collection("lab", up, down, lab_status, demo, off, on, cut, heal))
ns.add_collection(Collection("dev", bench, lock, format_, pictures_))
