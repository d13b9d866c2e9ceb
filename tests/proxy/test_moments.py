"""When do the moments come that a lease's time may end with?  For tcp, udp and http."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pylb.balance.lease import Lease
from tests.proxy.http.rig import GET, HELLO, Backend, Rig, settled
from tests.proxy.test_tcp_leases import Bench
from tests.proxy.udp_fakes import World

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello"


class Moments:
    """Which moments came, each once for a lease that is held, and at which server."""

    def __init__(self, patch) -> None:
        self.seen: list[str] = []
        self._said: set[tuple[Lease, str]] = set()
        patch(Lease, "timed", self._timed_of)

    @property
    def _timed_of(self):
        moments = self

        def timed(lease: Lease, moment: str) -> None:
            if (lease, moment) not in moments._said and not lease._released:
                moments._said.add((lease, moment))
                moments.seen.append(moment)

        return timed


class TcpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.moments = Moments(self.patch)

    def begin(self, half_close: bool = True) -> None:
        """A client and its server, who have each said something."""
        self.bench = Bench(half_close)
        self.bench.join(0)
        self.client = self.bench.clients[0]
        self.client.receive(b"?")
        self.bench.refuse(0)
        self.bench.accept(0)
        self.server = self.bench.reactor.dialled[-1].transport
        self.assertEqual(self.moments.seen, ["connect"])
        for _ in range(2):
            self.server.receive(b"!")
        self.assertEqual(self.moments.seen, ["connect", "first_byte"])

    def finish(self) -> list[str]:
        """What came since."""
        for transport in (self.client, self.server):
            if transport.takes_events:
                transport.lose(ConnectionDone())
        self.bench.settle()
        self.assertEqual((self.bench.leases, len(self.bench.connections)), (0, 0))
        return self.moments.seen[2:]

    def test_server_ends(self) -> None:
        """A server that says nothing more has sent its last byte, whatever the client does then."""
        self.begin()
        self.server.end()
        during = list(self.moments.seen[2:])
        self.assertEqual((during, self.finish()), (["last_byte"], ["last_byte"]))

    def test_client_ends(self) -> None:
        """One that ends after its client, too."""
        for half_close in (False, True):
            self.moments = Moments(self.patch)
            self.begin(half_close)
            self.client.end()
            self.bench.settle()
            self.assertEqual(self.finish(), ["last_byte"])

    def test_resets(self) -> None:
        """A reset of either side is nobody's last byte."""
        for side in ("client", "server"):
            self.moments = Moments(self.patch)
            self.begin()
            getattr(self, side).lose()
            self.bench.settle()
            self.assertEqual(self.finish(), [])


class UdpTests(SynchronousTestCase):
    def moments(self, steps: str, **spec: int) -> list[str]:
        """q is a client's datagram, r a reply, t time that passes."""
        moments = Moments(self.patch)
        world = World(self.patch, timeout=10.0, **spec)
        for step in steps:
            {"q": world.ask, "r": world.answer, "t": lambda: world.clock.advance(10.0)}[step]()
        return moments.seen

    def test_replies(self) -> None:
        """The first reply, and the one that is the last of those expected; none, if it is not known how many are."""
        self.assertEqual(self.moments("qrrt"), ["first_byte"])
        self.assertEqual(self.moments("qr", responses=2), ["first_byte"])
        self.assertEqual(self.moments("qrr", responses=2), ["first_byte", "last_byte"])
        self.assertEqual(self.moments("qrrt", responses=3), ["first_byte"])

    def test_no_reply(self) -> None:
        """A server that says nothing has no moments."""
        self.assertEqual(self.moments("qt", responses=1), [])


class HttpTests(TestCase):
    timeout = 20

    async def moments(self, *answers: bytes, **options: object) -> list[str]:
        """What comes when one server after the other answers so."""
        moments = Moments(self.patch)
        rig = Rig(self, *(Backend(self, answer) for answer in answers), **options)
        rig.pool.metric = "any"  # or nobody asks for moments
        client = await rig.ask(GET)
        await client.until(b"hello")
        client.close()
        await settled(lambda: rig.log.statuses)
        return moments.seen

    async def test_answer(self) -> None:
        """The head of the answer, and its end."""
        self.assertEqual(await self.moments(HELLO), ["header", "last_byte"])

    async def test_broken_off(self) -> None:
        """An answer that does not come to its end has no last byte."""
        self.assertEqual(await self.moments(SHORT), ["header"])

    async def test_retried(self) -> None:
        """An answer that is not wanted has no moments, but the one that takes its place has."""
        seen = await self.moments(UNAVAILABLE, HELLO, next_upstream=frozenset({"http_503"}))
        self.assertEqual(seen, ["header", "last_byte"])
