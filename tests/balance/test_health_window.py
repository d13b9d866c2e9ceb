"""Tests of pylb.balance.health, and what a pool makes of it: the window of failures that slides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.health import Change, Health
from tests.balance.fakes import Bench, make_server, make_servers
from tests.balance.workers import Workers


def sliding(max_fails: int = 3, fail_timeout: float = 8.0) -> Health:
    health = Health(max_fails, fail_timeout)
    health.slide(max_fails)
    return health


def changes(health: Health, *moments: float) -> list[Change]:
    """What a failure at each of the moments changes."""
    return [health.failed(health.epoch, moment) for moment in moments]


class SlidingTests(SynchronousTestCase):
    def test_spread(self) -> None:
        """One failure in 5 s never makes three in 8; by nginx's count they add up."""
        moments = [5.0 * number for number in range(20)]
        self.assertEqual(set(changes(sliding(), *moments)), {Change.NOTHING})
        self.assertIn(Change.EJECTED, changes(Health(3, 8.0), *moments))

    def test_within(self) -> None:
        """Three eject when the first of them was fail_timeout ago, and not a millisecond more."""
        for last, change in ((8.0, Change.EJECTED), (8.001, Change.NOTHING)):
            self.assertEqual(changes(sliding(), 0.0, 4.0, last)[-1], change)

    def test_the_latest(self) -> None:
        """Older ones do no harm: the latest three count."""
        self.assertEqual(changes(sliding(), 0.0, 9.0, 10.0, 16.0)[-2:], [Change.NOTHING, Change.EJECTED])

    def test_successes(self) -> None:
        """A success in between does not forgive."""
        health = sliding()
        for moment in (0.0, 3.0):
            health.failed(0, moment)
            health.succeeded(0, moment + 1.0)
        self.assertEqual(health.failed(0, 6.0), Change.EJECTED)

    def test_trial(self) -> None:
        """After a trial that succeeded all are forgotten."""
        health = sliding()
        changes(health, 0.0, 0.0, 0.0)
        health.trial_started(8.1)
        health.succeeded(health.epoch, 8.1)
        self.assertEqual(changes(health, 8.2, 8.2, 8.2), [Change.NOTHING, Change.NOTHING, Change.EJECTED])

    def test_one(self) -> None:
        """The only failure that is needed is always of the last fail_timeout."""
        self.assertEqual(changes(sliding(1), 100.0), [Change.EJECTED])

    @given(st.lists(st.floats(0.0, 5.0), max_size=30), st.integers(1, 4))
    def test_as_one_would_count(self, gaps: list[float], max_fails: int) -> None:
        """The first ejection comes with the first failure that has max_fails - 1 others in the fail_timeout before it."""
        health, now, moments = sliding(max_fails), 0.0, []
        for gap in gaps:
            now += gap
            moments.append(now)
            if sum(now - moment <= 8.0 for moment in moments) >= max_fails:
                self.assertEqual(health.failed(0, now), Change.EJECTED)
                return
            self.assertEqual(health.failed(0, now), Change.NOTHING)
            health.succeeded(0, now)


class PoolTests(SynchronousTestCase):
    def test_asked_for(self) -> None:
        """A pool counts so if the operator asks for it."""
        for window, served in (("nginx", "bb"), ("sliding", "ab")):
            servers = [make_server(letter, max_fails=2) for letter in "ab"]
            bench = Bench(*servers, balance="first", failure_window=window)
            bench.fail("a")
            bench.clock.advance(10.1)
            bench.fail("a")
            self.assertEqual(bench.server("a").health.ejected, served == "bb", window)

    def test_no_longer_alone(self) -> None:
        """What a server did while it was alone is forgotten when another one comes."""
        a, b = (make_server(letter, max_fails=2) for letter in "ab")
        bench = Bench(a, failure_window="sliding")
        bench.fail("aaa")
        bench.pool.replace([a, b])
        bench.fail("a")
        self.assertFalse(a.health.ejected)
        bench.fail("a")
        self.assertTrue(a.health.ejected)

    def test_replaced(self) -> None:
        """Servers that come do not make it forget."""
        servers = [make_server(letter, max_fails=2) for letter in "abc"]
        bench = Bench(*servers[:2], failure_window="sliding")
        bench.fail("a")
        bench.pool.replace(servers)
        bench.clock.advance(10.1)
        bench.fail("a")
        self.assertFalse(servers[0].health.ejected)
        bench.fail("a")
        self.assertTrue(servers[0].health.ejected)

    def test_never(self) -> None:
        """Nothing ejects a server whose max_fails is 0."""
        bench = Bench(make_server("a", max_fails=0), *make_servers(1, 1)[1:], failure_window="sliding")
        bench.fail("aaa")
        self.assertFalse(bench.server("a").health.ejected)


class WorkersTests(SynchronousTestCase):
    """Two workers; three failures in 8 s eject."""

    def setUp(self) -> None:
        def make() -> list:
            return [make_server(letter, max_fails=3, fail_timeout=8.0) for letter in "ab"]

        self.workers = Workers(make, balance="first", failure_window="sliding")
        self.one, self.two = self.workers.benches

    def fail(self, bench: Bench, after: float = 0.0) -> bool:
        """Whether a is out when a request of that worker has failed there."""
        self.workers.clock.advance(after)
        bench.fail("a")
        return bench.server("a").health.ejected

    def test_together(self) -> None:
        """Failures of both make up the three."""
        self.assertEqual(
            [self.fail(self.one), self.fail(self.two, 3.0), self.fail(self.one, 3.0)], [False, False, True]
        )

    def test_spread(self) -> None:
        """Those that are too old are so for both."""
        out = [self.fail(bench, 5.0) for bench in (self.one, self.two, self.two, self.one, self.one, self.two)]
        self.assertNotIn(True, out)

    def test_unheard(self) -> None:
        """A worker that hears of several at once ejects a failure or two late rather than wrongly."""
        self.fail(self.one)
        self.fail(self.one, 0.01)
        self.assertEqual([self.fail(self.two, 1.0), self.fail(self.two)], [False, True])

    def test_forgiven(self) -> None:
        """Failures since the others were forgiven are heard of, and count."""
        for after in (0.0, 0.5):
            self.fail(self.one, after)
        self.workers.look()
        for to in ("unhealthy", "passed"):
            self.one.pool.checked(self.one.server("a"), to, "")
        for after in (0.5, 0.0):
            self.fail(self.one, after)
        self.assertTrue(self.fail(self.two, 7.4))

    def test_forgotten(self) -> None:
        """What one forgets after a trial the other does."""
        for after in (0.0, 1.0, 1.0):
            self.fail(self.one, after)
        self.workers.clock.advance(8.1)
        self.one.serve(2)
        self.workers.clock.advance(1.0)
        self.assertEqual([self.fail(self.two), self.fail(self.two), self.fail(self.two)], [False, False, True])


class AnewTests(SynchronousTestCase):
    """Another number, or the window itself, is asked for while failures are known."""

    def test_fewer(self) -> None:
        """The latest of those that are known count."""
        health = sliding(5)
        changes(health, 0.0, 10.0, 11.0)
        health.slide(3)
        health.max_fails = 3
        self.assertEqual(changes(health, 12.0), [Change.EJECTED])

    def test_more(self) -> None:
        """What was forgotten counts for nothing: five it must be, of which the last two are known."""
        health = sliding(2)
        changes(health, *(10.0 * number for number in range(9)))
        health.slide(5)
        health.max_fails = 5
        self.assertEqual(changes(health, 80.0, 80.0), [Change.NOTHING] * 2)
        self.assertEqual(changes(health, 80.0, 80.0)[-1], Change.EJECTED)

    def test_first(self) -> None:
        """Of failures from before the window slid nobody knows when they were."""
        health = Health(3, 8.0)
        changes(health, 0.0, 100.0)
        health.slide(3)
        self.assertEqual(changes(health, 200.0, 200.0, 200.0), [Change.NOTHING, Change.NOTHING, Change.EJECTED])
