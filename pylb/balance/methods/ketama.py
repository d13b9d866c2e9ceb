"""Where on the ring does a key belong, so that few keys move when servers come and go?

A server has 160 points a unit of weight on a ring of 2**32; a key belongs to the first point at or after its crc32.
The points are those of Perl's Cache::Memcached::Fast with `ketama_points=160`, and of nginx's `hash ... consistent`
(ngx_http_upstream_hash_module.c): each is the crc32 of host, NUL, port and the point before.  The addresses that
were found for one name share its points and take turns.

Where a name's addresses take turns they do so apart from the round robin that stands by; in nginx they share its state.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from zlib import crc32

from zope.interface import implementer

from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.methods.standby import TRIES, Standby
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Consistent", "Ring"]

POINTS = 160


def seed(name: str) -> int:
    """The crc32 of what is the same in all points of a server ("10.0.0.1:80", "[::1]:80", "unix:/run/app.sock")."""
    if name.startswith("unix:"):
        return crc32(name[5:].encode() + b"\0")
    host, _, port = name.rpartition(":")
    return crc32(f"{host}\0{port}".encode())


class Ring:
    """The points of names, each with its weight.  It depends on nothing else and never changes.

    A ring of 10,000 names takes seconds to make.  No single step of that is long, so it can be made in a thread.
    """

    __slots__ = ("_hashes", "_owners")

    def __init__(self, weights: Iterable[tuple[str, int]]) -> None:
        self._hashes = array("I")
        self._owners = array("I")
        # In 256 parts, because nobody else can run while a list is sorted.
        parts: list[list[int]] = [[] for _ in range(256)]
        for owner, (name, weight) in enumerate(weights):
            start, point = seed(name), 0
            for _ in range(weight * POINTS):
                point = crc32(point.to_bytes(4, "little"), start)
                parts[point >> 24].append(point << 32 | owner)
        for part in parts:
            part.sort()
            self._extend(part)

    def _extend(self, points: Iterable[int]) -> None:
        """Append sorted points, each above the number of its owner; of several that are equal the first stays."""
        last = -1
        for item in points:
            point = item >> 32
            if point != last:
                self._hashes.append(point)
                self._owners.append(item & 0xFFFFFFFF)
                last = point

    def owners(self, key: bytes) -> Iterator[int]:
        """The numbers of the names at the point of `key` and at the TRIES points after it."""
        start = bisect_left(self._hashes, crc32(key))
        size = len(self._owners)
        for place in range(start, start + TRIES + 1):
            yield self._owners[place % size]

    def __len__(self) -> int:
        return len(self._hashes)


class _Name:
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


@implementer(IBalancingMethod)
class Consistent(Standby):
    """`hash ... consistent`."""

    def __init__(self, servers: Sequence[Server], key: Callable[[Request | None], bytes]) -> None:
        super().__init__(servers)
        self._key = key
        named: dict[str, list[Server]] = {}
        for server in servers:
            named.setdefault(str(server.spec.address), []).append(server)
        self._names = [_Name(members) for members in named.values()]
        self._name_of = {server: name for name in self._names for server in name.servers}
        self._ring = Ring((name, max(server.weight for server in members)) for name, members in named.items())

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

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        key = self._key(request)
        if key:
            for owner in self._ring.owners(key):
                server = self._names[owner].choose(tried, now)
                if server is not None:
                    return server
        return self._turns.choose(request, tried, now)
