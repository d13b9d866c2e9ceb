"""Which files make one configuration?

- The main file, then those that its `include` names, then those that they name.  A pattern is relative to the folder of
  the file that says it; what it finds comes in sorted order.
- A pattern with a wildcard may find nothing; a plain path must exist.  No file is read twice.
- An included file may say nothing at all; the main file may not.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping

from pylb.config.document import Document, Reading, TooDeep, Tree, from_python
from pylb.config.mistakes import Mistake, Path, dotted
from pylb.config.yaml import NotYaml, parse
from pylb.words import quoted_path

__all__ = ["LARGEST_FILE", "Sources"]

LARGEST_FILE = 16 * 1024 * 1024


class Sources:
    """The documents of one configuration, the main one first, and the mistakes made in writing them."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.mistakes: list[Mistake] = []
        #: Whether every file could be read, so that what is not there was not written.
        self.complete = True
        #: Who said that a file is to be read, by the file's real path.
        self._said: dict[str, str] = {}

    @classmethod
    def of_file(cls, path: str) -> Sources:
        """What a file and its includes say."""
        sources = cls()
        try:
            data = sources._contents(path, said="the main file")
        except OSError as error:
            sources._lost(Mistake(path, 0, 0, "", _unreadable(error)))
        else:
            sources._add_file(path, data, empty="the file is empty")
        sources._follow_includes()
        return sources

    @classmethod
    def of_mapping(cls, mapping: Mapping[str, object], origin: str) -> Sources:
        """What a mapping says; relative paths in it are relative to the current folder."""
        sources = cls()
        reading = Reading()
        try:
            tree = from_python(mapping, reading)
        except TooDeep:
            sources._lost(Mistake(origin, 0, 0, "", "nested too deep, perhaps in itself"))
        else:
            sources._add(origin, os.getcwd(), tree, reading)
        sources._follow_includes()
        return sources

    def mistake(self, path: Path, text: str) -> Mistake:
        """A mistake at `path` in the file that wrote most of it."""
        document = max(self.documents, key=lambda document: len(document.written(path)))
        return document.mistake(path, text)

    def _follow_includes(self) -> None:
        # The list grows as included files are read.
        for document in self.documents:
            for path, pattern in _includes(document):
                for file in _found(os.path.dirname(document.file), pattern):
                    self._include(document, path, file)

    def _include(self, document: Document, path: Path, file: str) -> None:
        try:
            data = self._contents(file, said=document.where(path))
        except OSError as error:
            self._lost(document.mistake(path, f"{quoted_path(file)} {_unreadable(error)}"))
        else:
            self._add_file(file, data)

    def _contents(self, file: str, said: str) -> bytes:
        identity = os.path.realpath(file)
        if identity in self._said:
            raise OSError(None, f"it was read already ({self._said[identity]})")
        with open(file, "rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise OSError(None, f"it is larger than {LARGEST_FILE >> 20} MiB")
        self._said[identity] = said
        return data

    def _add_file(self, file: str, data: bytes, empty: str = "") -> None:
        try:
            tree, reading = parse(data)
        except NotYaml as error:
            self._lost(Mistake(file, *error.position, "", error.text))
            return
        if tree is None and empty:
            self._lost(Mistake(file, 1, 1, "", empty))
        elif tree is not None:
            self._add(file, os.path.dirname(os.path.abspath(file)), tree, reading)

    def _add(self, file: str, folder: str, tree: Tree, reading: Reading) -> None:
        for position, path, text in reading.mistakes:
            self.mistakes.append(Mistake(file, *position, dotted(path), text))
        document = Document(file, folder, tree, reading.marks)
        if isinstance(tree, dict):
            self.documents.append(document)
        else:
            self._lost(document.mistake((), "a configuration is a mapping (pools: ..., listeners: ...)"))

    def _lost(self, mistake: Mistake) -> None:
        self.mistakes.append(mistake)
        self.complete = False


def _includes(document: Document) -> Iterator[tuple[Path, str]]:
    """The patterns; what is no list of printable text is the schema's to report."""
    patterns = document.tree.get("include")
    for place, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        if isinstance(pattern, str) and pattern and pattern.isprintable():
            yield ("include", place), pattern


def _found(folder: str, pattern: str) -> list[str]:
    if glob.has_magic(pattern):
        return sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
    return [os.path.join(folder, pattern)]


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"
