"""How do the bytes of a TCP connection travel between a client and the server that was chosen for it?

- What a client sends before its server is reached is kept, one read's worth, and reading pauses.
- Back-pressure runs both ways: each transport is the producer of the other.
- The end of one direction passes through as a half-close if both sides are plain and the listener says so; otherwise it
  flushes the other direction and closes both.  A reset passes through as a reset.
- Reaching the server is its success, failing to be reached its failure; what happens later is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.model import TcpListener
from pylb.proxy.accesslog import AccessLog, NullLog, Record
from pylb.proxy.connections import Connections, peer_of
from pylb.proxy.deadline import IdleTimer
from pylb.proxy.upstream import ServerSide, Upstream, UpstreamError

__all__ = ["TcpFactory"]


@implementer(IHalfCloseableProtocol)
class _ClientSide(Protocol):
    """Faces the client."""

    def __init__(self, factory: TcpFactory) -> None:
        self.factory = factory

    def connectionMade(self) -> None:
        self.session = _Session(self, self.factory)
        self.session.begin()

    def dataReceived(self, data: bytes) -> None:
        self.session.from_client(data)

    def readConnectionLost(self) -> None:
        self.session.ended(self)

    def writeConnectionLost(self) -> None:
        """Twisted's; the session shut it itself."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.session.lost(self, reason)

    def drain(self) -> None:
        """A TCP connection shows no moment at which it is idle: let it run."""

    def abort(self) -> None:
        self.session.abort()


@implementer(IHalfCloseableProtocol)
class _ServerSide(ServerSide):
    """Faces the server."""

    def __init__(self, session: _Session) -> None:
        self.session = session

    def dataReceived(self, data: bytes) -> None:
        self.session.from_server(data)

    def readConnectionLost(self) -> None:
        self.session.ended(self)

    def writeConnectionLost(self) -> None:
        """Twisted's; the session shut it itself."""

    def lost(self, reason: Failure) -> None:
        self.session.lost(self, reason)


class _Session:
    """One client, the server it got, and what is under way between them."""

    __slots__ = ("_attempts", "_client", "_early", "_ended", "_factory", "_plain", "_record", "_server", "_timer")

    def __init__(self, client: _ClientSide, factory: TcpFactory) -> None:
        spec = factory.spec
        self._factory = factory
        self._client: _ClientSide | None = client
        self._server: _ServerSide | None = None
        self._early: list[bytes] = []
        self._ended: set[Protocol] = set()
        self._plain = not ISSLTransport.providedBy(client.transport) and factory.upstream.tls is None
        host, port = peer_of(client.transport)
        self._record = Record(spec.name, "tcp", host, port, factory.clock(), factory.upstream.pool.name)
        self._attempts = factory.upstream.attempts(None, self._record)
        self._timer = IdleTimer(factory.reactor, factory.clock, spec.timeout, self._expired)

    def begin(self) -> None:
        assert self._client is not None
        self._factory.connections.add(self._client)
        self._factory.set_options(self._client)
        self._attempts.start(lambda: _ServerSide(self), self._reached, self._unreachable)

    def from_client(self, data: bytes) -> None:
        self._record.bytes_received += len(data)
        self._timer.touch()
        if self._server is None:
            self._early.append(data)
            self._client.transport.pauseProducing()
        else:
            self._server.transport.write(data)

    def from_server(self, data: bytes) -> None:
        self._timer.touch()
        self._record.bytes_sent += len(data)
        self._client.transport.write(data)

    def ended(self, side: Protocol) -> None:
        """No more bytes come from `side`."""
        self._ended.add(side)
        self._timer.touch()
        other = self._client if side is self._server else self._server
        if other is None:
            return
        other.transport.unregisterProducer()
        if not (self._plain and self._factory.spec.half_close) or other in self._ended:
            self._close()
        else:
            other.transport.loseWriteConnection()

    def lost(self, side: Protocol, reason: Failure) -> None:
        """The connection of `side` is gone altogether."""
        if side is self._client:
            self._client, other = None, self._server
            self._factory.connections.remove(side)
        else:
            self._server, other = None, self._client
        if self._server is None:
            self._attempts.stop()
        if other is None:
            self._record.status = self._record.status or 499
            self._finish()
        elif self._plain and not reason.check(ConnectionDone):
            other.transport.abortConnection()
        else:
            other.transport.unregisterProducer()
            other.transport.loseConnection()

    def abort(self) -> None:
        for side in (self._client, self._server):
            if side is not None:
                side.transport.abortConnection()

    def _reached(self, server: ServerSide) -> None:
        assert isinstance(server, _ServerSide)
        self._attempts.lease.succeeded()
        self._record.status = 200
        self._server = server
        client = self._client.transport
        server.transport.registerProducer(client, True)
        client.registerProducer(server.transport, True)
        early, self._early = self._early, []
        for data in early:
            server.transport.write(data)
        if self._client in self._ended:
            self.ended(self._client)
        else:
            client.resumeProducing()

    def _unreachable(self, error: Exception) -> None:
        self._record.status = 504 if isinstance(error, UpstreamError) and error.timed_out else 502
        self._client.transport.loseConnection()

    def _close(self) -> None:
        """Flush what is under way and close both."""
        for side in (self._client, self._server):
            if side is not None:
                side.transport.unregisterProducer()
                side.transport.loseConnection()

    def _expired(self) -> None:
        """Nothing moved for `timeout`: close; if that, too, gets nowhere, cut."""
        if len(self._ended) == 2:
            self.abort()
            return
        self._ended.update(side for side in (self._client, self._server) if side is not None)
        self._timer = IdleTimer(self._factory.reactor, self._factory.clock, self._timer.timeout, self.abort)
        self._close()

    def _finish(self) -> None:
        self._timer.cancel()
        record = self._record
        if record.status == 200:
            record.upstream_bytes_sent, record.upstream_bytes_received = record.bytes_received, record.bytes_sent
        self._factory.access_log.write(record)


class TcpFactory(ServerFactory):
    """Makes the client side of a `protocol: tcp` listener; works on any stream endpoint and any reactor."""

    noisy = False

    def __init__(
        self,
        spec: TcpListener,
        upstream: Upstream,
        reactor: IReactorTime,
        clock: Callable[[], float],
        connections: Connections,
        access_log: AccessLog | NullLog,
    ) -> None:
        self.spec = spec
        self.upstream = upstream
        self.reactor = reactor
        self.clock = clock
        self.connections = connections
        self.access_log = access_log

    def buildProtocol(self, addr: object) -> _ClientSide:
        return _ClientSide(self)

    def set_options(self, side: Protocol) -> None:
        """Socket options towards the client, where it is a TCP socket."""
        if ITCPTransport.providedBy(side.transport):
            side.transport.setTcpNoDelay(self.spec.tcp_nodelay)
            if self.spec.so_keepalive:
                side.transport.setTcpKeepAlive(True)
