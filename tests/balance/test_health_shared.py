"""Tests of pylb.balance.health for workers that share a server: their notes are in one dict."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.health import Change, Health, Note

DEEDS = ("pick", "fail", "succeed", "abandon", "forgive", "wait", "look")


class Board:
    """The notes of all workers."""

    def __init__(self) -> None:
        self.rows: dict[int, Note] = {}
        self.published = 0

    def worker(self, max_fails: int = 1) -> Health:
        health = Health(max_fails)
        health.shared = _Row(self, len(self.rows))
        health.shared.publish(health.note)
        return health


class _Row:
    def __init__(self, board: Board, number: int) -> None:
        self.board, self.number = board, number

    def notes(self) -> Iterable[Note]:
        return self.board.rows.values()

    def publish(self, note: Note) -> None:
        self.board.rows[self.number] = note
        self.board.published += 1


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.board = Board()
        self.one, self.two = self.board.worker(max_fails=2), self.board.worker(max_fails=2)

    def eject(self) -> None:
        """At 100, by the first worker; the second knows."""
        for _ in range(2):
            self.one.failed(0, 100.0)
        self.two.catch_up()

    def test_alone(self) -> None:
        """Who shares with nobody has nothing to catch up with."""
        health = Health()
        health.failed(0, 100.0)
        before = health.note
        self.assertEqual((health.catch_up(), health.note), (Change.NOTHING, before))

    def test_adds_up(self) -> None:
        """Failures of both workers add up to max_fails."""
        self.one.failed(0, 100.0)
        caught_up = self.two.catch_up()
        self.assertEqual((caught_up, self.two.failed(0, 101.0)), (Change.NOTHING, Change.EJECTED))

    def test_time_of_the_last(self) -> None:
        """The time since the last failure, whosever it was, decides whether a success clears them."""
        self.one.failed(0, 100.0)
        self.two.catch_up()
        self.two.succeeded(0, picked=110.0)
        self.assertEqual(self.two.fails, 1)

    def test_cleared(self) -> None:
        """A success that clears them clears them for all."""
        self.one.failed(0, 100.0)
        self.two.catch_up()
        self.two.succeeded(0, picked=110.5)
        self.one.catch_up()
        self.assertEqual((self.one.fails, self.one.failed(0, 111.0)), (0, Change.NOTHING))

    def test_ejected(self) -> None:
        """Whom one worker has ejected the others leave alone as long."""
        self.eject()
        self.assertEqual([self.two.allows(now) for now in (100.0, 110.0, 110.001)], [False, False, True])

    def test_told_once(self) -> None:
        """What others did is a change once, and what is known is published once: two do not go on telling each other."""
        self.one.failed(0, 100.0)
        self.one.failed(0, 100.0)
        changes = [self.two.catch_up() for _ in range(3)] + [self.one.catch_up() for _ in range(3)]
        self.assertEqual(changes, [Change.EJECTED] + [Change.NOTHING] * 5)
        self.assertEqual(self.board.published, 2 + 2 + 1)

    def test_stragglers(self) -> None:
        """A lease from before another worker's ejection says nothing any more."""
        self.eject()
        self.assertEqual(self.two.succeeded(0, picked=99.0), Change.NOTHING)
        self.assertEqual(self.two.failed(0, 109.0), Change.NOTHING)
        self.assertTrue(self.two.allows(110.001))

    def test_recovered(self) -> None:
        """The trial of one worker ends the ejection for all, and their late trials say nothing."""
        self.eject()
        for health in (self.one, self.two):
            health.trial_started(111.0)
        self.two.succeeded(1, picked=111.0)
        self.assertEqual((self.one.catch_up(), self.one.ejected, self.one.fails), (Change.RECOVERED, False, 0))
        self.assertEqual(self.one.failed(1, 112.0), Change.NOTHING)

    def test_recovered_by_both(self) -> None:
        """Two trials that succeed before either worker has looked are one recovery."""
        self.eject()
        for health in (self.one, self.two):
            health.succeeded(1, picked=111.0)
        self.assertEqual([health.catch_up() for health in (self.one, self.two)], [Change.NOTHING] * 2)
        self.assertEqual(self.one.note, self.two.note)

    def test_trial(self) -> None:
        """While one worker tries the server the others do not."""
        self.eject()
        self.one.trial_started(111.0)
        self.two.catch_up()
        self.assertEqual([self.two.allows(now) for now in (111.0, 121.0, 121.001)], [False, False, True])

    def test_trial_failed(self) -> None:
        """When it fails the pause is longer for all."""
        self.eject()
        self.one.trial_started(111.0)
        self.one.failed(1, 112.0)
        self.two.catch_up()
        self.assertEqual([self.two.allows(now) for now in (122.0, 122.001)], [False, True])

    def test_trial_abandoned(self) -> None:
        """When it is given up any worker may have the next, at once."""
        self.eject()
        self.one.trial_started(111.0)
        self.two.catch_up()
        self.one.abandoned(1, picked=111.0)
        self.two.catch_up()
        self.assertEqual((self.two.allows(111.5), self.two.ejected), (True, True))

    def test_trial_abandoned_that_was_all_one_knew(self) -> None:
        """The same if the other worker hears of the ejection and of the trial in one breath."""
        for _ in range(2):
            self.one.failed(0, 100.0)
        self.one.trial_started(111.0)
        self.two.catch_up()
        during = self.two.allows(111.5)
        self.one.abandoned(1, picked=111.0)
        for health in (self.one, self.two):
            health.catch_up()
        self.assertEqual((during, self.one.allows(111.5), self.two.allows(111.5)), (False, True, True))

    def test_worker_died(self) -> None:
        """The ejection outlives the worker that made it, its trial does not."""
        self.eject()
        self.one.trial_started(111.0)
        self.two.catch_up()
        self.board.rows[0] = Note(0, 0, 0, 0.0, 0.0)
        change = self.two.catch_up()
        self.assertEqual((change, self.two.ejected, self.two.retry_at), (Change.NOTHING, True, 110.0))
        self.assertEqual(self.two.succeeded(1, picked=111.0), Change.RECOVERED)

    def test_newcomer(self) -> None:
        """A new worker begins with what the others know."""
        self.eject()
        self.board.rows[2] = Health().note
        third = self.board.worker(max_fails=2)
        self.assertEqual((third.catch_up(), third.epoch, third.retry_at), (Change.EJECTED, 1, 110.0))

    def test_lone_there(self) -> None:
        """A worker that knows no other server goes on using one that the others have ejected; a success tells them."""
        lone = self.board.worker(max_fails=0)
        self.eject()
        self.assertEqual((lone.catch_up(), lone.allows(101.0)), (Change.NOTHING, True))
        lone.succeeded(lone.epoch, picked=101.0)
        self.assertEqual(self.one.catch_up(), Change.RECOVERED)


class PropertyTests(SynchronousTestCase):
    @given(
        max_fails=st.integers(0, 3),
        steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(DEEDS), st.integers(0, 5))),
    )
    @settings(deadline=None, max_examples=300)
    def test_agreement(self, max_fails: int, steps: list[tuple[int, str, int]]) -> None:
        """Whatever three workers do: nobody's epoch goes back, and when all have looked twice all know the same."""
        board, now = Board(), 0.0
        workers = [board.worker(max_fails) for _ in range(3)]
        leases: list[list[tuple[int, float]]] = [[(0, -inf)] for _ in workers]
        for number, what, which in steps:
            health, held = workers[number], leases[number]
            epoch, picked = held[which % len(held)]
            before = health.epoch
            if what == "wait":
                now += 3.5 * which
            elif what == "look":
                health.catch_up()
            elif what == "forgive":
                health.forgive()
            elif what == "pick" and health.allows(now):
                held.append((health.epoch, now))
                if health.ejected:
                    health.trial_started(now)
            elif what == "fail":
                health.failed(epoch, now)
            elif what == "succeed":
                health.succeeded(epoch, picked)
            elif what == "abandon":
                health.abandoned(epoch, picked)
            self.assertGreaterEqual(health.epoch, before)
            self.assertEqual(health.ejected, health.epoch % 2 == 1)
        for health in workers * 2:
            health.catch_up()
        self.assertEqual(len({health.note for health in workers}), 1)
