"""What is wrong with a configuration, where, and what was probably meant?

A mistake is found while reading (yaml, sources), in one part (schema) or between parts (rules); all of them end up in one
`ConfigError`, so that the operator mends the whole file at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

__all__ = ["ConfigError", "Mistake", "Path", "did_you_mean", "dotted", "quoted", "quoted_path"]

#: Keys and list positions from the top of a configuration down to a value.
Path: TypeAlias = tuple[str | int, ...]

_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake.  Line and column count from 1; they are 0 where there is no text (a missing file, a dict)."""

    file: str
    line: int
    column: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (where, self.path, self.text) if part)


class ConfigError(Exception):
    """A configuration that cannot be used; `str()` is one line a mistake."""

    mistakes: tuple[Mistake, ...]

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`, did you mean "weight"?` if `word` resembles one of the `known`, else nothing."""
    near = get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f", did you mean {quoted(near[0])}?" if near else ""


def quoted(value: object) -> str:
    """A value as a message shows it: on one line, printable, not too long."""
    text = str(value)
    return quoted_path(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "...")


def quoted_path(path: str) -> str:
    """A file's name as a message shows it: whole, however long, so that it can be found."""
    return json.dumps(path, ensure_ascii=not path.isprintable())


def dotted(path: Path) -> str:
    """`pools.backend.servers.1.weight`."""
    return ".".join(_step(step) for step in path)


def _step(step: str | int) -> str:
    text = str(step)
    return text if text.isprintable() and len(text) <= _LONGEST_QUOTE else quoted(text)
