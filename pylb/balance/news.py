"""Who hears of what becomes of servers and pools?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pylb.balance.health import Change
from pylb.balance.server import Server

if TYPE_CHECKING:
    from pylb.balance.members import Members

__all__ = ["PoolObserver", "Unobserved"]


class PoolObserver(Protocol):
    """Hears of changes of fortune, not of requests."""

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None:
        """A server was ejected, recovered, switched, weighed or checked, or one that is never ejected began to fail."""

    def pool_changed(self, pool: Members, usable: bool, reason: str) -> None:
        """The pool refused somebody for the first time, or serves again."""

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None:
        """All servers are used, well or not, or no longer."""

    def method_broke(self, pool: Members, error: Exception) -> None:
        """The balancing method raised something instead of choosing; once a minute as long as it does."""


class Unobserved:
    """The observer of a pool that nobody watches."""

    def server_changed(self, pool: Members, server: Server, change: Change, reason: str) -> None: ...

    def pool_changed(self, pool: Members, usable: bool, reason: str) -> None: ...

    def panic_changed(self, pool: Members, panics: bool, reason: str) -> None: ...

    def method_broke(self, pool: Members, error: Exception) -> None: ...
