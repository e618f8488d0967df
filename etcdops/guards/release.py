"""Which etcd a host has, and what that keeps a run from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from etcdops import layout, transport
from etcdops.config import Config, Member
from etcdops.errors import Refused
from etcdops.facts import HostFacts
from etcdops.values import SUPPORTED_MINORS
from etcdops.versions import Hop, minor


def is_strange(facts: HostFacts) -> bool:
    """Whether an etcd runs there that is not ours, and was not adopted either."""
    return facts.is_running and not (facts.is_ours or facts.adopted)


def installed(facts: HostFacts) -> str:
    """The release that runs there, else the one that will; '' where that is not known."""
    current = facts.paths.get(layout.CURRENT)
    return facts.running_version or (current.target if current else "")


def other_release(config: Config, member: Member, facts: HostFacts) -> Iterator[Refused]:
    """A member of another minor than config.yaml has."""
    if is_strange(facts) or not (facts.is_running or facts.has_data):
        return
    version = installed(facts)
    if version and minor(version) != config.cluster.minor:
        yield Refused(
            f"runs etcd {version}, and config.yaml asks for {config.cluster.version}",
            host=member.name,
            hint=f"set cluster.version to a {minor(version)} release; inv upgrade and inv downgrade change the minor",
        )


def ahead(config: Config, facts: HostFacts) -> bool:
    """Whether it runs the minor after that of config.yaml, to which an upgrade has brought it."""
    return (config.cluster.minor, minor(installed(facts))) in pairwise(SUPPORTED_MINORS)


def by_chance(version: str, facts: HostFacts) -> Iterator[Refused]:
    """A member that speaks http and https, and would get a release that cannot be relied on to do so."""
    halfway = transport.stage(facts) in {transport.Stage.BOTH, transport.Stage.PEERS}
    if halfway and not is_strange(facts) and installed(facts) != version and not transport.serves_both(version):
        yield Refused(
            f"speaks http and https, and with etcd {version} each start decides by chance whether it answers by http",
            host=facts.name,
            hint="first inv enable-tls --close-http, or inv disable-tls --close-https; or a newer patch release",
        )


def undead(version: str, facts: HostFacts) -> Iterator[Refused]:
    """A member whose log the release may read in another sense than the one that has written it, as
    ``Hop.renews_log`` has it: a restart alone is not enough.  One that was adopted may leave its release at once."""
    before = "" if is_strange(facts) or facts.adopted or not facts.has_data else installed(facts)
    if before and Hop(before, version).renews_log and not Hop(before, version).crosses:
        yield Refused(
            f"etcd {version} may take members in a log that etcd {before} or an older one has written for removed ones",
            host=facts.name,
            hint=f"set cluster.version back to {before}; inv upgrade --to={version} has each log begun anew before",
        )
