"""Tests of pylb.balance.methods.first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.first import First
from pylb.balance.methods.interface import IBalancingMethod
from tests.balance.fakes import Bench, host, make_server, make_servers, ready


class FirstTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """First is a method, and says so."""
        self.assertTrue(verifyClass(IBalancingMethod, First))

    def test_first(self) -> None:
        """As long as it is usable nobody else serves, whatever the weights."""
        method = ready(First(servers := make_servers(1, 5, 5)), reversed(servers))
        self.assertEqual("".join(host(method.choose(None, (), 0.0)) for _ in range(4)), "aaaa")

    def test_one_after_the_other(self) -> None:
        """Servers fill up in order, and whoever is free again comes before those behind it."""
        bench = Bench(*(make_server(letter, max_conns=2) for letter in "abc"), balance="first")
        leases = [bench.pool.acquire() for _ in range(5)]
        leases[0].release()
        leases += [bench.pool.acquire(), bench.pool.acquire()]
        self.assertEqual("".join(host(lease.server) for lease in leases), "aabbcac")

    @given(
        st.lists(st.tuples(st.sampled_from(("add", "remove")), st.integers(0, 7)), max_size=60),
        st.sets(st.integers(0, 7)),
    )
    @settings(deadline=None)
    def test_any(self, steps: list[tuple[str, int]], tried: set[int]) -> None:
        """Whatever comes and goes: the first that is usable and was not tried, and the heap holds each server once."""
        servers = make_servers(*[1] * 8)
        method, usable = First(servers), set()
        for what, which in steps:
            if (what == "add") is (which not in usable):
                getattr(method, what)(servers[which])
                usable ^= {which}
            left = sorted(usable - tried)
            if left:
                chosen = method.choose(None, [servers[number] for number in tried], 0.0)
                self.assertIs(chosen, servers[left[0]])
            if usable:
                self.assertIs(method.choose(None, (), 0.0), servers[min(usable)])
        self.assertEqual(len(method._heap), len(set(method._heap)))
