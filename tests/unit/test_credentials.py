"""Who we are to etcd: where the password comes from, how it reaches etcdctl on a host, what etcd's refusals mean."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdops import configfile, credentials, gate, layout
from etcdops.credentials import PASSWORD, ROOT, Credentials, Denied, obtain
from etcdops.errors import HostError, OpsError, UsageError
from etcdops.snapshots import fit, throwaway
from etcdops.ssh import Completed, Fleet
from etcdops.steps import auth, rescue
from tests.unit import build, snapshots
from tests.unit.test_fit import proof

SECRET = 'a "b" \\ $HOME `id`'


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)


def test_without_a_user_nobody_is_asked() -> None:
    def ask(prompt: str) -> str:
        raise AssertionError(prompt)

    assert obtain("", ask) == Credentials()


def test_password_from_the_environment_else_from_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "typed"

    assert obtain("ops", ask) == Credentials("ops", "typed")
    monkeypatch.setenv(PASSWORD, SECRET)
    assert obtain("ops", ask) == Credentials("ops", SECRET)
    assert prompts == ["[etcd] password for ops: "]
    assert SECRET not in repr(obtain("ops", ask))


@pytest.mark.parametrize("password", ["", "two\nlines"])
def test_password_that_is_none(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(UsageError) as caught:
        obtain("ops", None)
    assert PASSWORD in caught.value.hint
    assert password == "" or password not in str(caught.value)


def test_a_new_password_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    who = Credentials("ops", "typed")
    credentials.confirm(who, lambda prompt: "typed")
    credentials.confirm(Credentials(), lambda prompt: "anything")
    with pytest.raises(UsageError, match="the two passwords for ops differ"):
        credentials.confirm(who, lambda prompt: "mistyped")
    monkeypatch.setenv(PASSWORD, "typed")
    credentials.confirm(who, lambda prompt: "not asked")


@pytest.mark.parametrize("who", [Credentials(), Credentials("ops", SECRET)], ids=["certificate", "password"])
@pytest.mark.parametrize("chunks", [False, True])
def test_user_and_password_reach_etcdctl_in_its_environment_and_the_rest_of_stdin(
    tmp_path: Path, who: Credentials, chunks: bool
) -> None:
    fake = tmp_path / "etcdctl"
    fake.write_text('#!/bin/sh\nprintf "[%s]" "$@" "${ETCDCTL_USER-none}" "${ETCDCTL_PASSWORD-none}"; exec /bin/cat\n')
    fake.chmod(0o755)
    given = who.before(iter([b"the ", b"value"]) if chunks else b"the value")
    stdin = given if isinstance(given, bytes) else b"".join(given)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{layout.script('client')}\nclient put /a"],
        env={"PATH": str(tmp_path)},
        input=stdin,
        capture_output=True,
    )
    user, password = (who.user, who.password) if who.user else ("none", "none")
    assert done.stdout.decode().endswith(f"[put][/a][{user}][{password}]the value")
    assert SECRET not in done.stdout.decode().partition("[put]")[0]


def test_nothing_goes_ahead_where_nothing_is_sent() -> None:
    """An empty standard input says the same as two empty lines, and costs no packet."""
    assert Credentials().before(b"") == b""


@pytest.mark.parametrize("complaint", credentials.DENIALS)
def test_what_a_refusal_means(complaint: str) -> None:
    denied = Credentials("ops", SECRET).refusal(f"etcdserver: {complaint}")
    assert isinstance(denied, Denied)
    assert denied.exit_code == 1
    assert denied.hint
    assert SECRET not in str(denied)


def test_any_other_trouble_is_no_refusal() -> None:
    assert Credentials().refusal("context deadline exceeded") is None


class Member:
    """A host whose etcd has said ``complaint`` to the question for its health."""

    def __init__(self, complaint: str) -> None:
        self.credentials = Credentials("ops", SECRET)
        health = [{"endpoint": "http://127.0.0.1:2379", "health": False, "error": f"etcdserver: {complaint}"}]
        self.said = f"answer\thealth\t{base64.b64encode(json.dumps(health).encode()).decode()}\n"

    def client(self, script: str) -> Completed:
        return Completed(0, self.said, "", 0.0)


def test_a_member_that_does_not_let_us_in_is_no_unhealthy_one() -> None:
    with pytest.raises(Denied, match="etcd does not take the password of ops"):
        gate.ask(cast(Any, Member("authentication failed, invalid user ID or password")))
    assert not gate.ask(cast(Any, Member("no leader"))).healthy


def test_a_denial_goes_for_all_hosts_and_ends_the_run() -> None:
    def work(host: object) -> None:
        raise Denied("not let in", hint="try again")

    config = build.config()
    with Fleet(config.members, config.ssh, Path, ask=None) as fleet, pytest.raises(Denied) as caught:
        fleet.map(work)
    assert str(caught.value) == "not let in"


# What auth-enable does


def words(who: Credentials, *users: str) -> list[str]:
    return [str(action) for action in auth.plan(who, Credentials(rescue.USER, "spare"), list(users))]


GRANT = "etcdctl user grant-role root root"
RESCUE = "etcdctl user add etcdops-rescue"
# From here on they are the same every time.
ENABLE = [
    GRANT.replace("role root", "role etcdops-rescue"),
    "etcdctl auth enable",
    "etcdctl user delete etcdops-rescue",
]
OPS_GRANT = GRANT.replace("role root", "role ops")
OPS = Credentials("ops", "given")


@pytest.mark.parametrize(
    ("who", "users", "expected"),
    [
        (Credentials(), [], ["etcdctl user add root", RESCUE, GRANT, *ENABLE]),
        (Credentials(), ["root", "app"], [RESCUE, GRANT, *ENABLE]),
        (Credentials(ROOT, "given"), [], ["etcdctl user add root", RESCUE, GRANT, *ENABLE]),
        (Credentials(ROOT, "given"), ["root"], ["etcdctl user passwd root", RESCUE, GRANT, *ENABLE]),
        (
            OPS,
            [],
            ["etcdctl user add root", "etcdctl user add ops", RESCUE, GRANT, OPS_GRANT, *ENABLE],
        ),
        (Credentials(), ["root", rescue.USER], [RESCUE.replace("add", "passwd"), GRANT, *ENABLE]),
        (OPS, ["root", "ops"], ["etcdctl user passwd ops", RESCUE, GRANT, OPS_GRANT, *ENABLE]),
    ],
)
def test_what_is_done_and_in_which_order(who: Credentials, users: list[str], expected: list[str]) -> None:
    assert words(who, *users) == expected


def test_the_given_password_is_set_and_stands_in_no_argument() -> None:
    actions = auth.plan(Credentials(ROOT, "given"), Credentials(rescue.USER, "spare"), [])
    assert [action.stdin for action in actions if action.stdin] == [b"given\n", b"spare\n"]
    assert "given" not in " ".join(word for action in actions for word in action.words)


class Etcd:
    """One that knows users, and lets in by password alone."""

    def __init__(self) -> None:
        self.credentials, self.users, self.on = Credentials(), {ROOT: "nobody knows"}, False

    def client(self, script: str, *words: str, stdin: bytes = b"", check: bool = True) -> Completed:
        return self.run(script, *words, stdin=b"\n\n" + stdin, check=check)

    def run(self, script: str, *words: str, stdin: bytes = b"", check: bool = True) -> Completed:
        user, password, *rest = stdin.decode().split("\n") if stdin else ("", "")
        if self.on and (not user or self.users.get(user) != password):
            if check:
                raise HostError("not let in", host="etcd01")
            return Completed(1, "", "etcdserver: permission denied", 0.0)
        if words[0] == "auth":
            self.on = words[1] == "enable"
        elif words[1] in {"add", "passwd"}:
            self.users[words[2]] = rest[0]
        elif words[1] == "delete":
            self.users.pop(words[2], None)
        return Completed(0, "\n".join(self.users) if words[1] == "list" else "", "", 0.0)


class Hosts(dict[str, Etcd]):
    """A fleet of one."""

    def all(self, work: Callable[[Any], Any]) -> dict[str, Any]:
        return {name: work(each) for name, each in self.items()}


TEXT = "cluster: {name: c, version: 3.6.16}\nmembers: [{name: etcd01, address: 192.0.2.1}]\n"


def one(etcd: Etcd, folder: Path) -> Any:
    """A run on a cluster of one, with this folder for its configuration."""
    return SimpleNamespace(
        names=["etcd01"], credentials=Credentials(), dry_run=False, fleet=Hosts(etcd01=etcd),
        config=configfile.parse(TEXT, folder / "config.yaml"),
        decided=lambda lines: False, confirm=lambda words: None, reconnect=lambda: None,
        unbroken=lambda standing: nullcontext(),
        ui=SimpleNamespace(step=lambda words: None),
    )  # fmt: skip


def test_a_run_that_is_killed_before_its_proof_leaves_a_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is there before the user is, for nobody but ourselves, and until it is needed no more."""
    etcd = Etcd()
    run = one(etcd, tmp_path)
    kept = tmp_path / "pki" / rescue.USER
    monkeypatch.setattr(auth, "_facts", lambda run: {})
    monkeypatch.setattr(auth, "_look", lambda run: {"etcd01": auth.State(etcd.on, True, ROOT)})
    monkeypatch.setattr(auth, "_lockouts", lambda *known: [])
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(auth, "_back_out", lambda *known: sys.exit(9))  # as with a kill: it does nothing more
        auth.auth_enable(run)
    assert etcd.on
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.read_text().strip() == etcd.users[rescue.USER]
    with pytest.raises(OpsError, match="a run that was cut short had turned it on: ") as caught:
        auth.auth_enable(run)
    assert caught.value.hint == "it is off, as before"
    assert (etcd.on, set(etcd.users), kept.exists()) == (False, {ROOT}, False)


@pytest.mark.parametrize("killed", [False, True])
def test_there_is_a_way_back_where_root_has_a_password_that_nobody_knows(
    killed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    etcd = Etcd()
    if killed:
        etcd.users[rescue.USER] = "lost"
    run = one(etcd, tmp_path)
    monkeypatch.setattr(auth, "_facts", lambda run: {})
    monkeypatch.setattr(auth, "_look", lambda run: {"etcd01": auth.State(False, True, ROOT)})
    monkeypatch.setattr(auth, "_lockouts", lambda *known: [])
    with pytest.raises(OpsError) as caught:
        auth.auth_enable(run)
    assert caught.value.hint == "it is off, as before"
    assert (etcd.on, etcd.users) == (False, {ROOT: "nobody knows"})


# Snapshots


@pytest.mark.parametrize(("tls", "user", "refused"), [(True, "", False), (False, "root", False), (False, "", True)])
def test_a_snapshot_with_authentication(tls: bool, user: str, refused: bool) -> None:
    snapshot = proof("large")
    assert snapshot.auth_enabled
    config = build.config(tls=tls).model_copy(update={"auth": build.config().auth.model_copy(update={"user": user})})
    found = [each.message for each in fit.findings(config, snapshot, snapshots.manifest(cluster="etcd-cluster"), "")]
    assert any("authentication is on" in message for message in found) is refused


def test_certificates_of_a_throw_away_etcd(tmp_path: Path) -> None:
    """Two lines, which files/throwaway.sh makes files of."""
    body = f'programs=x seconds=1\n{layout.script("throwaway")}\necho "$ca" | base64 -d; echo "$pair" | base64 -d\n'
    done = subprocess.run(
        ["/bin/sh", "-c", body], input=throwaway.certificates(), capture_output=True, env={"PATH": os.defpath}
    )
    pem = done.stdout.decode()
    assert (pem.count("BEGIN CERTIFICATE"), pem.count("PRIVATE KEY-----\n")) == (2, 2)
    assert throwaway.certificates() != throwaway.certificates()
