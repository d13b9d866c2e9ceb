"""What does the operator hear of servers and pools?  One line for each change of fortune, none for a request."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from pylb.balance.health import Change
from pylb.balance.members import Members
from pylb.balance.server import Server

__all__ = ["Fortunes"]


#: What others than clients do to a server.
_ORDERS = frozenset({Change.CHECKED, Change.SWITCHED, Change.WEIGHED})


class Fortunes:
    """The observer of every pool: logs what becomes of its servers.

    What follows from `orders` (checks, switches) is not logged where somebody else gives them, and logs them.
    """

    _log = Logger()

    def __init__(self, orders: bool = True) -> None:
        self._orders = orders

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        if change is Change.WEIGHED or (change in _ORDERS and not self._orders):
            return
        if change is Change.TOLERATED:
            self._log.warn(
                "pool {pool}: {server} fails and stays: {reason}", pool=pool.name, server=server.name, reason=reason
            )
        elif change is Change.EJECTED:
            self._log.warn(
                "pool {pool}: {server} is out for {pause:g} s: {reason}",
                pool=pool.name,
                server=server.name,
                pause=server.health.pause,
                reason=reason,
            )
        elif change is Change.SWITCHED:
            self._log.info(
                "pool {pool}: {server} is switched to {state}", pool=pool.name, server=server.name, state=reason
            )
        elif change is Change.CHECKED:
            self._log.emit(
                LogLevel.warn if server.checked == "unhealthy" else LogLevel.info,
                "pool {pool}: {server} is {state}: {reason}",
                pool=pool.name,
                server=server.name,
                state="healthy" if server.checked == "passed" else server.checked,
                reason=reason,
            )
        else:
            self._log.info("pool {pool}: {server} is back: {reason}", pool=pool.name, server=server.name, reason=reason)

    def pool_changed(self, pool: Members, usable: bool, reason: str) -> None:
        if usable:
            self._log.info(
                "pool {pool} is usable again ({refused} refused since the start): {reason}",
                pool=pool.name,
                refused=pool.refused,
                reason=reason,
            )
        else:
            self._log.error("pool {pool} refuses clients: {reason}", pool=pool.name, reason=reason)

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None:
        if panics:
            self._log.error("pool {pool} uses all, well or not: {reason}", pool=pool.name, reason=reason)
        else:
            self._log.info("pool {pool} uses those that are well again: {reason}", pool=pool.name, reason=reason)

    def method_broke(self, pool: Members, error: Exception) -> None:
        self._log.failure(
            "pool {pool} refuses clients: its balancing method breaks ({refused} refused since the start)",
            Failure(error),
            pool=pool.name,
            refused=pool.refused,
        )
