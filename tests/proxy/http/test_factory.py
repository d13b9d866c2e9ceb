"""A listener on other endpoints: TLS, Unix sockets, IPv6."""

from dataclasses import replace

import trustme
from twisted.internet import reactor
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from pylb.model import Certificate as CertificateSpec
from pylb.model import InetAddress, Keepalive, ListenerTLS, Route, ServerSpec, UnixAddress, UpstreamTLS
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.head import BadHead
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.tls import ClientTLS, ServerTLS
from tests.backends import socket_path
from tests.proxy.http.rig import GET, HELLO, Backend, Peer, Rig, drop, settled, turns

HEAD = b"\r\n\r\n"


class EndpointTests(TestCase):
    timeout = 20

    async def serve(self, rig, server, client):
        """A client of the rig's factory on another endpoint."""
        port = await server.listen(rig.factory)
        self.addCleanup(port.stopListening)
        peer = await connectProtocol(client(port), Peer())
        self.addCleanup(drop, [peer])
        return peer

    async def test_unix(self):
        """On Unix sockets, towards clients and servers alike; the client is "unix:"."""
        front, back = str(socket_path(self)), str(socket_path(self))
        backend = Backend(self, HELLO)
        behind = reactor.listenUNIX(back, backend)
        self.addCleanup(behind.stopListening)
        rig = Rig(self, servers=[ServerSpec(address=UnixAddress(back))])
        client = await self.serve(
            rig, UNIXServerEndpoint(reactor, front), lambda port: UNIXClientEndpoint(reactor, front)
        )
        client.send(GET + b"GET / HTTP/1.0\r\n\r\n")
        await client.until(b"hello")
        await client.until(b"hello")
        self.assertIn(b"\r\nX-Forwarded-For: unix:\r\n", backend.heads[0])
        self.assertIn(b"\r\nHost: localhost\r\n", backend.heads[1])
        self.assertEqual((rig.log.records[0].remote_addr, rig.log.records[0].remote_port), ("unix:", None))

    async def test_ipv6(self):
        """On IPv6."""
        backend = Backend(self, HELLO)
        rig = Rig(self, backend, trusted=["::1"])
        client = await self.serve(
            rig,
            TCP6ServerEndpoint(reactor, 0, interface="::1"),
            lambda port: TCP6ClientEndpoint(reactor, "::1", port.getHost().port),
        )
        client.send(b"GET / HTTP/1.0\r\nX-Forwarded-For: c\r\n\r\n")
        await client.until(b"hello")
        self.assertIn(b"\r\nX-Forwarded-For: c, ::1\r\n", backend.heads[0])
        self.assertIn(b"\r\nHost: [::1]:", backend.heads[0])


class TLSTests(TestCase):
    timeout = 20

    def setUp(self):
        self.authority = trustme.CA()
        leaf = self.authority.issue_cert("localhost")
        self.cert, self.key, self.ca = self.mktemp(), self.mktemp(), self.mktemp()
        leaf.private_key_pem.write_to_path(self.key)
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(self.cert, append=True)
        self.authority.cert_pem.write_to_path(self.ca)
        self.trust = trustRootFromCertificates([Certificate.loadPEM(self.authority.cert_pem.bytes())])

    def front(self, *backends, **options):
        tls = ServerTLS(ListenerTLS(certificates=(CertificateSpec(cert=self.cert, key=self.key),)))
        return Rig(self, *backends, wrap=lambda factory: tls.over(factory, reactor), **options)

    async def connect(self, rig):
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", rig.port.getHost().port)
        peer = await connectProtocol(wrapClientTLS(optionsForClientTLS("localhost", self.trust), plain), Peer())
        rig.peers.append(peer)
        return peer

    async def test_proto(self):
        """Behind TLS the server is told https, and one connection serves many requests."""
        backend = Backend(self, HELLO)
        client = await self.connect(self.front(backend))
        for _ in range(2):
            client.send(GET)
            await client.until(b"hello")
        self.assertIn(b"\r\nX-Forwarded-Proto: https\r\n", backend.heads[0])

    async def test_refusal_survives(self):
        """A client that goes on sending a long body still gets its 413, and the connection ends in order."""
        client = await self.connect(self.front(Backend(self), client_max_body_size=1000))
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            client.send(b"x" * 100_000)
            await turns(2)
        answer = await client.all()
        self.assertTrue(answer.endswith(b"413 Content Too Large\n"), (answer, client.reason))
        self.assertFalse(client.was_reset)

    async def test_large_answer(self):
        """A large answer passes whole, with back-pressure on."""
        body = b"x" * 3_000_000
        backend = Backend(self, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        client = await self.connect(self.front(backend))
        client.send(GET[:-2] + b"Connection: close\r\n\r\n")
        self.assertTrue((await client.all()).endswith(body))

    async def test_client_leaves(self):
        """A TLS client that leaves is 499."""
        backend = Backend(self)
        rig = self.front(backend)
        client = await self.connect(rig)
        client.send(GET)
        server, _ = await backend.request()
        client.close()
        await server.all()
        await settled(lambda: rig.log.records)
        self.assertEqual(rig.log.statuses, [499])

    async def test_plain_http(self):
        """Who speaks no TLS is told so in plain HTTP, however much it sends, and the connection ends in order."""
        rig = self.front(Backend(self))
        for request in (GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, b"\r"):
            client = await rig.ask(request)
            answer = await client.all()
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\n400 Bad Request: this port speaks TLS\n"), answer)
            self.assertFalse(client.was_reset)
        self.assertEqual(rig.log.statuses, [400] * 3)
        self.assertEqual([record.bytes_sent for record in rig.log.records], [len(answer)] * 3)

    async def test_no_handshake(self):
        """A handshake that fails, by either side's word, has a line with status 0; who leaves without a word has none."""
        rig = self.front(Backend(self))
        where = TCP4ClientEndpoint(reactor, "127.0.0.1", rig.port.getHost().port)
        silent = await rig.connect()
        silent.close()
        logs = self.enterContext(capturedLogs())
        rubbish = await rig.ask(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")
        rubbish.send(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")
        await rubbish.lost
        stranger = Peer()
        await connectProtocol(wrapClientTLS(optionsForClientTLS("localhost"), where), stranger)
        await stranger.lost
        await settled(lambda: len(rig.log.records) == 2 and not len(rig.connections))
        self.assertEqual([(record.status, record.bytes_sent) for record in rig.log.records], [(0, 0)] * 2)
        [line] = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.proxy.handshakes"]
        self.assertTrue(line.startswith("listener web: no TLS with 127.0.0.1: "), line)

    async def behind(self, answer, **tls):
        """A rig whose server speaks TLS."""
        backend = Backend(self, answer)
        server = ServerTLS(ListenerTLS(certificates=(CertificateSpec(cert=self.cert, key=self.key),)))
        port = reactor.listenTCP(0, server.over(backend, reactor), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        rig = Rig(
            self,
            servers=[ServerSpec(address=InetAddress("127.0.0.1", port.getHost().port))],
            tls=ClientTLS(UpstreamTLS(ca=self.ca, **tls)),
        )
        return rig, backend

    async def test_server_over_tls(self):
        """A server behind TLS that shows the right name is asked, and its connection kept."""
        rig, backend = await self.behind(HELLO, server_name="localhost")
        client = await rig.ask(GET * 2)
        await client.until(b"hello")
        await client.until(b"hello")
        await turns(3)
        self.assertEqual((len(rig.idle), len(backend.peers)), (1, 1))

    async def test_wrong_name(self):
        """One with another name is a failed connect: nothing is sent to it."""
        rig, backend = await self.behind(HELLO, server_name="other.example")
        client = await rig.ask(GET)
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual((backend.heads, rig.pool.servers[0].failures), ([], 1))

    async def test_until_close(self):
        """An answer that lasts until the server closes ends by close_notify; a mere close cuts it."""
        for end in ("close", "cut"):
            rig, backend = await self.behind(None, server_name="localhost")
            client = await rig.ask(GET)
            server, _ = await backend.request()
            server.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
            await client.until(b"abc\r\n")
            if end == "close":
                server.close()
                await client.until(b"0\r\n\r\n")
            else:
                server.transport.transport.loseConnection()
                self.assertEqual(await client.all(), b"")


class AskTests(TestCase):
    async def test_same_head(self):
        """What a head asks is found once for all that send the same, of whichever connection; another asks another."""
        rig = Rig(self, Backend(self), routes=[Route(path="/a", pool="p")])
        ask = rig.factory.ask(b"GET /a HTTP/1.1\r\nHost: a\r\n")
        self.assertIs(rig.factory.ask(bytes(bytearray(b"GET /a HTTP/1.1\r\nHost: a\r\n"))), ask)
        other = rig.factory.ask(b"GET /b HTTP/1.1\r\nHost: a\r\n")
        self.assertEqual((ask.refusal, ask.upstream.name, other.refusal, other.upstream), (0, "p", 404, None))

    async def test_use(self):
        """Heads that came before ask what is asked for now: of other pools, routes and limits."""
        rig = Rig(self, Backend(self))
        factory, head = rig.factory, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
        before = factory.ask(head)
        spec = replace(factory.spec, routes=(Route(path="/", pool="q"),), client_max_body_size=8, read_timeout=7.0)
        idle = IdleConnections(Keepalive(), rig.time, rig.time.seconds)
        trusted = TrustedProxies(("10.0.0.0/8",))
        factory.use(spec, {"q": before.upstream.upstream}, {"q": idle}, trusted)
        after = factory.ask(head)
        self.assertEqual((before.refusal, after.refusal, factory.spec), (0, 413, spec))
        after = factory.ask(GET[:-2])
        self.assertIs(after.upstream.idle, idle)
        self.assertEqual(after.upstream.read_timeout, 7.0)
        self.assertIs(factory.trusted, trusted)

    async def test_use_while_connected(self):
        """A client that is connected has its next request answered so."""
        one, two = Backend(self, HELLO), Backend(self, HELLO)
        rig, other = Rig(self, one), Rig(self, two)
        client = await rig.ask(GET)
        await client.until(b"hello")
        upstreams = {"p": other.factory.ask(GET[:-2]).upstream.upstream}
        rig.factory.use(rig.factory.spec, upstreams, {"p": other.idle}, TrustedProxies())
        client.send(GET)
        await client.until(b"hello")
        self.assertEqual([len(backend.heads) for backend in (one, two)], [1, 1])

    async def test_retire(self):
        """Who is connected has one more answer, which says that it is the last, and is closed then; nothing else changes."""
        rig = Rig(self, Backend(self, HELLO), client_max_body_size=7)
        client = await rig.ask(GET)
        self.assertNotIn(b"\r\nConnection: close", await client.until(b"hello"))
        rig.factory.retire()
        self.assertIsNone(client.reason)
        client.send(GET)
        self.assertIn(b"\r\nConnection: close\r\n", await client.until(b"hello"))
        await client.lost
        self.assertEqual(rig.factory.spec.client_max_body_size, 7)

    async def test_refused_again(self):
        """What is refused is refused each time."""
        rig = Rig(self, Backend(self))
        for _ in range(2):
            self.assertRaises(BadHead, rig.factory.ask, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n")
