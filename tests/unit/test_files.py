"""The shell scripts that run on the hosts: any POSIX shell must be able to read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from etcdops import layout

SCRIPTS = sorted(path.stem for path in layout.FILES.glob("*.sh"))
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]
TOGETHER = [(name,) for name in SCRIPTS] + [("prelude", "host", "etcd"), ("prelude", "etcd"), ("takeover", "apply")]
TOGETHER += [("prelude", "host", "exam", "disk", "client", "etcd")]


def test_there_are_scripts() -> None:
    assert {"apply", "etcd", "host", "prelude", "service"} <= set(SCRIPTS)
    assert "sh" in SHELLS


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
def test_syntax(shell: str, names: tuple[str, ...]) -> None:
    argv = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    done = subprocess.run(argv, input=layout.script(*names), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# What dash, or a host without more than coreutils, does not have; `sh -n` sees none of it.
BASHISMS = (
    r"\[\[|\bfunction\b|(?<!/)\blocal\b|<<<|<\(|\$'|\bdeclare\b|\bpipefail\b|&>|==|\becho -[en]|\bsource\b|\bpython3?\b"
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_posix(name: str) -> None:
    code = re.sub(r"(^|\s)#.*", "", layout.script(name), flags=re.MULTILINE)
    assert re.findall(BASHISMS, code) == []


@pytest.mark.parametrize("name", [name for name in SCRIPTS if "mktemp" in layout.script(name)])
def test_no_temporary_file_stays_when_the_line_is_cut(name: str) -> None:
    """A shell that dies of a signal runs no trap for EXIT."""
    signals = "HUP INT TERM" if name == "backup" else "HUP INT TERM PIPE"  # that one runs without a line
    text = layout.script("throwaway", name) if name == "drill" else layout.script(name)
    assert re.search(rf"trap 'exit \d+' {signals}$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted(layout.TEMPLATES.glob("*")), ids=lambda path: path.name)
def test_every_template_is_one(path: Path) -> None:
    """No editor's backup or other leftover lies among them."""
    assert path.suffix == ".j2"
    assert path.read_text(encoding="utf-8").startswith("# Written by etcdops")
