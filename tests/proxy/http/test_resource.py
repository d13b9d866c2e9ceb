"""A pool behind somebody's own twisted.web site."""

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from pylb.balance.pool import make_pool
from pylb.balance.sticky import server_id
from pylb.model import PoolSpec, Queue, ServerSpec, StickyCookie, StickyLearn
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.resource import PoolResource
from tests.proxy.http.rig import HELLO, Backend, Peer, SteppedReactor, drop, settled, turns
from tests.proxy.http.test_exchange import Closing, Sink, Source

HEAD = b"\r\n\r\n"
GET = b"GET /api/x?y HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"


class Stream:
    """The channel of a request over HTTP/2, as far as one speaks to it; `aborted` fires when the stream is reset."""

    transport = None
    factory = None

    def __init__(self, site):
        self.site = site
        self.written = b""
        self.aborted = Deferred()

    def getPeer(self):
        return IPv4Address("TCP", "192.0.2.7", 4711)

    getHost = getPeer

    def isSecure(self):
        return True

    def registerProducer(self, producer, streaming):
        """twisted.web's."""

    def unregisterProducer(self):
        """twisted.web's."""

    def writeHeaders(self, version, code, reason, headers):
        """twisted.web's."""

    def write(self, data):
        self.written += data

    def abortConnection(self):
        self.aborted.callback(None)


class ResourceTests(TestCase):
    timeout = 20

    def serve(self, *backends, pool=None, max_conns=0, **options):
        self.time = SteppedReactor()
        servers = tuple(ServerSpec(address=backend.address, max_conns=max_conns) for backend in backends)
        self.pool = make_pool(PoolSpec(name="p", servers=servers, **(pool or {})), self.time.seconds)
        self.resource = PoolResource(self.pool, self.time, self.time.seconds, **options)
        root = Resource()
        root.putChild(b"api", self.resource)
        self.site = Site(root)
        self.site.displayTracebacks = False
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(self.stop, self.port, self.resource, self.time, self.pool)

    async def stop(self, port, resource, time, pool):
        await port.stopListening()
        resource.close()
        await settled(lambda: not time.getDelayedCalls())
        self.assertEqual([server.active for server in pool.servers], [0] * len(pool.servers))

    async def ask(self, data):
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        peer = await connectProtocol(endpoint, Peer())
        self.addCleanup(drop, [peer])
        peer.send(data)
        return peer

    async def test_get(self):
        """A request below the resource goes to the pool with its whole path, and the answer comes back."""
        backend = Backend(self, HELLO.replace(HEAD, b"\r\nServer: theirs\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n", 1))
        self.serve(backend)
        client = await self.ask(GET[:-2] + b"A: 1\r\nConnection: x-b\r\nX-B: 2\r\nX-Forwarded-For: e\r\n\r\n")
        answer = await client.until(b"hello")
        self.assertTrue(backend.heads[0].startswith(b"GET /api/x?y HTTP/1.1\r\nHost: a\r\n"))
        self.assertIn(b"\r\nA: 1\r\n", backend.heads[0])
        self.assertIn(b"\r\nX-Forwarded-For: 127.0.0.1\r\n", backend.heads[0])
        self.assertNotIn(b"X-B", backend.heads[0])
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual((answer.count(b"Server: theirs"), answer.lower().count(b"server:")), (1, 1))
        self.assertIn(b"Set-Cookie: a\r\nSet-Cookie: b\r\n", answer)

    async def test_kept(self):
        """Connections to the servers are kept."""
        backend = Backend(self, HELLO)
        self.serve(backend)
        client = await self.ask(GET * 3)
        for _ in range(3):
            await client.until(b"hello")
        self.assertEqual(len(backend.peers), 1)

    async def test_body(self):
        """The body goes on as twisted.web read it: with its length, however it was framed."""
        backend = Backend(self)
        self.serve(backend)
        chunked = b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        for request in (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", chunked):
            client = await self.ask(request)
            server = await backend.accepted()
            self.assertIn(b"\r\nContent-Length: 2\r\n\r\nhi", await server.until(b"hi"))
            server.send(HELLO)
            await client.until(b"hello")
            self.resource.close()

    async def test_empty_body(self):
        """A body that is announced and empty stays announced; none is not invented."""
        backend = Backend(self, HELLO)
        self.serve(backend)
        client = await self.ask(b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + GET)
        await client.until(b"hello")
        await client.until(b"hello")
        self.assertEqual([head.count(b"Content-Length: 0\r\n") for head in backend.heads], [1, 0])

    async def test_large_body(self):
        """A large body goes out with back-pressure and arrives whole."""
        size = 8_000_000
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(b"")
        Source(client, size, b"PUT /api HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        server = await backend.accepted()
        server.transport.pauseProducing()
        sink = Sink(server)
        await turns(50)
        server.transport.resumeProducing()
        await settled(lambda: sink.count >= size)
        server.send(HELLO)
        await client.until(b"hello")

    async def test_framings(self):
        """Answers of every framing are whole, and HEAD and 304 have no body."""
        answers = {
            CHUNKED: b"abcde\r\n0\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n": HEAD,
            b"HTTP/1.1 204 No Content\r\n\r\n": HEAD,
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n": HEAD,
        }
        for answer, end in answers.items():
            self.serve(Backend(self, answer))
            client = await self.ask(GET)
            seen = await client.until(end)
            self.assertNotIn(b"103", seen)
        self.serve(Backend(self, HELLO[:-5]))
        client = await self.ask(GET.replace(b"GET", b"HEAD"))
        self.assertIn(b"Content-Length: 5\r\n", await client.until(HEAD))
        await turns(3)
        self.assertEqual(client.received, b"")

    async def test_no_content_type(self):
        """An answer without a type stays without one."""
        self.serve(Backend(self, HELLO))
        client = await self.ask(GET)
        self.assertNotIn(b"content-type", (await client.until(b"hello")).lower())

    async def test_retry(self):
        """Retries are those of a listener."""
        bad, good = Closing(self), Backend(self, HELLO)
        self.serve(bad, good)
        client = await self.ask(GET)
        await client.until(b"hello")
        self.assertEqual([server.failures for server in self.pool.servers], [1, 0])

    async def test_nobody(self):
        """When no server answers, 502 or 504."""
        self.serve(Closing(self))
        client = await self.ask(GET)
        self.assertTrue((await client.until(b"502 Bad Gateway\n")).startswith(b"HTTP/1.1 502 "))
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(GET)
        await backend.request()
        self.time.advance(61)
        await client.until(b"504 Gateway Timeout\n")

    async def test_hedge(self):
        """A second server is asked when the first one takes too long."""
        slow, other = Backend(self), Backend(self, HELLO)
        self.serve(slow, other, pool={"hedge": 0.5})
        client = await self.ask(GET)
        server, _ = await slow.request()
        self.time.advance(0.5)
        await client.until(b"hello")
        await server.lost
        self.assertEqual([server.failures for server in self.pool.servers], [0, 0])

    async def test_queue(self):
        """A request waits for a server that is free."""
        backend = Backend(self)
        self.serve(backend, pool={"queue": Queue(size=1)}, max_conns=1)
        first = await self.ask(GET)
        server, _ = await backend.request()
        second = await self.ask(GET)
        await settled(lambda: self.pool.queue)
        server.send(HELLO)
        await first.until(b"hello")
        self.time.advance(0)
        await server.until(HEAD)
        server.send(HELLO)
        await second.until(b"hello")

    async def test_cookie(self):
        """A client gets the cookie of its server beside the server's own, and is sent there by it."""
        one = Backend(self, HELLO.replace(HEAD, b"\r\nSet-Cookie: x=y\r\n\r\n", 1))
        two = Backend(self, HELLO)
        self.serve(one, two, pool={"sticky": StickyCookie(name="id")})
        client = await self.ask(GET)
        answer = await client.until(b"hello")
        cookies = [line[12:] for line in answer.split(b"\r\n") if line.startswith(b"Set-Cookie: ")]
        self.assertEqual(cookies, [b"x=y", b"id=" + server_id(self.pool.servers[0])])
        for _ in range(2):
            client.send(GET[:-2] + b"Cookie: " + cookies[1] + HEAD)
            self.assertEqual((await client.until(b"hello")).count(b"Set-Cookie"), 1)
        self.assertEqual((len(one.heads), len(two.heads)), (3, 0))

    async def test_learn_by_connection(self):
        """What the connection says is known here as behind a listener."""
        one, two = Backend(self, HELLO), Backend(self, HELLO)
        variable = ("$server_port",)
        self.serve(one, two, pool={"sticky": StickyLearn(create=variable, lookup=variable)})
        for _ in range(3):
            await (await self.ask(GET)).until(b"hello")
        self.assertEqual((len(one.heads), len(two.heads)), (3, 0))

    async def test_slow_client(self):
        """A client that does not read slows the server down."""
        size = 30_000_000
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(GET)
        client.transport.pauseProducing()
        server, _ = await backend.request()
        source = Source(server, size, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        await source.stalled()
        sink = Sink(client)
        client.transport.resumeProducing()
        await settled(lambda: sink.count >= size)

    async def test_client_leaves(self):
        """When the client leaves, the server's connection is dropped and nothing breaks."""
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(GET)
        server, _ = await backend.request()
        client.close()
        await server.all()

    async def test_client_leaves_in_the_answer(self):
        """Also when it leaves half-way through an answer."""
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(GET)
        server, _ = await backend.request()
        server.send(HELLO[:-2])
        await client.until(b"hel")
        client.close()
        await server.all()

    async def test_truncated(self):
        """An answer that is cut is cut for the client."""
        backend = Backend(self)
        self.serve(backend)
        client = await self.ask(GET)
        server, _ = await backend.request()
        server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.until(b"abc\r\n")
        server.close()
        self.assertEqual(await client.all(), b"")

    async def test_truncated_stream(self):
        """Over HTTP/2 it is the stream that is cut; the connection, which its channel does not show, goes on."""
        backend = Backend(self)
        self.serve(backend)
        stream = Stream(self.site)
        request = self.site.requestFactory(stream)
        request.gotLength(0)
        request.requestHeaders.addRawHeader(b"Host", b"a")
        request.requestReceived(b"GET", b"/api", b"HTTP/2")
        server, _ = await backend.request()
        server.send(HELLO[:-2])
        await settled(lambda: stream.written == b"hel")
        server.close()
        await stream.aborted

    async def test_judged_as_strictly(self):
        """What a listener refuses is refused here."""
        backend = Backend(self, HELLO)
        self.serve(backend)
        for request in (GET.replace(b"/x", b"/../x"), GET[:-2] + b"Host: b\r\n\r\n"):
            client = await self.ask(request)
            await client.until(b"400 Bad Request\n")
        self.assertEqual(backend.peers, [])

    async def test_trusted(self):
        """A trusted proxy in front is believed."""
        backend = Backend(self, HELLO)
        self.serve(backend, trusted=TrustedProxies(["127.0.0.1"]))
        client = await self.ask(GET[:-2] + b"X-Forwarded-For: 1.1.1.1\r\n\r\n")
        await client.until(b"hello")
        self.assertIn(b"X-Forwarded-For: 1.1.1.1, 127.0.0.1\r\n", backend.heads[0])
