"""Tests of pylb.balance.methods.least_conn."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.lease import Lease
from pylb.balance.methods.interface import IWatchesLoad
from pylb.balance.methods.least_conn import LeastConn
from pylb.balance.pool import NoServerAvailable, Pool
from pylb.balance.server import Server
from pylb.model import Balance, PoolSpec
from tests.balance.fakes import LETTERS, host, make_server, make_servers
from tests.balance.nginx import NginxLeastConn, Peer

WEIGHTS = st.lists(st.integers(1, 7), min_size=1, max_size=8)
STEPS = st.lists(st.tuples(st.sampled_from(("toggle", "take", "take", "retry", "free", "free")), st.integers(0, 7)))


class Desk:
    """A LeastConn over servers a, b, c ..., all of them usable at first, with the leases that they have."""

    def __init__(self, *weights: int) -> None:
        self.servers = {host(server): server for server in make_servers(*weights)}
        self.method = LeastConn(list(self.servers.values()))
        for server in self.servers.values():
            self.method.add(server)

    def take(self, count: int, tried: str = "") -> str:
        """Who gets the next `count` leases, which are kept."""
        return "".join(self._take_one([self.servers[letter] for letter in tried]) for _ in range(count))

    def _take_one(self, tried: list[Server]) -> str:
        server = self.method.choose(None, tried, 0.0)
        server.active += 1
        self.method.load_changed(server)
        return host(server)

    def free(self, letters: str, usable: bool = True) -> None:
        for letter in letters:
            self.servers[letter].active -= 1
            if usable:
                self.method.load_changed(self.servers[letter])

    def serve(self, count: int) -> str:
        """Who serves `count` requests, one after the other."""
        served = ""
        for _ in range(count):
            served += self.take(1)
            self.free(served[-1])
        return served

    def kept(self) -> int:
        """Items in all the heaps."""
        groups = [group for level in self.method._levels.values() for group in level.groups.values()]
        return len(self.method._queue) + sum(len(group.heap) for group in groups)


class OrderTests(SynchronousTestCase):
    """The order is nginx's."""

    def test_interface(self) -> None:
        """LeastConn is a method that watches the load, and says so."""
        self.assertTrue(verifyClass(IWatchesLoad, LeastConn))

    def test_level(self) -> None:
        """While nobody is busy it is round robin by weight."""
        self.assertEqual(Desk(5, 1, 1).serve(14), "aabacaa" * 2)

    def test_fewest(self) -> None:
        """Who has fewer leases than the others gets the next."""
        desk = Desk(1, 1, 1)
        desk.take(6)
        desk.free("bb")
        self.assertEqual(desk.take(2), "bb")

    def test_for_its_weight(self) -> None:
        """Leases are shared by weight."""
        self.assertEqual(Counter(Desk(3, 1, 2).take(60)), {"a": 30, "b": 10, "c": 20})

    def test_exactly(self) -> None:
        """Loads are compared exactly: one lease more or less in 2**53 counts."""
        desk = Desk(2**27 + 1, 2**27)
        for letter, active in (("a", 2**27), ("b", 2**27 - 1)):
            desk.servers[letter].active = active
            desk.method.load_changed(desk.servers[letter])
        self.assertEqual(desk.take(1), "b")

    def test_ties_across_weights(self) -> None:
        """Servers of different weights are level when their loads are equal, not when their leases are."""
        self.assertEqual(Desk(1, 2).take(6), "bababb")

    def test_who_is_not_level_gains_nothing(self) -> None:
        """The busy one is owed nothing for the turns that passed."""
        desk = Desk(1, 1, 1)
        before = desk.take(1)
        during = desk.serve(20)
        desk.free("a")
        self.assertEqual((before, during, desk.serve(3)), ("a", "bc" * 10, "bca"))

    def test_returning_busy(self) -> None:
        """Who returns counts with the leases that it has now."""
        desk = Desk(1, 1)
        desk.take(4)
        desk.method.remove(desk.servers["a"])
        desk.free("a", usable=False)
        desk.method.add(desk.servers["a"])
        self.assertEqual(desk.take(1), "a")


class TriedTests(SynchronousTestCase):
    def test_left_out(self) -> None:
        """A retry leaves out the servers that were tried, however idle they are."""
        self.assertEqual(Desk(1, 1, 1).take(4, tried="a"), "bccb")

    def test_of_the_other_tier(self) -> None:
        """The server that was tried may be none of this method's."""
        desk = Desk(1, 1)
        desk.servers["x"] = make_server("x")
        self.assertEqual(desk.take(2, tried="x"), "ab")


class OracleTests(SynchronousTestCase):
    @given(WEIGHTS, STEPS)
    @settings(deadline=None, max_examples=300)
    def test_nginx(self, weights: list[int], steps: list[tuple[str, int]]) -> None:
        """Whoever comes, goes, is busy and is left out, the order is the one of nginx's loop over all servers."""
        desk = Desk(*weights)
        nginx = NginxLeastConn(list(desk.servers.values()))
        expected, chosen = "", ""
        for what, which in steps:
            peer = nginx.primaries[which % len(weights)]
            if what == "toggle":
                (desk.method.add if peer.down else desk.method.remove)(desk.servers[peer.name])
                peer.down = not peer.down
            elif what == "free":
                if peer.conns:
                    nginx.free(peer)
                    desk.free(peer.name, usable=not peer.down)
            elif picked := nginx.get(tried := peer.name if what == "retry" else "", 0.0):
                expected += picked.name
                chosen += desk.take(1, tried)
        self.assertEqual(chosen, expected)

    @given(
        st.lists(
            st.fixed_dictionaries({"weight": st.integers(1, 4), "max_conns": st.integers(0, 3)}), min_size=2, max_size=6
        ),
        st.lists(st.tuples(st.sampled_from(("take", "take", "retry", "free")), st.integers(0, 20)), max_size=80),
    )
    @settings(deadline=None, max_examples=200)
    def test_in_a_pool(self, asked: list[dict[str, Any]], steps: list[tuple[str, int]]) -> None:
        """The pool tells the method of all that it has to know: the order is nginx's, with full servers and retries."""
        servers = [make_server(letter, **each) for letter, each in zip(LETTERS, asked, strict=False)]
        spec = PoolSpec(name="web", servers=(), balance=Balance(method="least_conn"))
        pool, nginx = Pool(spec, servers, lambda: 0.0), NginxLeastConn(servers)
        held: list[tuple[Lease, Peer]] = []
        for what, which in steps:
            if what == "free":
                if held:
                    lease, peer = held.pop(which % len(held))
                    lease.release()
                    nginx.free(peer)
                continue
            after = held[which % len(held)][0] if what == "retry" and held else None
            tried = [] if after is None else [host(server) for server in (*after.tried, after.server)]
            if (picked := nginx.get(tried, 0.0)) is None:
                self.assertRaises(NoServerAvailable, pool.acquire, None, after)
                continue
            held.append((pool.acquire(None, after), picked))
            self.assertEqual(host(held[-1][0].server), picked.name)


class BoundTests(SynchronousTestCase):
    """What is kept grows with the servers, never with what happened to them."""

    def test_serving(self) -> None:
        """Requests that came and went leave nothing behind."""
        desk = Desk(1, 1, 2, 2)
        desk.serve(1000)
        self.assertLessEqual(desk.kept(), 80)

    def test_a_rush(self) -> None:
        """Nor does a rush of them, while one server stays idle and one stays busy."""
        desk = Desk(1, 1, 1)
        desk.method.remove(desk.servers["c"])
        taken = desk.take(2000)
        desk.method.add(desk.servers["c"])
        desk.free(taken[:1900])
        desk.serve(100)
        self.assertLessEqual(desk.kept(), 80)

    def test_flapping(self) -> None:
        """Nor a server that comes and goes and is never the next."""
        desk = Desk(1, 1, 1, 1)
        for _ in range(1000):
            desk.method.remove(desk.servers["c"])
            desk.method.add(desk.servers["c"])
        self.assertLessEqual(desk.kept(), 80)

    def test_retries(self) -> None:
        """Nor retries."""
        desk = Desk(1, 1, 1, 1)
        for _ in range(1000):
            desk.free(desk.take(1, tried="ab"))
        self.assertLessEqual(desk.kept(), 80)
