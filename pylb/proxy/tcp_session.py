"""What becomes of a TCP connection's two ends, from the client's coming to the last one's leaving?

- What a client sends before its server is reached is kept, up to 64 KiB and one read; then reading pauses.  A client that
  has sent and left by then is served all the same.
- Back-pressure runs both ways: each end is the producer of the other.
- The end of one direction passes through as a half-close if both ends are plain and the listener says so; otherwise it
  flushes both directions and closes both.  A reset passes through as a reset.
- Reaching the server is its success, failing to be reached its failure; what happens later is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from pylb.proxy.accesslog import Record
from pylb.proxy.connections import LINGER, peer_of, set_options
from pylb.proxy.deadline import Deadline
from pylb.proxy.dial import UpstreamError
from pylb.proxy.tcp_end import ClientEnd, End, ServerEnd
from pylb.proxy.upstream import Attempts
from pylb.proxy.variables import stream_variable

if TYPE_CHECKING:
    from pylb.proxy.tcp import TcpFactory

__all__ = ["Session"]

#: Bytes from a client that are enough until its server is reached.
_EARLY = 64 * 1024
#: Seconds that a client has for its TLS handshake, nginx's.
_HANDSHAKE = 60.0


class Session(Attempts):
    """One client, the server it got, and what is under way between them."""

    __slots__ = (
        "_client",
        "_closing",
        "_early",
        "_factory",
        "_half_close",
        "_over",
        "_server",
        "clock",
        "seen",
    )

    def __init__(self, client: ClientEnd, encrypted: bool, factory: TcpFactory) -> None:
        spec = factory.spec
        self._factory = factory
        self.clock = factory.clock
        self._client: ClientEnd | None = client
        self._server: ServerEnd | None = None
        #: What the client sent so far; None once it has its server, or will not get one.
        self._early: bytes | None = b""
        #: Nothing is passed on any more: what comes now is read only to see it end.
        self._over = False
        self._closing = False
        #: When something happened last.
        self.seen = self.clock()
        # Twisted would shut TLS down without a word to the peer.
        plain = not encrypted and factory.upstream.tls is None
        self._half_close = plain and spec.half_close and hasattr(client.transport, "loseWriteConnection")
        host, port = peer_of(client.transport)
        super().__init__(factory.upstream, Record(spec.name, "tcp", host, port, self.seen, factory.upstream.pool.name))
        #: One for all that it waits for, one after the other.
        self._deadline: Deadline = Deadline(factory.deadlines, self._close)
        factory.connections.add(self)

    def wait_for_handshake(self) -> None:
        """What comes until `begin` is the client's handshake."""
        self._deadline.set(min(self._factory.spec.timeout, _HANDSHAKE))

    def begin(self) -> None:
        """Look for a server; how long that may take is the business of its limits."""
        spec = self._factory.spec
        set_options(self._client.transport, nodelay=spec.tcp_nodelay, keepalive=spec.so_keepalive)
        self.start()

    # What the search asks and tells.

    def variable(self, name: str) -> bytes:
        return stream_variable(name, self.record, self._client.transport if self._client is not None else None)

    def build(self) -> ServerEnd:
        return ServerEnd(self)

    def hurry(self, seconds: float) -> None:
        self._wait(seconds, self.late)

    def relax(self) -> None:
        """What it waits for next takes the place."""

    def connected(self, side: Any) -> None:
        assert self.lease is not None
        self._server = side
        self.lease.succeeded()
        self.lease.timed("connect")
        self.lease.bind(self)
        self.record.status = 200
        self.touch()
        self._wait(self._factory.spec.timeout, self._look)
        early, self._early = self._early or b"", None
        if self._client is not None:
            self._join(self._client, side)
            if len(early) >= _EARLY and not self._client.ended:
                self._client.transport.resumeProducing()
        if early:
            self.record.upstream_bytes_sent += len(early)
            side.transport.write(early)
            if self._client is not None and self._client.pace is not None:
                self._client.pace.came(len(early))
        if self._client is None:
            side.close()
        elif self._client.ended:
            self.ended(self._client)

    def unreachable(self, error: Exception) -> None:
        self.record.status = 504 if isinstance(error, UpstreamError) and error.timed_out else 502
        self._early = None
        if self._client is None:
            self._finish()
        else:
            self._close()

    # What the ends tell.

    def keep(self, data: bytes) -> None:
        """The client sent something before its server was reached, or in vain."""
        self.record.bytes_received += len(data)
        if self._early is not None and self._client is not None:
            self._early += data
            if len(self._early) >= _EARLY:
                self._client.transport.pauseProducing()

    def touch(self) -> None:
        """Something happened."""
        self.seen = self.clock()

    def ended(self, end: End) -> None:
        """No more bytes come from there."""
        end.ended = True
        if self._early is not None:
            if not self._early and not self._half_close:
                self.stop()  # It has said nothing, and will not be told anything.
                self._close()
            return
        if end is self._server:
            self.lease.timed("last_byte")
        other = self._client if end is self._server else self._server
        if other is None:
            end.close()
        elif self._half_close and not other.ended and not self._over:
            self.touch()
            other.end()
        else:
            self._close()

    def client_lost(self, reason: Failure) -> None:
        """The client's connection is gone."""
        self._part()
        client, self._client = self._client, None
        if self._server is not None:
            self._follow(self._server, client.was_reset(reason))
        elif not self._early or client.was_reset(reason):
            self._finish()

    def server_lost(self, reason: Failure) -> None:
        """The server's connection is gone."""
        self._part()
        server, self._server = self._server, None
        was_reset = server.was_reset(reason)
        if not was_reset:
            self.lease.timed("last_byte")
        self.stop()
        if self._client is None:
            self._finish()
        elif server.ended and self._half_close and not self._client.ended:
            self._wait(LINGER, self._close)
        else:
            self._follow(self._client, was_reset)

    # What `Connections` asks.

    def drain(self) -> None:
        """Nothing shows whether a TCP connection is idle: let it run."""

    def abort(self) -> None:
        """Close both ends at once."""
        self._early = None  # Nobody is to have it any more.
        ends = self._client, self._server
        for end in ends:
            if end is not None:
                end.cut()
        if ends == (None, None):
            self._finish()

    def _join(self, client: ClientEnd, server: ServerEnd) -> None:
        spec, deadlines = self._factory.spec, self._factory.deadlines
        client.join(server, spec.upload_rate, deadlines)
        server.join(client, spec.download_rate, deadlines)

    def _part(self) -> None:
        if self._over:
            return
        self._over = True
        if self._client is not None:
            self._client.part()
        if self._server is not None:
            self._server.part()

    def _follow(self, end: End, reset: bool) -> None:
        """Do to this end what happened to the other one."""
        if reset:
            end.cut()
        else:
            self._close()

    def _look(self) -> None:
        """It may be that nothing has happened for long."""
        paces = [end.pace for end in (self._client, self._server) if end is not None and end.pace is not None]
        # Who is held back by its rate is not idle.
        seen = max([self.seen, *(pace.until for pace in paces)])
        left = seen + self._factory.spec.timeout - self.clock()
        if left > 0:
            self._deadline.set(left)
        else:
            self._close()

    def _close(self) -> None:
        """Flush what is under way and close both ends; if that gets nowhere, cut."""
        if self._closing:
            return
        self._closing = True
        self._part()
        self._wait(self._factory.spec.timeout, self.abort)
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.close()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._deadline.expired = then
        self._deadline.set(seconds)

    def _finish(self) -> None:
        self._deadline.end()
        self.stop()
        self.record.status = self.record.status or 499
        self._factory.access_log.write(self.record)
        # Last: when pylb stops, the log is closed after the last connection.
        self._factory.connections.remove(self)
