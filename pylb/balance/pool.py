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
from pylb.balance.queue import Place, Queue
from pylb.balance.request import Request
from pylb.balance.server import Server
from pylb.balance.sticky import Sticky, make_sticky
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
        self.sticky: Sticky | None = None
        #: When it may be told that somebody's own method breaks.
        self._tell_broken = -inf
        #: Leases of those that had tried other servers before, without a verdict yet.
        self.retries = 0
        #: Connections that are being made.
        self.pending = 0
        #: Leases of this process.
        self.active = 0
        self._refused_at = -inf
        self._refusing = False
        super().__init__(spec, servers, clock, observer, random or Random(), elsewhere, colleagues)

    def renew(self, spec: PoolSpec, servers: Iterable[Server]) -> dict[Server, Server]:
        queue = self.queue
        stay = super().renew(spec, servers)
        if queue is not None and queue is not self.queue:
            self._send_away(queue, "it has no queue any more")
        return stay

    def give_up(self) -> None:
        """Nobody asks for the pool any more: who waits there hears of it."""
        if self.queue is not None:
            self._send_away(self.queue, "nobody asks for it any more")

    def _send_away(self, queue: Queue, why: str) -> None:
        for place in queue.in_order():
            queue.leave(place)
            self.refused += 1
            place.waiter.refused(NoServerAvailable(f"pool {self.name}: {why}"))

    def _use(self, spec: PoolSpec) -> None:
        if self.sticky is None or self.spec.sticky != spec.sticky:
            self.sticky = make_sticky(spec, self.sticky)
        self._strict = spec.sticky is not None and spec.sticky.strict
        #: Whether the method is somebody's own.
        self._is_own = spec.balance.own is not None
        self._limits_retries = spec.max_retries > 0 or spec.retry_budget is not None
        super()._use(spec)

    def replace(self, servers: Iterable[Server]) -> None:
        super().replace(servers)
        if self.sticky is not None:
            self.sticky.use(self.servers)

    def acquire(self, request: Request | None = None, after: Lease | None = None, *, waited: bool = False) -> Lease:
        """A lease of the server for `request`; after a failed try pass its lease, and its servers are left out.

        `waited` is who has its turn in the queue; those who wait there are seen to before anybody else.  Raises
        NoServerAvailable when none is usable, or all that are were tried, or the one that the request belongs to cannot
        serve and no other may, or no more retries are allowed, or the method breaks.  It is counted as refused if none is
        usable, unless `after` has no verdict yet, so that its holder can go on with it, or it may wait; and if the method
        breaks.
        """
        now = self._clock()
        if now > self._next_look:
            self._look(now)
        tried = () if after is None and self.queue is None else self._admit(after, waited)
        bound = self.sticky.bound(request, now) if self.sticky is not None and request is not None else ()
        if bound and self._strict:
            return self._give(self._own(bound, tried, now, waited), tried, now)
        for tier in self._tiers:
            server = self._bound(bound, tier, tried, now) if bound else None
            if server is not None:
                return self._give(server, tried, now)
            while tier.usable and (not tried or tier.offers(tried)):
                if self._is_own:
                    server = self._ask_own(tier, request, tried, now)
                else:
                    server = tier.choose(request, tried, now)
                if self._colleagues is None or self._has_room(server, now):
                    return self._give(server, tried, now)
        raise self._refuse(now, after, waited)

    def _admit(self, after: Lease | None, waited: bool) -> tuple[Server, ...]:
        """The servers that were tried; raises NoServerAvailable if no more may be.  Those who wait are seen to first."""
        if after is not None:
            if self._limits_retries and not self._may_retry():
                raise NoServerAvailable(f"pool {self.name}: {self.retries} retries are under way already")
            return (*after.tried, after.server)
        if self.queue is not None and self.queue.due and not waited:
            self.serve_waiting()
        return ()

    def serve_waiting(self) -> None:
        """Give those that wait their leases, as far as there are servers for them."""
        queue = self.queue
        assert queue is not None
        queue.due = False
        now = self._clock()
        if now > self._next_look:
            self._look(now)
        for place in queue.in_order():
            if self.crowded:
                break
            try:
                lease = self.acquire(place.waiter, waited=True)
            except NoServerAvailable as error:
                if not error.may_wait:
                    queue.leave(place)
                    place.waiter.refused(error)
                elif self.sticky is None:
                    break  # Without sessions, what is not to be had for one is not for the next one.
            else:
                queue.leave(place)
                place.waiter.served(lease)

    def wait_ends(self, place: Place) -> NoServerAvailable:
        """Somebody has waited for too long."""
        assert self.queue is not None
        self.queue.leave(place)
        self.queue.timeouts += 1
        return self._turn_away(self._clock(), f"waited for {self.queue.spec.timeout:g} s in the queue")

    def next_change(self) -> float | None:
        """In how many seconds time alone may bring a server back; None if it never does."""
        return None if self._next_look == inf else max(0.0, self._next_look - self._clock())

    @property
    def crowded(self) -> bool:
        """Whether as many connections are being made as may be."""
        return 0 < self.spec.max_pending <= self.pending

    def _bound(self, bound: Collection[Server], tier: Tier, tried: Collection[Server], now: float) -> Server | None:
        """The first of `bound` that is of this tier and can serve."""
        mine = [server for server in bound if server.spec.backup is tier.backup]
        return self._first_of(mine, tried, now)

    def _own(self, bound: Collection[Server], tried: Collection[Server], now: float, waited: bool) -> Server:
        """The first of `bound` that can serve, backup or not; nobody else will do."""
        server = self._first_of(bound, tried, now)
        if server is not None:
            return server
        states = ", ".join(f"{server.name} {server.state(now)}" for server in bound)
        reason = f"pool {self.name}: the session's own server {states}"
        if waited or (not tried and self._has_place()):
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

    def _ask_own(self, tier: Tier, request: Request | None, tried: Collection[Server], now: float) -> Server:
        """What somebody's own method chooses, which is not trusted."""
        try:
            server = tier.choose(request, tried, now)
            if server not in self._tier_of or not server.usable or server in tried:
                raise ValueError(f"choose() returned {server!r}, which is none of those that it may choose from")
        except Exception as error:
            raise self._broken(error, now) from error
        return server

    def _broken(self, error: Exception, now: float) -> NoServerAvailable:
        self.refused += 1
        if now >= self._tell_broken:
            self._tell_broken = now + _BROKEN_AGAIN
            self._observer.method_broke(self, error)
        return NoServerAvailable(f"pool {self.name}: its balancing method breaks: {error!r}")

    def _refuse(self, now: float, after: Lease | None, waited: bool) -> NoServerAvailable:
        if waited or (after is None and self._has_place()):
            return NoServerAvailable(f"pool {self.name}: no server is to be had now", may_wait=True)
        if after is not None and any(tier.usable for tier in self._tiers):
            return NoServerAvailable(f"pool {self.name}: every usable server was tried")
        if after is not None and not after.judged:
            return NoServerAvailable(f"pool {self.name}: no other server is usable")
        return self._turn_away(now)

    def _turn_away(self, now: float, why: str = "no usable server") -> NoServerAvailable:
        states = ", ".join(f"{server.name} {server.state(now)}" for server in self.servers[:10])
        if self.queue is not None and self.queue.full:
            why = "the queue is full"
        return self._count_refused(now, f"{why}: {states}")

    def too_many(self) -> NoServerAvailable:
        """Somebody needs a connection who may not have one, because of `crowded`."""
        return self._count_refused(self._clock(), f"{self.pending} connections are being made already (max_pending)")

    def _count_refused(self, now: float, reason: str) -> NoServerAvailable:
        self.refused += 1
        self._refused_at = now
        if not self._refusing:
            self._refusing = True
            self._observer.pool_changed(self, False, reason)
        return NoServerAvailable(f"pool {self.name}: {reason}")

    def _has_place(self) -> bool:
        """Whether one more may wait; if there is a queue, and it is full, this one was too many."""
        if self.queue is None:
            return False
        self.queue.overflows += self.queue.full
        return not self.queue.full

    def _may_retry(self) -> bool:
        budget = self.spec.retry_budget
        if budget is None:
            return self.retries < self.spec.max_retries
        return self.retries < max(budget.min_retries, self.active * budget.percent // 100)

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
