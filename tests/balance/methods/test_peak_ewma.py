"""Tests of pylb.balance.methods.peak_ewma."""

from __future__ import annotations

from collections import Counter
from math import exp
from random import Random
from unittest.mock import ANY

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.interface import IWatchesFailures, IWatchesTime
from pylb.balance.methods.peak_ewma import TAU, PeakEwma
from pylb.balance.server import Server
from pylb.model import Balance
from tests.balance.fakes import LETTERS, host, make_servers, ready

BALANCE = Balance(method="peak_ewma", metric="connect")


class Desk:
    """A PeakEwma over servers a, b, c ... that need as long as they are told."""

    def __init__(self, *weights: int) -> None:
        self.servers = make_servers(*weights)
        self.method: PeakEwma = ready(PeakEwma(self.servers, Random(1), BALANCE), self.servers)
        self.need = dict.fromkeys(LETTERS[: len(weights)], 0.1)
        self.now = 1000.0

    def measure(self, letter: str, *seconds: float) -> None:
        for each in seconds:
            self.method.measured(self.servers[LETTERS.index(letter)], each, self.now)

    def estimate(self, letter: str, after: float = 0.0) -> float:
        return self.method._estimates[self.servers[LETTERS.index(letter)]].at_present(self.now + after)

    def choose(self) -> Server:
        return self.method.choose(None, (), self.now)

    def ask(self, count: int, every: float) -> Counter[str]:
        """Who serves `count` requests, one after the other."""
        asked = Counter[str]()
        for _ in range(count):
            letter = host(self.choose())
            self.measure(letter, self.need[letter])
            self.now += every
            asked[letter] += 1
        return asked

    def hold(self, count: int) -> Counter[str]:
        """Who gets `count` leases that stay."""
        asked = Counter[str]()
        for _ in range(count):
            server = self.choose()
            server.active += 1
            asked[host(server)] += 1
        return asked


class EstimateTests(SynchronousTestCase):
    def test_slower(self) -> None:
        """A slower sample is believed at once."""
        desk = Desk(1)
        desk.measure("a", 0.1, 0.7)
        self.assertEqual(desk.estimate("a"), 0.7)

    def test_quicker(self) -> None:
        """A quicker one bit by bit: after TAU seconds it makes up for all but 1/e."""
        desk = Desk(1)
        desk.measure("a", 1.0, 0.2)
        self.assertEqual(desk.estimate("a"), 1.0)
        desk.now += TAU
        desk.measure("a", 0.2)
        self.assertApproximates(desk.estimate("a"), 0.2 + 0.8 * exp(-1), 1e-9)

    def test_decays(self) -> None:
        """Without samples it decays."""
        desk = Desk(1)
        desk.measure("a", 1.0)
        self.assertApproximates(desk.estimate("a", after=2 * TAU), exp(-2), 1e-9)


class ChoiceTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """PeakEwma is a method that watches time and failures, and says so."""
        for interface in (IWatchesTime, IWatchesFailures):
            self.assertTrue(verifyClass(interface, PeakEwma))

    def test_quicker(self) -> None:
        """The quicker of two serves."""
        desk = Desk(1, 1)
        desk.measure("a", 0.2)
        desk.measure("b", 0.1)
        self.assertEqual({host(desk.choose()) for _ in range(20)}, {"b"})

    def test_load(self) -> None:
        """Leases count: who needs three times as long gets a third of them."""
        desk = Desk(1, 1)
        desk.measure("a", 0.3)
        desk.measure("b", 0.1)
        self.assertEqual(desk.hold(40), {"a": 10, "b": 30})

    def test_too_quick_to_tell(self) -> None:
        """Servers that need less than 5 ms are level, however little the better one needs."""
        desk = Desk(1, 1)
        desk.measure("a", 0.0001)
        desk.measure("b", 0.0049)
        asked = Counter(host(desk.choose()) for _ in range(300))
        self.assertGreater(min(asked.values()), 100)

    def test_for_its_weight(self) -> None:
        """Shares are weights where all else is equal: one of each weight, with leases that stay."""
        desk = Desk(1, 2, 5)
        for letter in "abc":
            desk.measure(letter, 0.1)
        shares = desk.hold(800)
        for letter, weight in zip("abc", (1, 2, 5), strict=True):
            self.assertApproximates(shares[letter], 100 * weight, 3)

    def test_equal(self) -> None:
        """Equals have equal shares, one request after the other."""
        shares = Desk(1, 1, 1, 1).ask(4000, every=0.01)
        for letter in "abcd":
            self.assertApproximates(shares[letter], 1000, 150)

    def test_kept(self) -> None:
        """When servers come and go what is known of the others stays known."""
        desk = Desk(1, 1, 1)
        desk.measure("a", 0.5)
        desk.measure("c", 0.5)
        after = PeakEwma(desk.servers[:2], Random(1), BALANCE, desk.method)
        self.assertEqual(after._estimates, {desk.servers[0]: ANY})


class NewTests(SynchronousTestCase):
    """A server without a sample is neither left out nor overrun."""

    def test_first_lease(self) -> None:
        """It is asked as soon as it has fewer leases."""
        desk = Desk(1, 1)
        desk.measure("b", 0.001)
        desk.servers[1].active = 1
        self.assertEqual(host(desk.choose()), "a")

    def test_no_flood(self) -> None:
        """However slow the others are, it gets no more than they have while its answer is awaited."""
        desk = Desk(1, 1, 1)
        desk.measure("a", 5.0)
        desk.measure("b", 5.0)
        self.assertLess(desk.hold(60)["c"], 25)


class ChanceTests(SynchronousTestCase):
    @given(
        st.lists(st.floats(0.001, 3.0), min_size=2, max_size=5), st.sampled_from((0.05, 0.5, 2.0)), st.integers(0, 99)
    )
    @settings(deadline=None, max_examples=30)
    def test_nobody_starves(self, needs: list[float], every: float, seed: int) -> None:
        """However slow a server was, once it is as quick as the others it has a fair share soon."""
        desk = Desk(*[1] * len(needs))
        desk.method._random = Random(seed).random
        desk.need.update(zip(LETTERS, needs, strict=False))
        desk.ask(100, every)
        desk.need.update(dict.fromkeys(desk.need, 0.01))
        desk.ask(int(20 * TAU / every), every)
        shares = desk.ask(1000, every)
        self.assertGreater(min(shares[letter] for letter in desk.need), 500 / len(needs))
