"""Tasks of the walk in the words of ./inv, with what config.yaml and the moment have to say to each."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.walk import NEW, OLD, Walk
from tests.lab.members import address

SETTINGS = {"snapshot-count": (5000, 20000), "heartbeat-interval": (110, 120), "max-snapshots": (4, 6)}


def a_setting(walk: Walk) -> Sequence[str]:
    """config.yaml has one setting changed, and deploy brings it."""
    key = walk.choose(sorted(SETTINGS))
    settings = walk.project.config["cluster"].setdefault("settings", {})
    settings[key] = walk.chance.choice([each for each in SETTINGS[key] if each != settings.get(key)])
    walk.project.write()
    return ["deploy"]


def another_release(walk: Walk) -> Sequence[str]:
    return ["upgrade", f"--to={NEW}"] if walk.version == OLD else ["downgrade", f"--to={OLD}"]


def a_backup(walk: Walk) -> Sequence[str]:
    """One of the newest comes back."""
    return ["restore", walk.choose(walk.backups[:3]), "--yes"]


def a_spare(walk: Walk) -> Sequence[str]:
    """A host that is none becomes a member."""
    name = walk.choose(walk.spare)
    return ["add-member", name, f"--address={address(name)}"]
