"""Whose turn is it?  By weight, in nginx's order."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from pylb.balance.methods.interface import IWatchesFailures
from pylb.balance.methods.turns import Seated, WeightedTurns
from pylb.balance.server import Server

__all__ = ["RoundRobin"]


@implementer(IWatchesFailures)
class RoundRobin(Seated):
    """Smooth weighted round robin among all that are usable."""

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__(servers)
        self._turns = WeightedTurns()

    def add(self, server: Server) -> None:
        self._turns.join(self._seat_of[server])

    def remove(self, server: Server) -> None:
        self._turns.quit(self._seat_of[server])

    def _next(self, now: float) -> Server:
        server = self._turns.next().server
        if self._turns.rising:
            self._turns.recover()
        return server
