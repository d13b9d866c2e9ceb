"""Where on the ring does a key belong?

A server has 160 points a unit of weight on a ring of 2**32; a key belongs to the first point at or after its crc32, and
then to those that follow.  The points are those of Perl's Cache::Memcached::Fast with `ketama_points=160`, and of nginx's
`hash ... consistent` (ngx_http_upstream_hash_module.c): each is the crc32 of host, NUL, port and the point before.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from zlib import crc32

from pylb.balance.methods.places import Weights

__all__ = ["Ring"]

POINTS = 160


def seed(name: str) -> int:
    """The crc32 of what is the same in all points of a server ("10.0.0.1:80", "[::1]:80", "unix:/run/app.sock")."""
    if name.startswith("unix:"):
        return crc32(name[5:].encode() + b"\0")
    host, _, port = name.rpartition(":")
    return crc32(f"{host}\0{port}".encode())


class Ring:
    """The points of names, each with its weight.

    A ring of 10,000 names takes seconds to make.  No single step of that is long, so it can be made in a thread.
    """

    __slots__ = ("_hashes", "_names", "_owners")

    @staticmethod
    def points(weights: Weights) -> int:
        """How many points it takes."""
        return POINTS * sum(weight for _, weight in weights)

    def __init__(self, weights: Weights) -> None:
        self._names = [name for name, _ in weights]
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

    def owners(self, key: bytes) -> Iterator[str]:
        """The names at the point of `key` and at the points after it, round and round."""
        place = bisect_left(self._hashes, crc32(key))
        names, owners = self._names, self._owners
        size = len(owners)
        while True:
            yield names[owners[place % size]]
            place += 1

    def __len__(self) -> int:
        return len(self._hashes)
