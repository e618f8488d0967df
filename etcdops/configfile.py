"""Reading config.yaml: every mistake at once, each with file, line and key, before anything is touched."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from etcdops.config import (
    MANAGED_SETTINGS,
    BackupSection,
    ClusterSection,
    Config,
    Member,
    PkiSection,
    ReleaseSection,
    Section,
    SshSection,
)
from etcdops.errors import UsageError


@dataclass(frozen=True)
class Problem:
    """One mistake in the file; ``line`` counts from 1, ``key`` is empty for the file as a whole."""

    line: int
    key: str
    message: str


class ConfigError(UsageError):
    """The file cannot be used; ``problems`` holds every mistake, in the order of the file."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.line, p.key))
        lines = [
            f"{path}:{p.line}: {p.key}: {p.message}" if p.key else f"{path}:{p.line}: {p.message}"
            for p in self.problems
        ]
        super().__init__("\n".join(lines))


def load(path: Path) -> Config:
    """Read and check ``path``.  ``ConfigError`` holds every mistake; ``UsageError``: it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}",
            hint="name another file with -f or ETCDOPS_CONFIG",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file in UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """``text`` as a ``Config`` that resolves relative paths from the folder of ``path``."""
    try:
        data = YAML().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = re.sub(r"\s+", " ", error.problem or "is not YAML")
        raise ConfigError(path, [Problem(line, "", f"not valid YAML: {what}")]) from None
    except YAMLError as error:
        message = str(error).splitlines()[0]
        raise ConfigError(path, [Problem(1, "", f"not valid YAML: {message}")]) from None
    if not isinstance(data, dict):
        problem = Problem(1, "", "a mapping with 'cluster' and 'members' must stand here")
        raise ConfigError(path, [problem])
    plain = _plain(data)
    problems = list(_contradictions(data, plain))
    try:
        config = Config.model_validate({**plain, "path": path.absolute()})
    except ValidationError as error:
        problems += _from_pydantic(error, data)
    if problems:
        raise ConfigError(path, problems)
    return config


def _plain(node: Any) -> Any:
    """ruamel's nodes as plain Python values, which pydantic's strict mode asks for."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return node if kind is bool else kind(node)
    return node


def _line(data: Any, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of ``location`` that stands in the file, counted from 1."""
    line, node = 1, data
    for part in location:
        try:
            at = node.lc.item(part) if isinstance(part, int) else node.lc.key(part)
            line, node = at[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _from_pydantic(error: ValidationError, data: Any) -> Iterator[Problem]:
    seen = set()
    for item in error.errors():
        location = tuple(part for part in item["loc"] if _exists(data, item["loc"], part))
        missing = item["type"] in {"missing", "extra_forbidden"}
        key = _key((*location, item["loc"][-1]) if missing and item["loc"][-1] not in location else location)
        line = _line(data, location)
        if (line, key) not in seen:  # a union reports each of its types; the first says enough
            seen.add((line, key))
            yield Problem(line, key, _explain(item, data))


def _exists(data: Any, location: tuple[int | str, ...], part: int | str) -> bool:
    """Whether ``part`` names something in the file, and not a branch of one of pydantic's unions."""
    node = data
    for step in location:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
        if step is part:
            return True
    return False


def _explain(item: Any, data: Any) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        return f"unknown key; did you mean '{close[0]}'?" if close else f"unknown key; known: {', '.join(known)}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "too_short":
        return "at least one member is needed"
    text = str(item["msg"]).removeprefix("Input should be ")
    value = item["input"]
    shown = f", not {value!r}" if isinstance(value, str | int | float | bool) else ""
    return f"must be {text}{shown}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[Section]] = {
        "cluster": ClusterSection,
        "members": Member,
        "ssh": SshSection,
        "release": ReleaseSection,
        "pki": PkiSection,
        "backup": BackupSection,
    }
    model = sections.get(str(location[0]), Config) if location else Config
    return [name for name in model.model_fields if name != "path"]


def _contradictions(data: Any, plain: Any) -> Iterator[Problem]:
    """Mistakes that no single value shows: members that clash, settings that the tool itself must write."""
    members = plain.get("members")
    for field in ("name", "address"):
        first: dict[str, str] = {}
        for index, member in enumerate(members if isinstance(members, list) else []):
            value = member.get(field) if isinstance(member, dict) else None
            if not isinstance(value, str):
                continue
            where = ("members", index, field)
            same = first.setdefault(_same(field, value), _key(where))
            if same != _key(where):
                yield Problem(_line(data, where), _key(where), f"'{value}' is also {same}")
    cluster = plain.get("cluster")
    settings = cluster.get("settings") if isinstance(cluster, dict) else None
    for key in settings if isinstance(settings, dict) else ():
        setting = ("cluster", "settings", key)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            yield Problem(_line(data, setting), _key(setting), "write the flag's name, as in heartbeat-interval")
        elif MANAGED_SETTINGS.fullmatch(key):
            yield Problem(_line(data, setting), _key(setting), "follows from the rest of this file; leave it out")


def _same(field: str, value: str) -> str:
    """Two spellings of one IPv6 address, or of one host name, are the same thing."""
    if field == "address":
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            return value.lower()
    return value
