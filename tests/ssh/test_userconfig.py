"""~/.ssh/config: Include, and what each setting of ours leaves to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdops.errors import UsageError
from etcdops.ssh.userconfig import user_config


def write(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("FOLDER", str(folder)))
    return folder / "home/config", folder / "etc/ssh_config"


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({}, ["Host *"]),
        ({"home/config": "User a\n", "etc/ssh_config": "User b\n"}, ["User a", "Host *", "User b"]),
        # the user's relative names come from ~/.ssh, the system's from /etc/ssh; a glob is sorted, none is fine
        (
            {"home/config": "Include conf.d/* missing/*\nUser z", "home/conf.d/b": "Port 2", "home/conf.d/a": "Port 1"},
            ["Port 1", "Host *", "Port 2", "Host *", "User z", "Host *"],
        ),
        ({"etc/ssh_config": "include=extra", "etc/extra": "User b"}, ["Host *", "User b", "Host *"]),
        # what follows an Include belongs to the section that the Include stands in
        (
            {"home/config": 'Host a\n  Include "FOLDER/x y" # comment\n  User u', "x y": "Host b\n  Port 3"},
            ["Host a", "Host b", "  Port 3", "Host a", "  User u", "Host *"],
        ),
        ({"home/config": "Include one", "home/one": "Include two", "home/two": "Port 2"}, ["Port 2", *["Host *"] * 3]),
    ],
)
def test_includes_are_put_in_place(tmp_path: Path, files: dict[str, str], lines: list[str]) -> None:
    assert user_config(*write(tmp_path, files)).splitlines() == lines


def test_a_file_that_includes_itself_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Include goes deeper than 16 files"):
        user_config(*write(tmp_path, {"home/config": "Include config"}))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    with pytest.raises(UsageError, match=r"config: Is a directory"):
        user_config(tmp_path / "config", tmp_path / "none")
