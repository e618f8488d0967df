"""Settings of one release of etcd in the words of another: what was renamed, what became a feature gate, what is gone.

Pure.  Source: etcd's CHANGELOG and ``etcd --help`` of each release (tests/golden/etcd).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etcdops import flags
from etcdops.versions import minor

Scalar = str | int | float | bool

GATES = {  # a switch up to 3.5, also in 3.6; a feature gate from 3.6 on
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}
PREFIX = "experimental-"
# Gone, and nothing is lost with this value, since it switched on nothing or what became the only way.
IDLE: Mapping[str, frozenset[str]] = {
    "enable-v2": frozenset({"false"}),
    "experimental-enable-v2v3": frozenset({""}),
    "debug": frozenset({"false"}),
    "logger": frozenset({"capnslog"}),
}


Pairs = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True)
class Translation:
    """``settings`` for the new release.  ``replaced``: what stands instead of a setting, nothing where it just goes.

    ``problems``: settings that the new release has nothing for, one line each; nobody but their owner can decide.
    """

    settings: dict[str, Scalar]
    replaced: dict[str, Pairs] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What happens to the settings, a line each."""
        return [
            f"cluster.settings.{old} becomes {', '.join(f'{name}: {shown(value)}' for name, value in pairs)}"
            if pairs
            else f"cluster.settings.{old} goes"
            for old, pairs in self.replaced.items()
        ]


def shown(value: Scalar) -> str:
    """A value as etcd and YAML write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def translate(settings: Mapping[str, Scalar], version: str) -> Translation:
    """``settings`` as ``version`` wants them."""
    gated, known = minor(version) in {"3.6", "3.7"}, flags.known(flags.NEWEST[minor(version)])
    newer = not flags.known(version)  # than any that was asked: it may have settings that nobody knows here
    replaced: dict[str, Pairs] = {}
    problems: list[str] = []
    switches = [name for name in settings if gated and name in GATES]
    for name, value in settings.items():
        if name in switches:
            replaced[name] = ()
        elif name == "feature-gates" and not gated:
            replaced[name], unknown = _switches(shown(value), known)
            problems += [f"etcd {version} has nothing for the feature gate {gate}" for gate in unknown]
        elif shown(value) in IDLE.get(name, ()) and (name == "logger" or name not in known):
            replaced[name] = ()
        elif name not in known or (gated and name.startswith(PREFIX)):
            other = next((each for each in _others(name, value) if each[0] in known), None)
            if other is None and newer:
                continue
            if other is None:
                problems.append(f"etcd {version} has nothing for cluster.settings.{name}: {shown(value)}")
            else:
                replaced[name] = (other,)
    if switches:
        at = "feature-gates" if "feature-gates" in settings else switches[0]
        replaced[at] = (("feature-gates", _gates(settings, switches, version)),)
    found = dict(pair for name, value in settings.items() for pair in replaced.get(name, ((name, value),)))
    return Translation(found, {old: replaced[old] for old in settings if old in replaced}, tuple(problems))


def _others(name: str, value: Scalar) -> Pairs:
    """What a setting may be called elsewhere."""
    if name == "debug":
        return (("log-level", "debug"),)
    return ((name.removeprefix(PREFIX), value), (PREFIX + name, value))


def _gates(settings: Mapping[str, Scalar], switches: Sequence[str], version: str) -> str:
    """All switches as one list of gates, above the ones that this project sets where nothing is said."""
    before = str(settings.get("feature-gates") or flags.default_settings(version).get("feature-gates", ""))
    merged = dict(pair.split("=", 1) for pair in before.split(",") if "=" in pair)
    merged |= {GATES[name]: shown(settings[name]) for name in switches}
    return ",".join(f"{gate}={state}" for gate, state in sorted(merged.items()))


def _switches(gates: str, known: frozenset[str]) -> tuple[Pairs, list[str]]:
    """A list of gates as switches, and the gates that there is none for."""
    names = {gate: name for name, gate in GATES.items()}
    pairs, unknown = [], []
    for each in filter(None, gates.split(",")):
        gate, _, state = (part.strip() for part in each.partition("="))
        if gate in names and names[gate] in known:
            pairs.append((names[gate], state == "true"))
        else:
            unknown.append(gate)
    return tuple(pairs), unknown
