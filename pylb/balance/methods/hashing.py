"""Which slot does a key belong to?

A key gives numbers, one after the other; each names a slot, and the first whose server is usable wins.  The numbers
are those of nginx (ngx_http_upstream_hash_module.c, ngx_http_upstream_ip_hash_module.c), so a key lands where nginx
puts it.  A request without a key, and one whose key finds only servers that are not usable, goes by round robin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count
from zlib import crc32

from zope.interface import implementer

from pylb.balance.methods.interface import IWatchesFailures
from pylb.balance.methods.standby import TRIES, Slots
from pylb.balance.request import Request
from pylb.balance.server import Server

__all__ = ["Hash", "address_numbers", "key_numbers"]


def key_numbers(key: bytes) -> Iterator[int]:
    """The numbers of `hash`, those of Perl's Cache::Memcached: sums of 15 bits of crc32, each with its number before it."""
    number = crc32(key) >> 16 & 0x7FFF
    yield number
    for again in count(1):
        number += crc32(b"%d%b" % (again, key)) >> 16 & 0x7FFF
        yield number


def address_numbers(address: bytes) -> Iterator[int]:
    """The numbers of `ip_hash`: the address is stirred in time and again."""
    number = 89
    while True:
        for byte in address:
            number = (number * 113 + byte) % 6271
        yield number


@implementer(IWatchesFailures)
class Hash(Slots):
    """`hash` with key_numbers, `ip_hash` with address_numbers."""

    def __init__(
        self,
        servers: Sequence[Server],
        key: Callable[[Request | None], bytes],
        numbers: Callable[[bytes], Iterator[int]],
    ) -> None:
        super().__init__(servers)
        self._key = key
        self._numbers = numbers

    def choose(self, request: Request | None, tried: Collection[Server], now: float) -> Server:
        key = self._key(request)
        if not key:
            return self._turns.choose(request, tried, now)
        misses, expected = 0, set(tried)
        for number in self._numbers(key):
            server = self._servers[bisect_right(self._ends, number % self._total)]
            if server in self._usable and server not in tried:
                return server
            if server in expected:
                # The try before came so far; nginx goes on from there and does not call it a miss.
                expected.remove(server)
            elif misses == TRIES:
                break
            else:
                misses += 1
        return self._turns.choose(request, tried, now)
