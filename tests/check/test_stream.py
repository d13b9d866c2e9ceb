"""pylb.check.stream: connections and datagrams, sent and expected."""

from __future__ import annotations

import re

from pylb.model import TcpCheck, UdpCheck
from tests.backends import dead_address, echo, until
from tests.check.asking import Asking, greets, says


class TcpTests(Asking):
    async def test_connect(self):
        """A server that accepts is healthy, even if it says nothing; the connection ends without a reset."""
        self.assertIsNone(await self.verdict(TcpCheck(), self.tcp()))
        peer = await self.server.peer()
        await until(lambda: peer.lost)
        self.assertTrue(peer.clean)

    async def test_unix(self):
        self.assertIsNone(await self.verdict(TcpCheck(expect=re.compile(b"hello")), self.unix(greets(b"hello"))))

    async def test_refused(self):
        """Nobody listens."""
        self.assertIn("refused", await self.verdict(TcpCheck(), dead_address(self)))

    async def test_send_and_expect(self):
        """What is expected may come in pieces, behind other things."""
        spec = TcpCheck(send=b"PING\r\n", expect=re.compile(rb"\+PONG"))
        self.assertIsNone(await self.verdict(spec, self.tcp(says(b"$5\r\n+PONG\r\n"))))
        self.assertEqual(self.server.peers[0].heard, b"PING\r\n")

    async def test_in_pieces(self):
        spec = TcpCheck(send=b"a", expect=re.compile(b"a{3}"))

        def behave(peer, heard):
            if heard and len(peer.heard) < 2:
                peer.transport.write(b"aa")
                peer.transport.reactor.callLater(0.01, peer.transport.write, b"a")

        self.assertIsNone(await self.verdict(spec, self.tcp(behave)))

    async def test_something_else(self):
        """One that says something else and closes is unhealthy, and what it said is told."""
        spec = TcpCheck(send=b"PING\r\n", expect=re.compile(rb"\+PONG"))
        reason = await self.verdict(spec, self.tcp(says(b"-LOADING \x00\r\n", close=True)))
        self.assertEqual(reason, r'closed the connection after "-LOADING \x00\r\n"')

    async def test_closes_at_once(self):
        spec = TcpCheck(expect=re.compile(b"x"))
        behave = lambda peer, heard: peer.transport.loseConnection()  # noqa: E731
        self.assertEqual(await self.verdict(spec, self.tcp(behave)), "closed the connection")

    async def test_says_it_and_closes(self):
        """What is expected counts, however soon the server closes."""
        spec = TcpCheck(send=b"?", expect=re.compile(b"yes"))
        self.assertIsNone(await self.verdict(spec, self.tcp(says(b"yes", close=True))))

    async def test_waits(self):
        """One that goes on without saying it is waited for, until whoever asks gives up; nothing is left of it then."""
        spec = TcpCheck(send=b"?", expect=re.compile(b"yes"))
        self.assertEqual(await self.verdict(spec, self.tcp(echo), 0.05), "late")

    async def test_too_much(self):
        """An answer without an end is not waited for."""
        spec = TcpCheck(send=b"?", expect=re.compile(b"yes"))
        reason = await self.verdict(spec, self.tcp(says(bytes(500_000))))
        self.assertEqual(reason, "nothing of what was expected in the first 320 KiB of its answer")


class UdpTests(Asking):
    async def test_expected(self):
        """Other datagrams before the right one do not matter."""
        spec = UdpCheck(send=b"ping", expect=re.compile(b"^pong$"))
        where = self.udp(lambda datagram: [b"what?", b"pong"])
        self.assertIsNone(await self.verdict(spec, where))
        self.assertEqual(self.datagrams.heard, [b"ping"])

    async def test_not_expected(self):
        spec = UdpCheck(send=b"ping", expect=re.compile(b"^pong$"))
        self.assertEqual(await self.verdict(spec, self.udp(lambda datagram: [b"what?"]), 0.05), "late")

    async def test_refused(self):
        """Where nobody listens ICMP says so."""
        for spec in (UdpCheck(), UdpCheck(expect=re.compile(b"x")), UdpCheck(preset="ntp")):
            self.assertEqual(await self.verdict(spec, dead_address(self)), "refused the datagram: Connection refused")

    async def test_plain_and_silent(self):
        """Without an expectation a server that says nothing is healthy."""
        where = self.udp(lambda datagram: [])
        self.assertIsNone(await self.verdict(UdpCheck(timeout=0.02), where))
        self.assertEqual(self.datagrams.heard, [b"pylb health check"])

    async def test_plain_and_answered(self):
        """An answer ends the waiting."""
        where = self.udp(lambda datagram: [b"what?"])
        self.assertIsNone(await self.verdict(UdpCheck(timeout=100.0), where, 0.9))

    async def test_plain_and_given_up(self):
        """Whoever asks may give up while a refusal is waited for."""
        self.assertEqual(await self.verdict(UdpCheck(), self.udp(lambda datagram: []), 0.02), "late")

    async def test_unix(self):
        """A Unix socket takes no datagrams."""
        where = self.unix(echo)
        self.assertEqual(await self.verdict(UdpCheck(), where), "a Unix socket takes no datagrams")
