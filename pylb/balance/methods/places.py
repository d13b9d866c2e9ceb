"""Where do names lie among the keys, and what serves until that is known?

Places are a pure function of names and weights and never change.  Those that take long to make are made elsewhere: until
they are there, the ones that served before go on; their names may be of servers that have left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from pylb.balance.methods.interface import Elsewhere, at_once

__all__ = ["LONG", "Kind", "Layout", "Places", "Weights"]

#: Names, each once, with their weights.
Weights: TypeAlias = Sequence[tuple[str, int]]

#: From so many points on it is noticed how long they take: tens of milliseconds.
LONG = 50_000


class Places(Protocol):
    """Which names a key belongs to."""

    def owners(self, key: bytes) -> Iterator[str]:
        """The names of `key`, the first choice first; without end, if there is any name."""


class Kind(Protocol):
    """How to make places."""

    def __call__(self, weights: Weights) -> Places:
        """The places of these names."""

    def points(self, weights: Weights) -> int:
        """How many points that takes."""


class Layout:
    """Places that are there, or are being made; `before` serves until then."""

    __slots__ = ("kind", "places", "weights")

    def __init__(self, kind: Kind, weights: Weights, elsewhere: Elsewhere, before: Places | None = None) -> None:
        self.kind = kind
        self.weights = weights
        #: None while there are none at all.
        self.places = before
        begin = elsewhere if kind.points(weights) >= LONG else at_once
        begin(partial(kind, weights), self._made)

    def _made(self, places: Places) -> None:
        self.places = places
