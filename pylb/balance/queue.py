"""Who is next when a server can be had again?

Those that wait stand in the order of their priority, the lowest number first, and among equals in the order in which they
came.  Who comes goes behind those of them who can be served now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

from pylb import model
from pylb.balance.request import Request, compile_key

if TYPE_CHECKING:
    from pylb.balance.lease import Lease

__all__ = ["Place", "Queue", "Waiter"]

#: So many that have left may stand between those that wait before they are cleared away.
_FEW = 64


class Waiter(Request, Protocol):
    """Whoever wants a server and can wait for one."""

    def served(self, lease: Lease) -> None:
        """The wait is over."""

    def refused(self, error: Exception) -> None:
        """It is in vain."""


class Place:
    """Somebody's place in a queue."""

    __slots__ = ("held", "since", "waiter")

    def __init__(self, waiter: Waiter, since: float) -> None:
        self.waiter = waiter
        #: When it was taken, by the pool's clock.
        self.since = since
        #: Whether its holder still waits.
        self.held = True


class Queue:
    """Those that wait for a server of one pool."""

    __slots__ = ("_entries", "_number", "_priority", "_waiting", "changed", "due", "overflows", "spec", "timeouts")

    def __init__(self, spec: model.Queue) -> None:
        self.use(spec)
        #: Who found the queue full, and who waited in vain.
        self.overflows = 0
        self.timeouts = 0
        #: Called when somebody may be served now, and when the first one has come or the last one has left.
        self.changed: Callable[[], None] | None = None
        #: Whether it has not been looked yet who may be served.
        self.due = False
        #: A heap of (priority, number, place), those that have left among them.
        self._entries: list[tuple[int, int, Place]] = []
        self._number = 0
        self._waiting = 0

    def use(self, spec: model.Queue) -> None:
        """Be as `spec` asks, for those that come from now on."""
        self.spec = spec
        self._priority = compile_key(spec.priority) if spec.priority else None

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return self._waiting >= self.spec.size

    def join(self, waiter: Waiter, now: float) -> Place:
        """A place for `waiter`; only while the queue is not `full`."""
        place = Place(waiter, now)
        self._number += 1
        self._waiting += 1
        heappush(self._entries, (self._rank(waiter), self._number, place))
        if self._waiting == 1:
            self.tell()
        return place

    def leave(self, place: Place) -> None:
        """Its holder waits no more."""
        if not place.held:
            return
        place.held = False
        self._waiting -= 1
        if len(self._entries) > 2 * self._waiting + _FEW:
            self._entries[:] = [entry for entry in self._entries if entry[2].held]
            heapify(self._entries)
        if not self._waiting:
            self.tell()

    def in_order(self) -> Iterator[Place]:
        """Those that wait, whoever comes meanwhile included; a place that is not left by then is kept."""
        passed = []
        try:
            while self._entries:
                entry = heappop(self._entries)
                if entry[2].held:
                    passed.append(entry)
                    yield entry[2]
        finally:
            for entry in passed:
                if entry[2].held:
                    heappush(self._entries, entry)

    def tell(self) -> None:
        """It must be looked who may be served."""
        self.due = self._waiting > 0
        if self.changed is not None:
            self.changed()

    def _rank(self, waiter: Waiter) -> int:
        """What is no whole number counts as 0."""
        if self._priority is None:
            return 0
        try:
            return int(self._priority(waiter)[:20])  # Longer numbers are as far behind, or in front, as one can be.
        except ValueError:
            return 0
