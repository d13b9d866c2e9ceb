"""How are the bytes of a stream written, and its connections made and closed, at little cost?

A stream is a transport of Twisted's, on a poller in the place of the reactor, with these differences:

- What is written is sent at once if nothing waits before it.  Only what the socket does not take is queued, and from there
  on all is as ever: producers, back-pressure, the end when the queue is empty.
- A socket that breaks while it is written to tells so a little later: whoever writes never hears of a loss before `write`
  returns.  And it is told as a loss, though the kernel, which tells an error once, makes a mere end of it afterwards.
- With nothing queued, a connection is shut at once, and closed when the events at hand are handed out.
- Connecting takes a socket and at most one event; no resolver, no delayed call, no Deferred.  Who asked hears later, always.
- A stream may be the source or the sink of bytes that pass through a pipe (see `pylb.proxy.splice`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, UserError, getConnectError
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IWriteDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from pylb.proxy.pipes import Pipe, Pipes
from pylb.proxy.poller import DONE, Poller, can_poll

if TYPE_CHECKING:
    from pylb.proxy.splice import Passage

__all__ = ["IStreamFactory", "Stream", "Streams", "address_of", "make_stream", "streams"]

#: A socket that takes nothing for now.
_BUSY = frozenset({errno.EAGAIN, errno.ENOBUFS})

#: Closes with a reset (SO_LINGER).
_RESET = struct.pack("ii", 1, 0)

Address = IPv4Address | IPv6Address | UNIXAddress


class IStreamFactory(Interface):
    """A factory of protocols that speak through streams of its own."""

    def make_stream(sock: Any, reactor: Streams, peer: Address) -> Stream:
        """A Stream for a connected socket and a new protocol of this factory."""


def make_stream(factory: Any, sock: Any, reactor: Streams, peer: Address) -> Stream:
    """A stream for a connected socket, with a protocol that `factory` makes; somebody else sees to it that it is watched."""
    if IStreamFactory.providedBy(factory):
        return factory.make_stream(sock, reactor, peer)
    return Stream(sock, factory.buildProtocol(peer), reactor, peer)


@lru_cache(1024)
def _ipv4(host: str, port: int) -> IPv4Address:
    """The address of a server, of which there are few."""
    return IPv4Address("TCP", host, port)


def streams(reactor: Any, pipes: int = 0) -> Any:
    """What streams have in the place of `reactor`: a cheaper one, or itself if there is none on this system."""
    return Streams(reactor, pipes) if can_poll(reactor) else reactor


class Streams(Poller):
    """A poller that also connects, as reactors do (IReactorTCP, IReactorUNIX), for who looks after the time it takes.

    Whatever is wrong is told by the factory's `clientConnectionFailed`, later, except that there is no socket to be had, or
    no such zone as an IPv6 address names: that raises OSError.
    """

    def __init__(self, reactor: Any, pipes: int = 0) -> None:
        """With so many `pipes` that bytes can pass through."""
        super().__init__(reactor)
        self.pipes = Pipes(pipes)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float | None = None) -> Connecting:
        """Connect to a literal address."""
        if ":" not in host:
            return Connecting(self, socket.AF_INET, (host, port), _ipv4(host, port), factory)
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        return Connecting(self, socket.AF_INET6, where, IPv6Address("TCP", host, port), factory)

    def connectUNIX(self, path: str, factory: Any, timeout: float | None = None) -> Connecting:
        """Connect to the Unix socket at `path`."""
        return Connecting(self, socket.AF_UNIX, path, UNIXAddress(path), factory)

    def give_back(self, pipe: Pipe) -> None:
        """Nothing passes through it any more.  Pipes are kept while there are streams."""
        self.pipes.give_back(pipe)
        if not self._watched:
            self.pipes.close()

    def _close(self) -> None:
        super()._close()
        self.pipes.close()


class Stream(tcp.Connection):
    """A connected socket, of whichever family and whoever began; `protocol` is still to be told."""

    logstr = "-"
    reactor: Streams
    #: What passes from here to another stream, and from another one to here, without being read.
    source_of: Passage | None = None
    sink_of: Passage | None = None
    connected = 1
    _tempDataLen = 0
    #: The kernel has told an error.
    _broken = False

    # tcp.Connection's asks whether it speaks TLS itself, which is spoken above a stream.
    registerProducer = FileDescriptor.registerProducer

    def __init__(self, sock: Any, protocol: IProtocol, reactor: Streams, peer: Address) -> None:
        """`sock` does not block; somebody else sees to it that it is watched."""
        # Not super(): most of what Twisted's make is for who has another way to be made.
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.reactor = reactor
        self._peer = peer
        self._tempDataBuffer: list[bytes] = []

    def begin(self) -> None:
        """It is watched: tell the protocol."""
        self.protocol.makeConnection(self)

    def getPeer(self) -> Address:
        return self._peer

    def getHost(self) -> Address:
        return address_of(self.socket.family, self.socket.getsockname())

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
            return
        if self.sink_of is not None and self.sink_of.held:
            super().write(data)  # which comes after what passes
            return
        try:
            sent = self.socket.send(data)
        except OSError as error:
            sent = 0
            self.fails(error)
        if sent < len(data):
            super().write(data[sent:])
        elif self.producer is not None and not self.streamingProducer:
            self.startWriting()  # Twisted then asks it for more

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

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
        if self._queued or not self.connected:
            super().loseWriteConnection()
        elif not self._writeDisconnected:
            self._writeDisconnecting = self._writeDisconnected = True
            self._closeWriteConnection()

    def _ended(self) -> Exception | None:
        """Nothing more can be read."""
        if self._broken or not IHalfCloseableProtocol.providedBy(self.protocol):
            return self.end
        self.reactor.removeReader(self)
        self.protocol.readConnectionLost()
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        self.disconnected = 1
        self.connected = 0
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.source_of is not None:
            self.source_of.source_lost()
        if self.sink_of is not None:
            self.sink_of.sink_lost()
        self.reactor.forget(self)
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
        if self._queued:
            # Written after the connection was to be closed: Twisted sends that, too.
            self.stopReading()
        elif self._postLoseConnection() is not None:
            self.connectionLost(DONE)


@implementer(IWriteDescriptor)
class Connecting:
    """A connection that is being made, and afterwards the way to end it."""

    __slots__ = ("_factory", "_peer", "_problem", "_reactor", "_socket", "_stream", "fileno")

    def __init__(self, reactor: Streams, family: int, where: Any, peer: Address, factory: Any) -> None:
        self._reactor = reactor
        self._peer = peer
        self._factory = factory
        self._stream: Stream | None = None
        sock = socket.SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket: Any = sock
        self.fileno = sock.fileno
        self._problem = sock.connect_ex(where)
        if self._problem == errno.EINPROGRESS:
            # To a server on this machine it is made by now, which connect(2) tells when it is asked again.
            self._problem = sock.connect_ex(where)
        if self._problem == errno.EALREADY:
            reactor.addWriter(self)
        else:
            reactor.soon(self, self._settle)

    def logPrefix(self) -> str:
        return "-"

    def doWrite(self) -> None:
        assert self._socket is not None
        self._problem = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._settle()

    def connectionLost(self, reason: Failure) -> None:
        """The socket has an error, the reactor lets go, or the factory or its protocol has raised an exception."""
        if self._stream is not None:
            self._stream.connectionLost(reason)
        elif self._socket is not None:
            problem = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(_explained(problem) if problem else reason.value or CONNECTION_LOST)

    def disconnect(self) -> None:
        """Give up connecting, or close the connection that was made."""
        if self._stream is not None:
            self._stream.loseConnection()
        elif self._socket is not None:
            self._fail(UserError())

    def _settle(self) -> None:
        """It is known whether the connection was made."""
        if self._socket is None:
            return
        if self._problem:
            self._fail(_explained(self._problem))
            return
        self._stream = make_stream(self._factory, self._socket, self._reactor, self._peer)
        self._socket = self._factory = None  # the factory may know us: that would be a circle
        self._reactor.hand_on(self, self._stream)
        self._stream.begin()

    def _fail(self, error: BaseException) -> None:
        assert self._socket is not None
        self._reactor.forget(self)
        self._socket.close()
        factory, self._factory, self._socket = self._factory, None, None
        factory.clientConnectionFailed(self, Failure(error))


def _explained(problem: int) -> Exception:
    return getConnectError((problem, os.strerror(problem)))


def address_of(family: int, where: Any) -> Address:
    """Twisted's word for what the kernel calls the address of a socket."""
    if family == socket.AF_UNIX:
        return UNIXAddress(where or None)
    if family == socket.AF_INET:
        return IPv4Address("TCP", *where)
    if where[3]:  # of one of our networks: only the kernel's own text says which
        where = (socket.getnameinfo(where, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], *where[1:])
    return IPv6Address("TCP", *where)
