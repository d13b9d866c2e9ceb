"""Whose turn is it?  By weight, in nginx's order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["RoundRobin"]


class _Turn:
    """Where one server stands in the round."""

    __slots__ = ("group", "index", "key", "server", "stamp")

    def __init__(self, server: Server, index: int, group: _Group) -> None:
        self.server = server
        self.index = index
        self.group = group
        #: nginx's `current`, less what the group has gained since; the value lasts while the server is out.
        self.key = 0
        #: The number of the one heap item that stands for this server; 0 is none.
        self.stamp = 0


class _Group:
    """The usable servers of one weight: each round adds that weight to all of them, so it is added once, here."""

    __slots__ = ("gained", "heap", "usable", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.gained = 0
        self.usable = 0
        #: (-key, index, stamp): the largest key first and, among equals, the first server.
        self.heap: list[tuple[int, int, int]] = []


@implementer(IBalancingMethod)
class RoundRobin:
    """Smooth weighted round robin in nginx's order.

    nginx adds to every server its weight, picks the largest sum and takes the total off it; weights 5, 1, 1 give
    a a b a c a a (ngx_http_upstream_get_peer).  Servers of equal weight gain alike, so only the picked one moves among
    them: a heap for each distinct weight, with what the group has gained kept apart, gives the same order at the cost
    of the number of distinct weights and the logarithm of that of servers.

    nginx lowers the weight of a server that failed for some rounds; here the pause alone is what a failure costs.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._groups: dict[int, _Group] = {}
        self._turns: list[_Turn] = []
        self._turn_of: dict[Server, _Turn] = {}
        self._total = 0
        self._stamp = 0
        for index, server in enumerate(servers):
            group = self._groups.setdefault(server.weight, _Group(server.weight))
            turn = _Turn(server, index, group)
            self._turns.append(turn)
            self._turn_of[server] = turn

    def add(self, server: Server) -> None:
        turn = self._turn_of[server]
        group = turn.group
        self._stamp = turn.stamp = self._stamp + 1
        turn.key -= group.gained
        heappush(group.heap, (-turn.key, turn.index, turn.stamp))
        group.usable += 1
        self._total += group.weight

    def remove(self, server: Server) -> None:
        turn = self._turn_of[server]
        group = turn.group
        turn.stamp = 0
        turn.key += group.gained
        group.usable -= 1
        self._total -= group.weight
        if len(group.heap) > 2 * group.usable + 16:
            self._sweep(group)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        if not tried:
            return self._next()
        # As in nginx a server that was tried before gains nothing from this round.
        skipped = [server for server in tried if server in self._turn_of and self._turn_of[server].stamp]
        for server in skipped:
            self.remove(server)
        chosen = self._next()
        for server in skipped:
            self.add(server)
        return chosen

    def _next(self) -> Server:
        turns = self._turns
        best: _Group | None = None
        best_current = best_index = 0
        for group in self._groups.values():
            if not group.usable:
                continue
            group.gained += group.weight
            heap = group.heap
            while turns[heap[0][1]].stamp != heap[0][2]:
                heappop(heap)
            key, index, _ = heap[0]
            current = group.gained - key
            if best is None or current > best_current or (current == best_current and index < best_index):
                best, best_current, best_index = group, current, index
        assert best is not None, "choose() needs a usable server"
        turn = turns[best_index]
        turn.key -= self._total
        heapreplace(best.heap, (-turn.key, best_index, turn.stamp))
        return turn.server

    def _sweep(self, group: _Group) -> None:
        group.heap = [item for item in group.heap if self._turns[item[1]].stamp == item[2]]
        heapify(group.heap)
