"""pylb.check.monitor: checks that are under way during a reload, on a clock that stands still."""

from __future__ import annotations

from pylb.balance.pool import Pool
from pylb.check.watch import Tally
from pylb.model import HealthCheck
from tests.check.test_monitor import A, B
from tests.check.test_monitor_reload import ReloadTestCase


class UnderWayTests(ReloadTestCase):
    """A check that is as before goes on."""

    def asked(self, check: HealthCheck, **faults: str) -> Pool:
        """A pool of A and B that are being asked for the third time, and do not answer."""
        pool = self.checked(check, **faults)
        self.scene.holds = True
        self.pass_by(1.1)
        self.assertEqual(sorted(self.scene.held), [A, B])
        self.scene.asked.clear()
        return pool

    def test_answer(self) -> None:
        """It is not asked again, and its answer counts, as does its rhythm."""
        check = self.own(interval=1.0, timeout=60.0)
        pool = self.asked(check)
        monitor = self.reload(pool, check)
        self.assertEqual([monitor.tally(pool, each).checks for each in pool.servers], [2, 2])
        self.scene.faults = {B: "status 500"}
        self.answer()
        self.assertEqual(
            [monitor.tally(pool, each) for each in pool.servers], [Tally(3, 0, 0, True), Tally(3, 1, 1, False)]
        )
        self.assertEqual((self.states(pool), self.scene.asked), (["up", "unhealthy"], []))
        self.pass_by(1.0)
        self.assertEqual([monitor.tally(pool, each).checks for each in pool.servers], [4, 4])

    def test_timeout(self) -> None:
        """A server that hangs is found in time, however often there is a reload."""
        check = self.own(interval=1.0, timeout=2.0)
        pool = self.asked(check)
        for _ in range(4):
            self.pass_by(0.5)
            self.reload(pool, check)
        self.assertEqual(self.states(pool), ["unhealthy", "unhealthy"])
        self.assertEqual(sorted(self.heard.news), [f"{each} unhealthy: no answer within 2 s" for each in (A, B)])

    def test_mandatory(self) -> None:
        """One that is asked just now is not asked twice, though it has to pass anew: this answer decides."""
        check = self.own(interval=1.0, timeout=60.0, mandatory=True, fails=3, passes=3)
        pool = self.asked(check)
        self.reload(pool, check)
        self.pass_by(0.5)
        self.assertEqual((self.states(pool), self.scene.asked), (["checking", "checking"], []))
        self.scene.faults = {B: "status 500"}
        self.answer()
        self.assertEqual(self.states(pool), ["up", "unhealthy"])

    def test_room(self) -> None:
        """What is under way is not given up for want of room; others begin when there is some."""
        check, other = self.own(interval=1.0, timeout=60.0), self.own("other ", interval=0.1)
        pool = self.asked(check)
        self.reload(pool, check, other, most=2)
        self.pass_by(0.5)
        self.assertEqual((len(self.scene.held), self.scene.asked), (2, []))
        self.answer()
        self.pass_by(0.2)
        self.assertIn(f"other {A}", self.scene.asked)

    def test_changed(self) -> None:
        """One that is to be another is given up, and its answer is nobody's."""
        pool = self.asked(self.own(interval=1.0, timeout=60.0))
        held = dict(self.scene.held)
        monitor = self.reload(pool, self.own(interval=1.0, timeout=60.0))
        self.assertEqual([answer.called for answer in held.values()], [True, True])
        self.assertEqual([monitor.tally(pool, each) for each in pool.servers], [Tally(), Tally()])

    def test_who_goes(self) -> None:
        """One of a server that goes is given up."""
        check = self.own(interval=1.0, timeout=60.0)
        pool = self.asked(check)
        held = dict(self.scene.held)
        self.reload(pool, check, servers=(1,))
        self.assertEqual((held[A].called, held[B].called), (True, False))
