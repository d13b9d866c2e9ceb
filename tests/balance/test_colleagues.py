"""Tests of pylb.balance.colleagues: pools over one scoreboard, as if each were in a process of its own."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import LAG
from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.model import METHODS, Balance, PoolSpec, StickyRoute
from tests.balance.fakes import Bench, host, make_server
from tests.balance.workers import Workers


def letters(leases: list[Lease]) -> str:
    """Whose they are."""
    return "".join(host(lease.server) for lease in leases)


class LeaseTests(SynchronousTestCase):
    """Two workers, two servers."""

    def setUp(self) -> None:
        self.workers = Workers(lambda: [make_server("a"), make_server("b")], balance="least_conn")
        self.one, self.two = self.workers.benches

    def test_counted_over_all(self) -> None:
        """Each worker counts the leases of all."""
        self.workers.look()
        held = [bench.pool.acquire() for bench in (self.one, self.one, self.one, self.two, self.two)]
        self.workers.look()
        before = self.workers.active("a"), self.workers.active("b")
        for lease in held[:2]:
            lease.release()
        self.workers.look()
        self.assertEqual((letters(held), before), ("abbab", ([2, 2], [3, 3])))
        self.assertEqual((self.workers.active("a"), self.workers.active("b")), ([1, 1], [2, 2]))

    def test_least_conn(self) -> None:
        """least_conn sends where all workers together have least."""
        held = [self.one.pool.acquire() for _ in range(8)]
        for lease in held:
            if host(lease.server) == "b":
                lease.release()
        self.assertEqual(letters([self.two.pool.acquire() for _ in range(6)]), "bbbbab")

    def test_old(self) -> None:
        """What is known of the others is LAG old at most, and is not read anew before that."""
        self.two.serve(1)
        held = self.one.pool.acquire()
        counted = []
        for seconds in (0.0, LAG, LAG / 100):
            self.workers.clock.advance(seconds)
            self.two.serve(1)
            counted.append(self.two.server(host(held.server)).active)
        self.assertEqual(counted, [0, 0, 1])

    def test_every_pool(self) -> None:
        """A look is for all pools of the worker."""
        colleagues = self.workers.colleagues
        clock = self.workers.clock
        others = [Bench(make_server("a"), clock=clock, colleagues=who, name="other") for who in colleagues]
        others[0].pool.acquire()
        self.two.serve(1)
        self.assertEqual((others[1].server("a").active, self.workers.active()), (1, [0, 0]))

    def test_worker_died(self) -> None:
        """When the row of a worker that died is cleared, its leases are nobody's; the next one begins with none."""
        for bench in (self.one, self.one, self.two, self.two):
            bench.pool.acquire()
        self.workers.look()
        self.workers.board.rows[0].clear()
        self.workers.look()
        without = self.workers.active("a")[1], self.workers.active("b")[1]
        successor = self.workers.start(0)
        successor.pool.acquire()
        self.workers.look()
        self.assertEqual((without, self.workers.active("a"), self.workers.active("b")), ((1, 1), [2, 2], [1, 1]))

    def test_worker_died_unseen(self) -> None:
        """The same if nobody has looked before the next one had leases of its own."""
        held = [self.one.pool.acquire() for _ in range(4)]
        self.workers.look()
        self.workers.board.rows[0].clear()
        self.workers.start(0).pool.acquire()
        self.workers.look()
        self.assertEqual((len(held), self.workers.active("a"), self.workers.active("b")), (4, [1, 1], [0, 0]))

    def test_alone(self) -> None:
        """The only worker has nobody to look at, ever."""
        workers = Workers(lambda: [make_server("a"), make_server("b")], count=1)
        workers.benches[0].serve(3)
        self.assertEqual((workers.colleagues[0].due, workers.board.rows[0].used), (float("inf"), 2))


class MethodTests(SynchronousTestCase):
    """The methods that watch the load watch that of all workers."""

    def shares(self, balance: Balance, **asked: Any) -> dict[str, int]:
        """Whom one worker gives 60 leases that are held, if another holds 60 of a, out of a and b."""
        workers = Workers(lambda: [make_server("a", **asked), make_server("b", **asked)], balance=balance)
        one, two = workers.benches
        one.pool.switch(one.server("b"), "down")
        for _ in range(60):
            one.pool.acquire()
        given = letters([two.pool.acquire() for _ in range(60)])
        return {letter: given.count(letter) for letter in "ab"}

    def test_least(self) -> None:
        """All that choose by load leave the server alone that is loaded by others."""
        for balance in (
            Balance(method="least_conn"),
            Balance(method="least_time", metric="header"),
            Balance(method="random", two="least_conn"),
            Balance(method="random", two="least_time", metric="header"),
            Balance(method="peak_ewma", metric="header"),
        ):
            self.assertEqual(self.shares(balance), {"a": 0, "b": 60}, balance)

    def test_bounded(self) -> None:
        """The bound is one over the leases of all workers."""
        balance = Balance(method="maglev", key="x", bounded_load=1.0)
        self.assertEqual(self.shares(balance), {"a": 0, "b": 60})

    def test_first(self) -> None:
        """A server is full when all workers together have filled it."""
        self.assertEqual(self.shares(Balance(method="first"), max_conns=70), {"a": 10, "b": 50})

    def test_every_method(self) -> None:
        """No method gets into trouble when servers become full and free elsewhere."""
        for name in METHODS:
            balance = Balance(method=name, key="x", metric="header")
            workers = Workers(lambda: [make_server(letter, max_conns=2) for letter in "abc"], balance=balance)
            for _ in range(20):
                held = [bench.pool.acquire() for bench in workers.benches * 3]
                workers.look()
                for bench in workers.benches:
                    self.assertRaises(NoServerAvailable, bench.pool.acquire)
                for lease in held:
                    lease.release()
                workers.look()


class MaxConnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.workers = Workers(lambda: [make_server("a", max_conns=2), make_server("b")])
        self.one, self.two = self.workers.benches

    def test_over_all(self) -> None:
        """A server that is full by the leases of two workers is full for both."""
        held = [self.one.pool.acquire(), self.two.pool.acquire()]
        self.workers.look()
        full = letters(held), self.one.serve(3), self.two.serve(3)
        held[0].release()
        self.workers.look()
        self.assertEqual(full, ("aa", "bbb", "bbb"))
        self.assertIn("a", self.two.serve(2))

    def test_at_once(self) -> None:
        """It is full the moment it is: workers that have not looked since do not fill it up once more."""
        self.workers.look()
        held = [bench.pool.acquire() for bench in (self.one, self.two) * 5]
        self.assertEqual(letters(held).count("a"), 2)
        held[0].release()
        self.assertIn("a", self.one.serve(2))

    def test_backups(self) -> None:
        """The backups serve when workers have filled all primaries together."""
        workers = Workers(lambda: [make_server("a", max_conns=2), make_server("x", backup=True)])
        workers.look()
        self.assertEqual(letters([bench.pool.acquire() for bench in workers.benches * 2]), "aaxx")

    def test_sessions(self) -> None:
        """A session goes elsewhere when its server is full by another worker."""

        class Client:
            def variable(self, name: str) -> bytes:
                return b"a"

        spec = PoolSpec(name="sticky", servers=(), sticky=StickyRoute(variables=("$key",)))
        one, two = (
            Pool(spec, [make_server("a", max_conns=1, route="a"), make_server("b")], lambda: 0.0, colleagues=colleagues)
            for colleagues in self.workers.colleagues
        )
        self.workers.look()
        self.assertEqual(letters([pool.acquire(Client()) for pool in (one, two)]), "ab")

    def test_refused(self) -> None:
        """A pool that is full by others is so for as long as they hold on."""
        self.two.pool.switch(self.two.server("b"), "down")
        held = [self.one.pool.acquire() for _ in range(4)]
        self.assertRaises(NoServerAvailable, self.two.pool.acquire)
        held[0].release()
        self.assertRaises(NoServerAvailable, self.two.pool.acquire)
        self.workers.clock.advance(LAG * 1.5)
        self.assertEqual(self.two.serve(1), "a")
