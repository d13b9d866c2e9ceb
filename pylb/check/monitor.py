"""Which servers are checked now, and what follows for them?

- Any check that calls a server unhealthy takes it out.  While a mandatory one has no answer yet, the server is being
  checked, and serves nobody.
- First checks are spread over their interval, so that they never fire all at once, however many pools there are;
  mandatory ones, for which clients wait, follow close behind one another.
- Only so many run at once as descriptors were set aside for; the others wait for their turn.
- Over a reload a check that is as before goes on, with all that it has come to, also while it is under way.
- What checks find is told to the pools, and nobody else: `checked`, `switch` and `reweigh`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from random import Random
from typing import Any, TypeAlias

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.check.interface import Report
from pylb.check.kinds import make_check
from pylb.check.target import Target
from pylb.check.watch import Tally, Watch
from pylb.model import GrpcCheck, HealthCheck
from pylb.proxy.deadline import Deadlines
from pylb.proxy.tls import ClientTLS
from pylb.words import one_line

__all__ = ["Monitor"]

Owner: TypeAlias = tuple[Pool, Server]

#: Seconds between two first mandatory checks.
_CLOSE = 0.002
#: Multiples of it, without their whole part, lie evenly between 0 and 1 however many there are (the golden ratio).
_EVENLY = 0.6180339887498949


class Monitor:
    """Checks the servers of those of `pools` that have health checks, `most` at once.

    `reactor` runs processes and delayed calls, `streams` connects and watches sockets, `clock` reads monotonic seconds;
    `followed` hears of each pool whose servers are checked now, and may be others than before.
    Raises `OpenSSL.SSL.Error` as `pylb.proxy.tls.ClientTLS` does, and ValueError for a check that cannot be made.
    """

    def __init__(
        self,
        pools: Iterable[Pool],
        reactor: Any,
        streams: Any,
        clock: Callable[[], float],
        most: int,
        random: Random | None = None,
        followed: Callable[[Pool], object] = lambda pool: None,
    ) -> None:
        self._pools = {pool: _tls(pool, clock) for pool in pools if pool.spec.health_check}
        for spec in chain.from_iterable(pool.spec.health_check for pool in self._pools):
            make_check(spec)  # What cannot be made is told now, and not when there is a server to check.
        self._reactor = reactor
        self._streams = streams
        self._most = most
        self._random = random or Random()
        self._followed = followed
        self._deadlines = Deadlines(reactor, clock)
        self._watches: dict[Owner, list[Watch]] = {}
        self._owners: dict[Watch, Owner] = {}
        self._running: set[Watch] = set()
        self._waiting: deque[Watch] = deque()
        #: Whether those that wait are having their turns.
        self._handing_out = False
        self._started = False
        #: First checks that have been given their time, and the time of the last mandatory one.
        self._planned = 0
        self._last = 0.0

    def start(self, before: Monitor | None = None) -> None:
        """Begin to check, or go on as `before` did, by the same clock, which stops."""
        self._started = True
        if before is not None:
            self._deadlines = before._deadlines
        for pool in self._pools:
            self.follow(pool, before)
        if before is not None:
            before.stop()

    def exchange(self, pool: Pool, other: Pool) -> None:
        """Before the start: check the servers of `other` instead, which is asked for the same."""
        if pool in self._pools:
            self._pools[other] = self._pools.pop(pool)

    def stop(self) -> None:
        """Check nothing more; what the servers were found to be stays."""
        self._started = False
        self._waiting.clear()
        for owner in list(self._watches):
            self._forget(owner)

    def follow(self, pool: Pool, before: Monitor | None = None) -> None:
        """Check the servers that `pool` has now, and no others, once all has started; going on with what `before` does."""
        if not self._started or pool not in self._pools:
            return
        present = {(pool, server) for server in pool.servers}
        for owner in [owner for owner in self._watches if owner[0] is pool and owner not in present]:
            self._forget(owner)
        for server in pool.servers:
            if (pool, server) not in self._watches and not server.missing:
                self._watch(pool, server, before)
                self._tell(pool, server)
        self._followed(pool)

    def tally(self, pool: Pool, server: Server) -> Tally:
        """What the checks of a server have come to, together."""
        tallies = [watch.tally for watch in self._watches.get((pool, server), ())]
        passed = [tally.last_passed for tally in tallies if tally.last_passed is not None]
        return Tally(
            sum(tally.checks for tally in tallies),
            sum(tally.fails for tally in tallies),
            sum(tally.unhealthy for tally in tallies),
            all(passed) if passed else None,
        )

    def release(self, pool: Pool, server: Server, spec: HealthCheck) -> Watch | None:
        """Let go of one that does just this, if there is one: it goes on elsewhere."""
        watches = self._watches.get((pool, server), [])
        watch = next((watch for watch in watches if watch.spec == spec), None)
        if watch is not None:
            watches.remove(watch)
            del self._owners[watch]
            self._running.discard(watch)
        return watch

    def _watch(self, pool: Pool, server: Server, before: Monitor | None) -> None:
        self._watches[pool, server] = watches = []
        for spec in pool.spec.health_check:
            watch = before.release(pool, server, spec) if before is not None else None
            if watch is None:
                watch = self._begin(pool, server, spec)
            else:
                self._go_on(pool, server, watch)
            watches.append(watch)
            self._owners[watch] = pool, server

    def _begin(self, pool: Pool, server: Server, spec: HealthCheck) -> Watch:
        target = Target(
            server, self._reactor, self._streams, self._deadlines, self._tls_to(pool, spec), spec.port, self._may_keep
        )
        watch = Watch(spec, partial(make_check, spec), target, self, self._deadlines, self._random.random)
        if spec.persistent and server.checked == "passed":
            watch.healthy = True
        watch.start(self._first(spec))
        return watch

    def _go_on(self, pool: Pool, server: Server, watch: Watch) -> None:
        spec = watch.spec
        watch.target.use(server, self._tls_to(pool, spec), self._may_keep)
        watch.go_on(self)
        if watch.under_way:
            self._running.add(watch)
        if watch.healthy and spec.mandatory and not spec.persistent:
            watch.lapse()
            if not watch.under_way:
                watch.start(self._first(spec))

    def _tls_to(self, pool: Pool, spec: HealthCheck) -> ClientTLS | None:
        return self._pools[pool].get(type(spec) is GrpcCheck)

    def _first(self, spec: HealthCheck) -> float:
        """Seconds until a first check."""
        if not spec.mandatory:
            self._planned += 1
            return self._planned * _EVENLY % 1.0 * spec.interval
        now = self._deadlines.clock()
        self._last = max(now, self._last + _CLOSE)
        return self._last - now

    def _may_keep(self) -> bool:
        return len(self._owners) <= self._most

    def _forget(self, owner: Owner) -> None:
        for watch in self._watches.pop(owner):
            del self._owners[watch]
            watch.stop()
            self.over(watch)

    # What the watches say.

    def due(self, watch: Watch) -> None:
        if len(self._running) < self._most:
            self._running.add(watch)
            watch.run()
        else:
            self._waiting.append(watch)

    def over(self, watch: Watch) -> None:
        self._running.discard(watch)
        if self._handing_out:
            return  # One that was over at once: a thousand such, each within the last, would be too deep for Python.
        self._handing_out = True
        try:
            self._hand_out()
        finally:
            self._handing_out = False

    def _hand_out(self) -> None:
        """Let those that wait have their turns."""
        while self._waiting and len(self._running) < self._most:
            following = self._waiting.popleft()
            if following in self._owners:
                self.due(following)

    def concluded(self, watch: Watch) -> None:
        self._tell(*self._owners[watch])

    def _tell(self, pool: Pool, server: Server) -> None:
        """What its checks come to, together."""
        watches = self._watches[pool, server]
        against = [watch for watch in watches if watch.healthy is False]
        if against:
            pool.checked(server, "unhealthy", against[0].reason)
        elif any(watch.healthy is None for watch in watches):
            pool.checked(server, "checking", "not all checks have answered yet")
        else:
            pool.checked(server, "passed", "checks passed")

    def reported(self, watch: Watch, report: Report) -> None:
        pool, server = self._owners[watch]
        why = one_line(report.why) or "says its check"
        if report.switch is not None:
            pool.switch(server, report.switch, why)
        if report.share is not None:
            pool.reweigh(server, report.share, why)


def _tls(pool: Pool, clock: Callable[[], float]) -> dict[bool, ClientTLS]:
    """What speaks TLS to the servers of a pool, if they want that: by whether it is to speak HTTP/2 over it."""
    spec = pool.spec.tls
    if spec is None:
        return {}
    kinds = {type(check) is GrpcCheck for check in pool.spec.health_check}
    return {grpc: ClientTLS(spec, clock, [b"h2"] if grpc else ()) for grpc in kinds}
