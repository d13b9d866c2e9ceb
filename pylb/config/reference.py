"""What does the documentation say about a key?

docs/configuration.md is the one place that does: reference.md is a link to it, and a wheel has it.  A heading names the
mapping (`pools.*`, with * for names and places; in brackets the kinds of it, such as http and tcp), a row of the table
below it the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pylb.config.yaml import parse

__all__ = ["Entry", "entries"]

_PAGE = Path(__file__).with_name("reference.md")
_HEADING = re.compile(r"## (?:The main file|`(?P<path>[\w.*]+)`(?: \((?P<kinds>.*)\))?)")
_ROW = re.compile(r"\| `(?P<key>\w+)` \| .+? \| (?P<default>.+?) \| (?P<meaning>.+) \|")


class Entry(NamedTuple):
    """One key, or what it is in some kinds of a mapping."""

    #: Dotted, with * for names and places.
    path: str
    #: The kinds that the entry is about; empty for all.
    kinds: frozenset[str]
    #: As a file says it; None if it is none, or not one for all.
    default: Any
    #: Markdown.
    meaning: str


def entries() -> Iterator[Entry]:
    """All of them, in the order of the page."""
    section: re.Match[str] | None = None
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = _HEADING.fullmatch(line)
        elif section and (row := _ROW.fullmatch(line)):
            path = ".".join(filter(None, (section["path"], row["key"])))
            yield Entry(path, _kinds(section["kinds"] or ""), _default(row["default"]), row["meaning"])


def _kinds(text: str) -> frozenset[str]:
    return frozenset() if text.startswith("every ") else frozenset(re.findall(r"\w+", text)) - {"and"}


def _default(text: str) -> Any:
    return parse(text.strip("`").encode())[0] if text.startswith("`") else None
