"""What a running etcd was told: its configuration file, or its command line and environment, as one set of settings.

The rules are etcd's own (etcdmain/config.go, pkg/flags): a configuration file stands alone, and flags and variables
beside it count for nothing; else a flag stands above a variable; an empty variable is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from etcdops import flags
from etcdops.config import MANAGED_SETTINGS

# Variables of etcd's that are no settings.
NOT_SETTINGS = {"ETCD_UNSUPPORTED_ARCH"}
_TRANSPORT = {"client-transport-security": "", "peer-transport-security": "peer-"}
# Keys of those two sections that are called otherwise on the command line.
_RENAMED = {
    "allowed-cn": "cert-allowed-cn",
    "allowed-hostname": "cert-allowed-hostname",
    "skip-client-san-verification": "skip-client-san-verification",
}


@dataclass(frozen=True)
class Told:
    """``settings``: by the name of the flag.  ``unheeded``: what stands there too and etcd does not heed, with why."""

    settings: Mapping[str, str]
    unheeded: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    def get(self, name: str, default: str = "") -> str:
        """The value of a flag."""
        return self.settings.get(name, default)

    def on(self, name: str) -> bool:
        """Whether a flag is set to true."""
        return self.get(name).lower() in {"true", "1", "t"}  # what Go's strconv takes for it


def read(argv: Sequence[str], environ: Mapping[str, str], text: str | None, version: str = "") -> Told:
    """``argv`` with the program's name, ``environ`` of the process, ``text`` of its configuration file if it has one.

    ``version``: variables that this release does not know are told apart; without it none is.
    """
    given, variables = _flags(argv), dict(_variables(environ))
    if text is None:
        both = {**variables, **given}
        known = flags.known(version) if version else frozenset()
        dead = {
            name: "etcd does not know it"
            for name in variables
            if known and name not in known and not MANAGED_SETTINGS.fullmatch(name)
        }
        return Told({name: value for name, value in both.items() if name not in dead}, dead)
    why = "etcd does not heed it beside a configuration file"
    beside = {name: why for name in {**variables, **given} if name != "config-file"}
    if not text.strip():
        return Told({}, beside, "it is empty, or gone")
    try:
        data = YAML(typ="safe", pure=True).load(text) or {}
    except YAMLError as error:
        return Told({}, beside, " ".join(str(error).split()))
    if not isinstance(data, dict):
        return Told({}, beside, "it is no mapping")
    settings: dict[str, str] = {}
    dead = dict(beside)
    for key, value in _flat(data):
        if isinstance(value, dict):
            dead[key] = "it is a mapping, which is no setting"
        elif value is not None and _value(value) != "":
            settings[key] = _value(value)
    return Told(settings, dead)


def _flags(argv: Sequence[str]) -> dict[str, str]:
    """Go's flags: -name value, -name=value, or -name alone for true; two dashes mean the same as one."""
    found: dict[str, str] = {}
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        match = re.fullmatch(r"--?([A-Za-z0-9][A-Za-z0-9-]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            continue
        name, value = match[1], match[2]
        if value is None:
            follows = words and not re.match(r"--?[A-Za-z]", words[0])
            value = words.pop(0) if follows else "true"
        found[name] = value
    return found


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("ETCD_") and value and name not in NOT_SETTINGS:
            yield name.removeprefix("ETCD_").lower().replace("_", "-"), value


def _flat(data: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if key in _TRANSPORT and isinstance(value, dict):
            for inner, each in value.items():
                name = _RENAMED.get(str(inner), str(inner))
                client = "client-" if not _TRANSPORT[key] and str(inner) in _RENAMED else ""
                yield f"{_TRANSPORT[key]}{client}{name}", each
        else:
            yield str(key), value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_value(each) for each in value)
    return str(value)
