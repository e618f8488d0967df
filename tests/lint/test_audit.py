"""What a user installs has no known hole, as far as the audit data can be had from where this runs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

LOCK = Path(__file__).resolve().parents[2] / "requirements-extras.lock"  # all that pip brings to a user's machine
UNKNOWN, VULNERABLE = "nobody answers for", "is known to be vulnerable:"
ANSWERS = {
    "nothing known": ({"name": "a", "version": "1", "vulns": []}, ""),
    "no data": ({"name": "a", "skip_reason": "Dependency not found"}, "nobody answers for a: Dependency not found"),
    "a hole": (
        {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}, {"id": "PYSEC-2"}]},
        "a 1 is known to be vulnerable: PYSEC-1, PYSEC-2",
    ),
}


def judged(row: dict[str, object]) -> str:
    """What pip-audit's word on one dependency comes to, '' if all is well."""
    if "skip_reason" in row:
        return f"{UNKNOWN} {row['name']}: {row['skip_reason']}"
    holes = ", ".join(each["id"] for each in row["vulns"])  # type: ignore[attr-defined]
    return f"{row['name']} {row['version']} {VULNERABLE} {holes}" if holes else ""


def audit(requirements: Path) -> list[str]:
    """Everything that pip-audit finds fault with, or cannot tell."""
    assert importlib.util.find_spec("pip_audit"), "inv test installs it"
    argv = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format=json", "--timeout=10"]
    done = subprocess.run(
        [*argv, "--progress-spinner=off", "-r", str(requirements)], capture_output=True, text=True, timeout=100
    )
    if not done.stdout:  # no network, most likely
        return [f"{UNKNOWN} {requirements.name}: {done.stderr.strip().splitlines()[-1]}"]
    return [line for row in json.loads(done.stdout)["dependencies"] if (line := judged(row))]


@pytest.mark.parametrize(("row", "line"), ANSWERS.values(), ids=ANSWERS)
def test_what_an_answer_comes_to(row: dict[str, object], line: str) -> None:
    assert judged(row) == line


def test_no_dependency_has_a_known_hole(tmp_path: Path) -> None:
    first = tmp_path / "first.lock"  # one is asked for alone: where nobody answers, the others are not tried
    first.write_text(LOCK.read_text().split("    # via", 1)[0])
    lines = audit(first)
    if not any(line.startswith(UNKNOWN) for line in lines):
        lines = audit(LOCK)
    unknown = [line for line in lines if line.startswith(UNKNOWN)]
    if unknown:
        warnings.warn(f"not audited, for want of data: {unknown[0]}", stacklevel=1)
    assert [line for line in lines if line not in unknown] == []
