"""Who is in a pool, how do they fare, and which of them can serve?

- Nothing is filtered at a request.  A method holds the servers that are usable; it is told of each change, and what time
  alone brings back is looked at when that time has come.
- A lone server is never ejected: there is nobody else to ask (nginx's rule).  Active checks do take it out.  With
  `last_usable: keep` the same holds for the last one that is well.
- While fewer than `panic_threshold` percent of a tier are well, all are used, for few would break under the load of all.
  Primaries of which none is well leave that to backups that are.
- The observer hears of what befell a server first, and then of what that makes of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from random import Random

from pylb.balance.colleagues import Colleagues
from pylb.balance.health import Change
from pylb.balance.lease import Lease
from pylb.balance.methods import Elsewhere, Tools
from pylb.balance.news import PoolObserver, Unobserved
from pylb.balance.outliers import Outliers
from pylb.balance.queue import Queue
from pylb.balance.renewal import renew, same
from pylb.balance.request import compile_key, network
from pylb.balance.returns import Returns
from pylb.balance.server import Checked, Server, Switch
from pylb.balance.tier import Tier
from pylb.model import PoolSpec

__all__ = ["Members"]

#: Methods that give each server its place, so that no share may shrink.
_PLACED = frozenset({"hash", "ip_hash", "maglev", "first"})
#: By what weights are multiplied while only a part of one counts, because they are whole numbers (as in HAProxy).
_FINE = 16


class Members:
    """The servers of a pool, primaries and backups."""

    def __init__(
        self,
        spec: PoolSpec,
        servers: Iterable[Server],
        clock: Callable[[], float],
        observer: PoolObserver | None,
        random: Random,
        elsewhere: Elsewhere,
        colleagues: Colleagues | None,
    ) -> None:
        self.name = spec.name
        self.servers: list[Server] = []
        #: Requests, connections and datagrams that came to a pool without a usable server.
        self.refused = 0
        #: Those that wait for one; None if nobody does.
        self.queue: Queue | None = None
        #: The time that the methods want to hear of; nothing if none.
        self.metric = ""
        #: Whether the methods want to know of each change of load.
        self.watches_load = False
        self._clock = clock
        self._observer: PoolObserver = observer or Unobserved()
        #: None in a single process.
        self._colleagues = colleagues
        self._random = random
        self._elsewhere = elsewhere
        self._tiers: tuple[Tier, ...] = ()
        self._tier_of: dict[Server, Tier] = {}
        self._returns = Returns()
        #: When to look at servers that were ejected, or at colleagues.
        self._next_look = inf
        #: Whether somebody has been served before the present servers came.
        self._served = False
        self._outliers: Outliers | None = None
        self._use(spec)
        self.replace(servers)

    def renew(self, spec: PoolSpec, servers: Iterable[Server]) -> dict[Server, Server]:
        """Be as `spec` asks from now on; says who stands for whom of `servers`, which were made for it.

        Those that are here already stay, with all that is known of them, and so do leases.
        """
        servers = list(servers)
        stay = same(self.servers, servers)
        for wanted, server in stay.items():
            renew(server, wanted, self.spec, spec)
        self._use(spec)
        self.replace([stay.get(server, server) for server in servers])
        return stay

    def _use(self, spec: PoolSpec) -> None:
        """Be ready to do as `spec` asks, with the next servers."""
        self.spec = spec
        key = compile_key(spec.balance.key)
        self._tools = Tools(random=self._random, key=key, address=network, elsewhere=self._elsewhere)
        self._keeps = spec.last_usable == "keep"
        if self._outliers is None or self._outliers.spec != spec.outlier:
            self._outliers = Outliers(spec.outlier, self._clock()) if spec.outlier is not None else None
        if spec.queue is None:
            self.queue = None
        elif self.queue is None:
            self.queue = Queue(spec.queue)
        else:
            self.queue.use(spec.queue)

    def replace(self, servers: Iterable[Server]) -> None:
        """Serve from `servers` from now on; those that stay keep their state, leases of those that go stay valid."""
        added = self._added_to(servers := list(servers))
        known = set(self.servers)
        for server in known.union(servers):
            server.usable = False  # Who is new may come from another pool, which used it.
        self.servers = servers
        self._weigh()
        primaries, backups = self._tiers = self._make_tiers()
        self.metric = primaries.metric
        self.watches_load = primaries.load_changed is not None
        self._tier_of = {server: backups if server.spec.backup else primaries for server in servers}
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
        self._weigh_panic(now)

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
            why = "no other server is left" if lone else "its failures do not count any more"
            self._judged(server, health.forgive(), why, now)

    def switch(self, server: Server, to: Switch, why: str = "") -> None:
        """Let a server serve ("up"), only those that belong to it ("drain"), or nobody new ("down"); `why` is for news."""
        if server.switch == to or server not in self._tier_of:
            return
        now = self._clock()
        if server.switch == "down":
            self._start_slowly(server, now)
        server.switch = to
        self._observer.server_changed(self, server, Change.SWITCHED, f"{to}: {why}" if why else to)
        self._settle(server, now)

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
        self._observer.server_changed(self, server, Change.CHECKED, reason)
        self._settle(server, now)

    def reweigh(self, server: Server, share: float, why: str = "") -> None:
        """Let a server count for `share` times its weight; for 0 it drains, and `why` is for news.

        Where its place is not a matter of weight alone (hash, ip_hash, maglev, first) only 0 counts.
        """
        if server.share == share or server not in self._tier_of:
            return
        drained, server.share = server.drains, share
        if server.drains is drained:
            self._observer.server_changed(self, server, Change.WEIGHED, f"{share:g}")
        else:
            self._observer.server_changed(self, server, Change.SWITCHED, f"{'drain' if server.drains else 'up'}: {why}")
        if self.spec.balance.method in _PLACED:
            self._settle(server, self._clock())
        else:
            self.replace(self.servers)

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

    def released(self, server: Server) -> None:
        """A lease is over, of a server that is not usable or whose load is watched."""
        if not server.usable:
            self._refresh(server, self._clock())
            if self.queue:
                self.queue.tell()
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
        if change is not Change.EXTENDED:
            self._observer.server_changed(self, server, change, reason)
        self._settle(server, now)

    def _refresh(self, server: Server, now: float) -> None:
        """Tell the method of a change, and the queue if there may be more for it.  A server that has left is nobody's."""
        tier = self._tier_of.get(server)
        if tier is not None:
            before = server.usable
            tier.refresh(server, now)
            if self.queue and not before and (server.usable or server.drains):
                self.queue.tell()

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
        if self.spec.panic_threshold:
            self._weigh_panic(now)

    def _weigh_panic(self, now: float) -> None:
        """Use all servers of a tier where too few are well, and no longer than that."""
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
                self._refresh(server, now)
        kind = "backups" if tier.backup else "servers"
        reason = f"{len(tier.well)} of {len(tier.serving)} {kind} are well"
        self._observer.panic_changed(self, tier.panics, reason)

    def _count(self, server: Server, now: float) -> None:
        """Tell its tier of a change, and remember when the server may be tried again."""
        tier = self._tier_of.get(server)
        if tier is not None:
            tier.count(server)
        self._refresh(server, now)
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
