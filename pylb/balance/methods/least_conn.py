"""Who has the least to do, for its weight?

- The smallest `active / weight` wins, compared exactly.
- Among equals smooth weighted round robin decides, as in nginx (ngx_http_upstream_least_conn_module.c): those that are
  level gain their weight, the largest sum wins and pays the total; who is not level neither gains nor pays.

Servers of one weight and one `active` are always level with each other: they are a group, which gains as one.  So a
choice costs the number of distinct weights, and a change of load the logarithm of the number of servers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush
from math import lcm

from zope.interface import implementer

from pylb.balance.methods.interface import IWatchesLoad
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["LeastConn"]


class _Seat:
    """Where one server stands."""

    __slots__ = ("group", "index", "item", "key", "row", "server")

    def __init__(self, server: Server, index: int, row: _Row) -> None:
        self.server = server
        self.index = index
        self.row = row
        #: Where it belongs; there is none while the server is not usable.
        self.group: _Group
        #: nginx's `current`, less what the group has gained since; the value lasts while the server is in no group.
        self.key = 0
        #: The one heap item that stands for this server; None while it is not usable.
        self.item: tuple[int, int, _Seat] | None = None


class _Group:
    """The usable servers of one weight that have the same number of leases."""

    __slots__ = ("active", "gained", "heap", "load", "size", "weight")

    def __init__(self, active: int, row: _Row) -> None:
        self.active = active
        self.weight = row.weight
        self.load = active * row.unit
        self.size = 0
        self.gained = 0
        #: (-key, index, seat): the largest key first and, among equals, the first server; some are out of date.
        self.heap: list[tuple[int, int, _Seat]] = []

    def first(self) -> _Seat:
        """Whose turn it is among them."""
        heap = self.heap
        while (seat := heap[0][2]).item is not heap[0]:
            heappop(heap)
        return seat


class _Row:
    """The groups of one weight, by their number of leases."""

    __slots__ = ("groups", "least", "queue", "size", "unit", "weight")

    def __init__(self, weight: int, unit: int) -> None:
        self.weight = weight
        #: What one lease adds to the load, so that loads are whole numbers.
        self.unit = unit
        self.size = 0
        self.groups: dict[int, _Group] = {}
        #: A heap of the keys of `groups`.  A group that is empty stays until it comes up.
        self.queue: list[int] = []
        #: The group with the fewest leases; None if no server is usable.
        self.least: _Group | None = None

    def open(self, active: int) -> _Group:
        """A new group."""
        if len(self.queue) > 2 * self.size + 16:
            self.groups = {active: group for active, group in self.groups.items() if group.size}
            self.queue = sorted(self.groups)
        group = self.groups[active] = _Group(active, self)
        heappush(self.queue, active)
        return group

    def find_least(self) -> None:
        """Look for it among the groups, and forget the empty ones that come up."""
        queue, groups = self.queue, self.groups
        while queue and not groups[queue[0]].size:
            del groups[heappop(queue)]
        self.least = groups[queue[0]] if queue else None


@implementer(IWatchesLoad)
class LeastConn:
    """Least connections in nginx's order."""

    def __init__(self, servers: Sequence[Server]) -> None:
        whole = lcm(*(server.weight for server in servers))
        rows = {weight: _Row(weight, whole // weight) for weight in sorted({server.weight for server in servers})}
        self._rows = list(rows.values())
        self._seat_of = {server: _Seat(server, index, rows[server.weight]) for index, server in enumerate(servers)}

    def add(self, server: Server) -> None:
        seat = self._seat_of[server]
        seat.row.size += 1
        self._join(seat, server.active)

    def remove(self, server: Server) -> None:
        seat = self._seat_of[server]
        seat.row.size -= 1
        self._leave(seat)

    def load_changed(self, server: Server) -> None:
        seat = self._seat_of[server]
        self._leave(seat)
        self._join(seat, server.active)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        if not tried:
            return self._next()
        # As in nginx a server that was tried before is not among the equals.
        skipped = [server for server in tried if server in self._seat_of and self._seat_of[server].item]
        for server in skipped:
            self.remove(server)
        chosen = self._next()
        for server in skipped:
            self.add(server)
        return chosen

    def _join(self, seat: _Seat, active: int) -> None:
        row = seat.row
        group = row.groups.get(active) or row.open(active)
        seat.group = group
        seat.key -= group.gained
        seat.item = (-seat.key, seat.index, seat)
        heappush(group.heap, seat.item)
        group.size += 1
        if row.least is None or active < row.least.active:
            row.least = group

    def _leave(self, seat: _Seat) -> None:
        group, heap = seat.group, seat.group.heap
        seat.key += group.gained
        group.size -= 1
        if heap[0] is seat.item:
            heappop(heap)
        elif len(heap) > 2 * group.size + 16:
            group.heap = [item for item in heap if item[2].item is item and item[2] is not seat]
            heapify(group.heap)
        seat.item = None
        if not group.size:
            heap.clear()
            if group is seat.row.least:
                seat.row.find_least()

    def _next(self) -> Server:
        level: list[_Group] = []
        load = 0
        for row in self._rows:
            group = row.least
            if group is None:
                continue
            if not level or group.load < load:
                level = [group]
                load = group.load
            elif group.load == load:
                level.append(group)
        return _take_turns(level)


def _take_turns(level: list[_Group]) -> Server:
    """One round of nginx's smooth weighted round robin among groups that are level."""
    total = best_current = 0
    best: _Seat | None = None
    for group in level:
        weight = group.weight
        group.gained += weight
        total += weight * group.size
        seat = group.first()
        current = seat.key + group.gained
        if best is None or current > best_current or (current == best_current and seat.index < best.index):
            best, best_current = seat, current
    assert best is not None, "choose() needs a usable server"
    # Its item stays where it is: the load of the chosen one changes now, and then it leaves the group.
    best.key -= total
    return best.server
