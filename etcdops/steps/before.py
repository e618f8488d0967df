"""The hosts as an exchange of data finds them: what runs there, and what earlier ones have left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etcdops import restoration
from etcdops.etcd import View
from etcdops.facts import HostFacts, gather
from etcdops.restoration import Side
from etcdops.run import Run


@dataclass(frozen=True)
class Cluster:
    """The hosts as they are before: their facts, what restores have left there, and who leads or runs."""

    facts: Mapping[str, HostFacts]
    sides: Mapping[str, Side]

    @property
    def views(self) -> dict[str, View]:
        """What each member says that runs."""
        return {name: fact.view for name, fact in self.facts.items() if fact.view.status}

    @property
    def running(self) -> list[str]:
        """The members that run, the leader last: alone it does not wait to hand over."""
        names = [name for name, fact in self.facts.items() if fact.is_running]
        return sorted(names, key=lambda name: bool((s := self.facts[name].view.status) and s.is_leader))

    @property
    def ids(self) -> set[int]:
        """The ids of the clusters that the members run in: one, if all is well."""
        return {view.status.cluster_id for view in self.views.values() if view.status}

    @property
    def id(self) -> str:
        """That of the cluster which the hosts were last set up for, hexadecimal; '' where none or several tell one."""
        told = {str(fact.identity.get("cluster_id", "")) for fact in self.facts.values()} - {""}
        return told.pop() if len(told) == 1 else ""

    @property
    def revision(self) -> int:
        """The newest revision that a running member has, 0 if none runs."""
        return max((view.status.revision for view in self.views.values() if view.status), default=0)

    def part(self, id_: int) -> dict[str, View]:
        """The views of the members that run in cluster ``id_``."""
        return {name: view for name, view in self.views.items() if view.status and view.status.cluster_id == id_}

    @property
    def has_data(self) -> bool:
        """Whether any host has data that will be set aside."""
        return any(fact.data for fact in self.facts.values())

    @property
    def unfinished(self) -> str:
        """The id of a restore that was cut short, '' if there is none."""
        return next(filter(None, (side.unfinished for side in self.sides.values())), "")


def look(run: Run) -> Cluster:
    """Every host; none may be missing, since one that comes back later would come back with the old data."""
    run.ui.step(f"Look at {', '.join(run.names)}")
    both = run.fleet.all(lambda host: (gather(host), restoration.look(host)))
    return Cluster({name: each[0] for name, each in both.items()}, {name: each[1] for name, each in both.items()})
