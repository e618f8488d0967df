"""The command line as a user has it: ./inv as a process of its own, in an empty home, far from any terminal."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

FOREIGN = ("ETCDOPS", "INVOKE", "PYTHON", "SSH_")  # variables that change what the tasks do
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Ours, without what would point the tasks elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    home = tmp_path / "home"
    home.mkdir()
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "COLUMNS": "100"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ./inv with these words; ``config`` goes into ETCDOPS_CONFIG."""
    started = []

    def start(*words: str, config: str | Path = "", **options: Any) -> subprocess.Popen[str]:
        env = {**environment, **({"ETCDOPS_CONFIG": str(config)} if config else {})}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        settings = {"cwd": tmp_path, "env": env, "text": True, "start_new_session": True, **pipes, **options}
        process = subprocess.Popen([str(ROOT / "inv"), *words], **settings)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def inv(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Done]:
    """Run ./inv to its end; what holds for every run is checked here."""

    def run(*words: str, config: str | Path = "", stdin: str = "", **options: Any) -> Done:
        process = start(*words, config=config, **options)
        out, err = process.communicate(stdin, timeout=30)
        done = Done(words, process.returncode, out, err)
        assert "Traceback" not in err, err
        if done.returncode == 2:
            assert out == "", "a wrong command line prints no result"
        return done

    return run


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A configuration that is not there: whichever task ran would say so and end with 2."""
    return tmp_path / "no-such-config.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Three members whose hosts refuse the connection."""
    with socket.socket() as sock:  # bound and never listening, then closed: nobody answers there
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    return write_config(tmp_path / "cluster", port, "127.0.0.2", "127.0.0.3", "127.0.0.4")


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A server that takes connections and never says a word, and a configuration whose one member it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server, write_config(tmp_path / "silent", server.getsockname()[1], "127.0.0.1")


def write_config(folder: Path, port: int, *hosts: str) -> Path:
    folder.mkdir()
    members = [
        f"  - {{name: m{number}, address: 192.0.2.{number}, ssh: {host}, port: {port}}}"
        for number, host in enumerate(hosts, 1)
    ]
    lines = [
        "cluster: {name: test, version: 3.6.14}",
        "members:",
        *members,
        "ssh: {user: nobody, known_hosts: known_hosts, connect_timeout: 10, command_timeout: 1}",
    ]
    path = folder / "config.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path
