"""Tests of pylb.balance.methods.consistent, with ketama's ring."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.interface import IBalancingMethod
from pylb.balance.methods.ketama import Ring
from pylb.balance.methods.maglev import Table
from pylb.balance.methods.round_robin import RoundRobin
from pylb.balance.server import Server
from pylb.model import InetAddress, ServerSpec
from tests.balance.fakes import host, make_server, make_servers, ready, server_spec
from tests.balance.methods.fakes import Aside, tools

KEYS = range(2000)


def make(servers: list[Server]) -> Consistent:
    """A Consistent of which a request is the key; its servers are all usable."""
    method: Consistent = ready(Consistent(servers, Ring, tools()), servers)
    return method


def named(*addresses: str) -> list[Server]:
    """The servers of one name, two lines of it, one behind the other."""
    spec = ServerSpec(address=InetAddress("app.example.com", 80))
    return [Server(spec, InetAddress(address, 80)) for address in addresses]


class ConsistentTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """Consistent is a method, and says so."""
        self.assertTrue(verifyClass(IBalancingMethod, Consistent))

    def test_no_key(self) -> None:
        """Requests without a key take turns."""
        method = make(make_servers(5, 1, 1))
        self.assertEqual("".join(host(method.choose(None, (), 0.0)) for _ in range(7)), "aabacaa")

    def test_shares(self) -> None:
        """Shares are weights, as far as 160 points a unit of weight make them."""
        method = make(make_servers(1, 2, 5))
        shares = Counter(host(method.choose(key, (), 0.0)) for key in range(8000))
        for letter, weight in (("a", 1), ("b", 2), ("c", 5)):
            self.assertApproximates(shares[letter] / 1000 / weight, 1, 0.25)

    def test_retry(self) -> None:
        """A retry goes on along the ring, where the key would be if the tried server had gone."""
        servers = make_servers(1, 1, 1)
        method = make(servers)
        first = method.choose("key", (), 0.0)
        second = method.choose("key", [first], 0.0)
        method.remove(first)
        self.assertIs(method.choose("key", (), 0.0), second)
        self.assertIsNot(first, second)

    def test_every_server_is_tried(self) -> None:
        """Also where the ring is left after twenty points, at last by round robin."""
        servers = make_servers(300, 1, 1, 1)
        method = make(servers)
        for key in range(50):
            tried: list[Server] = []
            for _ in servers:
                tried.append(method.choose(key, tried, 0.0))
            self.assertEqual(set(tried), set(servers))

    @given(
        st.lists(st.integers(1, 3), min_size=2, max_size=8),
        st.integers(0, 7),
        st.booleans(),
        st.lists(st.text(min_size=1, max_size=8), min_size=50, max_size=50, unique=True),
    )
    @settings(deadline=None, max_examples=50)
    def test_few_keys_move(self, weights: list[int], which: int, gone: bool, keys: list[str]) -> None:
        """When a server is away, or gone for good, its own keys move and no others."""
        servers = make_servers(*weights)
        method = make(servers)
        leaver = servers[which % len(servers)]
        before = [method.choose(key, (), 0.0) for key in keys]
        if gone:
            method = make([server for server in servers if server is not leaver])
        else:
            method.remove(leaver)
        after = [method.choose(key, (), 0.0) for key in keys]
        self.assertNotIn(leaver, after)
        stayed = [(was, now) for was, now in zip(before, after, strict=True) if was is not leaver and was is not now]
        self.assertEqual(stayed, [])

    def test_at_most_its_share_moves(self) -> None:
        """Of K keys on n servers about K/n move when one comes."""
        servers = [make_server(f"10.0.0.{number}") for number in range(20)]
        before, after = make(servers[:-1]), make(servers)
        moved = sum(before.choose(key, (), 0.0) is not after.choose(key, (), 0.0) for key in KEYS)
        self.assertTrue(0 < moved < 1.5 * len(KEYS) / len(servers), moved)


class NameTests(SynchronousTestCase):
    """The addresses of one name are one place on the ring."""

    def setUp(self) -> None:
        self.several = named("10.0.0.1", "10.0.0.2", "10.0.0.3")
        self.other = Server(server_spec("other"))
        self.method = make([*self.several, self.other])

    def key(self, name: str) -> int:
        """A key that belongs to the servers of `name`."""
        return next(key for key in KEYS if str(self.method.choose(key, (), 0.0).spec.address) == name)

    def test_turns(self) -> None:
        """They take turns at a key."""
        key = self.key("app.example.com:80")
        chosen = Counter(self.method.choose(key, (), 0.0) for _ in range(9))
        self.assertEqual(chosen, dict.fromkeys(self.several, 3))

    def test_found_anew(self) -> None:
        """The keys of the name stay with it when its addresses change."""
        later = make([*named("10.0.0.9"), self.other])
        self.assertEqual(
            [later.choose(key, (), 0.0) is self.other for key in KEYS],
            [self.method.choose(key, (), 0.0) is self.other for key in KEYS],
        )

    def test_retry(self) -> None:
        """A retry goes to the name's other addresses, and then on along the ring."""
        key = self.key("app.example.com:80")
        tried: list[Server] = []
        for _ in range(4):
            tried.append(self.method.choose(key, tried, 0.0))
        self.assertEqual((set(tried[:3]), tried[3]), (set(self.several), self.other))

    def test_one_is_left(self) -> None:
        """Those that are not usable have no turns."""
        key = self.key("app.example.com:80")
        for server in self.several[1:]:
            self.method.remove(server)
        self.assertEqual({self.method.choose(key, (), 0.0) for _ in range(5)}, {self.several[0]})


class LayoutTests(SynchronousTestCase):
    """Large rings are made aside."""

    def setUp(self) -> None:
        self.aside = Aside()

    def make(self, *weights: int, before: Consistent | None = None) -> Consistent:
        servers = make_servers(*weights)
        method: Consistent = ready(Consistent(servers, Ring, tools(self.aside), before), servers)
        return method

    def chosen(self, method: Consistent) -> list[str]:
        return [host(method.choose(key, (), 0.0)) for key in KEYS]

    def test_small(self) -> None:
        """A small ring is made at once."""
        self.make(1, 2, 5)
        self.assertEqual(self.aside.works, [])

    def test_the_first(self) -> None:
        """Until the first ring is there it is a round robin's turn."""
        method = self.make(200, 200)
        self.assertEqual("".join(self.chosen(method)[:8]), "abababab")
        self.aside.work()
        self.assertEqual(self.chosen(method), self.chosen(make(make_servers(200, 200))))

    def test_the_one_before(self) -> None:
        """Until the next ring is there the one before serves; its servers that have left serve no more."""
        before = self.make(1, 1, 1)
        method = self.make(300, 300, before=before)
        stayed = [(was, now) for was, now in zip(self.chosen(before), self.chosen(method), strict=True) if was in "ab"]
        self.assertEqual([was for was, _ in stayed], [now for _, now in stayed])
        self.assertEqual(set(self.chosen(method)), {"a", "b"})
        old = self.chosen(method)
        self.aside.work()
        self.assertNotEqual(self.chosen(method), old)

    def test_the_one_before_that(self) -> None:
        """A ring that was handed on is handed on again."""
        first = self.make(1, 1, 1)
        third = self.make(400, 300, 300, before=self.make(300, 300, 300, before=first))
        self.assertEqual(self.chosen(third), self.chosen(first))

    def test_too_late(self) -> None:
        """A ring that is there when it is not wanted any more changes nothing."""
        before = self.make(300, 300, 300)
        method = self.make(1, 2, 3, before=before)
        chosen = self.chosen(method)
        self.aside.work()
        self.assertEqual(self.chosen(method), chosen)

    def test_the_same(self) -> None:
        """Names and weights that are the same have one ring, also while it is being made."""
        before = self.make(300, 300)
        method = self.make(300, 300, before=before)
        self.assertEqual(len(self.aside.works), 1)
        self.aside.work()
        self.assertEqual(self.chosen(method), self.chosen(self.make(300, 300, before=before)))
        self.assertEqual(len(self.aside.works), 0)

    def test_another_kind(self) -> None:
        """maglev in the place of hash gets a table of its own."""
        before = self.make(1, 1, 1)
        servers = make_servers(1, 1, 1)
        method = ready(Consistent(servers, Table, tools(self.aside), before), servers)
        self.assertEqual(self.chosen(method), self.chosen(before))
        self.aside.work()
        self.assertEqual(self.chosen(method), self.chosen(ready(Consistent(servers, Table, tools()), servers)))

    def test_another_method(self) -> None:
        """What was no consistent method has nothing to hand on."""
        servers = make_servers(300, 300)
        method = ready(Consistent(servers, Ring, tools(self.aside), RoundRobin(servers)), servers)
        self.assertEqual("".join(self.chosen(method)[:4]), "abab")
