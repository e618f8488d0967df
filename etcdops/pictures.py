"""dev.pictures: the terminal stills in docs/images, drawn from what the tasks really print in the lab."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etcdops import lab
from etcdops.errors import OpsError
from etcdops.layout import DATA_DIR, LAB, ROOT

if TYPE_CHECKING:
    from etcdops.run import Run

FOLDER = ROOT / "docs" / "images"
WIDTH = 116  # characters, the same for all, so that their letters are of one size on a page
SECONDS = 300  # for one task

# rich's own template names fonts by URL, and whoever looks at a page would fetch them from there.
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
BACKGROUND, FOREGROUND = (22, 27, 34), (214, 222, 232)
ANSI = [
    BACKGROUND, (255, 123, 114), (86, 211, 100), (227, 179, 65),
    (121, 192, 255), (210, 168, 255), (86, 212, 221), FOREGROUND,
]  # fmt: skip


def draw_all(run: Run) -> None:
    """Make the lab anew, deploy, and draw each task on the way; no lab is left behind.

    The hosts are fresh and the certificates lie in a folder of their own, so that a picture shows what a first
    run shows, whatever was done in the lab before.
    """
    box = lab.demo.open_lab(run)
    box.down()
    lab.demo.up(run, 3, "")
    try:
        with tempfile.TemporaryDirectory() as folder:
            _draw_in(run, Path(folder) / "config.yaml")
    finally:
        box.down()


def _draw_in(run: Run, config: Path) -> None:
    from etcdops.run import Run

    text = lab.demo.CONFIG.read_text(encoding="utf-8")
    for name in ("id_ed25519", "known_hosts"):
        text = text.replace(f": {name}\n", f": {LAB / name}\n")
    config.write_text(text, encoding="utf-8")
    _draw(run, config, "deploy", ["deploy"])
    _draw(run, config, "status", ["status"])
    config.write_text(text.replace("\nmembers:", "\n  settings: {quota-backend-bytes: 4294967296}\nmembers:", 1))
    _draw(run, config, "dry-run", ["deploy", "--dry-run"])
    config.write_text(text, encoding="utf-8")
    cluster = Run(config, run.ui)
    try:
        cluster.fleet.all(lambda host: host.run(f"systemctl stop etcd; mv {DATA_DIR} {DATA_DIR}.old"), ["etcd03"])
    finally:
        cluster.close()
    _draw(run, config, "refused", ["deploy"])


def _draw(run: Run, config: Path, name: str, words: Sequence[str]) -> None:
    path = FOLDER / f"{name}.svg"
    run.ui.step(f"Draw {path.relative_to(ROOT)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(f"./inv {' '.join(words)}", _output(config, words)), encoding="utf-8")


def _output(config: Path, words: Sequence[str]) -> str:
    """What the task prints, progress and result as they come, with the styles of a terminal."""
    argv = [str(ROOT / "inv"), "-f", str(config), *words]
    style = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}  # rich writes styles into a pipe, too
    done = subprocess.run(
        argv, env={**os.environ, **style}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    if done.returncode not in {0, 3}:
        raise OpsError(f"'inv {' '.join(words)}' ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def picture(command: str, output: str) -> str:
    """A terminal with ``command`` at its prompt and ``output`` (ANSI styles and all) below it, as SVG."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    lines = Text.from_ansi(output).split("\n")
    for line in lines:
        line.rstrip()
    while lines and not lines[-1]:
        lines.pop()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, highlight=False)
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        for line in [*lines, Text()]:  # without an empty one the last line loses its descenders
            console.print(line)
    theme = TerminalTheme(BACKGROUND, FOREGROUND, ANSI)
    return console.export_svg(title="", theme=theme, code_format=TEMPLATE, font_aspect_ratio=0.6)
