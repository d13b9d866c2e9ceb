"""A reactor, connections and transports that do what a test says, when it says so."""

from __future__ import annotations

import signal
from unittest import TestCase

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError, UserError
from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pylb.proxy.accesslog import Record
from pylb.signals import SIGNALS


def keep_signals(test: TestCase) -> None:
    """Whatever becomes of signals in a test, afterwards they are answered as before."""
    for number in SIGNALS:
        test.addCleanup(signal.signal, number, signal.getsignal(number))
    test.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))


class Records(list[Record]):
    """An access log that keeps its records."""

    write = list.append


@implementer(ITransport, IConsumer, IPushProducer)
class FakeTransport:
    """One end of a connection; the test is the network and the other end.

    What the protocol asks for is noted, and what follows from it happens in `settle`, as it does with real ones.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.written = b""
        self.reading = True
        self.producer: IPushProducer | None = None
        self.disconnecting = False
        self.aborted = False
        self.write_ended = False
        #: The other end has said that it sends no more.
        self.ended = False
        self.lost = False

    # What the protocol does.

    def write(self, data: bytes) -> None:
        if not self.lost:
            self.written += data

    def writeSequence(self, data) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.write_ended = True

    def abortConnection(self) -> None:
        self.aborted = True

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 4711)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 80)

    # What the test does.

    @property
    def takes_events(self) -> bool:
        """Whether the network can still reach the protocol."""
        return not (self.lost or self.disconnecting or self.aborted)

    def receive(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self) -> None:
        """The other end sends no more."""
        self.ended = True
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self.lose(ConnectionDone())
        else:
            protocol.readConnectionLost()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone, by a reset if nothing else is said."""
        self.lost = True
        if self.producer is not None:
            self.producer.stopProducing()
        self.protocol.connectionLost(Failure(error or ConnectionLost()))

    def settle(self) -> bool:
        """Close if that was asked for; whether it was."""
        if self.lost or not (self.disconnecting or self.aborted):
            return False
        self.lose(ConnectionAborted() if self.aborted else ConnectionDone())
        return True


@implementer(IConnector)
class FakeConnector:
    """A connection that is being made, until the test decides what becomes of it."""

    def __init__(self, address: str, factory: ClientFactory) -> None:
        self.address = address
        self.factory = factory
        self.pending = True
        self.transport: FakeTransport | None = None

    def connect(self) -> None:
        raise NotImplementedError

    def stopConnecting(self) -> None:
        self.refuse(UserError())

    def disconnect(self) -> None:
        if self.pending:
            self.stopConnecting()
        elif self.transport is not None:
            self.transport.loseConnection()

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", self.address, 80)

    def accept(self) -> FakeTransport:
        """The server is there."""
        self.pending = False
        protocol = self.factory.buildProtocol(self.getDestination())
        self.transport = FakeTransport(protocol)
        protocol.makeConnection(self.transport)
        return self.transport

    def refuse(self, error: Exception | None = None) -> None:
        """The server is not there."""
        self.pending = False
        self.factory.clientConnectionFailed(self, Failure(error or ConnectionRefusedError()))


@implementer(IReactorTime, IReactorTCP, IReactorUNIX)
class FakeReactor(Clock):
    """Time stands still and nobody is reached until the test says so; `dialled` has every connection asked for, in order.

    `error` is raised by the next attempt to connect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dialled: list[FakeConnector] = []
        self.error: Exception | None = None

    @property
    def pending(self) -> list[FakeConnector]:
        return [connector for connector in self.dialled if connector.pending]

    def connectTCP(self, host, port, factory, timeout=30, bindAddress=None) -> FakeConnector:
        return self._connect(host, factory)

    def connectUNIX(self, address, factory, timeout=30, checkPID=0) -> FakeConnector:
        return self._connect(address, factory)

    def listenTCP(self, port, factory, backlog=50, interface=""):
        raise NotImplementedError

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=0):
        raise NotImplementedError

    def _connect(self, address: str, factory: ClientFactory) -> FakeConnector:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.dialled.append(FakeConnector(address, factory))
        return self.dialled[-1]
