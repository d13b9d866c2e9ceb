"""Tests of pylb.balance.pool: the last server that is well (`last_usable`)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.colleagues import LAG
from pylb.balance.pool import NoServerAvailable
from pylb.balance.server import Server
from tests.balance.fakes import Bench, make_server
from tests.balance.workers import Workers


def keeping(*servers: Server, **asked: Any) -> Bench:
    return Bench(*servers, last_usable="keep", **asked)


class LastTests(SynchronousTestCase):
    def test_by_default(self) -> None:
        """As in nginx one failure takes out the only server that is left beside one that is down."""
        bench = Bench(make_server("a"), make_server("b", down=True))
        bench.fail("a")
        self.assertRaises(NoServerAvailable, bench.pool.acquire)

    def test_kept(self) -> None:
        """It goes on, whatever the others are that cannot serve."""
        for state in ("down", "drain", "missing"):
            other = (
                Server(make_server("b").spec, missing=True) if state == "missing" else make_server("b", **{state: True})
            )
            bench = keeping(make_server("a"), other)
            bench.fail("aaa")
            self.assertEqual(bench.serve(2), "aa", state)

    def test_beside_the_ejected(self) -> None:
        """Of two that fail one after the other the first is out and the second goes on."""
        bench = keeping(make_server("a"), make_server("b"))
        bench.fail("abb")
        self.assertEqual(bench.serve(3), "bbb")

    def test_beside_the_unhealthy(self) -> None:
        bench = keeping(make_server("a"), make_server("b"))
        bench.pool.checked(bench.server("b"), "unhealthy", "status 500")
        bench.fail("a")
        self.assertEqual(bench.serve(3), "aaa")

    def test_backups(self) -> None:
        """A primary is not the last one while a backup is well."""
        bench = keeping(make_server("a"), make_server("x", backup=True))
        bench.fail("axx")
        self.assertEqual(bench.serve(3), "xxx")

    def test_beside_the_full(self) -> None:
        """A server that is full is well, and has room again soon: another one is not the last."""
        bench = keeping(make_server("a", max_conns=1), make_server("b"))
        lease = bench.pool.acquire()
        bench.fail("b")
        self.assertEqual(bench.server("b").status, "unavail")
        lease.release()
        self.assertEqual(bench.serve(2), "aa")

    def test_checks(self) -> None:
        """What checks find out counts."""
        bench = keeping(make_server("a"), make_server("b", down=True))
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        self.assertRaises(NoServerAvailable, bench.pool.acquire)

    def test_no_longer_the_last(self) -> None:
        """When another one serves again, its next failure ejects it."""
        bench = keeping(make_server("a"), make_server("b", down=True))
        bench.fail("aa")
        bench.pool.switch(bench.server("b"), "up")
        bench.fail("a")
        self.assertEqual(bench.serve(3), "bbb")

    def test_below_max_fails(self) -> None:
        """Failures that would not eject are no news."""
        bench = keeping(make_server("a", max_fails=2), make_server("b", down=True))
        bench.fail("a")
        self.assertEqual(bench.heard.news, [])

    def test_news(self) -> None:
        """It is news once that it fails and stays, and once that it has stopped."""
        bench = keeping(make_server("a"), make_server("b", down=True))
        for _ in range(2):
            bench.fail("aaa")
            bench.clock.advance(10.1)
            bench.serve(3)
        self.assertEqual(bench.heard.news, ["a tolerated: refused", "a recovered: a request succeeded"] * 2)

    def test_no_slow_start(self) -> None:
        """It was not out, so it does not start slowly."""
        bench = keeping(make_server("a", slow_start=10.0), make_server("b", down=True))
        bench.fail("a")
        bench.clock.advance(10.1)
        bench.serve(1)
        self.assertIsNone(bench.server("a").warming_since)


class WorkersTests(SynchronousTestCase):
    """Two workers, of which each has ejected another one of the two servers."""

    def setUp(self) -> None:
        self.workers = Workers(lambda: [make_server("a"), make_server("b")], last_usable="keep")
        self.one, self.two = self.workers.benches
        self.workers.look()
        self.one.fail("a")
        self.two.fail("b")

    def test_not_both(self) -> None:
        """When they hear of it somebody serves again, at both of them."""
        known = [self.one.server("a").status, self.two.server("b").status]
        self.workers.clock.advance(2 * LAG)
        self.assertEqual((known, bool(self.one.serve(4) and self.two.serve(4))), (["unavail"] * 2, True))

    def test_settled(self) -> None:
        """Nothing swings: later looks change nothing."""
        self.workers.look()
        self.workers.look()
        before = [bench.server(letter).health.note for bench in self.workers.benches for letter in "ab"]
        self.workers.look()
        after = [bench.server(letter).health.note for bench in self.workers.benches for letter in "ab"]
        self.assertEqual(before, after)
