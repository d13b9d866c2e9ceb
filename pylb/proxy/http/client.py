"""What may a client do on its connection, and for how long?

- One request at a time: what comes behind it waits until the answer is written, and soon reading pauses.
- Every wait has an end: for a head as a whole, for the next piece of a body, for the client to read, for its next request.
- A connection that ends while the client may still be sending is closed in two steps: our end first, and the rest only
  when the client has seen it or some seconds are over.  Closing at once would reset it and destroy the answer.
- Who does not speak TLS where it should is told so, and a handshake that fails has its line in the access log.
- A client that leaves, or half-closes, while it waits for an answer has given up: the request ends with 499.  One that
  half-closes gets what has been written for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.proxy.connections import LINGER, peer_of, set_options
from pylb.proxy.deadline import Deadline
from pylb.proxy.http.forwarded import Forwarded
from pylb.proxy.http.head import BadHead
from pylb.proxy.http.reader import RequestReader
from pylb.proxy.http.request import ClientRequest, HedgedClientRequest, note_silence, refuse
from pylb.proxy.http.tunnel import Tunnel
from pylb.proxy.tls_stream import IMeetsPlain

if TYPE_CHECKING:
    from pylb.proxy.http.ask import Ask
    from pylb.proxy.http.factory import HttpFactory

__all__ = ["ClientConnection"]

#: Bytes behind a request that are read while it is answered, so that the client's end is seen.
AHEAD = 4096


@implementer(IHalfCloseableProtocol, IHandshakeListener, IMeetsPlain, IPushProducer)
class ClientConnection(Protocol):
    """Faces one client; towards its transport, the producer of the answers."""

    #: There whenever a protocol is called, which Twisted's type cannot say.
    transport: Any
    #: Over TLS: there was a handshake.
    _secured = False

    def __init__(self, factory: HttpFactory) -> None:
        self.factory = factory
        self._deadline = Deadline(factory.deadlines, self._expired)
        self._reader = RequestReader()
        self._request: ClientRequest | None = None
        self._tunnel: Tunnel | None = None
        #: What has come and cannot be used yet.
        self._pending = b""
        self._serving = False
        self._reading = True
        #: Nothing of the next request has come, and it can be answered when it does.
        self._idle = True
        #: An answer was given: the next head has its time from when it begins.
        self._answered = False
        #: The client does not read.
        self._blocked = False
        #: The server does not take the request's body.
        self._body_held = False
        #: Nothing is answered any more.
        self._closing = False

    # Twisted's.

    def connectionMade(self) -> None:
        factory, transport = self.factory, self.transport
        self.peer, self.port = peer_of(transport)
        proto = b"https" if ISSLTransport.providedBy(transport) else b"http"
        self.forwarded = Forwarded(self.peer, proto, self.peer in factory.trusted)
        set_options(transport, nodelay=factory.spec.tcp_nodelay, keepalive=factory.spec.so_keepalive)
        transport.registerProducer(self, True)
        self._deadline.set(factory.spec.client_header_timeout)
        factory.connections.add(self)

    def handshakeCompleted(self) -> None:
        self._secured = True

    def spoke_plainly(self) -> None:
        """The client speaks HTTP, it seems, and was to speak TLS."""
        self._refuse(400, why=b"this port speaks TLS")

    def dataReceived(self, data: bytes) -> None:
        ask = self.factory.known.get(data) if self._idle and not self._closing else None
        if ask is not None:
            self._begin(ask)
        elif self._tunnel is not None:
            self._tunnel.from_client(data)
        elif not self._closing:
            self._pending = self._pending + data if self._pending else data
            self._serve()

    def readConnectionLost(self) -> None:
        """The client sends no more (over TLS its whole connection ends instead)."""
        if self._tunnel is not None:
            self._tunnel.client_ended()
        elif self._closing:
            self.transport.loseConnection()
        elif self._request is not None:
            self._request.client_ended()
        else:
            self._close()

    def writeConnectionLost(self) -> None:
        """Twisted's, when the first of two steps is done."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._closing = True
        self._deadline.end()
        if self._tunnel is not None:
            self._tunnel.client_lost()
        if self._request is not None:
            self._request.client_left()
        if isinstance(reason.value, SSL.Error) and not self._secured:
            note_silence(self)
            self.factory.failed_handshakes.note(self.peer, reason.value)
        self.factory.connections.remove(self)

    def pauseProducing(self) -> None:
        """The client does not read: it must begin again in time."""
        self._blocked = True
        self._idle = False
        self._deadline.set(self.factory.spec.send_timeout)
        if self._request is not None:
            self._request.pause_answer()

    def resumeProducing(self) -> None:
        self._blocked = False
        if self._request is not None:
            self.watch()
            self._request.resume_answer()
        elif not self._closing:
            self._await_request()
            self._serve()

    def stopProducing(self) -> None:
        """The connection tells its end by connectionLost."""

    # The process's.

    def drain(self) -> None:
        """Close now if nothing runs; what runs is answered with `Connection: close`."""
        if not (self._closing or self._request is not None or self._reader.begun or self._pending):
            self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._tunnel is not None:
            self._tunnel.abort()
        else:
            self.transport.abortConnection()

    # The request's.

    def hold_body(self, held: bool) -> None:
        """Whether to bring no more of the request's body for now."""
        if held is not self._body_held:
            self._body_held = held
            self.watch()
            self._adjust_reading()

    def finished(self, keep: bool) -> None:
        """The request is answered."""
        request, self._request = self._request, None
        self._body_held = False
        if keep and self.factory.spec.keepalive_timeout:  # else it has become 0 since the answer began
            self._await_request()
            if self._pending or not self._reading:
                self._serve()
            if self.factory.connections.draining:
                self.drain()
        elif self._pending or (request is not None and request.receiving):
            self._close_in_two_steps()
        else:
            self._close()

    def cut(self, flush: bool) -> None:
        """The answer ends before its time, and the client must notice: what it has not got yet is sent or dropped."""
        self._request = None
        if flush:
            self._close()
        else:
            self.transport.abortConnection()

    def become_tunnel(self, tunnel: Tunnel) -> None:
        """HTTP is over."""
        self._tunnel = tunnel
        self._deadline.clear()
        early, self._pending = self._pending, b""
        if early:
            tunnel.from_client(early)
        self._adjust_reading()

    # What comes.

    def _serve(self) -> None:
        """Use what has come, as far as it can be used now."""
        if self._serving:
            return
        self._serving = True
        while self._pending and not self._closing:
            request = self._request
            if request is None:
                if self._blocked:
                    break
                self._take_head()
            elif request.receiving:
                data, self._pending = self._pending, b""
                self._pending = request.receive(data)
                self.watch()
            else:
                break
        self._serving = False
        if self._pending or not self._reading:
            self._adjust_reading()

    def _take_head(self) -> None:
        data, self._pending = self._pending, b""
        try:
            found = self._reader.feed(data)
            if found is None:
                self._head_begins()
                return
            head, self._pending = found
            ask = self.factory.ask(head)
        except BadHead as bad:
            self._refuse(bad.status)
        else:
            self._begin(ask)

    def _begin(self, ask: Ask) -> None:
        self._idle = False
        if ask.refusal:
            self._refuse(ask.refusal, ask)
            return
        request = self._request = (HedgedClientRequest if ask.hedged else ClientRequest)(self, ask)
        request.start()
        if ask.framing:
            self.watch()

    def _head_begins(self) -> None:
        """The whole head must come in time; for the first one that began with the connection."""
        if self._idle and self._reader.begun:
            self._idle = False
            if self._answered:
                self._deadline.set(self.factory.spec.client_header_timeout)

    def _await_request(self) -> None:
        self._idle = not self._blocked
        self._answered = True
        spec = self.factory.spec
        self._deadline.set(spec.send_timeout if self._blocked else spec.keepalive_timeout)

    def watch(self) -> None:
        """The next piece of the request's body must come in time, if one must come."""
        if not self._blocked and self._awaits_body:
            self._deadline.set(self.factory.spec.client_body_timeout)

    @property
    def _awaits_body(self) -> bool:
        return self._request is not None and self._request.owes_body and not self._body_held

    def _adjust_reading(self) -> None:
        wanted = self._closing or self._tunnel is not None or not (len(self._pending) > AHEAD or self._body_held)
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # How it ends.

    def _refuse(self, status: int, ask: Ask | None = None, why: bytes = b"") -> None:
        if refuse(self, status, ask, why):
            self.finished(keep=True)
        else:
            self._close_in_two_steps()

    def _expired(self) -> None:
        if self._closing or self._blocked:
            self.transport.abortConnection()
        elif self._awaits_body:
            self._request.break_off(408)
        elif self._request is not None:
            pass  # It was set for something that is over: the client has nothing to do until it is answered.
        elif self._reader.begun:
            self._refuse(408)
        else:
            self._close()

    def _close(self) -> None:
        """Write what is left and close; who does not take it in time is cut off."""
        self._closing = True
        self._deadline.set(self.factory.spec.send_timeout)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _close_in_two_steps(self) -> None:
        """As `_close`, for a client that may still be sending: what it sends is read and forgotten."""
        transport = self.transport
        if ISSLTransport.providedBy(transport):
            self._close()  # TLS waits for the client's own end anyway
        else:
            self._closing = True
            self._deadline.set(self.factory.spec.send_timeout if self._blocked else LINGER)
            transport.unregisterProducer()
            transport.loseWriteConnection()
        self._pending = b""
        self._adjust_reading()
