"""A load balancer in the test's own reactor, with an echo behind it, and clients of it."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from pylb.model import (
    Config,
    InetAddress,
    PoolSpec,
    ServerSpec,
    TcpListener,
    UdpListener,
    UnixAddress,
)
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
