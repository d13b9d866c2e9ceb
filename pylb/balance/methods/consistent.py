"""Which server does a key belong to, so that few keys move when servers come and go?

- A key belongs to one name after the other (places.py); the first that has a usable server wins.
- The addresses that were found for one name share its places and take turns at its keys.
- A name keeps its places while its servers are not usable, so that only its own keys move, and come back with it.
- A request without a key, one whose names are not usable, and all while there are no places yet, go by round robin.

Where a name's addresses take turns they do so apart from the round robin that stands by; in nginx they share its state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod, IWatchesFailures, Tools
from pylb.balance.methods.places import Kind, Layout
from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.methods.standby import TRIES, Standby
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Consistent", "Name"]


class Name:
    """The servers of one name."""

    __slots__ = ("servers", "turns", "usable")

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.usable: set[Server] = set()
        self.turns = RoundRobin(servers)

    def choose(self, tried: Collection[Server], now: float) -> Server | None:
        """The next of those that are usable and not in `tried`."""
        left = self.usable.difference(tried) if tried else self.usable
        if len(left) > 1:
            return self.turns.choose(None, tried, now)
        return next(iter(left), None)


@implementer(IWatchesFailures)
class Consistent(Standby):
    """`hash ... consistent` with ketama's Ring, `maglev` with its Table.

    `before` is the method that this one takes the place of; its places serve until the new ones are there, and are not
    made again if they would be the same.
    """

    def __init__(
        self, servers: Sequence[Server], kind: Kind, tools: Tools, before: IBalancingMethod | None = None
    ) -> None:
        super().__init__(servers)
        self._key = tools.key
        named: dict[str, list[Server]] = {}
        for server in servers:
            named.setdefault(str(server.spec.address), []).append(server)
        self._names = {name: Name(members) for name, members in named.items()}
        self._name_of = {server: name for name in self._names.values() for server in name.servers}
        weights = tuple((name, max(server.weight for server in members)) for name, members in named.items())
        layout = before._layout if isinstance(before, Consistent) else None
        if layout is None or (layout.kind, layout.weights) != (kind, weights):
            layout = Layout(
                kind, weights, tools.elsewhere, layout.places if layout is not None and layout.weights else None
            )
        self._layout = layout

    def add(self, server: Server) -> None:
        super().add(server)
        name = self._name_of[server]
        name.usable.add(server)
        name.turns.add(server)

    def remove(self, server: Server) -> None:
        super().remove(server)
        name = self._name_of[server]
        name.usable.discard(server)
        name.turns.remove(server)

    def failed(self, server: Server) -> None:
        super().failed(server)
        self._name_of[server].turns.failed(server)

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        for name in self._homes(request, TRIES + 1):
            server = name.choose(tried, now)
            if server is not None:
                return server
        return self._turns.choose(request, tried, now)

    def _homes(self, request: Request | None, steps: int) -> Iterator[Name]:
        """The names that a request belongs to, as far as so many steps lead."""
        key = self._key(request)
        places = self._layout.places
        if not key or places is None:
            return
        for owner in islice(places.owners(key), steps):
            name = self._names.get(owner)
            if name is not None:
                yield name
