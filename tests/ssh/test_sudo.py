"""Becoming root: by name, by number, by sudo without and with a password, and not at all.

A script plays sudo here: it stands first on the PATH of the login.  The lab has the real one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdops.errors import HostError, OpsError
from etcdops.ssh import Fleet

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd

PASSWORD = "s3cret pass'word"
SUDO = r"""#!/bin/sh
[ "$LC_ALL" = C ] || echo "eine Meldung, die niemand versteht"
echo "$*" >> "${0%/*}/calls"
case $(cat "${0%/*}/mode") in
free) ;;
tty) echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1 ;;
never) echo 'operator is not in the sudoers file.' >&2; exit 1 ;;
asks | asks-in-vain)
    case $1 in -n) echo 'sudo: a password is required' >&2; exit 1 ;; esac
    echo 'We trust you have received the usual lecture.' >&2
    IFS= read -r word
    if [ "$word" != "s3cret pass'word" ]; then
        echo 'Sorry, try again.' >&2
        echo 'sudo: 1 incorrect password attempt' >&2
        exit 1
    fi
    if [ "$(cat "${0%/*}/mode")" = asks-in-vain ]; then
        echo 'operator is not in the sudoers file.' >&2
        exit 1
    fi ;;
esac
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


class Sudo:
    """An sshd where the user `operator` finds our sudo; ``mode`` says how it behaves."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.bin = ground.folder / "bin"
        self.bin.mkdir()
        self.bin.chmod(0o777)
        (self.bin / "sudo").write_text(SUDO)
        (self.bin / "sudo").chmod(0o755)
        self.sshd: Sshd = ground.sshd(f"SetEnv PATH={self.bin}:/usr/bin:/bin LC_ALL=de_DE.UTF-8")

    def mode(self, mode: str) -> Fleet:
        (self.bin / "mode").write_text(mode)
        return self.fleet()

    def fleet(self, ask: object = None, user: str = "operator") -> Fleet:
        return self.ground.fleet(*[self.sshd.port] * 3, ask=ask, user=user)  # type: ignore[arg-type]

    @property
    def calls(self) -> str:
        path = self.bin / "calls"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def sudo(ground: Ground) -> Sudo:
    return Sudo(ground)


class Ask:
    """Somebody at the keyboard."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.prompts: list[str] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        self.threads.append(threading.current_thread())
        threading.Event().wait(0.3)  # people are slow: meanwhile the other hosts want it, too
        return self.answer


def failures(fleet: Fleet) -> list[OpsError]:
    with fleet:
        results = fleet.map(lambda host: host.run("true"))
    errors = [result for result in results.values() if isinstance(result, OpsError)]
    assert [error.host for error in errors] == ["m1", "m2", "m3"]
    assert len({error.message for error in errors}) == 1
    for error in errors:
        assert error.exit_code == 4
        assert error.hint
        assert "\n" not in str(error)
        assert PASSWORD not in str(error) + error.hint
    return errors


@pytest.mark.parametrize("user", ["root", "toor"])
def test_root_needs_no_sudo_under_any_name(sudo: Sudo, user: str) -> None:
    (sudo.bin / "mode").write_text("free")
    with sudo.fleet(user=user) as fleet:
        assert fleet["m1"].run("id -u").stdout == "0\n"
    assert "--" not in sudo.calls.replace("-n -- env true", "")


def test_sudo_without_a_password(sudo: Sudo) -> None:
    with sudo.mode("free") as fleet:
        done = fleet["m1"].run('echo "$HOME $1"; cat', "it's; $(id)", stdin=b"payload")
        fleet["m1"].run("true")
    assert done.stdout == "/root it's; $(id)\npayload"
    probe, first, second = sudo.calls.split("-n -- ")[1:]
    assert probe == "env true\n"
    assert first.startswith("env -i PATH=")
    assert second.startswith("env -i PATH=")


def test_a_password_is_asked_for_once_and_never_shown(
    sudo: Sudo, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sudo.mode("asks")
    ask = Ask(PASSWORD)
    payload = os.urandom(3_000_000)
    with caplog.at_level(logging.DEBUG), sudo.fleet(ask) as fleet:
        sums = fleet.all(lambda host: host.run("sha256sum", stdin=payload).stdout.split()[0])
        assert fleet["m2"].run("cat", stdin=[b"a", b"b\n"]).stdout == "ab\n"
        assert fleet["m2"].run("cat").stdout == ""
    assert set(sums.values()) == {hashlib.sha256(payload).hexdigest()}
    assert ask.prompts == ["[sudo] password for operator: "]
    assert ask.threads == [threading.main_thread()]
    assert PASSWORD not in sudo.calls
    assert "-k -S -p  -- env -i" in sudo.calls
    assert PASSWORD not in caplog.text
    assert PASSWORD not in "".join(capfd.readouterr())
    assert PASSWORD not in sudo.sshd.log


def test_a_password_is_asked_for_without_map_too(sudo: Sudo) -> None:
    sudo.mode("asks")
    ask = Ask(PASSWORD)
    with sudo.fleet(ask) as fleet:
        assert fleet["m1"].run("echo in").stdout == "in\n"
    assert len(ask.prompts) == 1


def test_the_environment_goes_before_the_prompt(sudo: Sudo, monkeypatch: pytest.MonkeyPatch) -> None:
    sudo.mode("asks")
    monkeypatch.setenv("ETCDOPS_SUDO_PASSWORD", PASSWORD)
    ask = Ask("wrong")
    with sudo.fleet(ask) as fleet:
        fleet.all(lambda host: host.run("true"))
    assert ask.prompts == []


def test_a_wrong_password_is_tried_once_for_each_host(sudo: Sudo) -> None:
    sudo.mode("asks")
    ask = Ask("wrong")
    errors = failures(sudo.fleet(ask))
    said = "sudo does not take the password of operator: sudo: 1 incorrect password attempt"
    assert errors[0].message == said
    assert len(ask.prompts) == 1
    assert sudo.calls.count("-k -S") == 3


@pytest.mark.parametrize("ask", [None, Ask("")])
def test_nobody_to_ask(sudo: Sudo, ask: Ask | None) -> None:
    sudo.mode("asks")
    [error, *_] = failures(sudo.fleet(ask))
    assert error.message == "sudo wants a password for operator"
    assert "ETCDOPS_SUDO_PASSWORD" in error.hint


def test_who_does_not_become_root_does_not_stay_connected(sudo: Sudo) -> None:
    sudo.mode("never")
    with sudo.fleet() as fleet:
        for _ in range(2):
            with pytest.raises(HostError):
                fleet["m1"].run("true")
        assert fleet._dialer is not None
        assert not any(transport.is_active() for transport in fleet._dialer._transports)


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        ("never", "operator may not use sudo for every command: operator is not in the sudoers file.", "visudo"),
        ("asks-in-vain", "operator may not use sudo for every command: operator is not in the sudoers file.", "visudo"),
        ("tty", "sudo wants a terminal: sudo: sorry, you must have a tty to run sudo", "requiretty"),
    ],
)
def test_refusals(sudo: Sudo, mode: str, message: str, hint: str) -> None:
    sudo.mode(mode)
    ask = Ask(PASSWORD)
    [error, *_] = failures(sudo.fleet(ask))
    assert error.message == message
    assert hint in error.hint
    assert len(ask.prompts) == (mode == "asks-in-vain")


def test_no_sudo_at_all(ground: Ground) -> None:
    (ground.folder / "bin").mkdir()
    for name in ("id", "sh", "env"):
        (ground.folder / "bin" / name).symlink_to(Path("/usr/bin") / name)
    server = ground.sshd(f"SetEnv PATH={ground.folder}/bin")
    with ground.fleet(server.port, user="operator") as fleet, pytest.raises(HostError) as caught:
        fleet["m1"].run("true")
    assert str(caught.value) == "m1: operator is not root, and there is no sudo"
    assert "install sudo" in caught.value.hint


def test_a_user_without_a_shell(ground: Ground, sshd: Sshd) -> None:
    with ground.fleet(sshd.port, user="ghost") as fleet, pytest.raises(HostError) as caught:
        fleet["m1"].run("true")
    assert str(caught.value) == "m1: ghost cannot run commands here"
    assert "shell" in caught.value.hint
