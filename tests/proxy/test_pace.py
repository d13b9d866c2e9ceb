"""How fast may bytes come?"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pylb.proxy.deadline import Deadlines
from pylb.proxy.pace import MOMENT, Pace
from tests.backends import Backend, Peer, round_trips, until
from tests.proxy.streams import StreamCase, data, digest


class Source:
    """Notes whether it is read."""

    reads = True
    stopped = False

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def stopProducing(self) -> None:
        self.stopped = True


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source()
        self.pace = Pace(self.source, 100, Deadlines(self.clock, self.clock.seconds))

    def waits(self) -> float:
        """For how many seconds it is not read."""
        waited = 0.0
        while not self.source.reads:
            self.clock.advance(1 / 64)
            waited += 1 / 64
        return waited

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IPushProducer, self.pace))
        self.pace.stopProducing()
        self.assertTrue(self.source.stopped)

    def test_each_read(self) -> None:
        """After each read it is not read until that would have come at its rate, from the first one on."""
        for count in (50, 400, 25):
            self.pace.came(count)
            self.assertEqual(self.waits(), count / 100)

    def test_late(self) -> None:
        """A reactor that is a little late does not slow it down; what it did not use for long is lost to it."""
        for late, waits in ((0.0625, 0.4375), (0.125, 0.375), (10.0, 0.375)):
            self.clock.advance(late)
            self.pace.came(50)
            self.assertEqual(self.waits(), waits)

    def test_little(self) -> None:
        """For less than a millisecond nobody waits, but it counts."""
        pace = Pace(self.source, 64_000, Deadlines(self.clock, self.clock.seconds))
        pace.came(63)
        self.assertEqual((self.source.reads, self.clock.getDelayedCalls()), (True, []))
        pace.came(1000 - 63)
        self.assertEqual(self.waits(), 1 / 64)

    def test_held_up(self) -> None:
        """It is read when it is neither ahead nor held up by who gets its bytes, whichever ends first."""
        self.pace.came(200)
        self.pace.pauseProducing()
        self.clock.advance(2)
        self.assertFalse(self.source.reads)
        self.pace.resumeProducing()
        self.assertTrue(self.source.reads)
        self.pace.came(400)
        self.pace.pauseProducing()
        self.pace.resumeProducing()
        self.assertFalse(self.source.reads)
        self.clock.advance(4)
        self.assertTrue(self.source.reads)

    def test_stop(self) -> None:
        """Once it is stopped the source is read, and nothing is awaited."""
        self.pace.came(1000)
        self.pace.stop()
        self.assertEqual((self.source.reads, self.clock.getDelayedCalls()), (True, []))


class RateTests(StreamCase):
    """Between real sockets, by a clock in the test's hands."""

    async def begin(self, **rates: int) -> tuple[Peer, Peer]:
        self.clock = Clock()
        backend = await self.backend(half_close=True)
        await self.proxy(backend, time=self.clock, **rates)
        client, server = await self.pair(backend, half_close=True)
        await until(lambda: self.session._server)
        return client, server

    async def assert_paced(self, sender: Peer, taker: Peer, rate: int) -> None:
        """At any time no more has come than the rate allows, and two reads; and all comes in the time that it needs."""
        sender.transport.write(sent := data(1))
        turns = 0
        while len(taker.heard) < len(sent):
            await round_trips()
            self.assertLessEqual(len(taker.heard), rate * (turns / 8 + 2 * MOMENT))
            self.clock.advance(1 / 8)
            turns += 1
        self.assertLessEqual(turns / 8, len(sent) / rate + 1)
        self.assertEqual(digest(taker.heard), digest(sent))

    async def test_upload(self) -> None:
        """A client is kept to the rate, what it sent before its server was reached included; its server is not."""
        client, server = await self.begin(upload_rate=100_000)
        server.transport.write(back := data(1))
        await until(lambda: len(client.heard) == len(back))
        await self.assert_paced(client, server, 100_000)

    async def test_download(self) -> None:
        """So is a server."""
        client, server = await self.begin(download_rate=200_000)
        client.transport.write(there := data(1))
        await until(lambda: len(server.heard) == len(there))
        await self.assert_paced(server, client, 200_000)

    async def test_early(self) -> None:
        """What a client sent before its server was reached counts, too; who is held back so long is not idle."""
        self.clock = Clock()
        server: Backend = await self.backend()
        await self.proxy(server, time=self.clock, upload_rate=1250, timeout=2.0)
        factory = self.factory

        def session(client, encrypted):
            session = type(factory).session(factory, client, encrypted)
            session.keep(bytes(5000))
            return session

        factory.session = session
        client = await self.client()
        await until(lambda: server.peers and len(server.peers[0].heard) == 5000)
        client.transport.write(b"late")
        await round_trips()
        for _ in range(3):
            self.clock.advance(1.3)
            await round_trips()
        self.assertEqual(len(server.peers[0].heard), 5000)
        self.clock.advance(0.2)
        await until(lambda: len(server.peers[0].heard) == 5004)

    async def test_ends(self) -> None:
        """That a connection has ended is seen when it is read again, and then nothing is left that waits."""
        for index in (0, 1):
            pair = await self.begin(upload_rate=1000, download_rate=1000)
            for end in pair:
                end.transport.write(bytes(3000))
            await round_trips()
            pair[index].transport.abortConnection()
            await round_trips()
            self.clock.advance(3)
            await self.over()
            self.assertEqual(self.clock.getDelayedCalls(), [])
