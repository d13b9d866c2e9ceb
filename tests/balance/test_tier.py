"""Tests of pylb.balance.tier: turns between the method and the servers that start slowly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods import Tools, at_once
from pylb.balance.server import Server
from pylb.balance.tier import Tier
from pylb.model import Balance
from tests.balance.fakes import host, make_server

TOOLS = Tools(random=Random(1), key=lambda request: b"", address=lambda request: b"", elsewhere=at_once)


def make_tier(servers: Sequence[Server], method: str = "round_robin") -> Tier:
    tier = Tier(servers, False, Balance(method=method), TOOLS)
    for server in servers:
        tier.refresh(server, 0.0)
    return tier


def shares(tier: Tier, now: float, count: int, tried: Sequence[Server] = ()) -> Counter[str]:
    chosen: Counter[str] = Counter()
    for _ in range(count):
        server = tier.choose(None, tried, now)
        tier.refresh_load(server)
        chosen[host(server)] += 1
    return chosen


class WarmingTests(SynchronousTestCase):
    """Servers a and b of one weight, and b begins at 0 to start slowly for 10 s."""

    def setUp(self) -> None:
        self.servers = [make_server("a"), make_server("b", slow_start=10.0)]
        self.tier = make_tier(self.servers)
        self.tier.warm_up(self.servers[1], 0.0)

    def test_straight_line(self) -> None:
        """At a tenth, a half and the whole of its time it has that part of its weight."""
        found = [shares(self.tier, now, 1100)["b"] for now in (1.0, 5.0, 10.0)]
        self.assertEqual(found, [100, 367, 550])

    def test_evenly(self) -> None:
        """Its turns are spread: at a half of its weight it is every third."""
        self.assertEqual("".join(host(self.tier.choose(None, (), 5.0)) for _ in range(9)), "abaabaaba")

    def test_never_forgotten(self) -> None:
        """In the first moment it has a hundredth of its weight."""
        self.assertEqual(shares(self.tier, 0.0, 1010), {"a": 1000, "b": 10})

    def test_over(self) -> None:
        """When its time is over the method has it, in the method's own order."""
        self.assertEqual("".join(host(self.tier.choose(None, (), 10.0)) for _ in range(4)), "abab")
        self.assertIsNone(self.servers[1].warming_since)

    def test_tried(self) -> None:
        """Whoever was tried is not chosen, whichever of the two it is."""
        first, second = self.servers
        self.assertEqual(shares(self.tier, 5.0, 9, [first]), {"b": 9})
        self.assertEqual(shares(self.tier, 5.0, 9, [second]), {"a": 9})

    def test_lost_while_warming(self) -> None:
        """One that is ejected while it warms up is not chosen, and the method goes on in its order."""
        self.servers[1].switch = "down"
        self.tier.refresh(self.servers[1], 1.0)
        self.assertEqual((shares(self.tier, 1.0, 5), self.tier.usable), ({"a": 5}, 1))

    def test_only_warming(self) -> None:
        """When all warm up they share by what they have, and somebody always serves."""
        first, second = make_server("a", slow_start=10.0), make_server("b", slow_start=20.0)
        tier = make_tier([first, second])
        for server in (first, second):
            tier.warm_up(server, 0.0)
        self.assertEqual(shares(tier, 5.0, 300), {"a": 200, "b": 100})

    def test_load_is_not_told(self) -> None:
        """A method that watches the load hears nothing of a server that it does not hold."""
        servers = [make_server("a"), make_server("b", slow_start=10.0)]
        tier = make_tier(servers, "least_conn")
        tier.warm_up(servers[1], 0.0)
        servers[1].active = 1
        tier.refresh_load(servers[1])
        self.assertEqual(shares(tier, 0.0, 3), {"a": 3})


class WarmingProperties(SynchronousTestCase):
    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=6),
        st.sampled_from(["round_robin", "least_conn", "random"]),
        st.lists(st.floats(0.0, 99.9), min_size=2, max_size=6),
    )
    def test_monotone(self, weights: list[int], method: str, moments: list[float]) -> None:
        """The share of a server that starts slowly never shrinks while its time passes, and never exceeds its weight's."""
        found = []
        for now in sorted(moments):
            servers = [make_server(f"{number}.example", weight) for number, weight in enumerate(weights)]
            slow = make_server("slow.example", 3, slow_start=100.0)
            tier = make_tier([*servers, slow], method)
            tier.warm_up(slow, 0.0)
            found.append(shares(tier, now, 300)[host(slow)])
            weight = 3 * max(0.01, now / 100)
            self.assertLess(abs(found[-1] - 300 * weight / (sum(weights) + weight)), 1)
        self.assertEqual(found, sorted(found))
