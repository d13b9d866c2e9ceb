"""Several workers before the same servers: what one of them knows all of them know."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from tests.backends import Peer, until
from tests.functional.rig import ask_http, free_port
from tests.functional.test_workers import MANY, WorkersRig


def names_itself(name: bytes, peer: Peer, data: bytes) -> None:
    """Answer with one's name."""
    if data:
        peer.transport.write(name)


class ScoreboardTests(WorkersRig):
    def named(self, name: bytes, **more: Any) -> dict[str, Any]:
        """A server that says who it is."""
        port = self.server(lambda: Factory.forProtocol(partial(Peer, partial(names_itself, name))))
        return {"address": port.address, **more}

    async def served_by(self, port: int) -> tuple[Peer, bytes]:
        """A client that stays, and its server."""
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Peer())
        self.addCleanup(until, lambda: client.lost)
        self.addCleanup(client.transport.abortConnection)
        client.transport.write(b"who?")
        await until(lambda: client.heard)
        return client, bytes(client.heard)

    async def test_max_conns(self) -> None:
        """Workers fill a server together; the connections of one that has died count no more."""
        port = free_port()
        program = await self.pylb(
            workers=2,
            shutdown_timeout="100ms",
            pools={"p": {"balance": "first", "servers": [self.named(b"a", max_conns=7), self.named(b"b")]}},
            listeners={"l": {"protocol": "tcp", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        clients = [await self.served_by(port) for _ in range(MANY)]
        self.assertEqual([name for _, name in clients].count(b"a"), 7)
        await self.dies(program, 1)
        await until(lambda: any(client.lost for client, _ in clients))
        clients += [await self.served_by(port) for _ in range(MANY)]
        self.assertEqual([name for client, name in clients if not client.lost].count(b"a"), 7)
        await self.end_all(program)

    async def test_ejected(self) -> None:
        """A server that has failed at one worker is not asked by another, and the log says so once."""
        port = free_port()
        program = await self.pylb(
            workers=2,
            access_log={"path": "-", "format": "tried $upstream_addr."},
            pools={"p": {"servers": [f"127.0.0.1:{free_port()}", self.http("page").address]}},
            listeners={"l": {"protocol": "http", "listen": f"127.0.0.1:{port}", "pool": "p"}},
        )
        for _ in range(MANY):
            self.assertEqual(await ask_http(port), (200, b"page"))
            # Longer than a worker may not know it.
            await deferLater(reactor, 0.025)
        await self.end_all(program)
        tries = re.findall(r"(?m)^tried (.*)\.$", program.said)
        self.assertEqual((len(tries), sum("," in tried for tried in tries)), (MANY, 1))
        self.assertEqual(program.said.count("is out for 10 s"), 1)
