"""A second server is asked, and one of the two is no good."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet import reactor

from pylb.model import ServerSpec
from tests.proxy.http.rig import GET, HELLO, Backend, settled, turns
from tests.proxy.http.test_hedge import BYE, DELAY, HedgeCase
from tests.proxy.streams import deaf_address

UNAVAILABLE = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


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
