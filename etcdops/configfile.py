"""Reading config.yaml: every mistake at once, each with file, line and key, before anything is touched."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from etcdops import flags
from etcdops.config import MANAGED_SETTINGS, Config, Member, Section
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
    data, problems = _read(text, path)
    if not isinstance(data, dict):
        problem = Problem(1, "", "a mapping with 'cluster' and 'members' must stand here")
        raise ConfigError(path, [problem])
    plain = _plain(data)
    problems += _contradictions(data, plain)
    try:
        config = Config.model_validate(plain, context=path.absolute())
    except ValidationError as error:
        problems += _from_pydantic(error, data)
    if problems:
        raise ConfigError(path, problems)
    return config


def member(name: str, address: str, ssh: str = "", *, called: str = "NAME") -> Member:
    """A member as the command line gives it, its name as the word ``called``; ``UsageError`` if config.yaml could not
    have it."""
    try:
        return Member(name=name, address=address, ssh=ssh)
    except ValidationError as error:
        words = {"name": called, "address": "--address", "ssh": "--ssh"}
        found = [f"{words[str(item['loc'][0])]}: {_explain(item)}" for item in error.errors()]
        raise UsageError("; ".join(found)) from None


class _Constructor(RoundTripConstructor):
    """ruamel's, but what is wrong with a key stops nothing: it waits in ``problems`` for the other mistakes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.problems: list[Problem] = []

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if not isinstance(key, str):
            trouble = "a key must be text; put it in quotes"
        elif key in mapping:
            trouble = f"stands here twice, first in line {_line(mapping, (key,))}"
        else:
            return True
        written = key_node.value if isinstance(key_node.value, str) else ""
        self.problems.append(Problem(key_node.start_mark.line + 1, _key((written,)), trouble))
        return False

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError) as error:  # such as !!int x
            raise ConstructorError(problem=f"{error}", problem_mark=node.start_mark) from None


# A date is text like any other here.
_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_yaml_str)


def _read(text: str, path: Path) -> tuple[Any, list[Problem]]:
    """``text`` as ruamel's nodes, and what is wrong with its keys."""
    yaml = YAML()
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text), yaml.constructor.problems
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, what = mark.line + 1 if mark else 1, error.problem or "is not YAML"
    except ReaderError as error:
        line, what = text.count("\n", 0, error.position) + 1, str(error).splitlines()[0]
    except YAMLError as error:
        line, what = 1, str(error).splitlines()[0]
    except RecursionError:
        line, what = 1, "nested too deeply"
    raise ConfigError(path, [Problem(line, "", "not valid YAML: " + " ".join(what.split()))])


def _plain(node: Any) -> Any:
    """ruamel's nodes as plain Python values, which pydantic's strict mode asks for."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, ScalarBoolean):  # `&anchor true`, to Python a number
        return bool(node)
    for kind in (int, float, str):
        if isinstance(node, kind) and not isinstance(node, bool):
            return kind(node)
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
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part.isprintable() else repr(part))
    return text


def _from_pydantic(error: ValidationError, data: Any) -> Iterator[Problem]:
    for item in error.errors():
        location = _written(data, item["loc"])
        absent = item["type"] in {"missing", "extra_forbidden"} and item["loc"][-1] not in location
        key = _key((*location, item["loc"][-1]) if absent else location)
        yield Problem(_line(data, location), key, _explain(item))


def _written(data: Any, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The parts of ``location`` that stand in the file; pydantic also names the branch of a union, and '[key]'."""
    node, parts = data, []
    for part in location:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            continue
        parts.append(part)
    return tuple(parts)


def _explain(item: Any) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        return f"unknown key; did you mean '{close[0]}'?" if close else f"unknown key; known: {', '.join(known)}"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return f"at least one {str(item['loc'][-1]).removesuffix('s')} is needed"
    if value is None:
        return "is empty: give it a value, or leave it out"
    text = "must be " + (_KINDS.get(kind) or str(item["msg"]).removeprefix("Input should be "))
    if not isinstance(value, str | int | float):
        return text
    text += f", not {str(value).lower() if isinstance(value, bool) else repr(value)}"
    return f"{text}; put it in quotes" if kind == "string_type" else text


_KINDS = {
    "model_type": "a mapping, as in 'key: value'",
    "dict_type": "a mapping, as in 'key: value'",
    "list_type": "a list, with a '-' before each item",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that can stand at ``location``; positions in a list, and branches of a union, are passed over."""
    section: type[Section] = Config
    for part in location:
        field = section.model_fields.get(str(part))
        section = next(_sections(field.annotation if field else None), section)
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that ``annotation`` names: ``S``, ``S | None`` and ``list[S]`` are all about S."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            yield kind


def _contradictions(data: Any, plain: Any) -> Iterator[Problem]:
    """Mistakes that no single value shows: members that clash, settings that the tool itself must write."""
    found = (*_clashes(plain.get("members")), *_managed(plain.get("cluster")), *_two_stores(plain.get("backup")))
    for where, message in found:
        yield Problem(_line(data, where), _key(where), message)


def _clashes(members: Any) -> Iterator[tuple[tuple[int | str, ...], str]]:
    for field in ("name", "address"):
        first: dict[str, str] = {}
        for index, member in enumerate(members if isinstance(members, list) else []):
            value = member.get(field) if isinstance(member, dict) else None
            if not isinstance(value, str):
                continue
            where = ("members", index, field)
            same = first.setdefault(_same(field, value), _key(where))
            if same != _key(where):
                yield where, f"{value!r} is also {same}"


def _managed(cluster: Any) -> Iterator[tuple[tuple[int | str, ...], str]]:
    version = str(cluster.get("version")).removeprefix("v") if isinstance(cluster, dict) else ""
    known = flags.known(version) if re.fullmatch(r"\d+\.\d+\.\d+", version) else ()
    for key in _mapping(cluster, "settings"):
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            yield ("cluster", "settings", key), "write the flag's name, as in heartbeat-interval"
        elif MANAGED_SETTINGS.fullmatch(key):
            yield ("cluster", "settings", key), "follows from the rest of this file; leave it out"
        elif known and key not in known:
            close = difflib.get_close_matches(key, known, 1)
            meant = f"; did you mean '{close[0]}'?" if close else "; etcd --help lists those that it has"
            yield ("cluster", "settings", key), f"etcd {version} has no such setting{meant}"
    service = _mapping(_mapping(cluster, "unit"), "Service")
    for key in ("Environment", "PassEnvironment"):
        # etcd.conf would win or lose against it, and no run could tell whether a restart is due.
        if re.search(r"\bETCD_", str(service.get(key))):
            yield ("cluster", "unit", "Service", key), "what is meant for etcd goes under cluster.settings"


def _two_stores(backup: Any) -> Iterator[tuple[tuple[int | str, ...], str]]:
    if isinstance(backup, dict) and {"s3", "sftp"} <= backup.keys():
        yield ("backup", "sftp"), "there is one store: leave out this or backup.s3"


def _mapping(node: Any, key: str) -> dict[str, Any]:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def _same(field: str, value: str) -> str:
    """Two spellings of one IPv6 address, or of one host name, are the same thing."""
    if field == "address":
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            return value.lower()
    return value
