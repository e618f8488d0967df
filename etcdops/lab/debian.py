"""The Debian machine that the lab runs on: its release, its package sources, and what must be installed."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from etcdops.errors import OpsError, Refused
from etcdops.lab.process import ENVIRONMENT, run

# program that must be there: the package that brings it
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
}
# What the lab's hosts can be: systemd 247, 252, 257
RELEASES = ("bullseye", "bookworm", "trixie")
# What makes a mirror reachable here (a proxy, a clock that is off) holds for the image as well.
_ACQUIRE = ("http", "https", "Retries", "Check-Valid-Until", "Check-Date")


@dataclass(frozen=True)
class Release:
    """A Debian release, such as ``bookworm``, for one machine type as uname(1) names it."""

    codename: str
    machine: str


def require_root() -> None:
    """``Refused`` unless we are root: containers, bridges and mounts are the kernel's."""
    if os.geteuid() != 0:
        raise Refused("the lab needs root", hint="run the same command as root (sudo ./inv ...)")


def release(os_release: Mapping[str, str] | None = None) -> Release:
    """The release of this machine; ``Refused`` where it is not Debian."""
    try:
        found = os_release or platform.freedesktop_os_release()
    except OSError:
        found = {}
    codename = found.get("VERSION_CODENAME", "")
    if found.get("ID") != "debian" or not codename:
        name = found.get("PRETTY_NAME", platform.system())
        raise Refused(
            f"the container lab needs a Debian release on this machine, and this is {name}",
            hint="use the virtual machines of the Vagrantfile instead",
        )
    return Release(codename, platform.machine())


def install_missing(say: Callable[[str], None], also: Mapping[str, str] | None = None) -> None:
    """Install the packages of the programs that the lab needs, ``also`` of these, and that are not here."""
    path = ENVIRONMENT["PATH"]
    missing = [
        package for program, package in {**NEEDED, **(also or {})}.items() if not shutil.which(program, path=path)
    ]
    if missing:
        install(missing, say)


def install(packages: Iterable[str], say: Callable[[str], None]) -> None:
    """Install these packages, and nothing that they only recommend."""
    say(f"installing {', '.join(packages)}")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    try:
        run(install, seconds=300)
    except OpsError:  # most often there are no package lists, or they are too old to fetch from
        try:
            run(["apt-get", "update"], seconds=300)
            run(install, seconds=300)
        except OpsError as error:
            raise OpsError(f"cannot install what the lab needs: {error}", hint=f"try: {' '.join(install)}") from None


def sources(codename: str) -> dict[str, str]:
    """apt entries for Debian's ``codename``: file name to content, binary packages only.

    They are this machine's own, word for word, without those of other vendors; with the other name in them where this
    machine is of another release.
    """
    ours = release().codename
    found = _written(ours)
    return found if codename == ours else swapped(found, (codename,))


def _written(codename: str) -> dict[str, str]:
    entries = _entries(codename)
    if not entries:
        run(["apt-get", "update"], seconds=300)  # apt knows a source's origin only from its lists
        entries = _entries(codename)
    if not entries:
        raise OpsError(
            f"no apt source of this machine offers Debian {codename}",
            hint="apt-get indextargets lists what the sources offer",
        )
    found: dict[str, str] = {}
    for entry in entries:
        path, _, number = entry.rpartition(":")
        deb822 = path.endswith(".sources")
        name = "lab.sources" if deb822 else "lab.list"
        text = Path(path).read_text()
        found[name] = found.get(name, "") + (stanza if deb822 else line)(text, int(number)) + "\n"
    return found


def _entries(codename: str) -> list[str]:
    """``FILE:NUMBER`` of each entry of sources.list(5) that Debian signs for this release."""
    form = "$(ORIGIN)|$(CODENAME)|$(SOURCESENTRY)"
    targets = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines()
    wanted = {f"Debian|{codename}{pocket}" for pocket in ("", "-updates", "-security")}
    return list(dict.fromkeys(t.rpartition("|")[2] for t in targets if t.rpartition("|")[0] in wanted))


def line(text: str, number: int) -> str:
    """A line of a one-line-style list, counted from 1."""
    return text.splitlines()[number - 1]


def stanza(text: str, number: int) -> str:
    """A stanza of a deb822-style list, counted from 1 as apt counts, for binary packages only."""
    plain = "\n".join(each for each in text.splitlines() if not each.startswith("#"))
    found = [block for block in re.split(r"\n\s*\n", plain) if block.strip()][number - 1].strip()
    return re.sub(r"(?mi)^types:.*$", "Types: deb", found) + "\n"


def swapped(sources: Mapping[str, str], suites: Iterable[str]) -> dict[str, str]:
    """Debian's own entries among ``sources`` (file name to content), for ``suites`` and component main only.

    Entries for updates and security have other suite names and are left out: a mirror of their own, often.
    """
    found = {}
    for name, text in sources.items():
        entries = _swapped_stanzas(text, suites) if name.endswith(".sources") else _swapped_lines(text, suites)
        if kept := list(entries):
            found[name] = "\n".join(kept) + "\n"
    return found


def _swapped_stanzas(text: str, suites: Iterable[str]) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip()):
        named = re.search(r"(?mi)^suites:(.*)$", block)
        if named and any(map(_is_release, named[1].split())):
            kept = re.sub(r"(?mi)^(suites|components|targets):.*\n?", "", block).strip()
            yield f"{kept}\nSuites: {' '.join(suites)}\nComponents: main\nTargets: Packages\n"


def _swapped_lines(text: str, suites: Iterable[str]) -> Iterator[str]:
    for options, address, suite in re.findall(r"(?m)^\s*deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)", text):
        if _is_release(suite):
            yield from (f"deb [{f'{options} target=Packages'.strip()}] {address} {each} main" for each in suites)


def _is_release(suite: str) -> bool:
    return bool(re.fullmatch(r"[a-z]+", suite))  # not bookworm-updates, bookworm-security/updates


def acquire_settings() -> str:
    """How this machine's apt fetches, as an apt.conf(5)."""
    names = [f"Acquire::{name}" for name in _ACQUIRE]
    return run(["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', *names])
