"""What does a client get for one request?

The asker of its exchange: gives the body to it as it comes and writes the answer, framed for this client, or pylb's own
page when there is none.  Whether the connection lives on is decided when the answer begins and written into its head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylb.proxy.accesslog import Record
from pylb.proxy.http.body import CHUNKED, UNTIL_CLOSE, BodyReader, body_reader, encode_chunk, encode_last_chunk
from pylb.proxy.http.exchange import Exchange
from pylb.proxy.http.head import BadHead, RequestHead, ResponseHead
from pylb.proxy.http.headers import UPGRADE_LINES, answer_framing_line, response_bytes
from pylb.proxy.http.pages import page
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.http.tunnel import Tunnel, wants_websocket
from pylb.proxy.variables import stream_variable

if TYPE_CHECKING:
    from pylb.proxy.http.client import ClientConnection

__all__ = ["ClientRequest"]

_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")


class ClientRequest:
    """One request on a client's connection."""

    __slots__ = (
        "_body",
        "_body_size",
        "_connection",
        "_exchange",
        "_framing",
        "_head",
        "_keep",
        "_record",
        "_request_framing",
    )

    def __init__(self, connection: ClientConnection, head: RequestHead, framing: int, size: int) -> None:
        self._connection = connection
        self._head = head
        self._request_framing = framing
        #: The body while it has not ended, and how much of it has come.
        self._body: BodyReader | None = body_reader(framing) if framing else None
        self._body_size = 0
        self._exchange: Exchange | None = None
        self._keep = False
        #: How the answer's body is framed for this client.
        self._framing = 0
        factory, fields = connection.factory, head.fields
        record = self._record = Record(factory.spec.name, "http", connection.peer, connection.port, factory.clock())
        record.method = head.method
        record.target = head.target
        record.version = _VERSIONS[head.minor]
        record.host = head.host
        record.referer = fields.first(b"referer")
        record.user_agent = fields.first(b"user-agent")
        record.bytes_received = size

    # From the connection.

    @property
    def receiving(self) -> bool:
        """Whether more of the body must come."""
        return self._body is not None

    def begin(self) -> None:
        """Find the pool and ask."""
        factory, head = self._connection.factory, self._head
        upstream = factory.find(head)
        if self._too_large(self._request_framing):
            self._answer(413)
        elif upstream is None:
            self._answer(404)
        else:
            self._record.pool = upstream.upstream.pool.name
            upgrade = wants_websocket(head, self._request_framing)
            extra = self._connection.forwarded.lines(head) + (UPGRADE_LINES if upgrade else b"")
            host = head.host or self._connection.own_host()
            self._exchange = Exchange(self, upstream, self._record, head, self._request_framing, host, extra, upgrade)
            self._exchange.start()

    def receive(self, data: bytes) -> bytes:
        """More of the body; returns what came behind it."""
        body, exchange = self._body, self._exchange
        try:
            payload = body.feed(data)
        except BadHead as bad:
            self.stop(bad.status)
            return b""
        self._record.bytes_received += len(data) - len(body.rest)
        self._body_size += len(payload)
        if self._too_large(self._body_size):
            self.stop(413)
            return b""
        if payload:
            exchange.body(payload)
        if body.done and self._body is body:
            self._body = None
            exchange.body_ends(body.trailers)
            self._connection.hold_body(False)
        return body.rest

    def _too_large(self, size: int) -> bool:
        return 0 < self._connection.factory.spec.client_max_body_size < size

    def stop(self, status: int) -> None:
        """The request cannot go on, by the client's fault."""
        self._exchange.abandon()
        if self._exchange.answer is not None:
            self.answer_breaks()
        else:
            self._answer(status)

    def client_left(self) -> None:
        """Nobody waits for the answer any more."""
        if self._exchange is not None:
            self._exchange.abandon()
        self._record.status = self._record.status or 499
        self._log()

    def client_ended(self) -> None:
        """As `client_left`, but what was written may still arrive."""
        self.client_left()
        self._cut()

    def pause_answer(self) -> None:
        if self._exchange is not None:
            self._exchange.pause_answer()

    def resume_answer(self) -> None:
        if self._exchange is not None:
            self._exchange.resume_answer()

    # From the exchange.

    def pause_body(self) -> None:
        self._connection.hold_body(True)

    def resume_body(self) -> None:
        self._connection.hold_body(False)

    def variable(self, name: str) -> bytes:
        return stream_variable(name, self._record, self._connection.transport)

    def answer_informs(self, head: ResponseHead) -> None:
        if self._head.minor:
            self._write(response_bytes(head, b"", b""))

    def answer_switches(self, head: ResponseHead, server: ServerConnection) -> None:
        self._record.status = head.status
        self._write(response_bytes(head, b"", self._exchange.added + UPGRADE_LINES))
        factory = self._connection.factory
        timeout = factory.spec.timeout
        tunnel = Tunnel(self._connection, server, self._record, factory.deadlines, timeout)
        self._connection.become_tunnel(tunnel)

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        if framing < 0:
            framing = CHUNKED if self._head.minor else UNTIL_CLOSE
        self._framing = framing
        self._keep = framing != UNTIL_CLOSE and self._may_keep()
        self._record.status = head.status
        line = answer_framing_line(head, self._head.method, framing)
        written = response_bytes(head, line, self._exchange.added + self._connection_line())
        self._write(written + self._framed(data) if data else written)

    def answer_data(self, data: bytes) -> None:
        self._write(self._framed(data))

    def answer_ends(self, trailers: bytes) -> None:
        if self._framing == CHUNKED:
            self._write(encode_last_chunk(trailers))
        self._log()
        self._connection.finished(self._keep)

    def answer_breaks(self) -> None:
        self._log()
        self._cut()

    def _cut(self) -> None:
        self._connection.cut(flush=self._framing != UNTIL_CLOSE)

    def answer_fails(self, status: int) -> None:
        self._answer(status)

    # To the client.

    def _answer(self, status: int) -> None:
        """pylb's own answer."""
        self._record.status = status
        self._keep = self._head.minor == 1 and self._may_keep()
        self._write(page(status, close=not self._keep, method=self._head.method))
        self._log()
        self._connection.finished(self._keep)

    def _may_keep(self) -> bool:
        factory = self._connection.factory
        if self._body is not None or factory.connections.draining or not factory.spec.keepalive_timeout:
            return False
        return self._head.keep_alive

    def _connection_line(self) -> bytes:
        if not self._keep:
            return b"Connection: close\r\n"
        return b"" if self._head.minor else b"Connection: keep-alive\r\n"

    def _framed(self, data: bytes) -> bytes:
        return encode_chunk(data) if self._framing == CHUNKED else data

    def _write(self, data: bytes) -> None:
        self._record.bytes_sent += len(data)
        self._connection.transport.write(data)

    def _log(self) -> None:
        self._connection.factory.access_log.write(self._record)
