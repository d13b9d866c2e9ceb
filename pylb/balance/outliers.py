"""Which servers do so much worse than the others that they are left out for a while, and for how long?

Envoy's outlier detection, without timers:

- So many failures in a row eject a server (pylb.balance.health counts them; any success begins a new row).
- After each interval, at the next request: servers that had enough requests in it are compared, if they are enough.  Whose
  part of successes is below the mean by more than so many standard deviations is ejected.
- The pause grows by `base_ejection_time` with each ejection and each trial that failed, up to `max_ejection_time`, and by as
  much less for each interval that has passed since.
- No more than a part of the servers is ejected, but one may always be.

Each worker compares what it has seen itself, and lets its own ejections grow; that a server is out is known to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev

from pylb.balance.server import Server
from pylb.model import Outlier

__all__ = ["Outliers"]


class Outliers:
    """What is remembered of the servers of one pool; times are seconds of the pool's clock."""

    def __init__(self, spec: Outlier, now: float) -> None:
        self.spec = spec
        #: After this moment the servers are to be compared.
        self.due = now + spec.interval
        #: Requests and failures of each server until the last comparison.
        self._before: dict[Server, tuple[int, int]] = {}
        #: How often each was ejected in a row, and until when the last time.
        self._ejections: dict[Server, tuple[int, float]] = {}

    def use(self, servers: Iterable[Server]) -> None:
        """These are the servers from now on."""
        servers = set(servers)
        self._ejections = {server: last for server, last in self._ejections.items() if server in servers}
        self._before = {server: self._before.get(server, (server.picked, server.failures)) for server in servers}

    def pause(self, server: Server, now: float) -> float:
        """How long it is to be out if it is ejected now."""
        return min(self.spec.base_ejection_time * (self._row(server, now) + 1), self.spec.max_ejection_time)

    def ejected(self, server: Server, now: float) -> None:
        """It was."""
        self._ejections[server] = self._row(server, now) + 1, now + self.pause(server, now)

    def _row(self, server: Server, now: float) -> int:
        count, until = self._ejections.get(server, (0, now))
        return max(0, count - int(max(0.0, now - until) // self.spec.interval))

    def spares(self, ejected: int, servers: int) -> bool:
        """Whether so many of the servers are ejected that no other may be."""
        return ejected >= max(1, servers * self.spec.max_ejected_percent // 100)

    def look(self, now: float) -> Sequence[Server]:
        """The interval is over: those that did so much worse than the others, the worst first."""
        self.due = now + self.spec.interval
        rates = dict(self._rates())
        asked = self.spec.success_rate
        if asked is None or len(rates) < asked.minimum_hosts:
            return []
        least = fmean(rates.values()) - asked.stdev_factor * pstdev(rates.values())
        return sorted((server for server, rate in rates.items() if rate < least), key=rates.__getitem__)

    def _rates(self) -> Iterable[tuple[Server, float]]:
        """The part of successes of each server that is well and had enough requests, since the last time."""
        for server, (picked, failures) in self._before.items():
            self._before[server] = server.picked, server.failures
            requests = server.picked - picked
            if self.spec.success_rate and server.well and requests >= self.spec.success_rate.request_volume:
                yield server, 1.0 - (server.failures - failures) / requests
