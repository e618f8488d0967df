"""What comes out where, with which exit code: results on stdout, all else on stderr, and no traceback ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Done = subprocess.CompletedProcess[str]
Inv = Callable[..., Done]
Start = Callable[..., subprocess.Popen[str]]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent

# Each task that talks to hosts, as a command line.
WITH_JSON = ["health", "status", "members", "keys", "get /a", "put /a b", "del /a"]
CHANGING = ["deploy", "install", "distribute", "rotate-certs", "configure", "start", "stop --yes", "restart"]
HOSTS = [*WITH_JSON, *CHANGING, "deploy --dry-run", "restart --dry-run", "etcdctl -- member list"]


def test_the_list_of_tasks(inv: Inv, nowhere: Path) -> None:
    """Golden: when it changed on purpose, COLUMNS=100 ./inv --list > tests/cli/list.txt."""
    done = inv("--list", config=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (HERE / "list.txt").read_text()


def test_the_list_of_a_group(inv: Inv) -> None:
    out = inv("--list", "lab").stdout
    assert "\n  .demo " in out
    assert "\n  deploy " not in out


@pytest.mark.parametrize(
    "words", ["get --help", "put -h", "--help put", "deploy --help", "lab.demo -h", "start get -h"]
)
def test_help_asks_for_no_configuration(inv: Inv, nowhere: Path, words: str) -> None:
    done = inv(*words.split(), config=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: inv ")


@pytest.mark.parametrize("words", ["", "--help", "-h"])
def test_the_help_of_the_program(inv: Inv, words: str) -> None:
    done = inv(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "--config" in done.stdout
    assert "--dry" not in done.stdout


def test_the_version(inv: Inv) -> None:
    assert inv("--version").stdout == "inv 0.1.0\n"


@pytest.mark.parametrize("words", HOSTS)
def test_hosts_out_of_reach_are_exit_4_and_a_line_each(inv: Inv, config: Path, words: str) -> None:
    done = inv(*words.split(), config=config)
    assert done.returncode == 4
    *errors, last = [line for line in done.stderr.splitlines() if not line.startswith("==> ")]
    assert last == f"error: 3 hosts failed; the hosts are those of {config}"
    assert [line.partition("; ")[0] for line in errors] == [
        f"error: m{n}: 127.0.0.{n + 1}:{port(config)}: connection refused" for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("words", WITH_JSON)
def test_json_is_one_document_or_nothing(inv: Inv, config: Path, words: str) -> None:
    done = inv(*words.split(), "--json", config=config)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 4
    if done.stdout:
        assert "m3" in str(json.loads(done.stdout))


@pytest.mark.parametrize("words", WITH_JSON)
def test_json_stays_empty_when_the_configuration_is_wrong(inv: Inv, nowhere: Path, words: str) -> None:
    done = inv(*words.split(), "--json", config=nowhere)
    assert (done.returncode, done.stdout) == (2, "")


def test_stop_without_a_terminal_wants_yes(inv: Inv, config: Path) -> None:
    done = inv("stop", config=config, stdin="yes\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("refused: ")
    assert "--yes" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["status", "get /a", "deploy", "restart"])
def test_ctrl_c_while_connecting_ends_at_once(start: Start, silent: tuple[socket.socket, Path], words: str) -> None:
    server, config = silent
    process = start(*words.split(), config=config)
    connection, _ = server.accept()
    with connection:
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        took = time.monotonic() - began
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("error: interrupted; ")
    assert "Traceback" not in err
    assert took < 3, "connect_timeout is 10"


@pytest.mark.parametrize(
    "words", [["--list"], ["--help", "put"], ["--version"], ["--complete", "--", "inv"], ["health"]]
)
def test_a_reader_that_goes_away_is_no_error(start: Start, config: Path, words: list[str]) -> None:
    read, write = os.pipe()
    process = start(*words, config=config, stdout=write)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=30)
    assert [
        line for line in err.splitlines() if "connection refused" not in line and "3 hosts failed" not in line
    ] == []
    assert process.returncode == 0


def test_head_takes_the_first_line(environment: dict[str, str]) -> None:
    shell = ["bash", "-o", "pipefail", "-c", f"'{ROOT}/inv' --list | head -1"]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Available tasks:\n", "")


def test_any_folder_will_do(inv: Inv, config: Path) -> None:
    for folder in (ROOT, ROOT / "tests", Path("/")):
        assert inv("--list", cwd=folder).returncode == 0
    removed = config.parent / "removed"
    removed.mkdir()
    done = inv("gen-ca", "--dry-run", config=config, cwd=removed)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        (["ge"], ["get", "gen-ca"], ["--key"]),
        ([""], ["deploy", "lab.demo"], []),
        (["get", "--"], ["--key", "--json"], ["--limit"]),
        (["keys", "--"], ["--prefix", "--limit"], ["--key"]),
        (["put", "/a", "--"], ["--value"], ["--limit"]),
        (["--"], ["--config", "--list"], ["--dry"]),
    ],
)
def test_completion(inv: Inv, nowhere: Path, typed: list[str], offered: list[str], not_offered: list[str]) -> None:
    done = inv("--complete", "--", "inv", *typed, config=nowhere)
    found = done.stdout.split()
    assert done.returncode == 0
    assert set(offered) <= set(found)
    assert not set(not_offered) & set(found)


def test_bash_completes(environment: dict[str, str]) -> None:
    script = """
        source <(inv --print-completion-script bash)
        COMP_WORDS=(inv gen) COMP_CWORD=1
        $(complete -p inv | sed 's/.*-F \\([^ ]*\\).*/\\1/') inv gen inv
        echo "${COMPREPLY[@]}"
    """
    env = {**environment, "PATH": f"{BIN}:{environment['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("gen-ca gen-server-cert\n", "")


def test_etcdctl_words_are_not_ours(inv: Inv, config: Path) -> None:
    """--help after the two dashes is for etcdctl: it goes as far as the host."""
    assert inv("etcdctl", "--", "--help", config=config).returncode == 4


def port(config: Path) -> str:
    return config.read_text().partition("port: ")[2].partition("}")[0]
