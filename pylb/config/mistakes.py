"""What is wrong with a configuration, and where?

A mistake is found while reading (yaml, sources), in one part (schema) or between parts (rules); all of them end up in one
`ConfigError`, so that the operator mends the whole file at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pylb.words import quoted

__all__ = ["ConfigError", "Mistake", "Path", "dotted"]

#: Keys and list positions from the top of a configuration down to a value.
Path: TypeAlias = tuple[str | int, ...]

_LONGEST_STEP = 60


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


def dotted(path: Path) -> str:
    """`pools.backend.servers.1.weight`."""
    return ".".join(_step(step) for step in path)


def _step(step: str | int) -> str:
    text = str(step)
    return text if text.isprintable() and len(text) <= _LONGEST_STEP else quoted(text)
