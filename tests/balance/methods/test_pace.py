"""Tests of pylb.balance.methods.pace."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.pace import Pace, make_paces
from tests.balance.fakes import make_server, make_servers


def make_pace(*milliseconds: int, fail_timeout: float = 9.0, inflight: bool = False) -> Pace:
    """The pace of a server that was chosen at 0 and then measured."""
    pace = Pace(make_server("a", fail_timeout=fail_timeout), inflight)
    pace.chosen(0.0)
    for sample in milliseconds:
        pace.measured(sample / 1000)
    return pace


class AverageTests(SynchronousTestCase):
    """A moving average in whole milliseconds."""

    def test_first(self) -> None:
        """The first sample counts as it is."""
        self.assertEqual(make_pace(300).average, 300)

    def test_next(self) -> None:
        """Each other counts a twentieth, rounded to the nearest, half a millisecond up."""
        self.assertEqual([make_pace(100, next).average for next in (109, 110, 300, 0)], [100, 101, 110, 95])

    def test_nothing(self) -> None:
        """A sample of no time is no sample."""
        self.assertEqual(make_pace(0, 0, 300).average, 300)


class StepTests(SynchronousTestCase):
    """Times in steps of 20 ms."""

    def test_steps(self) -> None:
        """The step that the time lies in, by its end; a time at a limit belongs to the next."""
        times = [make_pace(time).milliseconds(0.0) for time in (1, 19, 20, 39, 40, 4979, 4980, 4999)]
        self.assertEqual(times, [20, 20, 40, 40, 60, 4980, 5000, 5000])

    def test_longest(self) -> None:
        """From 5 seconds on all are the same."""
        self.assertEqual([make_pace(time).milliseconds(0.0) for time in (5000, 5001, 600_000)], [5000] * 3)

    def test_unknown(self) -> None:
        """Who was never measured counts as the quickest, chosen before or not."""
        self.assertEqual([make_pace().milliseconds(0.0), Pace(make_server("a"), False).milliseconds(99.0)], [20, 20])


class HalvingTests(SynchronousTestCase):
    """The average counts half for each fail_timeout and a second that has passed."""

    def test_halved(self) -> None:
        """Once in ten seconds, where fail_timeout is nine."""
        pace = make_pace(1000)
        self.assertEqual([pace.milliseconds(now) for now in (9.9, 10.0, 19.9, 20.0, 60.0)], [1020, 520, 520, 260, 20])

    def test_for_ever(self) -> None:
        """After a very long time nothing is left, and nothing breaks."""
        self.assertEqual(make_pace(10**15).milliseconds(1e12), 20)

    def test_chosen(self) -> None:
        """Whoever is chosen is as slow as before; but not earlier than after that time."""
        pace = make_pace(1000)
        early = (pace.chosen(9.9), pace.milliseconds(10.0))
        late = (pace.chosen(10.0), pace.milliseconds(10.0), pace.milliseconds(19.9), pace.milliseconds(20.0))
        self.assertEqual((early, late), ((False, 520), (True, 1020, 1020, 520)))

    def test_failed(self) -> None:
        """A failure begins the time anew."""
        pace = make_pace(1000)
        pace.server.health.failed(0, 5.0)
        pace.failed()
        self.assertEqual([pace.milliseconds(now) for now in (10.0, 14.9, 15.0)], [1020, 1020, 520])

    def test_too_early(self) -> None:
        """Whoever does not know how late it is hears of no halving."""
        pace = make_pace(1000)
        pace.chosen(500.0)
        self.assertEqual(pace.milliseconds(0.0), 1020)

    def test_an_average_that_was_halved_stays(self) -> None:
        """It counts half, but the next sample meets it whole."""
        pace = make_pace(1000)
        pace.milliseconds(10.0)
        pace.measured(1.0)
        self.assertEqual(pace.average, 1000)


class InflightTests(SynchronousTestCase):
    """What waits for an answer tells of a server, too."""

    def waiting(self, *began: float, average: int = 100, inflight: bool = True) -> Pace:
        pace = make_pace(average, inflight=inflight, fail_timeout=1000.0)
        pace.server.waiting, pace.server.began = len(began), sum(began)
        return pace

    def test_old(self) -> None:
        """When they are older than the average, on average, their age counts."""
        self.assertEqual([self.waiting(1.0, 2.0).milliseconds(now) for now in (1.59, 1.61, 2.5)], [120, 120, 1020])

    def test_longest(self) -> None:
        """But not more than the longest."""
        self.assertEqual([self.waiting(1.0).milliseconds(now) for now in (5.99, 6.0, 99.0)], [5000] * 3)

    def test_off(self) -> None:
        """Unless it was not asked for."""
        self.assertEqual(self.waiting(1.0, inflight=False).milliseconds(3.0), 120)

    def test_one_more(self) -> None:
        """A new one makes them younger, one less older, at once."""
        pace = self.waiting(1.0)
        times = [pace.milliseconds(2.0)]
        for began in (2.0, -2.0):
            pace.server.began += began
            pace.server.waiting += 1 if began > 0 else -1
            times.append(pace.milliseconds(2.0))
        self.assertEqual(times, [1020, 520, 1020])


class UntilTests(SynchronousTestCase):
    """It is known when the time is another although nothing happens."""

    def until(self, pace: Pace, now: float) -> float:
        pace.milliseconds(now)
        return pace.until

    def test_halving(self) -> None:
        """At the next halving, while that makes a difference."""
        pace = make_pace(50)
        self.assertEqual([self.until(pace, now) for now in (0.0, 10.0, 20.0)], [10.0, 20.0, inf])

    def test_unknown(self) -> None:
        """Never, if nothing is known."""
        self.assertEqual(self.until(make_pace(), 0.0), inf)

    def test_age(self) -> None:
        """When those that wait have reached the next step, a little before; and never when they are the oldest."""
        pace = make_pace(10, fail_timeout=1000.0, inflight=True)
        pace.server.waiting, pace.server.began = 1, 1.0
        untils = [self.until(pace, now) for now in (1.0, 1.025, 5.985)]
        for seen, expected in zip(untils, (1.02, 1.04, inf), strict=True):
            self.assertTrue(seen == expected or expected - 2e-6 < seen < expected, seen)

    def test_later(self) -> None:
        """It is never now, or somebody would look for ever."""
        pace = make_pace(10, inflight=True)
        pace.server.waiting, pace.server.began = 1, 1.0
        for number in range(2000):
            now = 1.0 + number / 997
            self.assertGreater(self.until(pace, now), now)


class MakeTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Who was known stays known, others begin, and who has left is forgotten."""
        servers = make_servers(1, 1, 1)

        class Before:
            paces = make_paces(servers[:2], False, None)

        Before.paces[servers[1]].measured(1.0)
        paces = make_paces(servers[1:], False, Before)
        self.assertEqual([(server, paces[server].average) for server in paces], [(servers[1], 1000), (servers[2], 0)])
