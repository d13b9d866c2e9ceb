"""Tests of pylb.balance.outliers, alone and as a pool uses it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.outliers import Outliers
from pylb.balance.server import Server
from pylb.model import Outlier, SuccessRate
from tests.balance.fakes import Bench, host, make_server, make_servers
from tests.balance.workers import Workers


def bench(count: int = 3, **asked: Any) -> Bench:
    return Bench(*make_servers(*[1] * count), outlier=Outlier(**asked))


def fail(bench: Bench, letter: str, count: int = 5) -> bool:
    """Whether the server is ejected when so many of its requests, which ran side by side, have failed."""
    leases = []
    while len(leases) < count:
        lease = bench.pool.acquire()
        if host(lease.server) == letter:
            leases.append(lease)
        else:
            lease.release()
    for lease in leases:
        lease.failed("refused")
        lease.release()
    return bench.server(letter).health.ejected


class RowTests(SynchronousTestCase):
    def test_five(self) -> None:
        """Five failures in a row eject, four do not."""
        one = bench()
        self.assertEqual([fail(one, "a", 4), fail(one, "a", 1)], [False, True])

    def test_success_between(self) -> None:
        """A success begins a new row at once."""
        one = bench()
        fail(one, "a", 4)
        one.serve(3)
        self.assertEqual([fail(one, "a", 4), fail(one, "a", 1)], [False, True])

    def test_lone(self) -> None:
        """A server that is alone is never ejected."""
        self.assertFalse(fail(bench(1), "a", 20))

    def test_spared(self) -> None:
        """One of three may be out, however few percent that is not; another one that fails stays, which is news once."""
        one = bench()
        fail(one, "a")
        self.assertFalse(fail(one, "b", 12))
        self.assertEqual(one.heard.news, ["a ejected: refused", "b tolerated: refused"])

    def test_percent(self) -> None:
        """A part of the servers may be out."""
        one = bench(5, max_ejected_percent=40)
        self.assertEqual([fail(one, letter) for letter in "abc"], [True, True, False])

    def test_room_again(self) -> None:
        """When one has come back, another may be out."""
        one = bench()
        fail(one, "a")
        one.clock.advance(30.1)
        one.serve(3)
        self.assertTrue(fail(one, "b"))

    def test_last(self) -> None:
        """`last_usable: keep` holds beside it."""
        pair = Bench(make_server("a"), make_server("b", down=True), outlier=Outlier(), last_usable="keep")
        self.assertFalse(fail(pair, "a", 9))


class PauseTests(SynchronousTestCase):
    """Of two servers a fails; `base_ejection_time` is 30 s, at most 80 s."""

    def setUp(self) -> None:
        self.bench = bench(2, max_ejection_time=80.0)

    def pause(self) -> float:
        retry_at = self.bench.server("a").health.retry_at
        assert retry_at is not None
        return retry_at - self.bench.clock.seconds()

    def recover(self) -> None:
        self.bench.clock.advance(self.pause() + 0.1)
        self.bench.serve(2)
        self.assertFalse(self.bench.server("a").health.ejected)

    def test_grows(self) -> None:
        """Each ejection lasts longer, up to the most."""
        pauses = []
        for _ in range(4):
            fail(self.bench, "a")
            pauses.append(self.pause())
            self.recover()
        self.assertEqual([round(pause) for pause in pauses], [30, 60, 80, 80])

    def test_failed_trial(self) -> None:
        """So does the pause after a trial that failed."""
        fail(self.bench, "a")
        self.bench.clock.advance(30.1)
        fail(self.bench, "a", 1)
        self.assertAlmostEqual(self.pause(), 60.0)
        self.bench.clock.advance(60.1)
        fail(self.bench, "a", 1)
        self.assertAlmostEqual(self.pause(), 80.0)

    def test_shrinks(self) -> None:
        """Each interval that passes without one takes a step back, down to the first."""
        for waited, expected in ((9.0, 60.0), (11.0, 60.0), (31.0, 30.0)):
            if waited > 9.0:
                self.recover()
            else:
                fail(self.bench, "a")
                self.recover()
            self.bench.clock.advance(waited)
            fail(self.bench, "a")
            self.assertAlmostEqual(self.pause(), expected)


class RateTests(SynchronousTestCase):
    """Ten servers, each with a hundred requests in an interval."""

    def compared(self, failures: list[int], requests: int = 100, **asked: Any) -> str:
        """Who does too badly, after these failures."""
        servers = [make_server(letter) for letter in "abcdefghij"]
        outliers = Outliers(Outlier(success_rate=SuccessRate(**asked)), 0.0)
        outliers.use(servers)
        for server, failed in zip(servers, failures, strict=False):
            server.picked, server.failures = requests, failed
        return "".join(map(host, outliers.look(10.0)))

    def test_one_of_ten(self) -> None:
        """The one that is 1.9 standard deviations below the mean; nine with none and one with k have it 3 away."""
        self.assertEqual(self.compared([10] + [0] * 9), "a")

    def test_all_alike(self) -> None:
        """None, when all fail alike."""
        self.assertEqual(self.compared([50] * 10), "")

    def test_factor(self) -> None:
        """None at so many standard deviations."""
        self.assertEqual(self.compared([10] + [0] * 9, stdev_factor=3.1), "")

    def test_worst_first(self) -> None:
        self.assertEqual(self.compared([30, 40] + [0] * 8, stdev_factor=1.0), "ba")

    def test_too_few_requests(self) -> None:
        self.assertEqual(self.compared([10] + [0] * 9, requests=99), "")

    def test_too_few_servers(self) -> None:
        self.assertEqual(self.compared([10] + [0] * 9, minimum_hosts=11), "")

    def test_out_already(self) -> None:
        """Who is ejected is not compared."""
        outliers = Outliers(Outlier(success_rate=SuccessRate()), 0.0)
        servers = [make_server(letter) for letter in "abcdefghij"]
        outliers.use(servers)
        for server in servers:
            server.picked = 100
        servers[0].failures = 50
        servers[0].health.eject(0.0)
        self.assertEqual(outliers.look(10.0), [])

    def test_since_the_last(self) -> None:
        """Only the interval counts, not what was before it."""
        outliers = Outliers(Outlier(success_rate=SuccessRate()), 0.0)
        servers = [make_server(letter) for letter in "abcdefghij"]
        outliers.use(servers)
        servers[0].failures = 50
        for _ in range(2):
            for server in servers:
                server.picked += 100
            found = outliers.look(10.0)
        self.assertEqual(found, [])


class ComparedTests(SynchronousTestCase):
    def run_for(self, one: Bench, requests: int, bad: str) -> None:
        """Every second request of the bad ones fails."""
        for number in range(requests):
            lease = one.pool.acquire()
            if host(lease.server) in bad and number // len(one.pool.servers) % 2:
                lease.failed("status 500")
            else:
                lease.succeeded()
            lease.release()

    def test_ejected(self) -> None:
        """At the first request after the interval, and it is news."""
        one = bench(5, success_rate=SuccessRate(request_volume=10))
        self.run_for(one, 60, "a")
        one.clock.advance(10.0)
        one.serve(1)
        self.assertFalse(one.server("a").health.ejected)
        one.clock.advance(0.1)
        one.serve(1)
        self.assertEqual(one.heard.news, ["a ejected: far more failures than the others"])
        self.assertNotIn("a", one.serve(10))

    def test_no_more(self) -> None:
        """No more than max_ejected_percent."""
        one = bench(5, max_ejected_percent=20, success_rate=SuccessRate(request_volume=10, stdev_factor=1.0))
        self.run_for(one, 60, "ab")
        one.clock.advance(10.1)
        one.serve(1)
        self.assertEqual(len(one.heard.news), 1)

    def test_back(self) -> None:
        """A trial that succeeds brings it back."""
        one = bench(5, success_rate=SuccessRate(request_volume=10))
        self.run_for(one, 60, "a")
        one.clock.advance(10.1)
        one.serve(1)
        one.clock.advance(30.1)
        self.assertIn("a", one.serve(10))

    def test_not_asked(self) -> None:
        """Without `success_rate` nobody is compared."""
        one = bench(5)
        self.run_for(one, 600, "a")
        one.clock.advance(10.1)
        one.serve(1)
        self.assertEqual(one.heard.news, [])

    def test_workers(self) -> None:
        """What one worker has ejected is out at the others."""

        def make() -> list[Server]:
            return make_servers(1, 1, 1, 1, 1)

        workers = Workers(make, places=16, outlier=Outlier(success_rate=SuccessRate(request_volume=10)))
        first, second = workers.benches
        self.run_for(first, 60, "a")
        workers.clock.advance(10.1)
        first.serve(1)
        workers.clock.advance(1.0)
        self.assertNotIn("a", second.serve(10))
