"""Those who wait for a server, at the real program."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.backends import until
from tests.functional.rig import Rig, all_at_once, ask_http, free_port

#: Seconds that a server thinks.
THINKS = 0.01


class Thinker(Resource):
    """Answers after a while, and knows the most that it ever had to do at once."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        #: Whether it thinks for as long as this is so.
        self.ponders = False

    def render_GET(self, request: Any) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        reactor.callLater(THINKS, self._answer, request)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> None:
        if self.ponders:
            reactor.callLater(THINKS, self._answer, request)
            return
        self.now -= 1
        request.write(b"thought")
        request.finish()


class WaitingTests(Rig):
    async def serve(self, workers: int = 1, size: int = 100) -> None:
        """A server that takes one request at a time."""
        self.thinker = Thinker()
        server = self.server(lambda: Site(self.thinker))
        self.port = free_port()
        self.program = await self.pylb(
            workers=workers,
            access_log={"path": "-", "format": "status $status waited $upstream_queue_time."},
            pools={"p": {"servers": [{"address": server.address, "max_conns": 1}], "queue": {"size": size}}},
            listeners={"web": {"protocol": "http", "listen": f"127.0.0.1:{self.port}", "pool": "p"}},
        )

    async def ask(self, count: int) -> None:
        answers = await all_at_once(ask_http(self.port) for _ in range(count))
        self.assertEqual(answers, [(200, b"thought")] * count)

    async def test_one_after_the_other(self) -> None:
        """All are answered, and the server never has more than it takes."""
        await self.serve()
        await self.ask(30)
        self.assertEqual(self.thinker.most, 1)
        await self.ends(self.program)
        self.assertEqual(self.program.said.count("status 200 waited "), 30, self.program.said)
        self.assertIn("waited -.", self.program.said)
        self.assertIn("waited 0.", self.program.said)

    async def test_workers(self) -> None:
        """Each has a queue of its own, and sees soon when another one has left room; by one too many, for an instant."""
        await self.serve(workers=2)
        await self.ask(30)
        self.assertLessEqual(self.thinker.most, 2)
        await self.ends(self.program)

    async def test_the_end(self) -> None:
        """Who waits when pylb is told to stop is served; who found the queue full was not."""
        await self.serve(size=9)
        self.thinker.ponders = True
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await ask_http(self.port))[0])

        asking = all_at_once(ask() for _ in range(30))
        await until(lambda: len(statuses) == 20)
        self.program.signal(signal.SIGTERM)
        await self.program.says("SIGTERM: stopping")
        self.thinker.ponders = False
        await asking
        self.assertEqual(statuses, [502] * 20 + [200] * 10)
        self.assertEqual(await self.program.ended(), 0)
