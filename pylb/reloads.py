"""When does one configuration follow another?  One at a time, none before the start is over, none after the end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock

from pylb.model import Config

__all__ = ["ReloadBroke", "Reloads", "check_reloadable"]


class ReloadBroke(Exception):
    """A reload failed where nothing was to fail: some of it holds, and some does not."""


class Reloads:
    """Those that were asked for; `reload` does one."""

    def __init__(self, reload: Callable[[Config], Coroutine[Any, Any, None]]) -> None:
        self._reload = reload
        self._lock = DeferredLock()
        self._lock.acquire()
        self._pending: set[Deferred[None]] = set()
        self._ended = False

    def begin(self) -> None:
        """The start is over."""
        self._lock.release()

    def add(self, config: Config) -> Deferred[None]:
        """Serve `config` when those before it are over; fires when that is so; fails with CancelledError after the end."""
        reload = self._lock.run(lambda: Deferred.fromCoroutine(self._run(config)))
        self._pending.add(reload)
        return reload.addBoth(self._over, reload)

    def end(self) -> None:
        """Cancel all that are not over."""
        self._ended = True
        for reload in list(self._pending):
            reload.cancel()

    async def _run(self, config: Config) -> None:
        if self._ended:
            raise CancelledError
        await self._reload(config)

    def _over(self, result: Any, reload: Deferred[None]) -> Any:
        self._pending.discard(reload)
        return result


def check_reloadable(before: Config, after: Config) -> None:
    """Raise ValueError for what only a restart can change."""
    if after.workers != before.workers:
        raise ValueError(f"workers: a reload cannot make it {after.workers}: stop pylb, and start it again")
