"""What was made of these bytes before?

Clients and servers send the same heads again and again.  What was made of one is kept, so that it is made once; only the
same bytes have it.  Clients choose the bytes, so there is a bound to their number and to their length.
"""

from __future__ import annotations

from typing import Final, TypeVar

__all__ = ["MOST", "MOST_BYTES", "Kept"]

#: How many are kept, and how long one may be to be worth it.
MOST: Final = 512
MOST_BYTES: Final = 2 * 1024

T = TypeVar("T")


class Kept(dict[bytes, T]):
    """What was made of bytes; `get` tells."""

    __slots__ = ()

    def keep(self, data: bytes, made: T) -> T:
        """Remember what was made of `data`, if it is worth it."""
        if len(data) <= MOST_BYTES:
            if len(self) >= MOST:
                self.clear()
            self[data] = made
        return made
