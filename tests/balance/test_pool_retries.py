"""Tests of pylb.balance.pool: how many retries may be under way."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.lease import Lease
from pylb.balance.pool import NoServerAvailable
from pylb.model import RetryBudget
from tests.balance.fakes import Bench, make_server


class RetriesTests(SynchronousTestCase):
    def bench(self, **asked: Any) -> Bench:
        return Bench(*(make_server(letter, max_fails=0) for letter in "abcd"), **asked)

    def retry(self, bench: Bench) -> Lease:
        """A lease of somebody whose first server has failed."""
        first = bench.pool.acquire()
        first.failed("refused")
        try:
            return bench.pool.acquire(None, first)
        finally:
            first.release()

    def test_any_number(self) -> None:
        """There is no limit unless one is set."""
        bench = self.bench()
        self.assertEqual([len(self.retry(bench).tried) for _ in range(50)], [1] * 50)
        self.assertEqual(bench.pool.retries, 50)

    def test_at_most(self) -> None:
        """So many at once; one more has to do with the failure that it has, which is nobody's refusal."""
        bench = self.bench(max_retries=2)
        retries = [self.retry(bench), self.retry(bench)]
        error = self.assertRaises(NoServerAvailable, self.retry, bench)
        self.assertEqual(str(error), "pool web: 2 retries are under way already")
        self.assertEqual((bench.pool.refused, bench.heard.news[4:]), (0, []))
        bench.pool.acquire()
        retries[0].release()
        self.retry(bench)
        self.assertRaises(NoServerAvailable, self.retry, bench)

    def test_over(self) -> None:
        """A retry is over with its verdict, or its release if it has none; once."""
        for end in (Lease.succeeded, lambda lease: lease.failed("reset"), Lease.release):
            bench = self.bench(max_retries=1)
            lease = self.retry(bench)
            self.assertEqual(bench.pool.retries, 1)
            for _ in range(2):
                end(lease)
                lease.release()
            self.assertEqual(bench.pool.retries, 0)

    def test_several_tries_of_one(self) -> None:
        """The third try takes the place of the second one."""
        bench = self.bench(max_retries=1)
        second = self.retry(bench)
        second.failed("refused")
        third = bench.pool.acquire(None, second)
        second.release()
        self.assertEqual((bench.pool.retries, len(third.tried)), (1, 2))

    def test_budget(self) -> None:
        """A part of all that is under way, rounded down, in this worker."""
        bench = self.bench(retry_budget=RetryBudget(percent=25, min_retries=0))
        held = [bench.pool.acquire() for _ in range(2)]
        self.assertRaises(NoServerAvailable, self.retry, bench)  # its first try is the third lease
        held.append(bench.pool.acquire())
        retry = self.retry(bench)
        self.assertRaises(NoServerAvailable, self.retry, bench)
        held += [bench.pool.acquire() for _ in range(3)]
        self.retry(bench)
        retry.release()
        for lease in held:
            lease.release()
        self.assertRaises(NoServerAvailable, self.retry, bench)

    def test_least(self) -> None:
        """So many retries may always be."""
        bench = self.bench(retry_budget=RetryBudget(percent=0, min_retries=2))
        self.retry(bench)
        self.retry(bench)
        self.assertRaises(NoServerAvailable, self.retry, bench)
