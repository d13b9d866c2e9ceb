"""When must something have happened?

Whatever lives long has a new deadline every moment: for the next byte, for a head, for the next request.  So the deadlines
of many share one delayed call, and each keeps its place in their queue while it is only put off, which is what every byte
does and costs one reading of the clock.  Those that were stopped stay in the queue until they are half of it.

Deadlines are kept by the monotonic clock that is passed in, because the reactor's own time jumps when somebody sets it.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline", "Deadlines"]

#: Stopped ones that are not worth looking for.
_FEW = 64

#: When to look at a deadline; the number is for those that are due at once.
Entry: TypeAlias = "tuple[float, int, Deadline]"


class Deadlines:
    """The deadlines of many, and the one delayed call that there is while one of them is awaited."""

    __slots__ = ("_call", "_number", "_queue", "_reactor", "_stopped", "clock")

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._reactor = reactor
        self._queue: list[Entry] = []
        self._number = 0
        #: How many in the queue are there no more.
        self._stopped = 0
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._queue) - self._stopped

    def put(self, deadline: Deadline, due: float) -> Entry:
        """Look at `deadline` when the clock reads `due`, as long as what is returned is its entry."""
        self._number += 1
        entry = (due, self._number, deadline)
        heappush(self._queue, entry)
        if self._queue[0] is entry:
            self._arm()
        return entry

    def stopped(self) -> None:
        """A deadline has given up its entry."""
        self._stopped += 1
        if self._stopped == len(self._queue):
            self._clear()
        elif self._stopped > _FEW and self._stopped > len(self):
            self._queue[:] = [entry for entry in self._queue if entry[2].entry is entry]
            heapify(self._queue)
            self._stopped = 0

    def _clear(self) -> None:
        self._queue.clear()
        self._stopped = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._reactor.callLater(max(0.0, self._queue[0][0] - self.clock()), self._look)

    def _look(self) -> None:
        self._call = None
        now, queue = self.clock(), self._queue
        try:
            while queue and queue[0][0] <= now:
                entry = heappop(queue)
                if entry[2].entry is entry:
                    entry[2].look(now)
                else:
                    self._stopped -= 1
        finally:
            if len(self):
                self._arm()
            else:
                self._clear()


class Deadline:
    """Calls `expired` when the time that was set last has come.  Seconds of the clock; 0 is no deadline."""

    __slots__ = ("_deadlines", "_due", "_looks_at", "entry", "expired")

    def __init__(self, deadlines: Deadlines, expired: Callable[[], None]) -> None:
        #: May be replaced at any time.
        self.expired = expired
        #: Its place among the others.
        self.entry: Entry | None = None
        self._deadlines = deadlines
        self._due = inf
        self._looks_at = inf

    def set(self, seconds: float) -> None:
        """Expire in so many seconds, unless something else is set until then."""
        if not seconds:
            self._due = inf
            return
        due = self._due = self._deadlines.clock() + seconds
        if due < self._looks_at:
            if self.entry is not None:
                self._leave()
            self._await(due)

    def clear(self) -> None:
        """Expire never, unless something is set."""
        self._due = inf

    def stop(self) -> None:
        """As `clear`, and leave nothing behind that waits."""
        self._due = self._looks_at = inf
        if self.entry is not None:
            self._leave()

    def end(self) -> None:
        """Stop for good, and forget who was to be told, who as a rule has this deadline: they would be a circle."""
        self.stop()
        self.expired = _nobody

    def look(self, now: float) -> None:
        """The moment of its entry has come."""
        self.entry = None
        self._looks_at = inf
        if self._due <= now:
            self._due = inf
            self.expired()
        elif self._due < inf:
            self._await(self._due)

    def _await(self, due: float) -> None:
        self._looks_at = due
        self.entry = self._deadlines.put(self, due)

    def _leave(self) -> None:
        self.entry = None
        self._deadlines.stopped()


def _nobody() -> None:
    """Hears of nothing."""
