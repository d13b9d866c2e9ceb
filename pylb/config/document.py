"""What does one file say, as plain data, and where does it say it?

A `Tree` is dicts with text as keys, lists, text, integers, booleans, None (a key without a value) and, from Python, floats.
Every path of the tree has a `Mark`, so whoever finds a mistake later needs the path only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from pylb.config.mistakes import Mistake, Path, dotted
from pylb.words import quoted

__all__ = ["DEEPEST", "NOWHERE", "Document", "Mark", "Position", "Reading", "TooDeep", "from_python"]

Tree: TypeAlias = Any
#: Line and column, counted from 1; (0, 0) where there is no text.
Position: TypeAlias = tuple[int, int]

#: The configuration itself is seven deep.
DEEPEST = 32
NOWHERE: Position = (0, 0)


class Mark(NamedTuple):
    """Where a value's key (or list item) and the value itself begin."""

    key: Position
    value: Position


class TooDeep(Exception):
    """Lists and mappings nested beyond `DEEPEST`, perhaps in themselves."""


@dataclass(slots=True)
class Reading:
    """A tree in the making: what a reader of text or of Python values collects."""

    marks: dict[Path, Mark] = field(default_factory=dict)
    mistakes: list[tuple[Position, Path, str]] = field(default_factory=list)

    def wrong(self, position: Position, path: Path, text: str) -> None:
        """Note a mistake and go on."""
        self.mistakes.append((position, path, text))


@dataclass(frozen=True, slots=True)
class Document:
    """One file, or one dict, that was read.

    `folder` is what relative paths in it are relative to.
    """

    file: str
    folder: str
    tree: dict[str, Tree]
    marks: Mapping[Path, Mark]

    def mistake(self, path: Path, text: str, *, at_key: bool = False) -> Mistake:
        """A mistake at the value of `path`, or at its key; at the nearest part around it that was written."""
        written = self.written(path)
        line, column = self._position(written, at_key)
        return Mistake(self.file, line, column, dotted(written), text)

    def where(self, path: Path, *, at_key: bool = False) -> str:
        """`etc/lb.yaml:12:7` of a value or its key; without a text `dict: listeners.web.listen`."""
        written = self.written(path)
        line, column = self._position(written, at_key)
        return f"{self.file}:{line}:{column}" if line else f"{self.file}: {dotted(written)}"

    def written(self, path: Path) -> Path:
        """The longest beginning of `path` that was written: short forms leave places, and the last steps, out."""
        written: Path = ()
        for step in path:
            if (*written, step) in self.marks:
                written = (*written, step)
            elif step != 0:
                break
        return written

    def _position(self, path: Path, at_key: bool) -> Position:
        mark = self.marks[path]
        return mark.key if at_key else mark.value


def from_python(value: object, reading: Reading, path: Path = ()) -> Tree:
    """Python's mappings and sequences as a tree of its own; keys that are not text are mistakes."""
    if len(path) > DEEPEST:
        raise TooDeep
    reading.marks[path] = Mark(NOWHERE, NOWHERE)
    if isinstance(value, Mapping):
        return _from_mapping(value, reading, path)
    if isinstance(value, list | tuple):
        return [from_python(item, reading, (*path, place)) for place, item in enumerate(value)]
    return value


def _from_mapping(mapping: Mapping[Any, object], reading: Reading, path: Path) -> dict[str, Tree]:
    tree = {}
    for key, value in mapping.items():
        if isinstance(key, str):
            tree[key] = from_python(value, reading, (*path, key))
        else:
            reading.wrong(NOWHERE, path, f"the key {quoted(key)} is not text")
    return tree
