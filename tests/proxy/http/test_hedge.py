"""A second server is asked when the first one takes too long."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from pylb.model import Balance, Queue, ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns

BYE = HELLO.replace(b"hello", b"goodbye").replace(b"5", b"7")
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
DELAY = 0.25


def put(body: bytes) -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class HedgeCase(TestCase):
    timeout = 20

    def serve(
        self,
        *servers: Backend | ServerSpec,
        hedge: float = DELAY,
        pool: dict | None = None,
        max_fails: int = 1,
        **options,
    ) -> None:
        specs = [ServerSpec(address=s.address, max_fails=max_fails) if isinstance(s, Backend) else s for s in servers]
        self.rig = Rig(self, servers=specs, pool={"hedge": hedge, **(pool or {})}, **options)
        self.pool = self.rig.pool

    async def both(self, request: bytes = GET, **options):
        """A client, and two servers that have its request."""
        self.slow, self.other = Backend(self), Backend(self)
        self.serve(self.slow, self.other, **options)
        client = await self.rig.ask(request)
        first, _ = await self.slow.request()
        self.rig.time.advance(DELAY)
        second, _ = await self.other.request()
        return client, first, second

    def outcome(self) -> tuple:
        """The status of the answer, and of each try; there must be no trace of anything that goes on."""
        (record,) = self.rig.log.records
        self.assertEqual((self.pool.retries, self.pool.pending), (0, 0))
        self.assertEqual(sum(server.active for server in self.pool.servers), 0)
        return (record.status, *(attempt.status for attempt in record.tries))

    @property
    def failures(self) -> list[int]:
        return [server.failures for server in self.pool.servers]


class HedgeTests(HedgeCase):
    async def test_second_wins(self) -> None:
        """Its answer is passed on, the first one's connection ends, and nobody is blamed."""
        client, first, second = await self.both()
        second.send(BYE)
        await client.until(b"goodbye")
        await first.lost
        self.assertEqual((self.outcome(), self.failures), ((200, None, 200), [0, 0]))

    async def test_first_wins(self) -> None:
        client, first, second = await self.both()
        first.send(HELLO)
        await client.until(b"hello")
        await second.lost
        self.assertEqual((self.outcome(), self.failures), ((200, 200, None), [0, 0]))

    async def test_in_time(self) -> None:
        """Who answers within the delay is the only one that is asked."""
        slow, other = Backend(self), Backend(self)
        self.serve(slow, other)
        client = await self.rig.ask(GET)
        server, _ = await slow.request()
        self.rig.time.advance(DELAY - 0.01)
        server.send(HELLO[:-2])
        await client.until(b"hel")
        self.rig.time.advance(DELAY)
        server.send(b"lo")
        await client.until(b"lo")
        self.assertEqual((self.outcome(), other.peers), ((200, 200), []))

    async def test_connections_are_kept(self) -> None:
        """The winner's is used for the next request, and the log is that of one request."""
        client, _, second = await self.both()
        second.send(BYE)
        await client.until(b"goodbye")
        self.slow.answer = self.other.answer = lambda head: HELLO
        for peer in (*self.slow.peers, *self.other.peers):
            peer.at_request = lambda head: HELLO
        for _ in range(2):
            client.send(GET)
            await client.until(b"hello")
        self.assertEqual(len(self.other.peers), 1)
        self.assertEqual([len(record.tries) for record in self.rig.log.records], [2, 1, 1])

    async def test_long_answer(self) -> None:
        """All of it comes from the one that has won, in pieces, however slowly the client reads."""
        client, _, second = await self.both()
        body = bytes(range(256)) * 20_000
        second.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        await client.until(body[:10])
        client.transport.pauseProducing()
        second.send(body[10:])
        await turns(50)
        client.transport.resumeProducing()
        await settled(lambda: len(client.received) == len(body) - 10)
        self.assertEqual(client.received, body[10:])
        await settled(lambda: self.rig.log.records)
        self.assertEqual(self.outcome(), (200, None, 200))

    async def test_late_body(self) -> None:
        """A body that ends after the delay has its turn after another one."""
        slow, other = Backend(self), Backend(self)
        self.serve(slow, other)
        client = await self.rig.ask(put(b"xy")[:-1])
        server, _ = await slow.request()
        self.rig.time.advance(DELAY)
        client.send(b"y")
        await server.until(b"xy")
        self.rig.time.advance(DELAY)
        second, _ = await other.request()
        await second.until(b"xy")
        second.send(BYE)
        await client.until(b"goodbye")
        self.assertEqual(self.outcome(), (200, None, 200))

    async def test_allowed_later(self) -> None:
        """So it is when it is not allowed at first."""
        slow, other = Backend(self), Backend(self, BYE)
        self.serve(slow, other, pool={"max_retries": 1})
        self.pool.retries += 1
        client = await self.rig.ask(GET)
        await slow.request()
        self.rig.time.advance(DELAY)
        await turns(20)
        self.assertEqual(other.peers, [])
        self.pool.retries -= 1
        self.rig.time.advance(DELAY)
        await client.until(b"goodbye")

    async def test_with_a_body(self) -> None:
        """One that has come whole is sent to both."""
        self.slow, self.other = Backend(self), Backend(self)
        self.serve(self.slow, self.other)
        client = await self.rig.ask(put(b"x" * 50_000)[:-1])
        first, _ = await self.slow.request()
        self.rig.time.advance(DELAY)
        await turns(10)
        self.assertEqual(self.other.peers, [])
        self.rig.time.advance(DELAY)
        client.send(b"x")
        await settled(lambda: len(first.received) == 50_000)
        first.close()
        second, _ = await self.other.request()
        await settled(lambda: len(second.received) == 50_000)
        self.rig.time.advance(DELAY)
        second.send(HELLO)
        await client.until(b"hello")

    async def test_whole_body(self) -> None:
        client, first, second = await self.both(put(b"x" * 50_000))
        await settled(lambda: len(first.received) == len(second.received) == 50_000)
        second.send(BYE)
        await client.until(b"goodbye")
        self.assertEqual(self.outcome(), (200, None, 200))

    async def test_confirmed_body(self) -> None:
        """A server that said that it wants the body, and has answered, is kept."""
        request = put(b"x").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        client, _, second = await self.both(request)
        second.send(b"HTTP/1.1 100 Continue\r\n\r\n" + BYE)
        await client.until(b"goodbye")
        self.assertEqual((self.outcome(), len(self.rig.idle)), ((200, None, 200), 1))

    async def test_not_twice(self) -> None:
        """What must not be sent twice is not."""
        websocket = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
        for request in (GET.replace(b"GET", b"POST"), websocket):
            slow, other = Backend(self), Backend(self)
            self.serve(slow, other, next_upstream=frozenset({"error", "non_idempotent"}))
            client = await self.rig.ask(request)
            server, _ = await slow.request()
            self.rig.time.advance(DELAY)
            server.send(HELLO)
            await client.until(b"hello")
            self.assertEqual(other.peers, [])

    async def test_heard_of(self) -> None:
        """Once the client has heard of a server nobody else is asked, or any more."""
        slow, other = Backend(self), Backend(self)
        self.serve(slow, other)
        client = await self.rig.ask(GET)
        server, _ = await slow.request()
        server.send(EARLY_HINTS)
        await client.until(b"Early Hints")
        self.rig.time.advance(DELAY)
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(other.peers, [])
        client, first, second = await self.both()
        first.send(EARLY_HINTS)
        await client.until(b"Early Hints")
        await second.lost
        first.send(HELLO)
        await client.until(b"hello")

    async def test_hints_of_the_second(self) -> None:
        """They are for nobody: it has not won yet."""
        client, first, second = await self.both()
        second.send(EARLY_HINTS)
        await settled(lambda: self.rig.connections._live)
        first.send(HELLO)
        self.assertNotIn(b"103", await client.until(b"hello"))

    async def test_off(self) -> None:
        slow, other = Backend(self), Backend(self)
        self.serve(slow, other, hedge=0.0)
        client = await self.rig.ask(GET)
        server, _ = await slow.request()
        self.rig.time.advance(30)
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual(other.peers, [])

    async def test_nobody_else(self) -> None:
        """Without another server, or more tries, time or retries, or while somebody waits, the first one has its time."""
        queue = {"queue": Queue(size=1)}
        limits = ({"tries": 1}, {"next_upstream_timeout": DELAY / 2}, {"pool": {"max_retries": 1}}, {"pool": queue})
        for asked in (*limits, {"alone": True}):
            slow, other = Backend(self), Backend(self)
            servers = [slow] if asked.pop("alone", False) else [slow, other]
            self.serve(*servers, **asked)
            self.pool.retries += 1
            client = await self.rig.ask(GET)
            server, _ = await slow.request()
            if self.pool.queue is not None:
                self.pool.queue.changed = None
                self.pool.queue.join(client, 0.0)
            self.rig.time.advance(DELAY)
            server.send(HELLO)
            await client.until(b"hello")
            self.assertEqual(other.peers, [], asked)

    async def test_client_leaves(self) -> None:
        """Both servers are left."""
        client, first, second = await self.both()
        client.close()
        await first.lost
        await second.lost
        self.assertEqual((self.outcome(), self.failures), ((499, None, None), [0, 0]))

    async def test_measured(self) -> None:
        """A server that has lost is known to have taken longer than that, so that the quicker one is chosen."""
        balance = Balance(method="least_time", metric="header")
        client, first, second = await self.both(pool={"balance": balance})
        second.send(BYE)
        await client.until(b"goodbye")
        for peer in (first, second):
            peer.at_request = None
        for _ in range(3):
            client.send(GET)
            await second.until(b"\r\n\r\n")
            second.send(BYE)
            await client.until(b"goodbye")
