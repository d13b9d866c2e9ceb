"""How are the bytes of a stream written, and its connection closed, at little cost?

A stream is a transport of Twisted's, on a poller in the place of the reactor, with these differences:

- What is written is sent at once if nothing waits before it.  Only what the socket does not take is queued, and from there
  on all is as ever: producers, back-pressure, the end when the queue is empty.
- What is small and written while several events are handed out is sent after the last of them.  To send wakes whoever
  waits for it; a server that gets one message after the other answers them all before it sleeps again.
- A socket that breaks while it is written to tells so a little later: whoever writes never hears of a loss before `write`
  returns.  And it is told as a loss, though the kernel, which tells an error once, makes a mere end of it afterwards.
- With nothing queued, a connection is shut at once, and closed when the events at hand are handed out.
- A stream may be the source or the sink of bytes that pass through a pipe (see `pylb.proxy.splice`).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from pylb.proxy.poller import DONE

if TYPE_CHECKING:
    from pylb.proxy.splice import Passage
    from pylb.proxy.streams import Streams

__all__ = ["Stream", "address_of", "make_stream"]

#: A socket that takes nothing for now.
_BUSY = frozenset({errno.EAGAIN, errno.ENOBUFS})

#: So many bytes are not small.
_LARGE = 16 * 1024

#: Closes with a reset (SO_LINGER).
_RESET = struct.pack("ii", 1, 0)

Address = IPv4Address | IPv6Address | UNIXAddress


def make_stream(factory: Any, sock: Any, reactor: Streams, where: Any) -> Stream:
    """A stream for a connected socket, with a protocol that `factory` makes; somebody else sees to it that it is watched.

    A factory that speaks through other streams has a `make_stream` itself, which is given the rest.  `where` is the kernel's
    word for the other end; who makes a protocol is not told, as the protocol can ask the stream.
    """
    make = getattr(factory, "make_stream", None)
    if make is not None:
        stream: Stream = make(sock, reactor, where)
        return stream
    return Stream(sock, factory.buildProtocol(None), reactor, where)


class Stream(tcp.Connection):
    """A connected socket, of whichever family and whoever began; `protocol` is still to be told."""

    logstr = "-"
    reactor: Streams
    _tempDataLen = 0
    #: It has the options of the socket that listened.
    inherits = False
    #: The kernel has told an error.
    _broken = False

    # tcp.Connection's asks whether it speaks TLS itself, which is spoken above a stream.
    registerProducer = FileDescriptor.registerProducer

    def __init__(self, sock: Any, protocol: IProtocol, reactor: Streams, where: Any) -> None:
        """`sock` does not block; somebody else sees to it that it is watched."""
        # Not super(): most of what Twisted's make is for who has another way to be made.
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.reactor = reactor
        #: The kernel's word for the other end.
        self.where = where
        self._tempDataBuffer: list[bytes] = []
        #: What passes from here to another stream, and from another one to here, without being read.
        self.source_of: Passage | None = None
        self.sink_of: Passage | None = None
        #: What is sent when the events at hand are handed out.
        self._unsent = b""
        # Twisted has these in its classes, where CPython looks for them anew each time: every event asks for most of them.
        self.connected = 1
        self.disconnecting = self.disconnected = 0
        self._writeDisconnected = self._aborting = False
        self.dataBuffer = b""
        self.bufferSize = self.bufferSize
        self.producer: Any = None
        self.streamingProducer = False

    def begin(self) -> None:
        """It is watched: tell the protocol."""
        self.protocol.makeConnection(self)

    def getPeer(self) -> Address:
        return address_of(self.where)

    def getHost(self) -> Address:
        return address_of(self.socket.getsockname())

    @property
    def end(self) -> Exception:
        """What it is when nothing more can be read."""
        return CONNECTION_LOST if self._broken else CONNECTION_DONE

    @property
    def sends_at_once(self) -> bool:
        """Whether what was written now would be the next to be sent."""
        ends = self.disconnecting or self._writeDisconnecting or self._aborting or not self.connected
        return not ends and not self._queued

    def unregisterProducer(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None and self.disconnecting:
            self.reactor.soon(self, self._close)

    def doRead(self) -> Exception | None:
        if self.disconnecting:
            return None
        if self.source_of is not None:
            return self.source_of.fill()
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if data:
            self.protocol.dataReceived(data)
            return None
        return self._ended()

    def doWrite(self) -> Exception | None:
        if self.sink_of is not None and not self.sink_of.drain():
            return CONNECTION_LOST if self._broken else None
        return super().doWrite()

    def write(self, data: bytes) -> None:
        if self._tempDataBuffer or self.dataBuffer or not self.connected or self._writeDisconnected or self._aborting:
            super().write(data)
        elif self.sink_of is not None and self.sink_of.held:
            super().write(data)  # which comes after what passes
        elif self._unsent:
            self._unsent += data
        else:
            self._unsent = data
            if self.reactor.is_busy and self.sink_of is None and len(data) < _LARGE:
                self.reactor.unsent.append(self)
            else:
                self.flush()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def flush(self) -> None:
        """Send what was held back until now."""
        data = self._unsent
        if not data:
            return
        self._unsent = b""
        try:
            sent = self.socket.send(data)
        except OSError as error:
            sent = 0
            self.fails(error)
        if sent < len(data):
            super().write(data[sent:])
        elif self.producer is not None and not self.streamingProducer:
            self.startWriting()  # Twisted then asks it for more

    def fails(self, error: OSError) -> None:
        """The socket did not take what it was given: it is busy, or broken."""
        self._broken = error.errno not in _BUSY

    def loseConnection(self) -> None:
        if self.disconnecting or not self.connected:
            return
        if self._queued:
            super().loseConnection()
        else:
            self.disconnecting = 1
            self.reactor.soon(self, self._close)

    def loseWriteConnection(self) -> None:
        self.flush()
        if self._queued or not self.connected:
            super().loseWriteConnection()
        elif not self._writeDisconnected:
            self._writeDisconnecting = self._writeDisconnected = True
            self._closeWriteConnection()

    def _ended(self) -> Exception | None:
        """Nothing more can be read."""
        if self._broken or not IHalfCloseableProtocol.providedBy(self.protocol):
            return self.end
        self.protocol.readConnectionLost()
        if self.connected and not self.disconnecting:
            self.reactor.removeReader(self)
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.flush()
        self.disconnected = 1
        self.connected = 0
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.source_of is not None:
            self.source_of.source_lost()
        if self.sink_of is not None:
            self.sink_of.sink_lost()
        self.reactor.forget(self, closes=True)
        if isinstance(reason.value, ConnectionAborted):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()
        protocol = self.protocol
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)

    @property
    def _queued(self) -> bool:
        """Whether something must be written first, or a pull producer may have more."""
        if self._tempDataBuffer or self.dataBuffer or (self.sink_of is not None and self.sink_of.held):
            return True
        return self.producer is not None and not self.streamingProducer

    def _close(self) -> None:
        if self._aborting or not self.connected:
            return
        self.flush()
        if self._queued:
            # Written after the connection was to be closed: Twisted sends that, too.
            self.stopReading()
        elif self._postLoseConnection() is not None:
            self.connectionLost(DONE)


def address_of(where: Any) -> Address:
    """Twisted's word for what the kernel calls the address of a socket."""
    if not isinstance(where, tuple):
        return UNIXAddress(where or None)
    if len(where) == 2:
        return IPv4Address("TCP", *where)
    if where[3]:  # of one of our networks: only the kernel's own text says which
        where = (socket.getnameinfo(where, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], *where[1:])
    return IPv6Address("TCP", *where)
