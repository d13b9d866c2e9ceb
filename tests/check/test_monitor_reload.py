"""pylb.check.monitor: what goes on over a reload, on a clock that stands still."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from random import Random

from pylb.balance.pool import Pool
from pylb.check.interface import Report
from pylb.check.monitor import Monitor
from pylb.check.target import Target
from pylb.check.watch import Tally
from pylb.model import HealthCheck, OwnCheck
from tests.check.test_monitor import A, B, MonitorTestCase, server


class ReloadTestCase(MonitorTestCase):
    def reload(self, pool: Pool, *checks: HealthCheck, servers: tuple[int, ...] = (0, 1), most: int = 1000) -> Monitor:
        """Let other checks be asked for, and perhaps other servers; a draft of the pool is made first, as in earnest."""
        spec = replace(pool.spec, health_check=checks)
        draft = Pool(spec, [server(number) for number in servers], self.clock.seconds)
        before: Monitor = self.monitor
        self.monitor = Monitor([draft], self.clock, self.clock, self.clock.seconds, most, Random(0))
        pool.renew(spec, draft.servers)
        self.monitor.exchange(draft, pool)
        self.monitor.start(before)
        self.assertEqual((before._watches, before._owners, before._running), ({}, {}, set()))
        return self.monitor

    def states(self, pool: Pool) -> list[str]:
        return [each.status for each in pool.servers]

    def answer(self) -> None:
        """Let all that are held have their answers."""
        held, self.scene.held, self.scene.holds = self.scene.held, {}, False
        for answer in held.values():
            answer.callback(None)

    def checked(self, *checks: HealthCheck, **faults: str) -> Pool:
        """A pool of A and B that has been checked for 2 seconds; `faults` of "a" or "b"."""
        self.scene.faults = {{"a": A, "b": B}[letter]: fault for letter, fault in faults.items()}
        pool = self.pool(*checks)
        self.start(pool)
        self.pass_by(2.05)
        self.heard.news.clear()
        return pool


class SameTests(ReloadTestCase):
    """Checks that are the same as before."""

    def test_counts(self) -> None:
        """What was counted goes on, also over two reloads in a row."""
        check = self.own(interval=1.0)
        pool = self.checked(check, b="status 500")
        self.reload(pool, check)
        monitor = self.reload(pool, check)
        self.assertEqual(
            [monitor.tally(pool, each) for each in pool.servers], [Tally(2, 0, 0, True), Tally(2, 2, 1, False)]
        )
        self.pass_by(1.0)
        self.assertEqual([monitor.tally(pool, each).checks for each in pool.servers], [3, 3])

    def test_in_a_row(self) -> None:
        """Failures in a row from before and from afterwards make one row, and so do passes."""
        check = self.own(interval=1.0, fails=3, passes=3)
        pool = self.checked(check, a="status 500")
        self.reload(pool, check)
        self.pass_by(1.0)
        self.assertEqual(self.states(pool), ["unhealthy", "up"])
        self.scene.faults.clear()
        self.pass_by(2.0)
        self.reload(pool, check)
        self.pass_by(1.0)
        self.assertEqual(self.states(pool), ["up", "up"])

    def test_rhythm(self) -> None:
        """Who was asked is due when it was due, neither at once nor a whole interval after the reload."""
        check = self.own(interval=4.0)
        pool = self.pool(check)
        self.start(pool)
        self.pass_by(4.0)
        self.assertEqual(len(self.scene.asked), 2)
        moments: list[list[float]] = []
        for reloads in (False, True):
            asked: list[float] = []
            for tick in range(80):
                if reloads and tick % 16 == 7:
                    self.reload(pool, check)
                before = len(self.scene.asked)
                self.pass_by(0.05)
                asked += [tick * 0.05] * (len(self.scene.asked) - before)
            moments.append(asked)
        self.assertEqual(len(moments[0]), 2)
        self.assertEqual(moments[0], moments[1])

    def test_unhealthy_rhythm(self) -> None:
        """Who is unhealthy keeps the interval of those."""
        check = self.own(interval=100.0, unhealthy_interval=1.0, mandatory=True)
        pool = self.checked(check, a="status 500", b="status 500")
        self.pass_by(0.5)
        self.scene.asked.clear()
        self.reload(pool, check)
        self.pass_by(2.0)
        self.assertEqual(sorted(self.scene.asked), [A, A, B, B])

    def test_overdue(self) -> None:
        """One that waited for its turn is due at once."""
        check = self.own(interval=1.0, timeout=60.0)
        pool = self.checked(check)
        self.scene.holds = True
        self.monitor._most = 0
        self.pass_by(1.0)
        self.scene.asked.clear()
        self.reload(pool, check)
        self.pass_by(0.05)
        self.assertEqual(sorted(self.scene.asked), [A, B])

    def test_not_yet_checked(self) -> None:
        """Those whose first check has not come are spread as on a start."""
        check = self.own(interval=5.0)
        self.start(pool := self.pool(check, count=100))
        self.reload(pool, check, servers=tuple(range(100)))
        self.assertLessEqual(self.most_at_once(5.0, 0.05), 4)
        self.assertEqual(len(set(self.scene.asked)), 100)

    def test_unhealthy(self) -> None:
        """Who is unhealthy stays so, without news, mandatory or not, persistent or not, until it has passed."""
        for asked in ({}, {"mandatory": True}, {"persistent": True}, {"mandatory": True, "persistent": True}):
            check = self.own(interval=1.0, **asked)
            pool = self.checked(check, a="status 500")
            self.reload(pool, check)
            self.assertEqual(self.states(pool)[0], "unhealthy")
            self.assertEqual([line for line in self.heard.news if line.startswith(A)], [])
            self.scene.faults.clear()
            self.pass_by(1.1)
            self.assertEqual(self.states(pool), ["up", "up"])
            self.monitor.stop()

    def test_healthy(self) -> None:
        """Who has passed a check that is not mandatory goes on to serve, without news."""
        check = self.own(interval=1.0)
        pool = self.checked(check)
        self.reload(pool, check)
        self.pass_by(3.0)
        self.assertEqual((self.states(pool), self.heard.news), (["up", "up"], []))

    def test_mandatory(self) -> None:
        """Who has passed a mandatory one serves nobody until it has done so again, at once; the first answer decides."""
        check = self.own(interval=100.0, mandatory=True, fails=3, passes=3)
        pool = self.checked(check)
        monitor = self.reload(pool, check)
        self.assertEqual(self.states(pool), ["checking", "checking"])
        self.scene.faults = {B: "status 500"}
        self.pass_by(0.05)
        self.assertEqual(self.states(pool), ["up", "unhealthy"])
        self.assertEqual([monitor.tally(pool, each).checks for each in pool.servers], [2, 2])

    def test_mandatory_twice(self) -> None:
        """Another reload before it has answered finds it checking still; it is asked once."""
        check = self.own(interval=100.0, mandatory=True)
        pool = self.checked(check)
        self.scene.holds = True
        self.reload(pool, check)
        self.pass_by(1.0)
        self.reload(pool, check)
        self.assertEqual(self.states(pool), ["checking", "checking"])
        self.answer()
        self.assertEqual((self.states(pool), len(self.scene.asked)), (["up", "up"], 4))

    def test_persistent(self) -> None:
        """Who has passed a mandatory one that is persistent goes on to serve, and in its rhythm."""
        check = self.own(interval=100.0, mandatory=True, persistent=True)
        pool = self.checked(check)
        for _ in range(2):
            self.reload(pool, check)
        self.pass_by(3.0)
        self.assertEqual((self.states(pool), self.heard.news, len(self.scene.asked)), (["up", "up"], [], 2))

    def test_two_of_a_kind(self) -> None:
        """Two equal checks are two, before and after."""
        check = self.own(interval=1.0)
        pool = self.pool(check, check, count=1)
        self.start(pool)
        self.pass_by(2.05)
        for checks, total in (((check, check), 4), ((check,), 2), ((check, check), 2)):
            monitor = self.reload(pool, *checks, servers=(0,))
            self.assertEqual(monitor.tally(pool, pool.servers[0]).checks, total)
        self.scene.asked.clear()
        self.pass_by(2.0)
        self.assertEqual(self.scene.asked, [A] * 4)

    def test_forgotten(self) -> None:
        """What goes on keeps nothing alive of those who checked before."""
        check = self.own(interval=1.0, timeout=60.0)
        pool = self.checked(check)
        self.scene.holds = True
        self.pass_by(0.6)
        before = weakref.ref(self.monitor)
        self.reload(pool, check)
        gc.collect()
        self.assertIsNone(before())

    def test_persistent_without_answer(self) -> None:
        """Who has never passed does not serve because it would be persistent."""
        check = self.own(mandatory=True, persistent=True)
        self.scene.holds = True
        pool = self.checked(check)
        self.reload(pool, check)
        self.assertEqual(self.states(pool), ["checking", "checking"])

    def test_told_once(self) -> None:
        """A check that breaks in the same way as before the reload is not reported once more."""

        class Broken:
            async def check(self, target: Target) -> None:
                raise ValueError("mine")

        check = OwnCheck(name="mine:Broken", own=Broken, interval=1.0)
        pool = self.checked(check)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.reload(pool, check)
        self.pass_by(2.0)
        self.assertEqual(self.flushLoggedErrors(ValueError), [])

    def test_reports(self) -> None:
        """What a server says of itself holds on, and may change."""
        check = self.own(interval=1.0)
        self.scene.reports = {A: Report(share=0.5), B: Report(switch="drain")}
        pool = self.checked(check)
        self.reload(pool, check)
        self.assertEqual([(each.share, each.status) for each in pool.servers], [(0.5, "up"), (1.0, "draining")])
        self.scene.reports = {A: Report(share=1.0), B: Report(switch="up")}
        self.pass_by(1.0)
        self.assertEqual([(each.share, each.status) for each in pool.servers], [(1.0, "up"), (1.0, "up")])
