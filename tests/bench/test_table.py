from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench.loads import Load
from bench.measure import Sample
from bench.program import Program
from bench.table import Ratio, Row, ratio, shortfalls, table


def unmeasured(program: Program) -> Sample:
    raise AssertionError("nothing is measured here")


def make_load(**changes: Any) -> Load:
    return Load(**{"name": "a", "title": "A", "unit": "us", "measure": unmeasured, "must": 1.5, "hope": 1.2, **changes})


def samples(*figures: float) -> list[Sample]:
    return [Sample(figure) for figure in figures]


class RatioTests(SynchronousTestCase):
    def test_pairs(self) -> None:
        """Each is compared with its pair, so that noise that meets both does not count."""
        self.assertEqual(ratio(samples(2, 40, 9), samples(1, 10, 3)), Ratio(3, 2, 4))

    def test_unequal(self) -> None:
        """What has no pair does not count."""
        self.assertEqual(ratio(samples(2), samples(1, 10)), Ratio(2, 2, 2))

    def test_none(self) -> None:
        """Without a pair, or with one that cost nothing measurable, there is no ratio."""
        self.assertIsNone(ratio(samples(2), []))
        self.assertIsNone(ratio(samples(2), samples(0)))

    def test_text(self) -> None:
        """The brackets are for several pairs."""
        self.assertEqual([str(Ratio(2, 1, 3)), str(Ratio(2, 2, 2))], ["2.00 (1.00-3.00)", "2.00"])


class ShortfallTests(SynchronousTestCase):
    def test_met(self) -> None:
        """What is exactly reached is reached, of a ratio and of an amount."""
        rows = [
            Row(make_load(), {"pylb": samples(3), "nginx": samples(2), "haproxy": []}),
            Row(make_load(must=8, is_ratio=False), {"pylb": samples(8), "nginx": samples(1), "haproxy": []}),
        ]
        self.assertEqual(shortfalls(rows), [])

    def test_missed(self) -> None:
        """What is not reached says by how much, of a ratio and of an amount."""
        rows = [
            Row(make_load(), {"pylb": samples(6), "nginx": samples(2), "haproxy": []}),
            Row(
                make_load(name="b", must=8, is_ratio=False), {"pylb": samples(12), "nginx": samples(99), "haproxy": []}
            ),
        ]
        self.assertEqual(
            shortfalls(rows),
            ["a: 3.00 where 1.5 is allowed (100% over)", "b: 12.00 where 8 is allowed (50% over)"],
        )

    def test_failed(self) -> None:
        """What was not measured is not passed over."""
        self.assertEqual(shortfalls([Row(make_load(), failures=["nginx failed: gone"])]), ["a: nginx failed: gone"])


class TableTests(SynchronousTestCase):
    def test_row(self) -> None:
        """Medians of what was measured, in three digits; times in milliseconds."""
        row = Row(
            make_load(),
            {
                "pylb": [
                    Sample(30, 1000, 0.001, 0.002),
                    Sample(40, 3000, 0.001, 0.002),
                    Sample(20, 2000, 0.001, 0.004),
                ],
                "nginx": [Sample(10, 12345, 0.0001, 0.0002)] * 3,
                "haproxy": [],
            },
        )
        cells = "A | us | 30 | 10 | - | 3.00 (2.00-4.00) | 1.5 | - | 2,000, 12,345, - | 1, 0.1, - | 2, 0.2, -"
        self.assertEqual(table([row]).splitlines()[2], f"| {cells} |")

    def test_amount(self) -> None:
        """A must that is an amount has its unit, and what a load does not have is left out."""
        row = Row(
            make_load(unit="kB", must=8, is_ratio=False), {"pylb": samples(4), "nginx": samples(8), "haproxy": []}
        )
        self.assertEqual(table([row]).splitlines()[2], "| A | kB | 4 | 8 | - | 0.50 | 8 kB | - | - | - | - |")

    def test_shape(self) -> None:
        """All lines have the same number of cells."""
        self.assertEqual({line.count("|") for line in table([Row(make_load())]).splitlines()}, {12})
