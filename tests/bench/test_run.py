from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from bench.measure import Sample
from bench.outcome import LoadFailed
from bench.program import Program
from bench.run import choose, measure
from tests.bench.test_table import make_load

PROXIES = [Program(name, [], Path(), {}) for name in ("nginx", "haproxy", "pylb")]


class ChooseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loads = [make_load(name=name) for name in "abc"]

    def test_all(self) -> None:
        """Without names all are measured."""
        self.assertEqual(choose(self.loads, ""), self.loads)

    def test_some(self) -> None:
        """With names those are, in the order of the table."""
        self.assertEqual([load.name for load in choose(self.loads, "c,a")], ["a", "c"])

    def test_unknown(self) -> None:
        """A name that is none is told, with those that are."""
        with self.assertRaises(click.BadParameter) as caught:
            choose(self.loads, "a,x")
        self.assertEqual(caught.exception.message, "no load is called x; there are a, b, c")


class MeasureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns: list[str] = []

    def fail_after(self, turns: int) -> Callable[[Program], Sample]:
        def take_turn(program: Program) -> Sample:
            if len(self.turns) == turns:
                raise LoadFailed("gone")
            self.turns.append(program.name)
            return Sample(len(self.turns))

        return take_turn

    def test_turns(self) -> None:
        """The proxies take turns, and each keeps what was measured of it."""
        row = measure(make_load(measure=self.fail_after(99)), PROXIES, 2)
        self.assertEqual(self.turns, ["nginx", "haproxy", "pylb"] * 2)
        self.assertEqual(row.samples["pylb"], [Sample(3), Sample(6)])

    def test_without_haproxy(self) -> None:
        """HAProxy is left out where it has no such thing."""
        measure(make_load(measure=self.fail_after(99), has_haproxy=False), PROXIES, 1)
        self.assertEqual(self.turns, ["nginx", "pylb"])

    def test_failure(self) -> None:
        """What fails ends the turns under this load, and is told; what came before stays."""
        row = measure(make_load(measure=self.fail_after(4)), PROXIES, 5)
        self.assertEqual(row.failures, ["haproxy failed: gone"])
        self.assertEqual(row.samples["nginx"], [Sample(1), Sample(4)])
