"""./inv before there is a .venv: a project of two files, and stand-ins for what the machine may have or lack."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SH = "#!/bin/sh\n"
REAL = Path(sys.executable).resolve()
# All that a minimal Debian has and that ./inv may use; python3 comes in a shape of its own in each test.
TOOLS = ("cat", "chmod", "cmp", "cp", "cut", "dirname", "env", "id", "ln", "mv", "readlink", "rm", "sh", "sleep")

# Logs what it is asked for; `pip install` ends once there is a file `go`, or after 10 s.
UV = """
echo "uv $*" >>"$LOG"
case "$1" in
    venv) for last; do :; done; {real} -m venv --without-pip "$last" ;;
    pip)
        [ ! -e "$STATE/fails" ] || exit 1
        for _ in $(seq 100); do [ -e "$STATE/go" ] && exit; sleep 0.1; done ;;
esac
"""
# Debian's, which has no venv module before python3-venv is installed; then it brings pip along.
PYTHON = """
case "$*" in
    *realpath*) echo "$0"; exit ;;
    *'import ensurepip'*) [ -e "$STATE/python3-venv" ]; exit ;;
    '-m venv '*)
        [ -e "$STATE/python3-venv" ] || exit 1
        {real} -m venv --without-pip "$3"
        for site in "$3"/lib/python3.*/site-packages; do
            echo 'import os, sys; print("pip", *sys.argv[1:], file=open(os.environ["LOG"], "a"))' >"$site/pip.py"
        done
        exit ;;
esac
exec {real} "$@"
"""
APT = """
echo "apt-get $* $DEBIAN_FRONTEND" >>"$LOG"
case "$1" in
    update) touch "$STATE/lists" ;;
    install) [ -e "$STATE/lists" ] && touch "$STATE/python3-venv" ;;
esac
"""


@dataclass
class Machine:
    """A machine with a PATH of our own making, and a clone of a tiny project on it."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in (self.root / "etcdops", self.bin, self.state):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "inv", self.root)
        self.lock.write_text("# nothing\n")
        (self.root / "etcdops" / "__init__.py").touch()
        (self.root / "etcdops" / "cli.py").write_text("import sys\ndef main():\n    print(*sys.argv[1:], sep='|')\n")
        self.log.touch()
        (self.state / "go").touch()
        for name in (*TOOLS, "seq", "touch"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        (self.bin / "python3").symlink_to(REAL)

    @property
    def root(self) -> Path:
        return self.folder / "a project"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def lock(self) -> Path:
        return self.root / "requirements.lock"

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def put(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(SH + script.replace("{real}", str(REAL)))
        path.chmod(0o755)

    def start(self, *words: str, program: Path | str = "", path: Path | None = None) -> subprocess.Popen[str]:
        env = {
            "PATH": f"{path}:{self.bin}" if path else str(self.bin),
            "HOME": str(self.folder),
            "LOG": str(self.log),
            "STATE": str(self.state),
        }
        process = subprocess.Popen(
            [str(program or self.root / "inv"), *words],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def inv(self, *words: str, program: Path | str = "", path: Path | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        process = self.start(*words, program=program, path=path)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def said(self, beginning: str) -> list[str]:
        """The lines of the log that begin so."""
        return [line for line in self.log.read_text().splitlines() if line.startswith(beginning)]

    def wait_for(self, beginning: str) -> None:
        deadline = time.monotonic() + 10
        while not self.said(beginning):
            assert time.monotonic() < deadline, f"'{beginning}' was never called"
            time.sleep(0.01)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One that has uv."""
    machine = Machine(tmp_path / "machine")
    machine.put("uv", UV)
    yield machine
    (machine.state / "go").touch()
    for process in machine.started:
        process.kill()
        process.communicate()


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """One with Debian's bare python3, its apt-get (package lists and all), and no uv; we are root."""
    (machine.bin / "uv").unlink()
    machine.put("python3", PYTHON)
    machine.put("apt-get", APT)
    machine.put("id", "echo 0")
    (machine.state / "lists").touch()
    return machine


SET_UP = "==> Set up .venv from requirements.lock\n"


def test_the_first_run_sets_up_and_the_second_does_not(machine: Machine) -> None:
    words = ["get", "two words", "", 'quo"te', "$HOME *"]
    assert machine.inv(*words) == (0, "|".join(words) + "\n", SET_UP)
    assert len(machine.said("uv venv")) == 1
    assert [line.endswith(f"--require-hashes -r {machine.lock}") for line in machine.said("uv pip")] == [True]
    machine.log.write_text("")
    assert machine.inv(*words) == (0, "|".join(words) + "\n", "")
    assert machine.log.read_text() == ""


def test_a_link_to_it_will_do(machine: Machine) -> None:
    link = machine.folder / "link"
    link.symlink_to("a project/inv")
    assert machine.inv("x", program=link) == (0, "x\n", SET_UP)


def test_a_new_lock_sets_up_anew(machine: Machine) -> None:
    machine.inv()
    (machine.venv / "old").touch()
    machine.lock.write_text("# another\n")
    assert machine.inv("x") == (0, "x\n", SET_UP)
    assert not (machine.venv / "old").exists()


def no_python(machine: Machine) -> None:
    (machine.venv / "bin" / "python").unlink()


def python_is_gone(machine: Machine) -> None:
    """The system has a newer Python: the versioned file that .venv links to is not there any more."""
    python = machine.venv / "bin" / "python"
    python.unlink()
    python.symlink_to(machine.folder / "python3.10")


def no_command(machine: Machine) -> None:
    (machine.venv / "bin" / "inv").unlink()


def half_done(machine: Machine) -> None:
    (machine.venv / "requirements.lock").unlink()


def empty(machine: Machine) -> None:
    shutil.rmtree(machine.venv)
    machine.venv.mkdir()


def a_file(machine: Machine) -> None:
    shutil.rmtree(machine.venv)
    machine.venv.touch()


def stale_lock(machine: Machine) -> None:
    shutil.rmtree(machine.venv)
    (machine.root / ".venv.lock").write_text("4711\n")


@pytest.mark.parametrize("damage", [no_python, python_is_gone, no_command, half_done, empty, a_file, stale_lock])
def test_what_is_broken_heals(machine: Machine, damage: Callable[[Machine], None]) -> None:
    machine.inv()
    damage(machine)
    assert machine.inv("x") == (0, "x\n", SET_UP)
    assert machine.inv("x") == (0, "x\n", "")


def test_a_package_that_is_lost_heals_with_the_next_run(machine: Machine) -> None:
    machine.inv()
    cli = machine.root / "etcdops" / "cli.py"
    code = cli.read_text()
    cli.write_text("import invoke\n")
    status, out, err = machine.inv("x")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "No module named 'invoke'" in err
    cli.write_text(code)
    assert machine.inv("x") == (0, "x\n", SET_UP)


def test_a_module_of_ours_that_is_missing_is_no_fault_of_the_venv(machine: Machine) -> None:
    machine.inv()
    (machine.root / "etcdops" / "cli.py").write_text("import etcdops.gone\n")
    status, _, err = machine.inv("x")
    assert status == 1
    assert "Traceback" in err
    assert (machine.venv / "requirements.lock").exists()


def test_a_set_up_that_fails_says_so_and_the_next_one_heals(machine: Machine) -> None:
    (machine.state / "fails").touch()
    status, out, err = machine.inv("x")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: the dependencies could not be installed")
    (machine.state / "fails").unlink()
    assert machine.inv("x") == (0, "x\n", SET_UP)


def test_two_first_runs_take_turns(machine: Machine) -> None:
    (machine.state / "go").unlink()
    first = machine.start("a")
    machine.wait_for("uv pip")
    second = machine.start("b")
    assert second.stderr
    assert second.stderr.readline() == "==> Wait for another ./inv to set up .venv\n"
    (machine.state / "go").touch()
    assert first.communicate(timeout=30) == ("a\n", SET_UP)
    assert second.communicate(timeout=30) == ("b\n", "")
    assert len(machine.said("uv venv")) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_set_up_that_is_stopped_half_way_heals(machine: Machine, how: signal.Signals) -> None:
    (machine.state / "go").unlink()
    first = machine.start("a")
    machine.wait_for("uv pip")
    os.killpg(first.pid, how)
    out, err = first.communicate(timeout=30)
    assert first.returncode != 0
    assert "Traceback" not in err
    assert (out, (machine.venv / "requirements.lock").exists()) == ("", False)
    (machine.state / "go").touch()
    assert machine.inv("x") == (0, "x\n", SET_UP)


def test_a_set_up_that_outlives_its_shell_is_waited_for(machine: Machine) -> None:
    (machine.state / "go").unlink()
    first = machine.start("a")
    machine.wait_for("uv pip")
    first.kill()
    second = machine.start("b")
    assert second.stderr
    assert second.stderr.readline() == "==> Wait for another ./inv to set up .venv\n"
    (machine.state / "go").touch()
    out, err = second.communicate(timeout=30)
    assert (second.returncode, out) == (0, "b\n")
    assert err in {"", SET_UP}


def test_an_activated_environment_is_the_same(machine: Machine) -> None:
    machine.inv()
    active = machine.venv / "bin"
    for name in ("inv", "invoke"):
        command = f'{name} get "two words"'
        assert machine.inv("-c", command, program="/bin/sh", path=active) == (0, "get|two words\n", "")


def test_an_activated_environment_can_be_made_anew(machine: Machine) -> None:
    """Its python3 is first on PATH then, and goes away with it."""
    machine.inv()
    machine.lock.write_text("# another\n")
    assert machine.inv("x", path=machine.venv / "bin") == (0, "x\n", SET_UP)
    assert (machine.venv / "bin" / "python").resolve() == REAL


def test_a_moved_project_goes_on(machine: Machine) -> None:
    machine.inv()
    moved = machine.folder / "moved"
    machine.root.rename(moved)
    assert machine.inv("x", program=moved / "inv") == (0, "x\n", "")
    assert machine.inv("x", program=moved / ".venv/bin/inv") == (0, "x\n", "")


def test_a_uv_that_does_not_run_is_none(debian: Machine) -> None:
    """pyenv puts up a stand-in for a program that another Python has."""
    debian.put("uv", "exit 127")
    (debian.state / "python3-venv").touch()
    assert debian.inv("x") == (0, "x\n", SET_UP)
    assert [line.endswith(f"--require-hashes -r {debian.lock}") for line in debian.said("pip install")] == [True]
    assert debian.said("apt-get") == []


def test_debian_as_root_gets_its_venv_module(debian: Machine) -> None:
    assert debian.inv("x") == (0, "x\n", f"{SET_UP}==> Install python3-venv\n")
    (call,) = debian.said("apt-get")
    assert call.startswith("apt-get install -y ")
    assert " python3-venv " in call
    assert call.endswith("noninteractive")
    assert len(debian.said("pip install")) == 1


def test_a_new_debian_has_no_package_lists_yet(debian: Machine) -> None:
    (debian.state / "lists").unlink()
    assert debian.inv("x")[:2] == (0, "x\n")
    assert [line.split()[1] for line in debian.said("apt-get")] == ["install", "update", "install"]


def test_debian_as_a_user_gets_the_command(debian: Machine) -> None:
    debian.put("id", "echo 1000")
    status, out, err = debian.inv("x")
    assert (status, out) == (2, "")
    assert "'sudo apt-get install -y --no-install-recommends python3-venv'" in err.splitlines()[-1]
    assert debian.said("apt-get") == []


def test_apt_get_that_does_not_help_is_told(debian: Machine) -> None:
    debian.put("apt-get", "exit 100")
    status, out, err = debian.inv("x")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: 'apt-get install -y ")


def test_elsewhere_the_package_manager_is_the_users_own(debian: Machine) -> None:
    (debian.bin / "apt-get").unlink()
    status, out, err = debian.inv("x")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: python3 lacks its venv module")


def test_an_old_python_is_told(machine: Machine) -> None:
    machine.put("python3", 'case "$1" in -V) echo Python 3.10.2 ;; esac')
    assert machine.inv("x") == (2, "", "error: python3 is 3.10.2, but 3.11 or newer is needed\n")
    assert not machine.venv.exists()


def test_a_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    machine.put("python3", 'case "$1" in -V) echo Python 3.10.2 ;; esac')
    (machine.bin / "python3.12").symlink_to(REAL)
    assert machine.inv("x") == (0, "x\n", SET_UP)


def test_no_python_is_told(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    assert machine.inv("x") == (2, "", "error: python3 is not installed; 3.11 or newer is needed\n")


def test_ctrl_c_while_it_is_being_loaded_is_no_traceback(machine: Machine) -> None:
    machine.inv()
    (machine.root / "etcdops" / "cli.py").write_text("raise KeyboardInterrupt\n")
    assert machine.inv("x") == (130, "", "")


def test_it_is_quick_when_nothing_changed(machine: Machine) -> None:
    machine.inv()

    def best(*words: str | Path) -> float:
        def once() -> float:
            began = time.monotonic()
            assert machine.inv(*map(str, words[1:]), program=words[0])[0] == 0
            return time.monotonic() - began

        return min(once() for _ in range(10))

    own = best(machine.root / "inv", "x") - best(machine.venv / "bin" / "python", machine.venv / "bin" / "inv", "x")
    assert own < 0.5  # pip alone would take longer, and a busy machine five times as long as an idle one
