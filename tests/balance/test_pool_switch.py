"""Tests of pylb.balance.pool: servers that start slowly, and those that the operator takes out and in."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable
from tests.balance.fakes import Bench, host, make_server


class SlowStartTests(SynchronousTestCase):
    """Servers a and b; b has a slow start of 10 s and is ejected at its first failure, for 10 s."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a", max_fails=0), make_server("b", slow_start=10.0, max_fails=2))
        self.b = self.bench.server("b")

    def back(self) -> None:
        """Let b be ejected and come back."""
        self.bench.fail("bb")
        self.bench.clock.advance(10.1)
        self.bench.serve(2)
        self.assertFalse(self.b.health.ejected)

    def share(self, count: int = 1100) -> int:
        return Counter(self.bench.serve(count))["b"]

    def test_not_at_the_start(self) -> None:
        """When pylb starts nothing starts slowly."""
        self.assertEqual(self.share(100), 50)

    def test_recovered(self) -> None:
        """A server that has come back gets a little more all the time until it has its share."""
        self.back()
        shares = []
        for seconds in (1.0, 4.0, 5.0):
            self.bench.clock.advance(seconds)
            shares.append(self.share())
        self.assertEqual(shares, [100, 367, 550])

    def test_first_second(self) -> None:
        """In the first of ten seconds it gets at most a fifth of its fair share."""
        self.back()
        served = ""
        for _ in range(100):
            served += self.bench.serve(10)
            self.bench.clock.advance(0.01)
        self.assertLessEqual(Counter(served)["b"], 100)

    def test_added(self) -> None:
        """A server that joins a pool that serves starts slowly, one that was there goes on as before."""
        self.bench.serve(1)
        self.bench.pool.replace([*self.bench.pool.servers, make_server("c", slow_start=10.0)])
        self.bench.clock.advance(5.0)
        self.assertEqual(Counter(self.bench.serve(500)), {"a": 200, "b": 200, "c": 100})

    def test_added_twice(self) -> None:
        """Also when those that served before have just left."""
        self.bench.serve(1)
        c, d = make_server("c"), make_server("d", slow_start=10.0)
        self.bench.pool.replace([c])
        self.bench.pool.replace([c, d])
        self.bench.clock.advance(5.0)
        self.assertEqual(Counter(self.bench.serve(300)), {"c": 200, "d": 100})

    def test_added_before_the_first_request(self) -> None:
        """A name that is found before anybody was served is no newcomer."""
        self.bench.pool.replace([*self.bench.pool.servers, make_server("c", slow_start=10.0)])
        self.assertEqual(Counter(self.bench.serve(300)), {"a": 100, "b": 100, "c": 100})

    def test_set_back(self) -> None:
        """A failure that does not eject takes its part of the time back, but not more than has passed."""
        self.back()
        self.bench.clock.advance(8.0)
        self.bench.fail("b")
        self.assertAlmostEqual(self.b.warmth(self.bench.clock.seconds()), 0.3)
        self.assertEqual(self.share(1300), 300)

    def test_ejected_again(self) -> None:
        """One that fails again while it starts slowly begins anew when it comes back."""
        self.back()
        self.bench.clock.advance(9.0)
        self.back()
        self.bench.clock.advance(1.0)
        self.assertEqual(self.share(), 100)

    def test_lone(self) -> None:
        """A lone server has its whole weight at once."""
        self.back()
        self.bench.pool.replace([self.b])
        self.assertEqual((self.bench.serve(2), self.b.warming_since), ("bb", None))

    def test_alone_for_now(self) -> None:
        """While nobody else can serve, one that starts slowly gets all there is."""
        self.back()
        self.bench.pool.switch(self.bench.server("a"), "down")
        self.assertEqual(self.bench.serve(5), "bbbbb")

    def test_backups_wait(self) -> None:
        """A primary that starts slowly is a primary: no backup serves beside it."""
        bench = Bench(make_server("b", slow_start=10.0), make_server("x", backup=True))
        bench.fail("b")
        bench.clock.advance(10.1)
        self.assertEqual(bench.serve(5), "bbbbb")

    def test_full(self) -> None:
        """max_conns holds while a server starts slowly, and it comes back to its place."""
        bench = Bench(make_server("a"), make_server("b", slow_start=10.0, max_conns=1))
        bench.fail("b")
        bench.clock.advance(10.1)
        bench.serve(2)
        bench.clock.advance(5.0)
        leases = [bench.pool.acquire() for _ in range(20)]
        self.assertEqual(Counter(host(lease.server) for lease in leases), {"a": 19, "b": 1})
        for lease in leases:
            lease.release()
        self.assertEqual(Counter(bench.serve(300)), {"a": 200, "b": 100})


class SwitchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(make_server("a"), make_server("b", slow_start=10.0))
        self.a, self.b = self.bench.pool.servers

    def test_drain(self) -> None:
        """A server that drains gets nobody new; what it has goes on."""
        leases = [self.bench.pool.acquire() for _ in range(2)]
        self.bench.pool.switch(self.a, "drain")
        self.assertEqual((self.bench.serve(3), self.a.active), ("bbb", 1))
        for lease in leases:
            lease.succeeded()
            lease.release()
        self.assertEqual((self.bench.serve(3), self.a.active), ("bbb", 0))

    def test_drained_from_the_start(self) -> None:
        """As the configuration says it."""
        self.assertEqual(Bench(make_server("a", drain=True), make_server("b")).serve(3), "bbb")

    def test_back_from_draining(self) -> None:
        """It was never cold: it has its share at once."""
        self.bench.pool.switch(self.b, "drain")
        self.bench.pool.switch(self.b, "up")
        self.assertEqual(Counter(self.bench.serve(10)), {"a": 5, "b": 5})

    def test_back_from_down(self) -> None:
        """One that was down starts slowly."""
        self.bench.pool.switch(self.b, "down")
        self.bench.clock.advance(100.0)
        self.bench.pool.switch(self.b, "up")
        self.bench.clock.advance(5.0)
        self.assertEqual(Counter(self.bench.serve(300)), {"a": 200, "b": 100})

    def test_back_by_way_of_draining(self) -> None:
        """One that was down and drains first starts slowly all the same."""
        for state in ("down", "drain", "up"):
            self.bench.pool.switch(self.b, state)
        self.bench.clock.advance(5.0)
        self.assertEqual(Counter(self.bench.serve(300)), {"a": 200, "b": 100})

    def test_gone(self) -> None:
        """A server that has left the pool cannot be switched, and is no news."""
        self.bench.pool.replace([self.a])
        self.bench.pool.switch(self.b, "down")
        self.assertEqual((self.b.switch, self.bench.heard.news), ("up", []))

    def test_nobody_left(self) -> None:
        """When all are taken out the pool refuses, and says why."""
        self.bench.pool.switch(self.a, "drain")
        self.bench.pool.switch(self.b, "down")
        refused = self.assertRaises(NoServerAvailable, self.bench.pool.acquire)
        self.assertEqual(str(refused), "pool web: no usable server: a:80 draining, b:80 down")

    def test_backups_step_in(self) -> None:
        """Backups serve while every primary is taken out."""
        bench = Bench(make_server("a"), make_server("x", backup=True))
        bench.pool.switch(bench.server("a"), "drain")
        self.assertEqual(bench.serve(2), "xx")

    def test_news(self) -> None:
        """Each switch is news once."""
        for state in ("drain", "drain", "down", "up"):
            self.bench.pool.switch(self.b, state)
        self.assertEqual(self.bench.heard.news, [f"b switched: {state}" for state in ("drain", "down", "up")])

    def test_what_it_had_counts(self) -> None:
        """The failures of a server are remembered while it is out."""
        self.bench.fail("a")
        self.bench.pool.switch(self.a, "down")
        self.bench.pool.switch(self.a, "up")
        self.assertTrue(self.a.health.ejected)
