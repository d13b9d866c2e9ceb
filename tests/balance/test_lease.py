"""Tests of pylb.balance.lease: what a lease does, what a trial is, and what outlives a change of servers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.balance.fakes import Bench, host, make_server


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(make_server("a", max_fails=2), make_server("b"))
        self.lease = self.bench.pool.acquire()
        self.server = self.lease.server

    def test_active(self) -> None:
        """A server counts the leases that are held, and all that were given."""
        during = self.server.active
        self.lease.release()
        self.assertEqual((during, self.server.active, self.server.picked), (1, 0, 1))

    def test_released_once(self) -> None:
        """Trap: a connection closed by two half-closes releases its lease, and only once."""
        for _ in range(2):
            self.lease.release()
        self.assertEqual(self.server.active, 0)

    def test_second_release_frees_nobody_elses_place(self) -> None:
        """The second release does not take away the place of whoever came in between."""
        self.lease.release()
        self.bench.serve(1)
        other = self.bench.pool.acquire()
        self.lease.release()
        self.assertEqual((other.server, self.server.active), (self.server, 1))

    def test_one_verdict(self) -> None:
        """The first verdict counts, those after it do not."""
        self.lease.failed("refused")
        self.lease.failed("refused")
        self.lease.succeeded()
        self.assertEqual((self.server.failures, self.server.health.fails), (1, 1))

    def test_success_is_a_verdict(self) -> None:
        """After a success a failure does not count any more."""
        self.lease.succeeded()
        self.lease.failed("reset")
        self.assertEqual((self.server.failures, self.server.health.fails), (0, 0))

    def overtake(self, connecting: bool = False, most: float = 3.0) -> int:
        """Another server answers for this one; its failures."""
        while (lease := self.bench.pool.acquire()).server is not self.server:
            lease.release()
        lease.overtaken(connecting, most)
        lease.release()
        return self.server.failures

    def test_overtaken(self) -> None:
        """A server that others had to answer for so often in a row, without an answer in between, has failed."""
        self.assertEqual([self.overtake() for _ in range(4)], [0, 0, 1, 1])
        self.lease.succeeded()
        self.assertEqual([self.overtake() for _ in range(2)], [1, 1])

    def test_overtaken_while_connecting(self) -> None:
        """That is counted for itself, and ends when it takes a connection."""
        self.assertEqual([self.overtake(True, 2.0), self.overtake(), self.overtake(True, 2.0)], [0, 0, 0])
        self.assertEqual([self.overtake(True, 2.0), self.overtake(True, 2.0)], [1, 1])

    def test_overtaken_for_ever(self) -> None:
        """0 is no number of times."""
        self.assertEqual({self.overtake(most=0.0) for _ in range(100)}, {0})

    def test_no_verdict_after_the_release(self) -> None:
        """Who has released has nothing to say."""
        self.lease.release()
        self.lease.failed("late")
        self.assertEqual((self.server.failures, self.server.health.fails), (0, 0))

    def test_success_clears_old_failures(self) -> None:
        """A success picked more than fail_timeout after the last failure clears the count, an earlier one does not."""
        self.lease.failed("refused")
        fails = []
        for seconds in (10.0, 0.5):
            self.bench.clock.advance(seconds)
            self.bench.serve(2)
            fails.append(self.server.health.fails)
        self.assertEqual(fails, [1, 0])

    def test_no_success_after_the_release(self) -> None:
        """Neither good."""
        self.lease.failed("refused")
        self.bench.clock.advance(10.5)
        self.bench.serve(1)
        late = self.bench.pool.acquire()
        late.release()
        late.succeeded()
        self.assertEqual((late.server, self.server.health.fails), (self.server, 1))

    def test_repr(self) -> None:
        """The repr says whose lease it is and whether it is over."""
        before = repr(self.lease)
        self.lease.release()
        self.assertEqual((before, repr(self.lease)), ("<Lease of a:80>", "<Lease of a:80, released>"))


class TrialTests(SynchronousTestCase):
    """a has failed and its pause is over; b serves."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a"), make_server("b"))
        self.straggler = self.bench.pool.acquire()
        self.bench.serve(1)
        self.bench.fail("a")
        self.bench.clock.advance(10.5)
        # In its first round a gains nothing.
        self.bench.serve(2)
        self.trial = self.bench.pool.acquire()

    def test_exactly_one(self) -> None:
        """One request is let through, all others go elsewhere while it is under way."""
        self.assertEqual((host(self.trial.server), self.bench.serve(20)), ("a", "b" * 20))

    def test_well(self) -> None:
        """When it is well the server has its turns again."""
        self.trial.succeeded()
        self.assertEqual(sorted(self.bench.serve(20)), ["a"] * 10 + ["b"] * 10)

    def test_failed(self) -> None:
        """When it fails the pause begins anew, and another single trial follows."""
        self.trial.failed("refused")
        self.bench.clock.advance(10.0)
        during = self.bench.serve(20)
        self.bench.clock.advance(0.5)
        held = [host(self.bench.pool.acquire().server) for _ in range(20)]
        self.assertEqual((during, held.count("a")), ("b" * 20, 1))

    def test_one_verdict(self) -> None:
        """A trial that failed cannot succeed afterwards."""
        self.trial.failed("reset")
        self.trial.succeeded()
        self.assertEqual(self.bench.serve(20), "b" * 20)

    def test_abandoned(self) -> None:
        """When its client leaves the next request is the trial, at once, and one only."""
        self.trial.release()
        held = [host(self.bench.pool.acquire().server) for _ in range(20)]
        self.assertEqual(held.count("a"), 1)

    def test_judged_then_released(self) -> None:
        """The release after a failure is no abandonment."""
        self.trial.failed("refused")
        self.trial.release()
        self.assertEqual(self.bench.serve(20), "b" * 20)

    def test_hanging(self) -> None:
        """When it hangs the next one starts after fail_timeout."""
        self.bench.clock.advance(10.0)
        during = self.bench.serve(20)
        self.bench.clock.advance(0.5)
        held = [host(self.bench.pool.acquire().server) for _ in range(20)]
        self.assertEqual((during, held.count("a")), ("b" * 20, 1))

    def test_hanging_then_abandoned_after_the_next_failed(self) -> None:
        """A trial that was given up late does not cut short the pause that the next one's failure began."""
        self.bench.clock.advance(10.5)
        self.bench.fail("a")
        self.trial.release()
        self.assertEqual(self.bench.serve(20), "b" * 20)

    def test_straggler_succeeds(self) -> None:
        """Trap: a straggler's success does not heal an ejected server."""
        self.straggler.succeeded()
        self.assertEqual((host(self.straggler.server), self.bench.serve(20)), ("a", "b" * 20))

    def test_straggler_ends(self) -> None:
        """Trap: only the lease that made the trial may end it, not one from before that ends without a verdict."""
        self.straggler.release()
        self.assertEqual(self.bench.serve(20), "b" * 20)

    def test_straggler_fails(self) -> None:
        """Nor does a straggler's failure make the pause longer."""
        self.bench.clock.advance(5.0)
        self.straggler.failed("reset")
        self.bench.clock.advance(5.5)
        self.assertIn("a", self.bench.serve(2))

    def test_full_when_the_pause_ends(self) -> None:
        """A server that is full when its pause ends has its trial when a place is free."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"))
        held = bench.pool.acquire()
        held.failed("timeout")
        bench.clock.advance(10.5)
        while_full = bench.serve(2)
        held.release()
        self.assertEqual((while_full, "a" in bench.serve(3)), ("bb", True))


class ReplaceTests(SynchronousTestCase):
    """A name is looked up again, a configuration is reloaded."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a"), make_server("b"))
        self.a, self.b = self.bench.pool.servers

    def test_new_one(self) -> None:
        """A new server serves."""
        self.bench.pool.replace([self.a, self.b, make_server("c")])
        self.assertEqual(self.bench.serve(3), "abc")

    def test_gone(self) -> None:
        """One that is gone does not."""
        self.bench.pool.replace([self.b, make_server("c")])
        self.assertEqual(self.bench.serve(3), "bcb")

    def test_ejected_stays_ejected(self) -> None:
        """An ejected server that stays goes on with its pause."""
        self.bench.fail("a")
        self.bench.clock.advance(9.0)
        self.bench.pool.replace([self.a, self.b, make_server("c")])
        before = self.bench.serve(2)
        self.bench.clock.advance(1.5)
        self.assertEqual((before, sorted(self.bench.serve(3))), ("bc", ["a", "b", "c"]))

    def test_pause_over(self) -> None:
        """One whose pause is over at that moment is tried."""
        self.bench.fail("a")
        self.bench.clock.advance(10.5)
        self.bench.pool.replace([self.a, self.b])
        self.assertEqual(self.bench.serve(2), "ab")

    def test_leases_of_the_gone(self) -> None:
        """A lease of a server that is gone stays valid, and nobody hears of its fortune."""
        lease = self.bench.pool.acquire()
        self.bench.pool.replace([self.b, make_server("c")])
        lease.failed("reset")
        lease.release()
        self.assertEqual((self.a.active, self.bench.serve(3), self.bench.heard.news), (0, "bcb", []))

    def test_retry_after_the_gone(self) -> None:
        """A request that was at a server that is gone is sent to another."""
        lease = self.bench.pool.acquire()
        self.bench.pool.replace([self.b])
        self.assertEqual(host(self.bench.pool.acquire(after=lease).server), "b")

    def test_becomes_lone(self) -> None:
        """An ejected server that is left alone serves again."""
        self.bench.fail("a")
        self.bench.pool.replace([self.a])
        self.assertEqual(
            (self.bench.serve(2), self.bench.heard.news),
            ("aa", ["a ejected: refused", "a recovered: no other server is left"]),
        )

    def test_lone_no_more(self) -> None:
        """A server that is not alone any more can be ejected again, by what happens from then on."""
        self.bench.pool.replace([self.a])
        self.bench.fail("aaa")
        self.bench.pool.replace([self.a, self.b])
        before = self.bench.serve(2)
        self.bench.fail("a")
        self.assertEqual((before, self.bench.serve(2)), ("ab", "bb"))

    def test_full_stays_full(self) -> None:
        """The leases that are held go on counting."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"))
        held = bench.pool.acquire()
        bench.pool.replace(bench.pool.servers)
        before = bench.serve(2)
        held.release()
        self.assertEqual((before, sorted(bench.serve(2))), ("bb", ["a", "b"]))
