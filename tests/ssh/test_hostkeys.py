"""Host keys: what known_hosts says, what is written to it, and who is refused."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdops.errors import HostError
from etcdops.ssh.hostkeys import HostKey, KnownHosts, known_name, parse

if TYPE_CHECKING:
    from tests.ssh.conftest import Ground, Sshd

A, B = HostKey("ssh-ed25519", b"key a"), HostKey("ssh-ed25519", b"key b")
LINE_A, LINE_B = "ssh-ed25519 a2V5IGE=", "ssh-ed25519 a2V5IGI="
ODD = f"""\
# a comment
@cert-authority *.example.org {LINE_A}
@cert-authority
garbage
host1 ssh-ed25519 not*base64
host1 ssh-dss a2V5IGI=
host1 sk-ssh-ed25519@openssh.com a2V5IGI=
host1
|1|x|y {LINE_A}
\xff\x00 {LINE_A}
  host1\t{LINE_A} a comment behind
"""


@pytest.mark.parametrize(
    ("names", "name", "covered"),
    [
        ("host1", "host1", True),
        ("HOST1", "host1", True),
        ("host1,192.0.2.1", "192.0.2.1", True),
        ("host1", "host11", False),
        ("host?", "host1", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org,!a.example.org", "a.example.org", False),
        ("!a.example.org", "b.example.org", False),
        ("[host1]:2222", "[host1]:2222", True),
        ("[host1]:2222", "host1", False),
        ("host1", "[host1]:2222", False),
        ("[*]:2222", "[fd00::1]:2222", True),
        ("host.", "hosta", False),
    ],
)
def test_names(names: str, name: str, covered: bool) -> None:
    [entry] = parse(f"{names} {LINE_A}")
    assert entry.covers(name) is covered


def test_names_hashed_by_openssh(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    (tmp_path / "key").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    file.write_text(f"host1 {public}\n[host2]:2222 {public}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    one, two = parse(file.read_text())
    assert one.names[0].startswith("|1|")
    assert (one.covers("host1"), one.covers("[host2]:2222"), two.covers("[host2]:2222")) == (True, False, True)
    printed = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "key"], check=True, capture_output=True, text=True)
    assert one.key.fingerprint.split()[1] == printed.stdout.split()[1]


@pytest.mark.parametrize(("host", "port", "name"), [("Host1", 22, "host1"), ("fd00::1", 2222, "[fd00::1]:2222")])
def test_known_name(host: str, port: int, name: str) -> None:
    assert known_name(host, port) == name


@pytest.mark.parametrize(
    ("text", "key", "refusal"),
    [
        (f"host1 {LINE_A}", A, ""),
        (f"host1 {LINE_B}\nhost1 {LINE_A}", A, ""),
        (ODD, A, ""),
        (f"host1 {LINE_A}\n@revoked * {LINE_A}", A, "is revoked (FILE:2)"),
        (f"@revoked * {LINE_B}\nhost1 {LINE_A}", A, ""),
        (f"@revoked host1 {LINE_B}", A, "is not in FILE"),
        (f"@cert-authority host1 {LINE_B}", A, "is not in FILE"),
        (ODD, B, "but FILE:11 holds another"),
        (f"host1 {LINE_A}\nhost2 {LINE_B}\nhost1 {LINE_A}", B, "but FILE:1,3 holds another"),
        (f"host1 ssh-rsa {LINE_A.split()[1]}", A, "but FILE:1 holds another"),
        ("host1 ssh-dss a2V5IGE=", A, "is not in FILE"),
        ("", A, "is not in FILE"),
        (None, A, "is not in FILE"),
    ],
)
def test_strict(tmp_path: Path, text: str | None, key: HostKey, refusal: str) -> None:
    file = tmp_path / "known_hosts"
    if text is not None:
        file.write_text(text, encoding="latin-1")
    known = KnownHosts(file, accept_new=False)
    if not refusal:
        known.check("host1", key)
        return
    with pytest.raises(HostError) as caught:
        known.check("host1", key)
    assert refusal in caught.value.message.replace(str(file), "FILE")
    assert key.fingerprint in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert file.exists() is (text is not None)


def test_what_is_accepted_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "known_hosts"
    known = KnownHosts(file, accept_new=True)
    known.check("host1", A)
    known.check("host1", A)
    known.check("[host1]:2222", B)
    assert file.read_text() == f"host1 {LINE_A}\n[host1]:2222 {LINE_B}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(HostError, match=r"has changed.*known_hosts:1 holds another") as caught:
        known.check("host1", B)
    assert f"ssh-keygen -f {file} -R 'host1'" in caught.value.hint


def test_a_torn_last_line_does_not_swallow_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("host1 ssh-ed255")
    KnownHosts(file, accept_new=True).check("host2", A)
    assert file.read_text() == f"host1 ssh-ed255\nhost2 {LINE_A}\n"


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"host1 {LINE_A}\n")
    code = (
        "import resource, signal, sys; from pathlib import Path; from etcdops.ssh.hostkeys import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))\n"
        "try: KnownHosts(Path(sys.argv[1]), accept_new=True).check('host2', HostKey('ssh-ed25519', b'key b'))\n"
        "except HostError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "cannot be added" in done.stdout
    assert file.read_text() == f"host1 {LINE_A}\n"


@pytest.mark.parametrize("accept_new", [True, False])
def test_a_file_that_cannot_be_read_or_written_is_told(tmp_path: Path, accept_new: bool) -> None:
    with pytest.raises(HostError, match="Is a directory") as caught:
        KnownHosts(tmp_path, accept_new=accept_new).check("host1", A)
    assert "ssh.known_hosts" in caught.value.hint


def test_writers_in_threads_and_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    code = (
        "import sys; from pathlib import Path; from etcdops.ssh.hostkeys import *\n"
        "known = KnownHosts(Path(sys.argv[1]), accept_new=True)\n"
        "for n in range(40): known.check(f'host{n}', HostKey('ssh-ed25519', b'key a'))"
    )
    root = Path(__file__).parents[2]
    others = [subprocess.Popen([sys.executable, "-c", code, str(file)], cwd=root) for _ in range(2)]

    def add() -> None:
        known = KnownHosts(file, accept_new=True)
        for n in range(40):
            known.check(f"host{n}", A)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [other.wait(30) for other in others] == [0, 0]
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(f"host{n} {LINE_A}" for n in range(40))


def test_a_writer_waits_for_the_other_and_looks_again(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=KnownHosts(file, accept_new=True).check, args=("host1", A), daemon=True)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        held.write(f"host1 {LINE_A}\n")
    thread.join(10)
    assert file.read_text() == f"host1 {LINE_A}\n"


# Through a real sshd.


def test_a_new_host_is_accepted_once_and_then_known(ground: Ground, sshd: Sshd) -> None:
    for mode in ("accept-new", "strict"):
        with ground.fleet(sshd.port, sshd.port, sshd.port, host_keys=mode) as fleet:
            fleet.all(lambda host: host.run("true"))
        assert ground.known_hosts.read_text() == f"[127.0.0.1]:{sshd.port} {sshd.public}\n"


def test_strict_refuses_a_new_host(ground: Ground, sshd: Sshd) -> None:
    with ground.fleet(sshd.port, host_keys="strict") as fleet, pytest.raises(HostError) as caught:
        fleet["m1"].run("true")
    assert f"of [127.0.0.1]:{sshd.port} is not in {ground.known_hosts}" in caught.value.message
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {ground.known_hosts}" in caught.value.hint
    assert caught.value.host == "m1"
    assert not ground.known_hosts.exists()
    assert "userauth" not in sshd.log  # refused before anything of ours was said


@pytest.mark.parametrize("mode", ["accept-new", "strict"])
def test_a_changed_key_is_refused(ground: Ground, sshd: Sshd, mode: str) -> None:
    other = Path(f"{ground.keygen('other')}.pub").read_text()
    ground.known_hosts.write_text(f"# mine\n[127.0.0.1]:{sshd.port} {other}")
    with ground.fleet(sshd.port, host_keys=mode) as fleet, pytest.raises(HostError, match="has changed") as caught:
        fleet["m1"].run("true")
    assert f"{ground.known_hosts}:2 holds another" in caught.value.message
    assert f"-R '[127.0.0.1]:{sshd.port}'" in caught.value.hint
    assert ground.known_hosts.read_text() == f"# mine\n[127.0.0.1]:{sshd.port} {other}"


def test_a_revoked_key_is_refused(ground: Ground, sshd: Sshd) -> None:
    ground.known_hosts.write_text(f"@revoked * {sshd.public}\n")
    with ground.fleet(sshd.port) as fleet, pytest.raises(HostError, match="is revoked"):
        fleet["m1"].run("true")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_a_host_with_several_keys_is_asked_for_the_one_on_file(ground: Ground, kind: str) -> None:
    keys = {kind: ground.keygen(f"host_{kind}", kind) for kind in ("rsa", "ecdsa", "ed25519")}
    server = ground.sshd(host_keys=tuple(keys.values()))
    public = Path(f"{keys[kind]}.pub").read_text()
    ground.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
    with ground.fleet(server.port, host_keys="strict") as fleet:
        assert fleet["m1"].run("echo ok").stdout == "ok\n"
