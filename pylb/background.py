"""How is long work done while the reactor goes on turning?

- Each work runs in a daemon thread of its own; its result is handed over in the reactor's.
- Nothing begins before `start`, because twistd forks, and threads do not survive that.
- A result that comes after `stop` is dropped.  A work that fails is logged, and nothing is handed over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Background"]

_log = Logger()

_Work: TypeAlias = Callable[[], Any]
_Done: TypeAlias = Callable[[Any], None]


class Background:
    """A `pylb.balance.methods.Elsewhere`."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        #: What waits for the start; None afterwards.
        self._early: list[tuple[_Work, _Done]] | None = []
        self._under_way = 0
        self._idle: Deferred[None] | None = None
        self._stopped = False

    def __call__(self, work: _Work, done: _Done) -> None:
        """Call `done` with what `work` returns, some time later."""
        if self._early is not None:
            self._early.append((work, done))
            return
        self._under_way += 1
        threading.Thread(target=self._work, args=(work, done), name="pylb-background", daemon=True).start()

    def start(self) -> Deferred[None]:
        """Begin; fires when all that was waiting for it is done."""
        early, self._early = self._early or [], None
        for work, done in early:
            self(work, done)
        return self.idle()

    def idle(self) -> Deferred[None]:
        """Fires when nothing is under way; one at a time may wait for that."""
        if not self._under_way:
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def stop(self) -> None:
        """Forget results that are still to come; whoever waits for them waits for ever."""
        self._stopped = True

    def _work(self, work: _Work, done: _Done) -> None:
        """In a thread."""
        try:
            result = work()
        except Exception:
            self._reactor.callFromThread(self._over, self._failed, Failure())
        else:
            self._reactor.callFromThread(self._over, done, result)

    def _over(self, done: _Done, result: Any) -> None:
        if self._stopped:
            return
        self._under_way -= 1
        try:
            done(result)
        finally:
            if self._idle is not None and not self._under_way:
                idle, self._idle = self._idle, None
                idle.callback(None)

    def _failed(self, failure: Failure) -> None:
        _log.failure("work in the background failed, what was there before goes on", failure)
