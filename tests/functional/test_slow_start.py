"""Servers that come back under slow_start, or are taken out and in, over real sockets; the clock is the test's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count, takewhile

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from pylb.balance.health import Change
from pylb.config import from_dict
from pylb.service import LoadBalancer
from tests.backends import Peer, until
from tests.functional.faulty import Faulty, Plan
from tests.functional.rig import Rig, ask_http, ask_tcp, ask_udp, free_port
from tests.functional.turning import TurningRig

QUESTION = b"GET / HTTP/1.0\r\n\r\n"


class SwitchingTests(Rig):
    """Two servers that speak HTTP and, at the same port, UDP; a listener for each protocol, and one pool."""

    async def serve(self, **said: object) -> None:
        """pylb in this process; `said` is what the configuration says of the second server."""
        self.passed = 0.0
        self.servers = {name: self.http(name) for name in ("one", "two")}
        for name, server in self.servers.items():
            self.udp(name, server.number)
        one, two = (server.address for server in self.servers.values())
        listeners: dict[str, dict[str, object]] = {name: {"protocol": name} for name in ("tcp", "http", "udp")}
        listeners["udp"]["responses"] = 1
        pool = {"servers": [{"address": one, "max_fails": 0}, {"address": two, **said}]}
        config = from_dict(
            {
                "pools": {"p": pool},
                "listeners": {
                    name: {"listen": f"127.0.0.1:{free_port()}", "pool": "p", **keys}
                    for name, keys in listeners.items()
                },
            }
        )
        self.balancer = LoadBalancer(config, clock=lambda: time.monotonic() + self.passed)
        self.balancer.startService()
        self.addCleanup(self.balancer.stopService)
        await self.balancer.ready
        self.pool = self.balancer.pools["p"]

    def port(self, protocol: str) -> int:
        return self.balancer.addresses(protocol)[0].port

    async def shares(self, count: int, protocol: str) -> Counter[str]:
        """Who answers `count` clients, one after the other."""
        ask: Callable[[], Awaitable[bytes]] = {
            "tcp": lambda: ask_tcp(self.port("tcp"), QUESTION),
            "udp": lambda: ask_udp(self.port("udp"), b"?"),
            "http": lambda: self.body(),
        }[protocol]
        answers = [(await ask()).decode() for _ in range(count)]
        return Counter(word for answer in answers for word in ("one", "two") if word in answer)

    async def body(self) -> bytes:
        return (await ask_http(self.port("http")))[1]

    async def test_slow_start(self) -> None:
        """A server that comes back has a third of the traffic when it has half of its weight, whatever the protocol."""
        for protocol in ("tcp", "http", "udp"):
            await self.serve(slow_start="1000s")
            await self.servers["two"].kill()
            await self.shares(2, "tcp")
            self.assertTrue(self.pool.servers[1].health.ejected)
            self.servers["two"].start()
            self.passed += 11.0
            await self.shares(2, "http")
            self.passed += 500.0
            self.assertEqual(await self.shares(30, protocol), {"one": 20, "two": 10}, protocol)

    async def test_drain(self) -> None:
        """A server that drains gets nobody new, and a connection that it has goes on."""
        await self.serve()
        clients = []
        for _ in range(2):
            clients.append(await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port("tcp")), Peer()))
            clients[-1].transport.write(QUESTION[:5])
        await until(lambda: self.pool.servers[1].active)
        self.pool.switch(self.pool.servers[1], "drain")
        for protocol in ("tcp", "http", "udp"):
            self.assertEqual(await self.shares(3, protocol), {"one": 3}, protocol)
        for client in clients:
            client.transport.write(QUESTION[5:])
        await until(lambda: all(client.lost for client in clients))
        heard = {bytes(client.heard).split()[-1] for client in clients}
        self.assertEqual(heard, {b"one", b"two"})

    async def test_down(self) -> None:
        """In the configuration, and switched on again later."""
        await self.serve(down=True)
        down = await self.shares(4, "http")
        self.pool.switch(self.pool.servers[1], "up")
        self.assertEqual((down, await self.shares(4, "http")), ({"one": 4}, {"one": 2, "two": 2}))


class RecoveryTests(TurningRig):
    """Three servers, one of which was gone."""

    STEP = 0.01
    CLIENTS = 8

    async def recover(self, balance: str) -> None:
        """All are there, and one has just been let in again."""
        self.servers = [Faulty(self.time, Plan(0, 0)) for _ in range(3)]
        for server in self.servers:
            self.addCleanup(server.stop)
        spec = {"slow_start": "10s", "fail_timeout": "100ms"}
        await self.begin([{"address": server.address, **spec} for server in self.servers], {}, balance=balance)
        back = self.servers[1]
        changes = self.news.changes[back.address]
        back.fall()
        await self.ask_while(lambda: Change.EJECTED not in changes)
        back.rise()
        await self.ask_while(lambda: Change.RECOVERED not in changes)

    async def ask_while(self, lasts: Callable[[], bool]) -> list[int]:
        """How many requests each server has got meanwhile."""
        for server in self.servers:
            server.executed.clear()
        request = b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n"
        answers = await self.ask((number, (request,)) for number in takewhile(lambda _: lasts(), count()))
        self.assertEqual({answer.status for answer in answers.values()}, {200})
        return [len(server.executed) for server in self.servers]

    async def test_first_second(self) -> None:
        """In its first second it gets something, and at most a fifth of what the others do; in the end as much as they."""
        for balance in ("round_robin", "least_conn", "random"):
            await self.recover(balance)
            over = self.time.seconds() + 1.0
            served = await self.ask_while(lambda over=over: self.time.seconds() < over)
            self.assertTrue(0 < served[1] <= sum(served) / 3 / 5, (balance, served))
            self.time.advance(10.0)
            over = self.time.seconds() + 1.0
            served = await self.ask_while(lambda over=over: self.time.seconds() < over)
            self.assertGreater(served[1], sum(served) / 4, (balance, served))
            await self.end()
