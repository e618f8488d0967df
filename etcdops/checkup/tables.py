"""Which rules there are, in the order in which they are shown: what lies below comes first."""

from __future__ import annotations

from etcdops.checkup import backups, certificates, figures, hosts, members
from etcdops.checkup.findings import Rule

HOSTS = (
    Rule("hosts", hosts.unreachable, hosts.reached),
    Rule("machine", hosts.machines, hosts.kinds),
    Rule("names", hosts.names, hosts.named),
    Rule("clock", hosts.clock, hosts.apart),
    Rule("room", hosts.room, hosts.free),
    Rule("reach", hosts.reach, hosts.reaching),
    Rule("data", hosts.data, hosts.held),
)

CHECK = (
    *HOSTS,
    Rule("disk", hosts.disks, hosts.speeds),
    Rule("account", hosts.account, hosts.owned),
    Rule("release", members.release, members.flawless),
    Rule("pki", certificates.folder, certificates.kept),
)

DOCTOR = (
    *HOSTS,
    Rule("service", members.service, members.serving),
    Rule("boot", members.boot, members.enabled),
    Rule("membership", members.membership, members.agreed),
    Rule("transport", members.transported, members.talks),
    Rule("leader", members.leader, members.leads),
    Rule("lag", members.lag, members.behind),
    Rule("alarms", members.alarms, members.quiet),
    Rule("config", members.config, members.same),
    Rule("version", members.version, members.versions),
    Rule("release", members.release, members.flawless),
    Rule("database", members.database, members.sizes),
    Rule("disk", figures.disk, figures.disk_well),
    Rule("peers", figures.peers, figures.peers_well),
    Rule("certificates", certificates.on_disk, certificates.days),
    Rule("served", certificates.served, certificates.shown),
    Rule("trust", certificates.trust, certificates.trusted),
    Rule("pki", certificates.folder, certificates.kept),
    Rule("backup", backups.backup, backups.newest),
)
