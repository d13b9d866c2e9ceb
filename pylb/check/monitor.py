"""Which servers are checked now, and what follows for them?

- Any check that calls a server unhealthy takes it out.  While a mandatory one has no answer yet, the server is being
  checked, and serves nobody.
- First checks are spread over their interval, so that they never fire all at once, however many pools there are;
  mandatory ones, for which clients wait, follow close behind one another.
- Only so many run at once as descriptors were set aside for; the others wait for their turn.
- What checks find is told to the pools, and nobody else: `checked`, `switch` and `reweigh`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from random import Random
from types import MappingProxyType
from typing import Any, Final, TypeAlias

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
#: Nobody was checked before.
NOBODY: Final[Mapping[Owner, list[Watch]]] = MappingProxyType({})

#: Seconds between two first mandatory checks.
_CLOSE = 0.002
#: Multiples of it, without their whole part, lie evenly between 0 and 1 however many there are (the golden ratio).
_EVENLY = 0.6180339887498949


class Monitor:
    """Checks the servers of those of `pools` that have health checks, `most` at once.

    `reactor` runs processes and delayed calls, `streams` connects and watches sockets, `clock` reads monotonic seconds.
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
    ) -> None:
        self._pools = {pool: _tls(pool, clock) for pool in pools if pool.spec.health_check}
        for spec in chain.from_iterable(pool.spec.health_check for pool in self._pools):
            make_check(spec)  # What cannot be made is told now, and not when there is a server to check.
        self._reactor = reactor
        self._streams = streams
        self._most = most
        self._random = random or Random()
        self._deadlines = Deadlines(reactor, clock)
        self._watches: dict[Owner, list[Watch]] = {}
        self._owners: dict[Watch, Owner] = {}
        self._running: set[Watch] = set()
        self._waiting: deque[Watch] = deque()
        self._started = False
        #: First checks that have been given their time, and the time of the last mandatory one.
        self._planned = 0
        self._last = 0.0

    def start(self, before: Monitor | None = None) -> None:
        """Begin to check, or go on with what `before` has come to, which stops."""
        self._started = True
        known = {} if before is None else before._watches
        for pool in self._pools:
            self.follow(pool, known)
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

    def follow(self, pool: Pool, known: Mapping[Owner, list[Watch]] = NOBODY) -> None:
        """Check the servers that `pool` has now, and no others, once all has started; `known` is who was checked before."""
        if not self._started or pool not in self._pools:
            return
        present = {(pool, server) for server in pool.servers}
        for owner in [owner for owner in self._watches if owner[0] is pool and owner not in present]:
            self._forget(owner)
        for server in pool.servers:
            if (pool, server) not in self._watches and not server.missing:
                self._watch(pool, server, known.get((pool, server), ()))
                self._tell(pool, server)

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

    def _watch(self, pool: Pool, server: Server, known: Iterable[Watch]) -> None:
        self._watches[pool, server] = watches = []
        for spec in pool.spec.health_check:
            tls = self._pools[pool].get(type(spec) is GrpcCheck)
            target = Target(server, self._reactor, self._streams, self._deadlines, tls, spec.port, self._may_keep)
            watch = Watch(spec, make_check(spec), target, self, self._deadlines, self._random.random)
            watches.append(watch)
            self._owners[watch] = pool, server
            before = next((other for other in known if other.spec == spec), None)
            if before is not None:
                watch.go_on(before)
            elif spec.persistent and server.checked == "passed":
                watch.healthy = True
            if before is None or watch.healthy is None:
                watch.start(self._first(spec))
            else:
                watch.start(before.pause())

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
