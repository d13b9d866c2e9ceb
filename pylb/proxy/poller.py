"""How do the events of many sockets reach them at little cost?

Twisted's reactors wrap every event in a logging context, which costs as much as reading a small message does.  A poller is
an epoll instance of its own; a reactor watches it as if it were one socket that can be read.

- It is open, and the reactor watches it, only while it watches something itself.  When the reactor lets go of it, so does it
  of all that it watches.
- A descriptor hears what Twisted's reactors would tell it, in their order.
- In one turn of the reactor it hands out a bounded number of events, and each of them is one read or one write, or a few
  datagrams (pylb.proxy.front_port).  Whatever else is ready waits behind timers and the reactor's other sockets.
- The kernel tells of several descriptors at once.  If one is closed meanwhile and another gets its number, what was told is
  not for the other.
- An exception loses the connection in which it was raised and is logged; the others do not notice.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["DONE", "Poller", "can_poll"]

#: What is handed out in one turn of the reactor.
EVENTS = 128

_IN = getattr(select, "EPOLLIN", 0)
_OUT = getattr(select, "EPOLLOUT", 0)
_GONE = getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)

#: A connection is over, as it should be.
DONE = Failure(CONNECTION_DONE)

_log = Logger()


def can_poll(reactor: object) -> bool:
    """Whether there can be a poller under `reactor`, on this system."""
    return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)


@implementer(IReactorFDSet, IReadDescriptor)
class Poller:
    """Watches descriptors for a reactor that provides IReactorFDSet and IReactorTime."""

    def __init__(self, reactor: Any) -> None:
        self.callLater = reactor.callLater
        self.seconds = reactor.seconds
        self._reactor = reactor
        self._epoll: Any = None
        self._watched: dict[int, Any] = {}
        #: What each of them is watched for.
        self._wanted: dict[int, int] = {}
        #: Those that were added since the kernel told of the events that are being handed out.
        self._new: set[int] = set()
        self._handing_out = False
        #: Whether several events are being handed out, and those that have something to send when they are.
        self.is_busy = False
        self.unsent: list[Any] = []
        self._afterwards: list[tuple[Any, Callable[[], object]]] = []

    def forget(self, descriptor: Any, closes: bool = False) -> None:
        """Watch it no more.  If it `closes` now the kernel does so by itself.

        Not before its last copy is closed, such as that of a child until it is another program: who gets the number may be
        asked to read in vain until then.
        """
        fd = descriptor.fileno()
        if self._wanted.pop(fd, 0):
            del self._watched[fd]
            if not closes:
                self._epoll.unregister(fd)
            if not self._watched:
                self._close()

    def hand_on(self, descriptor: Any, heir: Any) -> None:
        """Watch for reading, on behalf of `heir`, the socket of a descriptor that was watched for writing, or not at all."""
        fd = descriptor.fileno()
        if fd in self._wanted:
            self._epoll.modify(fd, _IN)
            self._wanted[fd] = _IN
            self._watched[fd] = heir
        else:
            self._watch(heir, _IN)

    def soon(self, descriptor: Any, call: Callable[[], object]) -> None:
        """Call it on behalf of `descriptor` once the events that are at hand are handed out."""
        if not self._afterwards and not self._handing_out:
            self.callLater(0, self._finish)
        self._afterwards.append((descriptor, call))

    # IReactorFDSet.

    def addReader(self, reader: Any) -> None:
        self._watch(reader, _IN)

    def addWriter(self, writer: Any) -> None:
        self._watch(writer, _OUT)

    def removeReader(self, reader: Any) -> None:
        self._ignore(reader, _IN)

    def removeWriter(self, writer: Any) -> None:
        self._ignore(writer, _OUT)

    def getReaders(self) -> list[Any]:
        return [self._watched[fd] for fd, wanted in self._wanted.items() if wanted & _IN]

    def getWriters(self) -> list[Any]:
        return [self._watched[fd] for fd, wanted in self._wanted.items() if wanted & _OUT]

    def removeAll(self) -> list[Any]:
        watched = list(self._watched.values())
        self._watched.clear()
        self._wanted.clear()
        self._close()
        return watched

    def _watch(self, descriptor: Any, event: int) -> None:
        fd = descriptor.fileno()
        wanted = self._wanted.get(fd, 0)
        if wanted & event:
            return
        if wanted:
            self._epoll.modify(fd, wanted | event)
        else:
            if self._epoll is None:
                self._open()
            self._epoll.register(fd, event)
            self._watched[fd] = descriptor
            self._new.add(fd)
        self._wanted[fd] = wanted | event

    def _ignore(self, descriptor: Any, event: int) -> None:
        fd = descriptor.fileno()
        wanted = self._wanted.get(fd, 0)
        if wanted == event:
            self.forget(descriptor)
        elif wanted & event:
            self._epoll.modify(fd, wanted & ~event)
            self._wanted[fd] = wanted & ~event

    def _open(self) -> None:
        self._epoll = select.epoll()
        self._reactor.addReader(self)

    def _close(self) -> None:
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    # What the reactor calls.

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "streams"

    def doRead(self) -> None:
        watched, new = self._watched, self._new
        new.clear()
        self._handing_out = True
        events = self._epoll.poll(0, EVENTS)
        self.is_busy = len(events) > 1
        for fd, event in events:
            descriptor = watched.get(fd)
            if descriptor is None or fd in new:
                continue
            try:
                if event != _IN:
                    self._tell(fd, descriptor, event)
                elif (why := descriptor.doRead()) is not None:  # by far the commonest event
                    self._lose(descriptor, why, reading=True)
            except Exception:
                self._break(descriptor)
        self._finish()
        self._handing_out = self.is_busy = False

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go."""
        for descriptor in self.removeAll():
            descriptor.connectionLost(reason)

    def _tell(self, fd: int, descriptor: Any, event: int) -> None:
        why = None
        reading = bool(event & _IN)
        if reading:
            why = descriptor.doRead()
        elif event & _GONE:
            reading = bool(self._wanted[fd] & _IN)
            why = CONNECTION_DONE if reading else CONNECTION_LOST
        still_there = descriptor is self._watched.get(fd)
        if event & _OUT and why is None and still_there:
            reading = False
            why = descriptor.doWrite()
        if why is not None:
            self._lose(descriptor, why, reading)

    def _lose(self, descriptor: Any, why: Exception, reading: bool) -> None:
        done = isinstance(why, ConnectionDone)
        reason = DONE if done else Failure(why)
        if reading and done and IHalfCloseableDescriptor.providedBy(descriptor):
            self.removeReader(descriptor)
            descriptor.readConnectionLost(reason)
        else:
            self.forget(descriptor)
            descriptor.connectionLost(reason)

    def _break(self, descriptor: Any) -> None:
        """What was told raised an exception."""
        _log.failure("{descriptor} breaks", descriptor=descriptor)
        try:
            descriptor.connectionLost(Failure())
        except Exception:
            _log.failure("{descriptor} breaks once more", descriptor=descriptor)

    def _finish(self) -> None:
        while self.unsent or self._afterwards:
            unsent, self.unsent = self.unsent, []
            calls, self._afterwards = self._afterwards, []
            for stream in unsent:
                try:
                    stream.flush()
                except Exception:
                    self._break(stream)
            for descriptor, call in calls:
                try:
                    call()
                except Exception:
                    self._break(descriptor)
