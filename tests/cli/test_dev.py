"""inv test and dev.*: which tests run, with which tools, and how a tool's failure is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from etcdops import dev
from etcdops.errors import OpsError, UsageError
from etcdops.run import Run

ROOT = Path(__file__).resolve().parents[2]


class Tools:
    """Stands in for subprocess.run: what was asked for, and what each program answers."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append([str(word) for word in argv])
        name = next((name for name in self.codes if name in argv), "")
        return subprocess.CompletedProcess(argv, self.codes.get(name, 0))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "no-such-config.yaml")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    """uv is there, and .venv is an empty folder that lacks the test tools."""
    tools = Tools()
    monkeypatch.setattr(subprocess, "run", tools)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return tools


def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What this process would have become."""
    found: list[list[str]] = []

    def execv(_: str, argv: list[str]) -> None:
        found.append(argv)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    return found


def test_every_folder_of_tests_is_a_tier() -> None:
    folders = {path.parent.relative_to(dev.TESTS).parts[0] for path in dev.TESTS.rglob("test_*.py")}
    assert folders <= {*dev.TIERS, dev.CHAOS}


def test_all_tiers_run_in_one_pytest_from_fast_to_slow(
    run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became = executed(monkeypatch)
    dev.test(run, "")
    tiers = dev.tiers_to_run("")
    assert tiers[:2] == ["lint", "unit"]
    folders = [f"tests/{tier}" for tier in tiers]
    assert became == [[sys.executable, "-m", "pytest", *folders, *dev.WALK, *dev.WORKERS]]
    assert "inv test --tier=NAME" in capsys.readouterr().err


def test_the_lab_s_tests_alone(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    became = executed(monkeypatch)
    dev.test(run, "lab")
    assert became == [[sys.executable, "-m", "pytest", "tests/lab", "-m", "not chaos", *dev.WORKERS]]


def test_chaos_runs_by_name(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    became = executed(monkeypatch)
    dev.test(run, "chaos")
    assert became == [[sys.executable, "-m", "pytest", "tests/lab", "tests/chaos", "-m", "chaos", *dev.WORKERS]]


def test_virtual_machines_are_brought_up_by_name(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    became = executed(monkeypatch)
    dev.test(run, "vagrant")
    assert became == [[sys.executable, "-m", "pytest", "tests/vagrant"]]
    assert "vagrant" not in dev.tiers_to_run("")


def test_one_tier_alone_with_words_for_pytest(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    became = executed(monkeypatch)
    run.words = ("-x", "-k", "two words")
    dev.test(run, "unit")
    assert became == [[sys.executable, "-m", "pytest", "tests/unit", "-x", "-k", "two words"]]


def test_tests_that_are_named_run_alone() -> None:
    words = ["-x", "tests/unit/test_etcd.py::test_a"]
    assert dev.pytest_words(["lint", "unit"], words) == words


def test_a_tier_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="'slow'") as caught:
        dev.tiers_to_run("slow")
    assert "lint, unit" in caught.value.hint


def test_the_tools_are_installed_once(run: Run, tools: Tools, tmp_path: Path) -> None:
    dev.install(run)
    assert tools.calls[-1][:5] == ["uv", "pip", "install", "--python", sys.executable]
    assert tools.calls[-1][-3:] == ["--require-hashes", "-r", str(dev.DEV_LOCK)]
    tools.calls.clear()
    dev.install(run)
    assert tools.calls == []
    (tmp_path / "requirements-dev.lock").write_text("# an older one\n")
    dev.install(run)
    assert tools.calls


@pytest.mark.parametrize("pip", [True, False])
def test_without_uv_pip_installs(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch, pip: bool) -> None:
    """A .venv that uv made has none; it is brought in then."""
    tools.codes = {"uv": 127}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if pip else None)
    dev.install(run)
    calls = [call[2] for call in tools.calls if call[:2] == [sys.executable, "-m"]]
    assert calls == (["pip"] if pip else ["ensurepip", "pip"])


def test_an_installation_that_fails_is_tried_again(run: Run, tools: Tools, tmp_path: Path) -> None:
    tools.codes = {"install": 1}
    with pytest.raises(OpsError, match=r"'uv pip install --python \.\.\.' ended with 1"):
        dev.install(run)
    assert list(tmp_path.iterdir()) == []


def test_the_tools_go_into_no_python_of_the_system(run: Run, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(UsageError, match=r"\.venv"):
        dev.install(run)
    assert tools.calls == []


@pytest.mark.parametrize("upgrade", [False, True])
def test_every_lock_is_written_and_those_after_the_first_agree_with_it(run: Run, tools: Tools, upgrade: bool) -> None:
    dev.lock(run, upgrade)
    first, second, third = tools.calls[-3:]
    for call in (first, second, third):
        assert call[:3] == ["uv", "pip", "compile"]
        assert {"--universal", "--generate-hashes", "--no-emit-index-url", "--no-header"} <= set(call)
        assert ("--upgrade" in call) == upgrade
    assert first[-3:] == ["pyproject.toml", "-o", "requirements.lock"]
    assert second[-5:] == ["--all-extras", "-c", "requirements.lock", "-o", "requirements-extras.lock"]
    assert third[-7:-4] == ["--all-extras", "--group", "dev"]
    assert third[-4:] == ["-c", "requirements-extras.lock", "-o", "requirements-dev.lock"]


def test_locking_needs_uv(run: Run, tools: Tools) -> None:
    tools.codes = {"uv": 127}
    with pytest.raises(UsageError) as caught:
        dev.lock(run, upgrade=False)
    assert caught.value.hint == "pip install uv"


@pytest.mark.parametrize("tier", ["lab", "infra", "vagrant"])
def test_real_hosts_want_root_and_say_so_in_one_line(tmp_path: Path, tier: str) -> None:
    folder = tmp_path / "tests" / tier
    folder.mkdir(parents=True)
    (folder / "test_host.py").write_text("def test_host():\n    raise SystemExit('it ran')\n")
    (tmp_path / "tests" / "conftest.py").write_text(
        f"import os\nos.geteuid = lambda: 1000\n{(ROOT / 'tests' / 'conftest.py').read_text()}".replace(
            "from __future__ import annotations\n", ""
        )
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(folder)]
    done = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "needs root: it starts real hosts on this machine\n" in done.stdout
    assert "it ran" not in done.stdout
    assert "1 error" in done.stdout or "1 failed" in done.stdout
