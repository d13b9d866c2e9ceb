"""How are clients let in?"""

from __future__ import annotations

import errno
import os
import socket

from twisted.internet import reactor, tcp
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pylb.model import Address, InetAddress, TcpListener, UnixAddress
from pylb.proxy import accept
from pylb.proxy.listen import bind, listen_stream
from pylb.proxy.poller import can_poll
from pylb.proxy.streams import Streams
from pylb.proxy.transport import Stream
from tests.backends import socket_path

ANY = InetAddress("127.0.0.1", 0)


@implementer(IReactorFDSet)
class Reactor(Clock):
    """Knows who reads; the test says when they do."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()

    def getReaders(self) -> list[object]:
        return list(self.readers)

    def addReader(self, reader) -> None:
        self.readers.add(reader)

    def removeReader(self, reader) -> None:
        self.readers.discard(reader)

    removeWriter = removeReader


class Short:
    """A listening socket for which the system has other news than clients, as long as there are any in `errors`."""

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self.errors = list(errors)

    def _accept(self):
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._sock._accept()

    def __getattr__(self, name):
        return getattr(self._sock, name)


class Client(Protocol):
    lost = None

    def connectionLost(self, reason) -> None:
        self.lost = reason.type


class AcceptTests(SynchronousTestCase):
    """Under a reactor of Twisted's kind."""

    transport = tcp.Server

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.network = self.make_network()
        self.made: list[Client] = []

    def build(self, addr) -> Client:
        self.made.append(Client())
        return self.made[-1]

    def make_network(self):
        return self.reactor

    def listen(self, address: Address = ANY, room=lambda: 1000) -> accept.StreamPort:
        (self.bound,) = (bound,) = bind([TcpListener(name="web", listen=(address,), pool="p")])
        self.addCleanup(bound.close)
        self.factory = factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self.build(addr)
        port = listen_stream(self.network, bound, bound.socket.dup(), factory, room)
        self.addCleanup(self.end, port)
        self.where = bound.socket.getsockname()
        return port

    def end(self, port) -> None:
        for client in self.made:
            if client.transport is not None and client.lost is None:
                client.transport.connectionLost(Failure(ConnectionLost()))
        if port.connected:
            port.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))

    def clients(self, count: int) -> list[socket.socket]:
        """So many clients that wait to be accepted."""
        kinds = {str: socket.AF_UNIX, 2: socket.AF_INET, 4: socket.AF_INET6}
        family = kinds[str if isinstance(self.where, str) else len(self.where)]
        made = [socket.socket(family) for _ in range(count)]
        for sock in made:
            self.addCleanup(sock.close)
            sock.connect(self.where)
        return made

    def says(self, events) -> list[str]:
        return [text for event in events if "web" in (text := formatEvent(event))]

    def test_transport(self) -> None:
        """A client's transport fits the reactor, knows both addresses, and reads."""
        for address in (ANY, InetAddress("::1", 0), UnixAddress(str(socket_path(self)))):
            port = self.listen(address)
            (client,) = self.clients(1)
            port.doRead()
            transport = self.made[-1].transport
            self.assertIsInstance(transport, self.transport)
            self.assertIn(transport, self.network.getReaders())
            self.assertEqual(transport.getHost(), port.getHost())
            if isinstance(address, InetAddress):
                self.assertEqual((transport.getPeer().host, transport.getPeer().port), client.getsockname()[:2])
            self.end(port)

    def test_bounded(self) -> None:
        """So many clients are accepted in a turn and no more, and never more than there is room for."""
        self.patch(accept, "ACCEPTS", 3)
        for room, expected in ((100, 3), (2, 2)):
            port = self.listen(room=lambda room=room: room)
            self.clients(5)
            self.made.clear()
            port.doRead()
            self.assertEqual(len(self.made), expected)
            self.end(port)

    def test_out_of_descriptors(self) -> None:
        """Nobody is accepted for a moment, and it is told; once, and once more when clients are let in again."""
        port = self.listen()
        port.socket = Short(port.socket, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        self.clients(2)
        with capturedLogs() as events:
            for _ in range(3):
                port.doRead()
                port.startReading()  # as when there is room again
                self.assertNotIn(port, self.network.getReaders())
                self.reactor.advance(accept.PAUSE)
                self.assertIn(port, self.network.getReaders())
            port.doRead()
        self.assertEqual(len(self.made), 2)
        said = [formatEvent(event) for event in events if "listener web" in formatEvent(event)]
        self.assertEqual(
            said, ["listener web lets clients wait: Too many open files", "listener web accepts clients again"]
        )

    def test_full_when_the_pause_ends(self) -> None:
        """After the pause it does not read if there is no room; whoever makes room lets it."""
        room = [1]
        port = self.listen(room=lambda: room[0])
        port.socket = Short(port.socket, errno.EMFILE)
        port.doRead()
        room[0] = 0
        self.reactor.advance(accept.PAUSE)
        self.assertNotIn(port, self.network.getReaders())
        port.startReading()
        self.assertIn(port, self.network.getReaders())

    def test_stops(self) -> None:
        """The socket goes on, on which clients wait for the next port."""
        for address in (ANY, InetAddress("::1", 0), UnixAddress(str(socket_path(self)))):
            self.end(self.listen(address))
            self.clients(1)
            port = listen_stream(self.network, self.bound, self.bound.socket.dup(), self.factory, lambda: 1000)
            self.made.clear()
            port.doRead()
            self.assertEqual(len(self.made), 1)
            self.end(port)

    def test_stops_while_paused(self) -> None:
        """A port that ends meanwhile leaves no delayed call."""
        port = self.listen()
        port.socket = Short(port.socket, errno.EMFILE)
        port.doRead()
        self.end(port)

    def test_clients_that_are_gone(self) -> None:
        """What the network did to one client is not the next one's loss."""
        port = self.listen()
        port.socket = Short(port.socket, errno.ECONNABORTED, errno.EPERM, errno.EPROTO)
        self.clients(1)
        port.doRead()
        self.assertEqual(len(self.made), 1)

    def test_cannot_be_served(self) -> None:
        """An exception on behalf of one client is logged and loses that client, wherever it is raised."""

        class Broken(Client):
            def connectionMade(self) -> None:
                raise RuntimeError("broken")

        served, broken = Client(), Broken()
        protocols = [lambda: 1 / 0, lambda: broken, lambda: served]
        self.build = lambda addr: protocols.pop(0)()
        port = self.listen()
        clients = self.clients(3)
        port.doRead()
        self.assertEqual([len(self.flushLoggedErrors(kind)) for kind in (ZeroDivisionError, RuntimeError)], [1, 1])
        self.assertEqual((broken.lost, served.lost), (RuntimeError, None))
        self.assertEqual([client.recv(1) for client in clients[:2]], [b"", b""])
        self.made.append(served)


class StreamAcceptTests(AcceptTests):
    """Under streams."""

    if not can_poll(reactor):
        skip = "there are no streams on this system"

    transport = Stream

    def make_network(self) -> Streams:
        return Streams(self.reactor)
