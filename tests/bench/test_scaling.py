from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.measure import Sample
from bench.scaling import describe


class DescribeTests(SynchronousTestCase):
    def test_describe(self) -> None:
        """Medians, and that of the ratios of the pairs."""
        one = [Sample(figure, rate) for figure, rate in ((10.0, 1000.0), (20.0, 2000.0), (40.0, 9000.0))]
        two = [Sample(figure, rate) for figure, rate in ((20.0, 3000.0), (30.0, 4000.0), (40.0, 5000.0))]
        self.assertEqual(
            describe("pylb", [one, two], "us/exchange"),
            "pylb: 20.0 and 30.0 us/exchange, 1.50 times as much with two; 2,000 and 4,000 a second",
        )
