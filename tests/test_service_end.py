"""pylb.service: names that are slow, limits that are reached, and the end."""

from __future__ import annotations

import socket
import threading
from functools import partial
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol

import pylb.pools
from pylb.model import (
    AccessLog,
    HttpListener,
    InetAddress,
    Route,
)
from pylb.proxy.resolve import Names
from pylb.service import LoadBalancer
from tests.backends import round_trips, until
from tests.served import ANY, Served, tcp, udp


class NamesTests(Served):
    """Names are looked up before clients are accepted; here the test answers."""

    def hanging(self, *listeners) -> LoadBalancer:
        self.answer = threading.Event()
        self.addCleanup(self.answer.set)
        self.where = self.backend()

        def lookup(name):
            self.answer.wait(10)
            return [self.where.host]

        self.patch(pylb.pools, "Names", partial(Names, lookup=lookup))
        return self.start(self.make(*listeners, server=InetAddress("app.test", self.where.port)))

    async def test_bound_at_once(self):
        """Clients connect at once and wait until every name has answered."""
        balancer = self.hanging(tcp())
        client = await self.client(balancer)
        client.transport.write(b"hello")
        await round_trips()
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
                await round_trips()
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
            await round_trips()
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
        await round_trips()
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
