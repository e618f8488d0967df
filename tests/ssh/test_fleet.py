"""Fleet: side by side, in order, every error, and gone at once on Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdops.errors import HostError, HostsFailed, OpsError, Refused
from etcdops.ssh import Fleet, Host

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd


@pytest.fixture
def idle(ground: Ground) -> Fleet:
    """Five members; nothing of this connects."""
    return ground.fleet(1, 2, 3, 4, 5)


def test_hosts_work_at_the_same_time_and_answer_in_order(idle: Fleet) -> None:
    barrier = threading.Barrier(5, timeout=10)
    turn = [threading.Event() for _ in range(6)]
    turn[5].set()

    def work(host: Host) -> str:
        barrier.wait()
        number = int(host.name[1:])
        assert turn[number].wait(10)  # the last one ends first
        turn[number - 1].set()
        return host.name.upper()

    assert list(idle.map(work).items()) == [(f"m{n}", f"M{n}") for n in range(1, 6)]


def test_names_choose_and_the_configuration_orders(idle: Fleet) -> None:
    assert idle.map(lambda host: host.name, ["m4", "m2"]) == {"m2": "m2", "m4": "m4"}
    assert list(idle.map(lambda host: 1, ["m4", "m2"])) == ["m2", "m4"]
    assert idle.all(lambda host: 1, []) == {}
    with pytest.raises(KeyError):
        idle.map(lambda host: 1, ["m1", "m6"])


def test_expected_errors_are_results(idle: Fleet) -> None:
    def work(host: Host) -> str:
        if host.name == "m2":
            raise HostError("no space left")
        if host.name == "m4":
            raise Refused("not now", host="etcd04")
        return "fine"

    results = idle.map(work)
    assert [str(result) for result in results.values()] == [
        "fine",
        "m2: no space left",
        "fine",
        "etcd04: not now",
        "fine",
    ]
    with pytest.raises(HostsFailed, match="2 hosts failed") as caught:
        idle.all(work)
    assert [str(error) for error in caught.value.errors] == ["m2: no space left", "etcd04: not now"]


def test_a_bug_is_no_result(idle: Fleet) -> None:
    ended = []

    def work(host: Host) -> None:
        ended.append(host.name)
        if host.name == "m3":
            raise ZeroDivisionError
        raise HostError("expected")

    with pytest.raises(ZeroDivisionError) as caught:
        idle.map(work)
    assert caught.value.__notes__ == ["on m3"]
    assert len(ended) == 5


def test_nothing_connects_before_it_must(ground: Ground, sshd: Sshd) -> None:
    before = sshd.log.count("Connection from")
    with ground.fleet(sshd.port, 1) as fleet:
        fleet.map(lambda host: host.name)
        assert sshd.log.count("Connection from") == before
        fleet["m1"].run("true")
        assert sshd.log.count("Connection from") == before + 1
    with pytest.raises(HostError, match="the run has ended"):
        fleet["m1"].run("true")


def test_three_hosts_connect_at_once_and_one_that_fails_holds_nobody_up(
    ground: Ground, sshd: Sshd, silent_port: int
) -> None:
    def work(host: Host) -> float:
        host.run("true")
        return time.monotonic()

    start = time.monotonic()
    with ground.fleet(sshd.port, silent_port, sshd.port, connect_timeout=3.0) as fleet:
        results = fleet.map(work)
    assert isinstance(results["m2"], OpsError)
    assert all(isinstance(results[name], float) and results[name] - start < 2 for name in ("m1", "m3"))


def test_a_connection_that_opens_after_the_end_is_not_used(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    errors = []

    def work() -> None:
        try:
            fleet["m1"].run("true")
        except HostError as error:
            errors.append(str(error))

    fleet = ground.fleet(listener.getsockname()[1], connect_timeout=10.0)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while fleet._dialer is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    thread.join(0.2)
    fleet.close()
    assert thread.is_alive()
    listener.settimeout(10)
    accepted = [listener.accept()[0] for _ in range(2)]  # makes room: the next attempt gets through
    thread.join(10)
    assert errors == ["m1: the run has ended"]
    for sock in (listener, *fillers, *accepted):
        sock.close()


CTRL_C = """
import sys, time
from pathlib import Path
from etcdops.config import Member, SshSection
from etcdops.errors import HostError
from etcdops.ssh import Fleet

key, known, started, *ports = sys.argv[1:]
members = [
    Member(name=f"m{n}", address="192.0.2.1", ssh="127.0.0.1", port=int(port)) for n, port in enumerate(ports)
]
ssh = SshSection(user="root", key=key, known_hosts=known, connect_timeout=60.0)

def work(host):
    with open(started, "a") as file:
        file.write("x")
    host.run("echo x >> $1; sleep 60", started, timeout=10, stdin=(b"x" * 100_000 for _ in range(1000)))

fleet = Fleet(members, ssh, Path, ask=None)
try:
    fleet.map(work)
except KeyboardInterrupt:
    print(time.time())
    try:
        fleet["m0"].run("true")
    except HostError as error:
        print(error)
    sys.exit(130)
"""


def test_ctrl_c_ends_everything_at_once(
    ground: Ground, sshd: Sshd, silent_port: int, speak: Callable[[bytes, bool], int]
) -> None:
    """Two hosts in the middle of a command that takes no stdin, one that never connects, two in a handshake."""
    ports = [sshd.port, sshd.port, silent_port, speak(b"", False), speak(b"SSH-2.0-mute\r\n", False)]
    started = ground.folder / "started"
    command = [sys.executable, "-c", CTRL_C, str(ground.key), str(ground.known_hosts), str(started), *map(str, ports)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 20
            while not started.exists() or len(started.read_text()) < 5 + 2 * 2:  # 5 began, 2 sleep
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            pressed = time.time()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    ended = time.time()
    assert process.returncode == 130, err
    assert err == ""
    caught, error = out.splitlines()
    assert error == "m0: the run has ended"
    print(f"caught after {float(caught) - pressed:.3f} s, at its end after {ended - pressed:.3f} s")
    assert float(caught) - pressed < 1
    assert ended - pressed < 2
