"""enable-tls and disable-tls: from plain http to TLS on a cluster that serves, and back (etcd-operations 3.12).

Between the passes that concern clients there is a rest, with http and https side by side on the client port, for as
long as it takes to move them.
"""

from __future__ import annotations

from collections.abc import Iterator

from etcdops import guards, layout, transport
from etcdops.config import Config
from etcdops.credentials import PASSWORD
from etcdops.errors import Refused
from etcdops.run import Run
from etcdops.steps import auth
from etcdops.steps.crossing import Crossing, Facts, Outcome
from etcdops.transport import HTTPS, Stage


def enable_tls(run: Run, *, close_http: bool) -> None:
    """TLS between members, and for clients beside http; with ``close_http`` in its place."""
    crossing = Crossing.plan(run, Stage.TLS if close_http else Stage.PEERS)
    if close_http and crossing.passes:
        who = ", which are all of them so far," if Stage.PLAIN in crossing.stages.values() else ""
        run.confirm(f"Clients that speak plain http{who} are turned away, by one member after the other")
    _tell(run, crossing.make())


def disable_tls(run: Run, *, close_https: bool) -> None:
    """Plain http between members, and for clients beside https; with ``close_https`` in its place."""
    crossing = Crossing.plan(run, Stage.PLAIN if close_https else Stage.BOTH)
    guards.refuse(_lockouts(run, crossing.facts))
    if crossing.passes:
        away = "; clients that speak https are turned away, by one member after the other" if close_https else ""
        run.confirm(
            f"Who listens on the wire can then read what is in cluster {run.config.cluster.name}, and who reaches a "
            f"member can change it, without a certificate{away}"
        )
    _tell(run, crossing.make())


def _lockouts(run: Run, facts: Facts) -> Iterator[Refused]:
    """With authentication on, whoever is known by nothing but a certificate."""
    if not auth.is_on(run):
        return
    if not run.config.auth.user:
        yield Refused(
            "authentication is on, and without TLS no certificate says who the tasks are",
            hint=f"set auth.user in config.yaml, such as to root, and its password: {PASSWORD}, or the prompt",
        )
    for name in [name for name, fact in facts.items() if layout.BACKUP_SERVICE in fact.paths]:
        yield Refused(
            "authentication is on, and its own backups have nothing but a certificate to show",
            host=name,
            hint="inv snapshot.unschedule, and inv backup in cron instead",
        )


def _tell(run: Run, outcome: Outcome | None) -> None:
    if outcome is None:
        return
    tls = run.config.cluster.tls
    rest = transport.standing(outcome.stages, tls)
    done = f"done in {outcome.seconds:.1f} s" if outcome.seconds else "nothing to do"
    document = {
        "transport": {name: stage.name.lower() for name, stage in outcome.stages.items()},
        "restarts": outcome.restarts,
        "seconds": round(outcome.seconds, 1),
        "canary": outcome.canary,
    }

    def show() -> None:
        if rest is None:
            run.ui.result(f"{done}: {len(run.names)} members speak {transport.final(tls)}")
            return
        run.ui.result(f"{done}: {rest.what}")
        for line in _needs(run.config) if tls else ():
            run.ui.result(line)
        run.ui.result(rest.hint)

    run.emit(document, show)


def _needs(config: Config) -> list[str]:
    """What a client needs to come by https."""
    urls = ",".join(member.url(HTTPS, layout.CLIENT_PORT) for member in config.members)
    folder = config.pki.dir
    return [
        f"a client needs  endpoints    {urls}",
        f"                CA           {folder}/ca.pem",
        f"                certificate  one of that CA; yours is {folder}/client.pem, its key {folder}/client-key.pem",
    ]
