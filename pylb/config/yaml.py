"""What does a YAML text say, and where?

PyYAML (libyaml where it is there) makes the nodes, whose marks give line and column.  What differs from PyYAML's own
loading:

- Of the plain words only `true` and `false`, decimal integers (`0`, `-5`, `42`) and null (`null`, `~`, nothing) are more
  than text.  `no`, `off`, `0660`, `22:22`, `1_000` and `1.2` stay what was written.
- A key is text, whatever it looks like.  A second key of one name is a mistake.
- Aliases and merge keys work; what they multiply is bounded, and nothing may contain itself.
- One document a file, at most `DEEPEST` levels deep.  Tags of types that a configuration has no use for are mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from pylb.config.document import DEEPEST, Mark, Position, Reading, Tree
from pylb.config.mistakes import Path
from pylb.words import quoted

__all__ = ["MOST_COPIES", "NotYaml", "parse"]

#: Values that aliases may add to those written.
MOST_COPIES = 100_000

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": re.compile(r"(?:~|null|)\Z"),
    "bool": re.compile(r"(?:true|false)\Z"),
    # More digits are no number that anything here could mean.
    "int": re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z"),
    "merge": re.compile(r"<<\Z"),
}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

_Pair: TypeAlias = tuple[yaml.Node, yaml.Node]


class NotYaml(Exception):
    """The text cannot be read at all: the one mistake, at (line, column)."""

    def __init__(self, position: Position, text: str) -> None:
        super().__init__(position, text)
        self.position = position
        self.text = text


def _loader(base: Any) -> Any:
    """PyYAML's `base`, resolving nothing but `_PLAIN`."""
    resolvers = {None: [(_TAG + name, form) for name, form in _PLAIN.items()]}
    return type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})


_Loader = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def parse(data: bytes) -> tuple[Tree, Reading]:
    """The tree of a text (None if it holds nothing) with its marks and mistakes; raises NotYaml."""
    text = _decoded(data)
    try:
        _survey(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        position = _position(error.problem_mark or error.context_mark)
        raise NotYaml(position, _explained(error, _at(text, position))) from error
    reader = _NodeReader()
    return (None if node is None else reader.read(node, ())), reader.reading


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        raise NotYaml(_end_of(before), f"not UTF-8 text (byte 0x{data[error.start]:02x})") from error
    if strange := _UNPRINTABLE.search(text):
        raise NotYaml(_end_of(text[: strange.start()]), f"not text (character U+{ord(strange[0]):04X})")
    return text


def _survey(text: str) -> None:
    """Refuse what PyYAML's composer cannot take: it recurses in C, and a deep text would end the process."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > DEEPEST:
            raise NotYaml(_position(event.start_mark), f"nested more than {DEEPEST} levels deep")
        if documents > 1:
            raise NotYaml(_position(event.start_mark), "a second document begins here; a file holds one")


class _NodeReader:
    """Turns nodes into a tree, marking every path."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._seen: set[int] = set()
        self._open: list[yaml.Node] = []
        self._copies = 0

    def read(self, node: yaml.Node, path: Path, key: yaml.Node | None = None) -> Tree:
        self._count(node)
        start = _position(node.start_mark)
        self.reading.marks[path] = Mark(_position(key.start_mark) if key else start, start)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if any(node is outer for outer in self._open) or len(path) > DEEPEST:
            raise NotYaml(start, "an alias makes this contain itself")
        self._open.append(node)
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> str | int | bool | None:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "merge"):
            return text
        if kind not in _PLAIN or not _PLAIN[kind].match(text):
            self._wrong_tag(node, path)
            return text
        if kind == "int":
            return int(text)
        return text == "true" if kind == "bool" else None

    def _list(self, node: yaml.Node, path: Path) -> list[Tree]:
        if node.tag != _TAG + "seq":
            self._wrong_tag(node, path)
        return [self.read(item, (*path, place)) for place, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Tree]:
        if node.tag != _TAG + "map":
            self._wrong_tag(node, path)
        tree: dict[str, Tree] = {}
        for key, value in self._own(node, path):
            if key.value in tree:
                line, column = self.reading.marks[(*path, key.value)].key
                self._wrong(key, (*path, key.value), f"duplicate key {quoted(key.value)}, first at {line}:{column}")
            else:
                tree[key.value] = self.read(value, (*path, key.value), key)
        for key, value in self._merged(node, path):
            if key.value not in tree:
                tree[key.value] = self.read(value, (*path, key.value), key)
        return tree

    def _own(self, node: yaml.MappingNode, path: Path) -> Iterator[_Pair]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, path, "a key must be text")
            elif not _is_merge(key):
                yield key, value

    def _merged(self, node: yaml.MappingNode, path: Path) -> Iterator[_Pair]:
        """What `<<` brings in, the mapping merged first before later ones, each before what it merges itself."""
        for key, value in node.value:
            if _is_merge(key):
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    yield from self._source(source, path)

    def _source(self, node: yaml.Node, path: Path) -> Iterator[_Pair]:
        self._count(node)
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "only mappings can be merged")
            return
        if any(node is outer for outer in self._open):
            raise NotYaml(_position(node.start_mark), "an alias makes this contain itself")
        self._open.append(node)
        yield from self._own(node, path)
        yield from self._merged(node, path)
        self._open.pop()

    def _count(self, node: yaml.Node) -> None:
        if id(node) in self._seen:
            self._copies += 1
        self._seen.add(id(node))
        if self._copies > MOST_COPIES:
            raise NotYaml(_position(node.start_mark), f"aliases repeat more than {MOST_COPIES} values")

    def _wrong_tag(self, node: yaml.Node, path: Path) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._wrong(node, path, f"the tag {quoted(tag)} is not understood here")

    def _wrong(self, node: yaml.Node, path: Path, text: str) -> None:
        self.reading.wrong(_position(node.start_mark), path, text)


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.tag == _TAG + "merge")


def _position(mark: Any) -> Position:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _end_of(text: str) -> Position:
    lines = _LINE_BREAK.split(text)
    return len(lines), len(lines[-1]) + 1


def _at(text: str, position: Position) -> str:
    """The character there, if there is one."""
    line, column = position
    lines = _LINE_BREAK.split(text)
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""


def _explained(error: yaml.MarkedYAMLError, at: str) -> str:
    if at == "\t":
        return "a tab: write spaces in its place"
    context = f" ({error.context})" if error.context else ""
    return f"not valid YAML: {error.problem}{context}"
