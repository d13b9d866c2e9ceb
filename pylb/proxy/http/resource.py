"""How does somebody's own twisted.web site pass requests on to a pool?

The same exchange, retries and kept connections as behind a listener; twisted.web is the client's side.  So it has read the
request's body before pylb sees it, has answered `Expect: 100-continue` itself, and interim answers end here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from pylb.balance.pool import Pool
from pylb.proxy.accesslog import Record
from pylb.proxy.http.ask import Ask
from pylb.proxy.http.exchange import Exchange
from pylb.proxy.http.forwarded import Forwarded, TrustedProxies
from pylb.proxy.http.head import BadHead, RequestHead, ResponseHead, parse_request
from pylb.proxy.http.headers import length_line, response_lines
from pylb.proxy.http.hedge import Hedged
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.http.pages import page_body
from pylb.proxy.http.server import ServerConnection
from pylb.proxy.http.upstream import HttpUpstream
from pylb.proxy.tls import ClientTLS
from pylb.proxy.upstream import Limits, Upstream
from pylb.proxy.variables import stream_variable

__all__ = ["PoolResource"]

_PIECE = 32 * 1024
#: twisted.web has answered it itself, and has no way to leave HTTP.
_NOT_HERE = (b"expect", b"upgrade")


class PoolResource(Resource):
    """Passes whatever is asked at or below it on to `pool`, with the whole path as it was asked.

    Times in seconds.  `close` closes the idle connections to the servers, and no more are kept from then on.
    """

    isLeaf = True

    def __init__(
        self,
        pool: Pool,
        reactor: IReactorTime,
        clock: Callable[[], float] = time.monotonic,
        *,
        limits: Limits | None = None,
        send_timeout: float = 60.0,
        read_timeout: float = 60.0,
        trusted: TrustedProxies | None = None,
    ) -> None:
        super().__init__()
        tls = ClientTLS(pool.spec.tls) if pool.spec.tls is not None else None
        self.clock = clock
        self.trusted = trusted or TrustedProxies()
        self.upstream = HttpUpstream(
            upstream=Upstream(reactor, pool, limits or Limits(), clock, tls),
            idle=IdleConnections(pool.spec.keepalive, reactor, clock),
            send_timeout=send_timeout,
            read_timeout=read_timeout,
        )

    def render(self, request: Request) -> int | bytes:
        size = request.content.seek(0, 2)
        request.content.seek(0)
        try:
            ask = Ask(_head_of(request, size), self.upstream)
        except BadHead as bad:
            request.setResponseCode(bad.status)
            return page_body(bad.status)
        (_HedgedWebRequest if ask.hedged else _WebRequest)(self, request, ask, size).begin()
        return NOT_DONE_YET

    def close(self) -> None:
        """Close the idle connections."""
        self.upstream.idle.close()


def _head_of(request: Request, size: int) -> RequestHead:
    """The request's head, judged as strictly as on a listener; `size` replaces the framing of the body that was read."""
    lines = []
    framing = b""
    for name, values in request.requestHeaders.getAllRawHeaders():
        if name.lower() in (b"content-length", b"transfer-encoding"):
            framing = b"Content-Length: %d\r\n" % size
        elif name.lower() not in _NOT_HERE:
            lines += [b"%b: %b\r\n" % (name, value) for value in values]
    version = request.clientproto if request.clientproto == b"HTTP/1.0" else b"HTTP/1.1"
    return parse_request(b"%b %b %b\r\n%b%b" % (request.method, request.uri, version, b"".join(lines), framing))


@implementer(IPushProducer)
class _Answer:
    """What twisted.web is given: the producer of an exchange's answer."""

    __slots__ = ("pauseProducing", "resumeProducing")

    def __init__(self, exchange: Exchange) -> None:
        self.pauseProducing = exchange.pause_answer
        self.resumeProducing = exchange.resume_answer

    def stopProducing(self) -> None:
        """The client's end is told by notifyFinish."""


class _WebRequest(Exchange):
    """An exchange on behalf of a twisted.web request."""

    __slots__ = ("_gone", "_held", "_left", "_request")

    def __init__(self, resource: PoolResource, request: Request, ask: Ask, size: int) -> None:
        self._request = request
        self._held = False
        self._gone = False
        client = request.getClientAddress()
        address = getattr(client, "host", "unix:")
        record = Record("", "http", address, getattr(client, "port", None), resource.clock())
        proto = b"https" if request.isSecure() else b"http"
        forwarded = Forwarded(address, proto, address in resource.trusted)
        self._left = size
        message = ask.message(forwarded.lines(ask.head), ask.head.host or b"localhost")
        super().__init__(record, ask, message)

    def begin(self) -> None:
        self._request.notifyFinish().addErrback(self._client_left)
        self._request.registerProducer(_Answer(self), True)
        self.start()
        self._send_body()

    def _send_body(self) -> None:
        while self._left and not self._held and not self._gone:
            data = self._request.content.read(min(_PIECE, self._left))
            self._left -= len(data)
            self.body(data)
            if not self._left:
                self.body_ends(None)

    def _client_left(self, reason: object) -> None:
        if not self._gone:
            self._gone = True
            self.abandon()

    # From the exchange.

    def pause_body(self) -> None:
        self._held = True

    def resume_body(self) -> None:
        if self._held:
            self._held = False
            self._send_body()

    def connection_variable(self, name: str) -> bytes:
        request: Any = self._request
        if name == "scheme":
            return b"https" if request.isSecure() else b"http"
        # A stream of HTTP/2 has no transport, but knows its addresses.
        return stream_variable(name, self.record, getattr(request.channel, "transport", None) or request)

    def answer_switches(self, head: ResponseHead, server: ServerConnection) -> None:
        raise AssertionError("no upgrade was asked for")

    def answer_begins(self, head: ResponseHead, framing: int, data: bytes) -> None:
        request: Any = self._request
        request.defaultContentType = None  # twisted.web's own would be text/html
        request.setResponseCode(head.status, head.reason)
        lines = response_lines(head) + self.cookie_line()
        if framing >= 0:
            lines += length_line(head)
        pairs = [line.partition(b": ")[::2] for line in lines.split(b"\r\n")[:-1]]
        for name, _ in pairs:
            request.responseHeaders.removeHeader(name)
        for name, value in pairs:
            request.responseHeaders.addRawHeader(name, value)
        if data:
            self.answer_data(data)

    def answer_data(self, data: bytes) -> None:
        if not self._gone:
            self._request.write(data)

    def answer_ends(self, trailers: bytes) -> None:
        self._finish()

    def answer_breaks(self) -> None:
        self._gone = True
        self._request.unregisterProducer()
        channel: Any = self._request.channel
        # An HTTP/2 stream is reset by itself, and has no transport; for HTTP/1 the connection is.
        if hasattr(channel, "abortConnection"):
            channel.abortConnection()
        else:
            channel.transport.abortConnection()

    def answer_fails(self, status: int) -> None:
        body = page_body(status)
        self._request.setResponseCode(status)
        self._request.setHeader(b"Content-Type", b"text/plain")
        self._request.setHeader(b"Content-Length", b"%d" % len(body))
        self._request.write(body)
        self._finish()

    def _finish(self) -> None:
        if not self._gone:
            self._gone = True
            self._request.unregisterProducer()
            self._request.finish()


class _HedgedWebRequest(Hedged, _WebRequest):
    """One for which a second server may be asked."""
