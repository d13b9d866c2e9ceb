"""Of two servers, who costs less?

Two weighted draws; the lower `estimate * (active + 1) / weight` wins.  The estimate is the peak-sensitive moving average of
Finagle, Linkerd and Envoy: a slower sample is believed at once, a quicker one bit by bit, and as long as there is none the
estimate decays, so that a server that was slow has its chance again.

Times below LEAST count as LEAST: what lies between is the network's chance, and of servers that are level the draw decides.

A server without a sample counts as quick as the one that it is compared with: then the leases alone decide, so it is
neither left out nor overrun.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from random import Random

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod, IWatchesTime
from pylb.balance.methods.random import RandomTwo
from pylb.balance.server import Server
from pylb.model import Balance

__all__ = ["LEAST", "TAU", "PeakEwma"]

#: Seconds in which an estimate decays to 1/e.
TAU = 10.0
#: Seconds below which no server is called quicker than another.
LEAST = 0.005


class _Estimate:
    """How long a server needs, in seconds."""

    __slots__ = ("at", "value")

    def __init__(self, seconds: float, now: float) -> None:
        self.value = seconds
        self.at = now

    def measured(self, seconds: float, now: float) -> None:
        old = exp((self.at - now) / TAU)
        self.value = max(seconds, self.value * old + seconds * (1.0 - old))
        self.at = now

    def at_present(self, now: float) -> float:
        return max(LEAST, self.value * exp((self.at - now) / TAU))


@implementer(IWatchesTime)
class PeakEwma(RandomTwo):
    """`peak_ewma`; the estimates of `before`, the method that this one takes the place of, still count."""

    def __init__(
        self, servers: Sequence[Server], random: Random, balance: Balance, before: IBalancingMethod | None = None
    ) -> None:
        super().__init__(servers, random)
        self.metric = balance.metric or ""
        #: Of those that have been measured.
        self._estimates: dict[Server, _Estimate] = {}
        if isinstance(before, PeakEwma):
            known = before._estimates
            self._estimates.update({server: known[server] for server in servers if server in known})

    def measured(self, server: Server, seconds: float, now: float) -> None:
        estimate = self._estimates.get(server)
        if estimate is None:
            self._estimates[server] = _Estimate(seconds, now)
        else:
            estimate.measured(seconds, now)

    def _better(self, first: Server, second: Server, now: float) -> Server:
        one, other = self._estimates.get(first), self._estimates.get(second)
        cost, rival = (first.active + 1) * second.weight, (second.active + 1) * first.weight
        if one is None or other is None:
            return second if rival <= cost else first
        return second if rival * other.at_present(now) <= cost * one.at_present(now) else first
