"""Who is left of a cluster: the survivors, and whether a recovery is what they need (etcd-operations 3.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etcdops import guards, layout, restoration
from etcdops.errors import HostsFailed, OpsError, Refused, Unreachable
from etcdops.etcd import quorum
from etcdops.facts import HostFacts, gather
from etcdops.restoration import Side
from etcdops.run import Run

ID = layout.RECOVERY  # under which the survivors are kept from starting meanwhile


@dataclass(frozen=True)
class Look:
    """The hosts: those that answer, and those that do not, with why."""

    facts: Mapping[str, HostFacts]
    sides: Mapping[str, Side]
    lost: Mapping[str, OpsError]

    @property
    def survivors(self) -> list[str]:
        """Those that have a member's data."""
        return [name for name, fact in self.facts.items() if fact.has_data]

    @property
    def healthy(self) -> list[str]:
        """The members that have a quorum, whatever alarm is raised."""
        return [name for name, fact in self.facts.items() if fact.view.has_quorum]

    @property
    def running(self) -> list[str]:
        """The hosts whose etcd runs, or did until a recovery that was cut short stopped it."""
        return [
            name
            for name, fact in self.facts.items()
            if fact.is_running or fact.unit.active == "activating" or name in self.barred
        ]

    @property
    def barred(self) -> list[str]:
        """The hosts where a recovery that was cut short keeps etcd from starting, with its data as it was."""
        return [name for name, side in self.sides.items() if side.barred == ID]

    @property
    def unfinished(self) -> str:
        """The id of another exchange of data that was cut short, '' if there is none."""
        return next((side.unfinished for side in self.sides.values() if side.unfinished not in ("", ID)), "")


def look(run: Run) -> Look:
    """All that can be known; ``HostsFailed`` where a host answers and does not let us in: it is not lost."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    both = run.fleet.map(lambda host: (gather(host), restoration.look(host)))
    lost = {name: each for name, each in both.items() if isinstance(each, OpsError)}
    shut = [error for error in lost.values() if not isinstance(error, Unreachable)]
    if shut:
        raise HostsFailed(
            shut, hint="it answers, so it may have its data: mend that, or, if it is lost, take it out of config.yaml"
        )
    if len(lost) == len(both):
        raise HostsFailed(list(lost.values()))
    found = {name: each for name, each in both.items() if not isinstance(each, OpsError)}
    return Look(
        {name: facts for name, (facts, _) in found.items()}, {name: side for name, (_, side) in found.items()}, lost
    )


def needless(run: Run, hosts: Look) -> list[Refused]:
    """A reason not to: a quorum is there or can be had."""
    survivors = hosts.survivors
    # config.yaml may have lost some already; what a survivor started with names the others.
    known = [fact.conf.get("ETCD_INITIAL_CLUSTER", "").count("=") for fact in hosts.facts.values()]
    total = max(len(run.names), *known) if known else len(run.names)
    if hosts.healthy:
        has = Refused(f"{', '.join(hosts.healthy)} can commit: the cluster has its quorum", hint="inv status")
        return list(guards.split(hosts.facts)) or [has]
    if len(survivors) >= quorum(total):
        return [
            Refused(
                f"{', '.join(survivors)} have their data, and {quorum(total)} of {total} are a quorum: nothing is lost",
                hint="inv start, or on those hosts: systemctl start etcd",
            )
        ]
    return []


def impossible(hosts: Look) -> list[Refused]:
    """Reasons why it cannot be done: nobody has data, or several have that of different clusters."""
    survivors = hosts.survivors
    tokens = {name: hosts.facts[name].token for name in survivors}
    if len(set(tokens.values())) > 1:
        shown = ", ".join(f"{name}: {token or 'none'}" for name, token in tokens.items())
        return [
            Refused(
                f"the survivors hold data of different incarnations of the cluster ({shown})",
                hint="the newest token is the latest; on the other hosts: mv /var/lib/etcd/default.etcd "
                "/var/lib/etcd/default.etcd.old",
            )
        ]
    if not survivors:
        return [Refused("no host that can be reached has data", hint="inv restore with the newest backup")]
    return []
