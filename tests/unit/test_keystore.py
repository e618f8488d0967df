"""The pki folder: what is made, what is kept, what is refused; kills, full disks and hostile umasks."""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from etcdops import atomic
from etcdops.certificate import inspect
from etcdops.config import Member, PkiSection
from etcdops.errors import OpsError, Refused, UsageError
from etcdops.keystore import Item, Keystore
from etcdops.pki import CA, LeafRequest, Pair

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
YEAR = 365 * DAY
ROLES = ("server", "peer", "client")  # of what a member has
ONE = [Member(name="etcd01", address="198.18.40.11")]
THREE = [*ONE, Member(name="etcd02", address="198.18.40.12"), Member(name="etcd03", address="2001:db8::13")]
CAS = {"ca.pem", "ca-key.pem", "peer-ca.pem", "peer-ca-key.pem"}


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    """An empty folder, not yet made."""
    return Keystore(tmp_path / "pki", PkiSection())


@pytest.fixture
def full(store: Keystore) -> Keystore:
    """A folder with everything that one member needs."""
    store.make_ca(NOW)
    store.make_leaves(ONE, NOW)
    return store


@pytest.fixture(params=[0o000, 0o777], ids=["umask 0", "umask 777"])
def hostile_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def files(store: Keystore) -> dict[str, bytes]:
    found = sorted(path for path in store.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in found}


def stamps(store: Keystore) -> dict[str, tuple[int, int]]:
    """What would change if a file were written again, even with the same content."""
    states = {path: path.stat() for path in store.folder.rglob("*")}
    return {str(path): (state.st_ino, state.st_mtime_ns) for path, state in states.items()}


def actions(items: list[Item]) -> dict[str, str]:
    return {item.path: item.action for item in items}


def put(store: Keystore, **contents: bytes) -> None:
    """Files that the user brought: ``ca`` becomes ca.pem, ``ca_key`` ca-key.pem."""
    store.folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        path = store.folder / f"{name.replace('_', '-')}.pem"
        path.write_bytes(data)
        path.chmod(0o600)


def own_ca(lifetime: timedelta = 10 * YEAR, now: datetime = NOW) -> CA:
    return CA.create("brought", "ecdsa-p256", lifetime, now)


def bring_ca(store: Keystore, ca: CA) -> None:
    put(store, ca=ca.cert_pem, ca_key=ca.key_pem or b"")


# Making and keeping


def test_what_gen_ca_and_gen_server_cert_make(store: Keystore) -> None:
    assert actions(store.plan_ca(NOW)) == {"ca.pem": "make", "peer-ca.pem": "make"}
    planned = store.plan_leaves(THREE, NOW)
    assert not store.folder.exists()  # a plan reads
    store.make_ca(NOW)
    assert files(store).keys() == CAS
    assert store.make_leaves(THREE, NOW) == planned
    members = {f"members/{m.name}/{role}{key}.pem" for m in THREE for role in ROLES for key in ("", "-key")}
    assert files(store).keys() == CAS | members | {"client.pem", "client-key.pem"}
    names = [item.path for item in planned]
    assert names[:3] == [f"members/etcd01/{role}.pem" for role in ROLES]
    assert names[-1] == "client.pem" and {item.action for item in planned} == {"make"}
    for name in ("client.pem", "members/etcd02/client.pem"):
        assert inspect(files(store)[name]).common_name == "root"
    cas = [inspect(files(store)[name]) for name in ("ca.pem", "peer-ca.pem")]
    assert len({ca.subject for ca in cas}) == len({ca.serial for ca in cas}) == 2
    assert {ca.not_after for ca in cas} == {NOW + timedelta(hours=87600)}


def test_a_second_run_writes_nothing(full: Keystore) -> None:
    before, stamped = files(full), stamps(full)
    for items in (full.make_ca(NOW), full.make_leaves(ONE, NOW), full.plan_ca(NOW), full.plan_leaves(ONE, NOW)):
        assert {item.action for item in items} == {"keep"}
        assert all(item.why.startswith("valid until ") for item in items)
    assert (files(full), stamps(full)) == (before, stamped)


def test_other_settings_leave_what_is_valid_alone(full: Keystore) -> None:
    other = PkiSection.model_validate({"key": "rsa-2048", "ca_lifetime": "48h", "leaf_lifetime": "1d"})
    changed = Keystore(full.folder, other)
    assert {item.action for item in changed.make_ca(NOW) + changed.make_leaves(ONE, NOW)} == {"keep"}
    added = changed.make_leaves(THREE[:2], NOW)
    assert [item.path for item in added if item.action == "make"] == [
        "members/etcd02/server.pem",
        "members/etcd02/peer.pem",
        "members/etcd02/client.pem",
    ]
    made = files(full)
    assert inspect(made["members/etcd02/server.pem"]).not_after == NOW + DAY
    key = load_pem_private_key(made["members/etcd02/server-key.pem"], None)
    assert isinstance(key, rsa.RSAPrivateKey)


def test_each_role_is_signed_by_its_ca(full: Keystore) -> None:
    got = full.member_files(ONE[0], NOW)
    made = files(full)
    assert (got.client_ca, got.peer_ca) == (made["ca.pem"], made["peer-ca.pem"])
    request = LeafRequest("server", "etcd01")
    clients, peers = CA.load(got.client_ca, None), CA.load(got.peer_ca, None)
    assert clients.fault(got.server, request, NOW) == peers.fault(got.peer, request, NOW) == ""
    client = Pair(made["client.pem"], made["client-key.pem"])
    operator = LeafRequest("client", "root")
    assert clients.fault(client, operator, NOW) == ""
    assert peers.fault(client, operator, NOW) == peers.fault(got.server, request, NOW) == "this CA did not sign it"


def test_certificate_and_key_of_a_role_are_one_file(full: Keystore, tmp_path: Path) -> None:
    leaf = full.folder / "members/etcd01/server.pem"
    leaf.write_bytes(leaf.read_bytes().rstrip())  # as an editor may leave it
    got = full.member_files(ONE[0], NOW)
    for pem in (got.server_pem, got.peer_pem):
        file = tmp_path / "one.pem"
        file.write_bytes(pem)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, file)
    assert b"PRIVATE" not in got.client_ca + got.peer_ca
    assert "PRIVATE" not in repr(got)


def test_modes_under_any_umask(store: Keystore, hostile_umask: None, monkeypatch: pytest.MonkeyPatch) -> None:
    born = []
    fchmod = os.fchmod

    def look(handle: int, mode: int) -> None:
        born.append(os.fstat(handle).st_mode & 0o777)
        fchmod(handle, mode)

    monkeypatch.setattr(os, "fchmod", look)
    store.make_ca(NOW)
    store.make_leaves(ONE, NOW)
    assert len(born) == 12 and not any(mode & 0o077 for mode in born)
    for path in [store.folder, *store.folder.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600 if path.name.endswith("-key.pem") else 0o644
        assert path.stat().st_mode & 0o777 == wanted, path


# Renewing


def lose(name: str) -> Callable[[Keystore], object]:
    return lambda store: (store.folder / name).unlink()


def overwrite(name: str, data: bytes) -> Callable[[Keystore], object]:
    return lambda store: (store.folder / name).write_bytes(data)


def copy(source: str, target: str) -> Callable[[Keystore], object]:
    return lambda store: (store.folder / target).write_bytes((store.folder / source).read_bytes())


SERVER, SERVER_KEY = "members/etcd01/server.pem", "members/etcd01/server-key.pem"


@pytest.mark.parametrize(
    ("damage", "item"),
    [
        (lose(SERVER), Item(SERVER, "make", "there is none yet")),
        (lose(SERVER_KEY), Item(SERVER, "renew", "its key is missing")),
        (overwrite(SERVER, b"x"), Item(SERVER, "renew", "it cannot be read as a certificate")),
        (overwrite(SERVER_KEY, b"x"), Item(SERVER, "renew", "its key is not a PEM private key")),
        (
            copy("members/etcd01/peer-key.pem", SERVER_KEY),
            Item(SERVER, "renew", "its key belongs to another certificate"),
        ),
    ],
)
def test_a_damaged_leaf_alone_is_issued_again(full: Keystore, damage: Callable[[Keystore], object], item: Item) -> None:
    damage(full)
    before = files(full)
    got = full.member_files(ONE[0], NOW)
    assert got.server is None and got.server_pem is None and got.peer and got.client_ca
    assert full.plan_leaves(ONE, NOW)[0] == item
    assert files(full) == before
    assert full.make_leaves(ONE, NOW)[0] == item
    after = files(full)
    assert {name for name in after if after[name] != before.get(name)} == {SERVER, SERVER_KEY}
    assert {entry.action for entry in full.plan_leaves(ONE, NOW)} == {"keep"}
    full.member_files(ONE[0], NOW)


def test_a_member_that_moved_gets_new_leaves(full: Keystore) -> None:
    moved = [Member(name="etcd01", address="198.18.40.99")]
    server, peer, client, operators = full.make_leaves(moved, NOW)
    assert (server.action, server.why) == ("renew", "it does not cover 198.18.40.99")
    assert (peer.action, client.action, operators.action) == ("renew", "keep", "keep")
    got = full.member_files(ONE[0], NOW)
    assert (got.server, got.peer) == (None, None)


def test_a_new_ca_means_new_leaves(full: Keystore) -> None:
    for name in ("ca", "ca-key"):
        lose(f"{name}.pem")(full)
    # Before it is made: everything is to be renewed, and nothing can be handed out.
    assert actions(full.plan_leaves(ONE, NOW)) == {
        SERVER: "renew",
        "members/etcd01/peer.pem": "keep",
        "members/etcd01/client.pem": "renew",
        "client.pem": "renew",
    }
    got = full.member_files(ONE[0], NOW)
    assert (got.client_ca, got.server) == (None, None) and got.peer_ca and got.peer
    with pytest.raises(UsageError, match="there is no CA yet") as caught:
        full.make_leaves(ONE, NOW)
    assert "gen-ca" in caught.value.hint
    assert actions(full.make_ca(NOW)) == {"ca.pem": "make", "peer-ca.pem": "keep"}
    reasons = {item.path: item.why for item in full.make_leaves(ONE, NOW) if item.action != "keep"}
    assert reasons == dict.fromkeys((SERVER, "members/etcd01/client.pem", "client.pem"), "this CA did not sign it")


@pytest.mark.parametrize(
    ("later", "action", "why"),
    [
        (300 * DAY, "keep", "valid until"),
        (329 * DAY, "renew", "only valid until"),
        (366 * DAY, "renew", "it expired on"),
    ],
)
def test_leaves_are_renewed_before_they_expire_and_after(
    full: Keystore, later: timedelta, action: str, why: str
) -> None:
    now = NOW + later
    for item in full.make_leaves(ONE, now):
        assert item.action == action and item.why.startswith(why)
    assert inspect(files(full)[SERVER]).not_after == NOW + YEAR + (later if action == "renew" else 0 * DAY)
    assert {item.action for item in full.make_leaves(ONE, now)} == {"keep"}


def test_no_renewal_that_would_end_no_later(store: Keystore) -> None:
    bring_ca(store, own_ca(lifetime=100 * DAY))
    store.make_leaves(ONE, NOW)
    almost = NOW + 99 * DAY
    assert {item.action for item in store.plan_leaves(ONE, almost)} == {"keep"}


# Every leaf anew


def rotate(store: Keystore, now: datetime) -> list[str]:
    """Begin to replace every leaf, or go on with it; what was issued for that."""
    store.to_rotate(now).rotate(ONE, now)
    return [item.path for item in store.make_leaves(ONE, now) if item.action != "keep"]


def test_a_rotation_replaces_every_leaf_once(full: Keystore) -> None:
    later = NOW + timedelta(hours=1)
    before = files(full)
    assert {item.action for item in full.to_rotate(later).plan_leaves(ONE, later)} == {"renew"}
    assert files(full) == before
    assert len(rotate(full, later)) == 4
    after = files(full)
    assert {name for name in before if before[name] == after[name]} == CAS
    assert full.rotating == later
    again = later + timedelta(days=3)
    assert rotate(full, again) == []  # it was cut short: what was issued for it will do
    assert full.rotating == later
    full.to_rotate(again).rotated()
    assert files(full) == {name: data for name, data in after.items() if name != "rotating"}
    assert full.rotating is None
    assert len(rotate(full, again)) == 4  # another one


def test_any_run_goes_on_with_a_rotation(full: Keystore) -> None:
    later = NOW + timedelta(hours=1)
    full.to_rotate(later).rotate(ONE, later)
    assert full.member_files(ONE[0], later).server is None
    (server, *_) = full.make_leaves(ONE, later)
    assert (server.action, server.why) == ("renew", f"from before the rotation of {later:%Y-%m-%d %H:%M} UTC")
    assert full.member_files(ONE[0], later).server is not None


def test_a_rotation_that_began_in_the_future_ends_all_the_same(full: Keystore) -> None:
    full.to_rotate(NOW + YEAR).rotate(ONE, NOW)  # the clock of this machine was wrong
    assert len(rotate(full, NOW + DAY)) == 4
    assert rotate(full, NOW + DAY) == []


def test_a_rotation_needs_the_key_of_the_ca(full: Keystore) -> None:
    (full.folder / "ca-key.pem").unlink()
    before = files(full)
    with pytest.raises(UsageError, match=r"the CA's key is missing, and members/etcd01/server\.pem is needed"):
        rotate(full, NOW + DAY)
    assert files(full) == before


def test_a_rotation_says_since_when(full: Keystore) -> None:
    (full.folder / "rotating").write_text("soon")
    with pytest.raises(UsageError, match="rotating: holds no date and time"):
        full.plan_leaves(ONE, NOW)


# A CA that the user brought


def openssl_ca(folder: Path) -> None:
    """The guide's `cfssl gencert -initca`, by openssl: RSA 2048 in PKCS#1, the guide's names."""
    key, cert = folder / "ca-key.pem", folder / "ca.pem"
    made = rsa.generate_private_key(65537, 2048)
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    key.chmod(0o600)
    subject = ["-subj", "/C=CN/ST=Changsha/L=Hunan/CN=etcd ca", "-days", "1826"]
    extensions = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    command = ["openssl", "req", "-x509", "-new", "-key", str(key), "-out", str(cert), *subject, *extensions]
    subprocess.run(command, check=True, capture_output=True)


def test_the_guides_own_ca_signs_for_both_roles_and_is_never_touched(store: Keystore) -> None:
    store.folder.mkdir()
    openssl_ca(store.folder)
    before, now = files(store), datetime.now(UTC) + timedelta(minutes=1)
    (item,) = store.make_ca(now)
    assert (item.path, item.action) == ("ca.pem", "keep")
    assert item.why.startswith("valid until ") and item.why.endswith(", signs for clients and peers")
    store.make_leaves(ONE, now)
    after = files(store)
    assert after.items() >= before.items() and not after.keys() & {"peer-ca.pem", "peer-ca-key.pem"}
    got = store.member_files(ONE[0], now)
    assert got.client_ca == got.peer_ca == before["ca.pem"]
    assert {inspect(pair.cert_pem).issuer for pair in (got.server, got.peer)} == {"CN=etcd ca,L=Hunan,ST=Changsha,C=CN"}


def test_two_brought_cas(store: Keystore) -> None:
    bring_ca(store, own_ca())
    peers = own_ca()
    put(store, peer_ca=peers.cert_pem, peer_ca_key=peers.key_pem or b"")
    assert set(actions(store.make_ca(NOW)).values()) == {"keep"}
    store.make_leaves(ONE, NOW)
    assert store.member_files(ONE[0], NOW).peer_ca == peers.cert_pem


def test_the_whole_bundle_is_handed_out(store: Keystore) -> None:
    old, new = own_ca(), own_ca()
    bundle = b"# the old one\n" + old.cert_pem + b"# the new one\n" + new.cert_pem
    put(store, ca=bundle, ca_key=old.key_pem or b"")
    store.make_leaves(ONE, NOW)
    assert store.member_files(ONE[0], NOW).client_ca == bundle
    put(store, ca_key=new.key_pem or b"")  # the second half of a rotation
    assert {item.why for item in store.make_leaves(ONE, NOW)} == {"this CA did not sign it"}


def test_lax_keys_are_tightened_and_said_so(full: Keystore) -> None:
    for name in ("ca-key.pem", SERVER_KEY):
        (full.folder / name).chmod(0o644)
    ca = Item("ca-key.pem", "tighten", "others can read it: mode 0644 to 0600")
    leaf = Item(SERVER_KEY, "tighten", "others can read it: mode 0644 to 0600")
    before = files(full)
    assert ca in full.plan_ca(NOW) and leaf in full.plan_leaves(ONE, NOW)
    assert (full.folder / "ca-key.pem").stat().st_mode & 0o777 == 0o644
    assert ca in full.make_ca(NOW) and leaf in full.make_leaves(ONE, NOW)
    for name in ("ca-key.pem", SERVER_KEY):
        assert (full.folder / name).stat().st_mode & 0o777 == 0o600
    assert files(full) == before
    assert {item.action for item in full.make_ca(NOW) + full.make_leaves(ONE, NOW)} == {"keep"}


# With the CA's key offline


def test_an_offline_key_is_not_missed_while_every_leaf_is_valid(full: Keystore) -> None:
    lose("ca-key.pem")(full)
    lose("peer-ca-key.pem")(full)
    later = NOW + 329 * DAY  # time to renew, but not too late
    items = full.make_ca(NOW) + full.make_leaves(ONE, NOW) + full.make_leaves(ONE, later)
    assert {item.action for item in items} == {"keep"}
    full.member_files(ONE[0], NOW)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("ca", "client"), ("ca", "members/etcd01/server"), ("peer-ca", "members/etcd01/peer")],
)
def test_an_offline_key_that_is_needed(full: Keystore, stem: str, name: str) -> None:
    for path in (f"{name}.pem", f"{stem}-key.pem"):
        lose(path)(full)
    before = files(full)
    for act in (full.plan_leaves, full.make_leaves):
        with pytest.raises(UsageError) as caught:
            act(ONE, NOW)
        assert str(caught.value) == (
            f"{full.folder / stem}-key.pem: the CA's key is missing, and {name}.pem is needed: there is none yet"
        )
        assert caught.value.hint
    assert files(full) == before


# What is wrong in the folder


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (lose("ca.pem"), "ca-key.pem", "its certificate ca.pem is missing"),
        (lose("peer-ca.pem"), "peer-ca-key.pem", "its certificate peer-ca.pem is missing"),
        (copy("peer-ca-key.pem", "ca-key.pem"), "ca-key.pem", "does not belong to the certificate"),
        (copy("client.pem", "ca.pem"), "ca-key.pem", "does not belong to the certificate"),
        (overwrite("ca.pem", b"garbage"), "ca.pem", "is not a PEM certificate"),
        (overwrite("ca.pem", b""), "ca.pem", "is not a PEM certificate"),
        (overwrite("peer-ca-key.pem", b""), "peer-ca-key.pem", "is not a PEM private key"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_touched(
    full: Keystore, damage: Callable[[Keystore], object], file: str, message: str
) -> None:
    damage(full)
    before = files(full)
    attempts: list[Callable[[], object]] = [
        lambda: full.plan_ca(NOW),
        lambda: full.make_ca(NOW),
        lambda: full.plan_leaves(ONE, NOW),
        lambda: full.make_leaves(ONE, NOW),
        lambda: full.member_files(ONE[0], NOW),
    ]
    for act in attempts:
        with pytest.raises(UsageError) as caught:
            act()
        assert str(caught.value).startswith(f"{full.folder / file}: {message}")
        assert caught.value.exit_code == 2 and caught.value.hint and "\n" not in str(caught.value)
    assert files(full) == before


def test_a_leaf_is_no_ca(store: Keystore) -> None:
    leaf = own_ca().issue(LeafRequest("client", "root"), "ecdsa-p256", YEAR, NOW)
    put(store, ca=leaf.cert_pem, ca_key=leaf.key_pem)
    with pytest.raises(UsageError, match=r"ca\.pem: is not the certificate of a CA"):
        store.make_ca(NOW)


def test_an_expired_ca_stops_every_step_and_is_not_replaced(full: Keystore) -> None:
    later, before = NOW + 11 * YEAR, files(full)
    attempts: list[Callable[[], object]] = [
        lambda: full.make_ca(later),
        lambda: full.plan_leaves(ONE, later),
        lambda: full.make_leaves(ONE, later),
        lambda: full.member_files(ONE[0], later),
    ]
    for act in attempts:
        with pytest.raises(UsageError, match=r"/ca\.pem: the CA expired on "):
            act()
    assert files(full) == before


@pytest.mark.parametrize("name", ["ca.pem", "members/etcd01/server-key.pem"])
def test_what_cannot_be_read(full: Keystore, name: str) -> None:
    path = full.folder / name
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError) as caught:
        full.plan_leaves(ONE, NOW)
    assert str(caught.value) == f"{path}: Is a directory" and caught.value.hint


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    store = Keystore(tmp_path / "pki", PkiSection())
    for act in (store.plan_ca, store.make_ca):
        with pytest.raises(UsageError, match="Not a directory"):
            act(NOW)


# Kills, failing disks, two runs at once


def killed(at: int, act: Callable[[], object], *names: str) -> bool:
    """Run ``act`` in a process of its own, which dies at the ``at``-th step that reaches the disk: one of ``names`` of
    the system's calls, else any."""
    child = os.fork()
    if child == 0:
        steps = 0

        def dying(function: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **options: object) -> object:
                nonlocal steps
                steps += 1
                if steps == at:
                    os._exit(9)
                return function(*args, **options)

            return step

        status = 1
        try:
            for name in names or ("replace", "fsync", "mkdir"):
                setattr(os, name, dying(getattr(os, name)))
            act()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def test_killed_anywhere_and_run_again_it_ends_in_the_same_place(tmp_path: Path) -> None:
    def make(store: Keystore) -> None:
        store.make_ca(NOW)
        store.make_leaves(ONE, NOW)

    for at in range(1, 150):
        store = Keystore(tmp_path / str(at), PkiSection())
        if not killed(at, lambda store=store: make(store)):  # type: ignore[misc]
            break
        cas = {name: data for name, data in files(store).items() if name in CAS}
        done = actions(store.plan_ca(NOW)) if store.folder.exists() else {}
        made = store.make_ca(NOW)
        if done:
            assert actions(made) == done  # the plan said what would be done
        for name, data in cas.items():
            assert files(store)[name] == data, "a key or CA that was in place is never lost"
        store.make_leaves(ONE, NOW)
        members = {f"members/etcd01/{role}{key}.pem" for role in ROLES for key in ("", "-key")}
        assert files(store).keys() == CAS | members | {"client.pem", "client-key.pem"}
        got = store.member_files(ONE[0], NOW)
        assert got.client_ca != got.peer_ca
        assert {item.action for item in store.make_ca(NOW) + store.make_leaves(ONE, NOW)} == {"keep"}
    assert 30 < at < 149  # every step has had its turn


def test_a_full_disk_leaves_the_folder_as_it_was(full: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    full.make_leaves(THREE[:2], NOW)
    before = files(full)
    new = {f"members/etcd03/{role}{key}.pem" for role in ROLES for key in ("", "-key")}
    for good in range(8):
        left = good

        def failing(handle: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            with pytest.raises(OpsError, match=r"cannot be written: No space left on device") as caught:
                full.make_leaves(THREE, NOW)
        assert caught.value.exit_code == 1 and caught.value.hint
        # Six files and their folder; what fails after that finds everything in place.
        assert files(full).items() >= before.items()
        assert files(full).keys() - before.keys() == (new if good == 7 else set())
    assert {item.action for item in full.make_leaves(THREE, NOW)} == {"keep"}


def test_one_run_at_a_time(full: Keystore) -> None:
    with atomic.locked(full.folder):
        attempts: list[Callable[[], object]] = [lambda: full.make_ca(NOW), lambda: full.make_leaves(ONE, NOW)]
        for act in attempts:
            with pytest.raises(Refused, match="another run is writing here"):
                act()
        assert {item.action for item in full.plan_ca(NOW)} == {"keep"}
    full.make_ca(NOW)


def test_tasks_that_need_no_certificate_do_not_load_cryptography() -> None:
    code = "import sys, etcdops.keystore as k; k.Keystore; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
