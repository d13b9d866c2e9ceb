"""How quick is a server, as nginx's least_time sees it?

The rules and numbers are those of ngx_http_upstream_least_time_module.c (1.31), in whole milliseconds:

- A moving average: each sample counts a twentieth, the first one as it is; 0 is the same as no sample.
- A slow server must get its chance: the average counts half for each `fail_timeout` and a second that has passed since the
  server was chosen, or failed.  Who is chosen time and again has its chance once in that time.
- With `inflight` it counts as no quicker than those that wait for it are old, on average.  (nginx follows that age with a
  moving average, a step at each request that it balances.)
- Times of the same 20 ms are the same, and so are all of 5 seconds and more: there the number of leases decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, nextafter

from pylb.balance.server import Server

__all__ = ["Pace", "make_paces"]

#: Milliseconds.
_STEP = 20
_LONGEST = 5000


class Pace:
    """How quick one server is."""

    __slots__ = ("_began", "_time", "_waiting", "average", "inflight", "period", "server", "since", "until")

    def __init__(self, server: Server, inflight: bool) -> None:
        self.server = server
        #: Milliseconds; 0 is unknown.
        self.average = 0
        #: nginx's `checked`: when the average began to grow old, and what halves it.
        self.since = -inf
        #: What `milliseconds` said last, of which leases, and the moment at which it is another if nothing happens.
        self._time = 0
        self._began, self._waiting = 0.0, 0
        self.use(inflight)

    def use(self, inflight: bool) -> None:
        """Be as the operator asks from now on."""
        self.inflight = inflight
        self.period = self.server.spec.fail_timeout + 1.0
        self.until = -inf

    def measured(self, seconds: float) -> None:
        """A request needed so long."""
        sample = round(seconds * 1000)
        self.average = int(0.5 + sample * 0.05 + self.average * 0.95) if self.average else sample
        self.until = -inf

    def chosen(self, now: float) -> bool:
        """The server was chosen; whether that makes a difference."""
        old = now - self.since >= self.period
        if old:
            self.since = now
            self.until = -inf
        return old

    def failed(self) -> None:
        """A request failed just now."""
        self.since = max(self.since, self.server.health.failed_at)
        self.until = -inf

    def milliseconds(self, now: float) -> int:
        """What it is to be expected to need."""
        server = self.server
        if now >= self.until or (self.inflight and (server.began, server.waiting) != (self._began, self._waiting)):
            self._work_out(now)
        return self._time

    def _work_out(self, now: float) -> None:
        # More than 64 leave nothing of any average.  The method may not know yet how late it is.
        halvings = int(max(0.0, min((now - self.since) / self.period, 64.0)))
        time = self.average >> halvings
        until = self.since + self.period * (halvings + 1) if time >= _STEP else inf
        mean = inf
        self._began, self._waiting = self.server.began, self.server.waiting
        if self.inflight and self._waiting:
            mean = self._began / self._waiting
            time = max(time, int((now - mean) * 1000))
        self._time = time = time + _STEP - time % _STEP if time < _LONGEST else _LONGEST
        if time < _LONGEST:
            # A microsecond early: by a rounding error it may be now, but must not be late.
            until = min(until, mean + (time - 0.001) / 1000)
        self.until = max(until, nextafter(now, inf))


def make_paces(servers: Sequence[Server], inflight: bool, before: object) -> Mapping[Server, Pace]:
    """One for each server; who was known to the method `before` this one stays known."""
    known: Mapping[Server, Pace] = getattr(before, "paces", {})
    paces = {server: known.get(server) or Pace(server, inflight) for server in servers}
    for pace in paces.values():
        pace.use(inflight)
    return paces
