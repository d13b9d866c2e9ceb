"""Which connections to the servers of a pool are kept for the next request?

- At most so many idle ones for the whole pool; the one that was used longest ago goes first.
- A server's most recently used connection is taken first: it is the least likely to have been closed meanwhile.
- One delayed call closes what has been idle too long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from pylb.balance.server import Server
from pylb.model import Keepalive
from pylb.proxy.deadline import Deadline, Deadlines

if TYPE_CHECKING:
    from pylb.proxy.http.server import ServerConnection

__all__ = ["IdleConnections"]


class IdleConnections:
    """The idle connections of one pool, shared by all that use the pool."""

    def __init__(self, spec: Keepalive, reactor: IReactorTime, clock: Callable[[], float]) -> None:
        self.spec = spec
        self._clock = clock
        #: How many may be idle.
        self._room = spec.connections
        self._deadline = Deadline(Deadlines(reactor, clock), self._sweep)
        #: Whether the deadline is set; it may find that it came too early.
        self._awaits = False
        #: Connection -> when it became idle, the oldest first.
        self._since: dict[ServerConnection, float] = {}
        self._stacks: defaultdict[Server, list[ServerConnection]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, connection: ServerConnection) -> bool:
        return connection in self._since

    def use(self, spec: Keepalive) -> None:
        """Be as `spec` asks from now on."""
        self.spec, self._room = spec, spec.connections
        while len(self._since) > self._room:
            self._drop(next(iter(self._since)))
        self._sweep()

    def take(self, server: Server) -> ServerConnection | None:
        """An idle connection to `server`, if there is one."""
        stack = self._stacks.get(server)
        if not stack:
            return None
        connection = stack.pop()
        del self._since[connection]
        return connection

    def keep(self, connection: ServerConnection) -> bool:
        """Keep it, if it is worth keeping; otherwise the caller closes it."""
        spec, since, now = self.spec, self._since, self._clock()
        if not self._room or connection.requests >= spec.requests or now - connection.born >= spec.time:
            return False
        if len(since) >= self._room:
            self._drop(next(iter(since)))
        if not self._awaits:
            self._awaits = True
            self._deadline.set(spec.timeout)
        since[connection] = now
        self._stacks[connection.server].append(connection)
        return True

    def forget(self, connection: ServerConnection) -> None:
        """It is gone, or said something that nobody asked for."""
        if self._since.pop(connection, None) is not None:
            stack = self._stacks[connection.server]
            stack.remove(connection)
            if not stack:
                del self._stacks[connection.server]

    def close(self) -> None:
        """Close all that are idle, and keep none any more."""
        self._room = 0
        self._deadline.stop()
        for connection in list(self._since):
            self._drop(connection)

    def _drop(self, connection: ServerConnection) -> None:
        self.forget(connection)
        connection.close()

    def _sweep(self) -> None:
        now = self._clock()
        self._awaits = False
        while self._since:
            connection, since = next(iter(self._since.items()))
            left = since + self.spec.timeout - now
            if left > 0:
                self._awaits = True
                self._deadline.set(left)
                break
            self._drop(connection)
