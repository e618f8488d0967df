"""What of the way a cluster runs goes into config.yaml, and what is left behind, each with why.  Nothing is silent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etcdops import flags, layout
from etcdops.adoption.found import Found, agreed, unit_lines
from etcdops.config import MANAGED_SETTINGS

# What etcd itself holds to be a stream, so that nothing has to be writable in the sandbox.
STREAMS = {"default", "stderr", "stdout", "systemd/journal"}
# Of a unit: limits that mean the same in ours.  What else a unit says, ours says otherwise, or not.
LIMITS = re.compile(
    r"(Memory|CPU|IO|Allowed|Startup|Tasks|NUMA)[A-Za-z]+|Nice|Slice|Limit[A-Z]+|OOMScoreAdjust|OOMPolicy"
)
OWN_LIMITS = {("LimitNOFILE", "65536")}  # what ours has of itself
REPLACED = {  # by what ours says about the same thing
    "Unit": {"Description", "Documentation", "After", "Wants"},
    "Service": {
        "Type", "User", "Group", "ExecStart", "EnvironmentFile", "Restart", "RestartSec", "TimeoutStartSec",
        "TimeoutStopSec", "TimeoutSec", "WorkingDirectory", "StateDirectory", "NotifyAccess", "KillSignal", "UMask",
    },
    "Install": {"WantedBy"},
}  # fmt: skip
USUAL = {  # variables that systemd sets
    "PATH", "LANG", "HOME", "LOGNAME", "USER", "SHELL", "INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID", "STATE_DIRECTORY", "PWD", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
    "CREDENTIALS_DIRECTORY",
}  # fmt: skip
COMPACTION = "auto-compaction-retention"
FIRST_START = "counts at a member's first start only"


@dataclass(frozen=True)
class Left:
    """Something that does not come along, or that deploy changes: ``what`` and ``why``, on ``members``."""

    what: str
    why: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


def settings(found: Sequence[Found]) -> dict[str, str]:
    """``cluster.settings``: what the members were told that the rest of config.yaml does not say."""
    version = found[0].version
    names = dict.fromkeys(name for each in found for name in each.told.settings)
    kept = {}
    for name in sorted(names):
        value, _ = agreed(found, name)
        if value and not _reason(name, value, version) and not MANAGED_SETTINGS.fullmatch(name):
            kept[name] = value
    return kept


def unit(found: Sequence[Found]) -> dict[str, list[str]]:
    """``cluster.unit.Service``: the limits that every member's unit has; a list where one has several values."""
    each_unit = [_limits(each) for each in found]
    first = each_unit[0]
    return {key: values for key, values in first.items() if all(limits.get(key) == values for limits in each_unit)}


def _limits(found: Found) -> dict[str, list[str]]:
    limits: dict[str, list[str]] = {}
    for section, key, value in unit_lines(found.process.unit_text):
        if section == "Service" and LIMITS.fullmatch(key) and (key, value) not in OWN_LIMITS and value:
            limits.setdefault(key, []).append(value)
    return limits


def _reason(name: str, value: str, version: str) -> str:
    """Why a setting cannot go into config.yaml, '' where it can, or follows from the rest of it."""
    if name == "config-file":
        return ""
    if name == "log-outputs" and not set(value.split(",")) <= STREAMS:
        return "a file, and ours may write nowhere but to its data; it logs to the journal"
    if name in {"log-rotation-config-json", "enable-log-rotation"}:
        return "of log files, and ours logs to the journal"
    if name.startswith(("discovery", "proxy")) or (name, value) == ("strict-reconfig-check", "false"):
        return FIRST_START if name.startswith("discovery") else "not safe, or not for a member"
    if name == "unsafe-no-fsync":
        return "a power cut would cost acknowledged writes"
    known = flags.known(version)
    if known and name not in known and not MANAGED_SETTINGS.fullmatch(name):
        return f"etcd {version} has no such setting"
    return ""


def left(found: Sequence[Found]) -> list[Left]:
    """Every setting, variable and line that is left behind or changes, the same thing of several members once."""
    members: dict[tuple[str, str], list[str]] = {}
    for each in found:
        for what, why in (*_settings(each, found), *_urls(each), *_unit(each, found), *_variables(each)):
            names = members.setdefault((what, why), [])
            if each.name not in names:
                names.append(each.name)
    new = flags.default_settings(found[0].version)
    told = {name for each in found for name in each.told.settings}
    added = ", ".join(f"{name} {value}" for name, value in new.items() if name not in told)
    everyone = tuple(each.name for each in found)
    more = [Left(added, "set by deploy; others go under cluster.settings", everyone)] if added else []
    if COMPACTION not in told:
        why = (
            f'older history of keys is dropped from the first deploy on; {COMPACTION}: "0" in cluster.settings keeps it'
        )
        more.append(Left(f"{COMPACTION} {new[COMPACTION]}", why, everyone))
    return [*(Left(what, why, tuple(names)) for (what, why), names in members.items()), *more]


def _settings(each: Found, found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    for name, why in each.told.unheeded.items():
        yield name, why
    for name, value in each.told.settings.items():
        most, others = agreed(found, name)
        if why := _reason(name, value, each.version):
            yield f"{name} {value}", why
        elif name in {"client-cert-file", "client-key-file", "peer-client-cert-file", "peer-client-key-file"}:
            yield f"{name} {value}", "the certificate of the port serves for calls, too"
        elif not MANAGED_SETTINGS.fullmatch(name) and each.name in others:
            yield f"{name} {value}", f"most members have {most or 'none'}, and config.yaml has one for all"
        elif name.endswith("-crl-file"):
            yield f"{name} {value}", f"comes along; the file must be readable by user {layout.USER}"
    for name in settings(found):
        if name not in each.told.settings:
            yield f"{name} {agreed(found, name)[0]}", "is new to it: most members have it"


def _urls(each: Found) -> Iterator[tuple[str, str]]:
    """Addresses that it listens on and will not any more."""
    scheme = each.process.client_url.partition(":")[0]
    host = f"[{each.address}]" if ":" in each.address else each.address
    local = f"{scheme}://127.0.0.1:{layout.CLIENT_PORT}"
    ours = {
        "listen-client-urls": [f"{scheme}://{host}:{layout.CLIENT_PORT}", local],
        "listen-peer-urls": [f"{scheme}://{host}:{layout.PEER_PORT}"],
    }
    for setting, kept in ours.items():
        for url in each.urls(setting):
            if url not in kept:
                yield f"{setting} {url}", f"it will listen on {' and '.join(kept)} only"


def _unit(each: Found, found: Sequence[Found]) -> Iterator[tuple[str, str]]:
    kept = unit(found)
    for section, key, value in unit_lines(each.process.unit_text):
        if key in REPLACED.get(section, ()) or (key, value) in OWN_LIMITS or not value:
            continue
        if section == "Service" and key == "Environment":
            continue  # by name below, for it may hold secrets
        if section != "Service" or key not in kept:
            yield f"{key}={value} of its unit", "not in ours; cluster.unit takes it if it is to stay"


def _variables(each: Found) -> Iterator[tuple[str, str]]:
    for name in sorted({*each.process.others, *(set(each.process.environ) & {"ETCD_UNSUPPORTED_ARCH"})} - USUAL):
        yield f"variable {name}", "not in our unit; cluster.unit.Service.Environment takes it if it is to stay"
