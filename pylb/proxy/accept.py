"""How are clients let in?

- No more are accepted than there is room for, and in one turn no more than leaves the others theirs.  The rest wait in the
  kernel's queue.
- Without a descriptor, or memory, for another one nobody is accepted for a moment, and nobody turned away.  The operator
  hears of that once, until clients are let in again.
- What goes wrong with one client is that client's loss.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from socket import SocketType
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pylb.proxy.streams import Streams
from pylb.proxy.transport import address_of, make_stream

__all__ = ["StreamPort", "UnixPort", "name_of"]

#: Clients that are accepted in one turn.
ACCEPTS = 32
#: Seconds until it is tried again.
PAUSE = 0.5

#: What the network may have done to one client (accept(2)).
_GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)

_log = Logger()


def name_of(listener: str) -> str:
    """Who the operator knows a listener's port as."""
    return f"listener {listener}"


class StreamPort(tcp.Port):
    """A listening socket that somebody else has bound, under a reactor or `Streams`."""

    #: Who the operator knows it as.
    name: str
    #: How many more clients there may be; asked only while the port reads.
    room: Callable[[], int]
    _pause: IDelayedCall | None = None
    _short = False

    def hand_over(self, listener: str, factory: IProtocolFactory) -> None:
        """Let `factory` serve those that come from now on, for `listener`."""
        self.name = name_of(listener)
        self.factory = factory

    def startListening(self) -> None:
        self.factory.doStart()
        self.socket = self._preexistingSocket
        # Others may have the same socket, for which a shutdown would be the end, too.
        self._shouldShutdown = False
        self.fileno = self.socket.fileno
        self.connected = True
        self.startReading()

    def startReading(self) -> None:
        if self._pause is None:
            super().startReading()

    def doRead(self) -> None:
        for _ in range(max(1, min(ACCEPTS, self.room()))):
            try:
                sock, where = self._accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._run_short(error)
                return
            if self._short:
                self._short = False
                _log.info("{name} accepts clients again", name=self.name)
            self._let_in(sock, where)

    def connectionLost(self, reason: Failure) -> None:
        if self._pause is not None:
            self._pause.cancel()
        # Not super(): unix.Port's would remove the file, which is the listener's to do.
        tcp.Port.connectionLost(self, reason)

    def _logConnectionLostMsg(self) -> None:
        """Which ports there are the operator hears from pylb.announce."""

    def __repr__(self) -> str:
        return f"<port of {self.name}>"

    def _accept(self) -> tuple[SocketType, Any]:
        """What socket.accept does, without Python's class around the socket."""
        fd, where = self.socket._accept()
        sock = SocketType(self.addressFamily, self.socketType, 0, fd)
        sock.setblocking(False)
        return sock, where

    def _let_in(self, sock: Any, where: Any) -> None:
        transport: Any = None
        try:
            transport = self._transport(sock, where)
            transport.protocol.makeConnection(transport)
        except Exception:
            _log.failure("{name} cannot serve a client", name=self.name)
            if transport is None:
                sock.close()
            else:
                transport.connectionLost(Failure())

    def _transport(self, sock: Any, where: Any) -> tcp.Connection:
        if isinstance(self.reactor, Streams):
            stream = make_stream(self.factory, sock, self.reactor, where)
            stream.inherits = True
            self.reactor.addReader(stream)
            return stream
        self.sessionno += 1
        protocol: Any = self.factory.buildProtocol(address_of(where))
        return self.transport(sock, protocol, where, self, self.sessionno, self.reactor)

    def _run_short(self, error: OSError) -> None:
        self.stopReading()
        self._pause = self.reactor.callLater(PAUSE, self._try_again)
        if not self._short:
            self._short = True
            _log.error("{name} lets clients wait: {problem}", name=self.name, problem=error.strerror)

    def _try_again(self) -> None:
        self._pause = None
        if self.room() > 0:
            self.startReading()


class UnixPort(StreamPort, unix.Port):
    """The same for a Unix socket, whose file it leaves alone."""
