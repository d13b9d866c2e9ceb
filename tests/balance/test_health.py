"""Tests of pylb.balance.health: plain numbers are the clock here."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.health import Change, Health

DEEDS = ("pick", "fail", "succeed", "abandon", "wait")


def ejected_at(now: float, max_fails: int = 1, fail_timeout: float = 10.0) -> Health:
    """A server whose last failure, at `now`, ejected it."""
    health = Health(max_fails, fail_timeout)
    for _ in range(max_fails):
        health.failed(health.epoch, now)
    return health


class EjectionTests(SynchronousTestCase):
    def test_fresh(self) -> None:
        """A server that has not failed is allowed."""
        self.assertTrue(Health().allows(0.0))

    def test_defaults(self) -> None:
        """As in nginx one failure ejects, for ten seconds."""
        health = Health()
        health.failed(0, 0.0)
        self.assertEqual([health.allows(now) for now in (0.0, 10.0, 10.001)], [False, False, True])

    def test_max_fails(self) -> None:
        """The failure that reaches max_fails ejects, those before it change nothing."""
        health = Health(max_fails=3)
        self.assertEqual([health.failed(0, 0.0) for _ in range(3)], [Change.NOTHING, Change.NOTHING, Change.EJECTED])

    def test_no_accounting(self) -> None:
        """With max_fails 0 no number of failures ejects; it is news that the server fails, once."""
        health = Health(max_fails=0)
        news = [health.failed(0, now) for now in (0.0, 1.0, 100.0)]
        self.assertEqual(news, [Change.TOLERATED, Change.NOTHING, Change.NOTHING])
        self.assertEqual((health.ejected, health.allows(100.0)), (False, True))

    def test_no_accounting_recovers(self) -> None:
        """It is news that it works again, once it has for fail_timeout, and a second at least, not failed."""
        for fail_timeout, pause in ((10.0, 10.0), (0.0, 1.0)):
            health = Health(max_fails=0, fail_timeout=fail_timeout)
            health.failed(0, 5.0)
            news = [health.succeeded(0, 5.0 + later) for later in (0.5, pause, pause + 0.1, pause + 0.2)]
            self.assertEqual(news, [Change.NOTHING, Change.NOTHING, Change.RECOVERED, Change.NOTHING])

    def test_pause(self) -> None:
        """The pause lasts through fail_timeout and ends after it, to the millisecond."""
        health = ejected_at(100.0, fail_timeout=10.0)
        self.assertEqual([health.allows(now) for now in (100.0, 110.0, 110.001)], [False, False, True])

    def test_waiting_does_not_heal(self) -> None:
        """However long nobody asks, the server stays ejected until a trial succeeds."""
        health = ejected_at(0.0)
        self.assertEqual((health.allows(1e9), health.ejected), (True, True))

    def test_eight_failures_at_once(self) -> None:
        """Trap: eight connections that fail together eject the server once."""
        health = Health(max_fails=3)
        changes = [health.failed(0, 5.0) for _ in range(8)]
        self.assertEqual(changes.count(Change.EJECTED), 1)

    def test_stragglers_do_not_extend_the_pause(self) -> None:
        """Trap: the late failure of a lease from before the ejection does not make the pause longer."""
        health = ejected_at(0.0, fail_timeout=10.0)
        health.failed(0, 9.0)
        self.assertTrue(health.allows(10.5))


class AddingUpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.health = Health(max_fails=2, fail_timeout=10.0)
        self.health.failed(0, 100.0)

    def test_success_within_fail_timeout_keeps_the_failures(self) -> None:
        """A success picked at most fail_timeout after the failure does not clear it (nginx: accessed < checked)."""
        self.health.succeeded(0, picked=110.0)
        self.assertEqual(self.health.failed(0, 111.0), Change.EJECTED)

    def test_success_after_fail_timeout_clears_them(self) -> None:
        """A success picked more than fail_timeout after the last failure does."""
        self.health.succeeded(0, picked=110.001)
        self.assertEqual(self.health.failed(0, 111.0), Change.NOTHING)

    def test_it_is_the_pick_that_counts(self) -> None:
        """A success that came late, but of a lease picked before the failure, says nothing about the time since."""
        self.health.succeeded(0, picked=99.0)
        self.assertEqual(self.health.failed(0, 200.0), Change.EJECTED)

    def test_time_alone_clears_nothing(self) -> None:
        """Two failures far apart without a success in between still add up."""
        self.assertEqual(self.health.failed(0, 10_000.0), Change.EJECTED)

    def test_each_failure_starts_the_time_anew(self) -> None:
        """The time is measured from the last failure, not from the first."""
        health = Health(max_fails=3, fail_timeout=10.0)
        health.failed(0, 100.0)
        health.failed(0, 108.0)
        health.succeeded(0, picked=111.0)
        self.assertEqual(health.failed(0, 112.0), Change.EJECTED)


class TrialTests(SynchronousTestCase):
    """The server was ejected at 0; a trial was picked at 11, in the epoch that the ejection began."""

    def setUp(self) -> None:
        self.health = ejected_at(0.0, fail_timeout=10.0)
        self.before = 0
        self.epoch = self.health.epoch
        self.health.trial_started(11.0)

    def test_one_at_a_time(self) -> None:
        """While a trial is under way nobody else is let through, for at most another fail_timeout."""
        self.assertEqual([self.health.allows(now) for now in (11.0, 21.0, 21.001)], [False, False, True])

    def test_trial_succeeds(self) -> None:
        """The success of the trial ends the ejection."""
        change = self.health.succeeded(self.epoch, picked=11.0)
        self.assertEqual((change, self.health.allows(11.0), self.health.ejected), (Change.RECOVERED, True, False))

    def test_trial_fails(self) -> None:
        """The failure of the trial makes the pause longer, and is no new ejection."""
        change = self.health.failed(self.epoch, 12.0)
        self.assertEqual(
            (change, [self.health.allows(now) for now in (12.0, 22.0, 22.001)]),
            (Change.EXTENDED, [False, False, True]),
        )

    def test_recovery_forgets_the_failures(self) -> None:
        """After a recovery it takes max_fails failures again."""
        health = ejected_at(0.0, max_fails=2)
        health.succeeded(health.epoch, picked=11.0)
        self.assertEqual(health.failed(health.epoch, 12.0), Change.NOTHING)

    def test_straggler_success_does_not_heal(self) -> None:
        """Trap: the success of a lease from before the ejection does not end it, during the trial either."""
        change = self.health.succeeded(self.before, picked=-1.0)
        self.assertEqual((change, self.health.ejected), (Change.NOTHING, True))

    def test_straggler_failure_does_not_end_the_trial(self) -> None:
        """Trap: the failure of a lease from before the ejection says nothing about the trial."""
        self.health.failed(self.before, 12.0)
        self.assertTrue(self.health.allows(21.001))

    def test_straggler_without_verdict_does_not_end_the_trial(self) -> None:
        """Trap: a lease from before the ejection that ends without a verdict does not let a second trial in."""
        self.health.abandoned(self.before, picked=-1.0)
        self.assertFalse(self.health.allows(12.0))

    def test_lease_given_when_the_server_was_ejected(self) -> None:
        """Nor does one that was given at the very moment of the ejection shorten the pause."""
        health = ejected_at(0.0, fail_timeout=10.0)
        health.abandoned(self.before, picked=0.0)
        self.assertFalse(health.allows(1.0))

    def test_news_from_before_the_recovery(self) -> None:
        """After a recovery what happened to another trial of that ejection counts no more."""
        self.health.succeeded(self.epoch, picked=11.0)
        self.assertEqual((self.health.failed(self.epoch, 13.0), self.health.allows(13.0)), (Change.NOTHING, True))

    def test_trial_abandoned(self) -> None:
        """A trial that ends without a verdict neither heals nor counts: the next lease is the trial, at once."""
        self.health.abandoned(self.epoch, picked=11.0)
        self.assertEqual((self.health.allows(11.0), self.health.ejected), (True, True))

    def test_trial_abandoned_while_a_later_one_runs(self) -> None:
        """A trial given up after the next one began does not let a third one in beside it."""
        self.health.trial_started(22.0)
        self.health.abandoned(self.epoch, picked=11.0)
        self.assertFalse(self.health.allows(23.0))

    def test_trial_abandoned_after_a_later_one_failed(self) -> None:
        """Nor does it cut short the pause after the failure of the next one."""
        self.health.trial_started(22.0)
        self.health.failed(self.epoch, 23.0)
        self.health.abandoned(self.epoch, picked=11.0)
        self.assertEqual([self.health.allows(now) for now in (24.0, 33.0, 33.001)], [False, False, True])

    def test_slow_trial_may_still_heal(self) -> None:
        """A server that needs longer than fail_timeout for its answer recovers, though the next trial has begun."""
        self.health.trial_started(22.0)
        self.assertEqual(self.health.succeeded(self.epoch, picked=11.0), Change.RECOVERED)

    def test_abandoned_without_ejection(self) -> None:
        """A lease of a healthy server that ends without a verdict changes nothing."""
        health = Health()
        health.abandoned(0, picked=0.0)
        self.assertEqual((health.allows(0.0), health.ejected), (True, False))


class ForgiveTests(SynchronousTestCase):
    def test_forgiven(self) -> None:
        """An ejected server that is forgiven has recovered."""
        health = ejected_at(0.0)
        self.assertEqual((health.forgive(), health.allows(0.0), health.fails), (Change.RECOVERED, True, 0))

    def test_nothing_to_forgive(self) -> None:
        """One that was not ejected has not; its failures are forgotten all the same."""
        health = Health(max_fails=2)
        health.failed(0, 0.0)
        self.assertEqual((health.forgive(), health.fails), (Change.NOTHING, 0))

    def test_late_news(self) -> None:
        """What happens to leases from before does not count any more."""
        health = Health()
        health.forgive()
        self.assertEqual(health.failed(0, 0.0), Change.NOTHING)


class PropertyTests(SynchronousTestCase):
    @given(
        max_fails=st.integers(0, 3),
        steps=st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 5))),
    )
    @settings(deadline=None, max_examples=300)
    def test_bad_and_good_news_alternate(self, max_fails: int, steps: list[tuple[str, int]]) -> None:
        """Whatever happens in whatever order: ejected, recovered, ejected ..., and `ejected` agrees with the news.

        A server that is never ejected begins to fail and recovers, by turns, instead.
        """
        bad = Change.EJECTED if max_fails else Change.TOLERATED
        health, now, news = Health(max_fails, 10.0), 0.0, [Change.RECOVERED]
        leases = [(0, -inf)]
        for what, which in steps:
            epoch, picked = leases[which % len(leases)]
            change = Change.NOTHING
            if what == "wait":
                now += 3.5 * which
            elif what == "pick" and health.allows(now):
                leases.append((health.epoch, now))
                if health.ejected:
                    health.trial_started(now)
            elif what == "fail":
                change = health.failed(epoch, now)
            elif what == "succeed":
                change = health.succeeded(epoch, picked)
            elif what == "abandon":
                health.abandoned(epoch, picked)
            if change not in (Change.NOTHING, Change.EXTENDED):
                self.assertEqual(change, Change.RECOVERED if news[-1] is bad else bad)
                news.append(change)
            self.assertEqual(health.ejected, news[-1] is Change.EJECTED)
