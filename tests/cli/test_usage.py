"""What is wrong with a command line or a configuration: exit 2, one line that says what, nothing done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Done = subprocess.CompletedProcess[str]
Inv = Callable[..., Done]

HERE = Path(__file__).parent
BROKEN = "cluster:\n  name: test\n  version: 3.6.14\n  colour: red\nmembers:\n  - {name: m1, address: 192.0.2.1}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get"], "'key'"),
        (["put", "/a"], "'value'"),
        (["get", "--bogus"], "'--bogus'"),
        (["get", "/a", "--bogus"], "'--bogus'"),
        (["get", "-x"], "'-x'"),
        (["get", "/a", "/b"], "'/b'"),
        (["deploy", "--bogus"], "'--bogus'"),
        (["bogus"], "'bogus'"),
        (["--bogus"], "'--bogus'"),
        (["keys", "--limit=many"], "'many'"),
        (["keys", "--limit"], "--limit"),
        (["--help", "bogus"], "'bogus'"),
        (["--list", "bogus"], "'bogus'"),
        (["--list-depth=deep", "--list"], "'deep'"),
        (["--print-completion-script=tcsh"], '"tcsh"'),
        (["-f"], "--config"),
        (["etcdctl"], "inv etcdctl -- member list"),
        (["etcdctl", "--"], "inv etcdctl -- member list"),
        (["test", "--tier=bogus"], "'bogus'"),
        (["upgrade"], "which release?; as in --to=3.6.16"),
        (["downgrade", "--plan"], "which release?; as in --to=3.6.16"),
        (["upgrade", "--to=9.9"], "--to=9.9: write all three parts"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_wrong_command_line_is_one_line(inv: Inv, nowhere: Path, words: list[str], says: str) -> None:
    done = inv(*words, config=nowhere)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert str(nowhere) not in done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stauts"], "status, start"),
        (["lab.satus"], "lab.status, status"),
        (["lab.de"], "lab.demo"),
        (["--help", "stauts"], "status, start"),
        (["deploy", "--dryrun"], "--dry-run"),
        (["deploy", "--dry"], "--dry-run"),
        (["get", "--kee"], "--key"),
        (["put", "/a", "--jsn"], "--json"),
        (["--versin"], "--version"),
        (["deploy", "--json"], ""),
        (["xyzzy"], ""),
        (["deploy", "-x"], ""),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_is_misspelt_is_guessed(inv: Inv, nowhere: Path, words: list[str], meant: str) -> None:
    done = inv(*words, config=nowhere)
    assert done.returncode == 2
    before, _, rest = done.stderr.partition("; did you mean ")
    assert rest.partition("?")[0] == meant
    assert words[-1] in before


@pytest.mark.parametrize("name", ["config.yaml", "config.conf", "config"])
@pytest.mark.parametrize("how", ["environment", "-f", "-fPATH", "-f=PATH", "--config", "--config=PATH", "after"])
def test_a_mistake_in_the_configuration_is_told_with_its_line(inv: Inv, tmp_path: Path, how: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(BROKEN)
    done = with_config(inv, path, how)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"error: {path}:4: cluster.colour: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["environment", "-f", "--config=PATH"])
def test_what_is_not_yaml_is_told_with_its_line(inv: Inv, tmp_path: Path, how: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("cluster:\n  name: [test\nmembers: []\n")
    done = with_config(inv, path, how)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}:")
    assert "not valid YAML" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["environment", "-f", "--config=PATH"])
def test_every_mistake_is_told_at_once(inv: Inv, tmp_path: Path, how: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BROKEN + "  - {name: m1, address: nowhere}\n")
    done = with_config(inv, path, how)
    assert done.returncode == 2
    assert [line.split(":")[2] for line in done.stderr.splitlines()] == ["4", "7", "7"]


@pytest.mark.parametrize("how", ["environment", "-f", "--config=PATH"])
@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_configuration_that_cannot_be_read(inv: Inv, tmp_path: Path, how: str, what: str) -> None:
    path = tmp_path / "x.yaml"
    if what == "folder":
        path.mkdir()
    done = with_config(inv, path, how)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: ")
    assert "-f or ETCDOPS_CONFIG" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_empty_name_after_dash_f_is_no_default(inv: Inv, config: Path) -> None:
    assert inv("-f", "", "gen-ca", config=config).returncode == 2


def with_config(inv: Inv, path: Path, how: str) -> Done:
    forms = {
        "environment": ["gen-ca"],
        "-f": ["-f", str(path), "gen-ca"],
        "-fPATH": [f"-f{path}", "gen-ca"],
        "-f=PATH": [f"-f={path}", "gen-ca"],
        "--config": ["--config", str(path), "gen-ca"],
        "--config=PATH": [f"--config={path}", "gen-ca"],
        "after": ["gen-ca", "-f", str(path)],
    }
    return inv(*forms[how], config=path if how == "environment" else "")


def test_dash_f_wins_over_the_environment(inv: Inv, config: Path, nowhere: Path) -> None:
    done = inv("-f", str(config), "gen-ca", config=nowhere)
    assert done.returncode == 0, done.stderr
    assert (config.parent / "pki" / "ca.pem").exists()


@pytest.mark.parametrize("how", ["environment", "-f"])
def test_relative_paths_are_those_of_the_configuration(inv: Inv, config: Path, tmp_path: Path, how: str) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    name = os.path.relpath(config, there)
    done = inv("gen-ca", config=name, cwd=there) if how == "environment" else inv("-f", name, "gen-ca", cwd=there)
    assert done.returncode == 0, done.stderr
    assert (config.parent / "pki" / "ca-key.pem").exists()
    assert list(there.iterdir()) == []


def test_a_word_that_need_not_be_given(inv: Inv, config: Path) -> None:
    assert inv("history", config=config).returncode == 0
    for words in (["latest"], ["--which=latest"], ["--calls", "latest"], ["latest", "--calls"]):
        done = inv("history", *words, config=config)
        assert (done.returncode, done.stderr) == (2, "error: no run latest is on record; inv history\n"), words
    assert "Usage: inv" in inv("history", "--help", config=config).stdout
    assert inv("history", "--hlep", config=config).returncode == 2
    assert inv("history", "one", "two", config=config).stderr.startswith("error: No idea what 'two' is")


@pytest.mark.parametrize("task", ["rotate-certs", "rotate-ca"])
def test_a_plain_http_cluster_has_nothing_to_rotate(inv: Inv, config: Path, task: str) -> None:
    """No host is asked: in this configuration none would answer, which is exit 4."""
    config.write_text(config.read_text().replace("version: 3.6.14", "version: 3.6.14, tls: false"))
    done = inv(task, config=config)
    assert done.returncode == 2
    assert "cluster.tls is false, and a plain-http cluster has no certificates; inv enable-tls" in done.stderr
