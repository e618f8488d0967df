"""auth-enable and auth-disable: the guide's `auth enable`, in the order that locks nobody out (etcd-operations 3.15).

What cannot be proven before (an etcd without authentication checks no password) is proven right after, on every
member, and taken back if it fails.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etcdops import certificate as x509
from etcdops import credentials, guards, layout
from etcdops.credentials import PASSWORD, ROOT, Credentials
from etcdops.errors import HostError, OpsError, Refused, Unhealthy
from etcdops.etcd import reason
from etcdops.facts import HostFacts, gather
from etcdops.judgement import judge
from etcdops.plan import diff
from etcdops.run import Run, asker
from etcdops.ssh import Host
from etcdops.steps import rescue, schedule
from etcdops.steps.rescue import Rescue

# A user that there is not is turned away only where authentication is on; 3.4 has no `auth status`.
LOOK = r"""
said=$(ETCDCTL_USER=etcdops-nobody ETCDCTL_PASSWORD=none $CLIENT --command-timeout=10s get etcdops 2>&1) ||
case $said in
*'invalid user ID or password'*) put on yes ;;
*) echo "$said" | grep -v '^{' | tail -n 1 >&2 && exit 1 ;;
esac
put required "$(started ETCD_CLIENT_CERT_AUTH)"
put certificate "$(sed -n '/BEGIN CERT/,/END CERT/p' $pair.pem 2>/dev/null | base64 -w0)"
"""
COMMAND = '\nclient --command-timeout=10s "$@"'
PROOF = ("user", "get", ROOT)  # which only root may


@dataclass(frozen=True)
class Action:
    """One etcdctl command, and the password that it reads."""

    words: tuple[str, ...]
    stdin: bytes = b""

    def __str__(self) -> str:
        return f"etcdctl {' '.join(word for word in self.words if not word.startswith('--'))}"


def auth_enable(run: Run) -> None:
    """Turn authentication on, with root and the tasks' own user in place; proven, or off again."""
    way_back = Rescue.of(run)
    if not run.dry_run:
        _go_back(run, way_back)
    facts = _facts(run)
    states = _look(run)
    name = run.names[0]
    who = run.credentials
    if any(state.on for state in states.values()):
        _prove(run)
        if not run.dry_run:  # of a run that was killed
            if rescue.USER in _run(run.fleet[name], "user", "list").split():
                _run(run.fleet[name], "user", "delete", rescue.USER)
            way_back.forget()
        run.ui.result(f"nothing to do: authentication is on, and the tasks are {_shown(who)}")
        return
    guards.refuse(_lockouts(run, facts, states))
    users = _run(run.fleet[name], "user", "list").split()
    spare = Credentials(rescue.USER, secrets.token_urlsafe(24))
    actions = plan(who, spare, users)
    if run.decided(f"{name}  {action}" for action in actions):
        return
    credentials.confirm(who, asker())
    run.confirm(
        f"Clients of cluster {run.config.cluster.name} that are no user of etcd are turned away from then on; "
        f"the tasks are {_shown(who)}"
    )
    run.ui.step("Turn authentication on")
    *before, enable, forget = actions
    way_back.keep(spare)
    for action in before:
        _run(run.fleet[name], *action.words, stdin=action.stdin)
    try:
        _run(run.fleet[name], *enable.words)
        _prove(run)
        _run(run.fleet[name], *forget.words)
        way_back.forget()
    except BaseException as error:
        with run.unbroken("authentication was being turned off again"):
            outcome = _back_out(run, spare, way_back)
        if isinstance(error, OpsError):
            raise OpsError(f"authentication was not turned on: {error}", hint=outcome) from None
        run.ui.line(outcome)
        raise
    run.ui.result(f"authentication is on: proven on {', '.join(run.names)}; the tasks are {_shown(who)}")


def _go_back(run: Run, way_back: Rescue) -> None:
    """Where a run was killed before its proof, and the tasks are not let in: off again, by what it has left."""
    spare = way_back.left
    if not spare or not is_on(run):
        return
    try:
        _prove(run)
    except credentials.Denied as error:
        run.ui.step("A run before was cut short, and the tasks are not let in: turn authentication off again")
        with run.unbroken("authentication was being turned off again"):
            outcome = _back_out(run, spare, way_back)
        raise OpsError(f"a run that was cut short had turned it on: {error}", hint=outcome) from None


def auth_disable(run: Run) -> None:
    """Let everybody in again; users and roles stay as they are."""
    _facts(run)
    if not is_on(run):
        run.ui.result("nothing to do: authentication is off")
        return
    if run.decided([f"{run.names[0]}  etcdctl auth disable"]):
        return
    who = "with a certificate of its CA" if run.config.cluster.tls else "that can reach it"
    run.confirm(f"Every client {who} can read and write all of cluster {run.config.cluster.name} from then on")
    _run(run.fleet[run.names[0]], "auth", "disable")
    if is_on(run):
        raise Unhealthy("authentication was turned off, and not every member has it off", hint="inv status")
    run.ui.result("authentication is off; users and roles stay")


def is_on(run: Run) -> bool:
    """Whether any member asks who one is; ``HostsFailed`` where one does not tell, which may be that it does."""
    return any(state.on for state in _look(run).values())


def plan(who: Credentials, spare: Credentials, users: list[str]) -> list[Action]:
    """The commands, in order; the last but one turns it on, the last deletes ``spare``.  ``users``: those there are.

    The tasks' user gets the password that we were given, so that it is certain.  root, where nobody made it, gets one
    that nobody knows; etcd demands that there is a root.
    """
    made = () if ROOT in users else (Credentials(ROOT, spare.password),)
    given = {each.user: each.password for each in (*made, who, spare) if each.user}
    actions = []
    for user, password in given.items():
        verb = "passwd" if user in users else "add"
        words = ("user", verb, user, "--interactive=false")
        actions.append(Action(words, f"{password}\n".encode("utf-8", "surrogateescape")))
    grants = [
        Action(("user", "grant-role", user, ROOT)) for user in dict.fromkeys((ROOT, who.user or ROOT, spare.user))
    ]
    return [*actions, *grants, Action(("auth", "enable")), Action(("user", "delete", spare.user))]


@dataclass(frozen=True)
class State:
    """Of one member: whether authentication is on, whether a certificate counts there, whom that of the host names."""

    on: bool
    by_certificate: bool
    common_name: str


def _facts(run: Run) -> Mapping[str, HostFacts]:
    """Every host; ``Refused`` unless the cluster is healthy."""
    facts = run.fleet.all(lambda host: gather(host, layout.LIBRARY, *_backups(run), also=("schedule",)))
    verdict = judge(run.config, {name: fact.view.but_for_nospace() for name, fact in facts.items()})
    if not verdict:
        raise Refused(f"the cluster is not healthy: {'; '.join(verdict.reasons)}", hint="inv status")
    return facts


def _backups(run: Run) -> tuple[str, ...]:
    return (run.config.backup.schedule.dir, schedule.WANTS, *schedule.FILES)


def _look(run: Run) -> dict[str, State]:
    def look(host: Host) -> State:
        told = host.client(layout.script("prelude", "client") + LOOK).stdout
        values = dict(line.split("\t", 1) for line in told.splitlines())
        pem = base64.b64decode(values["certificate"])
        return State("on" in values, values["required"] == "true", x509.inspect(pem).common_name if pem.strip() else "")

    return run.fleet.all(look)


def _lockouts(run: Run, facts: Mapping[str, HostFacts], states: Mapping[str, State]) -> Iterator[Refused]:
    """Whatever would keep the tasks, or the members' own backups, out."""
    who, tls = run.credentials, run.config.cluster.tls
    if not who.user and not tls:
        yield Refused(
            "without TLS no certificate says who the tasks are",
            hint=f"set auth.user in config.yaml, such as to root; its password: {PASSWORD}, or the prompt",
        )
    if any(letter.isspace() for letter in who.password):
        yield Refused("the password has a blank, and etcdctl reads a new one up to there", hint="choose another")
    for name, state in states.items():
        if not who.user and tls and not (state.by_certificate and state.common_name == ROOT):
            yield Refused(
                f"the certificate of etcdctl here names {state.common_name or 'nobody'}, not {ROOT}"
                if state.by_certificate
                else "this etcd takes no certificate for a user: it was started without client-cert-auth",
                host=name,
                hint="inv deploy",
            )
        if not any(path in facts[name].paths for path in schedule.FILES):
            continue
        if not tls:
            yield Refused(
                "its own backups would fail: they have no certificate to show, and no password is left on a host",
                host=name,
                hint="inv snapshot.unschedule, and inv backup in cron instead",
            )
        elif diff(schedule.resources(run.config), facts[name]):
            yield Refused("its own backups would fail as they are set up", host=name, hint="inv snapshot.schedule")


def _prove(run: Run) -> None:
    """Each member takes the tasks for root."""
    run.fleet.all(lambda host: _run(host, *PROOF))


def _back_out(run: Run, spare: Credentials, way_back: Rescue) -> str:
    """Authentication off again, by whichever way in there is; says how it stands."""
    run.reconnect()  # Ctrl-C has closed every connection
    for name in run.names:
        for who in (run.credentials, spare):
            with contextlib.suppress(OpsError):
                script = layout.script("client") + COMMAND
                run.fleet[name].run(script, "auth", "disable", stdin=who.before(b""))
                run.fleet[name].run(script, "user", "delete", rescue.USER, stdin=who.before(b""), check=False)
                way_back.forget()
                user = run.credentials.user
                return "it is off, as before" + (f"; {user} has the password that was given" if user else "")
    return "it may be on: inv auth-enable " + (
        "once more turns it off" if way_back.path else f"once more; or on a host: etcdctl --user {ROOT} auth disable"
    )


def _run(host: Host, *words: str, stdin: bytes = b"") -> str:
    """What etcdctl says, as who we are; its last words where it fails."""
    done = host.client(layout.script("client") + COMMAND, *words, stdin=stdin, check=False)
    if done.rc == 0:
        return done.stdout
    why = reason(done.stderr, done.rc)
    if denied := host.credentials.refusal(why):
        raise denied
    raise HostError(f"etcdctl {' '.join(words[:2])}: {why}", hint="inv status")


def _shown(who: Credentials) -> str:
    return f"{who.user}, by password" if who.user else f"{ROOT}, by certificate"
