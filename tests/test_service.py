"""pylb.service: the parts together, over real sockets, in the test's own reactor."""

from __future__ import annotations

import os
import socket
import sys
import threading
from functools import partial
from pathlib import Path

import trustme
from twisted.application.service import IService, MultiService
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

import pylb.service
from pylb.model import (
    AccessLog,
    Certificate,
    Config,
    HttpListener,
    InetAddress,
    ListenerTLS,
    PoolSpec,
    Route,
    ServerSpec,
    TcpListener,
    UdpListener,
    UnixAddress,
)
from pylb.proxy.listen import BindError
from pylb.proxy.resolve import Names
from pylb.service import LoadBalancer
from tests.backends import Backend, Peer, echo, until

ANY = InetAddress("127.0.0.1", 0)


class Echo(DatagramProtocol):
    noisy = False

    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)


class Asker(DatagramProtocol):
    noisy = False

    def __init__(self, where):
        self.where = where
        self.heard = []

    def startProtocol(self):
        self.transport.connect(self.where.host, self.where.port)

    def ask(self, datagram):
        self.transport.write(datagram)

    def datagramReceived(self, datagram, addr):
        self.heard.append(datagram)


class Page(Resource):
    isLeaf = True

    def render(self, request):
        return b"page of " + request.uri


def tcp(**more) -> TcpListener:
    return TcpListener(**{"name": "tcp", "listen": (ANY,), "pool": "p", **more})


def udp(**more) -> UdpListener:
    return UdpListener(**{"name": "udp", "listen": (ANY,), "pool": "p", **more})


class Served(TestCase):
    timeout = 30

    def listening(self, factory) -> InetAddress:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return InetAddress("127.0.0.1", port.getHost().port)

    def backend(self, behave=echo) -> InetAddress:
        self.server = Backend(behave)
        return self.listening(self.server)

    def make(self, *listeners, server=None, **more) -> LoadBalancer:
        """A load balancer whose pool has one server, an echo unless `server` says where it is."""
        pool = PoolSpec(name="p", servers=(ServerSpec(address=server or self.backend()),))
        return LoadBalancer(Config(pools={"p": pool}, listeners={each.name: each for each in listeners}, **more))

    def start(self, balancer) -> LoadBalancer:
        balancer.startService()
        self.addCleanup(self.end, balancer)
        return balancer

    async def end(self, balancer):
        if balancer.running:
            stopped = balancer.stopService()
            balancer.abort()
            await stopped

    def served(self, *listeners, **more) -> LoadBalancer:
        balancer = self.start(self.make(*listeners, **more))
        self.successResultOf(balancer.ready)
        return balancer

    async def client(self, balancer, name="tcp", index=0) -> Peer:
        where = balancer.addresses(name)[index]
        if isinstance(where, UnixAddress):
            endpoint = UNIXClientEndpoint(reactor, where.path)
        else:
            endpoint = TCP4ClientEndpoint(reactor, where.host, where.port)
        peer = await connectProtocol(endpoint, Peer())
        self.addCleanup(until, lambda: peer.lost)
        self.addCleanup(peer.transport.abortConnection)
        return peer

    def asker(self, balancer, name="udp") -> Asker:
        asker = Asker(balancer.addresses(name)[0])
        port = reactor.listenUDP(0, asker, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return asker


class ServingTests(Served):
    async def test_tcp(self):
        balancer = self.served(tcp())
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await client.hears(b"hello")

    async def test_unix(self):
        path = Path(os.path.relpath(self.mktemp()))
        path.parent.mkdir(parents=True, exist_ok=True)
        balancer = self.served(tcp(listen=(ANY, UnixAddress(str(path)))))
        client = await self.client(balancer, index=1)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        client.transport.loseConnection()
        await balancer.stopService()
        self.assertFalse(path.exists())

    async def test_udp(self):
        port = reactor.listenUDP(0, Echo(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        balancer = self.served(udp(), server=InetAddress("127.0.0.1", port.getHost().port))
        asker = self.asker(balancer)
        asker.ask(b"what time is it?")
        await until(lambda: asker.heard)
        self.assertEqual(asker.heard, [b"what time is it?"])

    async def test_http(self):
        listener = HttpListener(name="web", listen=(ANY,), routes=(Route(pool="p", path="/"),))
        balancer = self.served(listener, server=self.listening(Site(Page())))
        where = balancer.addresses("web")[0]
        answer = await Agent(reactor).request(b"GET", f"http://{where}/x".encode())
        self.assertEqual((answer.code, await readBody(answer)), (200, b"page of /x"))
        await balancer.stopService()

    async def test_tls(self):
        authority = trustme.CA()
        folder = Path(self.mktemp())
        folder.mkdir()
        pair = authority.issue_cert("lb.test")
        pair.cert_chain_pems[0].write_to_path(folder / "lb.pem")
        pair.private_key_pem.write_to_path(folder / "lb.key")
        certificate = Certificate(cert=str(folder / "lb.pem"), key=str(folder / "lb.key"))
        balancer = self.served(tcp(tls=ListenerTLS(certificates=(certificate,))))
        where = balancer.addresses("tcp")[0]
        trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])
        options = ssl.optionsForClientTLS("lb.test", trust)
        endpoint = wrapClientTLS(options, TCP4ClientEndpoint(reactor, where.host, where.port))
        client = await connectProtocol(endpoint, Peer())
        self.addCleanup(until, lambda: client.lost)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        client.transport.loseConnection()

    def test_addresses(self):
        """Known from the beginning, until the end."""
        balancer = self.make(tcp(listen=(ANY, InetAddress("::1", 0))), udp())
        hosts = [[where.host for where in balancer.addresses(name)] for name in ("tcp", "udp", "web")]
        self.assertEqual(hosts, [["127.0.0.1", "::1"], ["127.0.0.1"], []])
        balancer.close()
        self.assertEqual(balancer.addresses("tcp"), [])

    def test_what_the_log_says(self):
        """Version, each listener with its address, and what there is room for."""
        with capturedLogs() as logs:
            balancer = self.served(tcp(listen=(ANY, InetAddress("::1", 0))), udp(max_sessions=7), max_connections=5)
        v4, v6 = balancer.addresses("tcp")
        said = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.service"]
        self.assertEqual(
            said,
            [
                f"pylb {pylb.__version__} serves",
                f"listener tcp: tcp on 127.0.0.1:{v4.port}",
                f"listener tcp: tcp on [::1]:{v6.port}",
                f"listener udp: udp on {balancer.addresses('udp')[0]}",
                f"room for 5 connections and 7 UDP sessions, with {balancer.capacity.descriptors} descriptors",
            ],
        )

    def test_more_connections_than_descriptors(self):
        with capturedLogs() as logs:
            self.served(tcp(), max_connections=1 << 40)
        self.assertIn("max_connections is 1099511627776, ", formatEvent(logs[-1]))


class MakingTests(Served):
    def test_service(self):
        balancer = self.make(tcp())
        self.addCleanup(balancer.close)
        verifyObject(IService, balancer)

    def test_from_dict(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{sock.getsockname()[1]}"
        balancer = LoadBalancer.from_dict(
            {
                "pools": {"p": {"servers": ["127.0.0.1:9"]}},
                "listeners": {"tcp": {"protocol": "tcp", "listen": where, "pool": "p"}},
            }
        )
        self.assertEqual([str(address) for address in balancer.addresses("tcp")], [where])
        balancer.close()

    def test_nothing_is_left_open(self):
        """A load balancer that cannot be made leaves no socket behind."""
        path = Path(os.path.relpath(self.mktemp()))
        with self.assertRaises(OSError):
            self.make(tcp(listen=(UnixAddress(str(path)),)), access_log=AccessLog(path="/nowhere/at/all.log"))
        self.assertFalse(path.exists())

    def test_port_in_use(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            with self.assertRaises(BindError):
                self.make(tcp(listen=(InetAddress(*sock.getsockname()),)))

    async def test_embedded(self):
        """It starts and stops with the service that it is a child of."""
        parent = MultiService()
        balancer = self.make(tcp())
        balancer.setServiceParent(parent)
        parent.startService()
        client = await self.client(balancer)
        client.transport.loseConnection()
        await parent.stopService()
        self.assertFalse(balancer.running)

    async def test_other_reactors(self):
        """Under other reactors than this one, in an application of somebody's own."""
        program = str(Path(__file__).parent / "embedded.py")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for name in ("select", "poll", "asyncio"):
            out, err, code = await getProcessOutputAndValue(sys.executable, [program, name], environment)
            self.assertEqual((code, err, out.split()), (0, b"", [b"tcp:hello", b"udp:hello", b"http:200", b"stopped"]))


class NamesTests(Served):
    """Names are looked up before clients are accepted; here the test answers."""

    def hanging(self, *listeners) -> LoadBalancer:
        self.answer = threading.Event()
        self.addCleanup(self.answer.set)
        self.where = self.backend()

        def lookup(name):
            self.answer.wait(10)
            return [self.where.host]

        self.patch(pylb.service, "Names", partial(Names, lookup=lookup))
        return self.start(self.make(*listeners, server=InetAddress("app.test", self.where.port)))

    async def test_bound_at_once(self):
        """Clients connect at once and wait until every name has answered."""
        balancer = self.hanging(tcp())
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await deferLater(reactor, 0.05)
        self.assertNoResult(balancer.ready)
        self.assertEqual(client.heard, b"")
        self.answer.set()
        await client.hears(b"hello")
        self.successResultOf(balancer.ready)

    async def test_cannot_serve(self):
        """Whoever waits for `ready` hears of it."""
        balancer = self.hanging(tcp())
        balancer._bound[0].socket.close()
        self.answer.set()
        await until(lambda: balancer.ready.called)
        self.failureResultOf(balancer.ready, OSError)

    async def test_stop_before_ready(self):
        """The end does not wait for an answer; waiting clients are turned away."""
        balancer = self.hanging(tcp(), udp())
        client = await self.client(balancer)
        await balancer.stopService()
        await until(lambda: client.lost)
        self.assertNoResult(balancer.ready)


class StoppingTests(Served):
    async def test_idle(self):
        """With nothing under way the end is at once, and the ports are free."""
        balancer = self.served(tcp(), udp())
        where = balancer.addresses("tcp")[0]
        await balancer.stopService()
        with socket.socket() as sock:
            self.assertEqual(sock.connect_ex((where.host, where.port)), 111)

    async def test_what_runs_may_finish(self):
        """A connection goes on, new ones are refused; the end comes when it is over."""
        balancer = self.served(tcp())
        where = balancer.addresses("tcp")[0]
        client = await self.client(balancer)
        await self.server.peer()
        stopped = balancer.stopService()
        client.transport.write(b"still there?")
        await client.hears(b"still there?")
        self.assertNoResult(stopped)
        with socket.socket() as sock:
            self.assertEqual(sock.connect_ex((where.host, where.port)), 111)
        client.transport.loseConnection()
        await stopped

    async def test_shutdown_timeout(self):
        """What runs longer is cut, and leaves its line in the access log."""
        log = Path(self.mktemp())
        balancer = self.served(tcp(), shutdown_timeout=0.05, access_log=AccessLog(path=str(log)))
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await client.hears(b"hello")
        await balancer.stopService()
        await until(lambda: client.lost)
        self.assertEqual(len(log.read_text().splitlines()), 1)

    async def test_every_line_is_written(self):
        """Also those of an HTTP request and of a tunnel that are cut."""

        def behave(server, data):
            if b"upgrade" in data:
                server.transport.write(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")

        for more, status in ((b"", "499"), (b"Connection: upgrade\r\nUpgrade: websocket\r\n", "101")):
            log = Path(self.mktemp())
            listener = HttpListener(name="web", listen=(ANY,), routes=(Route(pool="p", path="/"),))
            balancer = self.served(listener, server=self.backend(behave), access_log=AccessLog(path=str(log)))
            client = await self.client(balancer, "web")
            client.transport.write(b"GET / HTTP/1.1\r\nHost: lb.test\r\n" + more + b"\r\n")
            server = await self.server.peer()
            await until(lambda: server.heard)  # noqa: B023
            if more:
                await until(lambda: client.heard)  # noqa: B023
            stopped = balancer.stopService()
            balancer.abort()
            await stopped
            (line,) = log.read_text().splitlines()
            self.assertIn(f'" {status} ', line)

    async def test_abort(self):
        """Whoever does not want to wait cuts what runs."""
        balancer = self.served(tcp())
        client = await self.client(balancer)
        await self.server.peer()
        stopped = balancer.stopService()
        self.assertNoResult(stopped)
        balancer.abort()
        await stopped
        await until(lambda: client.lost)

    async def test_session_that_waits(self):
        """A UDP session whose server owes a reply gets `shutdown_timeout`, others end at once."""
        asked = []
        silent = DatagramProtocol()
        silent.noisy = False
        silent.datagramReceived = lambda datagram, addr: asked.append((datagram, addr))
        port = reactor.listenUDP(0, silent, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        where = InetAddress("127.0.0.1", port.getHost().port)
        for responses, waits in ((None, False), (1, True)):
            balancer = self.served(udp(responses=responses), server=where)
            asker = self.asker(balancer)
            asker.ask(b"?")
            await until(lambda: asked)
            stopped = balancer.stopService()
            if waits:
                await deferLater(reactor, 0.05)
                self.assertNoResult(stopped)
                silent.transport.write(b"!", asked[0][1])
                await until(lambda: asker.heard)  # noqa: B023
            await stopped
            asked.clear()


class LimitTests(Served):
    async def test_paused_and_resumed(self):
        """At `max_connections` further clients wait in the kernel's queue until there is room."""
        balancer = self.served(tcp(listen=(ANY, ANY)), max_connections=2)
        clients = [await self.client(balancer, index=number % 2) for number in range(5)]
        for client in clients:
            client.transport.write(b"hello")
        for served in (2, 3, 4, 5):
            await until(lambda: sum(bool(client.heard) for client in clients) == served)  # noqa: B023
            await deferLater(reactor, 0.02)
            self.assertEqual(len(self.server.peers), served)
            next(client for client in clients if client.heard and not client.lost).transport.loseConnection()

    async def test_burst(self):
        """Clients that come all at once are no exception."""
        balancer = self.served(tcp(), max_connections=2)
        where = balancer.addresses("tcp")[0]
        for _ in range(5):
            client = socket.create_connection((where.host, where.port))
            self.addCleanup(client.close)
        await self.server.peer(1)
        await deferLater(reactor, 0.02)
        self.assertEqual(len(self.server.peers), 2)

    async def test_stop_at_the_limit(self):
        """Room that comes while stopping is not given away."""
        balancer = self.served(tcp(), max_connections=1)
        first, second = await self.client(balancer), await self.client(balancer)
        await self.server.peer()
        stopped = balancer.stopService()
        first.transport.loseConnection()
        await stopped
        await until(lambda: second.lost)
        self.assertEqual(len(self.server.peers), 1)
