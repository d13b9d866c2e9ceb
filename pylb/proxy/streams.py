"""How are the connections of streams made, at little cost?

- Connecting takes a socket and at most one event; no resolver, no delayed call, no Deferred.
- Who asked hears later, always, and is not known any more when it has heard.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.error import UserError, getConnectError
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.proxy.pipes import Pipe, Pipes
from pylb.proxy.poller import Poller, can_poll
from pylb.proxy.transport import Stream, make_stream

__all__ = ["Streams", "streams"]


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
            return Connecting(self, socket.AF_INET, (host, port), factory)
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        return Connecting(self, socket.AF_INET6, where, factory)

    def connectUNIX(self, path: str, factory: Any, timeout: float | None = None) -> Connecting:
        """Connect to the Unix socket at `path`."""
        return Connecting(self, socket.AF_UNIX, path, factory)

    def give_back(self, pipe: Pipe) -> None:
        """Nothing passes through it any more.  Pipes are kept while there are streams."""
        self.pipes.give_back(pipe)
        if not self._watched:
            self.pipes.close()

    def _close(self) -> None:
        super()._close()
        self.pipes.close()


@implementer(IWriteDescriptor)
class Connecting:
    """A connection that is being made, and afterwards the way to end it."""

    __slots__ = ("_factory", "_problem", "_reactor", "_socket", "_stream", "_where", "fileno")

    def __init__(self, reactor: Streams, family: int, where: Any, factory: Any) -> None:
        self._reactor = reactor
        self._where = where
        self._factory = factory
        self._stream: Stream | None = None
        sock = socket.SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket: Any = sock
        self.fileno = sock.fileno
        self._problem = 0
        # One after the other with those that other events ask for: a server that the first one wakes is awake for the rest.
        reactor.soon(self, self._connect)

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

    def _connect(self) -> None:
        if self._socket is None:
            return
        try:
            problem = self._socket.connect_ex(self._where)
            if problem == errno.EINPROGRESS:
                # To a server on this machine it is made by now, which connect(2) tells when it is asked again.
                problem = self._socket.connect_ex(self._where)
        except OSError as error:
            self._fail(error)  # It is no address.
            return
        if problem == errno.EALREADY:
            self._reactor.addWriter(self)
            return
        # EAGAIN is a Unix socket's word for a queue that is full, and else says that there is no port left.
        full = problem == errno.EAGAIN and isinstance(self._where, str)
        self._problem = errno.ECONNREFUSED if full else problem
        self._reactor.soon(self, self._settle)

    def _settle(self) -> None:
        """It is known whether the connection was made."""
        if self._socket is None:
            return
        if self._problem:
            self._fail(_explained(self._problem))
            return
        self._stream = make_stream(self._factory, self._socket, self._reactor, self._where)
        self._socket = self._factory = None
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
