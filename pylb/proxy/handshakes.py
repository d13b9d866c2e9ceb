"""Why do TLS handshakes with clients fail?

The log says it once a minute for each listener, however many fail: a scan, or a client that tries again and again, does not
fill it.  Each has its line in the access log.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from OpenSSL import SSL
from twisted.logger import Logger

__all__ = ["FailedHandshakes"]

#: Seconds between two lines.
_PAUSE = 60.0

_log = Logger()


class FailedHandshakes:
    """Those at one listener; `clock` reads monotonic seconds."""

    __slots__ = ("_clock", "_listener", "_said", "_unsaid")

    def __init__(self, listener: str, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._clock = clock
        self._said = -inf
        #: How many failed since then.
        self._unsaid = 0

    def note(self, client: str, error: SSL.Error) -> None:
        """There is none with this client, for what OpenSSL says."""
        now = self._clock()
        if now - self._said < _PAUSE:
            self._unsaid += 1
            return
        _log.warn(
            "listener {listener}: no TLS with {client}: {reason}{others}",
            listener=self._listener,
            client=client,
            reason=_reason(error),
            others=f" ({self._unsaid} others since the last such line)" if self._unsaid else "",
        )
        self._said, self._unsaid = now, 0


def _reason(error: SSL.Error) -> str:
    """The last thing that OpenSSL says, which is the nearest to what happened."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else str(error) or type(error).__name__
