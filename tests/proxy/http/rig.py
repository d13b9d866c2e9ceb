"""A listener, real sockets on loopback, and both ends in the test's hands.

Time does not pass by itself: `rig.time.advance(seconds)` moves every deadline of the proxy.
"""

import socket
import struct

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from pylb.balance.pool import make_pool
from pylb.model import HttpListener, InetAddress, Keepalive, PoolSpec, Route, ServerSpec
from pylb.proxy.connections import Connections
from pylb.proxy.http.factory import HttpFactory
from pylb.proxy.http.forwarded import TrustedProxies
from pylb.proxy.http.idle import IdleConnections
from pylb.proxy.upstream import Limits, Upstream

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@implementer(IReactorTCP, IReactorUNIX, IReactorTime)
class SteppedReactor(Clock):
    """The sockets of a network, the real reactor if no other is given, and a time that the test moves."""

    def __init__(self, network=reactor):
        super().__init__()
        self.connectTCP = network.connectTCP
        self.connectUNIX = network.connectUNIX
        self.listenTCP = network.listenTCP
        self.listenUNIX = network.listenUNIX


class Peer(Protocol):
    """One end of a connection in the test's hands."""

    def __init__(self):
        self.received = b""
        self.lost = Deferred()
        self.reason = None
        self._waiting = None
        self.at_request = None

    def dataReceived(self, data):
        self.received += data
        if self.at_request is not None:
            while b"\r\n\r\n" in self.received:
                head, _, self.received = self.received.partition(b"\r\n\r\n")
                self.send(self.at_request(head + b"\r\n\r\n"))
        self._look()

    def connectionLost(self, reason):
        self.reason = reason
        waiting, self._waiting = self._waiting, None
        self.lost.callback(None)
        if waiting is not None:
            waiting[1].errback(AssertionError(f"lost while waiting for {waiting[0]!r}: {self.received!r}"))

    def send(self, data):
        self.transport.write(data)

    def close(self):
        self.transport.loseConnection()

    def reset(self):
        self.transport.abortConnection()

    def until(self, pattern):
        """All that came up to and with `pattern`."""
        waiting = self._waiting = (pattern, Deferred())
        self._look()
        return waiting[1]

    def _look(self):
        if self._waiting is not None and self._waiting[0] in self.received:
            (pattern, found), self._waiting = self._waiting, None
            head, _, self.received = self.received.partition(pattern)
            found.callback(head + pattern)

    async def all(self):
        """All that comes until the connection is lost."""
        if self.reason is None:
            await self.lost
        return self.received

    @property
    def was_reset(self):
        return self.reason is not None and "ConnectionDone" not in str(self.reason.type)


class Backend(Factory):
    """A server; `answer` is what it says to every request head, or None if the test answers."""

    noisy = False

    def __init__(self, test, answer=None):
        self.answer = (lambda head: answer) if isinstance(answer, bytes) else answer
        self.peers = []
        self.heads = []
        self._accepted = []
        self._waiting = []
        self.port = reactor.listenTCP(0, self, interface="127.0.0.1")
        test.addCleanup(self.stop)

    @property
    def address(self):
        return InetAddress("127.0.0.1", self.port.getHost().port)

    @property
    def name(self):
        return str(self.address)

    def buildProtocol(self, addr):
        peer = Peer()
        if self.answer is not None:
            peer.at_request = self._answer
        self.peers.append(peer)
        if self._waiting:
            reactor.callLater(0, self._waiting.pop(0).callback, peer)
        else:
            self._accepted.append(peer)
        return peer

    def _answer(self, head):
        self.heads.append(head)
        return self.answer(head)

    def accepted(self):
        """The next connection that was not asked for yet."""
        waiting = Deferred()
        if self._accepted:
            waiting.callback(self._accepted.pop(0))
        else:
            self._waiting.append(waiting)
        return waiting

    async def request(self):
        """A connection and the head of the first request on it."""
        peer = await self.accepted()
        return peer, await peer.until(b"\r\n\r\n")

    async def stop(self):
        await maybeDeferred(self.port.stopListening)
        await drop(self.peers)


class ListLog:
    """An access log for the test."""

    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)

    @property
    def statuses(self):
        return [record.status for record in self.records]


async def drop(peers):
    live = [peer for peer in peers if peer.reason is None and peer.transport is not None]
    for peer in live:
        peer.transport.abortConnection()
    await gatherResults([peer.lost for peer in live])


class Rig:
    """A listener in front of some backends.  Options are HttpListener's, in `pool` PoolSpec's, or those named here."""

    def __init__(
        self,
        test,
        *backends,
        servers=None,
        keepalive=None,
        trusted=(),
        tries=0,
        routes=None,
        wrap=None,
        tls=None,
        sticky=None,
        fail_on=None,
        pool=None,
        **options,
    ):
        self.time = SteppedReactor(getattr(test, "network", reactor))
        servers = servers or [ServerSpec(address=backend.address) for backend in backends]
        keepalive = keepalive or Keepalive()
        spec = PoolSpec(
            name="p", servers=tuple(servers), sticky=sticky, keepalive=keepalive, fail_on=fail_on, **(pool or {})
        )
        clock = self.time.seconds
        self.pool = make_pool(spec, clock)
        listener = HttpListener(name="web", listen=(), routes=routes or (Route(path="/", pool="p"),), **options)
        limits = Limits(
            connect_timeout=listener.connect_timeout,
            tries=tries,
            timeout=listener.next_upstream_timeout,
            next_upstream=listener.next_upstream,
        )
        self.log = ListLog()
        self.connections = Connections()
        self.idle = IdleConnections(spec.keepalive, self.time, clock)
        self.factory = HttpFactory(
            listener,
            {"p": Upstream(self.time, self.pool, limits, clock, tls)},
            {"p": self.idle},
            self.time,
            clock,
            self.connections,
            self.log,
            TrustedProxies(trusted),
        )
        self.port = self.time.listenTCP(0, wrap(self.factory) if wrap else self.factory, interface="127.0.0.1")
        self.peers = []
        self._test = test
        test.addCleanup(self.stop)

    async def connect(self):
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        peer = await connectProtocol(endpoint, Peer())
        self.peers.append(peer)
        return peer

    async def ask(self, data):
        """A new connection that sends `data`."""
        peer = await self.connect()
        peer.send(data)
        return peer

    async def answer(self, data):
        """All that a connection gets for `data` until pylb closes it."""
        return await (await self.ask(data)).all()

    async def stop(self):
        await self.port.stopListening()
        await drop(self.peers)
        self.idle.close()
        self.connections.abort()
        await self.connections.drain()
        active = {server.name: server.active for server in self.pool.servers if server.active}
        self._test.assertEqual(active, {}, "a lease leaked")
        for _ in range(100):
            if not self.time.getDelayedCalls():
                break
            await turns()
        self._test.assertEqual(self.time.getDelayedCalls(), [], "a delayed call was left")


def turns(count=1):
    """Let the reactor go round some times."""
    done = Deferred()

    def turn(left):
        if left:
            reactor.callLater(0, turn, left - 1)
        else:
            done.callback(None)

    turn(count)
    return done


async def settled(condition):
    """Let the reactor turn until `condition()` is true."""
    while not condition():
        await turns()


async def stalled(rig):
    """Let bytes travel until the one client takes no more of its answer."""
    (connection,) = rig.connections._live
    record = connection._request.record
    sent = -1
    while sent != record.upstream_bytes_received or not connection._blocked:
        sent = record.upstream_bytes_received
        await turns(50)


def reset_socket(peer):
    """Close with RST at once."""
    peer.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.transport.abortConnection()
