"""Which server gets this request, and what came of it?

- Primaries serve while one of them is usable and was not tried before; else the backups, by the same method.
- Whoever uses a server holds a lease: at most one verdict, exactly one release.
- The clock is read once for each `acquire` and each verdict.
- Nothing is filtered at a request.  A method holds the servers that are usable; the pool tells it of each change, and
  looks at what time alone brings back when that time has come.
- A lone server is never ejected: there is nobody else to ask (nginx's rule).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Protocol

from pylb.balance.health import CALM, Change
from pylb.balance.methods import METHODS, IWatchesLoad, Tools
from pylb.balance.request import Request, compile_key, network
from pylb.balance.server import Server
from pylb.model import Balance, PoolSpec

__all__ = ["Lease", "NoServerAvailable", "Pool", "PoolObserver", "make_pool"]


class NoServerAvailable(Exception):
    """No server of the pool can take this request now."""


class PoolObserver(Protocol):
    """Hears of changes of fortune, not of requests."""

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None:
        """A server was ejected or recovered, or one that is never ejected began to fail."""

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None:
        """The pool refused somebody for the first time, or serves again."""


class Unobserved:
    """The observer of a pool that nobody watches."""

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None: ...

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None: ...


class Lease:
    """What somebody holds while using a server.

    Give at most one verdict and then release; further calls do nothing, whatever their order.
    """

    __slots__ = ("_epoch", "_judged", "_picked", "_pool", "_released", "server", "tried")

    def __init__(self, pool: Pool, server: Server, tried: tuple[Server, ...], now: float) -> None:
        self.server = server
        #: The servers that were tried for this request before.
        self.tried = tried
        self._pool = pool
        self._epoch = server.health.epoch
        self._picked = now
        self._judged = False
        self._released = False

    def succeeded(self) -> None:
        """The server did what it was asked."""
        if not self._judged and not self._released:
            self._judged = True
            if self.server.health.fails:
                self._pool._succeeded(self.server, self._epoch, self._picked)

    def failed(self, reason: str) -> None:
        """The server did not; `reason` is for the log."""
        if not self._judged and not self._released:
            self._judged = True
            self.server.failures += 1
            self._pool._failed(self.server, self._epoch, reason)

    def release(self) -> None:
        """The server is not used any more."""
        if self._released:
            return
        self._released = True
        server = self.server
        server.active -= 1
        if server.health.retry_at is not None and not self._judged:
            server.health.abandoned(self._epoch, self._picked)
        if not server.usable:
            self._pool._released(server)
        elif self._pool._watches_load:
            self._pool._tier_of[server].load_changed(server)

    def __repr__(self) -> str:
        return f"<Lease of {self.server.name}{', released' if self._released else ''}>"


def _ignore(server: Server) -> None:
    """What a method that does not watch the load does about it."""


class _Tier:
    """The primaries or the backups: a method and how many of its servers are usable."""

    __slots__ = ("backup", "load_changed", "method", "usable", "watches_load")

    def __init__(self, servers: Sequence[Server], backup: bool, balance: Balance, tools: Tools) -> None:
        self.backup = backup
        mine = [server for server in servers if server.spec.backup is backup]
        self.method = METHODS[balance.method](mine, balance, tools)
        self.watches_load = IWatchesLoad.providedBy(self.method)
        #: To be called, if the method watches the load, when that of a usable server changed.
        self.load_changed: Callable[[Server], None] = (
            IWatchesLoad(self.method).load_changed if self.watches_load else _ignore
        )
        self.usable = 0

    def refresh(self, server: Server, now: float) -> None:
        """Tell the method if `server` became usable or stopped being so."""
        usable = server.available(now)
        if usable is server.usable:
            return
        server.usable = usable
        if usable:
            self.usable += 1
            self.method.add(server)
        else:
            self.usable -= 1
            self.method.remove(server)

    def offers(self, tried: Collection[Server]) -> bool:
        """Whether a usable server is left beside those in `tried`."""
        return self.usable > sum(server.usable for server in tried if server.spec.backup is self.backup)


class Pool:
    """Servers, a balancing method and the backups, shared by every listener that names it."""

    def __init__(
        self,
        spec: PoolSpec,
        servers: Iterable[Server],
        clock: Callable[[], float],
        observer: PoolObserver | None = None,
        random: Random | None = None,
    ) -> None:
        self.name = spec.name
        self.spec = spec
        self.servers: list[Server] = []
        #: Requests, connections and datagrams that came to a pool without a usable server.
        self.refused = 0
        self._clock = clock
        self._observer: PoolObserver = observer or Unobserved()
        self._tools = Tools(random=random or Random(), key=compile_key(spec.balance.key), address=network)
        self._tiers: tuple[_Tier, ...] = ()
        #: Whether the methods want to know of each change of load.
        self._watches_load = False
        self._tier_of: dict[Server, _Tier] = {}
        #: (when, number, server): when to look at an ejected server again; one entry for each of `_awaited`.
        self._returns: list[tuple[float, int, Server]] = []
        self._awaited: set[Server] = set()
        self._next_return = inf
        self._numbers = 0
        self._refused_at = -inf
        self._refusing = False
        self.replace(servers)

    def replace(self, servers: Iterable[Server]) -> None:
        """Serve from `servers` from now on; those that stay keep their state, leases of those that go stay valid."""
        for server in self.servers:
            server.usable = False
        self.servers = list(servers)
        primaries, backups = (_Tier(self.servers, backup, self.spec.balance, self._tools) for backup in (False, True))
        self._tiers = (primaries, backups)
        self._watches_load = primaries.watches_load
        self._tier_of = {server: backups if server.spec.backup else primaries for server in self.servers}
        self._returns = []
        self._awaited = set()
        self._next_return = inf
        lone = len(self.servers) == 1
        now = self._clock()
        for server in self.servers:
            health, limit = server.health, 0 if lone else server.spec.max_fails
            changed, health.max_fails = limit != health.max_fails, limit
            self._settle(server, now)
            if changed:
                self._judged(server, health.forgive(), "no other server is left", now)

    def acquire(self, request: Request | None = None, after: Lease | None = None) -> Lease:
        """A lease of the server for `request`; after a failed try pass its lease, and its servers are left out.

        Raises NoServerAvailable when none is usable, or all that are were tried.  The first is counted as refused, unless
        `after` has no verdict yet: its holder can go on with it.
        """
        now = self._clock()
        if now > self._next_return:
            self._bring_back(now)
        tried = () if after is None else (*after.tried, after.server)
        for tier in self._tiers:
            if tier.usable and (not tried or tier.offers(tried)):
                return self._give(tier.method.choose(request, tried), tried, now)
        raise self._refuse(now, after)

    def _give(self, server: Server, tried: tuple[Server, ...], now: float) -> Lease:
        lease = Lease(self, server, tried, now)
        server.active += 1
        server.picked += 1
        if server.health.retry_at is not None:
            server.health.trial_started(now)
            self._settle(server, now)
        else:
            if server.spec.max_conns:
                self._refresh(server, now)
            if self._watches_load and server.usable:
                self._tier_of[server].load_changed(server)
            if self._refusing and now - self._refused_at >= CALM:
                self._refusing = False
                self._observer.pool_changed(self, True, f"{server.name} serves")
        return lease

    def _refuse(self, now: float, after: Lease | None) -> NoServerAvailable:
        if any(tier.usable for tier in self._tiers):
            return NoServerAvailable(f"pool {self.name}: every usable server was tried")
        if after is not None and not after._judged:
            return NoServerAvailable(f"pool {self.name}: no other server is usable")
        self.refused += 1
        self._refused_at = now
        reason = "no usable server: " + ", ".join(f"{server.name} {server.state(now)}" for server in self.servers[:10])
        if not self._refusing:
            self._refusing = True
            self._observer.pool_changed(self, False, reason)
        return NoServerAvailable(f"pool {self.name}: {reason}")

    def _failed(self, server: Server, epoch: int, reason: str) -> None:
        now = self._clock()
        self._judged(server, server.health.failed(epoch, now), reason, now)

    def _succeeded(self, server: Server, epoch: int, picked: float) -> None:
        self._judged(server, server.health.succeeded(epoch, picked), "a request succeeded", self._clock())

    def _judged(self, server: Server, change: Change, reason: str, now: float) -> None:
        if change is Change.NOTHING or server not in self._tier_of:
            return
        self._settle(server, now)
        if change is not Change.EXTENDED:
            self._observer.server_changed(self, server, change, reason)

    def _released(self, server: Server) -> None:
        self._refresh(server, self._clock())

    def _refresh(self, server: Server, now: float) -> None:
        """Tell the method of a change.  A server that has left the pool is nobody's."""
        tier = self._tier_of.get(server)
        if tier is not None:
            tier.refresh(server, now)

    def _settle(self, server: Server, now: float) -> None:
        """Tell the method of a change, and remember when the server may be tried again."""
        self._refresh(server, now)
        due = server.health.retry_at
        if due is not None and now <= due and server not in self._awaited:
            self._awaited.add(server)
            self._numbers += 1
            heappush(self._returns, (due, self._numbers, server))
            self._next_return = self._returns[0][0]

    def _bring_back(self, now: float) -> None:
        """Look at every server whose time has come; whose pause was extended meanwhile is looked at again later."""
        while self._returns and now > self._returns[0][0]:
            server = heappop(self._returns)[2]
            self._awaited.remove(server)
            self._settle(server, now)
        self._next_return = self._returns[0][0] if self._returns else inf

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {sum(tier.usable for tier in self._tiers)} of {len(self.servers)} usable>"


def make_pool(spec: PoolSpec, clock: Callable[[], float], observer: PoolObserver | None = None) -> Pool:
    """A pool of the servers as they are written.  A host name is down until it has been looked up (pylb.proxy.resolve)."""
    return Pool(spec, [Server(server, down=not server.address.is_literal) for server in spec.servers], clock, observer)
