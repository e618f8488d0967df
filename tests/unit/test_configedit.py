"""config.yaml edited by the tool: the member's lines change, and nothing else by a byte."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from etcdops import configedit, configfile, configtext
from etcdops.config import Config, Member
from etcdops.errors import Refused, UsageError
from etcdops.lab.folder import Folder
from etcdops.lab.machine import Machine
from etcdops.layout import ROOT

HEAD = "cluster: {name: c, version: 3.6.14}\n"
NEW = Member(name="new", address="192.0.2.9")
FULL = Member(name="new", address="2001:db8::9", ssh="[::1]", port=2222)
MOVED = "192.0.2.7"

# Each: the text, and what it becomes with `new` added, and without the first, the second, the last member.
STYLES = {
    "flow in block": (
        "members:   # all\n  # the first\n  - {name: a, address: 192.0.2.1}  # rack 1\n\n"
        "  - {name: b, address: 192.0.2.2}\n  # the last\n  - {name: d, address: 192.0.2.4}  # rack 3\n\n# end\n",
        ("  - {name: d, address: 192.0.2.4}  # rack 3\n", "  - {name: d, address: 192.0.2.4}  # rack 3\n"
         "  - {name: new, address: 192.0.2.9}\n"),
        ("  - {name: a, address: 192.0.2.1}  # rack 1\n", ""),
        ("  - {name: b, address: 192.0.2.2}\n", ""),
        ("  - {name: d, address: 192.0.2.4}  # rack 3\n", ""),
    ),
    "block": (
        "members:\n- name: a\n  address: 192.0.2.1 # one\n  # inside\n  port: 23\n- address: 192.0.2.2\n  name: b\n"
        "-   name: 'd'\n    address: '192.0.2.4'\n# after\npki:\n  dir:   x\n",
        ("    address: '192.0.2.4'\n", "    address: '192.0.2.4'\n-   name: 'new'\n    address: '192.0.2.9'\n"),
        ("- name: a\n  address: 192.0.2.1 # one\n  # inside\n  port: 23\n", ""),
        ("- address: 192.0.2.2\n  name: b\n", ""),
        ("-   name: 'd'\n    address: '192.0.2.4'\n", ""),
    ),
    "dash on a line of its own, no line break at the end": (
        "members:\n  -\n    name: a\n    address: 192.0.2.1\n  - # b\n    name: b\n    address: 192.0.2.2\n"
        "  -\n    name: d\n    address: 192.0.2.4",
        ("    address: 192.0.2.4", "    address: 192.0.2.4\n  -\n    name: new\n    address: 192.0.2.9"),
        ("  -\n    name: a\n    address: 192.0.2.1\n", ""),
        ("  - # b\n    name: b\n    address: 192.0.2.2\n", ""),
        ("  -\n    name: d\n    address: 192.0.2.4", ""),
    ),
    "line breaks of Windows": (
        "members:\r\n  - name: a\r\n    address: 192.0.2.1\r\n  - {name: b, address: 192.0.2.2}  # tab\there\r\n"
        "  - name: d # d\r\n    address: 192.0.2.4 # 4\r\nssh: {}\r\n",
        ("address: 192.0.2.4 # 4\r\n", "address: 192.0.2.4 # 4\r\n  - name: new\r\n    address: 192.0.2.9\r\n"),
        ("  - name: a\r\n    address: 192.0.2.1\r\n", ""),
        ("  - {name: b, address: 192.0.2.2}  # tab\there\r\n", ""),
        ("  - name: d # d\r\n    address: 192.0.2.4 # 4\r\n", ""),
    ),
    "one line": (
        "members: [{name: a, address: 192.0.2.1}, { name: b, address: 192.0.2.2 } , "
        "{name: d, address: 192.0.2.4}] # x\n",
        ("192.0.2.4}] # x", "192.0.2.4}, {name: new, address: 192.0.2.9}] # x"),
        ("{name: a, address: 192.0.2.1}, ", ""),
        ("{ name: b, address: 192.0.2.2 } , ", ""),
        (" , {name: d, address: 192.0.2.4}]", "]"),
    ),
    "one line, with a comma at its end": (
        "members: [{name: a, address: 192.0.2.1},{name: b, address: 192.0.2.2},{name: d, address: 192.0.2.4,},]\n",
        ("192.0.2.4,},]", "192.0.2.4,}, {name: new, address: 192.0.2.9},]"),
        ("{name: a, address: 192.0.2.1},", ""),
        ("{name: b, address: 192.0.2.2},", ""),
        ("{name: d, address: 192.0.2.4,},", ""),
    ),
    "flow, aligned": (
        "members: [{name: a, address: 192.0.2.1},  # 1, 1\n          {name: b, address: 192.0.2.2}, # 2\n"
        "          { name: d, address: 192.0.2.4 }]  # 4\n",
        ("192.0.2.4 }]", "192.0.2.4 },\n          { name: new, address: 192.0.2.9 }]"),
        ("{name: a, address: 192.0.2.1},", ""),
        ("          {name: b, address: 192.0.2.2}, # 2\n", ""),
        (", # 2\n          { name: d, address: 192.0.2.4 }]", " # 2\n          ]"),
    ),
    "flow, a line each": (
        "members: [\n  {name: a, address: 192.0.2.1}, # 1\n  {name: b, address: 192.0.2.2}, # 2, 2\n  # between\n"
        "  {name: d, address: 192.0.2.4}  # 4\n]\n",
        ("192.0.2.4}  # 4\n", "192.0.2.4},  # 4\n  {name: new, address: 192.0.2.9}\n"),
        ("  {name: a, address: 192.0.2.1}, # 1\n", ""),
        ("  {name: b, address: 192.0.2.2}, # 2, 2\n", ""),
        (", # 2, 2\n  # between\n  {name: d, address: 192.0.2.4}  # 4\n", " # 2, 2\n  # between\n"),
    ),
    "flow, commas before": (
        "members:\n  [ {name: a, address: 192.0.2.1}\n  , {name: b, address: 192.0.2.2}\n"
        "  , {name: d, address: 192.0.2.4}\n  ]\n",
        ("192.0.2.4}", "192.0.2.4}, {name: new, address: 192.0.2.9}"),
        ("{name: a, address: 192.0.2.1}\n  , ", ""),
        ("{name: b, address: 192.0.2.2}\n  , ", ""),
        ("\n  , {name: d, address: 192.0.2.4}", ""),
    ),
    "JSON": (
        '"members": [\n    {\n      "name": "a",\n      "address": "192.0.2.1"\n    },\n'
        '    {\n      "name": "b",\n      "address": "192.0.2.2"\n    },\n'
        '    {\n      "name": "d",\n      "address": "192.0.2.4",\n      "port": 23\n    }\n  ]\n',
        ('"port": 23\n    }\n',
         '"port": 23\n    },\n    {\n      "name": "new",\n      "address": "192.0.2.9"\n    }\n'),
        ('    {\n      "name": "a",\n      "address": "192.0.2.1"\n    },\n', ""),
        ('    {\n      "name": "b",\n      "address": "192.0.2.2"\n    },\n', ""),
        (',\n    {\n      "name": "d",\n      "address": "192.0.2.4",\n      "port": 23\n    }\n', "\n"),
    ),
    "anchors": (
        "members: &all\n- &first {name: a, address: &one 192.0.2.1}\n- &second\n  name: b\n  address: 192.0.2.2\n"
        "- !!map {name: d, address: 192.0.2.4}\nssh: {user: &u me}\nbackup: {dir: *u}\n",
        ("192.0.2.4}\n", "192.0.2.4}\n- {name: new, address: 192.0.2.9}\n"),
        ("- &first {name: a, address: &one 192.0.2.1}\n", ""),
        ("- &second\n  name: b\n  address: 192.0.2.2\n", ""),
        ("- !!map {name: d, address: 192.0.2.4}\n", ""),
    ),
    "text over several lines": (
        "members:\n- name: a\n  ssh: >-\n    a\n\n  address: |-\n    192.0.2.1\n\n\n# next\n"
        "- name: b\n  address: \"192\\\n"
        "    .0.2.2\"\n- address: 192.0.2.4\n  name: d\n  ssh: |-\n    d\n\nssh: {}\n",
        ("    d\n\nssh", "    d\n- name: new\n  address: 192.0.2.9\n\nssh"),
        ("- name: a\n  ssh: >-\n    a\n\n  address: |-\n    192.0.2.1\n", ""),
        ("- name: b\n  address: \"192\\\n    .0.2.2\"\n", ""),
        ("- address: 192.0.2.4\n  name: d\n  ssh: |-\n    d\n", ""),
    ),
    "marks of a document": (
        "--- # one\nmembers:\n- {name: a, address: 192.0.2.1}\n- {name: b, address: 192.0.2.2}\n"
        "- {name: d, address: 192.0.2.4}\n...\n# after\n",
        ("192.0.2.4}\n", "192.0.2.4}\n- {name: new, address: 192.0.2.9}\n"),
        ("- {name: a, address: 192.0.2.1}\n", ""),
        ("- {name: b, address: 192.0.2.2}\n", ""),
        ("- {name: d, address: 192.0.2.4}\n", ""),
    ),
}  # fmt: skip


def whole(members: str) -> str:
    """A file with these members: JSON where they are."""
    if members.startswith('"'):
        return '{\n  "cluster": {"name": "c", "version": "3.6.14"},\n  ' + members + "}\n"
    return (
        f"{members.partition(chr(10))[0]}\n{HEAD}{members.partition(chr(10))[2]}"
        if members[0] == "-"
        else (HEAD + members)
    )


def written(tmp_path: Path, text: str) -> Config:
    """The configuration of a file with this ``text``."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    return configfile.load(path)


@pytest.mark.parametrize("style", STYLES)
def test_only_the_lines_of_the_member_change(tmp_path: Path, style: str) -> None:
    members, add, *remove = STYLES[style]
    text = whole(members)
    config = written(tmp_path, text)
    edits = [
        (configedit.add_member(config, NEW), add),
        *((configedit.remove_member(config, name), each) for name, each in zip("abd", remove, strict=True)),
    ]
    for edit, (before, after) in edits:
        assert text.count(before) == 1, before
        assert edit.new.decode() == text.replace(before, after)
        assert edit.path.read_bytes() == edit.old == text.encode()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_address_changes_in_its_own_quotes(tmp_path: Path, style: str, index: int) -> None:
    text = whole(STYLES[style][0])
    config = written(tmp_path, text)
    member = config.members[index]
    new = configedit.move_member(config, member.name, MOVED).new.decode()
    for old in (member.address, "|-\n    192.0.2.1", '"192\\\n    .0.2.2"'):
        if old in text and text.replace(old, MOVED) in (new, new.replace(f'"{MOVED}"', MOVED)):
            return
    raise AssertionError(new)


def test_shipped_file_and_that_of_the_lab(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_config([Machine(n, tmp_path) for n in (1, 2, 3)], "3.6.14", None)
    for path in (ROOT / "config.yaml", folder.config):
        text = path.read_text()
        (tmp_path / "copy.yaml").write_text(text)
        config = configfile.load(tmp_path / "copy.yaml")
        lines = text.splitlines(keepends=True)
        for member in config.members:
            edit = configedit.remove_member(config, member.name)
            assert edit.new.decode() == "".join(line for line in lines if f"name: {member.name}," not in line)
        more = configedit.add_member(config, Member(name="etcd04", address="192.0.2.4"))
        last = next(line for line in lines if "etcd03" in line)
        assert more.new.decode() == text.replace(last, f"{last}  - {{name: etcd04, address: 192.0.2.4}}\n")


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ("members: [{name: a, address: 192.0.2.1}]", '{name: new, address: "2001:db8::9", ssh: "[::1]", port: 2222}'),
        ("members:\n- name: a\n  address: '192.0.2.1'",
         "\n- name: new\n  address: '2001:db8::9'\n  ssh: '[::1]'\n  port: 2222"),
        ('members: [{"name": "a", "address": "192.0.2.1"}]',
         '{"name": "new", "address": "2001:db8::9", "ssh": "[::1]", "port": 2222}'),
    ],
    ids=["plain", "single quotes", "double quotes"],
)  # fmt: skip
def test_new_member_is_quoted_like_the_others_and_where_it_must(tmp_path: Path, members: str, line: str) -> None:
    new = configedit.add_member(written(tmp_path, HEAD + members), FULL).new.decode()
    assert new.replace("address: 2001:db8::9", 'address: "2001:db8::9"').count(line) == 1, new


BY_HAND = {
    "an anchor that others use": (
        "members:\n- &a {name: a, address: 192.0.2.1, port: 23}\n- {<<: *a, name: b, address: 192.0.2.2}\n",
        "cannot take a out: not valid YAML: found undefined alias 'a'",
    ),
    "the only member": ("members: [{name: a, address: 192.0.2.1}]\n", "cannot take a out: at least one member"),
    "line breaks of old": (
        "members:\r- {name: a, address: 192.0.2.1}\r- {name: b, address: 192.0.2.2}\r", "cannot take a out: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_what_cannot_be_cut_out_is_left_to_the_user(tmp_path: Path, case: str) -> None:
    members, words = BY_HAND[case]
    with pytest.raises(UsageError) as caught:
        configedit.remove_member(written(tmp_path, HEAD + members), "a")
    assert words in caught.value.message
    assert "edit 'members' yourself" in caught.value.hint


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Member(name="a", address="192.0.2.9"), "there is a member a already, at 192.0.2.1"),
        (Member(name="new", address="192.0.2.1"), "192.0.2.1 is the address of member a"),
    ],
    ids=["name", "address"],
)
def test_two_of_one_name_or_address_are_no_matter_of_the_file(tmp_path: Path, new: Member, words: str) -> None:
    config = written(tmp_path, HEAD + "members: [{name: a, address: 192.0.2.1}, {name: b, address: 192.0.2.2}]\n")
    changes = [partial(configedit.replace_member, config, "b", new), partial(configedit.add_member, config, new)]
    if new.address == "192.0.2.1":
        changes.append(partial(configedit.move_member, config, "b", new.address))
    for change in changes:
        with pytest.raises(UsageError) as caught:
            change()
        assert caught.value.message == words
        assert caught.value.hint.startswith("another ")


def test_address_that_is_used_elsewhere_is_left_to_the_user(tmp_path: Path) -> None:
    config = written(tmp_path, HEAD + "members: [{name: a, address: &a 192.0.2.1, ssh: *a}]\n")
    with pytest.raises(UsageError, match=f"cannot move a to {MOVED}: something else would change with it"):
        configedit.move_member(config, "a", MOVED)


def test_file_keeps_mode_owner_and_link(tmp_path: Path) -> None:
    config = written(tmp_path, HEAD + STYLES["block"][0])
    config.path.chmod(0o640)
    os.chown(config.path, 12, 34)
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.yaml"
    link.symlink_to("../config.yaml")
    configedit.remove_member(configfile.load(link), "b").write()
    known = config.path.stat()
    assert (stat.S_IMODE(known.st_mode), known.st_uid, known.st_gid) == (0o640, 12, 34)
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "other"]
    assert [member.name for member in configfile.load(link).members] == ["a", "d"]


def test_file_that_was_changed_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    config = written(tmp_path, HEAD + STYLES["block"][0])
    edit = configedit.remove_member(config, "b")
    text = config.path.read_text() + "# note\n"
    config.path.write_text(text)
    with pytest.raises(Refused, match="was changed while this ran"):
        edit.write()
    assert config.path.read_text() == text
    configedit.remove_member(config, "b").write()  # a comment makes no other configuration
    with pytest.raises(Refused, match="was changed while this ran"):
        configedit.remove_member(config, "b")
    config.path.unlink()
    with pytest.raises(Refused, match="was changed while this ran"):
        edit.write()
    assert not config.path.exists()


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,5}[A-Za-z0-9])?", fullmatch=True).filter(lambda n: n != "default")
hosts = st.text("ab1.:@[]{}#&*!,'\"%\\|>", max_size=5).filter(lambda text: not text.startswith("-"))
people = st.builds(
    Member,
    name=names,
    address=st.ip_addresses(v=4, network="192.0.2.0/24").map(str)
    | st.ip_addresses(v=6, network="2001:db8::/64").map(str),
    ssh=hosts,
    port=st.integers(0, 65535),
)
clusters = st.lists(people, min_size=2, max_size=5, unique_by=(lambda m: m.name, lambda m: m.address))


@settings(max_examples=30, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(clusters, st.sampled_from(list(STYLES)), st.data())
def test_whatever_is_added_can_be_taken_out_again(
    tmp_path_factory: pytest.TempPathFactory, members: list[Member], style: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("edit")
    text = whole(STYLES[style][0])
    config = written(folder, text)
    taken = {(each.name, each.address) for each in config.members}
    added: list[Member] = []
    for each in members:
        if any(each.name == name or each.address == address for name, address in taken):
            continue
        configedit.add_member(config, each).write()
        config = configfile.load(config.path)
        added.append(each)
    assert config.members[3:] == added
    for each in data.draw(st.permutations(added)):
        configedit.remove_member(config, each.name).write()
        config = configfile.load(config.path)
    left = config.path.read_bytes().decode().replace("}, ]", "},]")
    assert left.rstrip("\n") == text.rstrip("\n")


# settings as they stand, what replaces them, and what stands there then
SETTINGS = {
    "none": ("", {}, ""),
    "one, in block": (
        "  settings:\n    a-b: 1  # why\n    # more\n    snapshot-count: 5\n",
        {"a-b": (("b", 1),)},
        "  settings:\n    b: 1  # why\n    # more\n    snapshot-count: 5\n",
    ),
    "one goes": (
        "  settings:\n    a-b: true  # why\n    # more\n    snapshot-count: 5\n",
        {"a-b": ()},
        "  settings:\n    # more\n    snapshot-count: 5\n",
    ),
    "two for one": (
        "  settings:\n    'a-b': \"x=true,y=false\"\n",
        {"a-b": (("x", True), ("y", False))},
        "  settings:\n    'x': true\n    'y': false\n",
    ),
    "in one line": (
        "  settings: {a: 1, b: 2, c: 3}\n",
        {"b": (("d", "e=f,g=h"),)},
        '  settings: {a: 1, d: "e=f,g=h", c: 3}\n',
    ),
    "goes in one line": ("  settings: {a: 1, b: 2, c: 3}\n", {"a": (), "c": ()}, "  settings: {b: 2}\n"),
    "all go": ("  settings:\n    a: 1\n    b: 2\n", {"a": (), "b": ()}, "  settings:\n    {}\n"),
}


@pytest.mark.parametrize(("before", "replaced", "after"), SETTINGS.values(), ids=SETTINGS.keys())
def test_another_release(before: str, replaced: dict[str, tuple[tuple[str, object], ...]], after: str) -> None:
    text = "# top\ncluster:\n  name: c\n  version: '3.5.30'   # now\n{}members: []\n"
    released = configtext.released(text.replace("{}", before), "3.6.16", replaced)
    assert released == text.replace("3.5.30", "3.6.16").replace("{}", after)


def test_another_release_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = (
        "cluster: {name: c, version: v3.5.30, settings: {experimental-compaction-batch-limit: 9, enable-v2: false}}\n"
    )
    members = "members: [{name: a, address: 192.0.2.1}]  # the only one\n"
    path.write_text(text + members)
    config = configfile.load(path)
    cluster = config.cluster.model_copy(update={"version": "3.6.16", "settings": {"compaction-batch-limit": 9}})
    replaced = {"experimental-compaction-batch-limit": (("compaction-batch-limit", 9),), "enable-v2": ()}
    configedit.change_release(config, config.model_copy(update={"cluster": cluster}), replaced).write()
    assert path.read_text() == "cluster: {name: c, version: 3.6.16, settings: {compaction-batch-limit: 9}}\n" + members
    assert configfile.load(path).cluster == cluster


TRANSPORT = {
    "there": ("cluster:\n  name: c\n  tls: false  # for now\n  version: 3.6.16\n", "true",
              "cluster:\n  name: c\n  tls: true  # for now\n  version: 3.6.16\n"),
    "in quotes, as YAML takes it": ("cluster: {name: c, version: 3.6.16, 'tls':  off}  # x\n", "true",
                                    "cluster: {name: c, version: 3.6.16, 'tls':  true}  # x\n"),
    "left out": ("cluster:\n  # which\n  version: 3.6.16   # now\n  name: c\n", "false",
                 "cluster:\n  # which\n  version: 3.6.16   # now\n  tls: false\n  name: c\n"),
    "left out, on one line": ("cluster: {version: '3.6.16', name: c}\n", "false",
                              "cluster: {version: '3.6.16', tls: false, name: c}\n"),
    "left out of JSON": ('{"cluster": {"name": "c", "version": "3.6.16"}}', "false",
                         '{"cluster": {"name": "c", "version": "3.6.16", "tls": false}}'),
    "left out, with the ends of lines of Windows": ("cluster:\r\n  version: 3.6.16\r\n  name: c\r\n", "false",
                                                    "cluster:\r\n  version: 3.6.16\r\n  tls: false\r\n  name: c\r\n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "value", "after"), TRANSPORT.values(), ids=TRANSPORT.keys())
def test_another_transport(before: str, value: str, after: str) -> None:
    assert configtext.secured(before, value) == after


@pytest.mark.parametrize("tls", [True, False])
def test_another_transport_in_a_file(tmp_path: Path, tls: bool) -> None:
    path = tmp_path / "config.yaml"
    text = "# ours\ncluster:\n  name: c  # a name\n  version: 3.6.16\n  tls: {} # see the wiki\n"
    members = "members:\n  - {name: a, address: 192.0.2.1}  # the only one\n"
    path.write_text(text.format(str(not tls).lower()) + members)
    configedit.change_tls(configfile.load(path), tls).write()
    assert path.read_text() == text.format(str(tls).lower()) + members
    assert configfile.load(path).cluster.tls is tls
