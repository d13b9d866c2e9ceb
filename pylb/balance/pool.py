"""Which server gets this request, and what came of it?

- Primaries serve while one of them is usable and was not tried before; else the backups, by the same method.
- Whoever uses a server holds a lease (pylb.balance.lease).
- The clock is read once for each `acquire` and each verdict.
- Nothing is filtered at a request.  A method holds the servers that are usable; the pool tells it of each change, and
  looks at what time alone brings back when that time has come.
- A lone server is never ejected: there is nobody else to ask (nginx's rule).  Active checks do take it out.  With
  `last_usable: keep` the same holds for the last one that is well.
- While fewer than `panic_threshold` percent of a tier are well, all are used, for few would break under the load of all.
  Primaries of which none is well leave that to backups that are.
- A session that belongs to a server (`sticky`) gets it while it can serve, also while it drains; else the method decides,
  or nobody does (`strict`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from random import Random
from typing import Protocol

from pylb.balance.colleagues import Colleagues
from pylb.balance.health import CALM, NO_EPOCH, Change
from pylb.balance.lease import Lease
from pylb.balance.methods import Elsewhere, Tools, at_once
from pylb.balance.outliers import Outliers
from pylb.balance.request import Request, compile_key, network
from pylb.balance.returns import Returns
from pylb.balance.server import Checked, Server, Switch
from pylb.balance.sticky import make_sticky
from pylb.balance.tier import Tier
from pylb.model import PoolSpec

__all__ = ["NoServerAvailable", "Pool", "PoolObserver", "make_pool"]

#: Methods that give each server its place, so that no share may shrink.
_PLACED = frozenset({"hash", "ip_hash", "maglev", "first"})
#: By what weights are multiplied while only a part of one counts, because they are whole numbers (as in HAProxy).
_FINE = 16


class NoServerAvailable(Exception):
    """No server of the pool can take this request now."""


class PoolObserver(Protocol):
    """Hears of changes of fortune, not of requests."""

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None:
        """A server was ejected, recovered, switched, weighed or checked, or one that is never ejected began to fail."""

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None:
        """The pool refused somebody for the first time, or serves again."""

    def panic_changed(self, pool: Pool, panics: bool, reason: str) -> None:
        """All servers are used, well or not, or no longer."""


class Unobserved:
    """The observer of a pool that nobody watches."""

    def server_changed(self, pool: Pool, server: Server, change: Change, reason: str) -> None: ...

    def pool_changed(self, pool: Pool, usable: bool, reason: str) -> None: ...

    def panic_changed(self, pool: Pool, panics: bool, reason: str) -> None: ...


class Pool:
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
        self.name = spec.name
        self.spec = spec
        self.servers: list[Server] = []
        #: Requests, connections and datagrams that came to a pool without a usable server.
        self.refused = 0
        self._clock = clock
        self._observer: PoolObserver = observer or Unobserved()
        #: None in a single process.
        self._colleagues = colleagues
        #: Which server a session belongs to; None if none belongs to any.
        self.sticky = make_sticky(spec)
        self._strict = spec.sticky is not None and spec.sticky.strict
        #: The time that the methods want to hear of; nothing if none.
        self.metric = ""
        self._tools = Tools(
            random=random or Random(), key=compile_key(spec.balance.key), address=network, elsewhere=elsewhere
        )
        self._tiers: tuple[Tier, ...] = ()
        #: Whether the methods want to know of each change of load.
        self.watches_load = False
        self._tier_of: dict[Server, Tier] = {}
        self._returns = Returns()
        #: When to look at servers that were ejected, or at colleagues.
        self._next_look = inf
        #: Whether somebody has been served before the present servers came.
        self._served = False
        self._outliers = Outliers(spec.outlier, clock()) if spec.outlier is not None else None
        self._keeps = spec.last_usable == "keep"
        self._refused_at = -inf
        self._refusing = False
        self.replace(servers)

    def replace(self, servers: Iterable[Server]) -> None:
        """Serve from `servers` from now on; those that stay keep their state, leases of those that go stay valid."""
        added = self._added_to(servers := list(servers))
        known = set(self.servers)
        for server in known:
            server.usable = False
        self.servers = servers
        self._weigh()
        primaries, backups = self._tiers = self._make_tiers()
        self.metric = primaries.metric
        self.watches_load = primaries.load_changed is not None
        self._tier_of = {server: backups if server.spec.backup else primaries for server in servers}
        if self.sticky is not None:
            self.sticky.use(servers)
        self._returns = Returns()
        if self._outliers is not None:
            self._outliers.use(servers)
        if self._colleagues is not None:
            self._colleagues.enroll(self, servers)
        self._schedule()
        now = self._clock()
        mandatory = any(check.mandatory for check in self.spec.health_check)
        for server in servers:
            if mandatory and server not in known:
                server.checked = "checking"
            server.warming_since = now if server in added and server.spec.slow_start else server.warming_since
            self._place(server, len(servers) == 1, now)
        self._see_panic(now)

    def _weigh(self) -> None:
        whole = self.spec.balance.method in _PLACED or all(server.share in (0.0, 1.0) for server in self.servers)
        for server in self.servers:
            share = 1.0 if whole else _FINE * (server.share or 1.0)
            server.weight = max(1, round(server.spec.weight * share))

    def _added_to(self, servers: Sequence[Server]) -> set[Server]:
        """Those that are new in a pool that has served already."""
        self._served = self._served or any(server.picked for server in self.servers)
        return set(servers).difference(self.servers) if self._served else set()

    def _make_tiers(self) -> tuple[Tier, Tier]:
        before = self._tiers or (None, None)
        primaries, backups = (
            Tier(self.servers, backup, self.spec.balance, self._tools, before[backup]) for backup in (False, True)
        )
        return primaries, backups

    def _place(self, server: Server, lone: bool, now: float) -> None:
        """Give a server its place among the present ones."""
        health, limit = server.health, 0 if lone else server.spec.max_fails
        if (outlier := self.spec.outlier) is not None:
            limit = 0 if lone else outlier.consecutive_errors
            health.in_a_row, health.fail_timeout = True, outlier.base_ejection_time
        if self.spec.failure_window == "sliding":
            health.slide(server.spec.max_fails)
        changed, health.max_fails = limit != health.max_fails, limit
        if lone:
            server.warming_since = None
        self._count(server, now)
        if changed:
            self._judged(server, health.forgive(), "no other server is left", now)

    def switch(self, server: Server, to: Switch, why: str = "") -> None:
        """Let a server serve ("up"), only those that belong to it ("drain"), or nobody new ("down"); `why` is for news."""
        if server.switch == to or server not in self._tier_of:
            return
        now = self._clock()
        if server.switch == "down":
            self._start_slowly(server, now)
        server.switch = to
        self._settle(server, now)
        self._observer.server_changed(self, server, Change.SWITCHED, f"{to}: {why}" if why else to)

    def checked(self, server: Server, to: Checked, reason: str) -> None:
        """Active checks say something of a server: it serves only if they have "passed".

        Who was unhealthy comes back slowly, and with a clean slate: what clients found out is older than what checks did.
        """
        if server.checked == to or server not in self._tier_of:
            return
        now = self._clock()
        before, server.checked = server.checked, to
        if before == "unhealthy":
            server.health.forgive()
        if before == "unhealthy" or server.warming_since is not None:
            self._start_slowly(server, now)
        self._settle(server, now)
        self._observer.server_changed(self, server, Change.CHECKED, reason)

    def reweigh(self, server: Server, share: float, why: str = "") -> None:
        """Let a server count for `share` times its weight; for 0 it drains, and `why` is for news.

        Where its place is not a matter of weight alone (hash, ip_hash, maglev, first) only 0 counts.
        """
        if server.share == share or server not in self._tier_of:
            return
        drained, server.share = server.drains, share
        if self.spec.balance.method in _PLACED:
            self._settle(server, self._clock())
        else:
            self.replace(self.servers)
        if server.drains is drained:
            self._observer.server_changed(self, server, Change.WEIGHED, f"{share:g}")
        else:
            self._observer.server_changed(self, server, Change.SWITCHED, f"{'drain' if server.drains else 'up'}: {why}")

    def acquire(self, request: Request | None = None, after: Lease | None = None) -> Lease:
        """A lease of the server for `request`; after a failed try pass its lease, and its servers are left out.

        Raises NoServerAvailable when none is usable, or all that are were tried, or the one that the request belongs to
        cannot serve and no other may.  The first is counted as refused, unless `after` has no verdict yet: its holder can
        go on with it.
        """
        now = self._clock()
        if now > self._next_look:
            self._look(now)
        tried = () if after is None else (*after.tried, after.server)
        bound = self.sticky.bound(request, now) if self.sticky is not None and request is not None else ()
        if bound and self._strict:
            return self._give(self._own(bound, tried, now), tried, now)
        for tier in self._tiers:
            server = self._bound(bound, tier, tried, now) if bound else None
            if server is not None:
                return self._give(server, tried, now)
            while tier.usable and (not tried or tier.offers(tried)):
                server = tier.choose(request, tried, now)
                if self._colleagues is None or self._has_room(server, now):
                    return self._give(server, tried, now)
        raise self._refuse(now, after)

    def _bound(self, bound: Collection[Server], tier: Tier, tried: Collection[Server], now: float) -> Server | None:
        """The first of `bound` that is of this tier and can serve."""
        mine = [server for server in bound if server.spec.backup is tier.backup]
        return self._first_of(mine, tried, now)

    def _own(self, bound: Collection[Server], tried: Collection[Server], now: float) -> Server:
        """The first of `bound` that can serve, backup or not; nobody else will do."""
        server = self._first_of(bound, tried, now)
        if server is not None:
            return server
        self.refused += not tried
        states = ", ".join(f"{server.name} {server.state(now)}" for server in bound)
        raise NoServerAvailable(f"pool {self.name}: the session's own server {states}")

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
        if self._refusing and now - self._refused_at >= CALM and server.health.retry_at is None:
            self._refusing = False
            self._observer.pool_changed(self, True, f"{server.name} serves")
        return lease

    def _try_out(self, lease: Lease, now: float) -> None:
        """A lease of an ejected server is a trial, or tells nothing if it is given before its time, in panic."""
        health = lease.server.health
        if health.allows(now):
            health.trial_started(now)
            self._settle(lease.server, now)
        else:
            lease.epoch = NO_EPOCH

    def _refuse(self, now: float, after: Lease | None) -> NoServerAvailable:
        if any(tier.usable for tier in self._tiers):
            return NoServerAvailable(f"pool {self.name}: every usable server was tried")
        if after is not None and not after.judged:
            return NoServerAvailable(f"pool {self.name}: no other server is usable")
        self.refused += 1
        self._refused_at = now
        reason = "no usable server: " + ", ".join(f"{server.name} {server.state(now)}" for server in self.servers[:10])
        if not self._refusing:
            self._refusing = True
            self._observer.pool_changed(self, False, reason)
        return NoServerAvailable(f"pool {self.name}: {reason}")

    # What leases tell.

    def failed(self, lease: Lease, reason: str) -> None:
        """A lease has its verdict."""
        now, server = self._clock(), lease.server
        self.catch_up(server, now)
        health = server.health
        fails = health.fails
        if self._outliers is not None:
            health.pause = self._outliers.pause(server, now)
        change = health.failed(lease.epoch, now, self._spares(server))
        if self._outliers is not None and change in (Change.EJECTED, Change.EXTENDED):
            self._outliers.ejected(server, now)
        if health.fails > fails and (tier := self._tier_of.get(server)) is not None:
            if tier.failed is not None:
                tier.failed(server)
            if server.warming_since is not None and health.max_fails:
                tier.set_back(server, server.spec.slow_start / health.max_fails, now)
        self._judged(server, change, reason, now)

    def succeeded(self, lease: Lease) -> None:
        """A lease has its verdict, of a server that had failed."""
        now, server = self._clock(), lease.server
        self.catch_up(server, now)
        ejected = server.health.ejected
        change = server.health.succeeded(lease.epoch, lease.picked)
        if change is Change.RECOVERED and ejected:
            self._start_slowly(server, now)
        self._judged(server, change, "a request succeeded", now)

    def measured(self, lease: Lease) -> None:
        """The moment that `metric` names has come."""
        tier = self._tier_of.get(lease.server)
        if tier is not None and tier.measured is not None:
            now = self._clock()
            tier.measured(lease.server, now - lease.picked, now)

    def bind(self, request: Request, server: Server) -> bool:
        """The session of `request` belongs to `server` from now on; whether that is news."""
        assert self.sticky is not None
        return server in self._tier_of and self.sticky.bind(request, server, self._clock())

    def released(self, server: Server) -> None:
        """A lease is over, of a server that is not usable or whose load is watched."""
        if not server.usable:
            self._refresh(server, self._clock())
        elif self.watches_load:
            self._tier_of[server].refresh_load(server)

    # What other workers tell.

    def load_changed(self, server: Server, now: float) -> None:
        """They gave or released leases of `server`, which are in its `active` already."""
        if server.spec.max_conns:
            self._refresh(server, now)
        if self.watches_load and server.usable:
            self._tier_of[server].refresh_load(server)

    def catch_up(self, server: Server, now: float) -> None:
        """They know something new of the health of `server`.  It is their news: the observer here hears nothing of it."""
        if server.health.shared is not None:
            change = server.health.catch_up()
            if change is Change.EJECTED and self._keeps and self._is_last(server):
                # The other was ejected here and this one there, and neither worker had heard of it.
                change = server.health.forgive()
            if change is Change.RECOVERED:
                self._start_slowly(server, now)
            self._settle(server, now)

    # What becomes of servers.

    def _start_slowly(self, server: Server, now: float) -> None:
        tier = self._tier_of.get(server)
        if tier is not None and server.spec.slow_start and len(self.servers) > 1:
            tier.warm_up(server, now)

    def _judged(self, server: Server, change: Change, reason: str, now: float) -> None:
        if change is Change.NOTHING or server not in self._tier_of:
            return
        self._settle(server, now)
        if change is not Change.EXTENDED:
            self._observer.server_changed(self, server, change, reason)

    def _refresh(self, server: Server, now: float) -> None:
        """Tell the method of a change.  A server that has left the pool is nobody's."""
        tier = self._tier_of.get(server)
        if tier is not None:
            tier.refresh(server, now)

    def _spares(self, server: Server) -> bool:
        """Whether failures do not take the server out, because too few would be left."""
        if self._outliers is not None:
            ejected = sum(len(tier.ejected) for tier in self._tiers)
            if self._outliers.spares(ejected, len(self.servers)):
                return True
        return self._keeps and self._is_last(server)

    def _compare(self, outliers: Outliers, now: float) -> None:
        """Eject servers that do much worse than the others."""
        for server in outliers.look(now):
            if not self._spares(server):
                server.health.pause = outliers.pause(server, now)
                outliers.ejected(server, now)
                server.health.eject(now)
                self._judged(server, Change.EJECTED, "far more failures than the others", now)

    def _is_last(self, server: Server) -> bool:
        """Whether no other server is well."""
        return all(tier.well <= {server} for tier in self._tiers)

    def _settle(self, server: Server, now: float) -> None:
        """See what a change makes of the server, and of its tier."""
        self._count(server, now)
        self._see_panic(now)

    def _see_panic(self, now: float) -> None:
        """Use all servers of a tier where too few are well, and no longer than that."""
        if not self.spec.panic_threshold:
            return
        backups = self._tiers[1]
        for tier in self._tiers:
            stands_alone = tier is backups or tier.well or not backups.well
            panics = bool(stands_alone) and tier.short_of(self.spec.panic_threshold)
            if panics is not tier.panics:
                self._panic(tier, panics, now)

    def _panic(self, tier: Tier, panics: bool, now: float) -> None:
        tier.panics = panics
        for server in self.servers:
            if server in tier.serving:
                tier.refresh(server, now)
        kind = "backups" if tier.backup else "servers"
        reason = f"{len(tier.well)} of {len(tier.serving)} {kind} are well"
        self._observer.panic_changed(self, tier.panics, reason)

    def _count(self, server: Server, now: float) -> None:
        """Tell its tier of a change, and remember when the server may be tried again."""
        tier = self._tier_of.get(server)
        if tier is not None:
            tier.count(server)
            tier.refresh(server, now)
        due = server.health.retry_at
        if due is not None and now <= due:
            self._returns.expect(server, due)
            self._next_look = min(self._next_look, due)

    def _look(self, now: float) -> None:
        """See what time has brought."""
        if self._colleagues is not None and now > self._colleagues.due:
            self._colleagues.look(now)
        for server in self._returns.due(now):
            self._settle(server, now)
        if self._outliers is not None and now > self._outliers.due:
            self._compare(self._outliers, now)
        self._schedule()

    def _schedule(self) -> None:
        self._next_look = self._returns.next
        if self._colleagues is not None:
            self._next_look = min(self._next_look, self._colleagues.due)
        if self._outliers is not None:
            self._next_look = min(self._next_look, self._outliers.due)

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {sum(tier.usable for tier in self._tiers)} of {len(self.servers)} usable>"


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
