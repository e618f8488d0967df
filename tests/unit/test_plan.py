"""Each resource against a host: why it must change, in the words that the operator reads; the order of changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from etcdops import layout
from etcdops.facts import HostFacts, UnitFact
from etcdops.plan import (
    ETCD,
    Change,
    Directory,
    Enabled,
    File,
    Link,
    Release,
    Reloaded,
    Resource,
    User,
    diff,
)
from tests.unit.build import fresh, path

CONTENT = b"content\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
OTHER = 64 * "0"
PEM = File(layout.SERVER, CONTENT, 0o600, ETCD)
LINK = Link(layout.SERVER_KEY, "server.pem")
FOLDER = Directory(layout.SSL_DIR, 0o750, "root:etcd")


def at(
    resource: Directory | File | Link, kind: str, mode: int = 0o644, owner: str = "root:root", **known: str
) -> HostFacts:
    """A host with this, and nothing else, at the path of ``resource``."""
    return fresh(paths={resource.path: path(kind, mode, owner, **known)})


WHY: dict[str, tuple[Resource, HostFacts, str]] = {
    "user, missing": (User(), fresh(), "new"),
    "user, there": (User(), fresh(has_user=True), ""),
    "directory, missing": (FOLDER, fresh(), "new"),
    "directory, as it should be": (FOLDER, at(FOLDER, "directory", 0o750, "root:etcd"), ""),
    "directory, mode": (FOLDER, at(FOLDER, "directory", 0o755, "root:etcd"), "mode 755, not 750"),
    "directory, special bits": (FOLDER, at(FOLDER, "directory", 0o2750, "root:etcd"), "mode 2750, not 750"),
    "directory, owner": (FOLDER, at(FOLDER, "directory", 0o750, "root:root"), "owner root:root, not root:etcd"),
    "directory, a file": (FOLDER, at(FOLDER, "file", 0o750, "root:etcd"), "was a file"),
    "directory, a link": (FOLDER, at(FOLDER, "link", 0o777, target="/mnt"), "was a link"),
    "file, missing": (PEM, fresh(), "new"),
    "file, as it should be": (PEM, at(PEM, "file", 0o600, ETCD, sha256=SHA), ""),
    "file, content": (PEM, at(PEM, "file", 0o600, ETCD, sha256=OTHER), "changed"),
    "file, mode": (PEM, at(PEM, "file", 0o644, ETCD, sha256=SHA), "mode 644, not 600"),
    "file, owner": (PEM, at(PEM, "file", 0o600, "root:root", sha256=SHA), "owner root:root, not etcd:etcd"),
    "file, a directory": (PEM, at(PEM, "directory", 0o755), "was a directory"),
    "file, a link to the same content": (PEM, at(PEM, "link", 0o777, target="x"), "was a link"),
    "file, still to be made": (replace(PEM, content=None), at(PEM, "file", 0o600, ETCD, sha256=SHA), "changed"),
    "file, still to be made, missing": (replace(PEM, content=None), fresh(), "new"),
    "file, empty": (
        replace(PEM, content=b""),
        at(PEM, "file", 0o600, ETCD, sha256=hashlib.sha256().hexdigest()),
        "",
    ),
    "link, missing": (LINK, fresh(), "new"),
    "link, as it should be": (LINK, at(LINK, "link", 0o777, target="server.pem"), ""),
    "link, elsewhere": (LINK, at(LINK, "link", 0o777, target="old.pem"), "pointed to old.pem"),
    "link, a file": (LINK, at(LINK, "file", 0o600, sha256=SHA), "was a file"),
    "release, missing": (Release("3.6.16"), fresh(releases={"3.6.15": OTHER}), "new"),
    "release, there": (Release("3.6.16"), fresh(releases={"3.6.16": OTHER}), ""),
    "release, cut short": (Release("3.6.16"), fresh(releases={"3.6.16": ""}), "new"),
    "release, the pinned one": (Release("3.6.16", SHA), fresh(releases={"3.6.16": SHA}), ""),
    "release, another one": (Release("3.6.16", SHA), fresh(releases={"3.6.16": OTHER}), "from another archive"),
    "reload, not due": (Reloaded(), fresh(), ""),
    "reload, due": (Reloaded(), fresh(unit=UnitFact(needs_reload=True)), "units changed on disk"),
    "at boot, no unit": (Enabled(), fresh(), "to start at boot"),
    "at boot, disabled": (Enabled(), fresh(unit=UnitFact(enabled="disabled")), "to start at boot"),
    "at boot, for this boot only": (Enabled(), fresh(unit=UnitFact(enabled="enabled-runtime")), "to start at boot"),
    "at boot, enabled": (Enabled(), fresh(unit=UnitFact(enabled="enabled")), ""),
}


@pytest.mark.parametrize(("resource", "facts", "why"), WHY.values(), ids=WHY.keys())
def test_why(resource: Resource, facts: HostFacts, why: str) -> None:
    assert resource.why(facts) == why


CONF = {
    "one setting": ({"ETCD_LOG_LEVEL": "info"}, 'ETCD_LOG_LEVEL="debug"', "log-level info -> debug"),
    "a new setting": ({"ETCD_NAME": "a"}, 'ETCD_NAME="a"\nETCD_LOG_LEVEL="debug"', "log-level debug"),
    "a setting less": ({"ETCD_NAME": "a", "ETCD_LOG_LEVEL": "info"}, 'ETCD_NAME="a"', "log-level removed"),
    "several": (
        {"ETCD_PRE_VOTE": "true", "ETCD_NAME": "a"},
        'ETCD_NAME="b"\nETCD_PRE_VOTE="false"',
        "name a -> b, pre-vote true -> false",
    ),
    "a comment": ({"ETCD_NAME": "a"}, '# new\nETCD_NAME="a"', "changed"),
    "what is not for etcd": ({"ETCDOPS_STARTED_WITH": "0"}, 'ETCDOPS_STARTED_WITH="1"', "changed"),
    "was empty": ({}, 'ETCD_NAME="a"', "changed"),
}


@pytest.mark.parametrize(("old", "new", "why"), CONF.values(), ids=CONF.keys())
def test_why_of_etcd_conf_names_the_settings(old: dict[str, str], new: str, why: str) -> None:
    resource = File(layout.CONF, new.encode())
    facts = replace(at(resource, "file", sha256=OTHER), conf=old)
    assert resource.why(facts) == why


SHOWN = {
    User(): "user etcd",
    FOLDER: "/etc/etcd/ssl/",
    PEM: "/etc/etcd/ssl/server.pem",
    LINK: "/etc/etcd/ssl/server-key.pem -> server.pem",
    Release("3.6.16"): "/opt/etcd/3.6.16/",
    Reloaded(): "systemctl daemon-reload",
    Enabled(): "systemctl enable etcd",
}


@pytest.mark.parametrize(("resource", "text"), SHOWN.items(), ids=SHOWN.values())
def test_a_change_as_the_operator_reads_it(resource: Resource, text: str) -> None:
    assert str(Change(resource, "new")) == f"{text}  (new)"


@pytest.mark.parametrize(("version", "programs"), [("3.4.45", 2), ("3.5.0", 3), ("3.7.1", 3)])
def test_etcdutl_came_with_3_5(version: str, programs: int) -> None:
    assert len(Release(version).programs) == programs


UNIT, CONF_FILE = File(layout.UNIT, b"u"), File(layout.CONF, b"c")
ORDER: dict[str, tuple[list[Resource], HostFacts, list[Resource]]] = {
    "nothing wanted": ([], fresh(), []),
    "nothing to do": ([User(), Reloaded()], fresh(has_user=True), []),
    "as wanted": ([User(), FOLDER, PEM], fresh(), [User(), FOLDER, PEM]),
    "what is there is left out": ([User(), FOLDER, PEM], fresh(has_user=True), [FOLDER, PEM]),
    "a unit is reloaded": ([UNIT, Enabled()], fresh(), [UNIT, Reloaded(), Enabled()]),
    "etcd.conf is no unit": ([CONF_FILE], fresh(), [CONF_FILE]),
    "reload wanted, and no unit changed": ([CONF_FILE, Reloaded()], fresh(), [CONF_FILE]),
    "reload wanted and due": (
        [UNIT, Reloaded()],
        fresh(unit=UnitFact(needs_reload=True)),
        [UNIT, Reloaded()],
    ),
    "reload alone": ([Reloaded()], fresh(unit=UnitFact(needs_reload=True)), [Reloaded()]),
}


@pytest.mark.parametrize(("wanted", "facts", "changed"), ORDER.values(), ids=ORDER.keys())
def test_order(wanted: list[Resource], facts: HostFacts, changed: list[Resource]) -> None:
    assert [change.resource for change in diff(wanted, facts)] == changed
