"""Which ejected servers may be tried again by now?

A moment that has become earlier counts at once.  One that has become later is noticed when the one before has passed: then
whoever asks looks at the server, and expects it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from math import inf

from pylb.balance.server import Server

__all__ = ["Returns"]


class Returns:
    """Servers that are waited for, the first at the front."""

    __slots__ = ("_heap", "_moments", "_numbers")

    def __init__(self) -> None:
        #: (when, number, server); those that are not in `_moments` are out of date.
        self._heap: list[tuple[float, int, Server]] = []
        self._moments: dict[Server, float] = {}
        self._numbers = count()

    def __len__(self) -> int:
        """How much is kept."""
        return len(self._heap)

    @property
    def next(self) -> float:
        """When to ask again."""
        return self._heap[0][0] if self._heap else inf

    def expect(self, server: Server, moment: float) -> None:
        """After that moment it may be tried."""
        if moment < self._moments.get(server, inf):
            self._moments[server] = moment
            heappush(self._heap, (moment, next(self._numbers), server))

    def due(self, now: float) -> Iterator[Server]:
        """Those whose moment has passed; they are not waited for any more."""
        while self._heap and now > self._heap[0][0]:
            moment, _, server = heappop(self._heap)
            if self._moments.get(server) == moment:
                del self._moments[server]
                yield server
