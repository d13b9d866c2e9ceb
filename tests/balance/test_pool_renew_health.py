"""pylb.balance.pool: failures, ejections and panic in a pool that gets another configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.model import Outlier
from tests.balance.fakes import Bench, host, make_server

OUTLIER = Outlier(consecutive_errors=2, base_ejection_time=30.0, max_ejected_percent=100)


def two(**asked: Any) -> list[Server]:
    return [make_server("a", **asked), make_server("b", **asked)]


class FailuresTests(SynchronousTestCase):
    def test_fewer(self) -> None:
        """Failures from before count against the new number."""
        bench = Bench(*two(max_fails=5))
        bench.fail("aa")
        bench.renew(*two(max_fails=3))
        self.assertEqual(bench.states, ["up", "up"])
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 10s", "up"])

    def test_none(self) -> None:
        """Where failures do not count any more they take nobody out, and those that are out come back."""
        bench = Bench(*two())
        bench.fail("a")
        bench.renew(*two(max_fails=0))
        self.assertEqual(sorted(bench.serve(2)), ["a", "b"])
        self.assertEqual(bench.heard.news[-1], "a recovered: its failures do not count any more")
        bench.fail("a")
        bench.renew(*two(max_fails=2))
        bench.fail("a")
        self.assertEqual(bench.states, ["up", "up"])

    def test_pause(self) -> None:
        """An ejection ends when it was to end; the next one is as long as is asked now."""
        bench = Bench(*two(fail_timeout=10.0))
        bench.fail("a")
        bench.renew(*two(fail_timeout=60.0))
        self.assertEqual(bench.serve(2), "bb")
        bench.clock.advance(10.1)
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 60s", "up"])

    def test_trial(self) -> None:
        """A trial that was under way decides, whatever has changed meanwhile."""
        bench = Bench(*two(fail_timeout=10.0))
        bench.fail("a")
        bench.clock.advance(10.1)
        trial = next(lease for lease in iter(bench.pool.acquire, None) if host(lease.server) == "a")
        bench.renew(*two(fail_timeout=60.0))
        self.assertEqual(bench.serve(2), "bb")
        trial.succeeded()
        self.assertEqual(sorted(bench.serve(2)), ["a", "b"])

    def test_old_news(self) -> None:
        """What a lease of an earlier ejection tells is as worthless as ever."""
        bench = Bench(*two())
        leases = [bench.pool.acquire() for _ in range(4)]
        late = [lease for lease in leases if host(lease.server) == "a"]
        late[0].failed("reset")
        bench.again()
        late[1].succeeded()
        self.assertEqual(bench.states, ["ejected 10s", "up"])

    def test_window(self) -> None:
        """A window that begins to slide, that goes on, and that is as nginx's again."""
        bench = Bench(*two(max_fails=2, fail_timeout=8.0))
        bench.again(failure_window="sliding")
        bench.fail("a")
        bench.again()
        bench.clock.advance(9)
        bench.fail("a")
        self.assertEqual(bench.states, ["up", "up"])
        bench.again()
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 8s", "up"])
        bench.again(failure_window="nginx")
        bench.fail("b")
        bench.clock.advance(7)
        bench.fail("b")
        self.assertEqual(bench.states, ["ejected 1s", "ejected 8s"])

    def test_window_grows(self) -> None:
        """More failures than the window has noted do not eject by being old."""
        bench = Bench(*two(max_fails=2, fail_timeout=8.0), failure_window="sliding")
        for _ in range(6):
            bench.fail("a")
            bench.clock.advance(9)
        bench.renew(*two(max_fails=3, fail_timeout=8.0))
        bench.fail("aa")
        self.assertEqual(bench.states, ["up", "up"])
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 8s", "up"])

    def test_last_usable(self) -> None:
        """Who was spared as the last one is ejected by the next failure once nobody is spared."""
        bench = Bench(*two(), last_usable="keep")
        bench.fail("ab")
        bench.again()
        self.assertEqual(bench.serve(2), "bb")
        bench.again(last_usable="eject")
        bench.fail("b")
        self.assertEqual(bench.states, ["ejected 10s", "ejected 10s"])


class LoneTests(SynchronousTestCase):
    def test_no_longer(self) -> None:
        """A lone server that failed has a clean slate beside another, and can be ejected then."""
        bench = Bench(make_server("a"))
        bench.fail("aa")
        bench.renew(*two())
        self.assertEqual(bench.states, ["up", "up"])
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 10s", "up"])

    def test_left_alone(self) -> None:
        """The only one that is left is not ejected any more, nor starts slowly."""
        bench = Bench(*two(slow_start=100.0))
        bench.fail("a")
        bench.renew(make_server("a", slow_start=100.0))
        self.assertEqual((bench.serve(2), bench.heard.news[-1]), ("aa", "a recovered: no other server is left"))
        bench.fail("a")
        self.assertEqual(bench.serve(1), "a")

    def test_stays_alone(self) -> None:
        """Other limits eject a lone server no more than the ones before."""
        bench = Bench(make_server("a"))
        bench.renew(make_server("a", max_fails=2, fail_timeout=1.0))
        bench.fail("aaa")
        self.assertEqual(bench.serve(1), "a")


class OutlierTests(SynchronousTestCase):
    def test_goes_on(self) -> None:
        """The same once more: who is out stays out, and its next pause is longer still."""
        bench = Bench(*two(), make_server("c"), outlier=OUTLIER)
        bench.fail("aa")
        bench.again()
        self.assertEqual(bench.states, ["ejected 30s", "up", "up"])
        bench.clock.advance(30.1)
        bench.fail("a")
        self.assertEqual(bench.states, ["ejected 60s", "up", "up"])

    def test_begins(self) -> None:
        """Servers that max_fails has ejected stay so; failures count in a row from then on."""
        bench = Bench(*two(max_fails=3), make_server("c"))
        bench.fail("aaab")
        bench.renew(*two(max_fails=3), make_server("c"), outlier=OUTLIER)
        self.assertEqual(bench.states, ["ejected 10s", "up", "up"])
        bench.fail("b")
        self.assertEqual(bench.states, ["ejected 10s", "ejected 30s", "up"])
        bench.fail("c")
        bench.serve(1)
        bench.fail("c")
        self.assertEqual(bench.states[2], "up")

    def test_ends(self) -> None:
        """max_fails and fail_timeout count again; who is out stays so until then."""
        bench = Bench(*two(), make_server("c"), outlier=OUTLIER)
        bench.fail("aa")
        bench.again(outlier=None)
        bench.fail("b")
        self.assertEqual(bench.states, ["ejected 30s", "ejected 10s", "up"])
        bench.clock.advance(30.1)
        bench.fail("a")
        self.assertEqual(bench.states[0], "ejected 10s")

    def test_changes(self) -> None:
        """Another number of errors, and another pause."""
        bench = Bench(*two(), make_server("c"), outlier=OUTLIER)
        bench.fail("aa")
        bench.again(outlier=replace(OUTLIER, consecutive_errors=1, base_ejection_time=90.0))
        bench.fail("b")
        self.assertEqual(bench.states, ["ejected 30s", "ejected 90s", "up"])


class PanicTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(*two(), make_server("c"), panic_threshold=60)
        self.bench.fail("ab")
        del self.bench.heard.news[:]

    def test_goes_on(self) -> None:
        """A panic that is still one goes on, without news."""
        self.bench.again()
        self.assertEqual((sorted(self.bench.serve(3)), self.bench.heard.news), (["a", "b", "c"], []))

    def test_threshold_removed(self) -> None:
        """Nobody panics any more: only those that are well are used, and that is told."""
        self.bench.again(panic_threshold=0)
        self.assertEqual(self.bench.serve(3), "ccc")
        self.assertEqual(self.bench.heard.news, ["web calm: 1 of 3 servers are well"])

    def test_threshold_changed(self) -> None:
        """A lower one ends the panic, a higher one begins it."""
        self.bench.again(panic_threshold=30)
        self.assertEqual(self.bench.serve(3), "ccc")
        self.bench.again(panic_threshold=60)
        self.assertEqual(sorted(self.bench.serve(3)), ["a", "b", "c"])
        self.assertEqual([line.partition(":")[0] for line in self.bench.heard.news], ["web calm", "web in panic"])

    def test_more_servers(self) -> None:
        """Enough that are well end it."""
        self.bench.renew(*map(make_server, "abcde"))
        self.assertEqual(self.bench.serve(3), "cde")
