"""Whose turn is it: the method's, which has the servers with their whole weight, or one's that starts slowly?

- Those that start slowly get together the part of the requests that is their part of all weights, each at its weight of
  now; so the share of a server grows in a straight line, whichever the method is.  What they are owed is counted.
- Among themselves each waits for its turn as long as its weight says: the next turn is 1 / weight after the last, on a clock
  that goes on when they choose (stride scheduling, C. Waldspurger and W. Weihl, 1995).  Who is next costs the logarithm of
  how many there are.
- A weight is looked at again after each hundredth of the time.  What is left of the waiting shrinks as the weight grows.
  Before one choice LOOKS servers at most are looked at; the others wait for the next choice.
- One that is out keeps what is left of its waiting: it may only be full for a moment.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

from pylb.balance.server import Server

__all__ = ["LOOKS", "Warming"]

#: Servers that are looked at before one choice because time has passed.
LOOKS = 16


class _Place:
    """Where one server stands."""

    __slots__ = ("index", "item", "left", "server", "weight")

    def __init__(self, server: Server, index: int) -> None:
        self.server = server
        self.index = index
        self.weight = 0.0
        #: The part of its waiting that is left, when it comes in.
        self.left = 1.0
        #: (its turn, index, place): the one item of the queue that stands for it; None while it is out.
        self.item: tuple[float, int, _Place] | None = None


class Warming:
    """The servers of a tier that start slowly."""

    __slots__ = ("_clock", "_indexes", "_owed", "_places", "_queue", "_steps", "_weight", "size")

    def __init__(self) -> None:
        self._indexes = count()
        #: Those that are out included.
        self._places: dict[Server, _Place] = {}
        #: When to look at a place again: one item for each.
        self._steps: list[tuple[float, int, _Place]] = []
        self._clear()

    def _clear(self) -> None:
        #: How many are in, and their weight.
        self.size = 0
        self._weight = 0.0
        #: A heap of the items of places; some are out of date.
        self._queue: list[tuple[float, int, _Place]] = []
        #: The turn that was taken last.
        self._clock = 0.0
        #: How many requests they should have had beyond those that they had.
        self._owed = 0.0

    def __contains__(self, server: Server) -> bool:
        """Whether it starts slowly; it may be out."""
        return server in self._places

    def join(self, server: Server, now: float) -> None:
        """`server`, which starts slowly, is usable."""
        place = self._places.get(server)
        if place is None:
            place = self._places[server] = _Place(server, next(self._indexes))
            self._look_again(place, now)
        self._enter(place, server.weight * server.warmth(now))

    def leave(self, server: Server) -> None:
        """`server`, which is in, is not usable for now."""
        self._exit(self._places[server])

    def forget(self, server: Server) -> None:
        """`server`, which is out, starts slowly no more, if it did."""
        if self._places.pop(server, None) is not None and not self._places:
            self._clear()

    def step(self, now: float) -> list[Server]:
        """See how warm they are; those that were in and have their whole weight are let go."""
        warm: list[Server] = []
        looks = LOOKS
        while looks and self._steps and self._steps[0][0] <= now:
            place = heappop(self._steps)[2]
            looks -= 1
            if self._places.get(place.server) is place and self._look(place, now):
                warm.append(place.server)
        return warm

    def choose(self, tried: Collection[Server], weight: float) -> Server | None:
        """One that is not in `tried`; None if it is the method's turn, which has that weight, or 0 if it offers nobody."""
        # Who was tried before gains nothing meanwhile.
        skipped = [
            place for server in tried if (place := self._places.get(server)) is not None and place.item is not None
        ]
        for place in skipped:
            self._exit(place)
        chosen = self._next() if self._is_turn(weight) else None
        for place in skipped:
            self._enter(place, place.weight)
        return chosen

    def _look(self, place: _Place, now: float) -> bool:
        """Whether the place was in and is free now."""
        server, was_in = place.server, place.item is not None
        if was_in:
            self._exit(place)
        warmth = server.warmth(now)
        if warmth >= 1.0:
            self.forget(server)
            return was_in
        if was_in:
            self._enter(place, server.weight * warmth)
        self._look_again(place, now)
        return False

    def _look_again(self, place: _Place, now: float) -> None:
        heappush(self._steps, (now + place.server.spec.slow_start / 100, place.index, place))

    def _enter(self, place: _Place, weight: float) -> None:
        place.weight = weight
        place.item = (self._clock + place.left / weight, place.index, place)
        heappush(self._queue, place.item)
        self._weight += weight
        self.size += 1

    def _exit(self, place: _Place) -> None:
        assert place.item is not None, "it is in"
        place.left = (place.item[0] - self._clock) * place.weight
        place.item = None
        self._weight -= place.weight
        self.size -= 1
        if len(self._queue) > 2 * self.size + 16:
            self._queue = [item for item in self._queue if item[2].item is item]
            heapify(self._queue)

    def _is_turn(self, weight: float) -> bool:
        """Whether it is theirs and not the method's."""
        if not self.size or not weight:
            return self.size > 0
        self._owed += self._weight / (self._weight + weight)
        if self._owed < 0.5:
            return False
        self._owed -= 1.0
        return True

    def _next(self) -> Server:
        queue = self._queue
        while (place := queue[0][2]).item is not queue[0]:
            heappop(queue)
        self._clock = queue[0][0]
        place.item = (self._clock + 1.0 / place.weight, place.index, place)
        heapreplace(queue, place.item)
        return place.server
