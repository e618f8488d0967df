"""The form in which the scripts of files/ report what they have seen: files/prelude.sh writes it.

One fact a line, its fields parted by tabs.  Text of any shape comes as base64; that of files line by line, each after
the names of its kind and its file, so that no content can pass for a fact of another kind.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

Row = list[str]


def rows(text: str) -> list[Row]:
    """The lines of a report, each as its fields; splitlines() would part one at characters that a shell does not."""
    return [line.split("\t") for line in text.split("\n")]


def decode(encoded: str) -> str:
    """Text that came as base64; bytes that are no UTF-8 stop nothing."""
    return base64.b64decode(encoded).decode("utf-8", "replace")


def texts(report: Iterable[Row], kind: str) -> dict[str, str]:
    """The texts of a kind by their names, whole ones as they were and the others with an end to their last line.

    A file without a line has none.
    """
    found: dict[str, str] = {}
    for row in report:
        if row[0] == kind:
            found[row[1]] = decode(row[2])
        elif row[:2] == ["line", kind]:
            found[row[2]] = found.get(row[2], "") + "\t".join(row[3:]) + "\n"
    return found
