"""Tests of pylb.balance.colleagues: what one worker knows of a server's failures all of them know."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import LAG
from tests.balance.fakes import Bench, host, make_server
from tests.balance.workers import Workers


class EjectedTests(SynchronousTestCase):
    """a is ejected by one worker."""

    def setUp(self) -> None:
        self.workers = Workers(lambda: [make_server("a"), make_server("b")])
        self.one, self.two = self.workers.benches
        self.straggler = self.two.pool.acquire()
        self.one.fail("a")

    def wait(self, seconds: float) -> None:
        self.workers.clock.advance(seconds)

    def test_not_yet(self) -> None:
        """A worker that has looked less than LAG ago does not know yet."""
        self.wait(LAG)
        self.assertIn("a", self.two.serve(2))

    def test_for_all(self) -> None:
        """At the next look it does, for as long as the pause is, counted from the failure."""
        self.wait(5.0)
        within = self.two.serve(4)
        self.wait(5.5)
        self.assertEqual((within, "a" in self.two.serve(3)), ("bbbb", True))

    def test_news(self) -> None:
        """Who did it tells it, and nobody else."""
        self.wait(5.0)
        self.two.serve(1)
        self.assertEqual((self.one.heard.news, self.two.heard.news), (["a ejected: refused"], []))

    def test_straggler_succeeds(self) -> None:
        """A lease that another worker gave before the ejection does not end it."""
        self.wait(5.0)
        self.straggler.succeeded()
        self.assertEqual((host(self.straggler.server), self.two.serve(4), self.one.serve(4)), ("a", "bbbb", "bbbb"))

    def test_straggler_fails(self) -> None:
        """Nor does it make the pause longer, or eject the server once more."""
        self.wait(9.0)
        self.straggler.failed("reset")
        self.wait(1.5)
        self.assertEqual(("a" in self.two.serve(3), self.two.heard.news), (True, ["a recovered: a request succeeded"]))

    def test_straggler_before_the_look(self) -> None:
        """The same for one that ends before its worker has looked."""
        self.straggler.failed("reset")
        self.assertEqual((self.two.serve(4), self.two.heard.news), ("bbbb", []))

    def test_recovered(self) -> None:
        """When one worker's trial is well the server serves at all of them, at the next look."""
        self.wait(10.5)
        self.workers.look()
        self.two.serve(3)
        self.wait(LAG * 1.5)
        held = [host(self.one.pool.acquire().server) for _ in range(6)]
        self.assertEqual((held.count("a") > 1, self.one.heard.news), (True, ["a ejected: refused"]))

    def test_cleared(self) -> None:
        """After that it takes max_fails failures again, at either."""
        self.wait(10.5)
        self.two.serve(3)
        self.wait(1.0)
        self.one.fail("a")
        self.wait(1.0)
        self.assertEqual((self.two.serve(2), self.one.heard.news), ("bb", ["a ejected: refused"] * 2))

    def test_one_trial(self) -> None:
        """While one worker tries it no other does, once it has looked."""
        self.wait(10.5)
        held = [self.one.pool.acquire() for _ in range(4)]
        self.wait(LAG * 1.5)
        self.assertEqual((sum(host(lease.server) == "a" for lease in held), self.two.serve(4)), (1, "bbbb"))

    def test_a_trial_each(self) -> None:
        """If they begin before they have looked each has one, and no more."""
        self.wait(10.5)
        self.workers.look()
        held = [bench.pool.acquire() for bench in (self.one, self.two) * 6]
        self.assertEqual(sum(host(lease.server) == "a" for lease in held), 2)

    def test_trial_failed(self) -> None:
        """When it fails the pause is longer for all."""
        self.wait(10.5)
        self.one.fail("a")
        self.wait(10.0)
        within = self.two.serve(4)
        self.wait(0.5)
        self.assertEqual((within, "a" in self.two.serve(3)), ("bbbb", True))

    def test_trial_given_up(self) -> None:
        """When its client leaves the next one may be another worker's."""
        self.wait(10.5)
        trials = [self.one.pool.acquire() for _ in range(4)]
        self.wait(1.0)
        during = self.two.serve(4)
        for lease in trials:
            lease.release()
        self.wait(1.0)
        self.assertEqual((during, "a" in self.two.serve(3)), ("bbbb", True))

    def test_outlives_its_worker(self) -> None:
        """The ejection is known when its worker has died, and its successor learns it."""
        self.wait(5.0)
        self.two.serve(1)
        self.workers.board.rows[0].clear()
        successor = self.workers.start(0)
        self.assertEqual((successor.serve(4), self.two.serve(4)), ("bbbb", "bbbb"))
        self.wait(5.5)
        self.assertIn("a", successor.serve(3))

    def test_trial_dies_with_its_worker(self) -> None:
        """The trial of a worker that has died keeps nobody from the next."""
        self.wait(5.0)
        self.workers.look()
        self.wait(5.5)
        for _ in range(4):
            self.one.pool.acquire()
        self.wait(1.0)
        during = self.two.serve(4)
        self.workers.board.rows[0].clear()
        self.wait(1.0)
        self.assertEqual((during, "a" in self.two.serve(3)), ("bbbb", True))


class FailuresTests(SynchronousTestCase):
    def test_add_up(self) -> None:
        """max_fails counts the failures at all workers, whether they have looked or not."""
        for seconds in (0.0, 1.0):
            workers = Workers(lambda: [make_server("a", max_fails=3), make_server("b")])
            one, two = workers.benches
            workers.look()
            for bench in (one, two, one):
                bench.fail("a")
                workers.clock.advance(seconds)
            workers.look()
            self.assertEqual([bench.serve(3) for bench in workers.benches], ["bbb", "bbb"])

    def test_within_fail_timeout(self) -> None:
        """A success that was given more than fail_timeout after the last of them, at either worker, clears them."""
        fails = []
        for seconds in (10.0, 10.5):
            workers = Workers(lambda: [make_server("a", max_fails=2), make_server("b")])
            one, two = workers.benches
            one.fail("a")
            workers.clock.advance(seconds)
            two.serve(2)
            workers.look()
            fails.append([bench.server("a").health.fails for bench in workers.benches])
        self.assertEqual(fails, [[1, 1], [0, 0]])

    def test_slow_start(self) -> None:
        """A server that recovered elsewhere starts slowly here too."""
        workers = Workers(lambda: [make_server("a", slow_start=100.0), make_server("b")])
        one = workers.benches[0]
        one.fail("a")
        workers.look()
        workers.clock.advance(10.5)
        one.serve(3)
        workers.look()
        self.assertEqual([bench.serve(10).count("a") <= 1 for bench in workers.benches], [True, True])

    def test_lone(self) -> None:
        """A lone server is never ejected, by nobody."""
        workers = Workers(lambda: [make_server("a")])
        for bench in workers.benches * 3:
            bench.fail("a")
            workers.look()
        self.assertEqual([bench.serve(2) for bench in workers.benches], ["aa", "aa"])

    def test_lone_here(self) -> None:
        """Nor at a worker that knows no other server, though the others, which do, eject it."""
        servers = [[make_server("a"), make_server("b")], [make_server("a")]]
        workers = Workers(lambda: servers.pop(0))
        one, two = workers.benches
        one.fail("a")
        workers.look()
        self.assertEqual((one.serve(2), two.pool.acquire().server.usable), ("bb", True))

    def test_same_address_in_two_pools(self) -> None:
        """Each pool has its own opinion of an address."""
        workers = Workers(lambda: [make_server("a"), make_server("b")])
        one, two = workers.benches
        other = Bench(
            make_server("a"), make_server("b"), clock=workers.clock, colleagues=workers.colleagues[1], name="other"
        )
        one.fail("a")
        workers.look()
        self.assertEqual((two.serve(2), sorted(other.serve(2))), ("bb", ["a", "b"]))
