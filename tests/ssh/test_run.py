"""Host.run: scripts, arguments, stdin, output, time and errors, through a real sshd."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etcdops.errors import HostError
from etcdops.ssh import Fleet, Host
from etcdops.ssh import session as session_module

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd

MB = 1_000_000
SESSION = 'session=$(cut -d" " -f4 "/proc/$PPID/stat")'  # the sshd above: its child `timeout` is our parent

arguments = st.lists(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
    | st.sampled_from(
        ["", "-n", "--", "$(id)", "`id`", "a;id", "'", '"', "\\", "\n", "a\n'b", "!!", "*", "~", "$HOME", "%s"]
    ),
    max_size=6,
)


def assert_gone(pid: str) -> None:
    """That it is no more, or but a zombie that waits for its parent."""
    deadline = time.monotonic() + 2
    stat = Path(f"/proc/{pid}/stat")
    while time.monotonic() < deadline:
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(stat.read_text())


@pytest.fixture
def host(fleet: Fleet) -> Host:
    return fleet["m1"]


@given(args=arguments)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arguments_arrive_unharmed(host: Host, args: list[str]) -> None:
    out = host.run('printf "%s\\0" "$#" "$@"', *args).stdout
    assert out.split("\0")[:-1] == [str(len(args)), *args]


def test_a_script_of_many_lines_runs_as_root_in_a_clean_environment(ground: Ground) -> None:
    server = ground.sshd("SetEnv https_proxy=http://proxy ETCD_NAME=x LC_ALL=de_DE.UTF-8")
    with ground.fleet(server.port) as fleet:
        done = fleet["m1"].run("# a comment, it's here\nenv; echo $0\nid -u")
    *environment, name, uid = done.stdout.splitlines()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert sorted(environment) == ["HOME=/root", "LC_ALL=C", path, f"PWD={server.folder}"]
    assert (name, uid, done.rc) == ("etcdops", "0", 0)
    assert 0 < done.seconds < 10


def test_output_that_is_not_utf8_is_replaced(host: Host) -> None:
    done = host.run(r"printf 'a\377b'; printf 'c\376' >&2")
    assert (done.stdout, done.stderr) == ("a\ufffdb", "c\ufffd")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first >&2; echo; exit 3", "m1: first"),
        ("for i in 1 2 3 4; do echo line $i >&2; echo >&2; done; exit 1", "m1: line 2; line 3; line 4"),
        ("echo only stdout; false", "m1: only stdout"),
        ("exit 7", "m1: exit status 7, without a word"),
        ("kill -9 $PPID", "m1: the command was killed by a signal"),
        ("exit 124", "m1: exit status 124, without a word"),
    ],
)
def test_a_failure_is_told_in_the_last_words_of_the_script(host: Host, script: str, message: str) -> None:
    with pytest.raises(HostError) as caught:
        host.run(script)
    assert str(caught.value) == message
    assert (caught.value.host, caught.value.exit_code) == ("m1", 4)


def test_unchecked_an_exit_status_is_an_answer(host: Host) -> None:
    assert host.run("echo x; exit 3", check=False).rc == 3


@pytest.mark.parametrize("stdin", [b"", b"one line\n", os.urandom(5 * MB), [b"a" * 3, b"", b"b" * MB, b"c"]])
def test_stdin_arrives_whole(host: Host, stdin: bytes | list[bytes]) -> None:
    whole = stdin if isinstance(stdin, bytes) else b"".join(stdin)
    assert host.run("sha256sum", stdin=stdin).stdout.split()[0] == hashlib.sha256(whole).hexdigest()


def test_nothing_blocks_when_all_three_streams_are_larger_than_any_window(host: Host) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * MB

    script = "head -c 40000000 /dev/zero; head -c 40000000 /dev/zero >&2; wc -c"
    done = host.run(script, stdin=chunks())
    assert (len(done.stdout), len(done.stderr)) == (40 * MB + len("40000000\n"), 40 * MB)
    assert done.stdout.endswith("40000000\n")


def test_large_output_takes_no_quadratic_time(host: Host) -> None:
    start = time.monotonic()
    assert len(host.run("head -c 30000000 /dev/zero").stdout) == 30 * MB
    assert time.monotonic() - start < 10  # Connection.run: more than a minute


def test_a_connection_outlives_the_point_where_paramiko_wants_new_keys(
    host: Host, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramiko.packet.Packetizer.REKEY_BYTES", 1 * MB)  # in truth 512 MiB
    for _ in range(4):
        assert len(host.run("head -c 5000000 /dev/zero").stdout) == 5 * MB
    assert sshd.log.count("SSH2_MSG_KEXINIT received") == 1


def test_new_keys_that_the_host_asks_for(ground: Ground) -> None:
    server = ground.sshd("RekeyLimit 3M")
    with ground.fleet(server.port) as fleet:
        for _ in range(4):
            done = fleet["m1"].run("head -c 5000000 /dev/zero; wc -c >&2", stdin=b"x" * 5 * MB)
            assert (len(done.stdout), done.stderr) == (5 * MB, "5000000\n")
    assert server.log.count("SSH2_MSG_KEXINIT received") > 5


def test_who_ends_before_taking_all_of_stdin_has_the_last_word(host: Host) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * MB

    with pytest.raises(HostError, match=r"^m1: cat: write error: No space left on device$"):
        host.run("cat > /dev/full", stdin=endless())
    assert host.run("head -c 3", stdin=endless()).stdout == "xxx"
    assert host.run("exec <&-; echo done", stdin=endless()).stdout == "done\n"


def test_a_source_of_stdin_that_fails_is_no_end_of_data(host: Host) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(5, "the disk is gone")

    start = time.monotonic()
    with pytest.raises(OSError, match=r"the disk is gone"):
        host.run("cat; sleep 30", stdin=broken())
    assert time.monotonic() - start < 5
    assert host.run("echo again").stdout == "again\n"


def test_what_an_argument_cannot_carry_is_a_bug_of_ours(host: Host) -> None:
    for bad in ("a\0b", "x" * 131_000, "'" * 30_000):
        with pytest.raises(ValueError, match=r"stdin"):
            host.run("true", bad)
    assert host.run('echo "${#1}"', "x" * 130_000).stdout == "130000\n"


def test_time_is_up_on_the_host_as_well(host: Host, tmp_path: Path) -> None:
    script = 'echo $$ > "$1"; sleep 60 & echo $! >> "$1"; echo at work >&2; wait'
    start = time.monotonic()
    with pytest.raises(HostError, match=r"^m1: stopped, for it took longer than 0.5 s: at work$") as caught:
        host.run(script, str(tmp_path / "pids"), timeout=0.5, check=False)
    assert time.monotonic() - start < 2
    assert "ssh.command_timeout" in caught.value.hint
    for pid in (tmp_path / "pids").read_text().split():
        assert_gone(pid)


def test_who_ignores_the_end_of_time_is_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "KILL_AFTER", 0.3)
    with pytest.raises(HostError, match=r"longer than 0.3 s"):
        host.run("trap '' TERM; while :; do sleep 1; done", timeout=0.3)


def test_a_host_that_hangs_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session_module, "GRACE", 0.2)
    frozen = tmp_path / "session"
    try:
        start = time.monotonic()
        with pytest.raises(HostError, match=r"^m1: no answer within 0.6 s$"):
            host.run(f'{SESSION}; echo $session > "$1"; kill -STOP $session', str(frozen), timeout=0.4)
        assert time.monotonic() - start < 2
        with pytest.raises(HostError, match=r"^m1: no answer within 0.6 s$"):
            endless = (b"x" * MB for _ in range(1000))
            host.run(f'{SESSION}; echo $session >> "$1"; kill -STOP $session', str(frozen), timeout=0.4, stdin=endless)
        assert len(set(frozen.read_text().split())) == 2  # the first connection was not used again
    finally:
        for pid in frozen.read_text().split():
            os.kill(int(pid), signal.SIGCONT)
    assert host.run("echo again").stdout == "again\n"


def test_output_that_somebody_still_holds_is_not_cut_short(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "GRACE", 0.2)
    with pytest.raises(HostError, match=r"^m1: no answer within 0.5 s$"):
        host.run("sleep 3 & echo ended", timeout=0.3)


def test_output_that_cannot_be_read_is_not_cut_short() -> None:
    from etcdops.ssh.link import Reader

    def broken(size: int) -> bytes:
        raise EOFError

    with pytest.raises(EOFError):
        Reader(broken).result(time.monotonic() + 5)


def test_a_lost_connection_is_told_and_mended(host: Host) -> None:
    with pytest.raises(HostError, match=r"^m1: the connection was lost while a command ran$") as caught:
        host.run(f"{SESSION}; kill -9 $session; sleep 5")
    assert "unknown" in caught.value.hint
    assert host.run("echo again").stdout == "again\n"
    host.close()
    assert host.run("echo and again").stdout == "and again\n"


def test_many_commands_leave_no_files_open(host: Host) -> None:
    host.run("true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        host.run("cat", stdin=b"x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_importing_costs_nothing_until_a_host_is_used() -> None:
    code = "import etcdops.ssh, sys; assert not {'fabric', 'paramiko', 'invoke'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
