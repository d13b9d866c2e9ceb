"""When must something have happened?

Whatever lives long has a new deadline every moment: for the next byte, for a head, for the next request.  One delayed call
looks after all of them.  It is armed again only when it fires or a deadline comes nearer, so that putting one off, which is
what every byte does, costs one reading of the clock.  Deadlines are kept by the monotonic clock that is passed in, because
the reactor's own time jumps when somebody sets it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """Calls `expired` when the time that was set last has come.  Seconds of `clock`; 0 is no deadline."""

    __slots__ = ("_call", "_clock", "_due", "_looks_at", "_reactor", "expired")

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float], expired: Callable[[], None]) -> None:
        #: May be replaced at any time.
        self.expired = expired
        self._reactor = reactor
        self._clock = clock
        self._due = inf
        self._looks_at = inf
        self._call: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Expire in so many seconds, unless something else is set until then."""
        if not seconds:
            self._due = inf
            return
        due = self._due = self._clock() + seconds
        if due < self._looks_at:
            self._arm(seconds)

    def clear(self) -> None:
        """Expire never, unless something is set."""
        self._due = inf

    def stop(self) -> None:
        """As `clear`, and leave no delayed call behind."""
        self._due = self._looks_at = inf
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._looks_at = self._due
        self._call = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._call = None
        self._looks_at = inf
        left = self._due - self._clock()
        if left <= 0:
            self._due = inf
            self.expired()
        elif left < inf:
            self._arm(left)
