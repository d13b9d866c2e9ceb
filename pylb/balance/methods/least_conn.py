"""Who has the least to do, for its weight?

The smallest `active / weight` wins; those that are level take turns, as in nginx (ngx_http_upstream_least_conn_module.c).
"""

from __future__ import annotations

from zope.interface import implementer

from pylb.balance.methods.interface import IWatchesFailures, IWatchesLoad
from pylb.balance.methods.level import LeastLoaded
from pylb.balance.methods.turns import ServerSeat

__all__ = ["LeastConn"]


@implementer(IWatchesLoad, IWatchesFailures)
class LeastConn(LeastLoaded):
    """Least connections in nginx's order."""

    def _load(self, seat: ServerSeat, now: float) -> int:
        return seat.server.active * self._units[seat.weight]
