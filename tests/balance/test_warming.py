"""Tests of pylb.balance.warming: turns among those that start slowly, and what they get beside the method."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.server import Server
from pylb.balance.warming import LOOKS, Warming
from tests.balance.fakes import make_server


def begin(warming: Warming, server: Server, now: float = 0.0) -> Server:
    server.warming_since = now
    warming.join(server, now)
    return server


def slow(count: int, weight: int = 1) -> list[Server]:
    return [make_server(f"{number}.example", weight, slow_start=100.0) for number in range(count)]


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.warming = Warming()

    def begin(self, count: int, weight: int = 1) -> list[Server]:
        return [begin(self.warming, server) for server in slow(count, weight)]

    def take(self, count: int, weight: int) -> Counter[Server | None]:
        return Counter(self.warming.choose((), weight) for _ in range(count))

    def test_many_at_once(self) -> None:
        """However many begin in one moment, they come one by one among what the method has."""
        servers = self.begin(100)
        for _ in range(100):
            self.assertEqual(self.take(100, 99)[None], 99)
        self.assertEqual(self.take(10_000, 99), {None: 9900} | dict.fromkeys(servers, 1))

    def test_whole_ramp(self) -> None:
        """From its beginning to its end one gets the area under the line, but for the hundredth that a step lags."""
        (server,) = self.begin(1)
        chosen = 0
        for number in range(10_000):
            self.warming.step(number / 100)
            chosen += self.warming.choose((), 1) is server
        self.assertLess(abs(chosen - 10_000 * (1 - log(2))), 50)

    def test_looks(self) -> None:
        """When the moment of many comes, a few are looked at before each choice, and all in the end."""
        servers = self.begin(3 * LOOKS)
        found = [self.warming.step(100.0) for _ in range(4)]
        self.assertEqual([len(each) for each in found], [LOOKS, LOOKS, LOOKS, 0])
        self.assertEqual(([server for each in found for server in each], self.warming.size), (servers, 0))

    def test_out_too_long(self) -> None:
        """One whose time is over while it is out is let go, and nobody is told."""
        (server,) = self.begin(1)
        self.warming.leave(server)
        self.assertEqual((self.warming.step(100.0), server in self.warming), ([], False))

    def test_keeps_what_it_owes(self) -> None:
        """Who leaves and comes back after each choice gains and loses nothing by it."""
        one, two, three = self.begin(3)
        chosen: Counter[Server | None] = Counter()
        for _ in range(90):
            chosen[self.warming.choose((), 0)] += 1
            self.warming.leave(two)
            self.warming.join(two, 0.0)
        self.assertEqual(chosen, {one: 30, two: 30, three: 30})

    def test_tried_gains_nothing(self) -> None:
        """One that was tried before does not catch up afterwards."""
        one, other = self.begin(2)
        for _ in range(10):
            self.assertIs(self.warming.choose((one,), 0), other)
        self.assertEqual(self.take(10, 0), {one: 5, other: 5})

    def test_grows_at_once(self) -> None:
        """One that waits with little weight does not wait so long when it has more."""
        one, other = slow(2)
        begin(self.warming, one, -40.0)
        begin(self.warming, other)
        self.warming.step(0.0)
        self.assertEqual(self.take(10, 0), {one: 10})
        self.warming.step(50.0)
        self.assertEqual(self.take(2, 0), {one: 1, other: 1})

    def test_flapping(self) -> None:
        """A thousand times in and out leave a few items."""
        (server,) = self.begin(1)
        for _ in range(1000):
            self.warming.leave(server)
            self.warming.join(server, 0.0)
        self.assertEqual((len(self.warming._steps), len(self.warming._queue) < 20), (1, True))


class WarmingProperties(SynchronousTestCase):
    @given(
        st.lists(st.tuples(st.integers(1, 9), st.floats(0.0, 99.0)), min_size=1, max_size=8),
        st.integers(1, 30),
        st.integers(1, 500),
    )
    def test_shares(self, kinds: list[tuple[int, float]], weight: int, count: int) -> None:
        """All together have their part to within one request, and any two have theirs to within one turn of each."""
        warming, parts = Warming(), {}
        for number, (each, passed) in enumerate(kinds):
            server = make_server(f"{number}.example", each, slow_start=100.0)
            server.warming_since = 0.0 - passed
            warming.join(server, 0.0)
            parts[server] = each * max(0.01, passed / 100)
        chosen = Counter(warming.choose((), weight) for _ in range(count))
        total = sum(parts.values())
        self.assertLess(abs(count - chosen[None] - count * total / (total + weight)), 1)
        for one, other in combinations(parts, 2):
            apart = chosen[one] / parts[one] - chosen[other] / parts[other]
            self.assertLess(abs(apart), 1 / parts[one] + 1 / parts[other])


class StormTests(SynchronousTestCase):
    def test_storm(self) -> None:
        """Whatever comes, goes and fails: who is in is known, counts, and is chosen if the method has nobody."""
        for seed in range(40):
            random, warming, now = Random(seed), Warming(), 0.0
            servers = slow(12, 1 + seed % 3)
            inside: set[Server] = set()
            for _ in range(400):
                server, what = random.choice(servers), random.random()
                if what < 0.3:
                    now += random.choice((0.0, 0.1, 1.0, 20.0))
                    inside.difference_update(warming.step(now))
                elif what < 0.5 and server in inside:
                    warming.leave(server)
                    inside.remove(server)
                elif what < 0.7 and server not in inside:
                    begin(warming, server, now - random.choice((0.0, 5.0, 99.0)))
                    inside.add(server)
                elif what < 0.75 and server not in inside:
                    warming.forget(server)
                tried = random.sample(servers, random.randrange(3))
                chosen = warming.choose(tried, random.choice((0, 0, 3)))
                self.assertIn(chosen, inside.difference(tried) | {None})
                self.assertEqual(warming.choose(tried, 0) is None, inside.issubset(tried))
                self.assertEqual(warming.size, len(inside))
                self.assertAlmostEqual(warming._weight, sum(warming._places[server].weight for server in inside))
                self.assertLessEqual(len(warming._queue), 2 * len(inside) + 18)
