"""What does a client get for one request?

The client's side of an exchange: takes the body as it comes and writes the answer, framed for this client, or pylb's own
page when there is none.  Whether the connection lives on is decided when the answer begins and written into its head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylb.proxy import splice
from pylb.proxy.accesslog import Record
from pylb.proxy.http.ask import Ask
from pylb.proxy.http.body import CHUNKED, UNTIL_CLOSE, BodyReader, body_reader, encode_chunk, encode_last_chunk
from pylb.proxy.http.exchange import Exchange
from pylb.proxy.http.forwarded import own_host
from pylb.proxy.http.head import BadHead, ResponseHead
from pylb.proxy.http.headers import UPGRADE_LINES, framing_line, response_start
from pylb.proxy.http.hedge import Hedged
from pylb.proxy.http.pages import page
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.http.tunnel import Tunnel
from pylb.proxy.variables import stream_variable

if TYPE_CHECKING:
    from pylb.proxy.http.client import ClientConnection

__all__ = ["ClientRequest", "HedgedClientRequest", "note_silence", "refuse"]


def refuse(connection: ClientConnection, status: int, ask: Ask | None = None, why: bytes = b"") -> bool:
    """Answer what no server is asked, because it is no request or nobody serves it; whether the connection may live on."""
    factory = connection.factory
    record = _record(connection)
    keep, method = False, b""
    if ask is not None:
        record.asked, record.bytes_received = ask.head, ask.head.size
        keep = ask.head.minor == 1 and not ask.framing and factory.may_keep(ask.head)
        method = ask.head.method
    data = page(status, close=not keep, method=method, why=why)
    record.status, record.bytes_sent = status, len(data)
    connection.transport.write(data)
    factory.access_log.write(record)
    return keep


def note_silence(connection: ClientConnection) -> None:
    """A client has its line in the access log that could be answered nothing."""
    connection.factory.access_log.write(_record(connection))


def _record(connection: ClientConnection) -> Record:
    factory = connection.factory
    return Record(factory.spec.name, "http", connection.peer, connection.port, factory.clock())


class ClientRequest(Exchange):
    """One request on a client's connection."""

    __slots__ = ("_body", "_body_size", "_connection", "_framing", "_keep")

    def __init__(self, connection: ClientConnection, ask: Ask) -> None:
        factory, head = connection.factory, ask.head
        record = Record(factory.spec.name, "http", connection.peer, connection.port, factory.clock(), ask.pool)
        record.asked = head
        record.bytes_received = head.size
        lines = connection.forwarded.lines(head)
        super().__init__(record, ask, ask.message(lines, head.host or own_host(connection.transport)))
        self._connection = connection
        #: The body while it has not ended, and how much of it has come.
        self._body: BodyReader | None = body_reader(ask.framing) if ask.framing else None
        self._body_size = 0
        self._keep = False
        #: How the answer's body is framed for this client.
        self._framing = 0

    # From the connection.

    @property
    def receiving(self) -> bool:
        """Whether more of the body must come."""
        return self._body is not None

    @property
    def owes_body(self) -> bool:
        """The same, and now: who waits to be asked for it need not send it before there is a server that could ask."""
        return self._body is not None and not (self._ask.expects_continue and self._server is None)

    def receive(self, data: bytes) -> bytes:
        """More of the body; returns what came behind it."""
        body = self._body
        try:
            payload = body.feed(data)
        except BadHead as bad:
            self.break_off(bad.status)
            return b""
        self.record.bytes_received += len(data) - len(body.rest)
        self._body_size += len(payload)
        if 0 < self._connection.factory.spec.client_max_body_size < self._body_size:
            self.break_off(413)
            return b""
        if payload:
            self.body(payload)
        if body.done and self._body is body:
            self._end_body()
        elif len(data) >= splice.MANY:
            self.pass_body(self._connection.transport, self, body.left)
        return body.rest

    def _end_body(self) -> None:
        body, self._body = self._body, None
        self.body_ends(body.trailers)
        self._connection.hold_body(False)

    def came(self, count: int) -> None:
        """So many bytes of the body pass unread."""
        self.record.bytes_received += count
        self.record.upstream_bytes_sent += count
        self._body.skip(count)
        self._connection.watch()

    def went(self, count: int) -> None:
        """Whether the server takes them is told by its transport."""

    def passed(self) -> None:
        """All of the body has."""
        if self._body is not None:
            self._end_body()

    def break_off(self, status: int) -> None:
        """The request cannot go on, by the client's fault."""
        self.abandon()
        if self.answer is not None:
            self.answer_breaks()
        else:
            self._answer(status)

    def client_left(self) -> None:
        """Nobody waits for the answer any more."""
        self.abandon()
        self.record.status = self.record.status or 499
        self._log()

    def client_ended(self) -> None:
        """As `client_left`, but what was written may still arrive."""
        self.client_left()
        self._cut()

    # From the exchange.

    def pause_body(self) -> None:
        self._connection.hold_body(True)

    def resume_body(self) -> None:
        self._connection.hold_body(False)
        self._connection.watch()

    def connection_variable(self, name: str) -> bytes:
        return stream_variable(name, self.record, self._connection.transport)

    def answer_informs(self, head: ResponseHead) -> None:
        if self._ask.head.minor:
            self._write(response_start(head) + b"\r\n")

    def answer_switches(self, head: ResponseHead, server: ServerConnection) -> None:
        self.record.status = head.status
        self._write(b"%b%b%b\r\n" % (response_start(head), self.cookie_line(), UPGRADE_LINES))
        factory = self._connection.factory
        timeout = factory.spec.timeout
        tunnel = Tunnel(self._connection, server, self.record, factory.deadlines, timeout)
        self._connection.become_tunnel(tunnel)

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        lines = self.cookie_line()
        if framing < 0:
            framing = CHUNKED if self._ask.head.minor else UNTIL_CLOSE
            lines = framing_line(framing) + lines
        self._framing = framing
        self._keep = framing != UNTIL_CLOSE and self._may_keep()
        if not self._keep:
            lines += b"Connection: close\r\n"
        elif not self._ask.head.minor:
            lines += b"Connection: keep-alive\r\n"
        self.record.status = head.status
        if data and framing == CHUNKED:
            data = encode_chunk(data)
        self._write(b"%b%b\r\n%b" % (response_start(head), lines, data))

    def answer_data(self, data: bytes) -> None:
        self._write(encode_chunk(data) if self._framing == CHUNKED else data)

    def answer_sink(self) -> object | None:
        return None if self._framing == CHUNKED else self._connection.transport

    def answer_ends(self, trailers: bytes) -> None:
        if self._framing == CHUNKED:
            self._write(encode_last_chunk(trailers))
        connection = self._connection
        connection.factory.access_log.write(self.record)
        connection.finished(self._keep)

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
        self.record.status = status
        self._keep = self._ask.head.minor == 1 and self._may_keep()
        self._write(page(status, close=not self._keep, method=self._ask.head.method))
        self._log()
        self._connection.finished(self._keep)

    def _may_keep(self) -> bool:
        return self._body is None and self._connection.factory.may_keep(self._ask.head)

    def _write(self, data: bytes) -> None:
        self.record.bytes_sent += len(data)
        self._connection.transport.write(data)

    def _log(self) -> None:
        self._connection.factory.access_log.write(self.record)


class HedgedClientRequest(Hedged, ClientRequest):
    """One for which a second server may be asked."""
