"""What becomes of one request?

Pick a server, send, pass the answer back; both bodies stream, and each side slows the other down.

- Retries: while nothing of an answer was passed on, for the reasons in `next_upstream`, if the request may be repeated.
- A kept connection may close just when it is used.  When it ends without a byte of an answer, the same server gets the
  request again on a fresh one and is not blamed.
- A head that came is the server's success, unless its status is one to be tried elsewhere and there is an elsewhere, or one
  of those in the pool's `fail_on`, which says all that counts as a failure.  403 and 404 do only there.
  What goes wrong afterwards is nobody's failure, but the asker sees that the answer is cut.
- An answer may come before the request's body has ended; when it is whole the rest of that body goes nowhere.
- A server that closes while the client owes it a part of the body may have lost its patience: it is not blamed, and no
  other one is kept waiting.
- A server that was asked for a 100 and answers without may read the body as its next request: its connection ends.

Whoever asks inherits from this, and says what follows: a client's request, or one of twisted.web.
"""

from __future__ import annotations

from typing import Any

from pylb.proxy import splice
from pylb.proxy.dial import UpstreamError
from pylb.proxy.http.head import BadHead, Fields, ResponseHead
from pylb.proxy.http.headers import trailer_block
from pylb.proxy.http.sending import Sending
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.http.variables import answer_variable, variable
from pylb.variables import CONNECTION_VARIABLES

__all__ = ["Exchange"]

#: Interim answers (1xx) that are passed on for one request.
MAX_INTERIM = 16


class Exchange(Sending):
    """One request and its answer.

    Whoever asks hears `answer_begins`, any number of `answer_data` and one of `answer_ends` and `answer_breaks`; or else
    one `answer_fails`.
    """

    __slots__ = ()

    # What whoever asks says and hears.

    def connection_variable(self, name: str) -> bytes:
        """One of CONNECTION_VARIABLES."""
        raise NotImplementedError

    def answer_informs(self, head: ResponseHead) -> None:
        """An interim answer (1xx)."""

    def answer_switches(self, head: ResponseHead, server: ServerConnection) -> None:
        """101: the connection to the server is the asker's now."""
        raise NotImplementedError

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        """The head, `framing` as in `body`, and what came of the body with it."""
        raise NotImplementedError

    def answer_data(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def answer_sink(self) -> object | None:
        """The transport that more of the body may pass to as it is, if there is one; who lets it counts it in the record."""

    def answer_ends(self, trailers: bytes) -> None:
        """The body is whole."""
        raise NotImplementedError

    def answer_breaks(self) -> None:
        """The body will never be whole: the client must be able to see that."""
        raise NotImplementedError

    def answer_fails(self, status: int) -> None:
        """There will be no answer of a server: 502 or 504."""
        raise NotImplementedError

    # What it can do.

    def cookie_line(self) -> bytes:
        """The line that pylb adds to the head of an answer, so that the client finds its server again; often nothing."""
        cookie = self._pool.cookie
        return b"" if cookie is None else cookie.line(self._ask.head, self.lease.server)

    def variable(self, name: str) -> bytes:
        """What a balancing method or a session may ask."""
        if name in CONNECTION_VARIABLES:
            return self.connection_variable(name)
        if name.startswith("upstream_"):
            return b"" if self.answer is None else answer_variable(self.answer, name)
        return variable(self._ask.head, name)

    def abandon(self) -> None:
        """The asker has left."""
        self._abort_server()
        self._stop()

    def pause_answer(self) -> None:
        """The asker can take no more for now."""
        if self._server is not None:
            self._server.pause()

    def resume_answer(self) -> None:
        if self._server is not None:
            self._server.resume(self._pool.read_timeout)

    # From the search.

    def connected(self, side: Any) -> None:
        server: ServerConnection = side  # as `build` and `take_idle` give them
        self._server = server
        server.begin(self, self._ask.head.method, self.lease.server)
        if self._replay:
            self._send(self._message + self._replay)
            self._forget_long_body()
        else:
            self._send(self._message)
        if self._whole:
            server.expect(self._pool.read_timeout)
        else:
            server.transport.registerProducer(self, True)
            self.resume_body()

    def inherit(self, other: Any) -> None:
        super().inherit(other)
        self._unconfirmed = other._unconfirmed
        self._server, other._server = other._server, None
        if self._server is not None:
            self._server.belong_to(self)

    def unreachable(self, error: Exception) -> None:
        self.answer_fails(504 if isinstance(error, UpstreamError) and error.timed_out else 502)

    # From the server.

    def await_more(self) -> None:
        """Something came, and the answer is not whole."""
        if self._listening:
            self._server.expect(self._pool.read_timeout)

    def informed(self, head: ResponseHead) -> None:
        """An interim answer came."""
        if head.status == 101:
            self._switch(head)
            return
        if head.status == 100:
            self._unconfirmed = False
        self._replay = None  # The client has heard of this server.
        self._informed += 1
        if self._informed > MAX_INTERIM:
            raise BadHead(502, "too many interim answers")
        self.answer_informs(head)

    def _switch(self, head: ResponseHead) -> None:
        if not self._ask.upgrade or head.fields.elements(b"upgrade") != [b"websocket"]:
            raise BadHead(502, "switched protocols unasked")
        self._accept(head)
        server, self._server = self._server, None
        assert server is not None
        self.answer_switches(head, server)

    def answered(self, head: ResponseHead, framing: int, data: bytes) -> None:
        """The answer's head came, and with it so much of its body."""
        if self._accept(head):
            self.answer_begins(head, framing, data)

    def _accept(self, head: ResponseHead) -> bool:
        """Whether a head is passed on; if not, another server has been asked."""
        attempt, pool, status = self.attempt, self._pool, head.status
        attempt.status = status
        attempt.header_time = pool.upstream.clock() - attempt.started
        if status in pool.unwelcome and self._turn_down(status):
            return False
        lease = self.lease
        self.answer = head
        lease.succeeded()
        if lease.waits:
            lease.timed("header")
        if pool.learns_at_head or status == 101:
            lease.bind(self)
        return True

    def pass_answer(self, server: ServerConnection, count: int) -> None:
        """The body's next `count` bytes may pass unread, if the asker can take them as they are."""
        sink = self.answer_sink()
        if sink is not None:
            splice.pass_on(server.transport, sink, server, count)

    def answer_passes(self, count: int) -> None:
        """So many bytes pass unread."""
        self.record.upstream_bytes_received += count
        self.record.bytes_sent += count
        self.await_more()

    def answered_all(self, trailers: Fields | None, clean: bool) -> None:
        """The answer is whole; `clean` if nothing came behind it and the server has not closed."""
        server, lease = self._server, self.lease
        self._server = None
        if self._whole and not self._unconfirmed:
            server.finish(clean and self.answer.keep_alive)
        else:
            server.abort()
        if lease.waits:
            lease.timed("last_byte")
        self._stop()
        self.answer_ends(trailer_block(trailers) if trailers else b"")

    def server_left(self, reason: str) -> None:
        """The connection ended before the answer did."""
        server, self._server = self._server, None
        if server.requests and not server.heard:
            self.fresh()
        elif not self._listening:
            self._give_up(502)
        else:
            self._failed("error", reason, 502)

    def server_late(self) -> None:
        """The server did nothing for too long."""
        self._abort_server()
        self._failed("timeout", "timed out", 504)

    def misunderstood(self, reason: str) -> None:
        """What the server sent is no answer."""
        self._abort_server()
        self._failed("invalid_header", reason, 502)

    def _stop(self) -> None:
        """The server is not used any more; a session that it has answered is learned, however the answer ended."""
        if self._pool.learns_at_end and self.answer is not None and self.lease is not None:
            self.lease.bind(self)
        self.stop()

    def _abort_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.abort()

    # When it goes wrong.

    def _failed(self, kind: str, reason: str, status: int) -> None:
        if self.answer is not None:
            self._stop()
            self.answer_breaks()
            return
        self.attempt.status = status
        if kind in self._pool.upstream.blamed:
            self.lease.failed(reason)
        if kind not in self._pool.next_upstream or not self._may_repeat() or not self.again():
            self._give_up(status)

    def _give_up(self, status: int) -> None:
        self.attempt.status = status
        self.stop()
        self.answer_fails(status)

    def _turn_down(self, status: int) -> bool:
        """Blame the server for an answer if it is to be, and leave it if another one is to be asked, and there is."""
        pool, reason = self._pool, f"status {status}"
        if status in pool.blamed_if_retried:
            return self._try_elsewhere(reason)
        if status in pool.blamed_statuses:
            self.lease.failed(reason)
        else:
            self.lease.succeeded()
        return status in pool.retried_statuses and self._try_elsewhere(None)

    def _try_elsewhere(self, failure: str | None) -> bool:
        """Leave a server whose answer is not wanted, if there is another; `failure` holds only then."""
        server, self._server = self._server, None
        if self._may_repeat() and self.again(failure):
            server.abort()
            return True
        self._server = server
        return False
