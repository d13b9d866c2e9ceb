"""Tests of pylb.balance.pool: the times that methods hear of."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.least_time import LeastTime
from pylb.balance.server import Server
from pylb.model import Balance
from tests.balance.fakes import Bench, host, make_server


class TimedTests(SynchronousTestCase):
    """The time of a lease is measured once, when the moment that the metric names comes."""

    def setUp(self) -> None:
        servers = (make_server("a", slow_start=10.0), make_server("b"), make_server("x", backup=True))
        self.bench = Bench(*servers, balance=Balance(method="least_time", metric="header"))
        self.heard: list[tuple[str, float, float]] = []
        for tier in self.bench.pool._tiers:
            tier.measured = self.measured
        self.lease = self.bench.pool.acquire()
        self.bench.clock.advance(1.5)

    def measured(self, server: Server, seconds: float, now: float) -> None:
        self.heard.append((host(server), seconds, now))

    def test_measured(self) -> None:
        """From the moment at which the lease was given."""
        self.lease.timed("header")
        self.assertEqual(self.heard, [("a", 1.5, 1.5)])

    def test_another_moment(self) -> None:
        """Another moment is not asked for."""
        self.lease.timed("last_byte")
        self.assertEqual((self.heard, self.lease.server.waiting), ([], 1))

    def test_once(self) -> None:
        """The moment comes once."""
        self.lease.timed("header")
        self.lease.timed("header")
        self.assertEqual((len(self.heard), self.lease.server.waiting), (1, 0))

    def test_after_the_release(self) -> None:
        """Who has released has nothing to say."""
        self.lease.release()
        self.lease.timed("header")
        self.assertEqual(self.heard, [])

    def test_gone(self) -> None:
        """Nobody hears of a server that has gone."""
        self.bench.pool.replace([server for server in self.bench.pool.servers if host(server) != "a"])
        self.lease.timed("header")
        self.assertEqual((self.heard, self.lease.server.waiting), ([], 0))

    def test_waiting(self) -> None:
        """A server knows how many leases wait for their moment, and when they were given."""
        other, _, third = (self.bench.pool.acquire() for _ in range(3))
        server = third.server
        seen = [(server.waiting, server.began)]
        for lease in (third, other, self.lease):
            lease.timed("header")
            seen.append((server.waiting, server.began))
            lease.release()
        self.assertEqual((host(server), host(other.server)), ("a", "b"))
        self.assertEqual(seen, [(2, 1.5), (1, 0.0), (1, 0.0), (0, 0.0)])

    def test_released_unmeasured(self) -> None:
        """A lease that ends before its moment does not wait any more."""
        self.lease.failed("reset")
        self.lease.release()
        self.lease.release()
        self.assertEqual((self.lease.server.waiting, self.lease.server.began), (0, 0.0))

    def test_nobody_wants_to_know(self) -> None:
        """Without a metric nothing is measured."""
        bench = Bench(make_server("a"), make_server("b"))
        lease = bench.pool.acquire()
        lease.timed("header")
        lease.timed("")
        self.assertEqual((lease.server.waiting, lease.server.began), (0, 0.0))
        lease.release()
        self.assertEqual(lease.server.waiting, 0)


class SlowStartTests(SynchronousTestCase):
    def test_measured_while_it_starts_slowly(self) -> None:
        """A server that is not in the method's hands for now is measured all the same."""
        bench = Bench(
            make_server("a", slow_start=10.0), make_server("b"), balance=Balance(method="least_time", metric="header")
        )
        bench.fail("a")
        bench.clock.advance(10.5)
        bench.serve(3)
        self.assertIsNotNone(bench.server("a").warming_since)
        while host((lease := bench.pool.acquire()).server) != "a":
            lease.release()
        bench.clock.advance(0.5)
        lease.timed("header")
        lease.release()
        method = bench.pool._tiers[0].method
        assert isinstance(method, LeastTime)
        self.assertEqual(method.paces[bench.server("a")].average, 500)
