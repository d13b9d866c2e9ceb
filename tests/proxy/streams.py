"""pylb's TCP listener between real clients and servers, and what must be left of it afterwards: nothing."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable

from OpenSSL import SSL
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
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import TestCase

from pylb.balance.pool import make_pool
from pylb.model import Address, InetAddress, PoolSpec, ServerSpec, TcpListener, UnixAddress
from pylb.proxy.connections import Connections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.tls import ClientTLS, ServerTLS
from pylb.proxy.upstream import Limits, Upstream
from tests.backends import Backend, Peer, dead_address, round_trips, until
from tests.balance.fakes import Heard
from tests.fakes import Records


def address_of(port: IListeningPort) -> Address:
    where = port.getHost()
    if isinstance(where, IPv4Address | IPv6Address):
        return InetAddress(where.host, where.port)
    return UnixAddress(os.fsdecode(where.name))


def deaf_address(case: TestCase) -> InetAddress:
    """Where connections are neither accepted nor refused, until the end of the test."""
    return InetAddress(*deaf_socket(case).getsockname())


def deaf_socket(case: TestCase) -> socket.socket:
    """The same; once it is closed, they are refused at their next attempt, which the kernel makes after a second."""
    sock = socket.socket()
    case.addCleanup(sock.close)
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    for _ in range(2):
        queued = socket.socket()
        case.addCleanup(queued.close)
        queued.setblocking(False)
        queued.connect_ex(sock.getsockname())
    return sock


def data(megabytes: float) -> bytes:
    """Bytes of which no two stretches are alike."""
    return os.urandom(int(megabytes * 1024 * 1024))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def greeting(text: bytes):
    """A server that speaks first."""

    def behave(peer: Peer, data: bytes) -> None:
        if not data:
            peer.transport.write(text)

    return behave


def send_and_close(text: bytes):
    """A server that sends something and closes at once."""

    def behave(peer: Peer, data: bytes) -> None:
        if not data:
            peer.transport.write(text)
            peer.transport.loseConnection()

    return behave


def options(sock: socket.socket) -> tuple[int, int]:
    return (
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    )


def innermost(transport):
    """The transport that holds the socket."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def held(transport) -> int:
    """Bytes that a transport, or OpenSSL for it, has been given and not handed on."""
    bottom = innermost(transport)
    piped = bottom.sink_of.held if getattr(bottom, "sink_of", None) else 0
    decrypted = transport.getHandle().pending() if isinstance(transport.getHandle(), SSL.Connection) else 0
    return len(bottom.dataBuffer) - bottom.offset + bottom._tempDataLen + decrypted + piped


class StreamCase(TestCase):
    """Makes servers, a listener of pylb and clients; each test ends with no connection, no lease, no delayed call."""

    #: What makes the sockets of pylb's side.
    network = reactor
    #: When nobody reads pylb holds more than this.
    least = 64 * 1024

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

    async def listen(
        self, factory: IProtocolFactory, where: str = "tcp:0:interface=127.0.0.1", network: object = reactor
    ) -> Address:
        port = await serverFromString(network, where).listen(factory)
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
        factory = tls.over(self.factory, reactor) if tls else self.factory
        self.address = await self.listen(factory, where, self.network)

    def make_factory(self, *servers, upstream_tls=None, time=reactor, pool=None, **asked) -> TcpFactory:
        """`asked` is of the listener's specification, `pool` of the pool's."""
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
        self.pool = make_pool(PoolSpec(name="web", servers=tuple(specs), **(pool or {})), time.seconds, self.heard)
        upstream = Upstream(self.network, self.pool, limits, reactor.seconds, upstream_tls)
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

    async def settled(self) -> int:
        """Wait until no more bytes move; how many pylb then holds."""
        seen: list[tuple[int, int]] = []
        while len(seen) < 4 or len(set(seen[-4:])) > 1:
            await round_trips()
            seen.append((self.session.record.bytes_received, self.session.record.upstream_bytes_received))
        return self.held

    async def held_up(self, client: Peer, server: Peer) -> int:
        """What pylb holds while both send and neither reads; then both do, and everything arrives."""
        up, down = data(48), data(48)
        for side, sent in ((client, up), (server, down)):
            side.transport.pauseProducing()
            side.transport.write(sent)
        await until(lambda: self.held > self.least)
        most = await self.settled()
        for side in (client, server):
            side.transport.resumeProducing()
        await until(lambda: (len(client.heard), len(server.heard)) == (len(down), len(up)))
        self.assertEqual((digest(client.heard), digest(server.heard)), (digest(down), digest(up)))
        return most

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


class Exchanges:
    """What holds however a client speaks to pylb; for a StreamCase whose `serve` puts a listener before a server."""

    async def test_both_speak(self) -> None:
        """Bytes travel both ways, whoever speaks first."""
        backend = await self.backend(greeting(b"hello "))
        await self.serve(backend)
        client, server = await self.pair(backend)
        client.transport.write(b"question")
        await server.hears(b"question")
        server.transport.write(b"answer")
        await client.hears(b"hello answer")

    async def test_upload_and_close(self) -> None:
        """A client that sends a lot and closes at once loses nothing, and its close is a close."""
        backend = await self.backend()
        await self.serve(backend)
        client, server = await self.pair(backend)
        client.transport.write(sent := data(20))
        client.transport.loseConnection()
        await until(lambda: server.lost)
        self.assertEqual((server.clean, digest(server.heard)), (True, digest(sent)))

    async def test_download_and_close(self) -> None:
        """So it is with a server."""
        backend = await self.backend(send_and_close(sent := data(20)))
        await self.serve(backend)
        client = await self.client()
        await until(lambda: client.lost)
        self.assertEqual((client.clean, digest(client.heard)), (True, digest(sent)))

    async def test_client_resets(self) -> None:
        """A reset by the client reaches the server as a reset."""
        backend = await self.backend(greeting(b"!"))
        await self.serve(backend)
        client, server = await self.pair(backend)
        await client.hears(b"!")
        client.transport.abortConnection()
        await until(lambda: server.lost)
        self.assertIs(server.lost, ConnectionLost)
        await self.over()

    async def test_nobody(self) -> None:
        """With no usable server the client is closed, and the refusal counted."""
        await self.serve(ServerSpec(address=dead_address(self), down=True))
        client = await self.client()
        await until(lambda: client.lost)
        await self.over()
        self.assertEqual((client.clean, self.pool.refused, self.records[0].status), (True, 1, 502))
        self.assertEqual(self.records[0].tries, [])

    async def test_both_deaf(self) -> None:
        """When nobody reads pylb holds no more than 256 kB, ciphertext included, and once both do everything arrives."""
        backend = await self.backend()
        await self.serve(backend)
        client, server = await self.pair(backend)
        self.assertLessEqual(await self.held_up(client, server), 256 * 1024)
