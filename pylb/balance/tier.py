"""Which of the primaries, or of the backups, is next?

A tier is a balancing method and the servers that start slowly.  The method holds the usable servers that have their whole
weight.  A server that is warming up is not in its hands: it takes turns with the method (pylb.balance.warming).  In panic,
because too few are well, all of those that are to serve are usable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pylb.balance.methods import IBalancingMethod, IWatchesFailures, IWatchesLoad, IWatchesTime, Tools, make_method
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.balance.warming import Warming
from pylb.model import Balance

__all__ = ["Tier"]


class Tier:
    """The primaries or the backups of a pool."""

    __slots__ = (
        "_weight",
        "backup",
        "ejected",
        "failed",
        "load_changed",
        "measured",
        "method",
        "metric",
        "panics",
        "serving",
        "usable",
        "warming",
        "well",
    )

    def __init__(
        self, servers: Sequence[Server], backup: bool, balance: Balance, tools: Tools, before: Tier | None = None
    ) -> None:
        self.backup = backup
        mine = [server for server in servers if server.spec.backup is backup]
        method: Any = make_method(mine, balance, tools, before.method if before is not None else None)
        self.method: IBalancingMethod = method
        #: How many servers are usable, those that are warming up included.
        self.usable = 0
        #: Those that are to serve, those of them that are well, and all that are ejected.
        self.serving: set[Server] = set()
        self.well: set[Server] = set()
        self.ejected: set[Server] = set()
        #: Whether all that are to serve are used.
        self.panics: bool = before is not None and before.panics
        #: What the method wants to hear; None if it does not.
        self.load_changed = method.load_changed if IWatchesLoad.providedBy(method) else None
        self.failed = method.failed if IWatchesFailures.providedBy(method) else None
        self.measured = method.measured if IWatchesTime.providedBy(method) else None
        #: Which time it wants to hear; nothing if none.
        self.metric: str = method.metric if IWatchesTime.providedBy(method) else ""
        self.warming = Warming()
        #: Of the servers that the method holds.
        self._weight = 0

    def count(self, server: Server) -> None:
        """See whether `server` is to serve, and is well."""
        (self.serving.add if server.serves else self.serving.discard)(server)
        (self.well.add if server.well else self.well.discard)(server)
        (self.ejected.add if server.health.ejected else self.ejected.discard)(server)

    def short_of(self, percent: int) -> bool:
        """Whether fewer than so many percent are well."""
        return len(self.well) * 100 < len(self.serving) * percent

    def refresh(self, server: Server, now: float) -> None:
        """See whether `server` became usable or stopped being so."""
        usable = server.available(now, False, self.panics)
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
        if self.load_changed is not None and server not in self.warming:
            self.load_changed(server)

    def warm_up(self, server: Server, now: float) -> None:
        """Let `server` start slowly, from now on."""
        self._count_from(now, server, now)

    def set_back(self, server: Server, seconds: float, now: float) -> None:
        """Take so much back of the slow start of `server`, which is under way, but not more than has passed."""
        assert server.warming_since is not None, "it starts slowly"
        self._count_from(min(now, server.warming_since + seconds), server, now)

    def _count_from(self, since: float, server: Server, now: float) -> None:
        if server.usable:
            self._lose(server)
        server.warming_since = since
        if server.usable:
            self._take(server, now)

    def offers(self, tried: Collection[Server]) -> bool:
        """Whether a usable server is left beside those in `tried`."""
        return self.usable > sum(server.usable for server in tried if server.spec.backup is self.backup)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        """The next server; there must be one."""
        if self.warming.size and (warm := self._take_turns(tried, now)) is not None:
            return warm
        return self.method.choose(request, tried, now)

    def _take(self, server: Server, now: float) -> None:
        if server.warmth(now) < 1.0:
            self.warming.join(server, now)
            return
        self.warming.forget(server)
        server.warming_since = None
        self._weight += server.weight
        self.method.add(server)

    def _lose(self, server: Server) -> None:
        if server in self.warming:
            self.warming.leave(server)
        else:
            self._weight -= server.weight
            self.method.remove(server)

    def _take_turns(self, tried: Collection[Server], now: float) -> Server | None:
        """One that is warming up, or None if it is the method's turn."""
        for server in self.warming.step(now):
            self._take(server, now)
        if not self.warming.size:
            return None
        return self.warming.choose(tried, self._weight if self._method_offers(tried) else 0)

    def _method_offers(self, tried: Collection[Server]) -> bool:
        """Whether the method holds one that was not tried."""
        held = [server for server in tried if server.spec.backup is self.backup and server not in self.warming]
        return self.usable - self.warming.size > sum(server.usable for server in held)
