"""pylb.check.monitor: other checks and other servers after a reload, on a clock that stands still."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from pylb.balance.pool import Pool
from pylb.balance.server import Server
from pylb.check.monitor import Monitor
from pylb.check.watch import Tally
from tests.check.test_monitor import A, B, server
from tests.check.test_monitor_reload import ReloadTestCase

C = "10.0.0.3:80"


class OtherTests(ReloadTestCase):
    """Checks that are others than before: what they would say is not known."""

    def test_optional(self) -> None:
        """All serve until they fail; nothing is counted yet, and first checks are spread."""
        pool = self.checked(self.own(interval=1.0), a="status 500")
        monitor = self.reload(pool, self.own(interval=2.0))
        self.assertEqual((self.states(pool), monitor.tally(pool, pool.servers[0])), (["up", "up"], Tally()))
        self.pass_by(2.05)
        self.assertEqual(self.states(pool), ["unhealthy", "up"])

    def test_mandatory(self) -> None:
        """All wait for the first answer, those that were unhealthy, too."""
        pool = self.checked(self.own(interval=1.0), a="status 500")
        self.scene.holds = True
        self.reload(pool, self.own(interval=1.0, mandatory=True))
        self.assertEqual(self.states(pool), ["checking", "checking"])
        self.pass_by(0.05)
        self.assertEqual(len(self.scene.held), 2)

    def test_persistent(self) -> None:
        """Those that served go on, and are soon asked; those that did not wait for their first answer."""
        pool = self.checked(self.own(interval=1.0), a="status 500")
        self.scene.holds = True
        other = self.own(interval=100.0, mandatory=True, persistent=True)
        for _ in range(2):
            self.reload(pool, other)
            self.assertEqual(self.states(pool), ["checking", "up"])
        self.scene.asked.clear()
        self.pass_by(0.05)
        self.assertEqual(sorted(self.scene.asked), [A, B])
        self.scene.faults = {B: "status 500"}
        for answer in self.scene.held.values():
            answer.callback(None)
        self.assertEqual(self.states(pool), ["up", "unhealthy"])

    def test_persistent_no_more(self) -> None:
        """It is the new file that says whether a pass persists."""
        check = self.own(interval=100.0, mandatory=True, persistent=True)
        pool = self.checked(check)
        self.reload(pool, replace(check, persistent=False))
        self.assertEqual(self.states(pool), ["checking", "checking"])
        self.pass_by(0.05)
        self.reload(pool, check)
        self.assertEqual(self.states(pool), ["up", "up"])

    def test_more(self) -> None:
        """One that joins changes nothing about what the first has come to, whatever their order is."""
        one, other = self.own(interval=1.0), self.own("two ", interval=1.0, mandatory=True)
        pool = self.checked(one, a="status 500")
        self.scene.holds = True
        self.reload(pool, other, one)
        self.assertEqual(self.states(pool), ["unhealthy", "checking"])
        self.pass_by(0.1)
        self.scene.held["two " + B].callback(None)
        self.assertEqual(self.states(pool), ["unhealthy", "up"])

    def test_fewer(self) -> None:
        """One that goes takes its verdict along; those that stay have theirs."""
        one, other = self.own("one ", interval=1.0), self.own("two ", interval=1.0)
        pool = self.pool(one, other)
        self.scene.faults = {f"one {A}": "status 500", f"two {B}": "status 500"}
        self.start(pool)
        self.pass_by(2.05)
        monitor = self.reload(pool, other)
        self.assertEqual(self.states(pool), ["up", "unhealthy"])
        self.assertEqual(
            [monitor.tally(pool, each) for each in pool.servers], [Tally(2, 0, 0, True), Tally(2, 2, 1, False)]
        )

    def test_none(self) -> None:
        """Without checks all serve, and nobody is asked; with them again all begins anew."""
        check = self.own(interval=1.0)
        pool = self.checked(check, a="status 500")
        self.reload(pool)
        self.scene.asked.clear()
        self.pass_by(2.0)
        self.assertEqual((self.states(pool), self.scene.asked), (["up", "up"], []))
        self.reload(pool, check)
        self.assertEqual(self.states(pool), ["up", "up"])
        self.pass_by(1.05)
        self.assertEqual(self.states(pool), ["unhealthy", "up"])


class ServersTests(ReloadTestCase):
    def test_who_comes(self) -> None:
        """Who is new begins as on a start; nothing persists of what was never there."""
        for asked, state in (
            ({}, "up"),
            ({"mandatory": True}, "checking"),
            ({"mandatory": True, "persistent": True}, "checking"),
        ):
            check = self.own(interval=1.0, **asked)
            pool = self.checked(check)
            self.reload(pool, check, servers=(0, 1, 2))
            self.assertEqual(self.states(pool)[2], state)
            self.scene.asked.clear()
            self.pass_by(1.05)
            self.assertEqual((self.states(pool), self.scene.asked.count(C) > 0), (["up"] * 3, True))
            self.monitor.stop()

    def test_who_goes(self) -> None:
        """Who has left is not asked any more, and nobody else is asked twice as often."""
        check = self.own(interval=1.0)
        pool = self.checked(check)
        self.reload(pool, check, servers=(1,))
        self.scene.asked.clear()
        self.pass_by(3.0)
        self.assertEqual(self.scene.asked, [B] * 3)

    def test_room(self) -> None:
        """No more at once than there is room for now."""
        check = self.own(interval=1.0, timeout=60.0)
        pool = self.checked(check)
        self.scene.holds = True
        self.reload(pool, check, most=1)
        self.pass_by(2.0)
        self.assertEqual(len(self.scene.held), 1)

    def test_followed(self) -> None:
        """After the reload it is the live pool that is followed, and the draft no more; one delayed call does for all."""
        check = self.own(interval=1.0)
        pool = self.checked(check)
        monitor = self.reload(pool, check)
        pool.replace([*pool.servers, server(2)])
        monitor.follow(pool)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.pass_by(1.05)
        self.assertIn(C, self.scene.asked)

    def test_pools(self) -> None:
        """A pool that is new begins, one that is gone is left alone, one of the same servers beside them goes on."""
        check = self.own(interval=1.0, mandatory=True, persistent=True)
        gone, stays, comes = (self.pool(check, count=1, name=name) for name in ("gone", "stays", "comes"))
        before = self.start(gone, stays)
        self.pass_by(0.1)
        self.monitor = Monitor([stays, comes], self.clock, self.clock, self.clock.seconds, 1000, Random(0))
        self.monitor.start(before)
        self.assertEqual([self.states(pool) for pool in (gone, stays, comes)], [["up"], ["up"], ["checking"]])
        self.scene.asked.clear()
        self.pass_by(0.1)
        self.assertEqual(self.scene.asked, [A])

    def test_unchecked_draft(self) -> None:
        """A pool without checks may be exchanged like any other."""
        draft, pool = self.pool(name="web"), self.pool(name="web")
        monitor = Monitor([draft], self.clock, self.clock, self.clock.seconds, 10)
        monitor.exchange(draft, pool)
        monitor.start()
        self.pass_by(6.0)
        self.assertEqual(self.scene.asked, [])

    def test_not_found(self) -> None:
        """A name that has no address yet is nobody to be asked; once it has one it begins."""
        check = self.own(interval=1.0)
        pool = self.checked(check)
        spec = pool.spec
        draft = Pool(spec, [server(0), Server(server(2).spec, missing=True)], self.clock.seconds)
        before, self.monitor = self.monitor, Monitor([draft], self.clock, self.clock, self.clock.seconds, 9, Random(0))
        pool.renew(spec, draft.servers)
        self.monitor.exchange(draft, pool)
        self.monitor.start(before)
        self.scene.asked.clear()
        self.pass_by(2.0)
        self.assertEqual(self.scene.asked, [A, A])

    def test_kinds(self) -> None:
        """Checks are the same by what is asked, not by which object asks it."""
        own = self.own(interval=1.0)
        pool = self.checked(own, a="status 500")
        self.reload(pool, replace(own))
        self.assertEqual(self.states(pool), ["unhealthy", "up"])
