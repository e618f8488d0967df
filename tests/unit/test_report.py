"""What files/prelude.sh writes and etcdops/report.py reads."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from etcdops import layout, report


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


TEXTS = {
    "whole": (f"text\ta\t{b64('one two')}", {"a": "one two"}),
    "line by line": (
        "line\ttext\ta\tone\nline\ttext\tb\ttwo\nline\ttext\ta\tthree",
        {"a": "one\nthree\n", "b": "two\n"},
    ),
    "lines with tabs, and without anything": ("line\ttext\ta\tb\tc\t\nline\ttext\ta\t", {"a": "b\tc\t\n\n"}),
    "of another kind": ("line\tanswer\ta\tb\nanswer\tb\tYQ==", {}),
    "lines that would pass for facts": ("line\ttext\ta\ttext\tb\tYQ==", {"a": "text\tb\tYQ==\n"}),
}


@pytest.mark.parametrize(("said", "found"), TEXTS.values(), ids=TEXTS.keys())
def test_texts(said: str, found: dict[str, str]) -> None:
    assert report.texts(report.rows(said), "text") == found


def test_files_come_as_they_are(tmp_path: Path) -> None:
    contents = {"a": "one\n\n\ttwo\\n %s \r\n", "b": "", "c=d": "no end of line", "e": "\u20ac\n"}
    words = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content.encode())
        words += [f"key=text\t{name}", str(tmp_path / name)]
    script = layout.script("prelude") + '\nlines "$@"\n'
    done = subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, check=True, timeout=60)
    came = report.texts(report.rows(done.stdout.decode()), "text")
    assert came == {"a": contents["a"], "c=d": "no end of line\n", "e": contents["e"]}
