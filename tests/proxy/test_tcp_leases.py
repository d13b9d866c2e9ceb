"""Do leases leak, whatever happens to clients and servers, in whatever order?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectBindError, ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.model import InetAddress, PoolSpec, Queue, ServerSpec, TcpListener
from pylb.proxy.connections import Connections
from pylb.proxy.tcp import TcpFactory
from pylb.proxy.upstream import Limits, Upstream
from tests.fakes import FakeReactor, FakeTransport, Records


class Bench:
    """A listener with three servers, one of them a backup, on a network that does what it is told."""

    def __init__(self, half_close: bool, queue: int = 0, max_pending: int = 0) -> None:
        """`queue` is its size."""
        self.reactor = FakeReactor()
        self.records = Records()
        self.connections = Connections()
        self.clients: list[FakeTransport] = []
        servers = tuple(
            ServerSpec(address=InetAddress(f"192.0.2.{n}", 80), backup=n == 3, max_conns=2, fail_timeout=4)
            for n in (1, 2, 3)
        )
        seconds = self.reactor.seconds
        pool = PoolSpec(
            name="web",
            servers=servers,
            queue=Queue(size=queue, timeout=5.0) if queue else None,
            max_pending=max_pending,
        )
        self.pool = Pool(pool, map(Server, servers), seconds)
        spec = TcpListener(name="t", listen=(), pool="web", half_close=half_close, timeout=20)
        upstream = Upstream(self.reactor, self.pool, Limits(connect_timeout=3), seconds)
        self.factory = TcpFactory(spec, upstream, self.reactor, seconds, self.connections, self.records)

    def join(self, _: int) -> None:
        """A client connects."""
        protocol = self.factory.buildProtocol(None)
        self.clients.append(FakeTransport(protocol))
        protocol.makeConnection(self.clients[-1])

    def accept(self, which: int) -> None:
        """A server takes a connection."""
        for connector in pick(self.reactor.pending, which):
            connector.accept()

    def refuse(self, which: int) -> None:
        """A server takes no connection."""
        for connector in pick(self.reactor.pending, which):
            connector.refuse()

    def run_short(self, which: int) -> None:
        """There is no descriptor for a connection."""
        for connector in pick(self.reactor.pending, which):
            connector.refuse(ConnectBindError(24, "too many"))

    def talk(self, which: int) -> None:
        """Somebody sends something."""
        for transport in pick(self.open(reading=True), which):
            transport.receive(b"x" * 40_000)

    def end(self, which: int) -> None:
        """Somebody sends no more."""
        for transport in pick(self.open(reading=True), which):
            transport.end()

    def reset(self, which: int) -> None:
        """Somebody is gone."""
        for transport in pick(self.open(), which):
            transport.lose()

    def close(self, which: int) -> None:
        """Somebody is gone in good order."""
        for transport in pick(self.open(), which):
            transport.lose(ConnectionDone())

    def settle(self, _: int = 0) -> None:
        """What pylb has closed is gone."""
        while any(transport.settle() for transport in self.transports()):
            pass

    def wait(self, seconds: int) -> None:
        """Nothing happens for a while."""
        self.reactor.advance(seconds)

    def transports(self) -> Iterator[FakeTransport]:
        yield from list(self.clients)
        yield from [connector.transport for connector in self.reactor.dialled if connector.transport is not None]

    def open(self, reading: bool = False) -> list[FakeTransport]:
        """The connections that something can happen to; with `reading`, that bytes can come from."""
        return [
            transport
            for transport in self.transports()
            if transport.takes_events and (not reading or (transport.reading and not transport.ended))
        ]

    @property
    def leases(self) -> int:
        return sum(server.active for server in self.pool.servers)


def pick(what: list, which: int) -> list:
    """One of them, if there is one."""
    return [what[which % len(what)]] if what else []


EVENTS: list[Callable[[Bench, int], None]] = [
    Bench.join,
    Bench.accept,
    Bench.refuse,
    Bench.run_short,
    Bench.talk,
    Bench.end,
    Bench.reset,
    Bench.close,
    Bench.settle,
    Bench.wait,
]


BENCHES = st.builds(Bench, st.booleans(), st.sampled_from([0, 1, 3]), st.sampled_from([0, 2]))


class LeaseTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(BENCHES, st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 9)), max_size=60))
    def test_no_order_leaks(self, bench: Bench, schedule: list) -> None:
        """At any time there are no more leases than connections, and none is left when the clients are gone."""
        for event, which in schedule:
            event(bench, which)
            self.assertLessEqual(bench.leases, len(bench.connections))
            self.assertEqual(bench.pool.pending, len(bench.reactor.pending))
        for client in bench.clients:
            if client.takes_events:
                client.lose()
        for _ in range(20):
            bench.settle()
            bench.wait(20)
        self.assertEqual((bench.leases, len(bench.connections), len(bench.pool.queue or ())), (0, 0, 0))
        self.assertEqual(bench.reactor.getDelayedCalls(), [])
        self.assertEqual(len(bench.records), len(bench.clients))
        self.assertEqual(bench.open(), [])

    def test_left_without_a_word(self) -> None:
        """A client that ends at once, where ends are not passed on, is not connected to a server any more."""
        for queue in (0, 1):
            bench = Bench(False, queue=queue)
            bench.join(0)
            bench.end(0)
            bench.accept(0)
            bench.settle()
            self.assertEqual((bench.leases, len(bench.connections), bench.reactor.getDelayedCalls()), (0, 0, []))

    @settings(max_examples=100, deadline=None)
    @given(BENCHES, st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 9)), max_size=40))
    def test_time_ends_everything(self, bench: Bench, schedule: list) -> None:
        """When nobody does anything any more, time alone brings every connection to its end."""
        for event, which in schedule:
            event(bench, which)
        for _ in range(20):
            bench.wait(20)
            bench.settle()
        self.assertEqual((bench.leases, len(bench.connections), bench.reactor.getDelayedCalls()), (0, 0, []))
