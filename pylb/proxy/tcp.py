"""How do the bytes of a TCP connection travel between a client and the server that was chosen for it?

- What a client sends before its server is reached is kept, up to 64 KiB and one read; then reading pauses.  A client that
  has sent and left by then is served all the same.
- Back-pressure runs both ways: each side is the producer of the other.
- The end of one direction passes through as a half-close if both sides are plain and the listener says so; otherwise it
  flushes both directions and closes both.  A reset passes through as a reset.
- A direction that is busy goes through a pipe (see `splice.py`) if it can.
- Reaching the server is its success, failing to be reached its failure; what happens later is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.model import TcpListener
from pylb.proxy import splice
from pylb.proxy.accesslog import AccessLog, NullLog, Record
from pylb.proxy.connections import LINGER, Connections, peer_of, set_options
from pylb.proxy.deadline import Deadline, Deadlines
from pylb.proxy.dial import ServerSide, UpstreamError
from pylb.proxy.tls import TLSTransport
from pylb.proxy.upstream import Attempts, Upstream
from pylb.proxy.variables import stream_variable

__all__ = ["TcpFactory"]

#: Bytes from a client that are enough until its server is reached.
_EARLY = 64 * 1024
#: Seconds that a client has for its TLS handshake, nginx's.
_HANDSHAKE = 60.0


@implementer(IHalfCloseableProtocol, IPushProducer)
class _Side(Protocol):
    """One end of a session; towards the other end, the producer of the bytes that come from here."""

    transport: Any
    session: _Session
    #: No more bytes come from here, and that was no accident.
    ended = False
    #: How many reads in a row brought many bytes.
    _reads = 0

    def pass_on(self, data: bytes, other: Any) -> None:
        """Send what came from here to the other end; if much comes, let what follows go through a pipe."""
        other.transport.write(data)
        self._reads = self._reads + 1 if len(data) >= splice.MANY else 0
        if self._reads >= splice.READS:
            splice.pass_on(self.transport, other.transport, self)

    def came(self, count: int) -> None:
        """So many bytes came from here and are in the pipe."""
        self.session.count(self, count)

    def went(self, count: int) -> None:
        """They are on their way to the other end."""
        self.session.touch()

    def passed(self) -> None:
        """They never have all: the end is not known."""

    def readConnectionLost(self) -> None:
        self.session.ended(self)

    def writeConnectionLost(self) -> None:
        """Twisted's; the session shut it itself."""

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Twisted's, when the other end is lost; the session decides what follows from that."""

    def end(self) -> None:
        """Send no more."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """Flush what is to be sent and close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def cut(self) -> None:
        """Close at once; over TCP that is a reset."""
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def was_reset(self, reason: Failure) -> bool:
        """Whether the connection was lost by accident.  Twisted's own TLS does not tell a reset from a mere end."""
        if self.ended or reason.check(ConnectionDone):
            return False
        return isinstance(self.transport, TLSTransport) or not ISSLTransport.providedBy(self.transport)


@implementer(IHandshakeListener)
class _ClientSide(_Side):
    """Faces the client."""

    def __init__(self, factory: TcpFactory) -> None:
        self.factory = factory

    def connectionMade(self) -> None:
        self.session = _Session(self, self.factory)
        if not isinstance(self.transport, TLSMemoryBIOProtocol):
            self.session.begin()

    def handshakeCompleted(self) -> None:
        self.session.begin()

    def dataReceived(self, data: bytes) -> None:
        self.session.from_client(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.session.client_lost(reason)


class _ServerSide(_Side, ServerSide):
    """Faces the server."""

    def __init__(self, session: _Session) -> None:
        self.session = session

    def dataReceived(self, data: bytes) -> None:
        self.session.from_server(data)

    def readConnectionLost(self) -> None:
        if self.dial is None:
            super().readConnectionLost()
        else:
            self.transport.loseConnection()

    def lost(self, reason: Failure) -> None:
        self.session.server_lost(reason)


class _Session(Attempts):
    """One client, the server it got, and what is under way between them."""

    __slots__ = (
        "_client",
        "_deadline",
        "_early",
        "_factory",
        "_half_close",
        "_over",
        "_server",
    )

    def __init__(self, client: _ClientSide, factory: TcpFactory) -> None:
        spec = factory.spec
        self._factory = factory
        self._client: _ClientSide | None = client
        self._server: _ServerSide | None = None
        #: What the client sent so far; None once it has its server, or will not get one.
        self._early: bytearray | None = bytearray()
        #: Nothing is passed on any more: what comes now is read only to see it end.
        self._over = False
        self._half_close = spec.half_close and factory.upstream.tls is None and _can_half_close(client.transport)
        host, port = peer_of(client.transport)
        record = Record(spec.name, "tcp", host, port, factory.clock(), factory.upstream.pool.name)
        super().__init__(factory.upstream, record)
        self._deadline = Deadline(factory.deadlines, self._close)
        self._deadline.set(min(spec.timeout, _HANDSHAKE))
        factory.connections.add(self)

    def begin(self) -> None:
        """Look for a server; how long that may take is the business of its limits."""
        self._deadline.clear()
        spec = self._factory.spec
        set_options(self._client.transport, nodelay=spec.tcp_nodelay, keepalive=spec.so_keepalive)
        self.start()

    def variable(self, name: str) -> bytes:
        return stream_variable(name, self.record, self._client.transport if self._client is not None else None)

    def build(self) -> _ServerSide:
        return _ServerSide(self)

    def from_client(self, data: bytes) -> None:
        self.record.bytes_received += len(data)
        if self._over:
            return
        if self._early is None:
            self.touch()
            self._send(data)
            return
        self._early += data
        if len(self._early) >= _EARLY:
            self._client.transport.pauseProducing()

    def from_server(self, data: bytes) -> None:
        self.record.upstream_bytes_received += len(data)
        if self._over:
            return
        self.touch()
        self.lease.timed("first_byte")
        self.record.bytes_sent += len(data)
        self._server.pass_on(data, self._client)

    def count(self, side: _Side, count: int) -> None:
        """So many bytes pass from `side` without being read."""
        self.touch()
        record = self.record
        if side is self._client:
            record.bytes_received += count
            record.upstream_bytes_sent += count
        else:
            record.upstream_bytes_received += count
            record.bytes_sent += count

    def touch(self) -> None:
        """Something happened."""
        self._deadline.set(self._factory.spec.timeout)

    def ended(self, side: _Side) -> None:
        """No more bytes come from `side`."""
        side.ended = True
        if self._early is not None:
            return
        if side is self._server:
            self.lease.timed("last_byte")
        other = self._client if side is self._server else self._server
        if other is None:
            side.close()
        elif self._half_close and not other.ended and not self._over:
            self.touch()
            other.end()
        else:
            self._close()

    def client_lost(self, reason: Failure) -> None:
        client, self._client = self._client, None
        self._over = True
        if self._server is not None:
            self._follow(self._server, client.was_reset(reason))
        elif not self._early or client.was_reset(reason):
            self._finish()

    def server_lost(self, reason: Failure) -> None:
        server, self._server = self._server, None
        self._over = True
        if not server.was_reset(reason):
            self.lease.timed("last_byte")
        self.stop()
        if self._client is None:
            self._finish()
        elif server.ended and self._half_close and not self._client.ended:
            self._wait(LINGER, self._close)
        else:
            self._follow(self._client, server.was_reset(reason))

    def drain(self) -> None:
        """Nothing shows whether a TCP connection is idle: let it run."""

    def abort(self) -> None:
        """Close both at once."""
        sides = [side for side in (self._client, self._server) if side is not None]
        for side in sides:
            side.cut()
        if not sides:
            self._finish()

    def connected(self, side: ServerSide) -> None:
        assert isinstance(side, _ServerSide) and self.lease is not None
        self.lease.succeeded()
        self.lease.timed("connect")
        self.lease.bind(self)
        self.record.status = 200
        server = self._server = side
        self.touch()
        early, self._early = self._early, None
        client = self._client
        if client is not None:
            client.transport.registerProducer(server, True)
            server.transport.registerProducer(client, True)
            if not client.ended:
                client.transport.resumeProducing()
        if early:
            self._send(bytes(early))
        if client is None:
            server.close()
        elif client.ended:
            self.ended(client)

    def unreachable(self, error: Exception) -> None:
        self.record.status = 504 if isinstance(error, UpstreamError) and error.timed_out else 502
        self._early = None
        if self._client is None:
            self._finish()
        else:
            self._close()

    def _send(self, data: bytes) -> None:
        self.record.upstream_bytes_sent += len(data)
        if self._client is None:
            self._server.transport.write(data)
        else:
            self._client.pass_on(data, self._server)

    def _follow(self, side: _Side, reset: bool) -> None:
        """Do to `side` what happened to the other one."""
        if reset:
            side.cut()
        else:
            self._close()

    def _close(self) -> None:
        """Flush what is under way and close both; if that gets nowhere, cut."""
        self._over = True
        self._wait(self._factory.spec.timeout, self.abort)
        for side in (self._client, self._server):
            if side is not None:
                side.close()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._deadline.expired = then
        self._deadline.set(seconds)

    def _finish(self) -> None:
        self._deadline.stop()
        self.stop()
        self.record.status = self.record.status or 499
        self._factory.access_log.write(self.record)
        # Last: when pylb stops, the log is closed after the last connection.
        self._factory.connections.remove(self)


def _can_half_close(transport: ITransport) -> bool:
    """Twisted would shut TLS down without a word to the peer."""
    return hasattr(transport, "loseWriteConnection") and not ISSLTransport.providedBy(transport)


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
        self.deadlines = Deadlines(reactor, clock)
        self.clock = clock
        self.connections = connections
        self.access_log = access_log

    def buildProtocol(self, addr: object) -> _ClientSide:
        return _ClientSide(self)
