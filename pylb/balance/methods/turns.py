"""Whose turn is it, among servers that are level?

Smooth weighted round robin in nginx's order (ngx_http_upstream_get_peer): every server gains its weight, the largest sum
wins and pays what all gained together; weights 5, 1, 1 give a a b a c a a.

- A failure takes a `max_fails`th of its weight off what a server gains; each round that it takes part in gives 1 back.
- Servers that gain alike, now and in all the rounds to come, are a group, which gains as one; only the one that wins moves
  in it.  So a round costs the number of groups and the logarithm of the number of servers.  There are as many groups as
  weights; those of one weight that failed lately are, at worst, in as many groups more as the weight says.
- A server that is out keeps its sum and what it gains.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Generic, TypeVar

from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Group", "Seat", "Seated", "ServerSeat", "Turns", "WeightedTurns"]

#: Servers that are moved after one round because they have their weight again; one at most loses it meanwhile.
_MOVES = 2

S = TypeVar("S", bound="Seat")


class Seat:
    """Where one stands who takes turns."""

    __slots__ = ("group", "index", "item", "key")

    def __init__(self, index: int) -> None:
        #: Among equals the smallest is first; no two have the same.
        self.index = index
        #: nginx's `current`, less what the group has gained since; the value lasts while the seat is out.
        self.key = 0
        #: The one heap item that stands for this seat; None while it is out.
        self.item: tuple[int, int, Seat] | None = None
        #: Where it is, or was last.
        self.group: Group[Any]


class Group(Generic[S]):
    """Those that gain alike; there is one at least."""

    __slots__ = ("gain", "gained", "heap", "key", "size")

    def __init__(self, key: tuple[float, ...], gain: int) -> None:
        self.key = key
        #: What each of them gains in a round, and has gained in all of them.
        self.gain = gain
        self.gained = 0
        self.size = 0
        #: (-key, index, seat): the largest key first and, among equals, the first seat; some are out of date.
        self.heap: list[tuple[int, int, S]] = []

    def first(self) -> S:
        """The one that has most."""
        heap = self.heap
        while (seat := heap[0][2]).item is not heap[0]:
            heappop(heap)
        return seat


class Turns(Generic[S]):
    """Those that take turns."""

    __slots__ = ("groups", "size")

    def __init__(self) -> None:
        self.groups: dict[tuple[float, ...], Group[S]] = {}
        self.size = 0

    def enter(self, seat: S, key: tuple[float, ...], gain: int) -> Group[S]:
        """Let `seat` take part in the group of that key; if it is a new one, each there gains so much."""
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key, gain)
        seat.group = group
        seat.key -= group.gained
        seat.item = (-seat.key, seat.index, seat)
        heappush(group.heap, seat.item)
        group.size += 1
        self.size += 1
        return group

    def leave(self, seat: S) -> None:
        """Let `seat` take part no more."""
        group, item = seat.group, seat.item
        heap = group.heap
        seat.key += group.gained
        seat.item = None
        self.size -= 1
        group.size -= 1
        if not group.size:
            del self.groups[group.key]
        elif heap[0] is item:
            heappop(heap)
        elif len(heap) > 2 * group.size + 16:
            group.heap = [item for item in heap if item[2].item is item]
            heapify(group.heap)

    def next(self) -> S:
        """Play a round; who wins it."""
        best: S | None = None
        best_current = total = 0
        for group in self.groups.values():
            gain = group.gain
            group.gained = gained = group.gained + gain
            total += gain * group.size
            top = group.heap[0]
            seat = top[2] if top[2].item is top else group.first()
            current = seat.key + gained
            if best is None or current > best_current or (current == best_current and seat.index < best.index):
                best, best_current = seat, current
        assert best is not None, "choose() needs a usable server"
        best.key -= total
        best.item = (-best.key, best.index, best)
        heapreplace(best.group.heap, best.item)
        return best


class ServerSeat(Seat):
    """Where one server stands."""

    __slots__ = ("gain", "load", "server", "turns", "weight")

    def __init__(self, server: Server, index: int) -> None:
        super().__init__(index)
        self.server = server
        self.weight = server.weight
        #: nginx's `effective_weight` while the server is out; else it is the group's.
        self.gain = server.weight
        #: What made it level with the others, where that matters (pylb.balance.methods.level).
        self.load = 0
        #: Where it is, or was last.
        self.turns: WeightedTurns


class WeightedTurns(Turns[ServerSeat]):
    """Servers that take turns by weight."""

    __slots__ = ("rising", "rounds")

    def __init__(self) -> None:
        super().__init__()
        #: The groups of those that failed, until all of each have joined the others of their weight again.
        self.rising: dict[tuple[float, ...], Group[ServerSeat]] = {}
        #: How many rounds have given something back.
        self.rounds = 0

    def join(self, seat: ServerSeat) -> None:
        """Let `seat` take part, with those that gain what it gains."""
        seat.turns = self
        if seat.gain == seat.weight:
            self.enter(seat, (seat.weight, 0), seat.gain)
            return
        # Those of one weight that have it back after the same round gain alike in each round until then.
        key = (seat.weight, self.rounds + seat.weight - seat.gain)
        self.rising[key] = self.enter(seat, key, seat.gain)

    def quit(self, seat: ServerSeat) -> None:
        """Let `seat` take part no more; it remembers what it gained at last."""
        group = seat.group
        seat.gain = group.gain
        self.leave(seat)
        if not group.size:
            self.rising.pop(group.key, None)

    def recover(self) -> None:
        """After a round: let those that were weakened gain 1 more."""
        self.rounds += 1
        whole: Group[ServerSeat] | None = None
        for (weight, _), group in self.rising.items():
            if group.gain < weight:
                group.gain += 1
            else:
                whole = group
        if whole is not None:
            self._disperse(whole)

    def _disperse(self, group: Group[ServerSeat]) -> None:
        """Let some who have their weight again join those that never lost it."""
        for _ in range(min(_MOVES, group.size)):
            seat = group.first()
            self.quit(seat)
            self.join(seat)


class Seated:
    """What methods have in common whose servers take turns."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._seat_of = {server: ServerSeat(server, index) for index, server in enumerate(servers)}

    def add(self, server: Server) -> None:
        raise NotImplementedError

    def remove(self, server: Server) -> None:
        raise NotImplementedError

    def failed(self, server: Server) -> None:
        seat, max_fails = self._seat_of[server], server.health.max_fails
        # A slow start is penalty enough: its share must not shrink again at its end.
        if not max_fails or server.spec.slow_start:
            return
        takes_part = seat.item is not None
        if takes_part:
            seat.turns.quit(seat)
        seat.gain = max(0, seat.gain - seat.weight // max_fails)
        if takes_part:
            seat.turns.join(seat)

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
