"""The documentation is true: tasks, keys, defaults, links, examples and messages are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_origin
from xml.etree import ElementTree

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

import tasks
from etcdops import configfile, pictures
from etcdops.config import Config
from etcdops.errors import OpsError
from etcdops.steps import health
from tests.unit.build import config, view

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
IMAGES = sorted((ROOT / "docs" / "images").glob("*.svg"))
TASKS = set(tasks.ns.task_names)
BASE = "cluster: {name: a, version: 3.6.14}\nmembers: [{name: a, address: 192.0.2.1}]\n"

STANDS_FOR = r"\.\.\.|/\S+|plain http|\b(?!CA\b)[A-Z]+\b|\b\d[\d.]*|, and "  # something else in each message
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        target, _, anchor = link.partition("#")
        file = (page.parent / target) if target else page
        if "://" not in link and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(link)
    assert not broken


@each_page
def test_a_task_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"\binv(?: -f [^\s`]+)? ([a-z][\w.-]*)", text) + re.findall(r"`((?:lab|dev)\.[a-z]+)[` ]", text)
    assert set(named) <= TASKS


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_has_a_page_or_a_section(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").exists()
    headings = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("#")]
    assert page or any(f"`{name}`" in heading for heading in headings)


def test_the_readme_lists_every_step() -> None:
    section = (ROOT / "README.md").read_text().partition("## The steps")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = set(re.findall(r"`([\w.-]+)`", " ".join(rows)))
    assert {name for name in TASKS if "." not in name} - {"test"} <= listed


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of config.yaml below ``model``, with its default."""
    for name, field in model.model_fields.items():
        listed = get_args(field.annotation)[:1] if get_origin(field.annotation) is list else ()
        kind = next(iter(listed or get_args(field.annotation)), field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}{'[]' if listed else ''}.")
        else:
            yield f"{prefix}{name}", field.default_factory() if field.default_factory else field.default


def shown(default: Any) -> str:
    """A default as docs/config.md writes it."""
    if default is PydanticUndefined:
        return "required"
    if default == {}:
        return "empty"
    if default == "":
        return '`""`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, timedelta):
        return f"`{default // timedelta(hours=1)}h`"
    return f"`{default}`"


def test_every_key_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| [^|]* \| ([^|]*) \|", (ROOT / "docs/config.md").read_text(), re.MULTILINE)
    assert dict(rows) == {key: shown(default) for key, default in keys(Config)}


def yaml_blocks() -> Iterator[Any]:
    for page in (ROOT / "README.md", ROOT / "docs" / "config.md"):
        blocks = [text for language, text in FENCE.findall(page.read_text()) if language == "yaml"]
        for number, text in enumerate(blocks, 1):
            yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("text", [*yaml_blocks()])
def test_examples_of_config_yaml_load(text: str) -> None:
    yaml = YAML(typ="safe")
    part = yaml.load(text)
    if not {"cluster", "members"} <= part.keys():  # an excerpt
        whole = yaml.load(BASE)
        for key, value in part.items():
            whole[key] = {**whole[key], **value} if key == "cluster" else value
        text = repr(whole)  # flow style, which YAML reads
        text = text.replace("True", "true").replace("False", "false")
    assert configfile.parse(text, ROOT / "config.yaml").members


def test_refusals_are_worded_as_in_the_code() -> None:
    """A message of docs/checks.md, less what stands for something, occurs in the source."""
    folders = ("", "guards/", "operation/", "ssh/", "steps/")
    sources = [path for folder in folders for path in ROOT.glob(f"etcdops/{folder}*.py")]
    sources += [ROOT / "files/lock.sh", ROOT / "files/prelude.sh"]
    code = re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text() for path in sources))
    rows = re.findall(r"^\| (`[^|]*`)[^|]*\|", (ROOT / "docs/checks.md").read_text(), re.MULTILINE)
    missing = []
    for message in re.findall(r"`([^`]+)`", " ".join(rows)):
        for piece in re.split(STANDS_FOR, message):
            if piece.strip(" ,;") and piece.strip() not in code:
                missing.append(f"{message}: {piece.strip()}")
    assert rows
    assert not missing


def documented(section: str) -> str:
    return (ROOT / "docs/json.md").read_text().partition(f"## `{section}`\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("step", [health.status, health.health, health.members], ids=["status", "health", "members"])
def test_every_key_of_json_is_documented(step: Any) -> None:
    seen: list[Any] = []
    views = {"etcd01": view("etcd01"), "etcd02": view("etcd02"), "etcd03": OpsError("away")}
    run: Any = SimpleNamespace(
        config=config(),
        fleet=SimpleNamespace(map=lambda ask: views),
        emit=lambda value, show: seen.append(value),
    )
    with pytest.raises(OpsError):
        step(run)
    (document,) = seen
    rows = document["members"] if isinstance(document, dict) else document
    names = {key for row in rows for key in row} | (set(document) if isinstance(document, dict) else set())
    text = documented(step.__name__)
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_a_picture_stands_alone_and_is_used(image: Path) -> None:
    text = image.read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert re.findall(r"https?://[^\"\s]+", text) == ["http://www.w3.org/2000/svg"]  # the name space, and no font
    assert any(f"images/{image.name}" in page.read_text() for page in PAGES)


def test_a_picture_shows_command_and_output_with_its_styles() -> None:
    svg = pictures.picture("./inv status", "\x1b[1mmember\x1b[0m  role   \netcd01  <leader>\n\n")
    texts = [text.replace("\xa0", " ").strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]
    assert texts[1:] == ["$", "./inv status", "member", "role", "etcd01  <leader>"]
    assert svg.count("font-weight: bold") == 1
    assert "://" not in svg.replace("http://www.w3.org/2000/svg", "")


@each_page
def test_a_page_names_no_place_of_one_machine(page: Path) -> None:
    assert not re.search(r"/(?:root|home|work|tmp)/(?!resources)\w", page.read_text())
