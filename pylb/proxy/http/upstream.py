"""How does one HTTP listener use a pool?"""

from __future__ import annotations

from pylb.balance.sticky import CookieSessions
from pylb.model import StickyLearn
from pylb.proxy.http.cookie import SessionCookie
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.upstream import Upstream

__all__ = ["HttpUpstream"]

_STATUSES = (403, 404, 429, 500, 502, 503, 504)
#: Those that count against nobody unless they are listed.
_REFUSALS = (403, 404)


def _names(status: int) -> set[str]:
    return {f"http_{status}", f"http_{status // 100}xx"}


class HttpUpstream:
    """A pool as one HTTP listener uses it; times in seconds, 0 is no limit."""

    __slots__ = (
        "blamed_if_retried",
        "blamed_statuses",
        "cookie",
        "hedge",
        "idle",
        "learns_at_end",
        "learns_at_head",
        "name",
        "next_upstream",
        "read_timeout",
        "retried_statuses",
        "send_timeout",
        "unwelcome",
        "upstream",
    )

    def __init__(
        self, upstream: Upstream, idle: IdleConnections, send_timeout: float = 60.0, read_timeout: float = 60.0
    ) -> None:
        self.upstream = upstream
        self.idle = idle
        self.send_timeout = send_timeout
        self.read_timeout = read_timeout
        self.hedge = upstream.pool.spec.hedge
        #: The pool's.
        self.name = upstream.pool.name
        #: What is tried elsewhere, and which statuses are.
        self.next_upstream = upstream.limits.next_upstream
        self.retried_statuses = frozenset(status for status in _STATUSES if f"http_{status}" in self.next_upstream)
        fail_on = upstream.pool.spec.fail_on
        #: Which statuses are failures, which are if another server takes over, and for which one of all that is to be done.
        self.blamed_statuses = frozenset(status for status in range(400, 600) if _names(status) & (fail_on or set()))
        self.blamed_if_retried = self.retried_statuses.difference(_REFUSALS) if fail_on is None else frozenset()
        self.unwelcome = self.retried_statuses | self.blamed_statuses
        spec, sticky = upstream.pool.spec.sticky, upstream.pool.sticky
        #: What clients get to keep, if cookies say which server they belong to.
        self.cookie = SessionCookie(sticky) if isinstance(sticky, CookieSessions) else None
        #: Whether sessions are learned when an answer begins, and whether when it ends.
        self.learns_at_head = isinstance(spec, StickyLearn) and spec.header
        self.learns_at_end = isinstance(spec, StickyLearn) and not spec.header

    def connection(self) -> ServerConnection:
        """A protocol for a new connection to a server."""
        return ServerConnection(self.idle, self.upstream.deadlines)
