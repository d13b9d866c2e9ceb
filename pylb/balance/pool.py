"""Which server gets this request?

- Primaries serve while one of them is usable and was not tried before; else the backups, by the same method.
- Whoever uses a server holds a lease (pylb.balance.lease).
- The clock is read once for each `acquire` and each verdict.
- A session that belongs to a server (`sticky`) gets it while it can serve, also while it drains; else the method decides,
  or nobody does (`strict`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import inf
from random import Random

from pylb.balance.colleagues import Colleagues
from pylb.balance.health import CALM, NO_EPOCH
from pylb.balance.lease import Lease
from pylb.balance.members import Members
from pylb.balance.methods import Elsewhere, at_once
from pylb.balance.news import PoolObserver
from pylb.balance.queue import Place
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.balance.sticky import make_sticky
from pylb.balance.tier import Tier
from pylb.model import PoolSpec

__all__ = ["NoServerAvailable", "Pool", "PoolObserver", "make_pool"]

#: Seconds between two times at which it is told that a method breaks.
_BROKEN_AGAIN = 60.0


class NoServerAvailable(Exception):
    """No server of the pool can take this request now.

    `may_wait`: one could later, and there is room in the queue.
    """

    def __init__(self, reason: str, may_wait: bool = False) -> None:
        super().__init__(reason)
        self.may_wait = may_wait


class Pool(Members):
    """Servers, a balancing method and the backups, shared by every listener that names it."""

    def __init__(
        self,
        spec: PoolSpec,
        servers: Iterable[Server],
        clock: Callable[[], float],
        observer: PoolObserver | None = None,
        random: Random | None = None,
        elsewhere: Elsewhere = at_once,
        colleagues: Colleagues | None = None,
    ) -> None:
        #: Which server a session belongs to; None if none belongs to any.
        self.sticky = make_sticky(spec)
        self._strict = spec.sticky is not None and spec.sticky.strict
        #: Whether the method is somebody's own, and when it may be told that it breaks.
        self._is_own = spec.balance.own is not None
        self._tell_broken = -inf
        #: Leases of those that had tried other servers before, without a verdict yet.
        self.retries = 0
        #: Connections that are being made.
        self.pending = 0
        self._limits_retries = spec.max_retries > 0 or spec.retry_budget is not None
        self._refused_at = -inf
        self._refusing = False
        super().__init__(spec, servers, clock, observer, random or Random(), elsewhere, colleagues)

    def replace(self, servers: Iterable[Server]) -> None:
        super().replace(servers)
        if self.sticky is not None:
            self.sticky.use(self.servers)

    def acquire(self, request: Request | None = None, after: Lease | None = None, *, first: bool = False) -> Lease:
        """A lease of the server for `request`; after a failed try pass its lease, and its servers are left out.

        Raises NoServerAvailable when none is usable, or all that are were tried, or the one that the request belongs to
        cannot serve and no other may, or others wait for one, or no more retries are allowed, or the method breaks.  The
        first and the last are counted as refused, the first unless `after` has no verdict yet: its holder can go on with it;
        or there is room in the queue.  Those who wait there go before others; `first` is for them.
        """
        now = self._clock()
        if now > self._next_look:
            self._look(now)
        tried: tuple[Server, ...] = ()
        if after is not None:
            tried = (*after.tried, after.server)
            if self._limits_retries and not self._may_retry():
                raise NoServerAvailable(f"pool {self.name}: {self.retries} retries are under way already")
        elif self.queue and not first and not self._strict:
            raise self._refuse(now, None, first)
        bound = self.sticky.bound(request, now) if self.sticky is not None and request is not None else ()
        if bound and self._strict:
            return self._give(self._own(bound, tried, now, first), tried, now)
        for tier in self._tiers:
            server = self._bound(bound, tier, tried, now) if bound else None
            if server is not None:
                return self._give(server, tried, now)
            while tier.usable and (not tried or tier.offers(tried)):
                try:
                    server = tier.choose(request, tried, now)
                    if self._is_own and server not in self._tier_of:
                        raise TypeError(f"choose() returned {server!r}, which is no server of the pool")
                except Exception as error:
                    raise self._broken(error, now) from error
                if self._colleagues is None or self._has_room(server, now):
                    return self._give(server, tried, now)
        raise self._refuse(now, after, first)

    def serve_waiting(self) -> None:
        """Give those that wait their leases, as far as there are servers for them."""
        assert self.queue is not None
        for place in self.queue.in_order():
            try:
                lease = self.acquire(place.waiter, first=True)
            except NoServerAvailable:
                if self._strict:
                    continue  # It waits for its own server, and the next one may belong to another.
                break
            self.queue.leave(place)
            place.waiter.served(lease)

    def wait_ends(self, place: Place) -> NoServerAvailable:
        """Somebody has waited for too long."""
        assert self.queue is not None
        self.queue.leave(place)
        self.queue.timeouts += 1
        return self._turn_away(self._clock())

    def next_change(self) -> float | None:
        """In how many seconds time alone may bring a server back; None if it never does."""
        return None if self._next_look == inf else max(0.0, self._next_look - self._clock())

    def _bound(self, bound: Collection[Server], tier: Tier, tried: Collection[Server], now: float) -> Server | None:
        """The first of `bound` that is of this tier and can serve."""
        mine = [server for server in bound if server.spec.backup is tier.backup]
        return self._first_of(mine, tried, now)

    def _own(self, bound: Collection[Server], tried: Collection[Server], now: float, waits: bool) -> Server:
        """The first of `bound` that can serve, backup or not; nobody else will do."""
        server = self._first_of(bound, tried, now)
        if server is not None:
            return server
        states = ", ".join(f"{server.name} {server.state(now)}" for server in bound)
        reason = f"pool {self.name}: the session's own server {states}"
        if waits or (not tried and self._has_place()):
            raise NoServerAvailable(reason, may_wait=True)
        self.refused += not tried
        raise NoServerAvailable(reason)

    def _first_of(self, bound: Iterable[Server], tried: Collection[Server], now: float) -> Server | None:
        for server in bound:
            if server in tried or not self._has_room(server, now):
                continue
            if server.available(now, bound=True, panic=self._tier_of[server].panics):
                return server
        return None

    def _has_room(self, server: Server, now: float) -> bool:
        """Whether other workers have left room for a lease of `server`."""
        if server.spec.max_conns and self._colleagues is not None and self._colleagues.recount(self, server):
            self.load_changed(server, now)
        return not server.full

    def _give(self, server: Server, tried: tuple[Server, ...], now: float) -> Lease:
        lease = Lease(self, server, tried, now)
        if server.health.retry_at is not None:
            self._try_out(lease, now)
        if server.spec.max_conns:
            self._refresh(server, now)
        if self.watches_load and server.usable:
            self._tier_of[server].refresh_load(server)
        if self._refusing:
            self._see_calm(server, now)
        return lease

    def _settle(self, server: Server, now: float) -> None:
        super()._settle(server, now)
        if self._refusing and server.usable:
            self._see_calm(server, now)

    def _see_calm(self, server: Server, now: float) -> None:
        """This one serves: is nobody refused any more?"""
        if now - self._refused_at >= CALM and server.health.retry_at is None:
            self._refusing = False
            self._observer.pool_changed(self, True, f"{server.name} serves")

    def _try_out(self, lease: Lease, now: float) -> None:
        """A lease of an ejected server is a trial, or tells nothing if it is given before its time, in panic."""
        health = lease.server.health
        if health.allows(now):
            health.trial_started(now)
            self._settle(lease.server, now)
        else:
            lease.epoch = NO_EPOCH

    def _broken(self, error: Exception, now: float) -> NoServerAvailable:
        self.refused += 1
        if now >= self._tell_broken:
            self._tell_broken = now + _BROKEN_AGAIN
            self._observer.method_broke(self, error)
        return NoServerAvailable(f"pool {self.name}: its balancing method breaks: {error!r}")

    def _refuse(self, now: float, after: Lease | None, waits: bool) -> NoServerAvailable:
        if waits or (after is None and self._has_place()):
            return NoServerAvailable(f"pool {self.name}: no server is to be had now", may_wait=True)
        if after is not None and any(tier.usable for tier in self._tiers):
            return NoServerAvailable(f"pool {self.name}: every usable server was tried")
        if after is not None and not after.judged:
            return NoServerAvailable(f"pool {self.name}: no other server is usable")
        return self._turn_away(now)

    def _turn_away(self, now: float) -> NoServerAvailable:
        self.refused += 1
        self._refused_at = now
        reason = "no usable server: " + ", ".join(f"{server.name} {server.state(now)}" for server in self.servers[:10])
        if not self._refusing:
            self._refusing = True
            self._observer.pool_changed(self, False, reason)
        return NoServerAvailable(f"pool {self.name}: {reason}")

    def _has_place(self) -> bool:
        """Whether one more may wait; if there is a queue, and it is full, one has been too many."""
        if self.queue is None:
            return False
        self.queue.overflows += self.queue.full
        return not self.queue.full

    def _may_retry(self) -> bool:
        budget = self.spec.retry_budget
        if budget is None:
            return self.retries < self.spec.max_retries
        active = sum(server.held[0] for server in self.servers)
        return self.retries < max(budget.min_retries, active * budget.percent // 100)

    def bind(self, request: Request, server: Server) -> bool:
        """The session of `request` belongs to `server` from now on; whether that is news."""
        assert self.sticky is not None
        return server in self._tier_of and self.sticky.bind(request, server, self._clock())


def make_pool(
    spec: PoolSpec,
    clock: Callable[[], float],
    observer: PoolObserver | None = None,
    elsewhere: Elsewhere = at_once,
    colleagues: Colleagues | None = None,
) -> Pool:
    """A pool of the servers as they are written.

    A host name is one server that is missing until it has been looked up (pylb.proxy.resolve).
    """
    servers = [Server(server, missing=not server.address.is_literal) for server in spec.servers]
    return Pool(spec, servers, clock, observer, elsewhere=elsewhere, colleagues=colleagues)
