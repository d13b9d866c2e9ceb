"""What do methods have in common that guess a server first and ask whether it is usable afterwards?

After more than TRIES wrong guesses they give up, as nginx does, and it is a round robin's turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.server import Server

__all__ = ["TRIES", "Slots", "Standby"]

#: Wrong guesses that are put up with.
TRIES = 20


class Standby:
    """The usable servers, and a round robin among them that stands by."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._usable: set[Server] = set()
        self._turns = RoundRobin(servers)

    def add(self, server: Server) -> None:
        self._usable.add(server)
        self._turns.add(server)

    def remove(self, server: Server) -> None:
        self._usable.discard(server)
        self._turns.remove(server)

    def failed(self, server: Server) -> None:
        self._turns.failed(server)


class Slots(Standby):
    """As many slots a server as it has weight, in the operator's order.

    A server keeps its slots while it is not usable, so that those of the others do not move.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__(servers)
        self._servers = list(servers)
        #: The first slot after those of each server.
        self._ends = list(accumulate(server.weight for server in servers))
        self._total = sum(server.weight for server in servers)
