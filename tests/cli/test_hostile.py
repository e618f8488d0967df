"""Names and values that a shell, systemd or a terminal would take for something else, in every argument of every task.

Each is refused in a line, or reaches the hosts' door, where nobody opens here.  What arrives is proven beyond it: any
argument through a real sshd in tests/ssh/test_run.py, keys and values on real hosts in tests/lab/test_everyday.py, the
worst of all in tests/lab/test_hostile.py.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from invoke.collection import Collection
from pydantic import BaseModel
from ruamel.yaml import YAML

import tasks
from etcdops.cli import Inv
from etcdops.config import Config

WORST = (
    "'\"; touch pwned; $(touch pwned) `touch pwned` %n{0}{{7*7}}",
    "a\ntouch pwned\n",
    "--yes",
    "-oProxyCommand=touch pwned",
    "",
    "Zoë\u2028🦉\x1b[31m\x7f" + os.fsdecode(b"\xff"),
    "~nobody-of-this-name/x",
    "/" + "x" * 5000,
)
ELSEWHERE = {"lab", "dev", "test", "verify"}  # they act on this machine, and know nothing of a cluster
KNOWN = {"member": "m1", "name": "m1", "address": "192.0.2.9", "to": "3.6.16", "snapshot": "latest", "value": "x"}


def arguments() -> dict[str, tuple[str, str, dict[str, str]]]:
    """Of each task each argument that is text: the task, the flag, and the other flags that it needs."""
    found = {}
    collection: Collection = tasks.ns
    for task in collection.task_names:
        if task.partition(".")[0] in ELSEWHERE:
            continue
        texts = {
            name: parameter.default is inspect.Parameter.empty
            for name, parameter in inspect.signature(collection[task].body).parameters.items()
            if parameter.annotation == "str"
        }
        for name in texts:
            needed = {other: KNOWN.get(other, "m1") for other, must in texts.items() if must and other != name}
            found[f"{task} --{name}"] = (task, name, needed)
    return found


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["inv", *words])
    with pytest.raises(SystemExit) as ended:
        Inv(name="inv", binary="inv", binary_names=["inv"]).run(["inv", *words])
        raise SystemExit(0)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("task", "name", "others"), arguments().values(), ids=arguments().keys())
def test_argument(
    task: str, name: str, others: dict[str, str], config: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("ETCDOPS_CONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    text = config.read_text()
    flags = [f"--{other.replace('_', '-')}={value}" for other, value in others.items()]
    for value in WORST:
        code = run([task, f"--{name.replace('_', '-')}={value}", *flags], monkeypatch)
        said = capsys.readouterr()
        if code == 0 and not value:
            continue  # it may be left out
        assert code in {1, 2, 3, 4, 5}, (value, code, said)
        assert re.match(r"(error|refused): |==> ", said.err), (value, said)
        assert re.search(r"^(error|refused): .", said.err, re.MULTILINE), (value, said)
        assert not {"\x1b", "\x7f", "\u2028"} & set(said.err), (value, said)
        assert config.read_text() == text
        assert not list(tmp_path.rglob("pwned"))


FIELDS_ELSEWHERE = {"s3", "sftp"}  # nobody is asked here; their values are looked at by tests/unit/test_configfile.py


def fields(section: type[BaseModel] = Config, *path: str) -> Iterator[tuple[str, ...]]:
    """Where text may stand in config.yaml."""
    for name, field in section.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if inner and name not in FIELDS_ELSEWHERE:
            yield from fields(inner[0], *path, name)
        elif not inner and not {bool, int, float} & set(kinds):
            yield *path, name


def with_value(document: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed: Any = json.loads(json.dumps(document))
    node = changed
    for part in path[:-1]:
        node = node.setdefault(part, {})
        node = node[0] if isinstance(node, list) else node
    node[path[-1]] = value
    return changed


@pytest.mark.parametrize("path", list(fields()), ids=".".join)
def test_field(
    path: tuple[str, ...], config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("ETCDOPS_CONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    document = YAML(typ="safe").load(config.read_text())
    hostile = [value.encode(errors="replace").decode() for value in WORST]  # a file in UTF-8 has no other
    shapes = [each for value in hostile for each in ({value: value}, [value])]
    for value in shapes if path[-1] in {"settings", "unit", "sha256", "recipients"} else hostile:
        config.write_text(json.dumps(with_value(document, path, value), ensure_ascii=False))
        code = run(["deploy", "--dry-run"], monkeypatch)
        said = capsys.readouterr()
        assert code in {2, 4}, (value, code, said)
        lines = said.err.splitlines()
        assert not {"\x1b", "\x7f", "\u2028"} & set(said.err), (value, said)
        if code == 2:
            assert said.out == ""
            assert all(re.match(r"(error:|==>) \S", line) for line in lines), (value, lines)
        assert not list(tmp_path.rglob("pwned"))
