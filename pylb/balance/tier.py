"""Which of the primaries, or of the backups, is next?

A tier is a balancing method and the servers that start slowly.  The method holds the usable servers that have their whole
weight.  A server that is warming up is not in its hands: it takes turns with the method, each with the weight that it has
now (smooth weighted round robin, as in pylb.balance.methods.round_robin), so that its share grows in a straight line,
whichever the method is, and comes round however many the others are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pylb.balance.methods import IBalancingMethod, IWatchesFailures, IWatchesLoad, IWatchesTime, Tools, make_method
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = ["Tier"]


class Tier:
    """The primaries or the backups of a pool."""

    __slots__ = ("_sums", "_weight", "backup", "failed", "load_changed", "measured", "method", "metric", "usable")

    def __init__(
        self, servers: Sequence[Server], backup: bool, balance: Balance, tools: Tools, before: Tier | None = None
    ) -> None:
        self.backup = backup
        mine = [server for server in servers if server.spec.backup is backup]
        method: Any = make_method(mine, balance, tools, before.method if before is not None else None)
        self.method: IBalancingMethod = method
        #: How many servers are usable, those that are warming up included.
        self.usable = 0
        #: What the method wants to hear; None if it does not.
        self.load_changed = method.load_changed if IWatchesLoad.providedBy(method) else None
        self.failed = method.failed if IWatchesFailures.providedBy(method) else None
        self.measured = method.measured if IWatchesTime.providedBy(method) else None
        #: Which time it wants to hear; nothing if none.
        self.metric: str = method.metric if IWatchesTime.providedBy(method) else ""
        #: Of those that are warming up: what they have gained so far; and of the method, under None.
        self._sums: dict[Server | None, float] = {}
        #: Of the servers that the method holds.
        self._weight = 0

    def refresh(self, server: Server, now: float) -> None:
        """See whether `server` became usable or stopped being so."""
        usable = server.available(now)
        if usable is server.usable:
            return
        server.usable = usable
        if usable:
            self.usable += 1
            self._take(server, now)
        else:
            self.usable -= 1
            self._lose(server)

    def refresh_load(self, server: Server) -> None:
        """The number of leases of `server`, which is usable, changed."""
        if self.load_changed is not None and server not in self._sums:
            self.load_changed(server)

    def warm_up(self, server: Server, now: float) -> None:
        """Let `server` start slowly, from now on."""
        server.warming_since = now
        if server.usable and server not in self._sums:
            self._weight -= server.weight
            self.method.remove(server)
            self._take(server, now)

    def offers(self, tried: Collection[Server]) -> bool:
        """Whether a usable server is left beside those in `tried`."""
        return self.usable > sum(server.usable for server in tried if server.spec.backup is self.backup)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        """The next server; there must be one."""
        if self._sums:
            self._graduate(now)
        warm = self._take_turns(tried, now) if self._sums else None
        return warm or self.method.choose(request, tried, now)

    def _take(self, server: Server, now: float) -> None:
        if server.warmth(now) < 1.0:
            self._sums.setdefault(None, 0.0)
            self._sums.setdefault(server, 0.0)
            return
        self._sums.pop(server, None)
        server.warming_since = None
        self._weight += server.weight
        self.method.add(server)

    def _lose(self, server: Server) -> None:
        """What one that is warming up has gained or owes is kept: it may only be full for a moment."""
        if server not in self._sums:
            self._weight -= server.weight
            self.method.remove(server)

    def _graduate(self, now: float) -> None:
        """Give those to the method that have their whole weight by now."""
        for server in [server for server in self._sums if server is not None and server.warmth(now) >= 1.0]:
            del self._sums[server]
            if server.usable:
                self._take(server, now)
        if len(self._sums) == 1:
            self._sums.clear()

    def _take_turns(self, tried: Collection[Server], now: float) -> Server | None:
        """One that is warming up, or None if it is the method's turn."""
        sums = self._sums
        warm = [server for server in sums if server is not None and server.usable]
        weights: dict[Server | None, float] = {
            server: server.weight * server.warmth(now) for server in warm if server not in tried
        }
        if self._method_offers(tried, len(warm)):
            weights[None] = self._weight
        for taker, weight in weights.items():
            sums[taker] += weight
        best = max(weights, key=sums.__getitem__)
        sums[best] -= sum(weights.values())
        return best

    def _method_offers(self, tried: Collection[Server], warm: int) -> bool:
        """Whether the method holds one that was not tried, of the usable servers less those that are `warm`ing up."""
        held = [server for server in tried if server.spec.backup is self.backup and server not in self._sums]
        return self.usable - warm > sum(server.usable for server in held)
