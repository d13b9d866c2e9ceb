"""Tests of pylb.balance.pool: too few servers are well (`panic_threshold`)."""

from __future__ import annotations

from collections import Counter
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.pool import NoServerAvailable
from pylb.balance.server import Server
from pylb.model import StickyRoute, TcpCheck
from tests.balance.fakes import Bench, host, make_server, make_servers

PAUSE = 10.1


class PanicTests(SynchronousTestCase):
    """Four servers; below half of them all are used."""

    def setUp(self) -> None:
        self.bench = Bench(*make_servers(1, 1, 1, 1), panic_threshold=50)
        self.pool = self.bench.pool

    def unhealthy(self, letters: str) -> None:
        for letter in letters:
            self.pool.checked(self.bench.server(letter), "unhealthy", "status 500")

    def panic_news(self) -> list[str]:
        return [line for line in self.bench.heard.news if line.startswith("web ")]

    def test_off(self) -> None:
        """By default nothing makes the pool use servers that are ejected."""
        bench = Bench(*make_servers(1, 1, 1))
        bench.fail("abc")
        self.assertRaises(NoServerAvailable, bench.pool.acquire)

    def test_at_the_threshold(self) -> None:
        """Half of them are enough."""
        self.bench.fail("ab")
        self.assertEqual(Counter(self.bench.serve(4)), {"c": 2, "d": 2})

    def test_below(self) -> None:
        """One more, and all are used, the ejected too."""
        self.bench.fail("abc")
        self.assertEqual(set(self.bench.serve(8)), set("abcd"))

    def test_unhealthy(self) -> None:
        """Servers that checks have taken out count the same."""
        self.bench.fail("a")
        self.unhealthy("bc")
        self.assertEqual(set(self.bench.serve(8)), set("abcd"))

    def test_all(self) -> None:
        """Each has its share, also when nobody is well."""
        self.unhealthy("abcd")
        self.assertEqual(Counter(self.bench.serve(8)), {"a": 2, "b": 2, "c": 2, "d": 2})

    def test_news(self) -> None:
        """It is news once when it begins and once when it ends."""
        self.unhealthy("abcd")
        self.bench.serve(5)
        for letter in "abcd":
            self.pool.checked(self.bench.server(letter), "passed", "checks passed")
        expected = ["web in panic: 1 of 4 servers are well", "web calm: 2 of 4 servers are well"]
        self.assertEqual(self.panic_news(), expected)

    def test_cause_first(self) -> None:
        """What befell the server comes before what that makes of the pool."""
        self.bench.fail("ab")
        del self.bench.heard.news[:]
        self.bench.fail("c")
        self.unhealthy("d")
        self.pool.checked(self.bench.server("d"), "passed", "checks passed")
        for letter in "ab":
            self.pool.switch(self.bench.server(letter), "down")
        self.assertEqual(
            [line.partition(":")[0] for line in self.bench.heard.news],
            ["c ejected", "web in panic", "d checked", "d checked", "a switched", "b switched", "web calm"],
        )

    def test_cause_first_when_drained(self) -> None:
        """So it is with a share that becomes nothing."""
        self.unhealthy("ab")
        del self.bench.heard.news[:]
        for share in (0.0, 1.0):
            self.pool.reweigh(self.bench.server("a"), share, "its agent")
        self.unhealthy("c")
        self.pool.reweigh(self.bench.server("b"), 0.0, "its agent")
        self.pool.reweigh(self.bench.server("a"), 0.0, "its agent")
        self.assertEqual(
            self.bench.heard.news[-2:], ["a switched: drain: its agent", "web calm: 1 of 2 servers are well"]
        )

    def test_the_end(self) -> None:
        """When half of them are well again, only those serve."""
        self.unhealthy("abc")
        self.pool.checked(self.bench.server("c"), "passed", "checks passed")
        self.assertEqual(Counter(self.bench.serve(4)), {"c": 2, "d": 2})

    def test_success_in_panic(self) -> None:
        """A success before the pause is over says nothing: a server that fails now and then does not flap."""
        self.bench.fail("abc")
        self.bench.serve(8)
        self.assertEqual(self.bench.server("a").status, "unavail")

    def test_failure_in_panic(self) -> None:
        """Nor does a failure, which would make the pause longer."""
        self.bench.fail("abc")
        self.bench.clock.advance(9.0)
        self.bench.fail("a")
        self.bench.clock.advance(PAUSE - 9.0)
        self.bench.serve(4)
        self.assertEqual(self.bench.server("a").status, "up")

    def test_trials_in_panic(self) -> None:
        """After the pause one request is the trial, and the panic is over when enough have passed."""
        self.bench.fail("abc")
        self.bench.clock.advance(PAUSE)
        leases = [lease for lease in [self.pool.acquire() for _ in range(12)] if host(lease.server) == "a"]
        trial, *others = leases
        for lease in others:
            lease.succeeded()
        self.assertTrue(others)
        self.assertEqual((self.bench.server("a").status, len(self.panic_news())), ("unavail", 1))
        trial.succeeded()
        self.assertEqual((self.bench.server("a").status, len(self.panic_news())), ("up", 2))

    def test_abandoned_in_panic(self) -> None:
        """A lease that was no trial, and is given up, opens nothing."""
        self.bench.fail("abc")
        for _ in range(4):
            self.pool.acquire().release()
        self.assertFalse(self.bench.server("a").health.allows(self.bench.clock.seconds()))

    def test_not_asked(self) -> None:
        """Who is down or drains does not count, and is not used."""
        self.pool.switch(self.bench.server("a"), "down")
        self.pool.switch(self.bench.server("b"), "drain")
        self.bench.fail("c")
        self.assertEqual((self.bench.serve(2), self.panic_news()), ("dd", []))
        self.unhealthy("d")
        self.assertEqual(set(self.bench.serve(4)), {"c", "d"})

    def test_who_goes_counts_no_more(self) -> None:
        """With two switched off that are ejected, the others are all, and the panic is over."""
        self.bench.fail("abc")
        for letter in "ab":
            self.pool.switch(self.bench.server(letter), "down")
        self.assertEqual(self.panic_news()[1:], ["web calm: 1 of 2 servers are well"])
        self.assertEqual(self.bench.serve(2), "dd")

    def test_replaced(self) -> None:
        """Servers that come and go do not make it begin again."""
        self.unhealthy("abc")
        self.pool.replace([*self.pool.servers[:4], make_server("e")])
        self.assertEqual((len(self.panic_news()), len(set(self.bench.serve(5)))), (1, 5))

    def test_replaced_and_over(self) -> None:
        """Enough that come end it."""
        self.unhealthy("abc")
        self.pool.replace([*self.pool.servers, make_server("e"), make_server("f")])
        self.assertEqual(self.panic_news()[1:], ["web calm: 3 of 6 servers are well"])
        self.assertEqual(set(self.bench.serve(6)), set("def"))

    def test_no_walk(self) -> None:
        """No request looks at other servers than its own."""
        self.bench.fail("abc")
        with mock.patch.object(Server, "available", autospec=True, side_effect=Server.available) as looked:
            self.bench.serve(1)
        self.assertLessEqual(looked.call_count, 2)


class OthersTests(SynchronousTestCase):
    def test_missing(self) -> None:
        """A name that was not found does not count, and is not used."""
        missing = Server(make_server("m").spec, missing=True)
        bench = Bench(make_server("a"), missing, panic_threshold=100)
        self.assertEqual((bench.serve(2), bench.heard.news), ("aa", []))

    def test_full(self) -> None:
        """Who is full is well, and gets no more in panic either."""
        bench = Bench(make_server("a", max_conns=1), make_server("b"), panic_threshold=100)
        lease = bench.pool.acquire()
        self.assertEqual((bench.serve(2), bench.heard.news), ("bb", []))
        bench.fail("b")
        self.assertEqual(bench.serve(2), "bb")
        lease.release()
        self.assertEqual(Counter(bench.serve(4)), {"a": 2, "b": 2})

    def test_mandatory(self) -> None:
        """Who was never seen well, and must be first, is not used."""
        bench = Bench(*make_servers(1, 1), panic_threshold=100, health_check=(TcpCheck(mandatory=True),))
        self.assertRaises(NoServerAvailable, bench.pool.acquire)
        bench.pool.checked(bench.server("a"), "passed", "checks passed")
        self.assertEqual(bench.serve(2), "aa")
        bench.pool.checked(bench.server("a"), "unhealthy", "status 500")
        expected = ["a checked: status 500", "web in panic: 0 of 1 servers are well"]
        self.assertEqual((bench.serve(2), bench.heard.news[-2:]), ("aa", expected))
        bench.pool.replace([*bench.pool.servers, make_server("c")])
        self.assertEqual(bench.serve(2), "aa")

    def test_least_conn(self) -> None:
        """Methods that watch the load count the leases of those that are ejected."""
        bench = Bench(*make_servers(1, 1), balance="least_conn", panic_threshold=100)
        bench.fail("a")
        bench.clock.advance(PAUSE)
        held = "".join(lease.server.name[0] for lease in [bench.pool.acquire() for _ in range(6)])
        self.assertEqual(Counter(held), {"a": 3, "b": 3})

    def test_backups_are_well(self) -> None:
        """Primaries of which none is well leave it to backups that are, and panic when these are not."""
        bench = Bench(*make_servers(1, 1), make_server("x", backup=True), panic_threshold=50)
        bench.fail("ab")
        self.assertEqual((bench.serve(2), bench.heard.news[2:]), ("xx", []))
        bench.pool.checked(bench.server("x"), "unhealthy", "status 500")
        self.assertEqual(set(bench.serve(4)), {"a", "b"})

    def test_backups_themselves(self) -> None:
        """Backups that serve are all used when few of them are well."""
        backups = [make_server(letter, backup=True) for letter in "xyz"]
        bench = Bench(make_server("a"), *backups, panic_threshold=50)
        for letter in "axy":
            bench.pool.checked(bench.server(letter), "unhealthy", "status 500")
        self.assertEqual(Counter(bench.serve(6)), {"x": 2, "y": 2, "z": 2})
        self.assertIn("web in panic: 1 of 3 backups are well", bench.heard.news)

    def test_sessions(self) -> None:
        """A session stays with its server although that is ejected."""

        class Asking:
            def variable(self, name: str) -> bytes:
                return b"r"

        sticky = StickyRoute(variables=("$cookie_r",))
        bench = Bench(make_server("a", route="r"), make_server("b"), sticky=sticky, panic_threshold=100)
        bench.fail("a")
        self.assertEqual({bench.pool.acquire(Asking()).server.name for _ in range(4)}, {"a:80"})
