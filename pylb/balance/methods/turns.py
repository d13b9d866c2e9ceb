"""Whose turn is it, among servers that are level?

Smooth weighted round robin in nginx's order (ngx_http_upstream_get_peer): every server gains its weight, the largest sum
wins and pays what all gained together; weights 5, 1, 1 give a a b a c a a.

- A failure takes a `max_fails`th of its weight off what a server gains; each round that it takes part in gives 1 back.
- Servers that gain alike are a group, which gains as one; only the one that wins moves in it.  So a round costs the
  number of distinct gains and the logarithm of the number of servers.
- A server that is out keeps its sum and what it gains.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Seat", "Seated", "Turns"]


class Seat:
    """Where one server stands."""

    __slots__ = ("gain", "group", "index", "item", "key", "load", "server", "weight")

    def __init__(self, server: Server, index: int) -> None:
        self.server = server
        self.index = index
        self.weight = server.weight
        #: nginx's `effective_weight`.
        self.gain = server.weight
        #: nginx's `current`, less what the group has gained since; the value lasts while the server is out.
        self.key = 0
        #: The one heap item that stands for this server; None while it is out.
        self.item: tuple[int, int, Seat] | None = None
        #: What made it level with the others, where that matters (pylb.balance.methods.level).
        self.load = 0
        #: Where it is, or was last.
        self.group: _Group


class _Group:
    """Servers that gain alike."""

    __slots__ = ("gain", "gained", "heap", "turns")

    def __init__(self, gain: int, turns: Turns) -> None:
        self.gain = gain
        self.turns = turns
        self.gained = 0
        #: (-key, index, seat): the largest key first and, among equals, the first server; some are out of date.
        self.heap: list[tuple[int, int, Seat]] = []


class Turns:
    """Servers that take turns."""

    __slots__ = ("groups", "size", "total", "weakened")

    def __init__(self) -> None:
        #: By what they gain.
        self.groups: dict[int, _Group] = {}
        #: How many they are, and what they gain together in a round.
        self.size = 0
        self.total = 0
        #: Those that gain less than their weight.
        self.weakened: set[Seat] = set()

    def join(self, seat: Seat) -> None:
        gain = seat.gain
        group = self.groups.get(gain)
        if group is None:
            group = self.groups[gain] = _Group(gain, self)
        seat.group = group
        seat.key -= group.gained
        seat.item = (-seat.key, seat.index, seat)
        heappush(group.heap, seat.item)
        self.size += 1
        self.total += gain
        if gain != seat.weight:
            self.weakened.add(seat)

    def leave(self, seat: Seat) -> None:
        group, item = seat.group, seat.item
        heap = group.heap
        seat.key += group.gained
        seat.item = None
        self.size -= 1
        self.total -= seat.gain
        if heap[0] is item:
            heappop(heap)
        elif len(heap) > 2 * self.size + 16:
            group.heap = [item for item in heap if item[2].item is item]
            heapify(group.heap)
        if self.weakened:
            self._forget(seat)

    def _forget(self, seat: Seat) -> None:
        self.weakened.discard(seat)
        self.groups = {
            gain: group for gain, group in self.groups.items() if any(item[2].item is item for item in group.heap)
        }

    def next(self) -> Server:
        """Play a round."""
        best: Seat | None = None
        best_current = 0
        for group in self.groups.values():
            group.gained = gained = group.gained + group.gain
            heap = group.heap
            while heap and (seat := heap[0][2]).item is not heap[0]:
                heappop(heap)
            if not heap:
                continue
            current = seat.key + gained
            if best is None or current > best_current or (current == best_current and seat.index < best.index):
                best, best_current = seat, current
        assert best is not None, "choose() needs a usable server"
        best.key -= self.total
        best.item = (-best.key, best.index, best)
        heapreplace(best.group.heap, best.item)
        return best.server

    def recover(self) -> None:
        """After a round: let those that were weakened gain 1 more."""
        for seat in list(self.weakened):
            self.regain(seat, seat.gain + 1)

    def regain(self, seat: Seat, gain: int) -> None:
        """Let `seat` gain so much from now on."""
        self.leave(seat)
        seat.gain = gain
        self.join(seat)


class Seated:
    """What methods have in common whose servers take turns."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._seat_of = {server: Seat(server, index) for index, server in enumerate(servers)}

    def add(self, server: Server) -> None:
        raise NotImplementedError

    def remove(self, server: Server) -> None:
        raise NotImplementedError

    def failed(self, server: Server) -> None:
        seat, max_fails = self._seat_of[server], server.health.max_fails
        # A slow start is penalty enough: its share must not shrink again at its end.
        if not max_fails or server.spec.slow_start:
            return
        gain = max(0, seat.gain - seat.weight // max_fails)
        if seat.item is None:
            seat.gain = gain
        else:
            seat.group.turns.regain(seat, gain)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        if not tried:
            return self._next(now)
        # As in nginx a server that was tried before gains nothing from this round.
        skipped = [server for server in tried if server in self._seat_of and self._seat_of[server].item]
        for server in skipped:
            self.remove(server)
        chosen = self._next(now)
        for server in skipped:
            self.add(server)
        return chosen

    def _next(self, now: float) -> Server:
        raise NotImplementedError
