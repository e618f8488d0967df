"""The table of settings is what real releases have, and a misspelt one is a mistake of config.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdops import configfile, flags
from etcdops.config import MANAGED_SETTINGS
from etcdops.values import SUPPORTED_MINORS
from tests.unit.golden import GOLDEN

RECORDED = sorted(path.stem for path in (GOLDEN / "etcd").glob("*.flags"))


@pytest.mark.parametrize("minor", SUPPORTED_MINORS)
def test_the_table_is_what_was_recorded(minor: str) -> None:
    """A flag that one release of a minor has counts for all of them: each host checks with its own."""
    recorded = {
        flag
        for version in RECORDED
        if version.startswith(f"{minor}.")
        for flag in (GOLDEN / "etcd" / f"{version}.flags").read_text().split()
    }
    assert flags.known(f"{minor}.0") == {flag for flag in recorded if not MANAGED_SETTINGS.fullmatch(flag)}


@pytest.mark.parametrize("version", RECORDED)
def test_our_own_settings_are_known(version: str) -> None:
    assert set(flags.default_settings(version)) <= flags.known(version)


@pytest.mark.parametrize("version", ["3.4.24", "3.5.36", "3.6.17", "3.7.4", "3.8.0", "4.0.0"])
def test_newer_than_what_was_recorded_is_left_to_the_hosts(version: str) -> None:
    assert flags.known(version) == frozenset()


@pytest.mark.parametrize(
    ("version", "setting", "says"),
    [
        ("3.6.14", "heartbeat-intervall", "etcd 3.6.14 has no such setting; did you mean 'heartbeat-interval'?"),
        ("v3.7.3", "snapshot-cout", "etcd 3.7.3 has no such setting; did you mean 'snapshot-count'?"),
        ("3.7.3", "enable-v2", "etcd 3.7.3 has no such setting; "),
        ("3.5.30", "zzz", "etcd 3.5.30 has no such setting; etcd --help lists those that it has"),
        ("3.6.99", "heartbeat-intervall", ""),
        ("3.6.14", "heartbeat-interval", ""),
        ("3.4.23", "enable-v2", ""),
    ],
)
def test_a_setting_that_the_release_does_not_have(version: str, setting: str, says: str) -> None:
    text = (
        f"cluster:\n  name: test\n  version: {version}\n  settings:\n    {setting}: 1\n"
        "members:\n  - {name: m1, address: 192.0.2.1}\n"
    )
    if not says:
        assert setting in configfile.parse(text, Path("c.yaml")).cluster.settings
        return
    with pytest.raises(configfile.ConfigError) as caught:
        configfile.parse(text, Path("c.yaml"))
    assert str(caught.value).startswith(f"c.yaml:5: cluster.settings.{setting}: {says}")
