"""One request's way: retries, streaming, back-pressure and what goes wrong."""

from twisted.trial.unittest import TestCase

from pylb.model import InetAddress, Keepalive, ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns

HEAD = b"\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def put(body):
    return b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Hanging(Backend):
    """A server that takes requests and never answers."""

    def __init__(self, test):
        super().__init__(test, lambda head: b"")


class Closing(Backend):
    """A server that closes instead of answering."""

    def __init__(self, test):
        super().__init__(test)
        self.answer = self._close

    def _close(self, head):
        self.peers[-1].close()
        return b""


async def refused_address(test):
    """An address where nobody listens."""
    backend = Backend(test)
    address = backend.address
    await backend.stop()
    return address


class RetryTests(TestCase):
    timeout = 20

    def outcome(self, rig):
        return rig.log.statuses[-1], [(tried.server, tried.status) for tried in rig.log.records[-1].tries]

    async def ask(self, rig, request, page=b""):
        client = await rig.ask(request)
        return await client.until(page or b"hello")

    async def test_refused(self):
        """A server that refuses the connection costs nothing: any request goes elsewhere, also a POST."""
        dead, good = await refused_address(self), Backend(self, HELLO)
        rig = Rig(self, servers=[ServerSpec(address=dead), ServerSpec(address=good.address)])
        await self.ask(rig, POST)
        self.assertEqual(self.outcome(rig), (200, [(str(dead), 502), (good.name, 200)]))
        self.assertEqual([server.failures for server in rig.pool.servers], [1, 0])

    async def test_closed(self):
        """A server that closes instead of answering: an idempotent request goes elsewhere, with its body."""
        for request in (GET, put(b"x" * 60_000), GET.replace(b"GET", b"DELETE"), GET.replace(b"GET", b"OPTIONS")):
            bad, good = Closing(self), Backend(self, HELLO)
            rig = Rig(self, bad, good)
            await self.ask(rig, request)
            self.assertEqual(self.outcome(rig), (200, [(bad.name, 502), (good.name, 200)]))
            self.assertEqual([server.failures for server in rig.pool.servers], [1, 0])
            self.assertEqual([tried.header_time for tried in rig.log.records[0].tries], [None, 0.0])

    async def test_recovers(self):
        """A server that was ejected and answers again is healed."""
        answers = iter([None, HELLO, HELLO])
        flaky, good = Backend(self), Backend(self, HELLO)
        flaky.answer = lambda head: next(answers) or flaky.peers[-1].close() or b""
        rig = Rig(self, flaky, good)
        await self.ask(rig, GET)
        self.assertTrue(rig.pool.servers[0].health.fails)
        rig.time.advance(11)
        for _ in range(3):
            await self.ask(rig, GET)
        self.assertEqual((len(flaky.heads) > 1, rig.pool.servers[0].health.fails), (True, 0))

    async def test_not_idempotent(self):
        """A request that is not idempotent is never sent twice, and unknown methods are not idempotent."""
        for request in (POST, GET.replace(b"GET", b"PATCH"), GET.replace(b"GET", b"FROB")):
            bad, good = Closing(self), Backend(self, HELLO)
            rig = Rig(self, bad, good)
            await self.ask(rig, request, b"502 Bad Gateway\n")
            self.assertEqual((self.outcome(rig), good.peers), ((502, [(bad.name, 502)]), []))

    async def test_non_idempotent_listed(self):
        """Unless the operator says so."""
        bad, good = Closing(self), Backend(self, HELLO)
        rig = Rig(self, bad, good, next_upstream=frozenset({"error", "non_idempotent"}))
        await self.ask(rig, POST)
        self.assertEqual(self.outcome(rig)[0], 200)

    async def test_off(self):
        """With retries off the first failure is the answer, and still counts."""
        bad, good = Closing(self), Backend(self, HELLO)
        rig = Rig(self, bad, good, next_upstream=frozenset())
        await self.ask(rig, GET, b"502 Bad Gateway\n")
        self.assertEqual(([server.failures for server in rig.pool.servers], good.peers), ([1, 0], []))

    async def test_tries(self):
        """No more servers are tried than allowed; 0 means each once."""
        for tries, seen in ((2, 2), (0, 3)):
            bad = [Closing(self) for _ in range(3)]
            rig = Rig(self, *bad, tries=tries)
            await self.ask(rig, GET, b"502 Bad Gateway\n")
            self.assertEqual(len(rig.log.records[0].tries), seen)

    async def test_time_limit(self):
        """After next_upstream_timeout nothing more is tried."""
        backend, good = Backend(self), Backend(self, HELLO)
        rig = Rig(self, backend, good, next_upstream_timeout=5)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        rig.time.advance(6)
        server.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual(good.peers, [])

    async def test_backup(self):
        """When the primaries failed, the backup answers."""
        bad, spare = Closing(self), Backend(self, HELLO)
        rig = Rig(self, servers=[ServerSpec(address=bad.address), ServerSpec(address=spare.address, backup=True)])
        await self.ask(rig, GET)
        self.assertEqual(self.outcome(rig), (200, [(bad.name, 502), (spare.name, 200)]))

    async def test_nobody(self):
        """With no usable server the answer is 502 at once."""
        rig = Rig(self, servers=[ServerSpec(address=InetAddress("127.0.0.1", 1), down=True)])
        await self.ask(rig, GET, b"502 Bad Gateway\n")
        self.assertEqual(self.outcome(rig), (502, []))

    async def test_timeout(self):
        """A server that does not answer in time: the request goes elsewhere, the server is blamed."""
        bad, good = Hanging(self), Backend(self, HELLO)
        rig = Rig(self, bad, good, read_timeout=7)
        client = await rig.ask(GET)
        await settled(lambda: bad.heads)
        rig.time.advance(6.9)
        await turns(3)
        self.assertEqual(rig.log.records, [])
        rig.time.advance(0.2)
        await client.until(b"hello")
        self.assertEqual(self.outcome(rig), (200, [(bad.name, 504), (good.name, 200)]))
        self.assertEqual([server.failures for server in rig.pool.servers], [1, 0])

    async def test_last_timeout(self):
        """When nobody is left, a timeout is 504."""
        bad = Hanging(self)
        rig = Rig(self, bad)
        client = await rig.ask(GET)
        await settled(lambda: bad.heads)
        rig.time.advance(61)
        await client.until(b"504 Gateway Timeout\n")
        self.assertEqual(self.outcome(rig), (504, [(bad.name, 504)]))

    async def test_timeout_not_listed(self):
        """A reason that is not listed is not retried."""
        bad, good = Hanging(self), Backend(self, HELLO)
        rig = Rig(self, bad, good, next_upstream=frozenset({"error"}))
        client = await rig.ask(GET)
        await settled(lambda: bad.heads)
        rig.time.advance(61)
        await client.until(b"504 Gateway Timeout\n")

    async def test_invalid_header(self):
        """What is no answer is 502 and blamed; elsewhere only if listed."""
        broken = [
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\nA: b\n\n",
        ]
        broken += [b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40000, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]
        broken += [
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
        ]
        broken += [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17]
        for answer in broken:
            bad, good = Backend(self, answer), Backend(self, HELLO)
            rig = Rig(self, bad, good)
            await self.ask(rig, GET, b"502 Bad Gateway\n")
            self.assertEqual(([server.failures for server in rig.pool.servers], good.peers), ([1, 0], []))
        bad, good = Backend(self, broken[0]), Backend(self, HELLO)
        await self.ask(Rig(self, bad, good, next_upstream=frozenset({"invalid_header"})), GET)

    async def test_status(self):
        """A listed status is tried elsewhere and blamed; an unlisted one is the answer and is not."""
        bad, good = Backend(self, UNAVAILABLE), Backend(self, HELLO)
        rig = Rig(self, bad, good, next_upstream=frozenset({"http_503"}))
        await self.ask(rig, GET)
        self.assertEqual(self.outcome(rig), (200, [(bad.name, 503), (good.name, 200)]))
        self.assertEqual([server.failures for server in rig.pool.servers], [1, 0])
        rig = Rig(self, bad, good, next_upstream=frozenset({"http_500", "error"}))
        self.assertIn(b"503", await self.ask(rig, GET, b"no"))
        self.assertEqual([server.failures for server in rig.pool.servers], [0, 0])

    async def test_every_status(self):
        """Each of the statuses that can be listed works."""
        for status in (429, 500, 502, 503, 504):
            bad, good = Backend(self, b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status), Backend(self, HELLO)
            await self.ask(Rig(self, bad, good, next_upstream=frozenset({f"http_{status}"})), GET)

    async def test_last_status(self):
        """The last candidate's answer is passed on as it is, and that server is not blamed."""
        servers = [Backend(self, UNAVAILABLE), Backend(self, UNAVAILABLE.replace(b"no", b"NO"))]
        rig = Rig(self, *servers, next_upstream=frozenset({"http_503"}))
        self.assertIn(b"503 Service Unavailable", await self.ask(rig, GET, b"NO"))
        self.assertEqual(self.outcome(rig), (503, [(servers[0].name, 503), (servers[1].name, 503)]))
        self.assertEqual([server.failures for server in rig.pool.servers], [1, 0])

    async def test_status_of_post(self):
        """A request that may not be repeated keeps the answer it got."""
        bad, good = Backend(self, UNAVAILABLE), Backend(self, HELLO)
        rig = Rig(self, bad, good, next_upstream=frozenset({"http_503"}))
        await self.ask(rig, POST, b"no")
        self.assertEqual(good.peers, [])

    async def test_after_interim(self):
        """Once an interim answer was passed on, nothing is tried elsewhere."""
        bad, good = Backend(self), Backend(self, HELLO)
        client = await Rig(self, bad, good).ask(GET)
        server, _ = await bad.request()
        server.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await client.until(b"103 Early Hints\r\n\r\n")
        server.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual(good.peers, [])

    async def test_after_answer_began(self):
        """Once a byte of the answer went out, nothing is tried elsewhere, and nobody is blamed."""
        bad, good = Backend(self), Backend(self, HELLO)
        rig = Rig(self, bad, good)
        client = await rig.ask(GET)
        server, _ = await bad.request()
        server.send(HELLO[:-1])
        server.close()
        self.assertTrue((await client.all()).endswith(b"hell"))
        self.assertEqual(([server.failures for server in rig.pool.servers], good.peers), ([0, 0], []))


class KeptConnectionTests(TestCase):
    timeout = 20

    async def test_stale(self):
        """A kept connection that closes under an idempotent request: the same server, afresh, and nobody is blamed."""
        backend = Backend(self)
        rig = Rig(self, backend, Closing(self))
        client = await rig.ask(GET)
        first, _ = await backend.request()
        first.send(HELLO)
        await client.until(b"hello")
        rig.pool.servers[1].switch = "down"
        rig.pool.replace(rig.pool.servers)
        client.send(put(b"again"))
        await first.until(b"again")
        first.close()
        second = await backend.accepted()
        await second.until(b"again")
        second.send(HELLO)
        await client.until(b"hello")
        self.assertEqual([server.failures for server in rig.pool.servers], [0, 0])
        self.assertEqual([(t.server, t.status) for t in rig.log.records[1].tries], [(backend.name, 200)])

    async def test_stale_after_bytes(self):
        """A kept connection that ends within the head is an ordinary failure."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        server, _ = await backend.request()
        server.send(HELLO)
        await client.until(b"hello")
        client.send(GET)
        await server.until(HEAD)
        server.send(b"HTTP/1.1 2")
        server.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual(len(backend.peers), 1)

    async def test_without_keepalive(self):
        """Without kept connections the server is told so."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend, keepalive=Keepalive(connections=0))
        client = await rig.ask(GET * 2)
        await client.until(b"hello")
        await client.until(b"hello")
        self.assertEqual(len(backend.peers), 2)
        self.assertIn(b"\r\nConnection: close\r\n", backend.heads[0])


class StreamingTests(TestCase):
    timeout = 20

    async def test_early_answer(self):
        """An answer that comes before the body has ended is passed on at once, and says that the connection ends."""
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        server = await backend.accepted()
        await server.until(b"abc")
        server.send(b"HTTP/1.1 413 X\r\nContent-Length: 5\r\n\r\nlarge")
        answer = await client.all()
        self.assertTrue(answer.endswith(b"Connection: close\r\n\r\nlarge"))
        await server.all()
        self.assertEqual((rig.log.statuses, len(rig.idle)), ([413], 0))

    async def test_both_at_once(self):
        """Body and answer can stream at the same time."""
        backend = Backend(self)
        client = await Rig(self, backend).ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.until(HEAD)
        for n in range(5):
            client.send(b"1\r\n%d\r\n" % n)
            await server.until(b"1\r\n%d\r\n" % n)
            server.send(b"1\r\n%d\r\n" % n)
            await client.until(b"1\r\n%d\r\n" % n)
        client.send(b"0\r\n\r\n")
        await server.until(b"0\r\n\r\n")
        server.send(b"0\r\n\r\n")
        await client.until(b"0\r\n\r\n")

    async def test_slow_client(self):
        """A client that does not read slows the server down: pylb holds little, and all arrives in the end."""
        size = 30_000_000
        backend = Backend(self)
        rig = Rig(self, backend)
        client = await rig.ask(GET)
        client.transport.pauseProducing()
        server, _ = await backend.request()
        source = Source(server, size, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        await source.stalled()
        self.assertLess(held(rig), 256 * 1024)
        sink = Sink(client)
        client.transport.resumeProducing()
        await settled(lambda: rig.log.records)
        self.assertEqual(rig.log.statuses, [200])
        await settled(lambda: sink.count >= size)


class Source:
    """Sends a head and so many bytes, as fast as they are taken."""

    def __init__(self, peer, size, head):
        self._peer = peer
        self._left = size
        peer.send(head)
        peer.transport.registerProducer(self, True)
        self._paused = False
        self._go()

    def _go(self):
        while self._left and not self._paused:
            piece = min(self._left, 65536)
            self._left -= piece
            self._peer.send(b"x" * piece)

    def pauseProducing(self):
        self._paused = True

    def resumeProducing(self):
        self._paused = False
        self._go()

    def stopProducing(self):
        self._paused = True

    async def stalled(self):
        """Until nothing more is taken."""
        left = None
        while left != self._left:
            left = self._left
            await turns(200)
        assert self._left, "all was taken"


class Sink:
    """Counts what a peer receives, without keeping it."""

    def __init__(self, peer):
        self.count = 0
        self._peer = peer
        self._received = peer.dataReceived
        peer.dataReceived = self._count

    def _count(self, data):
        self.count += len(data)
        if b"hello" in data:
            self._received(data)


def held(rig):
    """The bytes that pylb itself holds for the one connection that is live: both transports' and its own."""
    (connection,) = rig.connections._live
    exchange = connection._request
    total = buffered(connection.transport) + len(connection._pending) + len(exchange._replay or b"")
    return total + (buffered(exchange._server.transport) if exchange._server else 0)


def buffered(transport):
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
