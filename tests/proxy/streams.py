"""pylb's TCP listener between real clients and servers, and what must be left of it afterwards: nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import TestCase

from pylb.balance.pool import make_pool
from pylb.model import Address, InetAddress, PoolSpec, ServerSpec, TcpListener, UnixAddress
from pylb.proxy.connections import Connections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.tls import ClientTLS, ServerTLS
from pylb.proxy.upstream import Limits, Upstream
from tests.backends import Backend, Peer, until
from tests.balance.fakes import Heard
from tests.fakes import Records


def address_of(port: IListeningPort) -> Address:
    where = port.getHost()
    if isinstance(where, IPv4Address | IPv6Address):
        return InetAddress(where.host, where.port)
    return UnixAddress(os.fsdecode(where.name))


def unused_address() -> InetAddress:
    """Where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return InetAddress(*sock.getsockname())


def deaf_address(case: TestCase) -> InetAddress:
    """Where connections are neither accepted nor refused, until the end of the test."""
    sock = socket.socket()
    case.addCleanup(sock.close)
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    for _ in range(2):
        queued = socket.socket()
        case.addCleanup(queued.close)
        queued.setblocking(False)
        queued.connect_ex(sock.getsockname())
    return InetAddress(*sock.getsockname())


def innermost(transport):
    """The transport that holds the socket."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def held(transport) -> int:
    """Bytes that a transport has been given and the kernel has not."""
    bottom = innermost(transport)
    return len(bottom.dataBuffer) - bottom.offset + bottom._tempDataLen


class StreamCase(TestCase):
    """Makes servers, a listener of pylb and clients; each test ends with no connection, no lease, no delayed call."""

    def setUp(self) -> None:
        self.records = Records()
        self.connections = Connections()
        self.clients: list[Peer] = []
        self.backends: list[Backend] = []

    async def tearDown(self) -> None:
        peers = [*self.clients, *(peer for backend in self.backends for peer in backend.peers)]
        for peer in peers:
            if peer.lost is None:
                peer.transport.abortConnection()
        await until(lambda: all(peer.lost for peer in peers) and not len(self.connections))
        if hasattr(self, "pool"):
            self.assertEqual([server.active for server in self.pool.servers], [0] * len(self.pool.servers))

    async def listen(self, factory: IProtocolFactory, where: str = "tcp:0:interface=127.0.0.1") -> Address:
        port = await serverFromString(reactor, where).listen(factory)
        self.addCleanup(port.stopListening)
        return address_of(port)

    async def backend(
        self,
        behave: Callable[[Peer, bytes], None] | None = None,
        half_close: bool = False,
        where: str = "tcp:0:interface=127.0.0.1",
        tls: ServerTLS | None = None,
    ) -> Backend:
        """A server; its `address` is for `proxy`."""
        backend = Backend(behave, half_close)
        backend.address = await self.listen(tls.over(backend, reactor) if tls else backend, where)
        self.backends.append(backend)
        return backend

    async def proxy(
        self,
        *servers: Backend | Address | ServerSpec,
        where: str = "tcp:0:interface=127.0.0.1",
        tls: ServerTLS | None = None,
        upstream_tls: ClientTLS | None = None,
        time: IReactorTime = reactor,
        **asked: object,
    ) -> None:
        """A listener of pylb in front of `servers`; `time` is the clock of its idle timers."""
        self.factory = self.make_factory(*servers, upstream_tls=upstream_tls, time=time, **asked)
        self.address = await self.listen(tls.over(self.factory, reactor) if tls else self.factory, where)

    def make_factory(self, *servers, upstream_tls=None, time=reactor, **asked) -> TcpFactory:
        specs = [server if isinstance(server, ServerSpec) else self.spec(server) for server in servers]
        spec = TcpListener(name="t", listen=(), pool="web", **asked)
        limits = Limits(
            connect_timeout=spec.connect_timeout,
            tries=spec.next_upstream_tries,
            timeout=spec.next_upstream_timeout,
            next_upstream=frozenset({"error", "timeout"} if spec.next_upstream else ()),
            tcp_nodelay=spec.tcp_nodelay,
            keepalive=spec.socket_keepalive,
        )
        self.heard = Heard()
        self.pool = make_pool(PoolSpec(name="web", servers=tuple(specs)), reactor.seconds, self.heard)
        upstream = Upstream(reactor, self.pool, limits, reactor.seconds, upstream_tls)
        return TcpFactory(spec, upstream, time, time.seconds, self.connections, self.records)

    def spec(self, server: Backend | Address) -> ServerSpec:
        return ServerSpec(address=server.address if isinstance(server, Backend) else server)

    async def client(self, half_close: bool = False, tls=None) -> Peer:
        """A client that is connected to pylb; over TLS `tls` makes its side of it."""
        address = self.address
        if isinstance(address, UnixAddress):
            endpoint = UNIXClientEndpoint(reactor, address.path)
        elif ":" in address.host:
            endpoint = TCP6ClientEndpoint(reactor, address.host, address.port)
        else:
            endpoint = TCP4ClientEndpoint(reactor, address.host, address.port)
        if tls is not None:
            endpoint = wrapClientTLS(tls, endpoint)
        peer = await connectProtocol(endpoint, Peer(half_close=half_close))
        self.clients.append(peer)
        return peer

    async def pair(self, backend: Backend, **client: object) -> tuple[Peer, Peer]:
        """A client and its server, connected through pylb."""
        return await self.client(**client), await backend.peer()

    async def over(self) -> None:
        """Wait until pylb has nothing left to do."""
        await until(lambda: not len(self.connections))

    @property
    def session(self):
        """The one session that pylb has."""
        (session,) = self.connections._live
        return session

    @property
    def held(self) -> int:
        """Bytes that pylb holds for the one session that it has."""
        session = self.session
        sides = [side.transport for side in (session._client, session._server) if side is not None]
        return len(session._early or b"") + sum(map(held, sides))
