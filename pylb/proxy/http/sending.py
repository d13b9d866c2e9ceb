"""How does a request reach its server?

- Its head goes at once, its body as it comes, and the server slows the client down.
- It may be sent again if all of its body so far is still at hand, 64 KiB of which are kept, and if its method is idempotent
  or the operator lists `non_idempotent`.
- A kept connection may close just when it is used, so only idempotent requests travel on those.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pylb.balance.server import Server
from pylb.proxy import splice
from pylb.proxy.accesslog import Record
from pylb.proxy.http.ask import REPLAYED, Ask
from pylb.proxy.http.body import CHUNKED, encode_chunk, encode_last_chunk
from pylb.proxy.http.head import Fields, ResponseHead
from pylb.proxy.http.headers import trailer_block
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.upstream import Attempts

__all__ = ["Sending"]


@implementer(IPushProducer)
class Sending(Attempts):
    """A request on its way; towards the server's transport, the producer of its body."""

    __slots__ = ("_ask", "_informed", "_message", "_pool", "_replay", "_server", "_unconfirmed", "_whole", "answer")

    def __init__(self, record: Record, ask: Ask, message: bytes) -> None:
        """`message` is the head for the server."""
        upstream = ask.upstream
        assert upstream is not None, "a server is to be asked"
        super().__init__(upstream.upstream, record)
        self._pool = upstream
        self._ask = ask
        self._message = message
        self._server: ServerConnection | None = None
        #: The body so far as it is sent, while it is worth keeping.
        self._replay: bytearray | bytes | None = bytearray() if ask.framing else b""
        self._whole = ask.framing == 0
        #: The server was asked for a 100 and has not sent it.
        self._unconfirmed = ask.expects_continue
        #: Interim answers that were passed on.
        self._informed = 0
        #: The answer's head, once there is one to pass on.
        self.answer: ResponseHead | None = None

    # What the client's side says and hears.

    def pause_body(self) -> None:
        """Bring no more of the request's body for now."""
        raise NotImplementedError

    def resume_body(self) -> None:
        """Go on."""
        raise NotImplementedError

    def body(self, data: bytes) -> None:
        """A piece of the request's body, not empty."""
        if self._ask.framing == CHUNKED:
            data = encode_chunk(data)
        if self._replay is not None:
            self._replay += data
        if self._server is not None:
            self._forget_long_body()
            self._send(data)
        elif self._replay is not None and len(self._replay) > REPLAYED:
            self.pause_body()

    def pass_body(self, source: object, meter: splice.Meter, count: int) -> None:
        """The body's next `count` bytes may pass unread, if it has a server and need not be kept."""
        if self._server is not None and self._replay is None and self._ask.framing != CHUNKED:
            splice.pass_on(source, self._server.transport, meter, count)

    def body_ends(self, trailers: Fields | None) -> None:
        """The request's body is whole."""
        self._whole = True
        if self._ask.framing == CHUNKED:
            last = encode_last_chunk(trailer_block(trailers))
            if self._replay is not None:
                self._replay += last
            if self._server is not None:
                self._send(last)
        if self._server is not None:
            self._server.transport.unregisterProducer()
            self._server.expect(self._pool.read_timeout)

    # Towards the server.

    def build(self) -> ServerConnection:
        return self._pool.connection()

    def take_idle(self, server: Server) -> ServerConnection | None:
        ask = self._ask
        if ask.idempotent and self._replay is not None and (ask.replayed or self._whole):
            return self._pool.idle.take(server)
        return None

    def _send(self, data: bytes) -> None:
        self.record.upstream_bytes_sent += len(data)
        self._server.transport.write(data)

    def _forget_long_body(self) -> None:
        if self._replay is not None and len(self._replay) > REPLAYED:
            self._replay = None

    @property
    def _listening(self) -> bool:
        """Whether it is the server's turn."""
        return self._whole or self.answer is not None

    def _may_repeat(self) -> bool:
        """Whether a request that was sent may be sent again."""
        repeatable = self._ask.idempotent or "non_idempotent" in self._pool.next_upstream
        return repeatable and self._replay is not None

    # From the server's transport.

    def pauseProducing(self) -> None:
        """The server takes no more of the body for now, and must not do so for long."""
        self.pause_body()
        if self._server is not None:
            self._server.expect(self._pool.send_timeout)

    def resumeProducing(self) -> None:
        if self._server is not None:
            self._server.expect(self._pool.read_timeout if self._listening else 0)
        self.resume_body()

    def stopProducing(self) -> None:
        """The connection tells its own end by other means."""
