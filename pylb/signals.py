"""Who answers signals, and when?

- SIGTERM and SIGINT stop the reactor, the second one cuts what still runs; SIGHUP reloads the configuration, SIGUSR1
  reopens the access log.
- They wait from the moment when twistd has found pylb until the reactor runs, and again when it has ended: nobody is killed
  by what should have reopened a log, or sees a traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

__all__ = ["SIGNALS", "Balancer", "Signals", "hold"]

#: What is answered; by a supervisor for its workers, too.
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})

_log = Logger()


def hold() -> None:
    """Let signals wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class Balancer(Protocol):
    """What signals are for."""

    def abort(self) -> None:
        """Close whatever still runs."""

    def reopen_log(self) -> None:
        """Go on in a new access log of the same path."""


class Signals(Service):
    """Answers signals as long as the reactor runs."""

    def __init__(self, balancer: Balancer, reload: Callable[[], None], reactor: Any) -> None:
        self._balancer = balancer
        self._reload = reload
        self._reactor = reactor
        self._rotate: Any = None

    def startService(self) -> None:
        super().startService()
        self._rotate = signal.getsignal(signal.SIGUSR1)
        hold()
        # Not before: the reactor installs handlers of its own when it begins to run.
        self._reactor.callWhenRunning(self._install)
        # Python forgets all handlers some time before it exits.
        self._reactor.addSystemEventTrigger("after", "shutdown", hold)

    def _install(self) -> None:
        for number, answer in self._answers().items():
            signal.signal(number, self._in_reactor(answer))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _answers(self) -> dict[signal.Signals, Callable[[int], None]]:
        return {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: lambda number: self._reload(),
            signal.SIGUSR1: self._reopen,
        }

    def _in_reactor(self, answer: Any) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(answer, number)

        return handle

    def _stop(self, number: int) -> None:
        name = signal.Signals(number).name
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            _log.warn("{name} again: closing what still runs", name=name)
            self._balancer.abort()
        else:
            _log.info("{name}: stopping; once more to close at once", name=name)

    def _reopen(self, number: int) -> None:
        self._balancer.reopen_log()
        if callable(self._rotate):
            self._rotate(number, None)
