"""The way to a host: settings, keys, jump hosts, and what is said when it does not lead there."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paramiko import ProxyCommandFailure

from etcdops.config import Member, SshSection
from etcdops.errors import HostError, UsageError
from etcdops.ssh import Fleet, proxy

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd


def refused(fleet: Fleet, name: str = "m1") -> HostError:
    with fleet, pytest.raises(HostError) as caught:
        fleet[name].run("true")
    assert caught.value.host == name
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def user_config(ground: Ground) -> Callable[[str], None]:
    """Write ~/.ssh/config; KEY stands for the key that every sshd takes."""

    def write(text: str) -> None:
        folder = ground.folder / "home" / ".ssh"
        folder.mkdir(exist_ok=True)
        (folder / "config").write_text(text.replace("KEY", str(ground.key)))

    return write


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, ground: Ground) -> Iterator[Callable[[Path], None]]:
    """An ssh-agent of our own, empty; call it with a key to add (passphrase: "secret")."""
    sock = ground.folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 5
    while not sock.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
    helper = ground.folder / "askpass"
    helper.write_text("#!/bin/sh\necho secret\n")
    helper.chmod(0o755)
    environment = {**os.environ, "SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}

    def add(key: Path) -> None:
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environment, stdin=subprocess.DEVNULL)

    yield add
    process.terminate()
    process.wait(5)


# Nobody there, or nobody we know how to talk to.


def test_nobody_listens(ground: Ground) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        error = refused(ground.fleet(port))
    assert error.message == f"127.0.0.1:{port}: connection refused"
    assert "ssh.port" in error.hint


def test_hosts_that_are_dialled_at_once_share_nothing_that_changes(ground: Ground) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds: a thread is interrupted wherever it may be
    try:
        for _ in range(25):
            with ground.fleet(*[1] * 9) as fleet:  # nobody listens there
                assert all(isinstance(each, HostError) for each in fleet.map(lambda host: host.run("true")).values())
    finally:
        sys.setswitchinterval(interval)


def test_nobody_answers(ground: Ground, silent_port: int) -> None:
    start = time.monotonic()
    error = refused(ground.fleet(silent_port, connect_timeout=0.4))
    assert error.message == f"127.0.0.1:{silent_port}: no answer within 0.4 s"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("words", "hang_up", "message"),
    [
        (b"", False, "no SSH handshake within 0.4 s"),
        (b"", True, "whoever answers there speaks no SSH"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", True, "whoever answers there speaks no SSH"),
        (b"SSH-1.5-old\r\n", True, "Incompatible version (1.5 instead of 2.0)"),
        (b"SSH-2.0-mute\r\n", False, "no SSH handshake within 0.4 s"),
        (b"SSH-2.0-gone\r\n", True, "hung up"),
    ],
)
def test_not_an_ssh_server(
    ground: Ground, speak: Callable[[bytes, bool], int], words: bytes, hang_up: bool, message: str
) -> None:
    port = speak(words, hang_up)
    start = time.monotonic()
    assert refused(ground.fleet(port, connect_timeout=0.4)).message == f"127.0.0.1:{port}: {message}"
    assert time.monotonic() - start < 2


def test_a_name_that_does_not_resolve(ground: Ground) -> None:
    members = [Member(name="m1", address="192.0.2.1", ssh="no-such-host.invalid")]
    error = refused(Fleet(members, ground.ssh(), Path, ask=None))
    assert error.message.startswith("no-such-host.invalid:22: the name cannot be resolved")


def test_nothing_in_common(ground: Ground) -> None:
    server = ground.sshd("KexAlgorithms sntrup761x25519-sha512@openssh.com")
    assert "Incompatible ssh peer" in refused(ground.fleet(server.port)).message


# Logging in.


def test_a_key_that_is_not_there(ground: Ground, sshd: Sshd) -> None:
    error = refused(ground.fleet(sshd.port, key="/nowhere/key"))
    assert error.message == "the SSH key /nowhere/key does not exist"
    assert "ssh.key" in error.hint


def test_a_key_that_is_none(ground: Ground, sshd: Sshd) -> None:
    (ground.folder / "junk").write_text("junk")
    error = refused(ground.fleet(sshd.port, key=str(ground.folder / "junk")))
    assert error.message == f"login as root refused, tried {ground.folder}/junk (is not a private key that we can read)"


def test_a_key_that_the_host_does_not_take(ground: Ground, sshd: Sshd) -> None:
    key = ground.keygen("home/other")
    error = refused(ground.fleet(sshd.port, key=str(key), user="nobody"))
    assert error.message == "login as nobody refused, tried ~/other"
    assert "ssh-copy-id" in error.hint


def test_no_key_at_all(ground: Ground, sshd: Sshd) -> None:
    error = refused(Fleet(one(sshd), no_key(ground), Path, ask=None))
    assert error.message == "login as root refused, tried no key: there is none in ~/.ssh, and no agent holds one"


def test_too_many_keys(ground: Ground, agent: Callable[[Path], None]) -> None:
    server = ground.sshd("MaxAuthTries 2")
    for name in ("a", "b", "c"):
        agent(ground.keygen(name))
    error = refused(Fleet(one(server), no_key(ground), Path, ask=None))
    assert error.message == "login as root refused, tried the agent's a, the agent's b; then the host hung up"
    assert "MaxAuthTries" in error.hint


def test_a_login_that_hangs(ground: Ground) -> None:
    server = ground.sshd("AuthorizedKeysCommand /bin/sleep 20", "AuthorizedKeysCommandUser root")
    (server.folder / "authorized_keys").write_text("")
    error = refused(ground.fleet(server.port, connect_timeout=0.8))
    assert error.message == f"login as root with {ground.key}: no answer within 0.8 s"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_with_a_passphrase_is_for_the_agent(ground: Ground, agent: Callable[[Path], None], kind: str) -> None:
    ground.key = ground.keygen("locked", kind, passphrase="secret")
    server = ground.sshd()
    error = refused(ground.fleet(server.port))
    assert error.message == f"login as root refused, tried {ground.key} (has a passphrase)"
    assert error.hint == f"unlock the key for this session: ssh-add {ground.key}"
    agent(ground.key)
    with ground.fleet(server.port) as fleet:
        assert fleet["m1"].run("echo in").stdout == "in\n"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_kind(ground: Ground, kind: str) -> None:
    ground.key = ground.keygen("home/mine", kind)
    server = ground.sshd()
    with ground.fleet(server.port) as fleet:
        assert fleet["m1"].run("echo in").stdout == "in\n"
    (ground.folder / "home/.ssh").mkdir()
    for name in ("mine", "mine.pub"):
        (ground.folder / "home" / name).rename(ground.folder / "home/.ssh" / name.replace("mine", f"id_{kind}"))
    with Fleet(one(server), no_key(ground), Path, ask=None) as fleet:
        assert fleet["m1"].run("echo in by default").stdout == "in by default\n"


def test_identities_only_keeps_the_agents_other_keys_back(
    ground: Ground, sshd: Sshd, agent: Callable[[Path], None], user_config: Callable[[str], None]
) -> None:
    agent(ground.keygen("stranger"))
    agent(ground.key)
    user_config("IdentitiesOnly yes\nIdentityFile KEY\n")
    ground.key.rename(ground.folder / "moved")  # leaves KEY.pub, which says which of the agent's keys is meant
    with Fleet(one(sshd), no_key(ground), Path, ask=None) as fleet:
        fleet["m1"].run("true")
    assert sshd.log.count("userauth-request for user root service ssh-connection method publickey") == 1


# Which settings count.


def one(server: Sshd, **settings: Any) -> list[Member]:
    return [Member(name="m1", **{"address": "192.0.2.1", "ssh": "127.0.0.1", "port": server.port, **settings})]


def no_key(ground: Ground, **settings: Any) -> SshSection:
    return SshSection(known_hosts=str(ground.known_hosts), connect_timeout=5.0, **settings)


ALIAS = "Host box\n  HostName 127.0.0.1\n  Port PORT\n  User toor\n  IdentityFile KEY\n"


@pytest.mark.parametrize(
    ("member", "section", "config", "user"),
    [
        ({"ssh": "box", "port": 0}, {}, ALIAS, "toor"),
        ({"ssh": "box", "port": 0}, {}, f"Include conf.d/*\n# {ALIAS}", "toor"),
        ({"ssh": "box", "port": 0}, {"user": "root"}, ALIAS, "root"),
        ({"ssh": "toor@box", "port": 0}, {"user": "root"}, ALIAS.replace("toor", "nobody"), "toor"),
        ({"ssh": "box", "port": 0}, {}, ALIAS.replace("  User toor\n", ""), "root"),
        ({"ssh": "box"}, {}, ALIAS.replace("PORT", "1"), "toor"),
        ({"ssh": "box", "port": 0}, {"port": "PORT"}, ALIAS.replace("PORT", "1"), "toor"),
        ({"ssh": "box"}, {"port": 1}, ALIAS.replace("PORT", "1"), "toor"),
        ({"ssh": "127.0.0.1:PORT", "port": 0}, {"port": 1}, "IdentityFile KEY", "root"),
        ({"ssh": "", "address": "192.0.2.7"}, {}, ALIAS.replace("box", "192.0.2.7"), "toor"),
    ],
)
def test_config_yaml_goes_before_ssh_config_where_it_says_something(
    ground: Ground,
    sshd: Sshd,
    user_config: Callable[[str], None],
    member: dict[str, Any],
    section: dict[str, Any],
    config: str,
    user: str,
) -> None:
    port = str(sshd.port)
    user_config(config.replace("PORT", port).replace("# Host", "Host off\nHost"))
    if "Include" in config:
        user_config("Include conf.d/*\n")
        (ground.folder / "home/.ssh/conf.d").mkdir()
        text = ALIAS.replace("PORT", port).replace("KEY", str(ground.key))
        (ground.folder / "home/.ssh/conf.d/lab").write_text(text)
    member = {key: value.replace("PORT", port) if isinstance(value, str) else value for key, value in member.items()}
    section = {key: sshd.port if value == "PORT" else value for key, value in section.items()}
    with Fleet(one(sshd, **member), no_key(ground, **section), Path, ask=None) as fleet:
        fleet["m1"].run("true")
    assert f"Accepted publickey for {user} " in sshd.log


def test_host_key_alias(ground: Ground, sshd: Sshd, user_config: Callable[[str], None]) -> None:
    user_config("HostKeyAlias cluster-host")
    with ground.fleet(sshd.port) as fleet:
        fleet["m1"].run("true")
    assert ground.known_hosts.read_text().startswith("cluster-host ssh-ed25519 ")


def test_settings_that_trip_fabric(ground: Ground, sshd: Sshd, user_config: Callable[[str], None]) -> None:
    user_config("ForwardAgent $SSH_AUTH_SOCK\nConnectTimeout none\n")
    with ground.fleet(sshd.port) as fleet:
        fleet["m1"].run("true")


def test_an_address_that_makes_no_sense(ground: Ground, sshd: Sshd) -> None:
    fleet = Fleet(one(sshd, ssh="127.0.0.1:first"), ground.ssh(), Path, ask=None)
    with fleet, pytest.raises(UsageError, match=r"^127.0.0.1:first: this is no way to reach a host"):
        fleet["m1"].run("true")


def test_an_ssh_config_that_makes_no_sense(ground: Ground, sshd: Sshd, user_config: Callable[[str], None]) -> None:
    user_config("nonsense\n")
    with ground.fleet(sshd.port) as fleet, pytest.raises(UsageError, match=r"~/.ssh/config: "):
        fleet["m1"].run("true")


def test_the_connection_is_fast_and_notices_its_death(ground: Ground, sshd: Sshd) -> None:
    with ground.fleet(sshd.port) as fleet:
        fleet["m1"].run("true")
        opened = fleet["m1"]._open
        assert opened is not None
        transport: Any = opened.link._transport
        assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000
        assert "gcm" in transport.remote_cipher
        assert transport.packetizer._Packetizer__keepalive_interval == 15


def test_paramiko_does_not_write_to_stderr(
    ground: Ground, speak: Callable[[bytes, bool], int], capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("paramiko")
    logger.propagate = False  # pytest's own handlers would hide the missing one
    try:
        refused(ground.fleet(speak(b"nonsense\r\n", True), connect_timeout=0.4))
    finally:
        logger.propagate = True
    assert capfd.readouterr().err == ""


# Jump hosts.


@pytest.fixture
def gateway(ground: Ground) -> Sshd:
    return ground.sshd()


def test_a_jump_host_is_opened_once_and_checked(ground: Ground, sshd: Sshd, gateway: Sshd) -> None:
    with ground.fleet(sshd.port, sshd.port, sshd.port, gateway=f"127.0.0.1:{gateway.port}") as fleet:
        assert fleet.all(lambda host: host.run("echo in").stdout) == {"m1": "in\n", "m2": "in\n", "m3": "in\n"}
        assert fleet["m1"].run("wc -c", stdin=b"x" * 5_000_000).stdout == "5000000\n"
    assert gateway.log.count("Accepted publickey") == 1
    assert gateway.log.count("connect_to_host 127.0.0.1") or gateway.log.count("direct-tcpip") >= 3
    assert sshd.log.count("Accepted publickey") == 3
    names = sorted(line.split()[0] for line in ground.known_hosts.read_text().splitlines())
    assert names == sorted(f"[127.0.0.1]:{server.port}" for server in (sshd, gateway))


@pytest.mark.parametrize("hops", [1, 2])
def test_proxy_jump_of_ssh_config(
    ground: Ground, sshd: Sshd, gateway: Sshd, user_config: Callable[[str], None], hops: int
) -> None:
    second = ground.sshd()
    jump = {1: "gw1", 2: "gw1,gw2"}[hops]
    user_config(
        f"Host gw1\n HostName 127.0.0.1\n Port {gateway.port}\nHost gw2\n HostName 127.0.0.1\n Port {second.port}\n"
        f"Host 127.0.0.1\n ProxyJump {jump}\n"
    )
    with ground.fleet(sshd.port, sshd.port) as fleet:
        fleet.all(lambda host: host.run("true"))
    assert gateway.log.count("Accepted publickey") == 1
    assert second.log.count("Accepted publickey") == hops - 1
    assert len(ground.known_hosts.read_text().splitlines()) == hops + 1


def test_proxy_command_of_ssh_config(
    ground: Ground, sshd: Sshd, user_config: Callable[[str], None], tmp_path: Path
) -> None:
    script = tmp_path / "pipe.py"
    script.write_text(
        "import socket, sys, threading, os\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): sock.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := sock.recv(65536): os.write(1, data)\n"
    )
    user_config(f"Host *\n Port {sshd.port}\n ProxyCommand {sys.executable} {script} %h %p\n")
    with ground.fleet(sshd.port) as fleet:
        assert fleet["m1"].run("wc -c", stdin=b"x" * 100_000).stdout == "100000\n"
        for number in (signal.SIGINT, signal.SIGHUP):  # which the terminal sends to it as well
            os.kill(int((tmp_path / "pid").read_text()), number)
        assert fleet["m1"].run("wc -c", stdin=b"x" * 100_000).stdout == "100000\n"


def test_proxy_command_that_fails(ground: Ground, sshd: Sshd, user_config: Callable[[str], None]) -> None:
    user_config(f"Host *\n Port {sshd.port}\n ProxyCommand /nowhere/nc %h %p\n")
    assert refused(ground.fleet(sshd.port)).message.endswith("No such file or directory")
    failure = ProxyCommandFailure(" ".join(shlex.split(proxy.deaf("cat -"))), "Broken pipe")
    assert proxy.shown(str(failure)) == str(ProxyCommandFailure("cat -", "Broken pipe"))


def test_a_jump_host_that_fails_is_named_and_tried_once(ground: Ground, sshd: Sshd, silent_port: int) -> None:
    start = time.monotonic()
    fleet = ground.fleet(sshd.port, sshd.port, sshd.port, gateway=f"127.0.0.1:{silent_port}", connect_timeout=0.5)
    with fleet:
        errors = fleet.map(lambda host: host.run("true"))
    seconds = time.monotonic() - start
    message = f"jump host 127.0.0.1: 127.0.0.1:{silent_port}: no answer within 0.5 s"
    assert [str(error) for error in errors.values()] == [f"m{n}: {message}" for n in (1, 2, 3)]
    assert seconds < 1.4


def test_the_host_key_of_a_jump_host_counts(ground: Ground, sshd: Sshd, gateway: Sshd) -> None:
    other = Path(f"{ground.keygen('other')}.pub").read_text()
    ground.known_hosts.write_text(f"[127.0.0.1]:{gateway.port} {other}")
    error = refused(ground.fleet(sshd.port, gateway=f"127.0.0.1:{gateway.port}"))
    assert error.message.startswith(f"jump host 127.0.0.1: the host key of [127.0.0.1]:{gateway.port} has changed")
    assert "userauth" not in gateway.log


def test_a_jump_host_that_cannot_get_further(ground: Ground, gateway: Sshd) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        error = refused(ground.fleet(port, gateway=f"127.0.0.1:{gateway.port}"))
    assert error.message == f"127.0.0.1:{port}: the jump host cannot reach it (Connect failed)"


def test_a_jump_host_that_reaches_nobody(ground: Ground, gateway: Sshd, silent_port: int) -> None:
    start = time.monotonic()
    error = refused(ground.fleet(silent_port, gateway=f"127.0.0.1:{gateway.port}", connect_timeout=1.0))
    assert error.message == f"127.0.0.1:{silent_port}: the jump host reaches nobody there within 1 s"
    assert time.monotonic() - start < 4


def test_a_jump_host_that_was_lost_is_opened_again(ground: Ground, sshd: Sshd, gateway: Sshd) -> None:
    with ground.fleet(sshd.port, gateway=f"127.0.0.1:{gateway.port}") as fleet:
        fleet["m1"].run("true")
        host_transport: Any = fleet["m1"]._open.link._transport  # type: ignore[union-attr]
        host_transport.sock.transport.close()
        try:
            fleet["m1"].run("true")
        except HostError as error:  # else it had noticed already, and opened another
            assert "lost" in error.message
        assert fleet["m1"].run("echo again").stdout == "again\n"
    assert gateway.log.count("Accepted publickey") == 2
