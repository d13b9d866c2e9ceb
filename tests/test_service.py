"""pylb.service: the parts together, over real sockets, in the test's own reactor."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import trustme
from OpenSSL import SSL
from twisted.application.service import IService, MultiService
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import capturedLogs, formatEvent
from twisted.web.client import Agent, readBody
from twisted.web.server import Site
from zope.interface.verify import verifyObject

import pylb.service
from pylb.model import (
    AccessLog,
    Balance,
    Certificate,
    Config,
    HttpListener,
    InetAddress,
    ListenerTLS,
    PoolSpec,
    Route,
    ServerSpec,
    UnixAddress,
)
from pylb.proxy.listen import BindError
from pylb.service import LoadBalancer
from tests.backends import Peer, until
from tests.served import ANY, Echo, Page, Served, tcp, udp


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

    async def test_large_rings(self):
        """What takes long to make is there when the first client is accepted."""
        pool = PoolSpec(
            name="p",
            servers=tuple(ServerSpec(address=self.backend()) for _ in range(2)),
            balance=Balance(method="maglev", key="$remote_addr"),
        )
        balancer = self.start(LoadBalancer(Config(pools={"p": pool}, listeners={"tcp": tcp()})))
        self.assertNoResult(balancer.ready)
        await balancer.ready
        for _ in range(4):
            client = await self.client(balancer)
            client.transport.write(b"hello")
            await client.hears(b"hello")
        self.assertEqual(sorted(server.picked for server in balancer.pools["p"].servers), [0, 4])

    async def test_stopped_before_it_served(self):
        """A load balancer that is stopped while rings are being made never serves."""
        spec = PoolSpec(
            name="p",
            servers=(ServerSpec(address=self.backend()),),
            balance=Balance(method="maglev", key="$remote_addr"),
        )
        balancer = LoadBalancer(Config(pools={"p": spec}, listeners={"tcp": tcp()}))
        balancer.startService()
        await balancer.stopService()
        for thread in threading.enumerate():
            if thread.name == "pylb-background":
                thread.join(5)
        await deferLater(reactor, 0)
        self.assertNoResult(balancer.ready)

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
        said = [formatEvent(log) for log in logs if log["log_namespace"] == "pylb.announce"]
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

    def test_no_log_is_left_open(self):
        """Nor an access log, whatever is wrong after it was opened."""
        log = Path(self.mktemp()).absolute()
        missing = ListenerTLS(certificates=(Certificate(cert="/nowhere/a.pem", key="/nowhere/a.key"),))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            for listener in (tcp(tls=missing), tcp(listen=(InetAddress(*sock.getsockname()),))):
                with self.assertRaises((SSL.Error, BindError)):
                    self.make(listener, access_log=AccessLog(path=str(log)))
        self.assertTrue(log.exists())
        self.assertNotIn(str(log), [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()])

    if not Path("/proc/self/fd").exists():
        test_no_log_is_left_open.skip = "this system does not show what is open"

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
