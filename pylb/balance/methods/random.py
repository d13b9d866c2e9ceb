"""Which server does the dice say, weighted?

Draws that hit a server that is not usable are repeated; when more than TRIES were in vain, round robin decides, as in
nginx (ngx_http_upstream_random_module.c).  nginx counts the draws of all tries of a request, here each try has its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from random import Random

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod, IWatchesFailures, IWatchesTime
from pylb.balance.methods.pace import make_paces
from pylb.balance.methods.standby import TRIES, Slots
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = ["RandomOne", "RandomTwo", "RandomTwoByTime"]


class _Drawn(Slots):
    """Slots that are drawn."""

    def __init__(self, servers: Sequence[Server], random: Random) -> None:
        super().__init__(servers)
        self._random = random.random

    def _draw(self) -> Server:
        return self._servers[bisect_right(self._ends, self._random() * self._total)]


@implementer(IWatchesFailures)
class RandomOne(_Drawn):
    """`random`."""

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        for _ in range(TRIES + 1):
            server = self._draw()
            if server in self._usable and server not in tried:
                return server
        return self._turns.choose(request, tried, now)


@implementer(IWatchesFailures)
class RandomTwo(_Drawn):
    """`random two`: of two different servers the one with fewer leases for its weight.

    Of two that are level the one drawn second wins, as in nginx: so idle servers' shares are more even than their weights.
    """

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        first: Server | None = None
        misses = 0
        while misses <= TRIES:
            server = self._draw()
            if server is first or server not in self._usable or server in tried:
                misses += 1
            elif first is None:
                first = server
            else:
                return self._better(first, server, now)
        return self._turns.choose(request, tried, now)

    def _better(self, first: Server, second: Server, now: float) -> Server:
        return second if second.active * first.weight <= first.active * second.weight else first


@implementer(IWatchesTime)
class RandomTwoByTime(RandomTwo):
    """`random two least_time`: of two different servers the one that least_time would take."""

    def __init__(
        self, servers: Sequence[Server], random: Random, balance: Balance, before: IBalancingMethod | None = None
    ) -> None:
        super().__init__(servers, random)
        self.metric = balance.metric or ""
        self.paces = make_paces(servers, balance.inflight, before)

    def measured(self, server: Server, seconds: float, now: float) -> None:
        self.paces[server].measured(seconds)

    def failed(self, server: Server) -> None:
        super().failed(server)
        self.paces[server].failed()

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        server = super().choose(request, tried, now)
        self.paces[server].chosen(now)
        return server

    def _better(self, first: Server, second: Server, now: float) -> Server:
        one = self.paces[first].milliseconds(now) * (1 + first.active)
        other = self.paces[second].milliseconds(now) * (1 + second.active)
        return second if other * first.weight <= one * second.weight else first
