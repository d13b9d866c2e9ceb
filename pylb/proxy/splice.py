"""How do the bytes of a busy stream get from one socket to another without being read?

The kernel moves them from the source into a pipe and from there into the sink (splice(2)), and pylb counts them.

- Only between two plain streams, and while there is a pipe.  Otherwise they are read and written.
- What a pipe holds is queued with the sink as if it had been written: it is sent before the sink is closed.  The source is
  not read until the pipe is empty.
- In one turn one pipe is filled, once, and emptied as far as the sink takes it.
- A sink that takes a part of what the pipe holds is told of as one that has just begun to hold up its producer: it may need
  long, but must not stop.
- The end of the source, and the loss of either, are told to their protocols as ever.
- Where the kernel does not do it, bytes are read and written as ever.
"""

from __future__ import annotations

import errno
import sys
import typing
from typing import Any

from twisted.internet.main import CONNECTION_LOST

from pylb.proxy import pipes
from pylb.proxy.transport import Stream

__all__ = ["MANY", "READS", "Meter", "pass_on"]

#: So many bytes in one read are many, and so many such reads in a row are worth a pipe.
MANY = 16 * 1024
READS = 4
#: So many bytes are worth a pipe when it is known how many there will be.
LEAST = 64 * 1024
#: So many bytes in one turn are few, and after so many such turns in a row the pipe is given back.
FEW = 4 * 1024
TURNS = 8
#: What a kernel says that does not splice these sockets, or at all.
CANNOT = frozenset({errno.EINVAL, errno.ENOMEM, errno.ENOSYS, errno.EPERM})


class Meter(typing.Protocol):
    """Whoever lets bytes pass, and hears of it."""

    def came(self, count: int) -> None:
        """So many were taken from the source."""

    def went(self, count: int) -> None:
        """So many were given to the sink."""

    def passed(self) -> None:
        """All are gone that were to pass: the source is read as ever."""


def pass_on(source: object, sink: object, meter: Meter, count: int = sys.maxsize) -> bool:
    """Let the next `count` bytes pass from one transport to another, or all until the end.

    False if that cannot be, or not now: then nothing has changed.  While they pass nobody else writes to the sink.  When few
    come at a time they are read as ever again, and `meter` is not told.
    """
    if count < LEAST or type(source) is not Stream or type(sink) is not Stream:
        return False
    sink.flush()
    if source.source_of is not None or sink.sink_of is not None or not sink.sends_at_once:
        return False
    pipe = sink.reactor.pipes.take()
    if pipe is not None:
        source.source_of = sink.sink_of = Passage(source, sink, pipe, meter, count)
    return pipe is not None


class Passage:
    """The way from a source to a sink, while it leads through a pipe."""

    __slots__ = ("_few", "_left", "_meter", "_pipe", "_sink", "_source", "_waits")

    def __init__(self, source: Stream, sink: Stream, pipe: pipes.Pipe, meter: Meter, count: int) -> None:
        self._source: Stream | None = source
        self._sink = sink
        self._pipe = pipe
        self._meter = meter
        self._left = count
        #: How many turns in a row have brought few bytes.
        self._few = 0
        #: For the sink to take what the pipe holds.
        self._waits = False

    @property
    def held(self) -> int:
        """Bytes that the sink is still to get."""
        return self._pipe.held

    def fill(self) -> Exception | None:
        """The source can be read; why it has ended, if it has."""
        source = self._source
        assert source is not None
        if self._pipe.held:
            return None
        try:
            count = self._pipe.fill(source.fileno(), self._left)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in CANNOT:
                return CONNECTION_LOST
            self._sink.reactor.pipes.give_up()
            self._end()
            return None
        if not count:
            self._end()
            return source.end
        self._left -= count
        self._few = self._few + 1 if count < FEW else 0
        self._meter.came(count)
        self.drain()
        return None

    def drain(self) -> bool:
        """The sink can be written to, or might be.  False if the pipe still holds something."""
        count = 0
        try:
            count = self._pipe.drain(self._sink.fileno())
        except OSError as error:
            self._sink.fails(error)
        else:
            self._meter.went(count)
        if self._pipe.held:
            self._wait(count)
            return False
        self._go_on()
        return True

    def source_lost(self) -> None:
        """What is in the pipe still goes to the sink."""
        if self._source is not None:
            self._source.source_of = None
            self._source = None
        if not self._pipe.held:
            self._end()

    def sink_lost(self) -> None:
        """What is in the pipe is lost, too."""
        self._end()

    @property
    def _producer(self) -> Any:
        """Who is told when the sink takes no more, as if it had been written to."""
        return self._sink.producer or self._source

    def _wait(self, count: int) -> None:
        if not self._waits:
            self._waits = True
            self._sink.startWriting()
        elif not count:
            return
        if self._producer is not None:
            self._producer.pauseProducing()

    def _go_on(self) -> None:
        if self._waits and self._producer is not None:
            self._producer.resumeProducing()
        self._waits = False
        if not self._left or self._few >= TURNS or self._source is None:
            self._end()
            if not self._left:
                self._meter.passed()

    def _end(self) -> None:
        if self._source is not None:
            self._source.source_of = None
        self._sink.sink_of = None
        self._sink.reactor.give_back(self._pipe)
