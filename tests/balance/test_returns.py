"""Tests of pylb.balance.returns."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.returns import Returns
from tests.balance.fakes import host, make_server


class ReturnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.returns = Returns()
        self.a, self.b = make_server("a"), make_server("b")

    def due(self, now: float) -> str:
        return "".join(host(server) for server in self.returns.due(now))

    def test_nobody(self) -> None:
        """Nobody is waited for."""
        self.assertEqual((self.returns.next, self.due(1e9)), (inf, ""))

    def test_in_order(self) -> None:
        """They come in the order of their moments, each once, when these have passed."""
        self.returns.expect(self.b, 20.0)
        self.returns.expect(self.a, 10.0)
        self.assertEqual([self.due(now) for now in (10.0, 10.5, 20.5, 30.0)], ["", "a", "b", ""])

    def test_next(self) -> None:
        """It is known when the first one comes."""
        self.returns.expect(self.b, 20.0)
        self.returns.expect(self.a, 10.0)
        before = self.returns.next
        self.due(15.0)
        self.assertEqual((before, self.returns.next), (10.0, 20.0))

    def test_earlier(self) -> None:
        """Who may be tried earlier comes earlier, and only then."""
        self.returns.expect(self.a, 20.0)
        self.returns.expect(self.a, 10.0)
        self.assertEqual([self.due(now) for now in (10.5, 20.5)], ["a", ""])

    def test_later(self) -> None:
        """Who must wait longer comes at the moment that was named first, is expected anew, and kept once."""
        self.returns.expect(self.a, 10.0)
        for moment in (20.0, 30.0):
            self.returns.expect(self.a, moment)
        kept = len(self.returns)
        first = self.due(10.5)
        self.returns.expect(self.a, 30.0)
        self.assertEqual((kept, first, self.due(20.5), self.due(30.5)), (1, "a", "", "a"))

    def test_expected_anew_while_they_come(self) -> None:
        """Who is expected anew while those who are due are looked at comes later."""
        self.returns.expect(self.a, 10.0)
        self.returns.expect(self.b, 11.0)
        seen = []
        for server in self.returns.due(15.0):
            seen.append(host(server))
            self.returns.expect(server, 20.0)
        self.assertEqual((seen, self.due(20.5)), (["a", "b"], "ab"))
