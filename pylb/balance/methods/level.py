"""Who has the least load?

The smallest load wins; those that are level take turns by weight (pylb.balance.methods.turns), as in nginx's least_conn
and least_time: who is not level neither gains nor pays.  Loads are whole numbers, so that they are compared exactly.

Servers of one load are a level.  A heap holds the levels, so a choice costs what a round of the lowest level costs.  Whose
load has changed is only noted, and looked at before the next choice: by then it often has the load that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import lcm

from pylb.balance.methods.turns import Seated, ServerSeat, WeightedTurns
from pylb.balance.server import Server

__all__ = ["LeastLoaded"]


class LeastLoaded(Seated):
    """A method by load, whatever that is: `_load` says."""

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__(servers)
        whole = lcm(*(server.weight for server in servers))
        #: What one unit of work adds to the load of a server of each weight.
        self._units = {server.weight: whole // server.weight for server in servers}
        self._levels: dict[int, WeightedTurns] = {}
        #: A heap of the keys of `_levels`.  A level that is empty stays until it comes up.
        self._queue: list[int] = []
        self._size = 0
        #: The last known time.
        self._now = 0.0
        #: Usable servers that may have another load than their level has.
        self._changed: set[Server] = set()

    def add(self, server: Server) -> None:
        self._size += 1
        seat = self._seat_of[server]
        self._join(seat, self._load(seat, self._now))

    def remove(self, server: Server) -> None:
        self._size -= 1
        self._changed.discard(server)
        seat = self._seat_of[server]
        seat.turns.quit(seat)

    def load_changed(self, server: Server) -> None:
        self._changed.add(server)

    def _load(self, seat: ServerSeat, now: float) -> int:
        raise NotImplementedError

    def _settle(self, now: float) -> None:
        """Give everybody whose load has changed its level."""
        for server in self._changed:
            seat = self._seat_of[server]
            load = self._load(seat, now)
            if load != seat.load:
                seat.turns.quit(seat)
                self._join(seat, load)
        self._changed.clear()

    def _join(self, seat: ServerSeat, load: int) -> None:
        level = self._levels.get(load)
        if level is None:
            level = self._open(load)
        level.join(seat)
        seat.load = load

    def _open(self, load: int) -> WeightedTurns:
        """A new level."""
        if len(self._queue) > 2 * self._size + 16:
            self._levels = {load: level for load, level in self._levels.items() if level.size}
            self._queue = sorted(self._levels)
        level = self._levels[load] = WeightedTurns()
        heappush(self._queue, load)
        return level

    def _next(self, now: float) -> Server:
        self._now = now
        if self._changed:
            self._settle(now)
        queue, levels = self._queue, self._levels
        while not (lowest := levels[queue[0]]).size:
            del levels[heappop(queue)]
        server = lowest.next().server
        if lowest.rising and lowest.size > 1:
            lowest.recover()
        return server
