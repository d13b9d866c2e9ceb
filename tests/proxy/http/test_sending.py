"""A request's way to its server: what is sent again, what on a kept connection, and how a body is slowed down."""

from twisted.trial.unittest import TestCase

from pylb.model import InetAddress, ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled
from tests.proxy.http.test_exchange import HEAD, POST, Sink, Source, held, put


class ReplayTests(TestCase):
    timeout = 20

    async def test_half_body(self):
        """A body that has come in part is sent again, and goes on where it was."""
        bad, good = Backend(self), Backend(self)
        client = await Rig(self, bad, good, next_upstream=frozenset({"invalid_header"})).ask(
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        server = await bad.accepted()
        await server.until(b"abc\r\n")
        server.send(b"nonsense\r\n\r\n")
        server, _ = await good.request()
        await server.until(b"3\r\nabc\r\n")
        client.send(b"2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(await server.until(b"0\r\n\r\n"), b"2\r\nde\r\n0\r\n\r\n")
        server.send(HELLO)
        await client.until(b"hello")

    async def test_client_keeps_servers_waiting(self):
        """A server that closes while the client owes it the rest of a body is not blamed, and no other is kept waiting."""
        impatient, good = Backend(self), Backend(self)
        rig = Rig(self, impatient, good)
        client = await rig.ask(put(b"12345")[:-4])
        server, _ = await impatient.request()
        await settled(lambda: server.received == b"1")
        server.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual([server.failures for server in rig.pool.servers], [0, 0])
        self.assertEqual((rig.log.records[0].tries[0].status, good.peers), (502, []))

    async def test_long_body(self):
        """A body of more than 64 KiB is not kept: its request is not sent again."""
        bad, good = Backend(self), Backend(self, HELLO)
        rig = Rig(self, bad, good)
        client = await rig.ask(put(b"x" * 70_000))
        server, _ = await bad.request()
        await settled(lambda: len(server.received) == 70_000)
        server.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual(good.peers, [])


class KeptConnectionTests(TestCase):
    timeout = 20

    async def test_fresh(self):
        """What must not be sent twice always goes out on a fresh connection: POST, and bodies too long to keep."""
        backend = Backend(self)
        rig = Rig(self, backend)
        chunked = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for request in (POST, put(b"x" * 70_000), chunked):
            client = await rig.ask(GET)
            server, _ = await backend.request()
            server.send(HELLO)
            await client.until(b"hello")
            self.assertEqual(len(rig.idle), 1)
            client.send(request)
            server = await backend.accepted()
            await server.until(HEAD)
            client.close()
            await server.all()
            rig.time.advance(60)

    async def test_reused(self):
        """Requests that can be repeated share a kept connection, also from different clients."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend)
        for request in (GET, GET.replace(b"GET", b"DELETE"), put(b"x" * 1000), GET):
            backend.answer = lambda head: HELLO
            client = await rig.ask(request)
            if request.startswith(b"PUT"):
                await settled(lambda: rig.log.records)
                backend.peers[0].received = b""
            await client.until(b"hello")
        self.assertEqual(len(backend.peers), 1)


class SlowServerTests(TestCase):
    timeout = 20

    async def test_slow_server(self):
        """A server that does not read slows the client down: pylb holds little, and all arrives in the end."""
        size = 30_000_000
        backend = Backend(self)
        rig = Rig(self, backend, client_max_body_size=0)
        client = await rig.connect()
        source = Source(client, size, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        server = await backend.accepted()
        server.transport.pauseProducing()
        sink = Sink(server)
        await source.stalled()
        self.assertLess(held(rig), 256 * 1024)
        server.transport.resumeProducing()
        await settled(lambda: sink.count >= size)
        server.send(HELLO)
        await client.until(b"hello")

    async def test_server_that_does_not_read(self):
        """A server that takes no more of a body for send_timeout is left: 504, the client is told."""
        backend = Backend(self)
        rig = Rig(self, backend, client_max_body_size=0)
        client = await rig.connect()
        source = Source(client, 30_000_000, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
        server = await backend.accepted()
        server.transport.pauseProducing()
        await source.stalled()
        rig.time.advance(61)
        await settled(lambda: rig.log.records)
        self.assertEqual((rig.log.statuses, rig.pool.servers[0].failures), ([504], 1))

    async def test_waiting_body(self):
        """While no server is connected, a client can send only so much."""
        rig = Rig(self, servers=[ServerSpec(address=InetAddress("192.0.2.1", 9))], client_max_body_size=0)
        rig.time.connectTCP = lambda *args, **kwargs: Unreached()
        client = await rig.connect()
        source = Source(client, 30_000_000, b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
        await source.stalled()
        self.assertLess(held(rig), 256 * 1024)
        rig.time.advance(4)
        answer = await client.until(b"504 Gateway Timeout\n")
        self.assertIn(b"Connection: close", answer)


class Unreached:
    """A connector whose connection never comes about."""

    def disconnect(self):
        """There is nothing to stop."""
