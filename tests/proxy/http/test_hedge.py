"""A second server is asked when the first one takes too long."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from pylb.model import Balance, Queue, ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled, turns
from tests.proxy.streams import deaf_address

BYE = HELLO.replace(b"hello", b"goodbye").replace(b"5", b"7")
UNAVAILABLE = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
DELAY = 0.25


def put(body: bytes) -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Held:
    """A network in which connections are made when they are let go."""

    def __init__(self) -> None:
        self.holds = False
        self._held: list[tuple] = []
        self.listenTCP, self.listenUNIX, self.connectUNIX = reactor.listenTCP, reactor.listenUNIX, reactor.connectUNIX

    def connectTCP(self, *where, **how) -> object:
        if not self.holds:
            return reactor.connectTCP(*where, **how)
        self._held.append((where, how))
        return self

    def let_go(self) -> None:
        for where, how in self._held:
            reactor.connectTCP(*where, **how)


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


class TroubleTests(HedgeCase):
    """One of the two is no good."""

    async def test_first_fails(self) -> None:
        """The request goes on with the second one, and nobody else is asked."""
        for trouble in ("close", "reset", "rubbish", "late"):
            client, first, second = await self.both(read_timeout=1.0)
            if trouble == "rubbish":
                first.send(b"rubbish\r\n\r\n")
            elif trouble == "late":
                second.send(b"HTTP/1.1 200 ")
                await turns(20)
                self.rig.time.advance(0.8)
            else:
                getattr(first, trouble)()
            await first.lost
            second.send(BYE[13:] if trouble == "late" else BYE)
            await client.until(b"goodbye")
            status = 504 if trouble == "late" else 502
            self.assertEqual((self.outcome(), self.failures), ((200, status, 200), [1, 0]), trouble)

    async def test_first_is_turned_down(self) -> None:
        client, first, second = await self.both(next_upstream=frozenset({"http_503"}))
        first.send(UNAVAILABLE)
        await first.lost
        second.send(BYE)
        await client.until(b"goodbye")
        self.assertEqual((self.outcome(), self.failures), ((200, 503, 200), [1, 0]))

    async def test_no_retries(self) -> None:
        """The two are the request's, also where failures are not tried elsewhere."""
        client, first, second = await self.both(next_upstream=frozenset())
        first.close()
        await turns(20)
        second.send(BYE)
        await client.until(b"goodbye")
        self.assertEqual(self.outcome(), (200, 502, 200))

    async def test_black_hole(self) -> None:
        """A server that takes requests and gives nobody an answer fails when as much time has passed as one would wait."""
        black, good = Backend(self), Backend(self, HELLO)
        self.serve(black, good, read_timeout=2.0)
        client = await self.rig.connect()
        for _ in range(20):
            client.send(GET)
            asked = client.until(b"hello")
            while not asked.called:
                self.rig.time.advance(DELAY / 2)
                await turns(5)
        self.assertEqual(self.failures, [1, 0])
        self.assertLess(len(black.peers), 12)
        self.assertEqual(self.rig.log.statuses, [200] * 20)

    async def test_no_host(self) -> None:
        """One that takes no connections fails when as much time has passed as it has to take one."""
        good = Backend(self, HELLO)
        self.serve(ServerSpec(address=deaf_address(self)), good, connect_timeout=1.0)
        client = await self.rig.connect()
        for _ in range(20):
            client.send(GET)
            asked = client.until(b"hello")
            while not asked.called:
                self.rig.time.advance(DELAY / 2)
                await turns(5)
        self.assertEqual(self.failures, [1, 0])

    async def test_second_fails(self) -> None:
        """The first one may still answer."""
        for trouble in (b"", b"rubbish\r\n\r\n", UNAVAILABLE):
            client, first, second = await self.both(next_upstream=frozenset({"error", "invalid_header", "http_503"}))
            if trouble:
                second.send(trouble)
            else:
                second.close()
            await second.lost
            first.send(HELLO)
            self.assertIn(b"200 OK", await client.until(b"hello"))
            self.assertEqual(self.failures, [0, 1], trouble)
            self.assertEqual(self.outcome()[:2], (200, 200))

    async def test_blamed_and_passed_on(self) -> None:
        """What counts as a failure and is not to be tried elsewhere is an answer, whoever gives it."""
        for winner in (0, 1):
            pair = await self.both(next_upstream=frozenset({"error"}), fail_on=frozenset({"http_5xx"}))
            pair[1 + winner].send(UNAVAILABLE)
            await pair[0].until(b"503 Busy")
            await settled(lambda: self.rig.log.records)
            self.assertEqual((self.outcome()[1 + winner], self.failures[winner]), (503, 1))

    async def test_inherited_dial(self) -> None:
        """The first one fails while the second one is being connected to, which is reached then."""
        slow, other = Backend(self), Backend(self, BYE)
        dials = self.network = Held()
        self.serve(slow, other)
        client = await self.rig.ask(GET)
        first, _ = await slow.request()
        dials.holds = True
        self.rig.time.advance(DELAY)
        first.close()
        await settled(lambda: self.failures == [1, 0])
        dials.let_go()
        await client.until(b"goodbye")
        self.assertEqual(self.outcome(), (200, 502, 200))

    async def test_third_after_both(self) -> None:
        """Who has failed as the second one is not asked again, however the request goes on."""
        servers = [Backend(self) for _ in range(3)]
        self.serve(*servers, max_fails=0)
        client = await self.rig.ask(GET)
        first, _ = await servers[0].request()
        self.rig.time.advance(DELAY)
        second, _ = await servers[1].request()
        second.close()
        third, _ = await servers[2].request()
        third.close()
        await settled(lambda: self.failures == [0, 1, 1])
        first.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual([len(server.peers) for server in servers], [1, 1, 1])

    async def test_unwanted_of_both(self) -> None:
        """When the first one's answer is not wanted either, and there is nobody else, it is passed on."""
        client, first, second = await self.both(next_upstream=frozenset({"http_503"}))
        second.send(UNAVAILABLE)
        await second.lost
        first.send(UNAVAILABLE)
        await client.until(b"503 Busy")
        await settled(lambda: self.rig.log.records)
        self.assertEqual(self.outcome(), (503, 503, 503))

    async def test_each_server_once(self) -> None:
        """When both have failed a third one is asked, and no one twice."""
        for second_first in (True, False):
            slow, other, third = Backend(self), Backend(self), Backend(self)
            self.serve(slow, other, third)
            client = await self.rig.ask(GET)
            first, _ = await slow.request()
            self.rig.time.advance(DELAY)
            second, _ = await other.request()
            for peer in (second, first) if second_first else (first, second):
                peer.close()
                await turns(20)
            server, _ = await third.request()
            server.send(HELLO)
            await client.until(b"hello")
            self.assertEqual((len(slow.peers), len(other.peers), len(third.peers)), (1, 1, 1))
            self.assertEqual(self.failures, [1, 1, 0])
            self.outcome()

    async def test_all_fail(self) -> None:
        """None is asked twice, though failures take nobody out."""
        client, first, second = await self.both(max_fails=0)
        second.close()
        await settled(lambda: self.pool.servers[1].failures)
        first.close()
        await client.until(b"502 Bad Gateway\n")
        self.assertEqual((self.outcome(), self.failures), ((502, 502, 502), [1, 1]))

    async def test_cannot_be_reached(self) -> None:
        """The first one does not even take the connection; then it does not matter what becomes of that."""
        other = Backend(self)
        self.serve(ServerSpec(address=deaf_address(self)), other, connect_timeout=1.0)
        client = await self.rig.ask(GET)
        await settled(lambda: self.pool.pending)
        self.rig.time.advance(DELAY)
        server, _ = await other.request()
        server.send(HELLO)
        await client.until(b"hello")
        self.assertEqual((self.outcome(), self.failures), ((200, None, 200), [0, 0]))

    async def test_goes_on_connecting(self) -> None:
        """The first one fails while the second one is being connected to: that has all of its time."""
        slow, third = Backend(self), Backend(self, HELLO)
        self.serve(slow, ServerSpec(address=deaf_address(self)), third, connect_timeout=1.0)
        client = await self.rig.ask(GET)
        first, _ = await slow.request()
        self.rig.time.advance(DELAY)
        self.rig.time.advance(0.5)
        first.close()
        await settled(lambda: self.pool.servers[0].failures)
        self.rig.time.advance(0.4)
        self.assertEqual((self.pool.pending, third.peers), (1, []))
        self.rig.time.advance(0.2)
        await client.until(b"hello")
        self.assertEqual((self.outcome(), self.failures), ((200, 502, 504, 200), [1, 1, 0]))

    async def test_stale(self) -> None:
        """A kept connection that ends when the second server is asked on it is no failure: it is asked once more."""
        slow, other = Backend(self), Backend(self, HELLO)
        self.serve(slow, other)
        await self.rig.ask(GET)
        await slow.request()
        client = await self.rig.ask(GET)
        await client.until(b"hello")
        stale = other.peers[0]
        stale.at_request = lambda head: stale.close() or b""
        self.rig.time.advance(DELAY)
        await settled(lambda: len(other.heads) == 2 or len(other.peers) == 2)
        await settled(lambda: len(self.rig.log.records) == 2)
        self.assertEqual(([record.status for record in self.rig.log.records], self.failures), ([200, 200], [0, 0]))


class StormTests(HedgeCase):
    timeout = 60

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        call = reactor.callLater(seconds, act)
        self.addCleanup(lambda: call.active() and call.cancel())

    async def test_each_is_answered_once(self) -> None:
        """Servers that take their time, close, reset and talk rubbish: each request gets its own answer, nothing is left."""
        random = Random(7)

        def answering(peer_of):
            def answer(head: bytes) -> bytes:
                number = head.split(b" ", 2)[1][1:]
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number)
                peer = peer_of()
                what = random.choice(["now", "later", "later", "close", "reset", "rubbish"])
                if what == "now":
                    return whole
                delay = random.uniform(0, 0.02)
                acts = {"later": lambda: peer.send(whole), "close": peer.close, "reset": peer.reset}
                act = acts.get(what, lambda: peer.send(b"rubbish\r\n\r\n"))
                self.later(delay, lambda: act() if peer.reason is None else None)
                return b""

            return answer

        class Moody(Backend):
            def buildProtocol(self, addr):
                peer = super().buildProtocol(addr)
                peer.at_request = answering(lambda: peer)
                return peer

        good = Backend(self, lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + head.split(b" ", 2)[1][1:])
        servers = [ServerSpec(address=Moody(self).address, max_fails=0) for _ in range(3)]
        retried = frozenset({"error", "timeout", "invalid_header"})
        self.serve(*servers, ServerSpec(address=good.address, max_fails=0), hedge=0.01, next_upstream=retried)
        clients = [await self.rig.connect() for _ in range(8)]
        for turn in range(60):
            numbers = [100 + (8 * turn + place) % 900 for place in range(8)]
            for client, number in zip(clients, numbers, strict=True):
                client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            for client, number in zip(clients, numbers, strict=True):
                found = client.until(b"\r\n\r\n%d" % number)
                while not found.called:
                    self.rig.time.advance(0.002)
                    await turns(3)
                await found
                self.assertEqual(client.received, b"")
        self.assertEqual(self.rig.log.statuses, [200] * 480)
        hedged = sum(None in [attempt.status for attempt in record.tries] for record in self.rig.log.records)
        self.assertGreater(hedged, 20)
        self.assertEqual((self.pool.retries, self.pool.pending, [s.active for s in self.pool.servers]), (0, 0, [0] * 4))
