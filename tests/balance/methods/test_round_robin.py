"""Tests of pylb.balance.methods.round_robin."""

from __future__ import annotations

from collections import Counter
from itertools import cycle, islice
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.methods.round_robin import RoundRobin
from tests.balance.fakes import LETTERS, host, make_server, make_servers
from tests.balance.nginx import Nginx

WEIGHTS = st.lists(st.integers(1, 7), min_size=1, max_size=8)


class Round:
    """A RoundRobin over servers a, b, c ..., all of them usable at first."""

    def __init__(self, *weights: int) -> None:
        self.servers = {host(server): server for server in make_servers(*weights)}
        self.method = RoundRobin(list(self.servers.values()))
        for server in self.servers.values():
            self.method.add(server)

    def take(self, count: int, tried: str = "") -> str:
        left_out = [self.servers[letter] for letter in tried]
        return "".join(host(self.method.choose(None, left_out, 0.0)) for _ in range(count))

    def remove(self, letter: str) -> None:
        self.method.remove(self.servers[letter])

    def add(self, letter: str) -> None:
        self.method.add(self.servers[letter])


class OrderTests(SynchronousTestCase):
    """The order is nginx's."""

    def test_interface(self) -> None:
        """RoundRobin is a method, and says so."""
        self.assertTrue(verifyClass(IBalancingMethod, RoundRobin))

    def test_five_one_one(self) -> None:
        """Weights 5, 1, 1: nginx's own example."""
        self.assertEqual(Round(5, 1, 1).take(14), "aabacaa" * 2)

    def test_five_one(self) -> None:
        """Weights 5 and 1: the one in the middle of its round."""
        self.assertEqual(Round(5, 1).take(12), "aaabaa" * 2)

    def test_one_two(self) -> None:
        """Weights 1 and 2: the heavier first and last."""
        self.assertEqual(Round(1, 2).take(6), "bab" * 2)

    def test_equal_weights(self) -> None:
        """Equal weights take turns in the operator's order."""
        self.assertEqual(Round(3, 3, 3).take(7), "abcabca")

    def test_ties_go_to_the_first(self) -> None:
        """Of two that are level the first in the operator's order wins, also across weights."""
        self.assertEqual(Round(2, 4, 2).take(4), "bacb")

    def test_alone(self) -> None:
        """One server serves always."""
        self.assertEqual(Round(7).take(3), "aaa")

    def test_not_usable_from_the_start(self) -> None:
        """A method is made before any of its servers is usable."""
        servers = make_servers(1, 1)
        method = RoundRobin(servers)
        method.add(servers[1])
        self.assertEqual([method.choose(None, (), 0.0) for _ in range(2)], [servers[1]] * 2)

    def test_one_goes(self) -> None:
        """The others share what the one that left would have had."""
        ring = Round(5, 1, 1)
        ring.remove("a")
        self.assertEqual(ring.take(4), "bcbc")

    def test_one_returns(self) -> None:
        """Who returns goes on where it stood: a had just been served and so waits for b and c."""
        ring = Round(1, 1, 1)
        before = ring.take(1)
        ring.remove("a")
        between = ring.take(2)
        ring.add("a")
        self.assertEqual((before, between, ring.take(4)), ("a", "bc", "bcab"))

    def test_absence_earns_nothing(self) -> None:
        """Who was away for long is not owed the turns that passed."""
        ring = Round(1, 1)
        ring.remove("a")
        ring.take(1000)
        ring.add("a")
        self.assertEqual(ring.take(4), "abab")


class TriedTests(SynchronousTestCase):
    """A retry leaves out the servers that were tried before."""

    def test_left_out(self) -> None:
        """Only the others are chosen."""
        self.assertEqual(Round(5, 1, 1).take(4, tried="a"), "bcbc")

    def test_gains_nothing(self) -> None:
        """As in nginx a server that was left out gains nothing in that round, and keeps its place."""
        ring = Round(1, 1, 1)
        self.assertEqual((ring.take(1), ring.take(1, tried="a"), ring.take(4)), ("a", "b", "cbca"))

    def test_not_usable_any_more(self) -> None:
        """The server that was tried may have been ejected meanwhile."""
        ring = Round(1, 1)
        ring.remove("a")
        chosen = ring.take(1, tried="a")
        ring.add("a")
        self.assertEqual((chosen, ring.take(2)), ("b", "ab"))

    def test_of_the_other_tier(self) -> None:
        """The server that was tried may be none of this method's: a primary, when a backup is looked for."""
        ring = Round(1, 1)
        ring.servers["x"] = make_server("x")
        self.assertEqual(ring.take(2, tried="x"), "ab")


class OracleTests(SynchronousTestCase):
    def test_nginx_for_long(self) -> None:
        """The same over many comings and goings, so that what is out of date is swept away time and again."""
        random = Random(1)
        for _ in range(10):
            ring = Round(*random.choices((1, 3), k=8))
            nginx = Nginx(list(ring.servers.values()))
            chosen, expected = "", ""
            for _ in range(200):
                for peer in random.choices(nginx.primaries, k=10):
                    (ring.add if peer.down else ring.remove)(peer.name)
                    peer.down = not peer.down
                if picked := nginx.get("", 0.0):
                    expected += picked.name
                    chosen += ring.take(1)
            self.assertEqual(chosen, expected)

    @given(WEIGHTS, st.lists(st.tuples(st.sampled_from(("toggle", "take", "retry")), st.integers(0, 7)), max_size=150))
    @settings(deadline=None, max_examples=200)
    def test_nginx(self, weights: list[int], steps: list[tuple[str, int]]) -> None:
        """Whoever comes and goes and is left out, the order is the one of nginx's loop over all servers."""
        ring = Round(*weights)
        nginx = Nginx(list(ring.servers.values()))
        expected, chosen = [], []
        for what, which in steps:
            peer = nginx.primaries[which % len(weights)]
            tried = peer.name if what == "retry" else ""
            if what == "toggle":
                (ring.add if peer.down else ring.remove)(peer.name)
                peer.down = not peer.down
            elif picked := nginx.get(tried, 0.0):
                expected.append(picked.name)
                chosen.append(ring.take(1, tried))
        self.assertEqual("".join(chosen), "".join(expected))


class FairnessTests(SynchronousTestCase):
    @given(WEIGHTS, st.integers(1, 4))
    @settings(deadline=None, max_examples=100)
    def test_shares(self, weights: list[int], cycles: int) -> None:
        """In every full cycle each server is chosen as often as its weight says."""
        ring = Round(*weights)
        seen = [Counter(ring.take(sum(weights))) for _ in range(cycles)]
        self.assertEqual(seen, [Counter(dict(zip(LETTERS, weights, strict=False)))] * cycles)

    @given(WEIGHTS)
    @settings(deadline=None, max_examples=100)
    def test_smooth(self, weights: list[int]) -> None:
        """No server is ever a whole turn ahead of its share, nor behind by as many turns as there are others."""
        ring, seen, total = Round(*weights), Counter[str](), sum(weights)
        for number in range(1, total + 1):
            seen[ring.take(1)] += 1
            for letter, weight in zip(LETTERS, weights, strict=False):
                behind = number * weight - total * seen[letter]
                self.assertTrue(-total < behind < total * max(1, len(weights) - 1))

    @given(
        st.lists(st.integers(1, 5), min_size=2, max_size=5),
        st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=20),
    )
    @settings(deadline=None, max_examples=100)
    def test_no_schedule_starves(self, weights: list[int], schedule: list[tuple[int, int]]) -> None:
        """However the others come and go, in step with the turns or not, a server that stays has its turn."""
        ring, away, waited = Round(*weights), set[str](), 0
        for which, turns in islice(cycle(schedule), 400):
            letter = LETTERS[1 + which % (len(weights) - 1)]
            (ring.add if letter in away else ring.remove)(letter)
            away ^= {letter}
            for chosen in ring.take(turns):
                waited = 0 if chosen == "a" else waited + 1
                self.assertLess(waited, 2 * len(weights) * sum(weights))


class BoundTests(SynchronousTestCase):
    """What is kept grows with the servers, never with what happened to them."""

    def kept(self, ring: Round) -> int:
        return sum(len(group.heap) for group in ring.method._turns.groups.values())

    def test_coming_and_going(self) -> None:
        """Servers that flap leave nothing behind."""
        ring = Round(1, 1, 1, 1)
        for _ in range(1000):
            ring.remove("a")
            ring.add("a")
        self.assertLessEqual(self.kept(ring), 2 * 4 + 17)

    def test_retries(self) -> None:
        """Nor do retries."""
        ring = Round(1, 1, 1, 1)
        ring.take(1000, tried="ab")
        self.assertLessEqual(self.kept(ring), 2 * 4 + 17)

    def test_sweeping_keeps_the_order(self) -> None:
        """What is swept away was out of date."""
        ring = Round(5, 1, 1)
        first = ring.take(3)
        for _ in range(100):
            for letter in "abc":
                ring.remove(letter)
                ring.add(letter)
        self.assertEqual(first + ring.take(11), "aabacaa" * 2)
