"""Who is quick and has little to do, for its weight?

The smallest `milliseconds * (1 + active) / weight` wins; those that are level take turns, as in nginx
(ngx_http_upstream_least_time_module.c).  pylb.balance.methods.pace knows the milliseconds.

They change as time passes.  A heap knows when, one item for each server: whose moment has come is looked at before the next
choice; more than LOOKS have to wait for the one after.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import inf

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod, IWatchesFailures, IWatchesLoad, IWatchesTime
from pylb.balance.methods.level import LeastLoaded
from pylb.balance.methods.pace import make_paces
from pylb.balance.methods.turns import ServerSeat
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = ["LOOKS", "LeastTime"]

#: Servers that are looked at before one choice because time has passed.
LOOKS = 16


@implementer(IWatchesLoad, IWatchesFailures, IWatchesTime)
class LeastTime(LeastLoaded):
    """Least time in nginx's order; the times of `before`, the method that this one takes the place of, still count."""

    def __init__(self, servers: Sequence[Server], balance: Balance, before: IBalancingMethod | None = None) -> None:
        super().__init__(servers)
        self.metric = balance.metric or ""
        self.paces = make_paces(servers, balance.inflight, before)
        #: (when, index, server): when to look at a server again; some are out of date.
        self._due: list[tuple[float, int, Server]] = []
        #: For each server the moment in its one item that is not out of date, if there is one.
        self._awaited: dict[Server, float] = {}

    def measured(self, server: Server, seconds: float, now: float) -> None:
        self.paces[server].measured(seconds)
        self._look_at(self._seat_of[server])

    def failed(self, server: Server) -> None:
        super().failed(server)
        self.paces[server].failed()
        self._look_at(self._seat_of[server])

    def _look_at(self, seat: ServerSeat) -> None:
        if seat.item is not None:
            self._changed.add(seat.server)

    def _load(self, seat: ServerSeat, now: float) -> int:
        server = seat.server
        pace = self.paces[server]
        time = pace.milliseconds(now)
        if pace.until < self._awaited.get(server, inf):
            self._await(seat, pace.until)
        return time * (1 + server.active) * self._units[seat.weight]

    def _await(self, seat: ServerSeat, moment: float) -> None:
        """Look again at that moment."""
        self._awaited[seat.server] = moment
        heappush(self._due, (moment, seat.index, seat.server))
        if len(self._due) > 2 * self._size + 16:
            self._due = [item for item in self._due if self._awaited.get(item[2]) == item[0]]
            heapify(self._due)

    def _look_again(self, now: float) -> None:
        due, looks = self._due, LOOKS
        while due and due[0][0] <= now and looks:
            moment, _, server = heappop(due)
            if self._awaited.get(server) == moment:
                looks -= 1
                del self._awaited[server]
                self._look_at(self._seat_of[server])

    def _next(self, now: float) -> Server:
        if self._due and self._due[0][0] <= now:
            self._look_again(now)
        server = super()._next(now)
        if self.paces[server].chosen(now):
            self._changed.add(server)
        return server
