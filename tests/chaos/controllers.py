"""Those who run ./inv: one whose run ends in the middle, and two at once."""

from __future__ import annotations

import contextlib
import copy
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.walk import LONGEST, Walk
from tests.chaos.words import a_backup, a_setting, a_spare, another_release
from tests.hosts import Project
from tests.lab.members import reread


@dataclass(frozen=True)
class Cut:
    """A task that is cut short at any moment of its first ``seconds``."""

    words: Callable[[Walk], Sequence[str]]
    seconds: float = 8.0
    may: Callable[[Walk], bool] = lambda walk: True


CUT = (
    Cut(a_setting),
    Cut(lambda walk: ["restart"]),
    Cut(lambda walk: ["backup"]),
    Cut(lambda walk: ["defrag", "--force"]),
    Cut(a_backup, may=lambda walk: bool(walk.backups)),
    Cut(a_spare, may=lambda walk: bool(walk.spare)),
    Cut(another_release, 20.0),
    Cut(lambda walk: ["rotate-certs"]),
    Cut(lambda walk: ["rotate-ca", "--yes"], 60.0),
)
KILLED, INTERRUPTED = "controller killed", "controller interrupted"
ENDS = {KILLED: (signal.SIGKILL, -signal.SIGKILL), INTERRUPTED: (signal.SIGINT, 130)}


def cut_short(name: str) -> Callable[[Walk], tuple[str, str]]:
    """The controller is killed, or somebody presses Ctrl-C; the same command goes on."""
    number, code = ENDS[name]

    def make(walk: Walk) -> tuple[str, str]:
        chosen = walk.chance.choice([each for each in CUT if each.may(walk)])
        words = chosen.words(walk)
        run = walk.project.start(*words)
        run.ends_within(walk.chance.uniform(0.3, chosen.seconds))
        with contextlib.suppress(ProcessLookupError):
            run.signal(number)
        first = run.end(LONGEST)
        reread(walk.project)
        assert first.code in {0, code}, (words, first)
        walk.say(f"     {' '.join(words)}: {first.code} after {first.seconds:.1f} s {first.stderr.splitlines()[-1:]}")
        if first.code:
            walk.inv(*words).ok()
        if words[0] == "restore":
            walk.restored(words[1])
        return name, f"{words[0]} ended by the same again" if first.code else f"too late for {words[0]}"

    return make


TOGETHER = (["restart"], ["defrag", "--force"], ["deploy"], ["rotate-certs"])


def two_operators(walk: Walk) -> tuple[str, str]:
    """Two at once, from two folders: both come to an end, or one is told of the other."""
    ours = walk.project
    folder = ours.folder.parent / "second"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ours.folder, folder)
    second = Project(ours.hosts, folder, version=walk.version)
    second.config, second.env = copy.deepcopy(ours.config), ours.env
    second.write()
    mine, his = walk.chance.choice(TOGETHER), walk.chance.choice(TOGETHER[:-1])  # one folder has the certificates
    run = ours.start(*mine)
    run.ends_within(walk.chance.uniform(0.0, 2.0))
    other = second.start(*his).end(LONGEST)
    done = run.end(LONGEST)
    codes = done.code, other.code
    assert codes in {(0, 0), (0, 3), (3, 0)}, (mine, his, done, other)
    for each in (done, other):
        assert each.code == 0 or " runs inv " in each.stderr, (mine, his, done, other)
    if done.code:
        walk.inv(*mine).ok()
    return "two operators at once", "one was refused" if any(codes) else "both came to their end"
