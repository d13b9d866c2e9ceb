"""How does one HTTP listener use a pool?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pylb.balance.sticky import CookieSessions
from pylb.model import StickyLearn
from pylb.proxy.http.cookie import SessionCookie
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.upstream import Upstream

__all__ = ["HttpUpstream"]

_STATUSES = (429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class HttpUpstream:
    """A pool as one HTTP listener uses it; times in seconds, 0 is no limit."""

    upstream: Upstream
    idle: IdleConnections
    send_timeout: float = 60.0
    read_timeout: float = 60.0

    @cached_property
    def name(self) -> str:
        """The pool's."""
        return self.upstream.pool.name

    @property
    def next_upstream(self) -> frozenset[str]:
        """What is tried elsewhere."""
        return self.upstream.limits.next_upstream

    @cached_property
    def retried_statuses(self) -> frozenset[int]:
        """Which statuses are."""
        return frozenset(status for status in _STATUSES if f"http_{status}" in self.next_upstream)

    @cached_property
    def cookie(self) -> SessionCookie | None:
        """What clients get to keep, if cookies say which server they belong to."""
        sticky = self.upstream.pool.sticky
        return SessionCookie(sticky) if isinstance(sticky, CookieSessions) else None

    @cached_property
    def learns_at_head(self) -> bool:
        """Whether sessions are learned when an answer begins, not when it ends."""
        sticky = self.upstream.pool.spec.sticky
        return isinstance(sticky, StickyLearn) and sticky.header

    def connection(self) -> ServerConnection:
        """A protocol for a new connection to a server."""
        return ServerConnection(self.idle, self.upstream.deadlines)
