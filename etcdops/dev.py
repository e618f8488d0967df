"""test, dev.*: what a developer of etcdops runs, with the tools that requirements-dev.lock pins."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from etcdops.errors import OpsError, UsageError
from etcdops.layout import ROOT

if TYPE_CHECKING:
    from etcdops.run import Run

TESTS = ROOT / "tests"
LOCK = ROOT / "requirements.lock"
EXTRAS_LOCK = ROOT / "requirements-extras.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
CHAOS = "chaos"  # a tier by name only, for its time: all of chaos/, and what is marked so in lab/
TIERS = ("lint", "unit", "ssh", "stores", "cli", "lab", "infra", "vagrant")  # folders of tests/, fast to slow
BY_NAME = ("vagrant",)  # those of them that a whole run leaves out, for their time
WALK = ("tests/chaos/test_walk.py", "-m", f"not {CHAOS} or walk")  # of that tier in a whole run: ten minutes
# Three at once, each with hosts of its own: real hosts make a test wait as much as work. Four make two cores so busy
# that etcd misses its elections.
# A file's tests stay together, for what they share, and in our order.
WORKERS = ("--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder")


def test(run: Run, tier: str) -> NoReturn:
    """Run the tests, or those of one tier.

    This process becomes pytest, so that its closing line, its exit code and its way with Ctrl-C are the task's.
    """
    tiers = tiers_to_run(tier)
    install(run)
    words = ["pytest", *pytest_words(tiers, run.words)]
    run.ui.step(shlex.join(words))
    run.ui.line("one tier alone: inv test --tier=NAME; words after -- are pytest's: inv test -- -x -k backup")
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606


def tiers_to_run(tier: str) -> list[str]:
    """The one that was asked for, else all but those ``BY_NAME``; ``UsageError`` for one that is not there."""
    known = [name for name in TIERS if (TESTS / name).is_dir()]
    if tier and tier not in (*known, CHAOS):
        raise UsageError(f"there is no tier '{tier}'", hint=f"fast to slow: {', '.join((*known, CHAOS))}")
    return [tier] if tier else [name for name in known if name not in BY_NAME]


def pytest_words(tiers: Sequence[str], words: Sequence[str]) -> list[str]:
    """pytest's arguments: the folders of ``tiers``, unless ``words`` name tests themselves."""
    named = any(word.startswith(f"{TESTS.name}/") for word in words)
    if named:
        return ["-m", CHAOS, *words] if list(tiers) == [CHAOS] else list(words)
    if list(tiers) == [CHAOS]:
        return [f"{TESTS.name}/lab", f"{TESTS.name}/{CHAOS}", "-m", CHAOS, *WORKERS, *words]
    folders = [f"{TESTS.name}/{tier}" for tier in tiers]
    which = ("-m", f"not {CHAOS}") if list(tiers) == ["lab"] else WALK
    return [*folders, *((*which, *WORKERS) if "lab" in tiers else ()), *words]


def install(run: Run) -> None:
    """Bring requirements-dev.lock into this environment, unless it is there."""
    if sys.prefix == sys.base_prefix:
        raise UsageError("the test tools belong in .venv", hint="run ./inv, which makes it")
    stamp = Path(sys.prefix) / DEV_LOCK.name  # a copy of the lock that was installed, written last
    wanted = DEV_LOCK.read_bytes()
    if stamp.exists() and stamp.read_bytes() == wanted:
        return
    run.ui.step(f"Install the test tools from {DEV_LOCK.name}")
    _call([*_installer(), "--quiet", "--require-hashes", "-r", str(DEV_LOCK)])
    stamp.write_bytes(wanted)


def verify(run: Run) -> NoReturn:
    """Run tests/infra against the cluster of this run's configuration."""
    run.config  # noqa: B018 - a mistake in it is said before anything is installed
    install(run)
    run.ui.step(f"Verify {', '.join(run.names)}")
    os.environ["ETCDOPS_VERIFY"] = str(run.config.path)
    os.chdir(ROOT)
    sys.stdout.flush()
    words = ["pytest", f"{TESTS.name}/infra", "-q", *run.words]
    os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606


def bench(run: Run, what: str, rounds: int) -> None:
    """A program of bench/: medians and ratios on stdout."""
    known = sorted(path.stem for path in (ROOT / "bench").glob("*.py"))
    if what not in known:
        raise UsageError(f"there is no measurement of '{what}'", hint=f"there are: {', '.join(known)}")
    _call([sys.executable, str(ROOT / "bench" / f"{what}.py"), str(rounds)], stdout=None)


def lock(run: Run, upgrade: bool) -> None:
    """Write the lock files anew from pyproject.toml; pins that still fit stay, but for ``upgrade``."""
    if not _uv_works():
        raise UsageError("uv is not installed, and pip cannot lock for all platforms", hint="pip install uv")
    compile_ = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    compile_ += ["--no-emit-index-url", "--no-header", *(["--upgrade"] if upgrade else []), "pyproject.toml"]
    run.ui.step(f"Lock {LOCK.name}, {EXTRAS_LOCK.name} and {DEV_LOCK.name}")
    _call([*compile_, "-o", LOCK.name])
    # The constraints keep what the tests run with and what a user gets the same.
    _call([*compile_, "--all-extras", "-c", LOCK.name, "-o", EXTRAS_LOCK.name])
    _call([*compile_, "--all-extras", "--group", "dev", "-c", EXTRAS_LOCK.name, "-o", DEV_LOCK.name])


def format_(run: Run) -> None:
    """Sort imports, mend what ruff can mend, and lay the code out."""
    install(run)
    _call([sys.executable, "-m", "ruff", "check", "--quiet", "--fix-only", "."])
    _call([sys.executable, "-m", "ruff", "format", "."])


def _installer() -> list[str]:
    if _uv_works():
        return ["uv", "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip") is None:  # uv made .venv, and is gone
        _call([sys.executable, "-m", "ensurepip"])
    return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]


def _uv_works() -> bool:
    """Whether there is a uv that runs: pyenv puts up a stand-in for one that another Python has."""
    return bool(shutil.which("uv")) and not subprocess.run(["uv", "--version"], capture_output=True).returncode


def _call(argv: Sequence[str], stdout: TextIO | None = sys.stderr) -> None:
    """Run a tool that shows its own output; ``OpsError`` when it fails."""
    code = subprocess.run(argv, cwd=ROOT, stdout=stdout, check=False).returncode
    if code:
        name = " ".join(word for word in argv[:4] if word not in {sys.executable, "-m"})
        raise OpsError(f"'{name} ...' ended with {code}", hint="it says above what is wrong")
