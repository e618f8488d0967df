"""config.yaml edited by the tool: a member more or less, another address, release, transport; nothing else by a byte.

An edit counts when the new text loads as exactly the old configuration but for what was to change (configtext.py cuts
it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.error import YAMLError

from etcdops import atomic, configfile, configtext
from etcdops.config import Config, Member
from etcdops.configfile import ConfigError
from etcdops.errors import Refused, UsageError


@dataclass(frozen=True)
class Edit:
    """A new content for the file, checked and not yet written."""

    path: Path  # what a symbolic link leads to
    old: bytes
    new: bytes

    def write(self) -> None:
        """Replace the file, which keeps its mode and owner; ``Refused`` when it was changed since it was read."""
        with atomic.locked(self.path.parent):
            try:
                known, now = self.path.stat(), self.path.read_bytes()
            except OSError as error:
                raise _changed(self.path, f" ({error.strerror})") from None
            if now != self.old:
                raise _changed(self.path)
            owner = (known.st_uid, known.st_gid)
            atomic.write([atomic.NewFile(self.path, self.new, stat.S_IMODE(known.st_mode), owner)])


def add_member(config: Config, member: Member) -> Edit:
    """``member`` behind the others, written in the style of the last one."""
    return _edit(
        config,
        _with(config, [*config.members, member]),
        f"add {member.name}",
        lambda text: configtext.added(text, member),
    )


def remove_member(config: Config, name: str) -> Edit:
    """Without the member ``name``: its lines go, with the comments on them; comments on lines of their own stay."""
    index = config.members.index(config.member(name))
    members = [each for each in config.members if each.name != name]
    return _edit(config, _with(config, members), f"take {name} out", lambda text: configtext.removed(text, index))


def move_member(config: Config, name: str, address: str) -> Edit:
    """The member ``name`` at another address, already in the form that ``Config`` gives it."""
    index = config.members.index(config.member(name))
    moved = config.members[index].model_copy(update={"address": address})
    members = [moved if each.name == name else each for each in config.members]
    return _edit(
        config,
        _with(config, members),
        f"move {name} to {address}",
        lambda text: configtext.moved_to(text, index, address),
    )


def replace_member(config: Config, name: str, member: Member) -> Edit:
    """``member`` for the member ``name``: another address in its place, or its lines out and new ones at the end."""
    index = config.members.index(config.member(name))
    old = config.members[index]
    if member == old.model_copy(update={"address": member.address}):
        return move_member(config, name, member.address)
    members = [*(each for each in config.members if each.name != name), member]
    what = f"put {member.name} in the place of {name}"
    return _edit(
        config, _with(config, members), what, lambda text: configtext.removed(configtext.added(text, member), index)
    )


def change_release(config: Config, wanted: Config, replaced: Mapping[str, Sequence[tuple[str, object]]]) -> Edit:
    """With the version of ``wanted``, and its settings: what stands in place of each that is ``replaced``."""
    what = f"set cluster.version to {wanted.cluster.version}"
    return _edit(
        config, wanted, what, lambda text: configtext.released(text, wanted.cluster.version, replaced), "cluster"
    )


def change_tls(config: Config, tls: bool) -> Edit:
    """With this ``cluster.tls``; where the file leaves it to the default, behind the version."""
    wanted = config.model_copy(update={"cluster": config.cluster.model_copy(update={"tls": tls})})
    value = str(tls).lower()
    return _edit(config, wanted, f"set cluster.tls to {value}", lambda text: configtext.secured(text, value), "cluster")


def _with(config: Config, members: list[Member]) -> Config:
    """``UsageError`` where one of ``members`` that is new has the name or the address of another."""
    for new in members:
        if new not in config.members:
            _refuse_clash(new, [each for each in members if each is not new])
    return config.model_copy(update={"members": members})


def _refuse_clash(new: Member, others: Sequence[Member]) -> None:
    """``UsageError`` where one of ``others`` has its name or its address."""
    for each in others:
        if each.name == new.name:
            raise UsageError(f"there is a member {each.name} already, at {each.address}", hint="another name")
        if each.address == new.address:
            raise UsageError(f"{each.address} is the address of member {each.name}", hint="another address")


def _edit(config: Config, wanted: Config, what: str, change: Callable[[str], str], section: str = "members") -> Edit:
    """``UsageError`` unless the file can be written, and the changed text means what is ``wanted``."""
    path = config.path.resolve()
    old = _read(config, path)
    try:
        text = change(old.decode("utf-8"))
        found = configfile.parse(text, config.path)
        why = "" if found == wanted else "something else would change with it"
    except ConfigError as error:
        text, why = "", error.problems[0].message
    except (LookupError, ValueError, YAMLError):
        text, why = "", "it is written in a way that the tool does not take apart"
    if why:
        raise UsageError(f"{config.path}: cannot {what}: {why}", hint=f"edit '{section}' yourself, then the same again")
    return Edit(path, old, text.encode("utf-8"))


def _read(config: Config, path: Path) -> bytes:
    """The bytes of the file, which must still say what ``config`` says, and be ours to replace."""
    try:
        data, known = path.read_bytes(), path.stat()
        same = configfile.parse(data.decode("utf-8"), config.path) == config
    except (OSError, UnicodeDecodeError, ConfigError):
        raise _changed(path) from None
    if not same:
        raise _changed(path)
    user = os.geteuid()
    ours = user == 0 or (known.st_uid == user and known.st_gid in {os.getegid(), *os.getgroups()})
    if not ours or not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: cannot be written by this user", hint="run this as its owner, or change that")
    return data


def _changed(path: Path, why: str = "") -> Refused:
    return Refused(f"{path}: was changed while this ran, and is left as it is{why}", hint="the same command again")
