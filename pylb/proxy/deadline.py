"""Has nothing happened for too long?

One delayed call a timer, armed again only when it fires: noting that something happened costs one reading of the clock.
Deadlines are kept by the monotonic clock that is passed in, because the reactor's own time jumps when somebody sets it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["IdleTimer"]


class IdleTimer:
    """Calls `expired` once `timeout` seconds have passed since the last `touch`; a timeout of 0 never expires."""

    __slots__ = ("_call", "_clock", "_expired", "_last", "_reactor", "timeout")

    def __init__(
        self, reactor: IReactorTime, clock: Callable[[], float], timeout: float, expired: Callable[[], None]
    ) -> None:
        self.timeout = timeout
        self._reactor = reactor
        self._clock = clock
        self._expired = expired
        self._last = clock()
        self._call: IDelayedCall | None = reactor.callLater(timeout, self._look) if timeout else None

    def touch(self) -> None:
        """Something happened."""
        self._last = self._clock()

    def cancel(self) -> None:
        """Never expire."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        left = self._last + self.timeout - self._clock()
        if left > 0:
            self._call = self._reactor.callLater(left, self._look)
        else:
            self._call = None
            self._expired()
