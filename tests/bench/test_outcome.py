from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.outcome import LoadFailed, Outcome, outcome


class OutcomeTests(SynchronousTestCase):
    def test_percentiles(self) -> None:
        """Half are no slower than p50, and 99 of 100 no slower than p99, in whatever order they came."""
        self.assertEqual(outcome([float(n) for n in range(100, 0, -1)], 4), Outcome(100, 4, 51, 100))
        self.assertEqual(outcome([1.0] * 990 + [9.0] * 9, 4).p99, 1)

    def test_each(self) -> None:
        """A body is as many operations as it has MB."""
        self.assertEqual(outcome([1.0, 1.0], 2, each=100).operations, 200)

    def test_none(self) -> None:
        """A load that nobody answered has failed."""
        self.assertRaises(LoadFailed, outcome, [], 1)
