"""Which slot of the table does a key belong to?

Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4), with a
table of 65,537 slots as in Envoy:

- Each name has its own order of all slots, and they take turns: whose turn it is gets the first slot of its order that is
  still free.  A name of twice the weight has twice the turns; each has at least one, if there are not more names than slots.
- A key belongs to the slot that its hash names, and then to those that further hashes of it name.
- When a name leaves or joins, its slots move, and few others: see the tests for how few.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from heapq import heapreplace
from itertools import count

from pylb.balance.methods.places import Weights

__all__ = ["SLOTS", "Table"]

#: A prime, so that every step leads through all slots.
SLOTS = 65_537
_FREE = 0xFFFFFFFF


class Table:
    """The slots of names, each with its weight.  It takes tenths of a second to make, no single step of that is long."""

    __slots__ = ("_names", "_owners")

    @staticmethod
    def points(weights: Weights) -> int:
        """How many slots there are."""
        return SLOTS

    def __init__(self, weights: Weights) -> None:
        self._names = [name for name, _ in weights]
        self._owners = owners = array("I", [_FREE]) * SLOTS
        orders = list(map(_order, self._names))
        # (turns for its weight, number, turns): the fewest first.
        turns = [(0.0, owner, 0) for owner in range(len(orders))]
        for _ in range(SLOTS if turns else 0):
            _, owner, taken = turns[0]
            slot = next(slot for slot in orders[owner] if owners[slot] == _FREE)
            owners[slot] = owner
            heapreplace(turns, ((taken + 1) / weights[owner][1], owner, taken + 1))

    def owners(self, key: bytes) -> Iterator[str]:
        """The names at the slots of `key`."""
        for again in count():
            digest = blake2b(key, digest_size=8, salt=again.to_bytes(8, "big")).digest()
            yield self._names[self._owners[int.from_bytes(digest, "big") % SLOTS]]


def _order(name: str) -> Iterator[int]:
    """All slots in the order of a name, over and over."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    slot = int.from_bytes(digest[:8], "big") % SLOTS
    step = int.from_bytes(digest[8:], "big") % (SLOTS - 1) + 1
    while True:
        yield slot
        slot = (slot + step) % SLOTS
