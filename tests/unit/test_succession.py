"""New CAs in the place of old ones: what the folder holds at each stage, whatever CA there was; kills anywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etcdops.certificate import inspect
from etcdops.config import PkiSection
from etcdops.facts import fingerprints
from etcdops.keystore import Keystore, MemberPki
from etcdops.pki import CA
from etcdops.succession import STEMS, Succession
from tests.unit.test_keystore import NOW, ONE, YEAR, actions, files, killed

LATER = NOW + timedelta(days=3)
RETIRED = f"retired-{LATER:%Y%m%dT%H%M%SZ}"
NAMES = {"ca": "etcd client CA", "peer-ca": "etcd peer CA"}


def own(folder: Path) -> Keystore:
    """Two CAs, as gen-ca makes them, and a member's leaves."""
    store = Keystore(folder, PkiSection())
    store.make_ca(NOW)
    store.make_leaves(ONE, NOW)
    return store


def brought(folder: Path) -> Keystore:
    """One CA that signs for both roles."""
    folder.mkdir()
    ca = CA.create("etcd ca", "ecdsa-p256", YEAR, NOW)
    (folder / "ca.pem").write_bytes(ca.cert_pem)
    (folder / "ca-key.pem").write_bytes(ca.key_pem or b"")
    (folder / "ca-key.pem").chmod(0o600)
    store = Keystore(folder, PkiSection())
    store.make_leaves(ONE, NOW)
    return store


def without_keys(folder: Path, make: Callable[[Path], Keystore]) -> Keystore:
    """The same, but the CA's key is elsewhere."""
    store = make(folder)
    for stem in STEMS:
        (folder / f"{stem}-key.pem").unlink(missing_ok=True)
    return store


KINDS: dict[str, Callable[[Path], Keystore]] = {
    "ours": own,
    "brought": brought,
    "ours, keys elsewhere": lambda folder: without_keys(folder, own),
    "brought, key elsewhere": lambda folder: without_keys(folder, brought),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def ours(store: Keystore) -> MemberPki:
    return store.member_files(ONE[0], LATER)


def walk(store: Keystore, now: datetime = LATER) -> None:
    """From where it stands to the end, as rotate-ca goes, but for the hosts."""
    succession = Succession(store.folder, store.settings)
    if succession.stage in {"", "trust"}:
        succession.begin(now)
        succession.switch()
    if succession.stage == "leaves":
        store.make_leaves(ONE, now)
        succession.drop()
    succession.finish(now)


def prints(*pems: bytes | None) -> frozenset[str]:
    return fingerprints(b"".join(pem or b"" for pem in pems).decode())


@kinds
def test_stages(tmp_path: Path, make: Callable[[Path], Keystore]) -> None:
    store = make(tmp_path / "pki")
    first, before = ours(store), files(store)
    succession = Succession(store.folder, store.settings)
    assert succession.stage == ""

    made = succession.begin(LATER)
    assert [(item.path, item.action) for item in made] == [("next/ca.pem", "make"), ("next/peer-ca.pem", "make")]
    assert succession.stage == "trust"
    new = {stem: succession.new(stem).cert_pem for stem in STEMS}
    assert {stem: inspect(pem).common_name for stem, pem in new.items()} == {
        stem: f"{name} {LATER:%Y-%m-%d}" for stem, name in NAMES.items()
    }
    now = ours(store)
    assert prints(now.client_ca) == prints(first.client_ca, new["ca"])
    assert prints(now.peer_ca) == prints(first.peer_ca, new["peer-ca"])
    assert (now.client_issuer, now.peer_issuer) == (first.client_issuer, first.peer_issuer)  # the old ones issue still
    assert (now.server, now.peer, now.client) == (first.server, first.peer, first.client)
    assert {item.action for item in store.plan_ca(LATER) + store.plan_leaves(ONE, LATER)} == {"keep"}
    after = files(store)
    assert succession.begin(LATER) == []
    assert files(store) == after

    succession.switch()
    assert succession.stage == "leaves"
    now = ours(store)
    assert (now.client_ca, now.peer_ca) == (after["ca.pem"], after["peer-ca.pem"])  # both are trusted still
    assert (prints(now.client_issuer), prints(now.peer_issuer)) == (prints(new["ca"]), prints(new["peer-ca"]))
    assert set(actions(store.plan_leaves(ONE, LATER)).values()) == {"renew"}
    store.make_leaves(ONE, LATER)
    now = ours(store)
    for stem, pair in (("ca", now.server), ("ca", now.client), ("peer-ca", now.peer)):
        assert pair and CA.load(new[stem], None).signed(pair.cert_pem)

    succession.drop()
    assert succession.stage == "retire"
    now = ours(store)
    assert (now.client_ca, now.peer_ca) == (new["ca"], new["peer-ca"])
    assert {item.action for item in store.plan_leaves(ONE, LATER)} == {"keep"}
    for stem in STEMS:
        old = succession.old(stem)
        assert (old is None) == ("ca-key.pem" not in before)
        assert succession.new(stem).cert_pem == new[stem]

    assert succession.finish(LATER) == store.folder / RETIRED
    assert succession.stage == ""
    left = files(store)
    assert left[f"{RETIRED}/ca.pem"] == before["ca.pem"]
    assert left.get(f"{RETIRED}/ca-key.pem") == before.get("ca-key.pem")
    assert not any(name.startswith(("next", "old")) for name in left)
    assert [item.action for item in store.plan_ca(LATER)] == ["keep", "keep"]  # two CAs, whatever there was

    walk(store, LATER + timedelta(days=1))  # and again
    assert [item.action for item in store.plan_ca(LATER + timedelta(days=1))] == ["keep", "keep"]


@pytest.mark.parametrize("make", [own, KINDS["brought, key elsewhere"]], ids=["ours", "brought, key elsewhere"])
def test_killed_anywhere_and_run_again_it_ends_in_the_same_place(
    tmp_path: Path, make: Callable[[Path], Keystore]
) -> None:
    for at in range(1, 60):
        store = make(tmp_path / str(at))
        before = files(store)
        old = [data.strip() for name, data in before.items() if name.endswith(("ca.pem", "ca-key.pem"))]
        if not killed(at, lambda store=store: walk(store), "replace"):  # type: ignore[misc]
            break
        held = b"".join(files(store).values())
        assert all(data in held for data in old), "nothing of an old CA is ever lost"
        # Any other task finds its way, whatever stage this is.
        store.make_ca(LATER)
        store.make_leaves(ONE, LATER)
        pki = ours(store)
        assert pki.server and pki.peer and pki.client
        walk(store)
        names = set(files(store))
        assert not any(part.startswith(".") for name in names for part in name.split("/"))
        assert {"ca.pem", "ca-key.pem", "peer-ca.pem", "peer-ca-key.pem", f"{RETIRED}/ca.pem"} <= names
        assert not any(name.startswith(("next", "old")) for name in names)
        assert {item.action for item in store.plan_ca(LATER) + store.plan_leaves(ONE, LATER)} == {"keep"}
        assert not prints(ours(store).client_ca, ours(store).peer_ca) & prints(before["ca.pem"])
    assert 20 < at < 59  # every step has had its turn


@kinds
@pytest.mark.parametrize("keys", [True, False], ids=["as the page says", "the certificates alone"])
def test_undone_in_its_first_stage(tmp_path: Path, make: Callable[[Path], Keystore], keys: bool) -> None:
    """``old/`` is moved back, ``next/`` away, as docs/rotate-ca.md says; then it can be begun anew."""
    store = make(tmp_path / "pki")
    first, before = ours(store), files(store)
    succession = Succession(store.folder, store.settings)
    succession.begin(LATER)
    old = store.folder / "old"
    for path in [*old.glob("*.pem")]:
        if keys or not path.name.endswith("-key.pem"):
            path.replace(store.folder / path.name)
    if keys:
        old.rmdir()
        assert before.items() <= files(store).items()
    else:
        assert [succession.old(stem) for stem in STEMS] == [None, None]
    (store.folder / "next").rename(tmp_path / "unused-cas")
    assert succession.stage == ""
    now = ours(store)
    assert prints(now.client_ca, now.peer_ca) == prints(first.client_ca, first.peer_ca)
    assert {item.action for item in store.plan_leaves(ONE, LATER)} == {"keep"}
    walk(store)
    assert not prints(ours(store).client_ca, ours(store).peer_ca) & prints(before["ca.pem"])


def test_an_empty_folder_is_no_rotation(tmp_path: Path) -> None:
    store = own(tmp_path / "pki")
    (store.folder / "old").mkdir()
    assert Succession(store.folder, store.settings).stage == ""
