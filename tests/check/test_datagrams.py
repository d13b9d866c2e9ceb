"""pylb.check.datagrams: a socket towards a server of datagrams."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol

from pylb.check.datagrams import Datagrams
from pylb.check.interface import Unhealthy
from pylb.model import InetAddress
from tests.backends import dead_address, until
from tests.check import asking
from tests.check.asking import Asking


class DatagramsTests(Asking):
    def talk(self, where: InetAddress) -> Datagrams:
        datagrams = Datagrams(where, self.streams)
        self.addCleanup(datagrams.close)
        return datagrams

    async def test_until(self):
        """The first datagram counts of which the function makes something."""
        datagrams = self.talk(self.udp(lambda datagram: [b"", b"a", b"bc"]))
        datagrams.send(b"?")
        self.assertEqual(await datagrams.until(lambda datagram: datagram.find(b"c") if b"c" in datagram else None), 1)

    async def test_error(self):
        """What the function raises is the result, too."""
        datagrams = self.talk(self.udp(lambda datagram: [b"a"]))
        datagrams.send(b"?")
        await self.assertFailure(datagrams.until(lambda datagram: 1 // 0), ZeroDivisionError)

    async def test_refused(self):
        datagrams = self.talk(dead_address(self))
        datagrams.send(b"?")
        await self.assertFailure(datagrams.until(lambda datagram: True), Unhealthy)

    async def test_refused_before(self):
        """A refusal that has come meanwhile is told by the next `send`."""
        datagrams = Datagrams(dead_address(self), self.streams)
        self.streams.removeReader(datagrams._port)
        datagrams.send(b"?")
        self.assertRaises(Unhealthy, datagrams.send, b"?")
        datagrams.close()

    async def test_strangers(self):
        """Only the server itself is heard."""
        datagrams = self.talk(self.udp(lambda datagram: []))
        port = datagrams._port._socket.getsockname()
        answer = datagrams.until(lambda datagram: datagram)
        stranger = reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        stranger.write(b"stranger", port)
        await stranger.stopListening()
        datagrams.send(b"?")
        await until(lambda: self.datagrams.heard)
        self.assertNoResult(answer)
        self.datagrams.transport.write(b"server", port)
        self.assertEqual(await answer, b"server")

    async def test_ipv6(self):
        port = reactor.listenUDP(0, asking.Datagrams(lambda datagram: [datagram]), interface="::1")
        self.addCleanup(port.stopListening)
        datagrams = self.talk(InetAddress("::1", port.getHost().port))
        datagrams.send(b"?")
        self.assertEqual(await datagrams.until(lambda datagram: datagram), b"?")

    async def test_closed(self):
        """Closing it once more does no harm."""
        datagrams = self.talk(dead_address(self))
        datagrams.close()
        self.assertEqual(datagrams._port.fileno(), -1)
