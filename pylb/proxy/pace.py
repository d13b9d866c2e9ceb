"""How fast may bytes come?

A source that is ahead of its rate is not read until it would have needed that long.  The bytes of a second it may have at
once: after t seconds they may be t + 1 times the rate, as in nginx.  Whoever is to get the bytes may hold the source up as
well: it is read when neither does.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pylb.proxy.deadline import Deadline, Deadlines

__all__ = ["Pace"]

#: Seconds to wait at least.
_MOMENT = 0.001


@implementer(IPushProducer)
class Pace:
    """Keeps a source to `rate` bytes a second; the producer of its bytes in its place."""

    __slots__ = ("_began", "_came", "_clock", "_deadline", "_early", "_full", "_rate", "_source", "until")

    def __init__(self, source: IPushProducer, rate: int, deadlines: Deadlines) -> None:
        self._source = source
        self._rate = rate
        self._clock = deadlines.clock
        self._began = self._clock()
        #: Until when the source was, or is, held back last.
        self.until = self._began
        self._came = 0
        #: What holds the source up: it is ahead of its rate, or who gets its bytes has enough of them.
        self._early = self._full = False
        self._deadline = Deadline(deadlines, self._in_time)

    def came(self, count: int) -> None:
        """So many bytes came from the source."""
        self._came += count
        ahead = self._came / self._rate - (self._clock() - self._began) - 1
        if ahead >= 0:
            self._deadline.set(ahead + _MOMENT)
            self.until = self._clock() + ahead
            self._early = True
            self._source.pauseProducing()

    def stop(self) -> None:
        """From now on the source may be as fast as it likes."""
        self._deadline.end()
        if self._early:
            self._in_time()

    def _in_time(self) -> None:
        self._early = False
        if not self._full:
            self._source.resumeProducing()

    def pauseProducing(self) -> None:
        self._full = True
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._full = False
        if not self._early:
            self._source.resumeProducing()

    def stopProducing(self) -> None:
        self._source.stopProducing()
