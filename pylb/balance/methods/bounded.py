"""Which server does a key belong to, if none may have much more than its share?

Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018):

- With m leases under way at the candidates, the new one included, a server takes none beyond
  ceil(factor * m * weight / weight of all candidates).  Candidates are the usable servers that were not tried before.
- A key whose server has as many goes on to the next of its names.  With a factor of 1.25 at most four fifths of the weight
  are taken, so that longer walks than `STEPS` are next to impossible; nearer to 1 they are not.
- After `STEPS`, and without a key, it is a round robin's turn; if that names a server that has as many, the least loaded
  one serves.  It is always below its bound, because not all can be above the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from zope.interface import implementer

from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.interface import IBalancingMethod, IWatchesLoad, Tools
from pylb.balance.methods.places import Kind
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Bounded"]

#: Names of a key that are asked.
STEPS = 200


@implementer(IWatchesLoad)
class Bounded(Consistent):
    """Either of the consistent methods with `bounded_load`; `factor` is at least 1, as it is written in decimals."""

    def __init__(
        self,
        servers: Sequence[Server],
        kind: Kind,
        tools: Tools,
        factor: float,
        before: IBalancingMethod | None = None,
    ) -> None:
        super().__init__(servers, kind, tools, before)
        self._factor = Fraction(str(factor))
        #: What is known of the leases of each usable server, and of all of them; and their weight.
        self._loads: dict[Server, int] = {}
        self._active = 0
        self._weight = 0

    def add(self, server: Server) -> None:
        super().add(server)
        self._loads[server] = server.active
        self._active += server.active
        self._weight += server.weight

    def remove(self, server: Server) -> None:
        super().remove(server)
        self._active -= self._loads.pop(server)
        self._weight -= server.weight

    def load_changed(self, server: Server) -> None:
        self._active += server.active - self._loads[server]
        self._loads[server] = server.active

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        most, share = self._bound(tried)
        for name in self._homes(request, STEPS):
            full = [server for server in name.usable if server.active * share >= most * server.weight]
            server = name.choose([*tried, *full] if full else tried, now)
            if server is not None:
                return server
        server = self._turns.choose(request, tried, now)
        if server.active * share < most * server.weight:
            return server
        left = (server for server in self._loads if server not in tried)
        return min(left, key=lambda server: Fraction(server.active, server.weight))

    def _bound(self, tried: Collection[Server]) -> tuple[int, int]:
        """Whole numbers m and n, such that a server of weight w takes a lease while it has fewer than w * m / n."""
        active, weight = self._active + 1, self._weight
        for server in tried:
            if server in self._loads:
                active -= self._loads[server]
                weight -= server.weight
        return self._factor.numerator * active, self._factor.denominator * weight
