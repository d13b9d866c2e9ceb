"""WebSocket passes as a tunnel; nothing else does."""

from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.proxy.http.head import parse_request
from pylb.proxy.http.tunnel import wants_websocket
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns

HEAD = b"\r\n\r\n"
ASK = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n"
)
AGREE = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


class WantsTests(SynchronousTestCase):
    def wants(self, block, line=b"GET / HTTP/1.1", framing=0):
        return wants_websocket(parse_request(line + b"\r\nHost: a\r\n" + block), framing)

    def test_wants(self):
        """Only a GET of HTTP/1.1 without a body, whose Connection nominates an Upgrade to websocket alone, asks for it."""
        upgrade, connection = b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n"
        self.assertTrue(self.wants(upgrade + connection))
        refused = [
            self.wants(upgrade),
            self.wants(connection),
            self.wants(connection + b"Upgrade: h2c\r\n"),
            self.wants(connection + b"Upgrade: websocket, h2c\r\n"),
            self.wants(connection + upgrade + upgrade),
            self.wants(connection + upgrade, b"POST / HTTP/1.1"),
            self.wants(connection + upgrade, b"GET / HTTP/1.0"),
            self.wants(connection + upgrade, framing=5),
        ]
        self.assertEqual(refused, [False] * len(refused))


class TunnelTests(TestCase):
    timeout = 20

    async def tunnel(self, early=b"", late=b""):
        backend = Backend(self)
        self.rig = Rig(self, backend)
        client = await self.rig.ask(ASK + early)
        server, head = await backend.request()
        self.assertIn(b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", head)
        self.assertIn(b"\r\nSec-WebSocket-Key: k\r\n", head)
        await turns(3)
        self.assertEqual(server.received, b"")
        server.send(AGREE + late)
        answer = await client.until(HEAD)
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertIn(b"\r\nSec-WebSocket-Accept: x\r\n", answer)
        self.assertIn(b"\r\nUpgrade: websocket\r\n", answer)
        return client, server

    async def test_both_ways(self):
        """After 101 bytes pass untouched, also those that came too early: raw only once the server agreed."""
        client, server = await self.tunnel(b"\x00early", b"\xfflate")
        self.assertEqual(await client.until(b"late"), b"\xfflate")
        self.assertEqual(await server.until(b"early"), b"\x00early")
        for n in range(3):
            client.send(b"c%d" % n)
            await server.until(b"c%d" % n)
            server.send(b"s%d\r\n\r\n" % n)
            await client.until(b"s%d\r\n\r\n" % n)
        server_seen = self.rig.pool.servers[0].active
        client.close()
        await server.all()
        await settled(lambda: self.rig.log.records)
        (record,) = self.rig.log.records
        self.assertEqual((record.status, record.tries[0].status, server_seen), (101, 101, 1))

    async def test_server_ends(self):
        """What the server said before it closed arrives."""
        client, server = await self.tunnel()
        server.send(b"x" * 300_000)
        server.close()
        self.assertEqual(len(await client.all()), 300_000)

    async def test_client_ends(self):
        """A client that sends no more ends the tunnel; what is under way arrives on both sides."""
        client, server = await self.tunnel()
        server.send(b"s" * 100_000)
        await client.until(b"s")
        client.send(b"c" * 100_000)
        client.transport.loseWriteConnection()
        self.assertEqual(len(await server.all()), 100_000)
        self.assertEqual(set(await client.all()), set(b"s"))
        await settled(lambda: self.rig.log.records)

    async def test_idle(self):
        """A tunnel lives by `timeout` since the last byte either way, not by those of HTTP."""
        client, server = await self.tunnel()
        rig = self.rig
        for _ in range(3):
            rig.time.advance(500)
            server.send(b".")
            await client.until(b".")
        rig.time.advance(599)
        await turns(3)
        self.assertIsNone(client.reason)
        rig.time.advance(2)
        await client.all()
        await server.all()

    async def test_drain_and_abort(self):
        """When pylb stops, a tunnel goes on until time is up."""
        client, server = await self.tunnel()
        drained = self.rig.connections.drain()
        client.send(b"still")
        await server.until(b"still")
        self.rig.connections.abort()
        await drained
        await server.all()

    async def test_back_pressure(self):
        """Who does not read slows the other end down."""
        client, server = await self.tunnel()
        client.transport.pauseProducing()
        sent = [0]

        class Endless:
            def resumeProducing(self):
                if sent[0] < 50_000_000:
                    sent[0] += 65536
                    server.send(b"x" * 65536)

            def stopProducing(self):
                """The connection is over."""

        server.transport.registerProducer(Endless(), False)
        before = -1
        while before != sent[0]:
            before = sent[0]
            await turns(100)
        self.assertLess(sent[0], 50_000_000)

    async def test_refused_by_the_server(self):
        """Any other answer is an ordinary one, and what came behind the request is the next one."""
        backend = Backend(self, HELLO)
        client = await Rig(self, backend).ask(ASK + GET)
        await client.until(b"hello")
        await client.until(b"hello")
        self.assertTrue(backend.heads[1].startswith(b"GET / HTTP/1.1\r\n"))

    async def test_other_upgrades(self):
        """Other upgrades do not reach the server: no h2c is smuggled."""
        backend = Backend(self, HELLO)
        block = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
        client = await Rig(self, backend).ask(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % block)
        await client.until(b"hello")
        self.assertNotIn(b"pgrade", backend.heads[0])
        self.assertNotIn(b"HTTP2", backend.heads[0])

    async def test_other_protocol(self):
        """A server that switches to something else is no server: 502."""
        backend = Backend(self, AGREE.replace(b"websocket", b"h2c"))
        client = await Rig(self, backend).ask(ASK)
        await client.until(b"502 Bad Gateway\n")
