"""Tests of pylb.balance.methods.maglev; what it shares with ketama is in test_consistent.py."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.consistent import Consistent
from pylb.balance.methods.maglev import SLOTS, Table, _order
from tests.balance.fakes import host, make_servers, ready
from tests.balance.methods.fakes import tools

KEYS = [b"%d" % number for number in range(20_000)]


def names(count: int, *weights: int) -> list[tuple[str, int]]:
    return [(f"10.0.0.{number}:80", weights[number % len(weights)] if weights else 1) for number in range(count)]


def homes(table: Table) -> list[str]:
    """Where the keys belong."""
    return [next(table.owners(key)) for key in KEYS]


class TableTests(SynchronousTestCase):
    def test_paper(self) -> None:
        """Whose turn it is takes the first slot of its order that is free: as in the paper, for equal weights."""
        weights = names(7)
        orders = [_order(name) for name, _ in weights]
        expected = [-1] * SLOTS
        for turn in range(SLOTS):
            owner = turn % 7
            expected[next(slot for slot in orders[owner] if expected[slot] < 0)] = owner
        self.assertEqual(list(Table(weights)._owners), expected)

    def test_order(self) -> None:
        """Each name has every slot once in its order, and no two names have the same order."""
        orders = [list(islice(_order(name), SLOTS)) for name in ("a:80", "b:80")]
        self.assertEqual([sorted(order) for order in orders], [list(range(SLOTS))] * 2)
        self.assertNotEqual(*[order[0] for order in orders])
        self.assertNotEqual(*[(order[1] - order[0]) % SLOTS for order in orders])

    def test_slots(self) -> None:
        """Slots are shared by weight, to one slot a unit of weight; nobody is left out, however light."""
        owned = Counter(Table(names(12, 1, 2, 3))._owners)
        for owner in range(12):
            self.assertApproximates(owned[owner] / (1 + owner % 3), SLOTS / 24, 1)
        self.assertEqual(Counter(Table([("a:80", 10**9), ("b:80", 1)])._owners)[1], 1)

    def test_shares(self) -> None:
        """Keys are shared by weight within a few percent."""
        shares = Counter(homes(Table(names(10, 1, 4))))
        for name, weight in names(10, 1, 4):
            self.assertApproximates(shares[name] / len(KEYS) * 25 / weight, 1, 0.1)

    def test_few_keys_move(self) -> None:
        """When a name leaves, its keys move, and of all others at most one in a hundred."""
        for count in (3, 10, 50, 200):
            weights = names(count, 1, 2)
            gone = count // 2
            before, after = homes(Table(weights)), homes(Table(weights[:gone] + weights[gone + 1 :]))
            pairs = list(zip(before, after, strict=True))
            self.assertNotIn(weights[gone][0], after)
            others = sum(was != now for was, now in pairs if was != weights[gone][0])
            self.assertLess(others / len(KEYS), 0.01)

    def test_rehashed(self) -> None:
        """A key has one slot after the other, and two keys of one slot part ways."""
        table = Table(names(50))
        walks = [tuple(islice(table.owners(key), 20)) for key in KEYS[:1000]]
        self.assertGreater(min(len(set(walk)) for walk in walks), 8)
        self.assertEqual(len(set(walks)), 1000)

    def test_points(self) -> None:
        """All slots, whoever has them."""
        self.assertEqual((Table.points([]), len(Table([])._owners)), (65537, 65537))


class MaglevTests(SynchronousTestCase):
    """The table in the method."""

    def test_only_its_own_keys(self) -> None:
        """Keys of a server that is not usable move, to all others, and come back with it; no others do."""
        servers = make_servers(1, 1, 1, 1)
        method = ready(Consistent(servers, Table, tools()), servers)
        before = [host(method.choose(key, (), 0.0)) for key in range(2000)]
        method.remove(servers[1])
        away = [host(method.choose(key, (), 0.0)) for key in range(2000)]
        method.add(servers[1])
        back = [host(method.choose(key, (), 0.0)) for key in range(2000)]
        self.assertEqual(before, back)
        self.assertEqual([(was, now) for was, now in zip(before, away, strict=True) if was != now and was != "b"], [])
        went = Counter(now for was, now in zip(before, away, strict=True) if was == "b")
        self.assertEqual(set(went), {"a", "c", "d"})
        self.assertLess(max(went.values()), 1.4 * min(went.values()))

    def test_nobody_is_near(self) -> None:
        """Where the hashes of a key find no usable server, round robin does."""
        servers = make_servers(10**9, 1, 1)
        method = ready(Consistent(servers, Table, tools()), servers[1:])
        self.assertEqual({host(method.choose(key, (), 0.0)) for key in range(20)}, {"b", "c"})
