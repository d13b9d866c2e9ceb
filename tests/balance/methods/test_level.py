"""Tests of pylb.balance.methods.level; test_least_conn.py has those of the order."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pylb.balance.methods.level import LeastLoaded
from pylb.balance.methods.turns import ServerSeat
from tests.balance.fakes import host, make_servers, ready


class ByTable(LeastLoaded):
    """Loads are what the test says; it counts how often it was asked."""

    def __init__(self, *loads: int) -> None:
        self.loads = dict(zip("abcdefgh", loads, strict=False))
        self.asked = 0
        servers = make_servers(*[1] * len(loads))
        super().__init__(servers)
        ready(self, servers)
        self.servers = {host(server): server for server in servers}

    def _load(self, seat: ServerSeat, now: float) -> int:
        self.asked += 1
        return self.loads[host(seat.server)]

    def take(self, count: int) -> str:
        return "".join(host(self.choose(None, (), 0.0)) for _ in range(count))

    def change(self, **loads: int) -> None:
        self.loads.update(loads)
        for letter in loads:
            self.load_changed(self.servers[letter])


class LevelTests(SynchronousTestCase):
    def test_least(self) -> None:
        """The smallest load wins, and those that share it take turns."""
        self.assertEqual(ByTable(2, 1, 3, 1).take(4), "bdbd")

    def test_changes(self) -> None:
        """A change counts at the next choice; the others are not asked for their loads again."""
        method = ByTable(2, 2, 3)
        before = method.take(2), method.asked
        method.change(a=4, c=1)
        self.assertEqual((before, method.take(2), method.asked), (("ab", 3), "cc", 5))

    def test_there_and_back(self) -> None:
        """Who changed and changed back is where it was, and keeps its turn."""
        method = ByTable(1, 1, 1)
        method.take(1)
        method.change(b=5)
        method.change(b=1)
        self.assertEqual(method.take(3), "bca")

    def test_removed(self) -> None:
        """Who has gone after a change is not asked for its load, and is in nobody's way."""
        method = ByTable(1, 2)
        method.change(a=0)
        method.remove(method.servers["a"])
        self.assertEqual(method.take(2), "bb")

    def test_weakened(self) -> None:
        """Who failed gains less while it is level with others, and regains nothing while it is not or is alone."""
        gains = []
        for loads in ((1, 1), (0, 1), (1, 0)):
            method = ByTable(*loads)
            seat = method._seat_of[method.servers["a"]]
            seat.weight = seat.gain = 6
            method.failed(method.servers["a"])
            method.take(2)
            method.remove(method.servers["a"])
            gains.append(seat.gain)
        self.assertEqual(gains, [2, 0, 0])

    def test_levels_are_forgotten(self) -> None:
        """Levels that nobody is on any more do not pile up."""
        method = ByTable(1, 2, 3)
        for load in range(1000):
            method.change(a=10 + load, c=10 + 2 * load)
            method.take(1)
        self.assertLessEqual(len(method._levels), 2 * 3 + 17)
        self.assertEqual(sorted(method._levels), sorted(method._queue))
