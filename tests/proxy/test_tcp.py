"""How do the bytes of a TCP connection travel between a client and the server that was chosen for it?"""

from __future__ import annotations

import gc
import os
import socket
import sys
from dataclasses import replace
from functools import partial

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.stdio import PipeAddress
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from pylb.model import InetAddress, ServerSpec
from pylb.proxy.tcp_end import ClientEnd, ServerEnd
from pylb.proxy.tcp_session import Session
from tests.backends import Peer, dead_address, echo, round_trips, socket_path, until
from tests.proxy.streams import (
    Exchanges,
    StreamCase,
    data,
    deaf_address,
    deaf_socket,
    digest,
    greeting,
    options,
    send_and_close,
)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def in_memory() -> list[str]:
    """The names of what sessions are made of, one for each that is there."""
    kinds = ClientEnd, ServerEnd, Session
    return sorted(type(thing).__name__ for thing in gc.get_objects() if type(thing) in kinds)


class ExchangeTests(Exchanges, StreamCase):
    async def serve(self, *servers) -> None:
        await self.proxy(*servers)

    async def test_ipv6(self) -> None:
        """Clients and servers may be IPv6."""
        backend = await self.backend(echo, where="tcp6:0:interface=\\:\\:1")
        await self.proxy(backend, where="tcp6:0:interface=\\:\\:1")
        client = await self.client()
        client.transport.write(b"six")
        await client.hears(b"six")

    async def test_unix(self) -> None:
        """Clients and servers may be at Unix sockets, and half-close passes there, too."""
        backend = await self.backend(half_close=True, where=f"unix:{socket_path(self)}")
        await self.proxy(backend, where=f"unix:{socket_path(self)}")
        client, server = await self.pair(backend)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await until(lambda: server.ended)
        server.transport.write(b"answer")
        server.transport.loseConnection()
        await client.hears(b"answer")
        await self.over()
        self.assertEqual(self.records[0].remote_addr, "unix:")

    async def test_record(self) -> None:
        """The access log has one record a connection: who, where to, how long and how many bytes either way."""
        backend = await self.backend(greeting(b"four"))
        await self.proxy(backend)
        client, server = await self.pair(backend)
        port = client.transport.getHost().port
        client.transport.write(b"sixsix")
        await server.hears(b"sixsix")
        client.transport.loseConnection()
        await self.over()
        (record,) = self.records
        self.assertEqual((record.listener, record.protocol, record.pool, record.status), ("t", "tcp", "web", 200))
        self.assertEqual((record.remote_addr, record.remote_port), ("127.0.0.1", port))
        self.assertEqual((record.bytes_received, record.bytes_sent), (6, 4))
        self.assertEqual((record.upstream_bytes_sent, record.upstream_bytes_received), (6, 4))
        self.assertEqual([tried.server for tried in record.tries], [str(backend.address)])

    async def test_other_upstream(self) -> None:
        """Who is connected stays with the server; who comes when another pool is asked for has one of that."""
        one, two = await self.backend(echo), await self.backend(echo)
        await self.proxy(two)
        later = self.factory
        await self.proxy(one)
        early, _ = await self.pair(one)
        self.factory.use(later.spec, later.upstream)
        late, _ = await self.pair(two)
        for client in (early, late):
            client.transport.write(b"!")
            await client.hears(b"!")
        self.assertEqual([len(backend.peers) for backend in (one, two)], [1, 1])

    async def test_options(self) -> None:
        """TCP_NODELAY is set on both sides unless it is switched off; keep-alive only on the side it is asked for."""
        for asked, expected in [
            ({}, [(1, 0), (1, 0)]),
            ({"tcp_nodelay": False}, [(0, 0), (0, 0)]),
            ({"so_keepalive": True}, [(1, 1), (1, 0)]),
            ({"socket_keepalive": True}, [(1, 0), (1, 1)]),
        ]:
            backend = await self.backend(greeting(b"!"))
            await self.proxy(backend, **asked)
            client = await self.client()
            await client.hears(b"!")
            sides = (self.session._client, self.session._server)
            self.assertEqual([options(side.transport.getHandle()) for side in sides], expected)
            client.transport.loseConnection()
            await self.over()

    async def test_nothing_keeps_a_session_that_ended(self) -> None:
        """It is gone at once, without the garbage collector, which would be called for every fortieth connection."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = in_memory()
        for asked in ({}, {"upload_rate": 10**6, "download_rate": 10**6}):
            await self.proxy(dead_address(self), await self.backend(send_and_close(b"!")), **asked)
            client = await self.client()
            await client.hears(b"!")
            await self.over()
        self.assertEqual(in_memory(), before)

    async def test_small(self) -> None:
        """A little of everything, for other reactors."""
        backend = await self.backend(echo)
        await self.proxy(dead_address(self), backend)
        client = await self.client(half_close=True)
        client.transport.write(sent := data(1))
        client.transport.loseWriteConnection()
        await until(lambda: client.ended)
        self.assertEqual(digest(client.heard), digest(sent))
        other = await self.client()
        await until(lambda: len(backend.peers) == 2)
        backend.peers[1].transport.abortConnection()
        await until(lambda: other.lost)
        self.assertIs(other.lost, ConnectionLost)


class EarlyTests(StreamCase):
    """Before the server is reached.  A listener that accepts nobody keeps pylb waiting."""

    async def proxy_when_told(self, backend) -> socket.socket:
        """A server that cannot be reached until the socket is closed, and then `backend`."""
        deaf = deaf_socket(self)
        await self.proxy(InetAddress(*deaf.getsockname()), backend)
        return deaf

    async def proxy_to(self, backend, **asked: object) -> None:
        """A server that cannot be reached for now, and then `backend`."""
        await self.proxy(deaf_address(self), backend, connect_timeout=0.2, **asked)

    async def test_kept(self) -> None:
        """What the client sends before its server is reached is sent on."""
        backend = await self.backend()
        deaf = await self.proxy_when_told(backend)
        client = await self.client()
        client.transport.write(b"early ")
        await until(lambda: len(self.connections) and self.held == 6)
        client.transport.write(b"bird")
        await until(lambda: self.held == 10)
        deaf.close()
        await (await backend.peer()).hears(b"early bird")

    async def test_bounded(self) -> None:
        """It is kept up to a bound, where reading pauses, and all of it arrives."""
        backend = await self.backend()
        deaf = await self.proxy_when_told(backend)
        client = await self.client()
        client.transport.write(sent := data(20))
        await until(lambda: len(self.connections) and self.held >= 64 * 1024)
        self.assertLessEqual(await self.settled(), 128 * 1024)
        deaf.close()
        server = await backend.peer()
        await until(lambda: len(server.heard) == len(sent))
        self.assertEqual(digest(server.heard), digest(sent))

    async def test_end_before_the_server(self) -> None:
        """A client that has sent and ended before is served all the same, and gets its answer."""
        backend = await self.backend(echo)
        await self.proxy_to(backend)
        client = await self.client(half_close=True)
        client.transport.write(b"early")
        client.transport.loseWriteConnection()
        await client.hears(b"early")

    async def test_end_before_the_server_without_half_close(self) -> None:
        """So it is without half-close, except that it gets no answer."""
        backend = await self.backend()
        await self.proxy_to(backend, half_close=False)
        client = await self.client(half_close=True)
        client.transport.write(b"early")
        client.transport.loseWriteConnection()
        server = await backend.peer()
        await until(lambda: server.lost)
        self.assertEqual((bytes(server.heard), server.clean), (b"early", True))

    async def test_client_leaves(self) -> None:
        """A client that is reset meanwhile gives its lease back at once, nobody is connected to, and it is logged as 499."""
        backend = await self.backend()
        await self.proxy(deaf_address(self), backend)
        client = await self.client()
        client.transport.write(b"never mind")
        await until(lambda: len(self.connections) and self.pool.servers[0].active)
        client.transport.abortConnection()
        await self.over()
        self.assertEqual([server.active for server in self.pool.servers], [0, 0])
        self.assertEqual([record.status for record in self.records], [499])
        self.assertEqual((backend.peers, self.pool.servers[0].failures), ([], 0))

    async def test_connect_timeout(self) -> None:
        """A server that does not answer within connect_timeout has failed; the client is closed if it was the last."""
        await self.proxy(deaf_address(self), connect_timeout=0.05)
        client = await self.client()
        await until(lambda: client.lost)
        await self.over()
        self.assertEqual((client.clean, self.records[0].status, self.pool.servers[0].failures), (True, 504, 1))

    async def test_waiting_is_not_idleness(self) -> None:
        """How long a server may take to be reached is the business of connect_timeout, not of timeout."""
        clock = Clock()
        await self.proxy(deaf_address(self), timeout=1, connect_timeout=200, time=clock)
        client = await self.client()
        await until(lambda: len(self.connections))
        clock.advance(100)
        await round_trips()
        self.assertIsNone(client.lost)


class NextUpstreamTests(StreamCase):
    async def test_on(self) -> None:
        """Who cannot be reached is passed over."""
        backend = await self.backend(greeting(b"here"))
        await self.proxy(dead_address(self), dead_address(self), backend)
        await (await self.client()).hears(b"here")
        self.assertEqual([server.failures for server in self.pool.servers], [1, 1, 0])

    async def test_backup(self) -> None:
        """When all primaries fail the backup serves."""
        backup = await self.backend(greeting(b"backup"))
        await self.proxy(dead_address(self), dead_address(self), ServerSpec(address=backup.address, backup=True))
        await (await self.client()).hears(b"backup")

    async def test_off(self) -> None:
        """With next_upstream off the first failure closes the client."""
        backend = await self.backend(greeting(b"here"))
        await self.proxy(dead_address(self), backend, next_upstream=False)
        client = await self.client()
        await until(lambda: client.lost)
        await self.over()
        self.assertEqual((bytes(client.heard), client.clean, self.records[0].status), (b"", True, 502))

    async def test_tries(self) -> None:
        """next_upstream_tries bounds how many servers are tried."""
        backend = await self.backend(greeting(b"here"))
        await self.proxy(dead_address(self), dead_address(self), backend, next_upstream_tries=2)
        client = await self.client()
        await until(lambda: client.lost)
        await self.over()
        self.assertEqual(len(self.records[0].tries), 2)


class EndTests(StreamCase):
    async def test_client_half_closes(self) -> None:
        """The client's end reaches the server, whose late answer reaches the client."""
        backend = await self.backend(half_close=True)
        await self.proxy(backend)
        client, server = await self.pair(backend, half_close=True)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await until(lambda: server.ended)
        self.assertEqual(bytes(server.heard), b"question")
        self.assertEqual((client.ended, client.lost), (False, None))
        server.transport.write(b"late answer")
        server.transport.loseConnection()
        await until(lambda: client.ended)
        self.assertEqual(bytes(client.heard), b"late answer")

    async def test_server_half_closes(self) -> None:
        """The server's end reaches the client, which may go on sending."""
        backend = await self.backend(half_close=True)
        await self.proxy(backend)
        client, server = await self.pair(backend, half_close=True)
        server.transport.write(b"that is all")
        server.transport.loseWriteConnection()
        await until(lambda: client.ended)
        client.transport.write(b"not for me")
        await server.hears(b"not for me")
        self.assertEqual(bytes(client.heard), b"that is all")

    async def test_two_half_closes(self) -> None:
        """Two half-closes are a close: no lease is left, and both sides end cleanly."""
        backend = await self.backend(half_close=True)
        await self.proxy(backend)
        for index in (0, 1):
            client = await self.client(half_close=True)
            server = await backend.peer(index)
            first, second = (client, server) if index else (server, client)
            first.transport.loseWriteConnection()
            await until(partial(getattr, second, "ended"))
            self.assertEqual(self.pool.servers[0].active, 1)
            second.transport.loseWriteConnection()
            await self.over()
            self.assertEqual(self.pool.servers[0].active, 0)
            self.assertEqual((client.ended, server.ended), (True, True))

    async def test_half_close_off(self) -> None:
        """With half_close off the end of one side flushes what it sent and closes both."""
        backend = await self.backend(half_close=True)
        await self.proxy(backend, half_close=False)
        client, server = await self.pair(backend, half_close=True)
        client.transport.write(sent := data(2))
        client.transport.loseWriteConnection()
        await until(lambda: client.ended and server.ended)
        self.assertEqual(digest(server.heard), digest(sent))
        await self.over()

    async def test_both_at_once(self) -> None:
        """Both directions at once, each ended by a half-close."""
        backend = await self.backend(half_close=True)
        await self.proxy(backend)
        client, server = await self.pair(backend, half_close=True)
        up, down = data(20), data(20)
        for side, sent in ((client, up), (server, down)):
            side.transport.write(sent)
            side.transport.loseWriteConnection()
        await until(lambda: client.ended and server.ended)
        self.assertEqual((digest(server.heard), digest(client.heard)), (digest(up), digest(down)))

    async def test_server_resets(self) -> None:
        """A reset by the server reaches the client as a reset, and is no failure of a server that was reached."""
        backend = await self.backend()
        await self.proxy(backend)
        client, server = await self.pair(backend)
        await until(lambda: self.records or self.session._server)
        server.transport.abortConnection()
        await until(lambda: client.lost)
        self.assertIs(client.lost, ConnectionLost)
        self.assertEqual(self.pool.servers[0].failures, 0)

    async def test_reset_after_the_end(self) -> None:
        """A server that has answered and closed, and is sent more, resets; its answer is not lost with that."""
        backend = await self.backend(send_and_close(sent := data(0.5)))
        await self.proxy(backend)
        client = await self.client(half_close=True)
        client.transport.pauseProducing()
        await until(lambda: len(self.connections) and self.session._server and self.session._server.ended)
        while self.session._server is not None:
            client.transport.write(b"too late")
            await round_trips()
        client.transport.write(b"not passed on")
        await round_trips()
        client.transport.resumeProducing()
        await until(lambda: client.ended or client.lost)
        self.assertEqual((client.lost, digest(client.heard)), (None, digest(sent)))
        client.transport.loseConnection()
        await self.over()

    async def test_exception(self) -> None:
        """Should something break inside pylb, the connection is closed and nothing is left of it."""
        backend = await self.backend(echo)
        await self.proxy(backend)
        client = await self.client()
        await until(lambda: len(self.connections) and self.session._server)
        self.session._server.transport.write = None
        client.transport.write(b"!")
        await self.over()
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.pool.servers[0].active, 0)


class IdleTests(StreamCase):
    async def setUp_pair(self, timeout: float = 10.0) -> tuple[Peer, Peer]:
        self.clock = Clock()
        backend = await self.backend(half_close=True)
        await self.proxy(backend, timeout=timeout, time=self.clock)
        client, server = await self.pair(backend, half_close=True)
        await until(lambda: self.session._server)
        return client, server

    async def test_closes(self) -> None:
        """When nothing has moved for `timeout` both sides are closed, cleanly."""
        client, server = await self.setUp_pair()
        self.clock.advance(9.9)
        await round_trips()
        self.assertEqual((client.ended, server.ended), (False, False))
        self.clock.advance(0.2)
        await until(lambda: client.ended and server.ended)
        await self.over()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.records[0].status, 200)

    async def test_either_side(self) -> None:
        """Bytes in either direction put the end off."""
        client, server = await self.setUp_pair()
        for sender, listener in ((client, server), (server, client)):
            self.clock.advance(9)
            sender.transport.write(b"!")
            await listener.hears(b"!")
        self.clock.advance(9)
        await round_trips()
        self.assertEqual((client.ended, server.ended), (False, False))

    async def test_other_timeout(self) -> None:
        """When another one is asked for, those that are connected have it when they are looked at next."""
        client, server = await self.setUp_pair()
        self.factory.use(replace(self.factory.spec, timeout=15.0), self.factory.upstream)
        self.clock.advance(14.9)
        await round_trips()
        self.assertEqual((client.ended, server.ended), (False, False))
        self.clock.advance(0.1)
        await self.over()

    async def test_half_closed(self) -> None:
        """A connection that is half closed is watched, too."""
        client, server = await self.setUp_pair()
        client.transport.loseWriteConnection()
        await until(lambda: server.ended)
        self.clock.advance(10)
        await self.over()
        self.assertEqual(self.pool.servers[0].active, 0)

    async def test_cut(self) -> None:
        """If the other end takes nothing, closing gets nowhere: after another `timeout` it is cut."""
        client, server = await self.setUp_pair()
        client.transport.pauseProducing()
        server.transport.write(data(64))
        await until(lambda: self.held > self.least)
        await self.settled()
        self.clock.advance(10)
        await round_trips()
        self.assertEqual(len(self.connections), 1)
        self.clock.advance(10)
        await self.over()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BackPressureTests(StreamCase):
    limit = 256 * 1024

    async def test_deaf_server(self) -> None:
        """A client that sends to a server that never reads is held up."""
        backend = await self.backend()
        await self.proxy(backend)
        client, server = await self.pair(backend)
        server.transport.pauseProducing()
        client.transport.write(data(64))
        await until(lambda: self.held > self.least)
        self.assertLessEqual(await self.settled(), self.limit // 2)

    async def test_deaf_client(self) -> None:
        """A server that sends to a client that never reads is held up."""
        backend = await self.backend()
        await self.proxy(backend)
        client, server = await self.pair(backend)
        client.transport.pauseProducing()
        server.transport.write(data(64))
        await until(lambda: len(self.connections) and self.held > self.least)
        self.assertLessEqual(await self.settled(), self.limit // 2)


class Pipe:
    """A transport that can do what ITransport, IConsumer and IPushProducer promise, and no more."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.closed = True

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def getPeer(self) -> PipeAddress:
        return PipeAddress()


class EndpointTests(StreamCase):
    async def test_limit_and_drain(self) -> None:
        """A connection counts while it lives; a drain lets it run, an abort cuts both sides."""
        backend = await self.backend(echo)
        await self.proxy(backend)
        client = await self.client()
        await until(lambda: len(self.connections) == 1)
        done = self.connections.drain()
        client.transport.write(b"still here")
        await client.hears(b"still here")
        self.assertNoResult(done)
        done.addCallback(lambda _: len(self.records))
        self.connections.abort()
        self.assertEqual(await done, 1, "the record is written before the drain is over")
        await until(lambda: client.lost and backend.peers[0].lost)
        self.assertEqual((client.clean, backend.peers[0].clean), (False, False))

    async def test_pipes(self) -> None:
        """The factory serves a transport that is no socket: it has neither half-close, nor reset, nor options."""
        backend = await self.backend(echo)
        protocol, transport = self.make_factory(backend).buildProtocol(None), Pipe()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"question")
        await until(lambda: transport.written == b"question")
        backend.peers[0].transport.abortConnection()
        await until(lambda: transport.closed)
        protocol.connectionLost(Failure(ConnectionDone()))

    async def test_other_reactors(self) -> None:
        """The same under the reactors `select` and `asyncio`."""
        for name in ("select", "asyncio"):
            command = ["-m", "twisted.trial", f"--reactor={name}", f"--temp-directory={os.path.abspath(self.mktemp())}"]
            test = "tests.proxy.test_tcp.ExchangeTests.test_small"
            out, err, code = await getProcessOutputAndValue(
                sys.executable, [*command, test], {**os.environ, "PYTHONPATH": ROOT}, ROOT
            )
            self.assertEqual(code, 0, (out + err).decode())
            self.assertIn(b"successes=1", out)
