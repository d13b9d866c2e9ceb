"""Connections that wait for a server, over real sockets."""

from __future__ import annotations

from pylb.model import Queue, ServerSpec
from tests.backends import echo, round_trips, until
from tests.proxy.streams import StreamCase


class WaitingTests(StreamCase):
    async def serve(self, size: int = 9, timeout: float = 60.0, **asked: object) -> None:
        """An echo that serves one client at a time, and another that is down."""
        backend = await self.backend(echo)
        busy = ServerSpec(address=backend.address, max_conns=1)
        down = ServerSpec(address=backend.address, down=True)
        await self.proxy(busy, down, pool={"queue": Queue(size=size, timeout=timeout)}, **asked)

    async def waiting(self, count: int) -> None:
        await until(lambda: len(self.pool.queue) == count)

    async def test_in_order(self) -> None:
        """Each gets its answer when the one before has left; what it said meanwhile is kept."""
        await self.serve()
        clients = []
        for number in range(3):
            client = await self.client()
            client.transport.write(b"client %d" % number)
            clients.append(client)
            await self.waiting(number)
            await until(lambda: len(self.connections) == len(clients))
        for number, client in enumerate(clients):
            await client.hears(b"client %d" % number)
            self.assertEqual([bool(later.heard) for later in clients[number + 1 :]], [False] * (2 - number))
            client.transport.loseConnection()
            await until(lambda client=client: client.lost)
        await self.over()
        self.assertEqual([record.status for record in self.records], [200] * 3)
        waited = [record.queue_time for record in self.records]
        self.assertEqual([seconds is not None for seconds in waited], [False, True, True])

    async def test_one_leaves(self) -> None:
        """Its place is free, and the log says that it left."""
        await self.serve(size=1)
        first = await self.client()
        await until(lambda: self.pool.servers[0].active)
        second = await self.client()
        await self.waiting(1)
        second.transport.abortConnection()
        await self.waiting(0)
        third = await self.client()
        third.transport.write(b"third")
        await self.waiting(1)
        first.transport.loseConnection()
        await third.hears(b"third")
        self.assertEqual([record.status for record in self.records][:1], [499])

    async def test_left_for_good(self) -> None:
        """Who ends without a word, where ends are not passed on, has left; who has said something is served still."""
        await self.serve(half_close=False)
        first = await self.client()
        await until(lambda: self.pool.servers[0].active)
        second, third = await self.client(half_close=True), await self.client(half_close=True)
        third.transport.write(b"third")
        await self.waiting(2)
        second.transport.loseConnection()
        third.transport.loseConnection()
        await self.waiting(1)
        first.transport.loseConnection()
        await until(lambda: len(self.records) == 3)
        self.assertEqual(sorted(record.status for record in self.records), [200, 200, 499])
        self.assertEqual(bytes(self.backends[0].peers[-1].heard), b"third")

    async def test_the_end(self) -> None:
        """Whoever waits when all is cut is gone at once, whatever was said, and no server hears of it."""
        await self.serve()
        await self.client()
        await until(lambda: self.pool.servers[0].active)
        for number in range(3):
            client = await self.client(half_close=True)
            client.transport.write(b"hello")
            if number == 1:
                client.transport.loseWriteConnection()
            elif number == 2:
                client.transport.loseConnection()
        await self.waiting(3)
        await round_trips()
        self.connections.abort()
        await until(lambda: not len(self.connections))
        self.assertEqual((len(self.pool.queue), len(self.backends[0].peers)), (0, 1))

    async def test_one_too_many(self) -> None:
        """It is closed at once, as if there were no queue."""
        await self.serve(size=1)
        await self.client()
        await until(lambda: self.pool.servers[0].active)
        await self.client()
        await self.waiting(1)
        third = await self.client()
        await until(lambda: third.lost)
        self.assertEqual([record.status for record in self.records], [502])
        self.assertEqual((self.pool.queue.overflows, self.pool.refused), (1, 1))

    async def test_too_long(self) -> None:
        await self.serve(timeout=0.05)
        await self.client()
        await until(lambda: self.pool.servers[0].active)
        second = await self.client()
        await until(lambda: second.lost)
        self.assertEqual([record.status for record in self.records], [502])
        self.assertEqual((self.pool.queue.timeouts, len(self.pool.queue)), (1, 0))
