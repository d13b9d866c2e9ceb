"""How fast may bytes come?

After each read a source is not read until it would have needed that long, as in nginx.  What it could have sent and did not
is lost to it, but for the last moment's worth, which makes up for a reactor that was late.  Whoever is to get the bytes may
hold the source up as well: it is read when neither does.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pylb.proxy.deadline import Deadline, Deadlines

__all__ = ["MOMENT", "Pace"]

#: Seconds: what comes in so long is the most to be read at a time, and the most that is made up for.
MOMENT = 0.125
#: Seconds that are too short to wait.
_AT_ONCE = 0.001


@implementer(IPushProducer)
class Pace:
    """Keeps a source to `rate` bytes a second; the producer of its bytes in its place."""

    __slots__ = ("_clock", "_deadline", "_due", "_early", "_full", "_rate", "_source", "until")

    def __init__(self, source: IPushProducer, rate: int, deadlines: Deadlines) -> None:
        self._source = source
        self._rate = rate
        self._clock = deadlines.clock
        #: When all that came would have come at the rate.
        self._due = self._clock()
        #: Until when the source was, or is, held back last.
        self.until = self._due
        #: What holds the source up: it is ahead of its rate, or who gets its bytes has enough of them.
        self._early = self._full = False
        self._deadline = Deadline(deadlines, self._in_time)

    def came(self, count: int) -> None:
        """So many bytes came from the source."""
        now = self._clock()
        self._due = max(self._due, now - MOMENT) + count / self._rate
        if self._due - now >= _AT_ONCE:
            self._deadline.set(self._due - now)
            self.until = self._due
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
