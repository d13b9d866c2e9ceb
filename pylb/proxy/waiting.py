"""When are those who wait for a server served?

In the turn after one could be had again: somebody has finished, a server has recovered, has passed its check or was added.
And when the moment comes at which time alone may bring one back.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall

from pylb.balance.pool import Pool

__all__ = ["attend"]

#: Seconds behind the moment after which a server may be tried.
_AFTER = 0.001


def attend(pool: Pool, reactor: Any) -> None:
    """Serve those who wait in the queue of `pool`, if it has one and nobody attends to it yet."""
    if pool.queue is not None and pool.queue.changed is None:
        pool.queue.changed = _Attendant(pool, reactor).look


class _Attendant:
    """Watches one pool while somebody waits there."""

    def __init__(self, pool: Pool, reactor: Any) -> None:
        self._pool = pool
        self._reactor = reactor
        #: The next look, and whether that is in the next turn.
        self._call: IDelayedCall | None = None
        self._soon = False

    def look(self) -> None:
        """Something has changed: serve whom it may concern in the next turn, for the change is still under way."""
        if not self._pool.queue:
            self._stop()
        elif not self._soon:
            self._stop()
            self._soon = True
            self._call = self._reactor.callLater(0, self._serve)

    def _serve(self) -> None:
        self._stop()
        self._pool.serve_waiting()
        if self._pool.queue and self._call is None:
            delay = self._pool.next_change()
            if delay is not None:
                self._call = self._reactor.callLater(delay + _AFTER, self._serve)

    def _stop(self) -> None:
        call, self._call = self._call, None
        self._soon = False
        if call is not None and call.active():
            call.cancel()
