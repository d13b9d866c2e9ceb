"""Requests that wait for a server."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from pylb.model import Queue, ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled


def asking(priority: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Priority: %d\r\n\r\n" % (priority, priority)


class WaitingTests(TestCase):
    timeout = 20

    def serve(self, answer=None, client_body_timeout=30.0, **queue) -> None:
        """A server that serves one request at a time."""
        self.backend = Backend(self, answer)
        spec = ServerSpec(address=self.backend.address, max_conns=1)
        pool = {"queue": Queue(**queue)}
        self.rig = Rig(self, servers=[spec], pool=pool, client_body_timeout=client_body_timeout)

    async def ask(self, data: bytes, waiting: int):
        """Ask, and be one of so many that wait then."""
        client = await self.rig.ask(data)
        await settled(lambda: len(self.rig.pool.queue) == waiting)
        return client

    async def turn(self) -> None:
        """The next turn of the proxy's clock."""
        await settled(lambda: any(not call.getTime() > self.rig.time.seconds() for call in self.calls()))
        self.rig.time.advance(0)

    def calls(self):
        return self.rig.time.getDelayedCalls()

    async def test_by_priority(self) -> None:
        """The lowest number first; what is written in the log is how long each waited."""
        self.serve(size=9, priority="$http_x_priority")
        clients = [await self.ask(GET, 0)]
        server, _ = await self.backend.request()
        clients += [await self.ask(asking(3 - number), number + 1) for number in range(3)]
        asked = []
        for number in range(4):
            self.rig.time.advance(1)
            server.send(HELLO)
            if number < 3:
                await self.turn()
                asked.append((await server.until(b"\r\n\r\n"))[:6])
        for client in clients:
            await client.until(b"hello")
        self.assertEqual(asked, [b"GET /1", b"GET /2", b"GET /3"])
        self.assertEqual([record.queue_time for record in self.rig.log.records], [None, 1.0, 2.0, 3.0])
        self.assertEqual((self.rig.log.statuses, self.rig.pool.refused), ([200] * 4, 0))

    async def test_with_a_body(self) -> None:
        """A body that comes meanwhile is kept, or slowed down, and arrives whole."""
        self.serve(size=9)
        first = await self.ask(GET, 0)
        server, _ = await self.backend.request()
        body = bytes(range(256)) * 4096
        second = await self.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 1)
        server.send(HELLO)
        await first.until(b"hello")
        await self.turn()
        peer, _ = await self.backend.request()
        await settled(lambda: len(peer.received) >= len(body))
        self.assertEqual(peer.received, body)
        peer.send(HELLO)
        await second.until(b"hello")

    async def test_too_many_and_too_long(self) -> None:
        """Both are 502, at once and after the queue's timeout; the connection is kept."""
        self.serve(size=1, timeout=30.0)
        await self.ask(GET, 0)
        await self.backend.request()
        second, third = await self.ask(GET, 1), await self.ask(GET, 1)
        self.assertIn(b"HTTP/1.1 502 ", await third.until(b"502 Bad Gateway\n"))
        self.assertEqual(second.received, b"")
        self.rig.time.advance(30)
        answer = await second.until(b"502 Bad Gateway\n")
        self.assertNotIn(b"Connection: close", answer)
        self.assertEqual((self.rig.pool.queue.overflows, self.rig.pool.queue.timeouts), (1, 1))
        self.assertEqual(self.rig.log.statuses, [502, 502])

    async def test_one_leaves(self) -> None:
        """Its place is free; the server hears nothing of it."""
        self.serve(size=1)
        first = await self.ask(GET, 0)
        server, _ = await self.backend.request()
        second = await self.ask(asking(2), 1)
        second.close()
        await settled(lambda: not self.rig.pool.queue)
        third = await self.ask(asking(3), 1)
        server.send(HELLO)
        await first.until(b"hello")
        await self.turn()
        self.assertEqual((await server.until(b"\r\n\r\n"))[:6], b"GET /3")
        server.send(HELLO)
        await third.until(b"hello")
        self.assertEqual(sorted(self.rig.log.statuses), [200, 200, 499])

    async def test_expect(self) -> None:
        """Who waits to be asked for a body has time, until there is a server that may ask; then it must come."""
        self.serve(client_body_timeout=5.0, size=1)
        first = await self.ask(GET, 0)
        server, _ = await self.backend.request()
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        second = await self.ask(post, 1)
        self.rig.time.advance(20)
        server.send(HELLO)
        await first.until(b"hello")
        await self.turn()
        peer, _ = await self.backend.request()
        self.rig.time.advance(4)
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertNotIn(b"408", await second.until(b"100 Continue\r\n\r\n"))
        self.rig.time.advance(6)
        self.assertIn(b"408", await second.until(b"\r\n\r\n"))

    async def test_all_out(self) -> None:
        """When the only server has failed, and checks say so, requests wait until it is back."""
        self.serve(HELLO, size=9)
        pool = self.rig.pool
        pool.checked(pool.servers[0], "unhealthy", "status 500")
        client = await self.ask(GET, 1)
        self.rig.time.advance(5)
        pool.checked(pool.servers[0], "passed", "status 200")
        await self.turn()
        await client.until(b"hello")
