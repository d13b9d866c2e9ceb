"""Tests of what pylb.balance.pool tells its observer and whom it turns away: changes of fortune, not requests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable
from tests.balance.fakes import Bench, host, make_server


def turned_away(bench: Bench) -> str:
    """What a request is told when nobody can serve it."""
    try:
        lease = bench.pool.acquire()
    except NoServerAvailable as error:
        return str(error)
    raise AssertionError(f"served by {lease.server}")


class ServerNewsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(make_server("a", max_fails=2), make_server("b", max_fails=0))
        self.news = self.bench.heard.news

    def test_quiet(self) -> None:
        """Nobody hears of requests, nor of failures that change nothing; but once of a server that fails and stays."""
        self.bench.serve(10)
        self.bench.fail("abbb")
        self.assertEqual(self.news, ["b tolerated: refused"])

    def test_ejected_once(self) -> None:
        """Trap: eight connections that fail together eject a server once, for the reason of the last straw."""
        leases = [self.bench.pool.acquire() for _ in range(16)]
        for number, lease in enumerate(lease for lease in leases if host(lease.server) == "a"):
            lease.failed(f"reset {number}")
        self.assertEqual((self.news, self.bench.server("a").failures), (["a ejected: reset 1"], 8))

    def test_recovered_once(self) -> None:
        """A failed trial, an abandoned one and a late success are no news; the recovery is."""
        self.bench.fail("aa")
        self.bench.clock.advance(10.5)
        self.bench.fail("a")
        self.bench.clock.advance(10.5)
        trials = []
        while len(trials) < 3:
            lease = self.bench.pool.acquire()
            if host(lease.server) == "a":
                trials.append(lease)
                self.bench.clock.advance(10.5)
        trials[0].release()
        trials[1].succeeded()
        trials[2].succeeded()
        self.assertEqual(self.news, ["a ejected: refused", "a recovered: a request succeeded"])

    def test_each_ejection(self) -> None:
        """Each ejection after a recovery is news again."""
        for _ in range(2):
            self.bench.fail("aa")
            self.bench.clock.advance(10.5)
            self.bench.serve(2)
        self.assertEqual([line.partition(":")[0] for line in self.news], ["a ejected", "a recovered"] * 2)

    def test_full_is_no_news(self) -> None:
        """A server that fills up and empties is none."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"))
        for _ in range(5):
            lease = bench.pool.acquire()
            bench.serve(1)
            lease.release()
        self.assertEqual(bench.heard.news, [])


class RefusalTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        """Who is turned away learns of each server why it cannot be used."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"), make_server("c", down=True))
        bench.pool.acquire()
        bench.fail("b")
        bench.clock.advance(2.0)
        self.assertEqual(turned_away(bench), "pool web: no usable server: a:80 full, b:80 ejected 8s, c:80 down")

    def test_reasons_are_bounded(self) -> None:
        """Of a big pool ten servers are named."""
        bench = Bench(*(make_server(f"host{number}", down=True) for number in range(1000)))
        self.assertEqual(turned_away(bench).count(" down"), 10)

    def test_counted(self) -> None:
        """Every refusal is counted."""
        bench = Bench(make_server("a", down=True))
        for _ in range(3):
            turned_away(bench)
        self.assertEqual(bench.pool.refused, 3)

    def test_served_is_not_counted(self) -> None:
        """A request that was served is none."""
        bench = Bench(make_server("a"))
        bench.serve(3)
        self.assertEqual(bench.pool.refused, 0)

    def test_holder_goes_on(self) -> None:
        """Who looks for another server in vain, and still has one without a verdict, was not refused."""
        bench = Bench(make_server("a", max_conns=1))
        lease = bench.pool.acquire()
        self.assertRaises(NoServerAvailable, bench.pool.acquire, after=lease)
        self.assertEqual((bench.pool.refused, bench.heard.news), (0, []))

    def test_retry_without_another_server(self) -> None:
        """A request that has seen every usable server was not refused, and the pool is not unusable."""
        bench = Bench(make_server("a"))
        self.assertRaises(NoServerAvailable, bench.pool.acquire, after=bench.pool.acquire())
        self.assertEqual((bench.pool.refused, bench.heard.news), (0, []))

    def test_retry_without_a_usable_server(self) -> None:
        """A request that failed at the last usable one is."""
        bench = Bench(make_server("a"), make_server("b", down=True))
        lease = bench.pool.acquire()
        lease.failed("refused")
        self.assertRaises(NoServerAvailable, bench.pool.acquire, after=lease)
        self.assertEqual((bench.pool.refused, bench.heard.news[-1].partition(":")[0]), (1, "web unusable"))


class PoolNewsTests(SynchronousTestCase):
    """a takes one at a time."""

    def setUp(self) -> None:
        self.bench = Bench(make_server("a", max_conns=1), make_server("b", down=True))
        self.news = self.bench.heard.news
        self.held = self.bench.pool.acquire()

    def test_nobody_refused(self) -> None:
        """A pool that is full is no news as long as nobody is turned away."""
        self.held.release()
        self.bench.serve(1)
        self.assertEqual(self.news, [])

    def test_unusable_once(self) -> None:
        """The first refusal is news, those that follow are not."""
        for _ in range(5):
            turned_away(self.bench)
            self.bench.clock.advance(60.0)
        self.assertEqual(self.news, ["web unusable: no usable server: a:80 full, b:80 down"])

    def test_usable_once(self) -> None:
        """A pool that serves again, and has refused nobody for a second, is usable again: once."""
        turned_away(self.bench)
        self.held.release()
        self.bench.clock.advance(1.0)
        self.bench.serve(5)
        self.assertEqual(self.news[1:], ["web usable: a:80 serves"])

    def test_not_at_once(self) -> None:
        """Within that second it is not."""
        turned_away(self.bench)
        self.held.release()
        self.bench.clock.advance(0.75)
        self.bench.serve(5)
        self.assertEqual(self.news[1:], [])

    def test_saturation_does_not_flap(self) -> None:
        """A pool that is full half of the time is unusable once, however often it serves in between."""
        for _ in range(100):
            turned_away(self.bench)
            self.held.release()
            self.bench.clock.advance(0.5)
            self.held = self.bench.pool.acquire()
        self.assertEqual([line.partition(":")[0] for line in self.news], ["web unusable"])

    def test_again(self) -> None:
        """After it was usable the next refusal is news again."""
        for _ in range(2):
            turned_away(self.bench)
            self.held.release()
            self.bench.clock.advance(1.5)
            self.held = self.bench.pool.acquire()
        self.assertEqual([line.partition(":")[0] for line in self.news], ["web unusable", "web usable"] * 2)

    def test_a_trial_proves_nothing(self) -> None:
        """A pool is not usable because somebody is on trial: only when that was well, and there is room again."""
        self.held.failed("timeout")
        self.held.release()
        turned_away(self.bench)
        self.bench.clock.advance(10.5)
        del self.news[:]
        trial = self.bench.pool.acquire()
        during = list(self.news)
        trial.succeeded()
        trial.release()
        self.bench.serve(1)
        self.assertEqual((during, self.news), ([], ["a recovered: a request succeeded", "web usable: a:80 serves"]))

    def test_told_without_a_client(self) -> None:
        """When checks let a server in again, or somebody switches one up, that is news at once, after its cause."""
        pool = self.bench.pool
        self.held.release()
        for out, back in (
            (lambda a: pool.checked(a, "unhealthy", "status 500"), lambda a: pool.checked(a, "passed", "well")),
            (lambda a: pool.switch(a, "down"), lambda a: pool.switch(a, "up")),
        ):
            out(pool.servers[0])
            turned_away(self.bench)
            self.bench.clock.advance(1.0)
            del self.news[:]
            back(pool.servers[0])
            self.assertEqual(self.news[1:], ["web usable: a:80 serves"])
