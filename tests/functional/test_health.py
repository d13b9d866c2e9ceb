"""The real program checks servers that go down, hang, answer wrongly, flap, and return."""

from __future__ import annotations

import os
import re
import signal

from twisted.internet import reactor
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.backends import dead_address, until
from tests.functional.checked import CheckedRig
from tests.functional.rig import all_at_once, ask_http, free_port

INTERVAL = "50ms"


class Moody(Resource):
    """A server that says how it is at /health; `mood` is fine, wrong or hanging, for checks and clients alike."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.mood = "fine"
        self.checks = 0
        #: What clients got while it was not fine.
        self.spoilt = 0

    def render(self, request):
        check = request.path == b"/health"
        self.checks += check
        if self.mood == "hanging" and check:
            return NOT_DONE_YET
        if self.mood == "wrong":
            self.spoilt += not check
            request.setResponseCode(503)
        return self.mood.encode()


class Silent(ClientFactory):
    """A client that connects and waits."""

    noisy = False
    protocol = Protocol


class HealthTestCase(CheckedRig):
    WORKERS = 1

    async def begin(self, count: int = 3, **check):
        """pylb in front of moody servers."""
        self.moods = [Moody() for _ in range(count)]
        self.servers = [self.server(lambda mood=mood: Site(mood)) for mood in self.moods]
        self.port = free_port()
        health_check = {"type": "http", "uri": "/health", "interval": INTERVAL, "timeout": "2s", **check}
        self.program = await self.pylb(
            workers=self.WORKERS,
            pools={"p": {"servers": [server.address for server in self.servers], "health_check": health_check}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{self.port}", "pool": "p"}},
        )

    async def clients(self, count: int = 60) -> None:
        """Several at once, every one of whom is served well."""
        answers = await all_at_once(ask_http(self.port) for _ in range(count))
        self.assertEqual(set(answers), {(200, b"fine")})


class HealthTests(HealthTestCase):
    async def test_every_trouble(self):
        """Down, hanging, wrong, and back: no client notices while one server is fine, and each change is told once."""
        await self.begin()
        first, second, third = self.servers
        self.moods[0].mood = "hanging"
        await self.changed(first, "unhealthy")
        await self.clients()
        self.moods[1].mood = "wrong"
        await self.changed(second, "unhealthy")
        await self.clients()
        for mood in self.moods[:2]:
            mood.mood = "fine"
        await self.changed(first, "unhealthy", "healthy")
        await self.changed(second, "unhealthy", "healthy")
        await third.kill()
        await self.changed(third, "unhealthy")
        await self.clients()
        third.start()
        await self.changed(third, "unhealthy", "healthy")
        await self.clients()
        self.assertEqual(sum(mood.spoilt for mood in self.moods), 0)
        for reason in ("no answer within 2 s", "status 503", "Connection was refused by other side"):
            self.assertIn(f"is unhealthy: {reason}", self.program.said)
        await self.ends(self.program)
        self.assertEqual([len(self.changes(server)) for server in self.servers], [2, 2, 2])

    async def test_flaps(self):
        """A server that is wrong every other 0.3 s is taken out and let in at most once in each, whatever the interval."""
        await self.begin(interval="20ms", fails=2, passes=2)
        flaps = 0

        def flap():
            nonlocal flaps
            flaps += 1
            self.moods[0].mood = "wrong" if flaps % 2 else "fine"

        flapping = LoopingCall(flap)
        flapping.start(0.3)
        while flaps < 8:
            # Between a flap and its finding a client may come to the server: checks do not see into the future.
            self.assertIn((await ask_http(self.port))[0], (200, 503))
        flapping.stop()
        self.moods[0].mood = "fine"
        await until(lambda: self.changes(self.servers[0])[-1] == "healthy")
        await self.ends(self.program)
        changes = self.changes(self.servers[0])
        self.assertLessEqual(len(changes), flaps + 1)
        self.assertEqual(changes, ["unhealthy", "healthy"] * (len(changes) // 2))
        self.assertEqual([self.changes(server) for server in self.servers[1:]], [[], []])

    async def test_faster_than_its_threshold(self):
        """One that is never wrong often enough in a row changes nothing."""
        await self.begin(count=2, interval="20ms", fails=3)
        mood = self.moods[0]
        render = mood.render

        def every_other(request):
            mood.mood = "wrong" if mood.checks % 2 and request.path == b"/health" else "fine"
            return render(request)

        mood.render = every_other
        await until(lambda: mood.checks > 20)
        await self.clients()
        self.assertEqual(self.changes(self.servers[0]), [])
        await self.ends(self.program)

    async def test_mandatory(self):
        """Nobody is sent to a server before it has passed."""
        await self.begin(count=2, mandatory=True, interval="5s")
        await self.changed(self.servers[0], "healthy")
        await self.changed(self.servers[1], "healthy")
        self.assertEqual([mood.checks for mood in self.moods], [1, 1])
        await self.clients()
        await self.ends(self.program)

    async def test_nobody_is_left(self):
        """When all are unhealthy clients hear 502 at once; and no more when one is back."""
        await self.begin(count=2)
        for mood in self.moods:
            mood.mood = "wrong"
        for server in self.servers:
            await self.changed(server, "unhealthy")
        self.assertEqual((await ask_http(self.port))[0], 502)
        self.moods[0].mood = "fine"
        await self.changed(self.servers[0], "unhealthy", "healthy")
        await self.clients()
        await self.ends(self.program)

    async def test_programs(self):
        """exec checks run under twistd, whose reactor hears of their ends; nothing is left of them."""
        server = self.http("web")
        flag = self.folder / "bad"
        port = free_port()
        command = ["sh", "-c", f"! test -e {flag} || {{ echo flagged; exit 3; }}"]
        check = {"type": "exec", "interval": INTERVAL, "command": command}
        self.program = await self.pylb(
            pools={"p": {"servers": [server.address], "health_check": check}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        flag.touch()
        await self.changed(server, "unhealthy")
        self.assertIn("is unhealthy: exit status 3: flagged\n", self.program.said)
        flag.unlink()
        await self.changed(server, "unhealthy", "healthy")
        await self.ends(self.program)

    async def test_few_descriptors(self):
        """When clients take all they can get there is a socket for each check still."""
        mood = Moody()
        server, dead = self.server(lambda: Site(mood)), dead_address(self)
        port = free_port()
        self.program = await self.pylb(
            prelude="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n",
            pools={
                "p": {"servers": [server.address], "keepalive": {"connections": 1}},
                "checked": {
                    "servers": [server.address, str(dead)],
                    "health_check": [
                        {"type": "http", "uri": "/health", "interval": INTERVAL, "keepalive_time": "1m"},
                        {"type": "tcp", "interval": INTERVAL},
                    ],
                },
            },
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        clients = [reactor.connectTCP("127.0.0.1", port, Silent()) for _ in range(60)]
        self.addCleanup(lambda: [client.disconnect() for client in clients])
        room = int(re.search(r"room for (\d+) connections", self.program.said)[1])
        self.assertLess(room, 60)
        await until(lambda: len([client for client in clients if client.state == "connected"]) >= room)
        before = mood.checks
        await until(lambda: mood.checks > before + 5)
        self.assertEqual(self.changes(server), [])
        self.assertNotIn("Too many open files", self.program.said)
        for client in clients:
            client.disconnect()
        await self.ends(self.program)


class WorkersTests(HealthTestCase):
    """Several processes: one checks, and all know."""

    WORKERS = 2

    async def test_all_know(self):
        """Whatever is found holds in all workers, and is logged once."""
        await self.begin(mandatory=True)
        for server in self.servers:
            await self.changed(server, "healthy")
        for mood in self.moods[:2]:
            mood.mood = "wrong"
        for server in self.servers[:2]:
            await self.changed(server, "healthy", "unhealthy")
        spoilt = [mood.spoilt for mood in self.moods]
        await self.clients()
        self.assertEqual([mood.spoilt for mood in self.moods], spoilt)
        await self.ends(self.program)

    async def test_successor(self):
        """A worker that is started later knows what was found before; each server was asked once, for all."""
        await self.begin(mandatory=True, interval="1h")
        for server in self.servers:
            await self.changed(server, "healthy")
        number, pid = re.search(r"worker (\d) serves, process (\d+)", self.program.said).groups()
        os.kill(int(pid), signal.SIGKILL)
        await until(lambda: len(re.findall(rf"worker {number} serves", self.program.said)) == 2)
        await self.clients()
        self.assertEqual([mood.checks for mood in self.moods], [1, 1, 1])
        await self.ends(self.program)
