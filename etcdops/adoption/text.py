"""config.yaml of an adopted cluster as text: 'cluster' and 'members' written, all else of a file that is there kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from etcdops import configfile
from etcdops.config import Config, Member
from etcdops.errors import Refused, UsageError

HEAD = "# Written by `inv adopt` from the cluster that runs on these hosts. Every key: docs/config.md\n"
SECTIONS = ("cluster", "members")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._-]*|\d+(\.\d+){2,}")
WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "default"}


def skeleton(text: str, path: Path) -> Config:
    """A file that need not have 'cluster' and 'members' yet, for the rest of what it says; '' for none."""
    missing = [name for name in SECTIONS if not has(text, path, name)]
    if not missing:
        return configfile.parse(text, path)
    _blocks(text, path)  # something is to be added
    stand_in = {
        "cluster": "cluster: {name: adopted, version: 3.5.0}\n",
        "members": "members: [{name: adopted, address: 192.0.2.1}]\n",
    }
    return configfile.parse(_joined([text, *(stand_in[name] for name in missing)]), path)


def has(text: str, path: Path, name: str) -> bool:
    """Whether the file has this section."""
    data = _data(text, path)
    return isinstance(data, dict) and name in data


def merged(text: str, path: Path, wanted: Mapping[str, str]) -> str:
    """``text`` with the sections ``wanted`` (name to text) in place of those it has, or before all else."""
    blocks = _blocks(text, path)
    for name in reversed([each for each in SECTIONS if each in wanted and each in blocks]):
        start, end = blocks[name]
        text = text[:start] + wanted[name] + text[end:]
    new = "".join(wanted[name] for name in SECTIONS if name in wanted and name not in blocks)
    return _joined([new, text]) if text.strip() else HEAD + new


def cluster(name: str, version: str, tls: bool, settings: Mapping[str, str], unit: Mapping[str, Sequence[str]]) -> str:
    """The section 'cluster'."""
    lines = ["cluster:", f"  name: {scalar(name)}", f"  version: {scalar(version)}", f"  tls: {str(tls).lower()}"]
    if settings:
        lines += ["  settings:", *(f"    {key}: {scalar(value)}" for key, value in settings.items())]
    if unit:
        lines += ["  unit:", "    Service:"]
        for key, values in unit.items():
            spelt = [scalar(value) for value in values]
            lines.append(f"      {key}: {spelt[0] if len(spelt) == 1 else '[' + ', '.join(spelt) + ']'}")
    return "\n".join(lines) + "\n"


def members(each: Sequence[Member]) -> str:
    """The section 'members'."""
    lines = []
    for member in each:
        values: dict[str, str | int] = {
            "name": member.name,
            "address": member.address,
            "ssh": member.ssh,
            "port": member.port,
        }
        shown = ", ".join(f"{key}: {scalar(value)}" for key, value in values.items() if value)
        lines.append(f"  - {{{shown}}}")
    return "\n".join(["members:", *lines]) + "\n"


def ssh(values: Mapping[str, str]) -> str:
    """The section 'ssh' of a new file."""
    return "\n".join(["ssh:", *(f"  {key}: {scalar(value)}" for key, value in values.items())]) + "\n"


def scalar(value: str | int) -> str:
    """A value as YAML reads it back as the same text."""
    if isinstance(value, int):
        return str(value)
    plain = PLAIN.fullmatch(value) and value.lower() not in WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def same_cluster(config: Config, addresses: Sequence[str], found: Sequence[str]) -> None:
    """``Refused`` where a file describes other members than those that were found."""
    if set(addresses) != set(found):
        raise Refused(
            f"{config.path} describes another cluster ({', '.join(addresses)}) than the one that runs "
            f"({', '.join(found)}), and is left as it is",
            hint="name another file: inv -f FILE adopt --hosts=..., or ETCDOPS_CONFIG",
        )


def _data(text: str, path: Path) -> Any:
    try:
        return YAML().load(text)
    except YAMLError:
        return configfile.parse(text, path)  # says what is wrong, and where


def _blocks(text: str, path: Path) -> dict[str, tuple[int, int]]:
    """Where each top-level section stands: from its key to the next one's, but for comments in front of that."""
    data = _data(text, path)
    if data is None:
        return {}
    lines = text.splitlines(keepends=True)
    starts = {str(key): data.lc.key(key) for key in data} if isinstance(data, CommentedMap) else {}
    if not starts or any(column for _, column in starts.values()):
        raise UsageError(f"{path}: it is written in a way that the tool does not take apart", hint="one key on a line")
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    order = sorted(starts.items(), key=lambda item: item[1][0])
    blocks = {}
    for (name, (row, _)), following in zip(order, [*(row for _, (row, _) in order[1:]), len(lines)], strict=True):
        end = following
        while end - 1 > row and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
        blocks[name] = (offsets[row], offsets[end])
    return blocks


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part.rstrip("\n") for part in parts if part.strip()) + "\n"
