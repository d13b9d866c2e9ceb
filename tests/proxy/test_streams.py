"""How are the connections of streams made, at little cost?"""

from __future__ import annotations

import errno
import gc
import os
import socket
import weakref

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    UserError,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.proxy.poller import can_poll
from pylb.proxy.streams import Streams, streams
from tests.backends import Backend, dead_address, round_trips, socket_path, until
from tests.fakes import FakeReactor
from tests.proxy.listening import ListeningStreams
from tests.proxy.streams import deaf_address
from tests.proxy.test_transport import Notes


class Asker(ClientFactory):
    """Notes what becomes of a connection."""

    def __init__(self) -> None:
        self.protocol = Notes()
        self.failed: list[object] = []

    def buildProtocol(self, addr) -> Notes:
        return self.protocol

    def clientConnectionFailed(self, connector, reason) -> None:
        self.failed.append(reason.value)


class ConnectTests(TestCase):
    if not can_poll(reactor):
        skip = "there are no streams on this system"

    def setUp(self) -> None:
        self.streams = ListeningStreams(reactor)
        self.asker = Asker()
        self.backend = Backend()

    def tearDown(self) -> None:
        self.assertEqual((self.streams.removeAll(), reactor.getDelayedCalls()), ([], []))

    def listening(self, interface="127.0.0.1") -> int:
        port = self.streams.listenTCP(0, self.backend, interface=interface)
        self.addCleanup(port.stopListening)
        return port.getHost().port

    async def assert_connected(self, connecting) -> None:
        """It is, and disconnecting it closes the connection."""
        await until(lambda: self.asker.protocol.transport)
        self.peer = self.asker.protocol.transport.getPeer()
        connecting.disconnect()
        await until(lambda: self.asker.protocol.heard and self.backend.peers[0].lost)
        self.assertEqual((self.asker.protocol.heard, self.asker.failed), ([ConnectionDone], []))

    async def assert_failed(self, kind) -> Exception:
        await until(lambda: self.asker.failed)
        (error,) = self.asker.failed
        self.assertIs(type(error), kind)
        return error

    async def test_ipv4(self) -> None:
        port = self.listening()
        await self.assert_connected(self.streams.connectTCP("127.0.0.1", port, self.asker))
        self.assertEqual(self.peer, IPv4Address("TCP", "127.0.0.1", port))

    async def test_ipv6(self) -> None:
        port = self.listening("::1")
        await self.assert_connected(self.streams.connectTCP("::1", port, self.asker))
        self.assertEqual(self.peer, IPv6Address("TCP", "::1", port))

    async def test_unix(self) -> None:
        path = str(socket_path(self))
        port = self.streams.listenUNIX(path, self.backend)
        self.addCleanup(port.stopListening)
        await self.assert_connected(self.streams.connectUNIX(path, self.asker))
        self.assertEqual(self.peer, UNIXAddress(path))

    async def test_nothing_keeps_the_factory(self) -> None:
        """Who asked may know the way to end it, and is not known by it any more when it is settled."""
        gc.disable()
        self.addCleanup(gc.enable)
        for port in (self.listening(), dead_address(self).port):
            self.asker.way = self.streams.connectTCP("127.0.0.1", port, self.asker)
            await until(lambda: self.asker.failed or self.asker.protocol.transport)
            if self.asker.protocol.transport:
                self.asker.protocol.transport.loseConnection()
            gone = weakref.ref(self.asker)
            self.asker = Asker()
            self.assertIsNone(gone())
        await until(lambda: self.backend.peers[0].lost)

    async def test_refused(self) -> None:
        where = dead_address(self)
        self.streams.connectTCP(where.host, where.port, self.asker)
        self.assertEqual(self.asker.failed, [])
        await self.assert_failed(ConnectionRefusedError)

    async def test_full_unix_socket(self) -> None:
        """A server whose queue of clients is full refuses: it is not we who have run short."""
        path = str(socket_path(self))
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
            listening.bind(path)
            listening.listen(0)
            waiting.connect(path)
            self.streams.connectUNIX(path, self.asker)
            error = await self.assert_failed(ConnectionRefusedError)
        self.assertEqual(error.osError, errno.ECONNREFUSED)

    async def test_fails_at_once(self) -> None:
        """What fails at once is told later all the same, with the system's number."""
        self.streams.connectUNIX("/nowhere/s", self.asker)
        self.assertEqual(self.asker.failed, [])
        error = await self.assert_failed(ConnectError)
        self.assertEqual(error.osError, errno.ENOENT)

    async def test_no_address(self) -> None:
        """What the system does not take for an address is a failure like others."""
        self.streams.connectUNIX("/" * 1000, self.asker)
        self.assertEqual(self.asker.failed, [])
        await self.assert_failed(OSError)

    async def test_given_up(self) -> None:
        """Whoever gives up is told so, once, and nothing is left."""
        port = self.listening()
        for connecting in (
            self.streams.connectTCP("127.0.0.1", port, self.asker),
            self.streams.connectUNIX("/nowhere/s", self.asker),
        ):
            connecting.disconnect()
            connecting.disconnect()
        self.assertEqual([type(error) for error in self.asker.failed], [UserError, UserError])
        self.assertEqual(self.streams.getWriters(), [])
        await round_trips()
        self.assertEqual(len(self.asker.failed), 2)

    async def test_given_up_on_the_way(self) -> None:
        """So it is while the other end has not answered."""
        where = deaf_address(self)
        connecting = self.streams.connectTCP(where.host, where.port, self.asker)
        await until(self.streams.getWriters)
        connecting.disconnect()
        self.assertEqual(([type(error) for error in self.asker.failed], self.streams.getWriters()), ([UserError], []))

    def test_no_socket(self) -> None:
        """Without a descriptor, or with a zone that is not there, OSError is raised and nothing is left."""

        def none_left(*kind):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(socket, "SocketType", none_left)
        self.assertRaises(OSError, self.streams.connectTCP, "127.0.0.1", 1, self.asker)
        self.assertRaises(OSError, self.streams.connectTCP, "fe80::1%nowhere", 1, self.asker)

    async def test_factory_breaks(self) -> None:
        """An exception while the protocol is made is a failure to connect."""
        self.asker.buildProtocol = lambda addr: 1 / 0
        self.streams.connectTCP("127.0.0.1", self.listening(), self.asker)
        await self.assert_failed(ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_protocol_breaks(self) -> None:
        """An exception when the protocol is connected loses the connection."""
        self.asker.protocol.connectionMade = lambda: 1 / 0
        self.streams.connectTCP("127.0.0.1", self.listening(), self.asker)
        await until(lambda: self.asker.protocol.heard)
        self.assertEqual(self.asker.protocol.heard, [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_the_reactor_lets_go(self) -> None:
        """A connection that is being made when the reactor ends has failed."""
        connecting = self.streams.connectTCP("127.0.0.1", self.listening(), self.asker)
        connecting.connectionLost(Failure(ConnectionLost()))
        await self.assert_failed(ConnectionLost)


class StreamsTests(SynchronousTestCase):
    def test_where(self) -> None:
        """Streams take the place of reactors that watch descriptors; others stay as they are."""
        other = FakeReactor()
        self.assertIs(streams(other), other)
        if can_poll(reactor):
            self.assertIsInstance(streams(reactor), Streams)
