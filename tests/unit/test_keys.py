"""put and del: what an error says of the write; and hosts on which nothing is deployed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcdops import layout
from etcdops.errors import HostError, HostsFailed, OpsError, Unreachable, UsageError
from etcdops.run import Run
from etcdops.ssh import Completed
from etcdops.steps import keys
from tests.unit.build import config

Answer = Completed | OpsError


class Fleet:
    """Each host can be reached, unless ``away``; etcdctl ends with ``answer``."""

    def __init__(self, answer: Answer, away: OpsError | None = None) -> None:
        self._answer, self._away = answer, away

    def map(self, _: Callable[..., Any], names: list[str]) -> dict[str, Answer]:
        return {name: self._away or Completed(0, "", "", 0.0) for name in names}

    def all(self, _: Callable[..., Any], names: list[str]) -> dict[str, Completed]:
        if isinstance(self._answer, OpsError):
            raise HostsFailed([self._answer])
        return dict.fromkeys(names, self._answer)

    def close(self) -> None:
        pass


def run_of(fleet: Fleet) -> Run:
    run = Run(Path("config.yaml"))
    run.__dict__["config"] = config()
    run._fleet = fleet  # type: ignore[assignment]
    return run


def ended(stderr: str, code: int = 1) -> Completed:
    return Completed(code, "", stderr, 0.0)


LOST = HostError("the connection was lost while a command ran", hint="look", host="etcd01")
SLOW = HostError("stopped, for it took longer than 5 s", hint="limit", host="etcd01")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ended('{"level":"warn"}\nError: context deadline exceeded'), 1),
        (ended("Error: etcdserver: request timed out"), 1),
        (ended("Error: etcdserver: request timed out, possibly due to previous leader failure"), 1),
        (ended("Error: etcdserver: leader changed"), 1),
        (LOST, 4),
        (SLOW, 4),
    ],
)
@pytest.mark.parametrize("write", [lambda run: keys.put(run, "/a b", "1"), lambda run: keys.delete(run, "/a b")])
def test_a_write_that_may_have_happened(answer: Answer, code: int, write: Callable[[Run], None]) -> None:
    with pytest.raises(OpsError) as caught:
        write(run_of(Fleet(answer)))
    assert caught.value.message.endswith(" may or may not have happened")
    assert caught.value.hint == "inv get '/a b' tells"
    assert caught.value.exit_code == code


AWAY = Unreachable("no answer within 10 s", host="etcd01")


@pytest.mark.parametrize(
    ("fleet", "code"),
    [
        (Fleet(ended("Error: etcdserver: mvcc: database space exceeded")), 1),
        (Fleet(ended("Error: etcdserver: permission denied")), 1),
        (Fleet(ended(""), AWAY), 4),
    ],
    ids=["no space", "permission", "no host answers"],
)
def test_a_write_that_has_not_happened(fleet: Fleet, code: int) -> None:
    with pytest.raises(OpsError) as caught:
        keys.put(run_of(fleet), "/a", "1")
    assert "may or may not" not in str(caught.value)
    assert caught.value.exit_code == code


def test_reading_changes_nothing_in_any_case() -> None:
    with pytest.raises(OpsError) as caught:
        keys.get(run_of(Fleet(ended("Error: context deadline exceeded"))), "/a")
    assert (caught.value.message, caught.value.hint) == ("context deadline exceeded", "inv status")


def test_a_host_without_etcdctl_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = subprocess.run(["sh", "-c", keys.SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (127, "")
    with pytest.raises(OpsError) as caught:
        keys.put(run_of(Fleet(ended(done.stderr, 127))), "/a", "1")
    assert (str(caught.value), caught.value.hint) == ("nothing is deployed here; inv deploy", "")


def test_the_etcdctl_of_a_host_that_was_adopted_is_found(tmp_path: Path) -> None:
    fake = tmp_path / "opt" / "etcdctl"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "it says $*"\n')
    fake.chmod(0o755)
    record = tmp_path / "adopted.conf"
    record.write_text(f"UNIT=other.service\nBIN_DIR={fake.parent}\n")
    (tmp_path / "sed").symlink_to(shutil.which("sed") or "/bin/sed")
    argv = ["/bin/sh", "-c", keys.SCRIPT.replace(layout.ADOPTED, str(record)), "etcdops", "get", "/a"]
    done = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "it says get /a\n")


def test_words_reach_etcdctl_as_they_are(tmp_path: Path) -> None:
    fake = tmp_path / "etcdctl"
    fake.write_text('#!/bin/sh\nfor word; do printf "[%s]" "$word"; done\n')
    fake.chmod(0o755)
    argv = ["/bin/sh", "-c", keys.SCRIPT, "etcdops", "put", "a  b", "$HOME"]
    done = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout == "[put][a  b][$HOME]"


def test_what_etcd_says_is_json() -> None:
    said = {"succeeded": True, "responses": [{"Response": {"response_put": {"header": {"revision": 7}}}}]}
    answer = Completed(0, json.dumps(said), "", 0.0)
    assert keys._ask_for(run_of(Fleet(answer)), "put", [], b"/a", b"1") == {"header": {"revision": 7}}


@pytest.mark.parametrize(
    "said", ["", "[]", '{"responses":[]}', '{"succeeded":true}', '{"responses":[{"Response":{}}]}']
)
def test_what_is_no_answer_is_an_error(said: str) -> None:
    with pytest.raises(OpsError, match="etcdctl ended with 0"):
        keys.get(run_of(Fleet(Completed(0, said, "", 0.0))), "/a")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", '""'),
        (b"-a b", '"-a b"'),
        (b'"\\$`', r'"\x22\x5c$`"'),
        (b"\x00\n\x7f\xff", r'"\x00\x0a\x7f\xff"'),
        ("ü".encode(), r'"\xc3\xbc"'),
    ],
)
def test_any_bytes_are_one_word_of_a_transaction(data: bytes, expected: str) -> None:
    assert keys.quoted(data) == expected


@pytest.mark.parametrize(
    ("prefix", "after", "expected"),
    [
        (b"", b"", (b"\0", b"\0")),
        (b"/a/", b"", (b"/a/", b"/a0")),
        (b"/a/", b"/a/7", (b"/a/7\0", b"/a0")),
        (b"/a/", b"/", (b"/a/", b"/a0")),  # before the first: from there
        (b"", b"/a", (b"/a\0", b"\0")),
        (b"a\xff", b"", (b"a\xff", b"b")),
        (b"\xff\xff", b"", (b"\xff\xff", b"\0")),
    ],
)
def test_a_page_of_keys(prefix: bytes, after: bytes, expected: tuple[bytes, bytes]) -> None:
    assert keys._range(prefix, after) == expected


@pytest.mark.parametrize(("text", "expected"), [("2f61", b"/a"), ("00FF", b"\0\xff"), ("", b"")])
def test_a_key_in_hexadecimal(text: str, expected: bytes) -> None:
    assert keys._key(text, in_hex=True) == expected


@pytest.mark.parametrize("text", ["/a", "2f6", "0x2f"])
def test_a_key_that_is_not_hexadecimal(text: str) -> None:
    with pytest.raises(UsageError, match="no hexadecimal number"):
        keys.get(run_of(Fleet(ended(""))), text, in_hex=True)


def test_a_key_cannot_break_its_line() -> None:
    assert keys._shown("/a\n\x1b[2J\0ü".encode() + b"\xff", in_hex=False) == r"/a\n\x1b[2J\x00ü\xff"
