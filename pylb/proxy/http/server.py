"""How does a server answer on one connection?

Reads heads and bodies for the exchange that uses the connection, one after the other.  Whatever a server sends that was
not asked for ends the connection: between two requests a single byte is enough.  What is left of a long body passes to the
client without being read, if it can (see `pylb.proxy.splice`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from pylb.balance.server import Server
from pylb.proxy import splice
from pylb.proxy.connections import LINGER
from pylb.proxy.deadline import Deadline, Deadlines
from pylb.proxy.dial import ServerSide
from pylb.proxy.http.body import BodyReader, body_reader, response_framing
from pylb.proxy.http.head import BadHead, ResponseHead, parse_response
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.reader import HeadReader

if TYPE_CHECKING:
    from pylb.proxy.http.exchange import Exchange
    from pylb.proxy.http.tunnel import Tunnel

__all__ = ["ServerConnection"]


class ServerConnection(ServerSide):
    """A connection to a server, new or kept.  `server` is set once it is established."""

    server: Server

    def __init__(self, idle: IdleConnections, deadlines: Deadlines) -> None:
        self.requests = 0
        self.born = deadlines.clock()
        #: Whether anything has come since the last request began.
        self.heard = False
        self._idle = idle
        self._deadline = Deadline(deadlines, self._expired)
        self._exchange: Exchange | None = None
        self._method = b""
        self._reader = HeadReader()
        #: What was answered last; an answer that begins with the very same bytes need not be read.
        self._last: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._paused = False
        self._tunnel: Tunnel | None = None
        #: What came behind the head of an interim answer.
        self._early = b""

    # What the exchange does with it.

    def begin(self, exchange: Exchange, method: bytes, server: Server) -> None:
        """Belong to `exchange` until `finish` or `abort`."""
        self._exchange = exchange
        self._method = method
        self.server = server
        self.heard = False

    def belong_to(self, exchange: Exchange) -> None:
        """Another one goes on with the request that was begun."""
        self._exchange = exchange

    def expect(self, seconds: float) -> None:
        """The server must do something within this time (0: it need not).  While it is not read it cannot be late."""
        if not self._paused:
            self._deadline.set(seconds)

    def pause(self) -> None:
        """Read no more for now."""
        if not self._paused:
            self._paused = True
            self._deadline.clear()
            self.transport.pauseProducing()

    def resume(self, read_timeout: float) -> None:
        if self._paused:
            self._paused = False
            self._deadline.set(read_timeout)
            self.transport.resumeProducing()

    def become_raw(self, tunnel: Tunnel) -> bytes:
        """HTTP ends here: all that comes from now on is the tunnel's.  Returns what came already."""
        self._tunnel = tunnel
        self._exchange = None
        self._deadline.stop()
        early, self._early = self._early, b""
        return early

    def finish(self, reusable: bool) -> None:
        """The answer is whole: keep the connection if it can be used again."""
        self._exchange = None
        self._body = None
        self.requests += 1
        if not reusable or not self._idle.keep(self):
            self.close()
        elif self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def close(self) -> None:
        """All is said."""
        self._deadline.set(LINGER)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Nobody is interested in the rest."""
        self._exchange = None
        self._deadline.stop()
        self.transport.abortConnection()

    # What the server does.

    def dataReceived(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            self.heard = True
            exchange.record.upstream_bytes_received += len(data)
            try:
                if self._body is None:
                    self._read_heads(exchange, data)
                else:
                    self._read_body(exchange, self._body, data)
            except BadHead as bad:
                exchange.misunderstood(bad.reason)
            if self._exchange is not None:
                self._exchange.await_more()
        elif self._tunnel is not None:
            self._tunnel.from_server(data)
        else:
            self._idle.forget(self)
            self.abort()

    def _read_heads(self, exchange: Exchange, data: bytes) -> None:
        last = self._last
        if last is not None and data.startswith(last.wire) and not self._reader.begun:
            self._begin_body(exchange, last, data[len(last.wire) :])
            return
        while data and (found := self._reader.feed(data)) is not None:
            raw, data = found
            head = parse_response(raw)
            if head.status >= 200:
                self._last = head
                self._begin_body(exchange, head, data)
                return
            self._early = data
            exchange.informed(head)
            if self._exchange is not exchange:
                return

    def _begin_body(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        framing = response_framing(head, self._method)
        if framing == len(data):
            exchange.answered(head, framing, data)
            if self._exchange is not None:
                self._exchange.answered_all(None, True)
            return
        body = self._body = body_reader(framing)
        payload, behind = (b"", data) if body.done else (body.feed(data), body.rest)
        exchange.answered(head, framing, payload)
        self._end(body, behind)

    def _read_body(self, exchange: Exchange, body: BodyReader, data: bytes) -> None:
        payload = body.feed(data)
        if payload:
            exchange.answer_data(payload)
        if len(data) >= splice.MANY and not body.done and self._exchange is exchange:
            exchange.pass_answer(self, body.left)
        self._end(body, body.rest)

    def came(self, count: int) -> None:
        """So many bytes of the body pass unread."""
        if self._exchange is not None and self._body is not None:
            self._body.skip(count)
            self._exchange.answer_passes(count)

    def went(self, count: int) -> None:
        """Whether the client takes them is told by its transport."""

    def passed(self) -> None:
        """All of the body has."""
        if self._exchange is not None and self._body is not None:
            self._end(self._body, b"")

    def _end(self, body: BodyReader, behind: bytes) -> None:
        if body.done and self._exchange is not None:
            self._exchange.answered_all(body.trailers, not behind)

    def lost(self, reason: Failure) -> None:
        exchange, self._exchange = self._exchange, None
        if self._tunnel is not None:
            self._tunnel.server_lost()
        elif exchange is None:
            self._idle.forget(self)
        elif self._body is not None and self._body.close() and reason.check(ConnectionDone):
            exchange.answered_all(None, False)
        else:
            exchange.server_left(reason.getErrorMessage())
        self._deadline.end()

    def _expired(self) -> None:
        if self._exchange is not None:
            self._exchange.server_late()
        elif self not in self._idle:  # Else it was set for an answer that has come.
            self.abort()
