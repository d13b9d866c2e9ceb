"""pylb.check.target: connections and sockets on behalf of checks, and what is left of them."""

from __future__ import annotations

import re

from twisted.internet.defer import CancelledError, Deferred

from pylb.balance.server import Server
from pylb.check.interface import Unhealthy
from pylb.check.target import Target
from pylb.model import InetAddress, ServerSpec, UnixAddress, UpstreamTLS
from pylb.proxy.dial import UpstreamError
from pylb.proxy.tls import ClientTLS
from tests.backends import dead_address, until
from tests.check.asking import Asking, greets, says


class NameTests(Asking):
    def test_names(self):
        """What the operator calls a server, what it is called in its own protocol, and where it is."""
        target = self.target(InetAddress("::1", 80), port=8080)
        self.assertEqual((target.name, target.host), ("[::1]:80", "[::1]:80"))
        self.assertEqual(target.address, InetAddress("::1", 8080))
        target = self.target(UnixAddress("/run/a"), port=8080)
        self.assertEqual(
            (target.name, target.host, target.address), ("unix:/run/a", "localhost", UnixAddress("/run/a"))
        )


class ConversationTests(Asking):
    async def talk(self, behave):
        self.subject = self.target(self.tcp(behave))
        return await self.subject.connect()

    async def test_until(self):
        """The function sees all that has come, and what it makes of it is the result, which may be false."""
        conversation = await self.talk(greets(b"abc"))
        self.assertEqual(await conversation.until(lambda data: len(data) - 3 if data else None), 0)

    async def test_twice(self):
        """What has come already is looked at at once."""
        conversation = await self.talk(greets(b"abc"))
        await conversation.expect(re.compile(b"b"))
        self.assertEqual(self.successResultOf(conversation.expect(re.compile(b"c"))).start(), 2)

    async def test_error(self):
        """What the function raises is the result, too."""
        conversation = await self.talk(greets(b"abc"))
        failed = conversation.until(lambda data: 1 // 0 if data else None)
        await self.assertFailure(failed, ZeroDivisionError)

    async def test_given_up(self):
        """Who has given up hears no more; the next who waits does."""
        conversation = await self.talk(says(b"abc"))
        given_up = conversation.expect(re.compile(b"x"))
        self.assertIsInstance(given_up, Deferred)
        given_up.addErrback(lambda failure: None)
        given_up.cancel()
        conversation.write(b"?")
        self.assertEqual((await conversation.expect(re.compile(b"abc")))[0], b"abc")

    async def test_after_the_end(self):
        conversation = await self.talk(says(b"abc", close=True))
        conversation.write(b"?")
        await until(lambda: conversation.ended)
        self.assertIsInstance(self.failureResultOf(conversation.expect(re.compile(b"x"))).value, Unhealthy)
        self.assertTrue(self.successResultOf(conversation.expect(re.compile(b"c"))))


class OpenTests(Asking):
    async def test_refused(self):
        await self.assertFailure(self.target(dead_address(self)).connect(), UpstreamError)

    async def test_given_up_while_connecting(self):
        """Nothing is left of a connection that nobody waits for."""
        connecting = self.target(self.tcp()).connect()
        connecting.addErrback(lambda failure: None)
        connecting.cancel()
        await until(lambda: not self.streams.getWriters())

    async def test_closed(self):
        """All that was opened is closed when the check is over."""
        target = self.target(self.tcp())
        for _ in range(2):
            await target.connect()
        target.close()
        await until(lambda: len(self.server.peers) == 2 and all(peer.lost for peer in self.server.peers))
        self.assertTrue(all(peer.clean for peer in self.server.peers))

    async def test_stuck(self):
        """What cannot be closed in peace, because the server does not read, is aborted when the next check is over."""
        target = self.target(self.tcp(lambda peer, heard: None if heard else peer.transport.pauseProducing()))
        conversation = await target.connect()
        conversation.write(bytes(20_000_000))
        await self.server.peer()
        target.close()
        self.assertFalse(self.server.peers[0].lost)
        self.assertTrue(self.streams.getWriters())
        target.close()
        await until(lambda: not self.streams.getWriters())
        self.server.peers[0].transport.resumeProducing()
        await until(lambda: self.server.peers[0].lost)

    async def test_heard(self):
        """What the server says can be quoted while the check lasts, if it is not too long."""
        target = self.target(self.tcp(greets(b"-NO\r\n")))
        conversation = await target.connect()
        self.assertEqual(target.heard(), "no answer")
        await until(lambda: conversation.received)
        self.assertEqual(target.heard(), r'nothing but "-NO\r\n"')
        conversation.received = bytes(61)
        self.assertEqual(target.heard(), 'nothing but "' + 60 * r"\x00" + '..."')
        target.keep(conversation)
        self.assertIs(target.kept(), conversation)
        self.assertEqual(target.heard(), "no answer")
        target.close()
        self.assertEqual(target.heard(), "no answer")

    async def test_heard_datagram(self):
        """Of datagrams the last one."""
        target = self.target(self.udp(lambda datagram: [b"a", b"b"]))
        datagrams = target.datagrams()
        datagrams.send(b"?")
        await until(lambda: datagrams.received == b"b")
        self.assertEqual(target.heard(), 'nothing but "b"')

    async def test_heard_no_tls(self):
        """That a server takes connections and does not speak TLS is said, once it has taken one."""
        target = self.target(self.tcp(), ClientTLS(UpstreamTLS()))
        connecting = target.connect()
        connecting.addErrback(lambda failure: failure.trap(CancelledError))
        self.assertEqual(target.heard(), "no answer")
        await until(lambda: self.server.peers and self.server.peers[0].heard)
        self.assertEqual(target.heard(), "no TLS handshake")
        connecting.cancel()

    async def test_left(self):
        """Also what was kept, when there is no further check."""
        target = self.target(self.tcp())
        target.keep(await target.connect())
        target.close()
        self.assertFalse((await self.server.peer()).lost)
        target.leave()
        await until(lambda: self.server.peers[0].lost)

    async def test_not_kept_without_room(self):
        """Where there is no descriptor to spare nothing is kept."""
        where = self.tcp()
        plain = self.target(where)
        target = Target(plain._server, None, self.streams, self.deadlines, may_keep=lambda: False)
        target.keep(await target.connect())
        self.assertIsNone(target.kept())
        target.close()
        await until(lambda: self.server.peers and self.server.peers[0].lost)

    async def test_used_plainly(self):
        """What is kept stays when the server has got another name, and nothing is encrypted; the name is the new one."""
        target = self.target(self.tcp())
        target.keep(kept := await target.connect())
        named = Server(ServerSpec(address=InetAddress("b.example.com", 80)), target.address)
        target.use(named, None, lambda: True)
        self.assertEqual((target.name, target.host), ("b.example.com:80", "b.example.com:80"))
        self.assertIs(target.kept(), kept)
        target.leave()

    async def test_used_with_tls(self):
        """What was kept is closed when anything is, or was, encrypted."""
        tls = ClientTLS(UpstreamTLS())
        for before, after in ((None, tls), (tls, None)):
            target = self.target(self.tcp(), before)
            target.keep(await target.connect(encrypted=False))
            target.close()
            target.use(target._server, after, lambda: True)
            self.assertEqual((target.encrypted, target.kept()), (after is not None, None))
            await until(lambda: self.server.peers and self.server.peers[0].lost)
            target.keep(kept := await target.connect(encrypted=False))
            self.assertIs(target.kept(), kept)
            target.leave()

    async def test_used_meanwhile(self):
        """A check that is under way goes on as it began, and leaves nothing that was encrypted otherwise."""
        target = self.target(self.tcp(greets(b"a")))
        conversation = await target.connect()
        target.use(target._server, ClientTLS(UpstreamTLS()), lambda: True)
        await conversation.expect(re.compile(b"a"))
        target.keep(conversation)
        self.assertIsNone(target.kept())
        target.close()
        await until(lambda: self.server.peers[0].lost)

    async def test_kept_used_meanwhile(self):
        """So does one that goes over what was kept: nobody has dialled."""
        target = self.target(self.tcp())
        target.keep(await target.connect())
        target.close()
        kept = target.kept()
        target.use(target._server, ClientTLS(UpstreamTLS()), lambda: True)
        target.keep(kept)
        self.assertIsNone(target.kept())
        target.close()
        await until(lambda: self.server.peers and self.server.peers[0].lost)

    async def test_no_port(self):
        self.assertRaises(Unhealthy, self.target(UnixAddress("/run/a")).datagrams)
