"""What came of a server's use?

Whoever uses a server holds a lease: at most one verdict, exactly one release.  Further calls do nothing, in whatever order.
Where a server has not failed lately, and the method asks neither for times nor for load, they change a few numbers, and the
pool hears of nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylb.balance.request import Request
from pylb.balance.server import Server

if TYPE_CHECKING:
    from pylb.balance.pool import Pool

__all__ = ["Lease"]


class Lease:
    """What somebody holds while using a server: give at most one verdict, and then release."""

    __slots__ = ("_pool", "_released", "epoch", "judged", "picked", "server", "tried", "waits")

    def __init__(self, pool: Pool, server: Server, tried: tuple[Server, ...], now: float) -> None:
        self.server = server
        #: The servers that were tried for this request before.
        self.tried = tried
        #: When it was given, by the pool's clock.
        self.picked = now
        #: The server's at that time (see `pylb.balance.health`).
        self.epoch = server.health.epoch
        #: Whether it has its verdict.
        self.judged = False
        self._pool = pool
        self._released = False
        #: Whether its time is to be measured still.
        self.waits = pool.metric != ""
        server.active += 1
        server.held[0] += 1
        server.picked += 1
        pool.active += 1
        if tried:
            pool.retries += 1
        if self.waits:
            server.waiting += 1
            server.began += now

    def succeeded(self) -> None:
        """The server did what it was asked."""
        if not self.judged and not self._released:
            self.judged = True
            server = self.server
            if server.lost:
                server.lost.clear()
            if self.tried:
                self._pool.retries -= 1
            if server.health.fails:
                self._pool.succeeded(self)

    def failed(self, reason: str) -> None:
        """The server did not; `reason` is for the log."""
        if not self.judged and not self._released:
            self.judged = True
            if self.tried:
                self._pool.retries -= 1
            self.server.failures += 1
            if self.waits:
                self._wait_no_more()  # However soon an answer came that counts as a failure, it is no quick one.
            self._pool.failed(self, reason)

    def overtaken(self, connecting: bool, most: float) -> None:
        """Another server has answered first, before this one took the connection, or else before it answered.

        That is no failure, unless it has happened `most` times in a row and nobody has had an answer (0: never).
        """
        lost = self.server.lost
        if not connecting:
            lost.pop(True, None)
        lost[connecting] = lost.get(connecting, 0) + 1
        if 0 < most <= lost[connecting]:
            self.failed(f"answered none of {lost.pop(connecting)} requests that others had to answer")

    def timed(self, moment: str) -> None:
        """The moment that a metric names has come (see `pylb.model.Balance`).

        Only the first time counts, and none after a failure.
        """
        if self.waits and self._pool.metric == moment:
            self._wait_no_more()
            self._pool.measured(self)

    def _wait_no_more(self) -> None:
        self.waits = False
        server = self.server
        server.waiting -= 1
        server.began = server.began - self.picked if server.waiting else 0.0

    def bind(self, request: Request) -> bool:
        """The session of `request` belongs to this server from now on, if the pool learns sessions; whether that is news."""
        return self._pool.sticky is not None and self._pool.bind(request, self.server)

    def unbind(self, request: Request) -> None:
        """The session of `request` does not belong to this server any more, if it does."""
        if self._pool.sticky is not None:
            self._pool.sticky.forget(request, self.server)

    def release(self) -> None:
        """The server is not used any more."""
        if self._released:
            return
        self._released = True
        server = self.server
        server.active -= 1
        server.held[0] -= 1
        self._pool.active -= 1
        if self.tried and not self.judged:
            self._pool.retries -= 1
        if self.waits:
            self._wait_no_more()
        if server.health.retry_at is not None and not self.judged:
            server.health.abandoned(self.epoch, self.picked)
        if not server.usable or self._pool.watches_load:
            self._pool.released(server)

    def __repr__(self) -> str:
        return f"<Lease of {self.server.name}{', released' if self._released else ''}>"
