"""What was written of a pool or a listener?

The trees are read, not the filled-in forms: a part that the schema found fault with still takes part in every rule whose
values in it can be read, so that all mistakes come out at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pylb.config.document import Document
from pylb.config.mistakes import Mistake, Path
from pylb.model import MOMENTS

__all__ = ["Part", "is_unix", "parts_of", "pools_of", "protocols"]


class Part(NamedTuple):
    """A pool or a listener as written; `keys` is empty if it is no mapping."""

    document: Document
    name: str
    path: Path
    keys: dict[str, Any]

    def mistake(self, text: str, *below: str | int, at_key: bool = False) -> Mistake:
        """A mistake at the value, or the key, that is so far `below`."""
        return self.document.mistake((*self.path, *below), text, at_key=at_key)

    def items(self, key: str) -> list[tuple[int, Any]]:
        """The numbered items of a list below `key`; a scalar is a list of one, what cannot be a list is an empty one."""
        value = self.keys.get(key)
        if isinstance(value, list):
            return list(enumerate(value))
        return [(0, value)] if isinstance(value, str | int) else []


def parts_of(documents: Iterable[Document], kind: str) -> Iterator[Part]:
    """Of the kind "pools" or "listeners", in the order of the files."""
    for document in documents:
        parts = document.tree.get(kind)
        for name, keys in parts.items() if isinstance(parts, dict) else ():
            yield Part(document, name, (kind, name), keys if isinstance(keys, dict) else {})


def pools_of(listener: Part) -> Iterator[str]:
    """The names of the pools that a listener uses."""
    routes = [route for _, route in listener.items("routes")]
    for holder in (listener.keys, *routes):
        name = holder.get("pool") if isinstance(holder, dict) else None
        if isinstance(name, str):
            yield name


def protocols(listeners: Iterable[Part]) -> Mapping[str, set[str]]:
    """For each pool the protocols of the listeners that use it."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for listener in listeners:
        protocol = listener.keys.get("protocol")
        for name in pools_of(listener):
            if isinstance(protocol, str) and protocol in MOMENTS:
                users[name].add(protocol)
    return users


def is_unix(server: object) -> bool:
    """Whether a server, in either form, is at a Unix socket."""
    address = server.get("address") if isinstance(server, dict) else server
    return isinstance(address, str) and address.startswith("unix:")
