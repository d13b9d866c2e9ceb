"""When must something have happened?

A connection that serves many requests has a new deadline every moment: for a head, for the next piece of a body, for the
next request.  One delayed call a connection looks after all of them; moving the deadline later costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """Calls `expired` when the time that was set last has come.  Seconds of `clock`; 0 is no deadline."""

    __slots__ = ("_call", "_clock", "_due", "_expired", "_looks_at", "_reactor")

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float], expired: Callable[[], None]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._expired = expired
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
        """Leave no delayed call behind."""
        self._due = self._looks_at = inf
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._looks_at = self._clock() + seconds
        self._call = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._call = None
        self._looks_at = inf
        left = self._due - self._clock()
        if left <= 0:
            self._due = inf
            self._expired()
        elif left < inf:
            self._arm(left)
