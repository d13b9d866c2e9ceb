"""Tests of pylb.balance.methods.places; what methods make of it is in test_consistent.py."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.ketama import Ring
from pylb.balance.methods.maglev import Table
from pylb.balance.methods.places import LONG, Layout
from tests.balance.methods.fakes import Aside

SMALL, LARGE = [("a:80", LONG // 160 - 1)], [("a:80", LONG // 160 + 1)]


class LayoutTests(SynchronousTestCase):
    def test_where_it_is_made(self) -> None:
        """Small rings at once, large ones and every table elsewhere."""
        for kind, weights, waiting in ((Ring, SMALL, 0), (Ring, LARGE, 1), (Table, SMALL, 1)):
            Layout(kind, weights, aside := Aside())
            self.assertEqual(len(aside.works), waiting)

    def test_meanwhile(self) -> None:
        """The places of before, or none, serve until the new ones are there."""
        aside = Aside()
        before = Ring(SMALL)
        first, second = Layout(Ring, LARGE, aside), Layout(Ring, LARGE, aside, before)
        self.assertEqual((first.places, second.places), (None, before))
        aside.work()
        self.assertEqual([len(layout.places) for layout in (first, second)], [len(Ring(LARGE))] * 2)
