"""The text of config.yaml: where its values stand, and the same text with a member or a setting changed.  Pure.

ruamel's own way back to text moves comments and folds long lines, so it only says where things stand, and the text is
cut there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, StreamStartEvent

from etcdops.config import Member

Cut = tuple[int, int, str]  # from, to, and what stands there instead

DASH = re.compile(r"^[ \t]*-(?=\s)", re.MULTILINE)
COMMA = re.compile(r"(?:\s|(?<=\s)#[^\r\n]*+)*+,")
REST = re.compile(r"[ \t]*,?[ \t]*(?:(?<=[ \t,])#[^\r\n]*)?(?=[\r\n]|\Z)")  # of a line, behind its last item
PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:@-]*[A-Za-z0-9])?")
PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


@dataclass(frozen=True)
class Node:
    """A value as it stands in the text, from ``start`` to ``end``; ``begin`` is that of its anchor or tag."""

    begin: int
    start: int
    end: int
    value: str
    quote: str
    flow: bool
    children: tuple[Node, ...]

    def get(self, key: str) -> tuple[Node, Node] | None:
        """The key and the value of a mapping."""
        pairs = zip(self.children[::2], self.children[1::2], strict=True)
        return next((pair for pair in pairs if pair[0].value == key), None)


def added(text: str, member: Member) -> str:
    """``text`` with ``member`` as the last one."""
    items = _members(text)
    *_, last = items.children
    eol = "\r\n" if "\r\n" in text else "\n"
    if not items.flow:
        dash = _dash(text, items, len(items.children) - 1)
        gap = _blank(text[dash + 1 : last.start]) or " "
        indent = gap.rpartition("\n")[2] if "\n" in gap else " " * (dash - _line(text, dash) + 1 + len(gap))
        line = text[_line(text, dash) : dash + 1] + gap + _spelt(text, last, member, eol + indent)
        at = _line_end(text, last.end)
        return _apply(text, [(at, at, eol + line)])
    new = _spelt(text, last, member, " ")
    comma = _comma(text, last)
    before = text[_line(text, last.begin) : last.begin]
    if before.strip():  # others stand before it on its line
        at = comma or last.end
        return _apply(text, [(at, at, f" {new}," if comma else f", {new}")])
    rest = REST.match(text, last.end)
    at = rest.end() if rest else comma or last.end
    more = (at, at, eol + before + new + ("," if comma else ""))
    return _apply(text, [more] if comma else [more, (last.end, last.end, ",")])


def removed(text: str, index: int) -> str:
    """``text`` without the member at ``index``."""
    items = _members(text)
    item = items.children[index]
    if not items.flow:
        return _apply(text, [(_line(text, _dash(text, items, index)), _next_line(text, item.end), "")])
    comma, rest = _comma(text, item), REST.match(text, item.end)
    before = [] if comma or index == 0 else _comma_cut(text, items.children[index - 1])
    if rest and not text[_line(text, item.begin) : item.begin].strip() and (comma or 0) <= rest.end():
        return _apply(text, [*before, (_line(text, item.begin), _next_line(text, item.end), "")])
    if comma:
        end = comma + len(text[comma:]) - len(text[comma:].lstrip(" \t"))
        return _apply(text, [(item.begin, end if text[end : end + 1] != "#" else comma, "")])
    start = items.children[index - 1].end if index else item.begin
    if text[start : item.begin].strip(" \t\r\n,"):  # a comment stands between the two, and stays
        return _apply(text, [*before, (item.begin, item.end, "")])
    return _apply(text, [(start, item.end, "")])


def moved_to(text: str, index: int, address: str) -> str:
    """``text`` with this address for the member at ``index``."""
    pair = _members(text).children[index].get("address")
    if pair is None:
        raise LookupError("address")
    return _apply(text, [(pair[1].start, pair[1].end, _scalar(address, pair[1].quote))])


def released(text: str, version: str, replaced: Mapping[str, Sequence[tuple[str, object]]]) -> str:
    """``text`` with this version, and other settings in place of those ``replaced``."""
    cluster = _section(text, "cluster")
    number = cluster.get("version")
    if number is None:
        raise LookupError("version")
    cuts: list[Cut] = [(number[1].start, number[1].end, _scalar(version, number[1].quote))]
    pair = cluster.get("settings")
    if pair and replaced:
        names = [key.value for key in pair[1].children[::2]]
        if all(name in replaced and not replaced[name] for name in names):
            cuts.append((pair[1].begin, pair[1].end, "{}"))
        else:
            cuts += [cut for name, new in replaced.items() for cut in _instead(text, pair[1], name, new)]
    return _apply(text, cuts)


def secured(text: str, value: str) -> str:
    """``text`` with this value of cluster.tls."""
    cluster = _section(text, "cluster")
    if pair := cluster.get("tls"):
        return _apply(text, [(pair[1].start, pair[1].end, value)])
    version = cluster.get("version")
    if version is None:
        raise LookupError("version")
    key, number = version
    eol = "\r\n" if "\r\n" in text else "\n"
    if cluster.flow:
        quote = key.quote
        return _apply(text, [(number.end, number.end, f", {_scalar('tls', quote)}: {value}")])
    at = _line_end(text, number.end)
    return _apply(text, [(at, at, f"{eol}{' ' * (key.begin - _line(text, key.begin))}tls: {value}")])


def _instead(text: str, settings: Node, name: str, new: Sequence[tuple[str, object]]) -> list[Cut]:
    """What takes the place of the setting ``name``: each of ``new`` in its style, or nothing."""
    pair = settings.get(name)
    if pair is None:
        raise LookupError(name)
    key, value = pair
    if new:
        between = ", " if settings.flow else "\n" + " " * (key.begin - _line(text, key.begin))
        pairs = [f"{_scalar(each, key.quote)}: {_plain(content, value.quote)}" for each, content in new]
        return [(key.start, value.end, between.join(pairs))]
    if not settings.flow:
        return [(_line(text, key.begin), _next_line(text, value.end), "")]
    at = settings.children.index(key)
    if at + 2 < len(settings.children):
        return [(key.begin, settings.children[at + 2].begin, "")]
    return [(settings.children[at - 1].end, value.end, "")]


def _plain(value: object, quote: str) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else _scalar(value, quote)
        if isinstance(value, str)
        else str(value)
    )


def _members(text: str) -> Node:
    """The list under the key 'members'."""
    return _section(text, "members")


def _section(text: str, name: str) -> Node:
    """The list or the mapping under the key ``name``."""
    events = iter(YAML().parse(text))
    while isinstance(event := next(events), StreamStartEvent | DocumentStartEvent):
        pass
    pair = _node(event, events, text).get(name)
    if pair is None or not pair[1].children:
        raise LookupError(name)
    return pair[1]


def _node(event: Any, events: Iterator[Any], text: str) -> Node:
    begin, end, children = event.start_mark.index, event.end_mark.index, []
    flow = bool(getattr(event, "flow_style", False))
    if isinstance(event, CollectionStartEvent):
        while not isinstance(last := next(events), CollectionEndEvent):
            children.append(_node(last, events, text))
        end = last.end_mark.index if flow or not children else children[-1].end
    properties = PROPERTIES.match(text, begin)
    return Node(
        begin=begin,
        start=properties.end() if properties else begin,
        end=begin + len(text[begin:end].rstrip()),  # a block scalar goes on to the next line
        value=getattr(event, "value", ""),
        quote=getattr(event, "style", None) or "",
        flow=flow,
        children=tuple(children),
    )


def _spelt(text: str, like: Node, member: Member, between: str) -> str:
    """``member`` as a mapping in the style of ``like``; ``between`` parts the lines of one in block style."""
    values = {"name": member.name, "address": member.address, "ssh": member.ssh, "port": member.port}
    usual = like.get("address") or (like, like)
    pairs = []
    for name, value in values.items():
        if value:
            key, style = like.get(name) or usual
            pairs.append(f"{_scalar(name, key.quote)}: {value if name == 'port' else _scalar(str(value), style.quote)}")
    if not like.flow:
        return between.join(pairs)
    first, *others = like.children
    opening = _blank(text[like.start + 1 : first.start])
    parted = re.fullmatch(r",(\s+)", text[others[0].end : others[1].start]) if len(others) > 1 else None
    closing = _blank(text[like.children[-1].end : like.end - 1].lstrip(","))
    return f"{{{opening}{(',' + (parted[1] if parted else ' ')).join(pairs)}{closing}}}"


def _scalar(value: str, quote: str) -> str:
    """``value`` in these quotes; without any where YAML would then read it as text, too, and as the same."""
    if quote == "'":
        return "'" + value.replace("'", "''") + "'"
    if quote != '"' and PLAIN.fullmatch(value):
        try:
            if YAML(typ="safe", pure=True).load(f"{{k: {value}}}") == {"k": value}:
                return value
        except YAMLError:
            pass
    return json.dumps(value, ensure_ascii=False)


def _dash(text: str, items: Node, index: int) -> int:
    """Where the dash of a member stands."""
    begin = items.children[index - 1].end if index else _line(text, items.begin)
    *_, dash = DASH.finditer(text, begin, items.children[index].start)
    return dash.end() - 1


def _comma(text: str, item: Node) -> int | None:
    """The end of the comma behind ``item``; None where there is none."""
    found = COMMA.match(text, item.end)
    return found.end() if found else None


def _comma_cut(text: str, item: Node) -> list[Cut]:
    end = _comma(text, item)
    return [(end - 1, end, "")] if end else []


def _blank(text: str) -> str:
    """``text`` if there is nothing in it to see."""
    return "" if text.strip() else text


def _line(text: str, at: int) -> int:
    """The beginning of the line."""
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """The end of the line, without what ends it."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if text[at:end].endswith("\r") else end


def _next_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _apply(text: str, cuts: Iterable[Cut]) -> str:
    for start, end, new in sorted(cuts, key=lambda cut: cut[0], reverse=True):
        text = text[:start] + new + text[end:]
    return text
