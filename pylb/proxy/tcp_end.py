"""What does each end of a TCP session do with what it hears?

Bytes that come while the other end is there go straight to it; everything else is the session's to decide.  When much comes
at a time, several times in a row, what follows goes through a pipe (see `splice.py`) if it can, and if nothing says how fast
it may come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.proxy import splice
from pylb.proxy.deadline import Deadlines
from pylb.proxy.dial import ServerSide
from pylb.proxy.pace import MOMENT, Pace
from pylb.proxy.tls import TLSTransport
from pylb.proxy.tls_stream import TLSStream

if TYPE_CHECKING:
    from pylb.proxy.tcp import TcpFactory
    from pylb.proxy.tcp_session import Session

__all__ = ["ClientEnd", "End", "ServerEnd"]


@implementer(IHalfCloseableProtocol, IPushProducer)
class End(Protocol):
    """One end of a session; towards the other end, the producer of the bytes that come from here."""

    transport: Any
    session: Session
    #: The other end's transport, while what comes from here is passed on.
    sink: Any = None
    #: No more bytes come from here, and that was no accident.
    ended = False
    #: Keeps what comes from here to a rate, if there is one.
    pace: Pace | None = None
    #: How many reads in a row brought many bytes.
    _reads = 0

    def dataReceived(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.unsent(data)
            return
        count = len(data)
        self.came(count)
        sink.write(data)
        if self.pace is not None:
            self.pace.came(count)
        elif count >= splice.MANY:
            self._pass_on(sink)
        elif self._reads:
            self._reads = 0

    def _pass_on(self, sink: object) -> None:
        self._reads += 1
        if self._reads >= splice.READS:
            splice.pass_on(self.transport, sink, self)

    def join(self, other: End, rate: int, deadlines: Deadlines) -> None:
        """From now on pass on what comes to the other end, `rate` bytes a second (0: no limit)."""
        self.sink = other.transport
        # Each read asks for these: CPython finds them sooner here than in the class.
        self.pace, self._reads = None, 0
        producer: End | Pace = self
        if rate:
            producer = self.pace = Pace(self, rate, deadlines)
            # Of which Twisted reads so much at a time.
            self.transport.bufferSize = max(1, min(self.transport.bufferSize, int(rate * MOMENT)))
        self.sink.registerProducer(producer, True)

    def part(self) -> None:
        """From now on pass on nothing."""
        self.sink = None
        if self.pace is not None:
            pace, self.pace = self.pace, None
            pace.stop()

    def unsent(self, data: bytes) -> None:
        """What came while there is nobody to pass it on to."""
        raise NotImplementedError

    def came(self, count: int) -> None:
        """So many bytes came, and are on their way to the other end."""
        raise NotImplementedError

    def went(self, count: int) -> None:
        """So many have left the pipe."""
        self.session.touch()

    def passed(self) -> None:
        """They never all have: it is not known how many there are."""

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
        if self.ended or isinstance(reason.value, ConnectionDone):
            return False
        return isinstance(self.transport, TLSStream | TLSTransport) or not ISSLTransport.providedBy(self.transport)


@implementer(IHandshakeListener)
class ClientEnd(End):
    """Faces the client."""

    #: Over TLS: there was a handshake.
    _secured = False

    def __init__(self, factory: TcpFactory) -> None:
        self._factory = factory

    def connectionMade(self) -> None:
        encrypted = ISSLTransport.providedBy(self.transport)
        self.session = self._factory.session(self, encrypted)
        if encrypted:
            self.session.wait_for_handshake()
        else:
            self.session.begin()

    def handshakeCompleted(self) -> None:
        self._secured = True
        self.session.begin()

    def unsent(self, data: bytes) -> None:
        self.session.keep(data)

    def came(self, count: int) -> None:
        session = self.session
        session.seen = session.clock()
        session.record.bytes_received += count
        session.record.upstream_bytes_sent += count

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        if isinstance(reason.value, SSL.Error) and not self._secured:
            self._factory.failed_handshakes.note(self.session.record.remote_addr, reason.value)
        self.session.client_lost(reason)


class ServerEnd(End, ServerSide):
    """Faces the server."""

    _spoke = False

    def __init__(self, session: Session) -> None:
        self.session = session

    def unsent(self, data: bytes) -> None:
        self.session.record.upstream_bytes_received += len(data)

    def came(self, count: int) -> None:
        session = self.session
        session.seen = session.clock()
        if not self._spoke:
            self._spoke = True
            session.lease.timed("first_byte")
        session.record.upstream_bytes_received += count
        session.record.bytes_sent += count

    def readConnectionLost(self) -> None:
        if self.dial is None:
            super().readConnectionLost()
        else:
            self.transport.loseConnection()

    def lost(self, reason: Failure) -> None:
        self.session.server_lost(reason)
