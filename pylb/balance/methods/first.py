"""Who is the first that can serve?

In the operator's order, so that with `max_conns` one server fills up after the other and the last ones can rest.  A
server that is full is not usable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["First"]


@implementer(IBalancingMethod)
class First:
    """`first`, at the cost of the logarithm of the number of servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)
        self._place_of = {server: place for place, server in enumerate(servers)}
        self._usable: set[Server] = set()
        #: A heap of the places of all usable servers; one that is not usable any more stays until it comes up.
        self._heap: list[int] = []
        self._queued: set[int] = set()

    def add(self, server: Server) -> None:
        self._usable.add(server)
        place = self._place_of[server]
        if place not in self._queued:
            self._queued.add(place)
            heappush(self._heap, place)

    def remove(self, server: Server) -> None:
        self._usable.discard(server)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        passed = []
        while (server := self._servers[self._heap[0]]) not in self._usable or server in tried:
            place = heappop(self._heap)
            if server in self._usable:
                passed.append(place)
            else:
                self._queued.discard(place)
        for place in passed:
            heappush(self._heap, place)
        return server
