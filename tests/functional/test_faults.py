"""What goes wrong around the program, and what clients see of it."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.backends import dead_address
from tests.functional.rig import Rig, all_at_once, ask_http, ask_tcp, ask_udp, free_port


class SlowPage(Resource):
    """Takes long enough for a server to be killed meanwhile."""

    isLeaf = True

    def render(self, request):
        deferLater(reactor, 0.004, self._answer, request)
        return NOT_DONE_YET

    def _answer(self, request):
        if not request._disconnected:
            request.write(b"page")
            request.finish()


class Silent(DatagramProtocol):
    noisy = False


class KillTests(Rig):
    """A server is killed, and later brought back, while clients keep on asking."""

    CLIENTS = 6
    QUESTIONS = 100

    def pool(self, servers):
        return {"p": {"servers": [{"address": server.address, "fail_timeout": "100ms"} for server in servers]}}

    async def ask_while_killing(self, ask, servers) -> None:
        """Ask from several clients at once; as the answers come in, servers go and come."""
        answers = 0
        total = self.CLIENTS * self.QUESTIONS
        events = {
            total // 5: servers[0].kill,
            2 * total // 5: servers[0].start,
            3 * total // 5: servers[1].kill,
            4 * total // 5: servers[1].start,
        }

        async def client():
            nonlocal answers
            for _ in range(self.QUESTIONS):
                await ask()
                answers += 1
                if answers in events and (done := events[answers]()) is not None:
                    await done

        await all_at_once(client() for _ in range(self.CLIENTS))

    async def test_http(self):
        """Not one GET is lost, over connections that are kept."""
        servers = [self.server(lambda: Site(SlowPage())) for _ in range(3)]
        port = free_port()
        program = await self.pylb(
            pools=self.pool(servers),
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        kept = HTTPConnectionPool(reactor)
        kept.maxPersistentPerHost = self.CLIENTS
        kept.retryAutomatically = False
        self.addCleanup(kept.closeCachedConnections)
        agent = Agent(reactor, pool=kept)

        async def ask():
            self.assertEqual(await ask_http(port, agent=agent), (200, b"page"))

        await self.ask_while_killing(ask, servers)
        self.assertIn("is out for 0.1 s", program.said)
        await self.ends(program)

    async def test_tcp(self):
        """Whoever connects after a server is gone is served; only what it had in its hands can be lost."""
        servers = [self.tcp("server") for _ in range(3)]
        port = free_port()
        program = await self.pylb(
            pools=self.pool(servers),
            listeners={"echo": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        answers = []

        async def ask():
            answers.append(await ask_tcp(port))

        await self.ask_while_killing(ask, servers)
        self.assertEqual(len(answers), self.CLIENTS * self.QUESTIONS)
        self.assertLess(answers.count(b""), 2 * self.CLIENTS)
        self.assertEqual(set(answers) - {b""}, {b"server"})
        self.assertIn("is out for 0.1 s: Connection was refused", program.said)
        await self.ends(program)

    async def test_nobody_is_left(self):
        """One line when a pool refuses clients, one when it serves again; TCP closes, HTTP says 502."""
        server = self.http("web")
        web, echo = free_port(), free_port()
        program = await self.pylb(
            pools={"p": {"servers": [{"address": server.address, "fail_timeout": "100ms"}, str(dead_address(self))]}},
            listeners={
                "web": {"protocol": "http", "listen": f"127.0.0.1:{web}", "pool": "p"},
                "echo": {"protocol": "tcp", "listen": f"127.0.0.1:{echo}", "pool": "p"},
            },
        )
        await server.kill()
        for _ in range(5):
            self.assertEqual((await ask_http(web))[0], 502)
            self.assertEqual(await ask_tcp(echo), b"")
        server.start()
        while "pool p is usable again" not in program.said:
            await ask_http(web)
        self.assertEqual(await ask_http(web), (200, b"web"))
        await self.ends(program)
        news = re.findall(r"pool p (?:refuses|is usable).*", program.said)
        self.assertEqual(len(news), 2, news)
        self.assertRegex(news[0], r"^pool p refuses clients: no usable server: ")
        self.assertRegex(news[1], rf"^pool p is usable again \(\d+ refused since the start\): {server.address} serves$")


class FloodTests(Rig):
    async def test_udp_sources(self):
        """A flood of UDP sources neither stops TCP nor shuts out the next source; the sessions stay as many as they may."""
        server, silent, answering = self.tcp("server"), self.server(Silent), self.udp("server")
        tcp, flooded, udp = free_port(), free_port(), free_port()
        program = await self.pylb(
            pools={
                "p": {"servers": [server.address]},
                "silent": {"servers": [silent.address]},
                "answering": {"servers": [answering.address]},
            },
            listeners={
                "tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{tcp}", "pool": "p"},
                "flooded": {"protocol": "udp", "listen": f"127.0.0.1:{flooded}", "pool": "silent", "max_sessions": 50},
                "udp": {"protocol": "udp", "listen": f"127.0.0.1:{udp}", "pool": "answering", "max_sessions": 50},
            },
        )
        for _ in range(20):
            for port in (flooded, udp):
                self.flood(port, 50)
            self.assertEqual(await ask_tcp(tcp), b"server")
        self.assertEqual(await ask_udp(udp, b"?"), b"server ?")
        self.assertLess(len(list(Path(f"/proc/{program.pid}/fd").iterdir())), 100 + 40)
        await self.ends(program)

    def flood(self, port: int, sources: int) -> None:
        for _ in range(sources):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", ("127.0.0.1", port))


class DescriptorTests(Rig):
    async def test_few(self):
        """With hardly any descriptors clients wait for each other, and each is served."""
        server = self.server(lambda: Site(SlowPage()))
        port = free_port()
        program = await self.pylb(
            prelude="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))\n",
            pools={"p": {"servers": [server.address], "keepalive": {"connections": 2}}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        self.assertIn("room for 10 connections", program.said)
        answers = await all_at_once(ask_http(port) for _ in range(100))
        self.assertEqual(set(answers), {(200, b"page")})
        await self.ends(program)


class DiskTests(Rig):
    async def test_full(self):
        """A full disk under the access log stops no traffic, and is told once."""
        server = self.tcp("server")
        port = free_port()
        program = await self.pylb(
            access_log={"path": "/dev/full"},
            pools={"p": {"servers": [server.address]}},
            listeners={"tcp": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        answers = []
        while "No space left on device" not in program.said:
            answers.append(await ask_tcp(port))
        answers += [await ask_tcp(port) for _ in range(20)]
        self.assertEqual(set(answers), {b"server"})
        await self.ends(program)
        self.assertEqual(program.said.count("No space left on device"), 1)
