"""Real protocols and much of them, through the real program."""

from __future__ import annotations

import random
from hashlib import sha256
from io import BytesIO
from threading import Thread

import dns.message
import dns.query
import dns.rrset
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import FileSender
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.backends import Peer, echo, until
from tests.functional.rig import Rig, free_port

MEGABYTE = 1_000_000
SIZE = 50 * MEGABYTE
#: What the program may need more at the end than at the beginning, for all that passes through it.
GROWTH = 16 * MEGABYTE


def much() -> bytes:
    return random.Random(SIZE).randbytes(SIZE)


class Sum(Protocol):
    """Keeps the checksum of what comes, and reads no faster than it sends back, if it does."""

    def __init__(self):
        self.sum = sha256()
        self.size = 0
        self.done = Deferred()

    def dataReceived(self, data):
        self.sum.update(data)
        self.size += len(data)

    def connectionLost(self, reason):
        self.done.callback((self.size, self.sum.hexdigest()))


class PacedEcho(Peer):
    """Sends back what comes, no faster than it is read."""

    def __init__(self):
        super().__init__(echo, half_close=True)

    def connectionMade(self):
        super().connectionMade()
        self.transport.registerProducer(self.transport, True)

    def readConnectionLost(self):
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Vault(Resource):
    """GET: much; PUT: the checksum of what came."""

    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-length", str(SIZE).encode())
        sent = FileSender().beginFileTransfer(BytesIO(much()), request)
        sent.addCallback(lambda _: request.finish())
        return NOT_DONE_YET

    def render_PUT(self, request):
        return sha256(request.content.read()).hexdigest().encode()


class BulkTests(Rig):
    """50 MB each way, whole, and never all of it in memory."""

    def setUp(self):
        super().setUp()
        self.data = much()
        self.expected = (SIZE, sha256(self.data).hexdigest())

    async def test_tcp(self):
        server = self.server(lambda: Factory.forProtocol(PacedEcho))
        port = free_port()
        program = await self.pylb(
            pools={"p": {"servers": [server.address]}},
            listeners={"echo": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        before = program.memory()
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Sum())
        await FileSender().beginFileTransfer(BytesIO(self.data), client.transport)
        client.transport.loseWriteConnection()
        self.assertEqual(await client.done, self.expected)
        self.assertLess(program.memory() - before, GROWTH)
        await self.ends(program)

    async def test_http(self):
        server = self.server(lambda: Site(Vault()))
        port = free_port()
        program = await self.pylb(
            pools={"p": {"servers": [server.address]}},
            listeners={
                "web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p", "client_max_body_size": "60m"}
            },
        )
        before = program.memory()
        where = f"http://127.0.0.1:{port}/".encode()
        answer = await Agent(reactor).request(b"GET", where)
        body = Sum()
        answer.deliverBody(body)
        self.assertEqual(await body.done, self.expected)
        answer = await Agent(reactor).request(b"PUT", where, Headers(), FileBodyProducer(BytesIO(self.data)))
        self.assertEqual((SIZE, (await readBody(answer)).decode()), self.expected)
        self.assertLess(program.memory() - before, GROWTH)
        await self.ends(program)


class TLSTests(Rig):
    async def test_echo(self):
        """TLS ends here, with the certificate that the client's name asks for; servers see plain bytes."""
        authority = trustme.CA()
        certificates = []
        for name in ("one.test", "two.test"):
            pair = authority.issue_cert(name)
            for part, content in (("cert", pair.cert_chain_pems[0]), ("key", pair.private_key_pem)):
                content.write_to_path(self.folder / f"{name}.{part}")
            certificates.append({part: f"{name}.{part}" for part in ("cert", "key")})
        server = self.server(lambda: Factory.forProtocol(lambda: Peer(echo)))
        port = free_port()
        program = await self.pylb(
            pools={"p": {"servers": [server.address]}},
            listeners={
                "echo": {
                    "protocol": "tcp",
                    "listen": f"127.0.0.1:{port}",
                    "pool": "p",
                    "tls": {"certificates": certificates},
                }
            },
        )
        trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        message = random.Random(1).randbytes(300_000)
        for name in ("one.test", "two.test"):
            client = await connectProtocol(wrapClientTLS(ssl.optionsForClientTLS(name, trust), plain), Peer())
            client.transport.write(message)
            await client.hears(message)
            client.transport.loseConnection()
            await until(lambda: client.lost)  # noqa: B023
        await self.ends(program)


class Names(DatagramProtocol):
    """A name server that knows one address for every name."""

    noisy = False

    def __init__(self, address):
        self._address = address

    def datagramReceived(self, datagram, addr):
        query = dns.message.from_wire(datagram)
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", self._address))
        self.transport.write(answer.to_wire(), addr)


class DNSTests(Rig):
    async def test_udp(self):
        """A DNS client is answered, by one name server after the other."""
        servers = [self.server(lambda address=f"192.0.2.{number}": Names(address)) for number in (1, 2)]
        port = free_port()
        program = await self.pylb(
            pools={"dns": {"servers": [server.address for server in servers]}},
            listeners={"dns": {"protocol": "udp", "listen": f"127.0.0.1:{port}", "pool": "dns", "responses": 1}},
        )
        answers = []
        for _ in range(4):
            query = dns.message.make_query("app.example", "A")
            answer = await deferToThread(dns.query.udp, query, "127.0.0.1", timeout=10, port=port)
            answers.append(answer.answer[0][0].address)
        self.assertEqual(answers, ["192.0.2.1", "192.0.2.2"] * 2)
        await self.ends(program)


class WebSocketTests(Rig):
    async def test_echo(self):
        """A WebSocket client and server talk through an upgraded connection."""
        server = serve(lambda socket: [socket.send(message) for message in socket], "127.0.0.1", 0)
        thread = Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        port = free_port()
        program = await self.pylb(
            pools={"p": {"servers": [f"127.0.0.1:{server.socket.getsockname()[1]}"]}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        messages = ["hello", b"\x00\xff" * 50_000, "", "ü" * 1000]

        def talk():
            heard = []
            with connect(f"ws://127.0.0.1:{port}/chat") as client:
                for message in messages:
                    client.send(message)
                    heard.append(client.recv(timeout=10))
            return heard

        self.assertEqual(await deferToThread(talk), messages)
        await self.ends(program)
