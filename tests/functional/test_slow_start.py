"""Servers that come back under slow_start, or are taken out and in, over real sockets; the clock is the test's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from pylb.config import from_dict
from pylb.service import LoadBalancer
from tests.backends import Peer, until
from tests.functional.rig import Rig, ask_http, ask_tcp, ask_udp, free_port

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
