"""How a cluster talks: the stages between plain http and TLS, where a member is, the way from one to another.  Pure.

A peer URL has one scheme; the client port can serve both at once, on one number (etcd-operations 3.12, seen on 3.4 to
3.7).  So each change of a stage is one restart of each member, one at a time, and no client has to move in that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urlsplit

from etcdops.etcd import View
from etcdops.facts import HostFacts, parse_conf

HTTP, HTTPS = "http", "https"
# Before these patches each start of a member decides by chance whether its port answers gRPC by http beside https: two
# servers share a variable there.  Seen on 3.4.23 (3 starts of 8), never on 3.5.16 and newer ones.
BY_CHANCE = {"3.4": 25, "3.5": 8}


class Stage(IntEnum):
    """What a member speaks, in the order of the way to TLS.

    BOTH may be mixed with any: it is dialled by http, and dials https.  PLAIN with PEERS or TLS may not: it has no
    certificate to dial them with.
    """

    PLAIN = 0  # http alone
    BOTH = 1  # clients by either; peers by http, with certificates at hand
    PEERS = 2  # clients by either; peers by https
    TLS = 3  # https alone, and nobody without a certificate

    @property
    def peers(self) -> str:
        """The scheme of its peer URL."""
        return HTTPS if self >= Stage.PEERS else HTTP

    @property
    def clients(self) -> tuple[str, ...]:
        """The schemes of its client port."""
        return {0: (HTTP,), 1: (HTTP, HTTPS), 2: (HTTPS, HTTP), 3: (HTTPS,)}[self.value]

    @property
    def advertised(self) -> tuple[str, ...]:
        """Those that clients are told of: https no sooner than all members speak it."""
        return (HTTP,) if self is Stage.BOTH else self.clients

    def __str__(self) -> str:
        return {
            0: "plain http",
            1: "http and https for clients",
            2: "http and https for clients, TLS between members",
            3: "TLS alone",
        }[self.value]


def of_settings(settings: Mapping[str, str]) -> Stage | None:
    """That of an etcd with these variables, None where they say nothing of it."""
    clients = {urlsplit(url).scheme for url in settings.get("ETCD_LISTEN_CLIENT_URLS", "").split(",") if url}
    if not clients:
        return None
    if len(clients) == 1:
        return Stage.TLS if clients == {HTTPS} else Stage.PLAIN
    return Stage.PEERS if settings.get("ETCD_LISTEN_PEER_URLS", "").startswith(f"{HTTPS}:") else Stage.BOTH


def stage(facts: HostFacts) -> Stage | None:
    """Where the member on a host is: as its process was started, else as it would be; None where there is none."""
    if facts.adopted and not facts.is_ours:
        return Stage.PLAIN if facts.adopted.get("ENDPOINT", "").startswith(f"{HTTP}:") else Stage.TLS
    return of_settings(facts.running or facts.conf)


def of_view(view: View) -> Stage | None:
    """The same from what its own process tells of itself."""
    return of_settings(parse_conf(view.listens))


def serves_both(version: str) -> bool:
    """Whether a release can be relied on to answer by http and https on one port."""
    line, _, patch = version.rpartition(".")
    return int(patch) >= BY_CHANCE.get(line, 0)


def agrees(found: Stage, tls: bool) -> bool:
    """Whether a member may be there while config.yaml has this ``tls``, which changes when all are at BOTH.

    So its clients can use the scheme of config.yaml at any time, and its peers reach a new member that has but that.
    """
    return found >= Stage.BOTH if tls else found <= Stage.BOTH


def final(tls: bool) -> Stage:
    """Where a change ends, and a new cluster begins."""
    return Stage.TLS if tls else Stage.PLAIN


def kept(facts: HostFacts, tls: bool) -> Stage:
    """Where a run that does not change the transport leaves the member on a host."""
    found = stage(facts)
    return found if found is not None and agrees(found, tls) else final(tls)


def certified(facts: Iterable[HostFacts], tls: bool) -> bool:
    """Whether any member has certificates to show."""
    return any(kept(each, tls) for each in facts)


def beside(others: Iterable[HostFacts], tls: bool) -> Stage:
    """Where a new member begins: clients that reach the others by http still reach it, too."""
    return Stage.PEERS if tls and any(kept(each, tls) < Stage.TLS for each in others) else final(tls)


def anew(facts: HostFacts, tls: bool) -> Stage:
    """The same where the whole cluster starts anew, with the peer URLs of config.yaml's ``tls``: after a restore."""
    found = kept(facts, tls)
    return Stage.PEERS if tls and found is Stage.BOTH else found


def is_torn(facts: HostFacts) -> bool:
    """Whether the others dial a member by another scheme than it listens with: a change was cut short before its
    restart."""
    return correction(facts) is not None


def correction(facts: HostFacts) -> tuple[int, tuple[str, ...]] | None:
    """Of a member that is torn, its id and the peer URLs that the member list should have; None of any other."""
    found, view = stage(facts), facts.view
    own = next((each for each in view.members or () if view.status and each.id == view.status.member_id), None)
    if not facts.is_running or found is None or own is None:
        return None
    right = tuple(urlsplit(url)._replace(scheme=found.peers).geturl() for url in own.peer_urls)
    return None if right == own.peer_urls else (own.id, right)


@dataclass(frozen=True)
class Pass:
    """One turn of each member ``due``, which brings it to ``stage``."""

    stage: Stage
    due: Sequence[str]


def way(stages: Mapping[str, Stage], goal: Stage) -> list[Pass]:
    """The passes to ``goal``, by way of BOTH, where config.yaml changes; who is further already stays there."""
    now, passes = dict(stages), []
    for target in dict.fromkeys((Stage.BOTH, goal)):
        due = [name for name, at in now.items() if (at < target if goal >= Stage.PEERS else at > target)]
        now |= dict.fromkeys(due, target)
        passes.append(Pass(target, due))
    return [each for each in passes if each.due]


def origin(fallen: HostFacts, others: Iterable[HostFacts]) -> Stage | None:
    """Where a member comes from that does not run at the stage that it was being brought to; None where that cannot be
    told, and it is down for another reason."""
    there = of_settings(fallen.conf)
    return next((at for each in others if there is not None and (at := stage(each)) not in {None, there}), None)


@dataclass(frozen=True)
class Standing:
    """A cluster that is not where a change ends: what is so, and what to do.  ``rests``: where a change waits for
    clients, and anything else may go on."""

    what: str
    hint: str
    rests: bool

    def __str__(self) -> str:
        return f"transport: {self.what}; {self.hint}"


def standing(stages: Mapping[str, Stage | None], tls: bool) -> Standing | None:
    """How the members stand between plain http and TLS; None where all are at the end that config.yaml names."""
    known = {name: at for name, at in stages.items() if at is not None}
    asked = "TLS" if tls else "plain http"
    if all(at is final(tls) for at in known.values()):
        return None
    if wrong := [name for name, at in known.items() if not agrees(at, tls)]:
        verb = "inv enable-tls" if tls else "inv disable-tls"
        what = (
            f"{_list(wrong)} {'speaks' if len(wrong) == 1 else 'speak'} {known[wrong[0]]}, config.yaml asks for {asked}"
        )
        return Standing(what, f"{verb} brings them there", rests=False)
    if tls and min(known.values()) >= Stage.PEERS:
        names = [name for name, at in known.items() if HTTP in at.clients]
        return Standing(
            f"plain http is open to clients still, on {_list(names)}",
            "once none needs it: inv enable-tls --close-http",
            rests=True,
        )
    names = [name for name, at in known.items() if at is Stage.BOTH]
    if not tls:
        return Standing(
            f"members talk by plain http, and https is open to clients still, on {_list(names)}",
            "inv disable-tls --close-https once none needs it; or inv enable-tls, the other way",
            rests=len(names) == len(known),
        )
    return Standing(
        f"on the way to TLS, with {_list(names)} reached by peers by http still",
        "inv enable-tls goes on; inv disable-tls goes back",
        rests=False,
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
